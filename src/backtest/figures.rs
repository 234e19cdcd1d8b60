//! The figures of replays: each the mean and the deviation over the phases.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replay::Tally;
use super::trace::Trace;

/// A figure over the phases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Measure {
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation, of the phases themselves; 0 where the policy does not depend on when its ticks fall.
    pub deviation: f64,
}

/// What is measured of all jobs and machines, after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// Delay of jobs, from submission to start, in seconds: the mean.
    pub mean_s: Measure,
    /// The delay that half of the jobs do not exceed.
    pub p50_s: Measure,
    /// The delay that 95 % of the jobs do not exceed.
    pub p95_s: Measure,
    /// The delay that 99 % of the jobs do not exceed.
    pub p99_s: Measure,
    /// GPUs of waiting jobs times the hours that they wait.
    pub pending_gpu_h: Measure,
    /// Machines that change their group, a day.
    pub moves_per_day: Measure,
    /// Machines that go back to the group that they came from within an hour.
    pub flaps: Measure,
    /// Minutes in which some group with a queue has fewer machines than its minimum.
    pub violation_min: Measure,
    /// The same, or less than its minimum without what jobs of other groups hold on its machines.
    pub effective_violation_min: Measure,
    /// The part of the moves that is of machines on which jobs run; none where no machine moves.
    pub moves_nonidle_share: Option<Measure>,
    /// The part of all GPUs that jobs hold.
    pub utilisation: Measure,
}

/// The delays of one group's jobs, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupFigures {
    /// Jobs that are counted.
    pub jobs: usize,
    /// The mean.
    pub mean_s: Measure,
    /// The delay that half of the jobs do not exceed.
    pub p50_s: Measure,
    /// The delay that 95 % of the jobs do not exceed.
    pub p95_s: Measure,
    /// The delay that 99 % of the jobs do not exceed.
    pub p99_s: Measure,
}

/// What a policy came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyFigures {
    /// Replays that the figures are of.
    pub phases: usize,
    /// Of all jobs.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Of each group's jobs.
    pub groups: BTreeMap<String, GroupFigures>,
}

/// How much of the way from one bound to another a policy went: 1 is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// In pending GPU-hours; none where the bounds are equal.
    pub pending_gpu_h: Option<f64>,
    /// In the mean delay; none where the bounds are equal.
    pub mean_s: Option<f64>,
}

impl Gap {
    /// How much of the way from `worse` to `better` these figures went.
    pub fn closed(these: &Metrics, worse: &Metrics, better: &Metrics) -> Self {
        let part = |of: fn(&Metrics) -> Measure| {
            let (these, worse, better) = (of(these).mean, of(worse).mean, of(better).mean);
            (worse != better).then(|| (worse - these) / (worse - better))
        };
        Self { pending_gpu_h: part(|metrics| metrics.pending_gpu_h), mean_s: part(|metrics| metrics.mean_s) }
    }
}

impl Measure {
    /// The mean and deviation of values, of which there is at least one.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let number = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / number;
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (squares / number).sqrt() }
    }
}

impl PolicyFigures {
    /// The figures of a policy's replays.
    pub(super) fn of(trace: &Trace, tallies: &[&Tally]) -> Self {
        let delays: Vec<Delays> = tallies.iter().map(|tally| Delays::of(tally, None)).collect();
        let measure = |of: fn(&Tally) -> f64| Measure::of(tallies.iter().map(|&tally| of(tally)));
        let gpus = trace.gpus() as f64;
        let moved = tallies.iter().filter(|tally| tally.moves > 0);
        let nonidle = Measure::of(moved.clone().map(|tally| tally.nonidle_moves as f64 / tally.moves as f64));
        let metrics = Metrics {
            mean_s: Measure::of(delays.iter().map(Delays::mean)),
            p50_s: Measure::of(delays.iter().map(|delays| delays.percentile(0.5))),
            p95_s: Measure::of(delays.iter().map(|delays| delays.percentile(0.95))),
            p99_s: Measure::of(delays.iter().map(|delays| delays.percentile(0.99))),
            pending_gpu_h: measure(|tally| tally.pending / 3600.0),
            moves_per_day: measure(|tally| tally.moves as f64 * 86_400.0 / tally.span),
            flaps: measure(|tally| tally.flaps as f64),
            violation_min: measure(|tally| tally.violated / 60.0),
            effective_violation_min: measure(|tally| tally.effectively_violated / 60.0),
            moves_nonidle_share: (moved.count() > 0).then_some(nonidle),
            utilisation: Measure::of(tallies.iter().map(|tally| tally.busy / (gpus * tally.span))),
        };
        let groups = (0..).zip(&trace.groups).map(|(index, group)| {
            let delays: Vec<Delays> = tallies.iter().map(|tally| Delays::of(tally, Some(index))).collect();
            let percentile = |part: f64| Measure::of(delays.iter().map(|delays| delays.percentile(part)));
            let figures = GroupFigures {
                jobs: delays.first().map_or(0, |delays| delays.sorted.len()),
                mean_s: Measure::of(delays.iter().map(Delays::mean)),
                p50_s: percentile(0.5),
                p95_s: percentile(0.95),
                p99_s: percentile(0.99),
            };
            (group.name.clone(), figures)
        });
        Self { phases: tallies.len(), metrics, groups: groups.collect() }
    }
}

/// Delays of jobs, sorted.
struct Delays {
    sorted: Vec<i64>,
}

impl Delays {
    /// Those of a replay; only of one group's jobs where it is named.
    fn of(tally: &Tally, group: Option<u32>) -> Self {
        let delays = tally.delays.iter().filter(|(of, _)| group.is_none_or(|group| group == *of));
        let mut sorted: Vec<i64> = delays.map(|&(_, delay)| delay).collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    fn mean(&self) -> f64 {
        self.sorted.iter().sum::<i64>() as f64 / self.sorted.len().max(1) as f64
    }

    /// The least delay that this part of the jobs does not exceed.
    fn percentile(&self, part: f64) -> f64 {
        let rank = (part * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).map_or(0.0, |&delay| delay as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_delays_that_occurred() {
        let delays = Delays { sorted: (1..=200).collect() };
        assert_eq!((delays.percentile(0.5), delays.percentile(0.95), delays.percentile(0.99)), (100.0, 190.0, 198.0));
        assert_eq!(Delays { sorted: vec![7] }.percentile(0.5), 7.0);
        assert_eq!(Delays { sorted: vec![] }.percentile(0.99), 0.0);
    }

    #[test]
    fn a_measure_is_of_the_phases_themselves() {
        assert_eq!(Measure::of([1.0, 3.0].into_iter()), Measure { mean: 2.0, deviation: 1.0 });
        assert_eq!(Measure::of([5.0].into_iter()), Measure { mean: 5.0, deviation: 0.0 });
    }
}
