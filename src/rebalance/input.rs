//! What a decision sees. It is recorded with every decision, and the record alone gives the same decision again.
//!
//! Names stand once, in tables; everything else refers to them by index, so that a record of thousands of machines stays
//! small. Times are seconds since 1970-01-01 UTC. Amounts are counted as Kubernetes does after rounding up: thousandths of a
//! core for `cpu`, bytes for `memory`, pieces for every other resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rules;
use crate::model::group::Guarantee;
use crate::model::selector::NodeSelection;

/// The version of the recorded form.
pub const INPUT_VERSION: &str = "drover.dev/rebalance-input/v1";

/// Everything that a decision depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover rebalance input")]
pub struct Input {
    /// The version of this form: `drover.dev/rebalance-input/v1`.
    pub version: String,
    /// The cluster.
    pub cluster: String,
    /// When it was looked at.
    pub time: i64,
    /// The rules that the decision follows.
    pub rules: Rules,
    /// The resources that are counted, such as `cpu`, `memory` and `nvidia.com/gpu`. Amounts follow this order.
    pub resources: Vec<Arc<str>>,
    /// The groups of the state.
    pub groups: Vec<Group>,
    /// What machines are like: those that are alike share an entry.
    pub classes: Vec<Class>,
    /// What pods ask for: those that ask alike share an entry.
    pub shapes: Vec<Shape>,
    /// The managed machines.
    pub nodes: Vec<Node>,
    /// Pods that are bound to a managed machine.
    pub running: Vec<Running>,
    /// Work that waits, the oldest of each group first.
    pub waiting: Vec<Waiting>,
    /// Moves of the last 24 hours, for the daily budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<PastMove>,
}

/// A group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// The least that it keeps. Capacity that pods of other groups still hold does not count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub guarantee: Guarantee,
    /// The most that it is given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ceiling: Guarantee,
    /// How much its need counts against others' (1 where nothing is said).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
}

/// What machines are like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Class {
    /// What each offers, in the order of `resources`.
    pub capacity: Vec<u64>,
    /// Labels that some pod selects by; the group label is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away, as `key=value:effect`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Arc<str>>,
}

/// What pods ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shape {
    /// What each pod requests, in the order of `resources`.
    pub requests: Vec<u64>,
    /// Which machines it may be on, but for the group label.
    #[serde(default, skip_serializing_if = "is_default")]
    pub selection: NodeSelection,
    /// The taints that it tolerates, in the words of the classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerates: Vec<Arc<str>>,
}

/// A managed machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// What it is like.
    pub class: u32,
    /// The group that it belongs to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The group that people gave it to; the rebalancer's own moves do not change it. None where it is the present group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<u32>,
    /// Whether the rebalancer may move it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shareable: bool,
    /// It does not carry the labels that machines must carry here to be moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ineligible: bool,
    /// What keeps the rebalancer away from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
    /// The last move that the rebalancer made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastMove>,
}

/// What keeps the rebalancer away from a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Barred {
    /// Which kind of bar.
    pub by: Bar,
    /// When it ends; none where it has no end of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// A bar between the rebalancer and a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    /// Its document has a hold.
    Held,
    /// A person took back a decision about it.
    Vetoed,
    /// It takes no new pods.
    Cordoned,
    /// It is not ready, or not there.
    Unready,
    /// A change of it is on its way: proposed, or committed and not yet applied.
    Moving,
}

/// The last move of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastMove {
    /// The group that it came from.
    pub from: u32,
    /// When.
    pub at: i64,
}

/// Pods of one shape and group that run on one machine since one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Running {
    /// The machine.
    pub node: u32,
    /// The group whose pods they are; none where they belong to no group, as those of a DaemonSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// What each asks for.
    pub shape: u32,
    /// How many there are.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub pods: u32,
    /// When they started.
    pub since: i64,
}

/// A piece of work that waits: a pod, or the pods of a gang, which start together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waiting {
    /// What it is called, for people: namespace and pod, or namespace and job.
    pub name: Arc<str>,
    /// The group that it belongs to.
    pub group: u32,
    /// What each of its pods asks for.
    pub shape: u32,
    /// Its pods.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub pods: u32,
    /// Since when it waits.
    pub since: i64,
    /// It waits for something other than resources: no machine would help it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub otherwise: bool,
}

/// A move that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastMove {
    /// When.
    pub at: i64,
    /// The machine.
    pub node: u32,
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
