//! One pass of the rebalancer over one cluster: what was seen and what the state says become an input, the input a
//! decision, the decision a commit.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Loaded, Writer, Written, past};
use crate::error::Failure;
use crate::model::cluster::{Connection, Policy};
use crate::model::work::{Wait, why_it_waits};
use crate::model::{ClusterName, Desired, Guard, Mode, Move, ObservedCluster, PodWork};
use crate::plan;
use crate::rebalance::load::{self, Past, Scene};
use crate::rebalance::{Need, Purpose, Record};
use crate::writeback::Decision;

/// What was seen of a cluster.
#[derive(Debug, Clone)]
pub struct Sight {
    /// How it was reached.
    pub connection: Connection,
    /// Its nodes.
    pub nodes: ObservedCluster,
    /// Its pods that run or wait.
    pub pods: Vec<PodWork>,
}

/// What a pass came to.
#[derive(Debug, Clone)]
pub struct Rebalanced {
    /// The decision and what it was made from; none where it could not be made.
    pub record: Option<Record>,
    /// What became of it; none where there was nothing to write.
    pub written: Option<Written>,
}

/// Decides for a cluster as a state and its history have it.
///
/// # Errors
/// Where the state does not know the cluster as it was seen, or its history cannot be read.
pub fn decide(state: &Loaded, name: &ClusterName, sight: &Sight, now: Timestamp) -> Result<Record, Failure> {
    decide_with(&state.desired, &past(state, name, now)?, name, sight, now)
}

/// Decides for a cluster, where the past is known.
///
/// # Errors
/// Where the state does not know the cluster as it was seen.
pub fn decide_with(
    desired: &Desired,
    past: &Past,
    name: &ClusterName,
    sight: &Sight,
    now: Timestamp,
) -> Result<Record, Failure> {
    let Some(cluster) = desired.clusters.get(name) else {
        return Err(Failure::new(format!("the state has no cluster {name}")));
    };
    if cluster.spec.connection != sight.connection {
        return Err(Failure::new(format!("the state reaches cluster {name} in another way by now")));
    }
    let (live, pods) = (&sight.nodes, &*sight.pods);
    let mut input = load::input(Scene { name, cluster, desired, live, pods, past, now });
    if cluster.spec.rebalance.is_none() {
        input.rules.policy = Policy::Off;
    }
    // A machine with pods that select its group would run into the guard, and hold back the whole cluster.
    input.rules.idle_only |= plan::allowed(Guard::RunningPods, cluster, &BTreeSet::new(), now).is_none();
    let decision = crate::rebalance::decide(&input);
    Ok(Record::new(input, decision))
}

/// Decides for a cluster and commits the moves, if there are any. Where somebody else is faster it decides again, on what
/// they made of the state.
///
/// # Errors
/// Where the state cannot be read or the commit cannot be made; nothing has moved then.
pub fn rebalance(writer: &Writer, name: &ClusterName, sight: &Sight, now: Timestamp) -> Result<Rebalanced, Failure> {
    let mut record: Option<Record> = None;
    let mut failure = None;
    let written = writer.write_on(name, now, |state| {
        record = None;
        if state.desired.clusters.get(name).is_some_and(|cluster| cluster.spec.mode == Mode::Observe) {
            return Err(format!("cluster {name} is only observed"));
        }
        match decide(state, name, sight, now) {
            Ok(decided) => {
                let decision = to_write(name, &decided);
                record = Some(decided);
                decision?.ok_or_else(|| "no machine has to move".to_owned())
            }
            Err(error) => {
                failure = Some(error);
                Err("it could not be decided".to_owned())
            }
        }
    })?;
    match failure {
        Some(failure) => Err(failure),
        None => {
            let moves = record.as_ref().is_some_and(|record| !record.decision.moves.is_empty());
            let is_told = moves || record.is_none();
            Ok(Rebalanced { record, written: is_told.then_some(written) })
        }
    }
}

