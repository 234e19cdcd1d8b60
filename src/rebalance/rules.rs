//! The parameters of a decision, with every default in its place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::cluster::{Order, Policy, Rebalance};
use crate::model::time::Interval;

/// The rules that a decision follows. Lengths of time are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// How machines are chosen.
    pub policy: Policy,
    /// Of `cube`: the difference in load, as a fraction of capacity, from which a machine moves.
    pub threshold: f64,
    /// How long work waits before it counts as short of resources.
    pub pending_after: i64,
    /// Of `demand`: how long the work that a move starts must have waited, times the share of a machine that it takes. With
    /// 120, work that fills a machine moves one after 2 minutes, work that takes an eighth of one after 16.
    pub patience: i64,
    /// For how long a machine does not go back to the group that it came from.
    pub cooldown: i64,
    /// The most moves of one pass.
    pub max_moves: u32,
    /// The most moves of any 24 hours; none where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_moves: Option<u32>,
    /// Only machines on which no pod of a group runs may move.
    pub idle_only: bool,
    /// Work of a group starts strictly in the order of its age, as queueing schedulers do.
    pub in_order: bool,
    /// Of `demand`: how candidates are weighed.
    pub weights: Weights,
}

/// How `demand` weighs needs and candidates. Of two machines it takes the one with the lower cost: what is free there, plus
/// and minus these weights, each times a share of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Weights {
    /// For what would start on the machine: higher prefers few moves that serve much.
    pub served: i64,
    /// Against what the lender's own pods hold there: they would use up the receiver's guarantee, and no longer the lender's.
    pub left_behind: i64,
    /// For what the receiver's own pods hold there already.
    pub regained: i64,
    /// Against taking from a group that has no more machines than people gave it.
    pub home: i64,
    /// How many times more the need of a group counts that has fewer machines than people gave it.
    pub below_home: u32,
    /// Added to the age of the oldest waiting work when needs are compared, in seconds: higher lets numbers count before age.
    pub age_offset: i64,
    /// Of an exchange: how much more must be free on the machine that is lent than on the one that is taken back for it, in
    /// percent of a machine.
    pub exchange_gain: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { served: 3, left_behind: 3, regained: 1, home: 1, below_home: 3, age_offset: 300, exchange_gain: 10 }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::from(&Rebalance::default())
    }
}

impl From<&Rebalance> for Rules {
    fn from(asked: &Rebalance) -> Self {
        let seconds = |interval: &Option<Interval>, default: i64| {
            interval.as_ref().map_or(default, |length| i64::try_from(length.duration().as_secs()).unwrap_or(i64::MAX))
        };
        Self {
            policy: asked.policy,
            threshold: asked.threshold.map_or(0.2, |fraction| fraction.get()),
            pending_after: seconds(&asked.pending_after, if asked.policy == Policy::Cube { 300 } else { 0 }),
            patience: seconds(&asked.patience, 120),
            cooldown: seconds(&asked.cooldown, 3600),
            max_moves: asked.max_moves.map_or(10, |count| count.get()),
            daily_moves: asked.daily_moves.map(|count| count.get()),
            idle_only: asked.idle_only,
            in_order: asked.order == Order::Fifo,
            weights: Weights::default(),
        }
    }
}
