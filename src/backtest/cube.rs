//! CUBE: the rule of the system that drover replaces, as the reference model has it, without any of drover's bounds.

use super::fleet::Fleet;

/// How long a job waits before that rule sees it, in seconds.
const PENDING: i64 = 300;
/// The difference in load from which that rule balances.
const THRESHOLD: f64 = 0.2;

/// The rule, and what it goes by among jobs that wait: the names of their pods, which are hashes.
pub(super) struct Cube {
    names: Vec<u32>,
}

impl Cube {
    pub(super) fn new(jobs: usize) -> Self {
        Self { names: (0..jobs).map(|job| crc32fast::hash(format!("job-{job}").as_bytes())).collect() }
    }

    /// The one move of a tick: a machine and its new group.
    pub(super) fn step(&self, fleet: &Fleet<'_>, now: i64) -> Option<(u32, u32)> {
        let load = |group: usize| {
            let side = &fleet.sides[group];
            let members = side.members.iter().map(|&at| &fleet.machines[at as usize]);
            let busy: u32 = members.map(|machine| machine.size - machine.free).sum();
            f64::from(busy) / f64::from(side.capacity)
        };
        let mut lowest: Option<(usize, f64)> = None;
        let mut highest: Option<(usize, f64)> = None;
        for group in (0..fleet.sides.len()).filter(|&group| fleet.sides[group].members.len() > 2) {
            let load = load(group);
            if load < lowest.map_or(1.0, |(_, lowest)| lowest) {
                lowest = Some((group, load));
            }
            if load > highest.map_or(0.0, |(_, highest)| highest) {
                highest = Some((group, load));
            }
        }
        let (from, low) = lowest?;
        let members = fleet.sides[from].members.iter().copied();
        let least = members.min_by_key(|&at| fleet.machines[at as usize].size - fleet.machines[at as usize].free)?;
        let others = (0..fleet.sides.len()).filter(|&group| group != from);
        let overdue = others
            .flat_map(|group| fleet.sides[group].queue.iter().map(move |&job| (job, group)))
            .filter(|&(job, _)| now - fleet.trace.jobs[job as usize].submit > PENDING);
        if let Some((_, to)) = overdue.min_by_key(|&(job, _)| self.names[job as usize]) {
            return Some((least, to as u32));
        }
        let (to, high) = highest?;
        (high - low > THRESHOLD && to != from).then_some((least, to as u32))
    }
}
