//! The decision: which machines move, which need each move serves, what it costs whom, and why others were not taken.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::input::Input;
use super::policy::{self, Choice, Tally, Unserved};
use super::world::{Holding, WHOLE, World};
use crate::model::cluster::Policy;
use crate::model::group::Guarantee;

/// The version of the recorded form.
pub const DECISION_VERSION: &str = "drover.dev/rebalance-decision/v1";

/// How many pieces of work a move names.
const NAMED: usize = 5;

/// What a pass of the rebalancer came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover rebalance decision")]
pub struct Decision {
    /// The version of this form: `drover.dev/rebalance-decision/v1`.
    pub version: String,
    /// The cluster.
    pub cluster: String,
    /// When the input was taken, in seconds since 1970-01-01 UTC.
    pub time: i64,
    /// The policy that decided.
    pub policy: Policy,
    /// The moves, in the order in which they are made.
    pub moves: Vec<Move>,
    /// Needs that no move serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<Need>,
    /// Needs remained when the moves of the pass or of the day were used up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exhausted: bool,
}

/// A machine that goes to another group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Move {
    /// The machine.
    pub node: Arc<str>,
    /// The group that it leaves.
    pub from: Arc<str>,
    /// The group that it goes to.
    pub to: Arc<str>,
    /// Why it moves.
    pub purpose: Purpose,
    /// The need that it serves; none where loads are evened out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// Work that can start because of it: the first names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<Arc<str>>,
    /// How many pieces of work can start because of it.
    pub starts_count: u32,
    /// What it costs the group that it leaves.
    pub cost: Cost,
}

/// Why a machine moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Work of the group that it goes to waits.
    Serve,
    /// The group that it goes to lends another machine in the same decision, and its own pods run on this one already.
    Exchange,
    /// The group that it goes to is much more loaded than the one that it leaves.
    EvenOut,
}

/// Work of a group that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Need {
    /// The group.
    pub group: Arc<str>,
    /// The work that is looked after.
    pub work: Arc<str>,
    /// Its pods.
    pub pods: u32,
    /// How long it has waited, in seconds.
    pub waited: i64,
    /// How many pieces of work wait in the group.
    pub queued: u32,
    /// Machines that were not taken for it, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
}

/// Machines that were not taken for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rejected {
    /// The reason.
    pub why: Why,
    /// How many machines.
    pub count: u32,
    /// The first of them.
    pub nodes: Vec<Arc<str>>,
}

/// Why a machine was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// GPU machines do not serve work without GPUs, nor the other way round.
    OtherKind,
    /// Its labels, taints or size keep the work away.
    Unfit,
    /// Not enough is free.
    NoRoom,
    /// It moved in this decision.
    MovedNow,
    /// Its document does not let it be moved.
    NotShareable,
    /// It does not carry the labels that machines must carry here to be moved.
    NotEligible,
    /// It is held, vetoed, cordoned, not ready, or moving.
    Barred,
    /// It came from the group too short a time ago.
    CoolingDown,
    /// Pods run there, and only idle machines may move.
    NotIdle,
    /// Its group would fall under what it is guaranteed.
    Guarantee,
    /// The group in need would have more than its ceiling.
    Ceiling,
    /// What it would start has not waited long enough for a move.
    NotDue,
    /// The gang would start only with more machines than there are for it.
    TooFew,
}

impl Why {
    /// Every reason, in the order in which they are checked.
    pub const ALL: [Self; 13] = [
        Self::OtherKind,
        Self::Unfit,
        Self::NoRoom,
        Self::MovedNow,
        Self::NotShareable,
        Self::NotEligible,
        Self::Barred,
        Self::CoolingDown,
        Self::NotIdle,
        Self::Guarantee,
        Self::Ceiling,
        Self::NotDue,
        Self::TooFew,
    ];

    /// The reason in words, for a number of machines.
    pub fn words(self) -> &'static str {
        match self {
            Self::OtherKind => "are of the other kind (GPU or CPU)",
            Self::Unfit => "do not fit by labels, taints or size",
            Self::NoRoom => "have no room now",
            Self::MovedNow => "move in this decision",
            Self::NotShareable => "are not shareable",
            Self::NotEligible => "do not carry the labels that `eligible` asks for",
            Self::Barred => "are held, vetoed, cordoned or not ready",
            Self::CoolingDown => "came from this group too recently",
            Self::NotIdle => "are not idle",
            Self::Guarantee => "cannot leave a group at its guarantee",
            Self::Ceiling => "would lift the group over its ceiling",
            Self::NotDue => "would start too little that has waited long enough",
            Self::TooFew => "are too few for all pods that start together",
        }
    }
}

