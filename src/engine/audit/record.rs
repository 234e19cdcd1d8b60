//! What a record says of a decision, whichever part of drover wrote it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Move;
use crate::rebalance::{self, Purpose, Record, RecordError, version_of};

/// The version of the record of a move that a person ordered.
pub const MOVE_VERSION: &str = "drover.dev/move/v1";

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DecidedBy {
    /// The rebalancer.
    Rebalancer,
    /// A person, with `drover move`.
    Person,
}

/// The record of a move that a person ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRecord {
    /// The version of this form: `drover.dev/move/v1`.
    pub version: String,
    /// When it was ordered.
    pub time: String,
    /// Who ordered it, where that is known.
    pub by: Option<String>,
    /// What was ordered.
    pub moves: Vec<Move>,
}

/// A move as a record tells it: machine, group that it leaves, group that it goes to, and why.
pub(super) struct RecordedMove {
    pub(super) told: [String; 3],
    pub(super) reason: String,
}

/// A record that was read.
pub(super) enum AnyRecord {
    Rebalance(Box<Record>),
    Move(MoveRecord),
}

/// Who decided, as far as the first bytes of a record tell; the rebalancer where they do not.
pub(super) fn decided_by(record: Option<&[u8]>) -> DecidedBy {
    let begin = record.map(|record| String::from_utf8_lossy(&record[..record.len().min(256)]).into_owned());
    let is_person = begin.is_some_and(|begin| begin.contains("\"drover.dev/move/"))
        // The version may stand further down in what somebody rewrote.
        || record.is_some_and(|record| record.len() < 1 << 16 && version_of(record).is_ok_and(|v| v == MOVE_VERSION));
    if is_person { DecidedBy::Person } else { DecidedBy::Rebalancer }
}

impl AnyRecord {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if version_of(bytes)? == MOVE_VERSION {
            let read = serde_json::from_slice(bytes).map_err(|error| RecordError::Form(error.to_string()));
            return read.map(Self::Move);
        }
        Record::parse(bytes).map(|record| Self::Rebalance(Box::new(record)))
    }

    /// Decides again, where a decision can be made again: what a person ordered is what was ordered.
    pub(super) fn replay(&self) -> Result<(), RecordError> {
        match self {
            Self::Rebalance(record) => record.replay(),
            Self::Move(_) => Ok(()),
        }
    }

    pub(super) fn cluster(&self) -> Option<&str> {
        match self {
            Self::Rebalance(record) => Some(&record.decision.cluster),
            Self::Move(record) => record.moves.first().map(|made| made.cluster.as_str()),
        }
    }

    pub(super) fn moves(&self) -> Vec<RecordedMove> {
        match self {
            Self::Rebalance(record) => record.decision.moves.iter().map(of_rebalance).collect(),
            Self::Move(record) => record.moves.iter().map(of_person).collect(),
        }
    }
}

fn of_person(made: &Move) -> RecordedMove {
    let told = [made.node.as_str(), made.from_shown(), made.to.as_str()].map(str::to_owned);
    RecordedMove { told, reason: made.reason.clone() }
}

fn of_rebalance(made: &rebalance::Move) -> RecordedMove {
    let reason = match (&made.need, made.purpose) {
        (Some(need), Purpose::Exchange) => format!("in exchange, since {} waits in {}", need.work, need.group),
        (Some(need), _) => format!("{} waits in {}", need.work, need.group),
        (None, _) => format!("{} is more loaded than {}", made.to, made.from),
    };
    RecordedMove { told: [&made.node, &made.from, &made.to].map(|text| text.to_string()), reason }
}
