//! What people took back from the rebalancer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::chronicle::{Chronicle, Entry, Step};
use super::record::{DecidedBy, decided_by};
use super::verify;
use crate::adapters::git::Git;
use crate::model::ClusterName;
use crate::writeback::Trailers;

/// A machine that a person took back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    /// Until when the rebalancer leaves it alone.
    pub until: Timestamp,
    /// Who took it back.
    pub by: String,
    /// The commit.
    pub commit: String,
}

/// The machines of a cluster that a person took back not longer than `length` ago. A person takes a machine back by any
/// commit that puts it where it was before a decision, whatever the commit says of itself.
pub fn vetoes(
    git: &Git,
    chronicle: &Chronicle,
    cluster: &ClusterName,
    length: SignedDuration,
    now: Timestamp,
) -> BTreeMap<String, Veto> {
    let mut vetoes = BTreeMap::new();
    for ((_, node), steps) in chronicle.steps().into_iter().filter(|((of, _), _)| of == cluster) {
        let mut left: Vec<&Step<'_>> = Vec::new();
        for step in &steps {
            if by_rebalancer(git, step.entry, cluster.as_str(), node.as_str()) {
                left.push(step);
                continue;
            }
            if left.iter().any(|decided| decided.from == step.to) {
                // A commit may claim to be from the future; its veto is not longer for that.
                let until = step.entry.at.min(now).checked_add(length).unwrap_or(Timestamp::MAX);
                if until > now {
                    let by = step.entry.author.name.clone();
                    vetoes.insert(node.to_string(), Veto { until, by, commit: step.entry.commit.to_string() });
                }
            }
            // Removed and brought back is not moved.
            if !matches!(step.to, super::Place::Absent) {
                left.clear();
            }
        }
    }
    vetoes
}

/// Whether a step of a machine was decided by the rebalancer.
pub(super) fn by_rebalancer(git: &Git, entry: &Entry, cluster: &str, node: &str) -> bool {
    let is_about = |t: &&Trailers| t.cluster == cluster && t.moves.iter().any(|made| made[0] == node);
    entry.decisions.iter().rfind(is_about).is_some_and(|trailers| {
        let record = verify::record(git, entry, trailers).ok();
        decided_by(record.as_deref()) == DecidedBy::Rebalancer
    })
}
