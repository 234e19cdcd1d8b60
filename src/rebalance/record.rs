//! The record of a decision, as it lies in the repository: what was decided, and all that it was decided from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::{Decision, decide};
use super::input::Input;

/// The version of the recorded form.
pub const RECORD_VERSION: &str = "drover.dev/rebalance-record/v1";

/// More than any cluster offers of anything, and far from where sums would no longer fit.
const MOST: u128 = 1 << 62;

/// The record of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover rebalance record")]
pub struct Record {
    /// The version of this form: `drover.dev/rebalance-record/v1`.
    pub version: String,
    /// What the decision was made from.
    pub input: Input,
    /// What was decided.
    pub decision: Decision,
}

/// Why a record does not vouch for its decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It was cut off, or is no JSON at all.
    #[error("the record is not JSON: {0}")]
    NotJson(String),
    /// Another drover wrote it.
    #[error("the record has version {0:?}, which this drover cannot replay")]
    Version(String),
    /// It is JSON, and not a record.
    #[error("the record does not have the form of its version: {0}")]
    Form(String),
    /// Its input refers to what it does not have.
    #[error("the input of the record contradicts itself: {0}")]
    Incoherent(&'static str),
    /// Its input gives another decision.
    #[error("its input does not give its decision: {0}")]
    Differs(String),
}

impl Record {
    /// The record of a decision that was made from this input.
    pub fn new(input: Input, decision: Decision) -> Self {
        Self { version: RECORD_VERSION.to_owned(), input, decision }
    }

    /// Its bytes, as they are kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        // The recorded types have string keys only, so that they always serialise.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// Where it is not a record of a version that this drover knows.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let version = version_of(bytes)?;
        if version != RECORD_VERSION {
            return Err(RecordError::Version(version));
        }
        serde_json::from_slice(bytes).map_err(|error| RecordError::Form(error.to_string()))
    }

    /// Whether its input fits together, so that it can be read at all.
    ///
    /// # Errors
    /// Where it refers to what it does not have.
    pub fn check(&self) -> Result<(), RecordError> {
        incoherence(&self.input).map_or(Ok(()), |why| Err(RecordError::Incoherent(why)))
    }

    /// Decides again, from the input alone.
    ///
    /// # Errors
    /// Where that does not give the recorded decision.
    pub fn replay(&self) -> Result<(), RecordError> {
        self.check()?;
        let (input, recorded) = (&self.input, &self.decision);
        let again = decide(input);
        if again == *recorded {
            return Ok(());
        }
        let of = |decision: &Decision| match decision.moves.as_slice() {
            [] => "no move".to_owned(),
            moves => moves.iter().map(|m| format!("{} {} -> {}", m.node, m.from, m.to)).collect::<Vec<_>>().join(", "),
        };
        let (told, found) = (of(recorded), of(&again));
        Err(RecordError::Differs(match told == found {
            true => "the moves are the same, their reasons are not".to_owned(),
            false => format!("it records {told}, and the input gives {found}"),
        }))
    }
}

/// The version that a record says it has.
///
/// # Errors
/// Where it is not JSON, or does not say.
pub fn version_of(bytes: &[u8]) -> Result<String, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<String>,
    }
    let read: Result<Versioned, _> = serde_json::from_slice(bytes);
    match read {
        Ok(Versioned { version: Some(version) }) => Ok(version),
        Ok(_) => Err(RecordError::Form("it has no `version`".to_owned())),
        Err(error) if error.is_data() => Err(RecordError::Form(error.to_string())),
        Err(error) => Err(RecordError::NotJson(error.to_string())),
    }
}

