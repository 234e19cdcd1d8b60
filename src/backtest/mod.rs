//! What moving machines would have brought: a job trace replayed under policies, in a fixed model.
//!
//! The model is simple enough to be rebuilt elsewhere, so that its figures can be compared. A machine serves the queue of
//! the group whose label it carries; relabelling takes no time; running jobs stay to their end; each group's queue is
//! first in, first out (or backfilled); nothing is preempted and nothing fails. At one instant jobs end, then jobs are
//! submitted, then groups start what they can, then the policy has its tick. Policies see what a controller in a cluster
//! sees, and never how long a job will run.
//!
//! [`Contender::Demand`] drives [`crate::rebalance::decide`], the function that decides in production.

mod cube;
mod demand;
mod figures;
mod fleet;
pub mod history;
mod pool;
mod replay;
mod trace;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use figures::{Gap, GroupFigures, Measure, Metrics, PolicyFigures};
pub use replay::{Curve, Series};
pub use trace::{Job, Trace, TraceGroup};

use crate::rebalance::Rules;

/// A policy that a trace is replayed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// No machine ever moves: what groups have without a rebalancer.
    Static,
    /// The rule of the system that drover replaces, without any of drover's bounds: the reference.
    Cube,
    /// drover's own decision.
    Demand,
    /// Every machine serves every group: the bound that moving labels can hardly pass.
    Pool,
}

impl Contender {
    /// All of them, from the lower to the upper bound.
    pub const ALL: [Self; 4] = [Self::Static, Self::Cube, Self::Demand, Self::Pool];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Cube => "cube",
            Self::Demand => "demand",
            Self::Pool => "pool",
        }
    }

    /// Whether it ever moves a machine, so that it matters when its ticks fall.
    fn has_ticks(self) -> bool {
        matches!(self, Self::Cube | Self::Demand)
    }
}

/// How a trace is replayed. Times are in seconds from the begin of the trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Between two decisions.
    pub tick: u32,
    /// Replays of each policy, with ticks shifted evenly within one tick: where they fall changes every later job.
    pub phases: u32,
    /// The part of its first machines that each group keeps; rounded up, and never less than one machine.
    pub min_share: f64,
    /// When the replay ends. A job that has not started by then counts with the delay that it has.
    pub horizon: u32,
    /// Before which nothing is counted, because a trace begins with an empty cluster.
    pub warmup: u32,
    /// Every waiting job that fits may start, and not only the oldest of its group.
    pub backfill: bool,
    /// What `demand` decides by. How work is queued follows from `backfill`.
    pub rules: Rules,
}

impl Settings {
    /// The fewest machines that a group must keep that begins with this many.
    pub fn minimum(&self, nodes: u32) -> u32 {
        ((self.min_share * f64::from(nodes)).ceil() as u32).max(1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tick: 300,
            phases: 5,
            min_share: 0.25,
            horizon: 2_419_200,
            warmup: 172_800,
            backfill: false,
            rules: Rules::default(),
        }
    }
}

/// What the replays came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The figures of each policy, from the lower to the upper bound.
    pub policies: Vec<(Contender, PolicyFigures)>,
    /// How the first replay of each went on, for plots.
    pub series: Vec<(Contender, Series)>,
}

/// Replays a trace under policies, side by side. `done` is called after each replay, of which there are [`replays`].
pub fn run(trace: &Trace, settings: &Settings, policies: &[Contender], done: impl Fn() + Sync) -> Outcome {
    let asked: Vec<Contender> = Contender::ALL.into_iter().filter(|policy| policies.contains(policy)).collect();
    let runs: Vec<(Contender, u32)> =
        asked.iter().flat_map(|&policy| (0..phases_of(policy, settings)).map(move |phase| (policy, phase))).collect();
    // Long replays first would be best; the order of results does not depend on who ends first.
    let ended: Vec<_> = runs
        .into_par_iter()
        .rev()
        .with_max_len(1)
        .map(|(policy, phase)| {
            let ended = replay::replay(trace, policy, settings, phase);
            done();
            (policy, phase, ended)
        })
        .collect();
    let mut outcome = Outcome { policies: Vec::new(), series: Vec::new() };
    for policy in asked {
        let mut of_policy: Vec<_> = ended.iter().filter(|(other, ..)| *other == policy).collect();
        of_policy.sort_by_key(|(_, phase, _)| *phase);
        let tallies: Vec<_> = of_policy.iter().map(|(.., (tally, _))| tally).collect();
        outcome.policies.push((policy, PolicyFigures::of(trace, &tallies)));
        outcome.series.extend(of_policy.first().map(|(.., (_, series))| (policy, series.clone())));
    }
    outcome
}

/// How many replays a run makes.
pub fn replays(settings: &Settings, policies: &[Contender]) -> usize {
    let asked = Contender::ALL.into_iter().filter(|policy| policies.contains(policy));
    asked.map(|policy| phases_of(policy, settings) as usize).sum()
}

/// A policy without ticks does the same in every phase.
fn phases_of(policy: Contender, settings: &Settings) -> u32 {
    if policy.has_ticks() { settings.phases } else { 1 }
}
