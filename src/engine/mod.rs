//! One pass: load the state, observe the clusters, plan, guard, apply.
//!
//! The pass is the same for every command. What a daemon's passes begin from is followed: `follow` says which revision is
//! in force.

mod ahead;
pub mod apply;
pub mod audit;
pub mod bootstrap;
pub mod follow;
pub mod kubelet;
pub mod pass;
mod past;
pub mod rebalance;
pub mod refused;
pub mod state;
pub mod write_back;

pub use crate::adapters::git::Relation;
pub use apply::{ApplyReport, ClusterOutcome, Progress, apply, apply_cluster};
pub use follow::{FollowOptions, Follower, InForce, Synced};
pub use pass::{Pass, Wanted, observe, plan};
pub use past::past;
pub use refused::{RefusalReason, RefusedRevision};
pub use state::{Loaded, Loader, StateSource};
pub use write_back::{Committed, Prepared, Writer, Written};