/// What does not fit together. A record comes from a file that anybody could have changed.
fn incoherence(input: &Input) -> Option<&'static str> {
    let group = |index: u32| (index as usize) < input.groups.len();
    let node = |index: u32| (index as usize) < input.nodes.len();
    let shape = |index: u32| (index as usize) < input.shapes.len();
    let class = |index: u32| (index as usize) < input.classes.len();
    let maybe_group = |index: Option<u32>| index.is_none_or(group);
    let width = input.resources.len();
    if input.classes.iter().any(|class| class.capacity.len() != width)
        || input.shapes.iter().any(|shape| shape.requests.len() != width)
    {
        return Some("it does not have an amount for each resource");
    }
    let is_known = input.nodes.iter().all(|node| {
        let came = node.last.is_none_or(|last| group(last.from));
        class(node.class) && maybe_group(node.group) && maybe_group(node.home) && came
    });
    if !is_known {
        return Some("a machine refers to a class or group that it does not have");
    }
    if !input.running.iter().all(|run| node(run.node) && shape(run.shape) && maybe_group(run.group)) {
        return Some("a pod refers to a machine, shape or group that it does not have");
    }
    if !input.waiting.iter().all(|waiting| group(waiting.group) && shape(waiting.shape)) {
        return Some("waiting work refers to a shape or group that it does not have");
    }
    if !input.moves.iter().all(|moved| node(moved.node)) {
        return Some("an earlier move refers to a machine that it does not have");
    }
    let sum = |amounts: &[u64]| amounts.iter().map(|amount| u128::from(*amount)).sum::<u128>();
    let offered = input.nodes.iter().map(|node| sum(&input.classes[node.class as usize].capacity));
    let asked = |index: u32, pods: u32| sum(&input.shapes[index as usize].requests) * u128::from(pods);
    let held = input.running.iter().map(|run| asked(run.shape, run.pods));
    let wanted = input.waiting.iter().map(|waiting| asked(waiting.shape, waiting.pods));
    (offered.chain(held).chain(wanted).sum::<u128>() > MOST).then_some("its amounts are beyond all reason")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rebalance::{Class, Group, Node, Rules, Shape, Waiting};

    fn record() -> Record {
        let group = |name: &str| Group { name: name.into(), weight: 1, ..Group::default() };
        let node = |name: &str, group| Node { name: name.into(), group, shareable: true, ..Node::default() };
        let input = Input {
            version: crate::rebalance::INPUT_VERSION.to_owned(),
            cluster: "prod".to_owned(),
            time: 1_000_000,
            rules: Rules { pending_after: 0, patience: 0, ..Rules::default() },
            resources: vec!["cpu".into(), "memory".into(), "nvidia.com/gpu".into()],
            groups: vec![group("ads"), group("web")],
            classes: vec![Class { capacity: vec![64_000, 1 << 38, 8], ..Class::default() }],
            shapes: vec![Shape { requests: vec![1000, 1 << 30, 8], ..Shape::default() }],
            nodes: vec![node("n1", Some(0)), node("n2", Some(0))],
            running: Vec::new(),
            waiting: vec![Waiting {
                name: "ns/p".into(),
                group: 1,
                shape: 0,
                pods: 1,
                since: 990_000,
                otherwise: false,
            }],
            moves: Vec::new(),
        };
        let decision = decide(&input);
        assert_eq!(decision.moves.len(), 1);
        Record::new(input, decision)
    }

    #[test]
    fn what_was_decided_is_decided_again() {
        let kept = record().to_bytes();
        let read = Record::parse(&kept).expect("a record");
        assert_eq!(read, record());
        assert_eq!(read.replay(), Ok(()));
        assert_eq!(read.to_bytes(), kept);
    }

    #[test]
    fn a_record_that_does_not_vouch_says_why() {
        let kept = String::from_utf8(record().to_bytes()).expect("text");
        let says = |text: &str, part: &str| {
            let error = Record::parse(text.as_bytes()).and_then(|record| record.replay()).expect_err("it is wrong");
            assert!(error.to_string().contains(part), "{error}");
        };
        says(&kept[..kept.len() / 2], "not JSON");
        says("", "not JSON");
        says("[]", "form of its version");
        says("{}", "no `version`");
        says(&kept.replace("record/v1", "record/v9"), "version \"drover.dev/rebalance-record/v9\"");
        says(&kept.replacen("\"resources\"", "\"resurces\"", 1), "form of its version");
        says(
            &kept.replace("\"from\":\"ads\",\"to\":\"web\"", "\"from\":\"ads\",\"to\":\"lab\""),
            "-> lab, and the input gives",
        );
        says(&kept.replacen("\"class\":0", "\"class\":7", 1), "contradicts itself");
        says(&kept.replacen("[64000", "[18446744073709551615", 1), "beyond all reason");
    }
}
