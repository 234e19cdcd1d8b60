//! One pass: load the state, observe the clusters, plan, guard, apply.
//!
//! The pass is the same for every command.

pub mod apply;
pub mod pass;
pub mod state;

pub use apply::{ApplyReport, ClusterOutcome, Progress, apply, apply_cluster};
pub use pass::{Pass, Wanted, observe, plan};
pub use state::{Loaded, Loader, StateSource};
