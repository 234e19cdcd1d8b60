//! A decision: moves of machines of one cluster, and the record from which they can be recomputed.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::model::cluster::Policy;
use crate::model::{ClusterName, Desired, Move};

/// Moves that are committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The cluster.
    pub cluster: ClusterName,
    /// The machines that move.
    pub moves: Vec<Move>,
    /// What the moves were decided from. It is kept in the repository as it is.
    pub record: Vec<u8>,
    /// What tells this decision from every other one.
    pub digest: String,
    /// The rebalancer's policy that decided; none where a person did.
    pub policy: Option<Policy>,
}

/// Whether a decision can be written on top of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Every machine is where the decision found it.
    Holds,
    /// It does not, and why.
    Stale(String),
}

impl Decision {
    /// A decision and its digest. The record must tell one pass from another, for example by its time.
    pub fn new(cluster: ClusterName, moves: Vec<Move>, record: Vec<u8>) -> Self {
        let told = moves.iter().map(|made| [made.node.as_str(), made.from_shown(), made.to.as_str()]);
        let digest = Self::digest_of(cluster.as_str(), told, &record);
        Self { cluster, moves, record, digest, policy: None }
    }

    /// The digest of a decision from what its commit tells: its cluster, its moves (machine, from, to), its record.
    pub fn digest_of<'m>(cluster: &str, moves: impl Iterator<Item = [&'m str; 3]>, record: &[u8]) -> String {
        let mut digest = Sha256::new();
        digest.update(cluster);
        for [node, from, to] in moves {
            digest.update(format!("\0{node}\0{from}\0{to}"));
        }
        digest.update([0]);
        digest.update(record);
        digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same, as the rebalancer's.
    pub fn by(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Where its record lies, below the folder of the state. Its parts are hidden from those who read the state.
    pub fn record_name(&self, now: Timestamp) -> String {
        format!("{}/{}-{}.json", self.record_folder(), now.strftime("%Y-%m-%d"), self.digest)
    }

    /// The folder of the records of its cluster, below the folder of the state.
    pub fn record_folder(&self) -> String {
        format!(".drover/decisions/{}", self.cluster)
    }

    /// Whether it can be written on top of a state.
    pub fn standing(&self, desired: &Desired) -> Standing {
        let Some(cluster) = desired.clusters.get(&self.cluster) else {
            return Standing::Stale(format!("there is no cluster {}", self.cluster));
        };
        if self.moves.is_empty() {
            return Standing::Stale("the decision moves no machine".to_owned());
        }
        let objection = |made: &Move| {
            let Some(node) = cluster.nodes.get(&made.node) else {
                return Some(format!("the state has no machine {} in cluster {}", made.node, self.cluster));
            };
            if made.cluster != self.cluster {
                return Some(format!("machine {} is one of cluster {}", made.node, made.cluster));
            }
            if !desired.groups.contains_key(&made.to) {
                return Some(format!("there is no group {}", made.to));
            }
            if node.group.as_ref() == Some(&made.to) {
                return Some(format!("machine {} is in group {} already", made.node, made.to));
            }
            let now = node.group.as_ref().map_or("no group", |group| group.as_str());
            (node.group != made.from)
                .then(|| format!("machine {} is in {now} by now, not in {}", made.node, made.from_shown()))
        };
        let twice = |(index, made): (usize, &Move)| self.moves[..index].iter().any(|other| other.node == made.node);
        if let Some((_, made)) = self.moves.iter().enumerate().find(|entry| twice(*entry)) {
            return Standing::Stale(format!("the decision moves machine {} twice", made.node));
        }
        self.moves.iter().find_map(objection).map_or(Standing::Holds, Standing::Stale)
    }
}
