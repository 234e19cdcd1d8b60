//! One replay of a trace under one policy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cube::Cube;
use super::demand::Demand;
use super::fleet::Fleet;
use super::pool;
use super::trace::Trace;
use super::{Contender, Settings};

/// A machine that is back where it came from within this many seconds has flapped.
const FLAP: i64 = 3600;
/// Points of a plot.
const POINTS: i64 = 360;

/// What is counted after the warm-up, in GPU-seconds and seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Each counted job's group and delay.
    pub(super) delays: Vec<(u32, i64)>,
    pub(super) pending: f64,
    pub(super) busy: f64,
    pub(super) violated: f64,
    pub(super) effectively_violated: f64,
    pub(super) moves: u64,
    pub(super) nonidle_moves: u64,
    pub(super) flaps: u64,
    /// The time that was counted.
    pub(super) span: f64,
}

/// How a replay went on, for plots.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// GPUs that waiting jobs ask for, over hours.
    pub queued: Curve,
    /// Machines of each group, over hours.
    pub nodes: Vec<Curve>,
    /// The delays of all counted jobs, in seconds, sorted.
    pub delays: Vec<i64>,
}

/// Points of a plot, from left to right.
pub type Curve = Vec<(f64, f64)>;

struct Replay<'t> {
    fleet: Fleet<'t>,
    policy: Policy,
    horizon: i64,
    warmup: i64,
    /// When running jobs end.
    ends: BinaryHeap<Reverse<(i64, u32)>>,
    /// The next job to be submitted.
    next: usize,
    /// Until when everything has been counted.
    counted: i64,
    tally: Tally,
    series: Series,
    sampled: i64,
}

enum Policy {
    Static,
    Cube(Cube),
    Demand(Box<Demand>),
    /// With the list of all machines.
    Pool(Vec<u32>),
}

/// Replays a trace. The phase shifts the ticks.
pub(super) fn replay(trace: &Trace, policy: Contender, settings: &Settings, phase: u32) -> (Tally, Series) {
    let fleet = Fleet::new(trace, settings);
    let policy = match policy {
        Contender::Static => Policy::Static,
        Contender::Cube => Policy::Cube(Cube::new(trace.jobs.len())),
        Contender::Demand => Policy::Demand(Box::new(Demand::new(&fleet, settings))),
        Contender::Pool => Policy::Pool((0..fleet.machines.len() as u32).collect()),
    };
    let tick = i64::from(settings.tick);
    let shift = tick * i64::from(phase) / i64::from(settings.phases.max(1));
    let mut replay = Replay {
        policy,
        horizon: settings.horizon.into(),
        warmup: settings.warmup.into(),
        ends: BinaryHeap::new(),
        next: 0,
        counted: 0,
        tally: Tally { span: f64::from(settings.horizon.saturating_sub(settings.warmup)), ..Tally::default() },
        series: Series { nodes: vec![Vec::new(); fleet.sides.len()], ..Series::default() },
        sampled: 0,
        fleet,
    };
    replay.run(shift + tick, tick);
    replay.end()
}

impl Replay<'_> {
    fn run(&mut self, first: i64, every: i64) {
        let mut tick = match self.policy {
            Policy::Static | Policy::Pool(_) => i64::MAX,
            Policy::Cube(_) | Policy::Demand(_) => first,
        };
        loop {
            let end = self.ends.peek().map_or(i64::MAX, |&Reverse((at, _))| at);
            let submission = self.fleet.trace.jobs.get(self.next).map_or(i64::MAX, |job| job.submit);
            let now = tick.min(end).min(submission);
            self.count(now.min(self.horizon));
            if now >= self.horizon {
                return;
            }
            self.happen(now);
            if now == tick {
                tick += every;
                self.decide(now);
            }
        }
    }

    /// Adds up what holds from the last instant to this one.
    fn count(&mut self, until: i64) {
        let (fleet, tally) = (&self.fleet, &mut self.tally);
        while self.sampled <= until {
            let hours = self.sampled as f64 / 3600.0;
            self.series.queued.push((hours, fleet.queued as f64));
            for (curve, side) in self.series.nodes.iter_mut().zip(&fleet.sides) {
                curve.push((hours, side.members.len() as f64));
            }
            self.sampled += (self.horizon / POINTS).max(1);
        }
        let from = self.counted.max(self.warmup);
        self.counted = until;
        if until <= from {
            return;
        }
        let seconds = (until - from) as f64;
        tally.pending += fleet.queued as f64 * seconds;
        tally.busy += fleet.busy as f64 * seconds;
        // In one pool there is nothing that a group could be short of.
        if matches!(self.policy, Policy::Pool(_)) {
            return;
        }
        let mut waiting = fleet.sides.iter().filter(|side| !side.queue.is_empty()).peekable();
        if waiting.peek().is_none() {
            return;
        }
        let (mut by_label, mut effective) = (false, false);
        for side in waiting {
            by_label |= (side.members.len() as u32) < side.least;
            effective |= side.capacity - side.foreign < side.least * side.size;
        }
        tally.violated += if by_label { seconds } else { 0.0 };
        tally.effectively_violated += if by_label || effective { seconds } else { 0.0 };
    }

    /// Ends and submits what is due, and starts what can start, until nothing more happens at this instant.
    fn happen(&mut self, now: i64) {
        let mut touched = Vec::new();
        loop {
            touched.clear();
            while let Some(&Reverse((at, job))) = self.ends.peek()
                && at <= now
            {
                self.ends.pop();
                self.fleet.finish(job, &mut touched);
            }
            while let Some(job) = self.fleet.trace.jobs.get(self.next)
                && job.submit <= now
            {
                touched.push(job.group);
                self.fleet.submit(self.next as u32);
                self.next += 1;
            }
            if touched.is_empty() {
                return;
            }
            touched.sort_unstable();
            touched.dedup();
            match &self.policy {
                Policy::Pool(all) => pool::dispatch(&mut self.fleet, all, now),
                _ => touched.iter().for_each(|&group| self.fleet.dispatch(group, now)),
            }
            self.started(now);
        }
    }

    /// Notes when the jobs that just started will end.
    fn started(&mut self, now: i64) {
        for job in self.fleet.fresh.drain(..) {
            self.ends.push(Reverse((now + self.fleet.trace.jobs[job as usize].duration, job)));
        }
    }

    /// The policy's turn.
    fn decide(&mut self, now: i64) {
        let moves = match &mut self.policy {
            Policy::Cube(cube) => cube.step(&self.fleet, now).into_iter().collect(),
            Policy::Demand(demand) => demand.step(&self.fleet, now),
            Policy::Static | Policy::Pool(_) => Vec::new(),
        };
        for (node, to) in moves {
            let machine = &self.fleet.machines[node as usize];
            if now >= self.warmup {
                self.tally.moves += 1;
                self.tally.nonidle_moves += u64::from(!machine.idle());
                self.tally.flaps += u64::from(machine.last.is_some_and(|(from, at)| from == to && now - at <= FLAP));
            }
            self.fleet.relabel(node, to, now);
            self.fleet.dispatch(to, now);
        }
        self.started(now);
    }

    fn end(mut self) -> (Tally, Series) {
        for (job, started) in self.fleet.trace.jobs.iter().zip(&self.fleet.started) {
            if (self.warmup..self.horizon).contains(&job.submit) {
                self.tally.delays.push((job.group, started.unwrap_or(self.horizon) - job.submit));
            }
        }
        self.series.delays = self.tally.delays.iter().map(|&(_, delay)| delay).collect();
        self.series.delays.sort_unstable();
        (self.tally, self.series)
    }
}