/// What a move costs the group that lends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cost {
    /// What is free on the machine, in percent of it: the group loses the use of it.
    pub free_percent: u32,
    /// What its own pods hold there, in percent; they run on.
    pub own_percent: u32,
    /// What the group effectively has before the move.
    pub before: Effective,
    /// And after it.
    pub after: Effective,
    /// What it is guaranteed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub guarantee: Guarantee,
}

/// What a group has, without what pods of other groups hold on its machines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Effective {
    /// Machines, in hundredths.
    pub centi_nodes: u64,
    /// CPU cores.
    pub cpus: u64,
    /// GPUs.
    pub gpus: u64,
}

impl From<Holding> for Effective {
    fn from(holding: Holding) -> Self {
        Self { centi_nodes: holding.nodes * 100 / WHOLE, cpus: holding.cpu / 1000, gpus: holding.gpus }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Decides. The same input gives the same decision, wherever and whenever it is read again.
pub fn decide(input: &Input) -> Decision {
    let mut world = World::new(input);
    let chosen = policy::choose(&mut world);
    Decision {
        version: DECISION_VERSION.to_owned(),
        cluster: input.cluster.clone(),
        time: input.time,
        policy: input.rules.policy,
        moves: chosen.moves.iter().map(|choice| told(&world, choice)).collect(),
        unserved: chosen.unserved.iter().map(|unserved| untold(&world, unserved)).collect(),
        exhausted: chosen.exhausted,
    }
}

impl Decision {
    /// A short digest of the decision: equal for equal decisions, and for nothing else that occurs.
    pub fn digest(&self) -> String {
        digest(self)
    }
}

impl Input {
    /// A short digest of the input, by which a record that was changed is recognised.
    pub fn digest(&self) -> String {
        digest(self)
    }
}

fn digest(value: &impl Serialize) -> String {
    // The recorded types have string keys only, so that they always serialise.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn told(world: &World<'_>, choice: &Choice) -> Move {
    let (input, percent) = (world.input, |share: u64| (share * 100 / WHOLE) as u32);
    let name = |group: u32| input.groups[group as usize].name.clone();
    let purpose = match (choice.work, choice.exchange) {
        (None, _) => Purpose::EvenOut,
        (Some(_), true) => Purpose::Exchange,
        (Some(_), false) => Purpose::Serve,
    };
    Move {
        node: input.nodes[choice.node as usize].name.clone(),
        from: name(choice.from),
        to: name(choice.to),
        purpose,
        need: choice.work.map(|work| need(world, choice.serves, work, choice.queued, &choice.tally)),
        starts: choice.started.iter().take(NAMED).map(|&work| world.waiting(work).name.clone()).collect(),
        starts_count: choice.started.len() as u32,
        cost: Cost {
            free_percent: percent(choice.free),
            own_percent: percent(choice.left_behind),
            before: choice.lender.0.into(),
            after: choice.lender.1.into(),
            guarantee: input.groups[choice.from as usize].guarantee,
        },
    }
}

fn untold(world: &World<'_>, unserved: &Unserved) -> Need {
    let queued = world.queues[unserved.group as usize].len() as u32;
    need(world, unserved.group, unserved.work, queued, &unserved.tally)
}

fn need(world: &World<'_>, group: u32, work: u32, queued: u32, tally: &Tally) -> Need {
    let (input, waiting) = (world.input, world.waiting(work));
    let rejected = tally.reasons().map(|(why, count, nodes)| Rejected {
        why,
        count,
        nodes: nodes.iter().map(|&node| input.nodes[node as usize].name.clone()).collect(),
    });
    Need {
        group: input.groups[group as usize].name.clone(),
        work: waiting.name.clone(),
        pods: waiting.pods,
        waited: input.time - waiting.since,
        queued,
        rejected: rejected.collect(),
    }
}
