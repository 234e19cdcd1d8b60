//! The rebalancer's decision: a pure function of a recorded input.
//!
//! [`decide`] reads an [`Input`] and nothing else: no clock, no cluster, no file. Whoever has the record of the input can
//! replay the decision. Nothing here moves a machine; the moves are committed to the state repository by others.
//!
//! Whatever the policy, a decision never takes a group below what it is guaranteed in effective capacity, never moves a
//! machine that is held, vetoed or not shareable, never sends one back to the group it came from within the cooldown, and
//! keeps to the budgets of the pass and the day.

mod decision;
mod input;
pub mod load;
mod policy;
mod record;
mod rules;
mod world;

pub use decision::{Cost, DECISION_VERSION, Decision, Effective, Move, Need, Purpose, Rejected, Why, decide};
pub use input::{Bar, Barred, Class, Group, INPUT_VERSION, Input, LastMove, Node, PastMove, Running, Shape, Waiting};
pub use record::{RECORD_VERSION, Record, RecordError, version_of};
pub use rules::{Rules, Weights};