/// What is written back of a decision; none where it moves nothing.
pub fn to_write(name: &ClusterName, record: &Record) -> Result<Option<Decision>, String> {
    let moves = record.decision.moves.iter().map(|made| {
        let group = |group: &str| group.parse().map_err(|error| format!("{group:?} is no group: {error}"));
        Ok(Move {
            cluster: name.clone(),
            node: made.node.parse().map_err(|error| format!("{:?} is no machine: {error}", made.node))?,
            from: Some(group(&made.from)?),
            to: group(&made.to)?,
            reason: reason(made),
        })
    });
    let moves = moves.collect::<Result<Vec<Move>, String>>()?;
    if moves.is_empty() {
        return Ok(None);
    }
    Ok(Some(Decision::new(name.clone(), moves, record.to_bytes()).by(record.decision.policy)))
}

/// Why a machine moves and what that costs, in one sentence.
pub fn reason(made: &crate::rebalance::Move) -> String {
    let why = match (&made.need, made.purpose) {
        (Some(need), Purpose::Serve) => {
            let starts = match made.starts_count {
                0 if need.pods > 1 => "it is one of the machines that its pods need together".to_owned(),
                started => format!("with it {} can start{}", count(started, "job"), named(made)),
            };
            format!("{}; {starts}", waits(need))
        }
        (Some(need), Purpose::Exchange) => {
            format!("its own pods run there; in return it lends a machine to {}, where {}", need.group, waits(need))
        }
        (None, _) | (Some(_), Purpose::EvenOut) => format!("{} is much less loaded than {}", made.from, made.to),
    };
    let (cost, after) = (&made.cost, &made.cost.after);
    let mut keeps = vec![count_centi(after.centi_nodes)];
    keeps.extend((after.gpus > 0 || made.cost.before.gpus > 0).then(|| count(after.gpus, "GPU")));
    let guarantee = &cost.guarantee;
    let least = [(guarantee.nodes, "machine"), (guarantee.cpus, "CPU"), (guarantee.gpus, "GPU")];
    let least: Vec<String> = least.iter().filter_map(|(least, what)| Some(count((*least)?, what))).collect();
    let least = if least.is_empty() { String::new() } else { format!(", {} guaranteed", least.join(" and ")) };
    format!("{why}. {} % of it is free; {} keeps {}{least}", cost.free_percent, made.from, keeps.join(" with "))
}

/// How much work of a group waits, and for how long.
pub fn waits(need: &Need) -> String {
    let pods = if need.pods > 1 { format!(" of {} pods", need.pods) } else { String::new() };
    let waits = if need.queued == 1 { "waits" } else { "wait" };
    format!(
        "{} of {} {waits}, the first, {}{pods}, for {}",
        count(need.queued, "job"),
        need.group,
        need.work,
        length(need.waited)
    )
}

fn named(made: &crate::rebalance::Move) -> String {
    if made.starts.is_empty() { String::new() } else { format!(" ({})", made.starts.join(", ")) }
}

fn count(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn count_centi(centi: u64) -> String {
    match centi % 100 {
        0 => count(centi / 100, "machine"),
        part => format!("{}.{part:02} machines", centi / 100),
    }
}

/// A length of time, as 12m or 3h05m.
pub fn length(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A pod that no machine would help.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// The work, as namespace and pod or gang.
    pub work: String,
    /// Its group.
    pub group: String,
    /// What the scheduler says.
    pub says: String,
    /// How long it has waited, in seconds.
    pub waited: i64,
}

/// The work that waits for something other than a machine.
pub fn stuck(record: &Record, pods: &[PodWork]) -> Vec<Stuck> {
    let input = &record.input;
    let waiting = input.waiting.iter().filter(|work| work.otherwise);
    let stuck = waiting.filter_map(|work| {
        let is_of = |pod: &&PodWork| {
            pod.node.is_none()
                && match &pod.gang {
                    Some(gang) => **gang == *work.name,
                    None => format!("{}/{}", pod.namespace, pod.name) == *work.name,
                }
        };
        let mut says = pods.iter().filter(is_of).filter_map(|pod| pod.says.as_deref());
        let says = says.find(|says| why_it_waits(says) != Wait::Resources)?;
        let group = input.groups[work.group as usize].name.to_string();
        Some(Stuck { work: work.name.to_string(), group, says: says.to_owned(), waited: input.time - work.since })
    });
    stuck.collect()
}
