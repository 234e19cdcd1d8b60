//! The machines of a replay: which group has which, what runs where, and who waits.

use std::collections::VecDeque;

use super::Settings;
use super::trace::Trace;

/// A machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// The group whose label it carries.
    pub(super) group: u32,
    /// The group that it began with.
    pub(super) home: u32,
    /// Its GPUs.
    pub(super) size: u32,
    /// Those that no job holds.
    pub(super) free: u32,
    /// Jobs that run here, and the GPUs that each holds.
    pub(super) jobs: Vec<(u32, u32)>,
    /// The group that it came from last, and when.
    pub(super) last: Option<(u32, i64)>,
}

impl Machine {
    /// Whether no job runs here.
    pub(super) fn idle(&self) -> bool {
        self.free == self.size
    }
}

/// A group.
#[derive(Debug, Clone)]
pub(super) struct Side {
    /// Its machines, in the order in which they came.
    pub(super) members: Vec<u32>,
    /// Its waiting jobs, oldest first.
    pub(super) queue: VecDeque<u32>,
    /// GPUs of its machines that other groups' jobs hold.
    pub(super) foreign: u32,
    /// GPUs of its machines.
    pub(super) capacity: u32,
    /// GPUs of each machine that it began with.
    pub(super) size: u32,
    /// The fewest machines that it must keep.
    pub(super) least: u32,
}

/// Everything that changes while a trace is replayed.
#[derive(Debug, Clone)]
pub(super) struct Fleet<'t> {
    pub(super) trace: &'t Trace,
    pub(super) machines: Vec<Machine>,
    pub(super) sides: Vec<Side>,
    /// When each job started.
    pub(super) started: Vec<Option<i64>>,
    /// The machines of each running job.
    pub(super) places: Vec<Vec<u32>>,
    /// Jobs started since this was last emptied.
    pub(super) fresh: Vec<u32>,
    /// GPUs held by jobs.
    pub(super) busy: u64,
    /// GPUs that waiting jobs ask for.
    pub(super) queued: u64,
    /// Every waiting job that fits may start, not only the oldest of its group.
    pub(super) backfill: bool,
}

impl<'t> Fleet<'t> {
    /// The machines as the trace has them, idle.
    pub(super) fn new(trace: &'t Trace, settings: &Settings) -> Self {
        let mut machines = Vec::with_capacity(trace.nodes());
        let sides = (0..).zip(&trace.groups).map(|(index, group)| {
            let first = machines.len() as u32;
            let machine =
                Machine { group: index, home: index, size: group.size, free: group.size, jobs: Vec::new(), last: None };
            machines.extend(std::iter::repeat_n(machine, group.nodes as usize));
            Side {
                members: (first..first + group.nodes).collect(),
                queue: VecDeque::new(),
                foreign: 0,
                capacity: group.nodes * group.size,
                size: group.size,
                least: settings.minimum(group.nodes),
            }
        });
        let sides = sides.collect();
        let jobs = trace.jobs.len();
        Self {
            trace,
            machines,
            sides,
            started: vec![None; jobs],
            places: vec![Vec::new(); jobs],
            fresh: Vec::new(),
            busy: 0,
            queued: 0,
            backfill: settings.backfill,
        }
    }

    /// Puts a job at the end of its group's queue.
    pub(super) fn submit(&mut self, job: u32) {
        let known = &self.trace.jobs[job as usize];
        self.sides[known.group as usize].queue.push_back(job);
        self.queued += u64::from(known.gpus);
    }

    /// How many machines a job takes wholly; 0 where it shares one.
    pub(super) fn whole(&self, job: u32) -> usize {
        let job = &self.trace.jobs[job as usize];
        let size = self.sides[job.group as usize].size;
        if job.gpus > size { job.gpus.div_ceil(size) as usize } else { 0 }
    }

    /// The machines of a list that would take the job now; `only_used` leaves idle machines out.
    pub(super) fn fit(&self, job: u32, members: &[u32], only_used: bool) -> Option<Vec<u32>> {
        let (whole, gpus) = (self.whole(job), self.trace.jobs[job as usize].gpus);
        if whole == 0 {
            let fits = members.iter().filter(|&&at| {
                let machine = &self.machines[at as usize];
                machine.free >= gpus && !(only_used && machine.idle())
            });
            return fits.min_by_key(|&&at| self.machines[at as usize].free).map(|&at| vec![at]);
        }
        if only_used {
            return None;
        }
        let size = self.sides[self.trace.jobs[job as usize].group as usize].size;
        let idle = members.iter().copied().filter(|&at| {
            let machine = &self.machines[at as usize];
            machine.idle() && machine.size >= size
        });
        let found: Vec<u32> = idle.take(whole).collect();
        (found.len() == whole).then_some(found)
    }

    /// Starts a job on machines that it fits.
    pub(super) fn start(&mut self, job: u32, places: Vec<u32>, now: i64) {
        let known = self.trace.jobs[job as usize];
        let whole = self.whole(job) > 0;
        for &at in &places {
            let machine = &mut self.machines[at as usize];
            let held = if whole { machine.free } else { known.gpus };
            machine.free -= held;
            machine.jobs.push((job, held));
            self.busy += u64::from(held);
            if machine.group != known.group {
                self.sides[machine.group as usize].foreign += held;
            }
        }
        self.queued -= u64::from(known.gpus);
        self.started[job as usize] = Some(now);
        self.places[job as usize] = places;
        self.fresh.push(job);
    }

    /// Ends a job; `touched` learns the groups whose machines it leaves.
    pub(super) fn finish(&mut self, job: u32, touched: &mut Vec<u32>) {
        let owner = self.trace.jobs[job as usize].group;
        for at in std::mem::take(&mut self.places[job as usize]) {
            let machine = &mut self.machines[at as usize];
            let Some(index) = machine.jobs.iter().position(|&(other, _)| other == job) else { continue };
            let (_, held) = machine.jobs.remove(index);
            machine.free += held;
            self.busy -= u64::from(held);
            if machine.group != owner {
                self.sides[machine.group as usize].foreign -= held;
            }
            touched.push(machine.group);
        }
    }

    /// Gives a machine to another group. Its jobs stay.
    pub(super) fn relabel(&mut self, at: u32, to: u32, now: i64) {
        let machine = &mut self.machines[at as usize];
        let from = machine.group;
        let held = |group: u32| -> u32 {
            let others = machine.jobs.iter().filter(|&&(job, _)| self.trace.jobs[job as usize].group != group);
            others.map(|&(_, held)| held).sum()
        };
        let (before, after) = (held(from), held(to));
        machine.group = to;
        machine.last = Some((from, now));
        let size = machine.size;
        let side = &mut self.sides[from as usize];
        side.members.retain(|&member| member != at);
        side.foreign -= before;
        side.capacity -= size;
        let side = &mut self.sides[to as usize];
        side.members.push(at);
        side.foreign += after;
        side.capacity += size;
    }

    /// Starts what can start on a group's own machines.
    pub(super) fn dispatch(&mut self, group: u32, now: i64) {
        let mut index = 0;
        while let Some(&job) = self.sides[group as usize].queue.get(index) {
            let side = &self.sides[group as usize];
            match self.fit(job, &side.members, false) {
                Some(places) => {
                    self.sides[group as usize].queue.remove(index);
                    self.start(job, places, now);
                }
                None if self.backfill && side.members.iter().any(|&at| self.machines[at as usize].free > 0) => {
                    index += 1;
                }
                None => break,
            }
        }
    }
}
