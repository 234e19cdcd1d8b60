//! What is kept of a decision in the state repository: whoever has it can decide again and compare.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Decision, Input};

/// The version of the recorded form.
pub const RECORD_VERSION: &str = "drover.dev/rebalance-record/v1";

/// A decision, and what it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover rebalance record")]
pub struct Record {
    /// The version of this form: `drover.dev/rebalance-record/v1`.
    pub version: String,
    /// What the decision was made from.
    pub input: Input,
    /// The decision.
    pub decision: Decision,
}

impl Record {
    /// Decides, and keeps what it was decided from.
    pub fn of(input: Input) -> Self {
        let decision = super::decide(&input);
        Self { version: RECORD_VERSION.to_owned(), input, decision }
    }
}
