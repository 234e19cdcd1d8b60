//! One pass: load the state, observe the clusters, plan, guard, apply.
//!
//! The pass is the same for every command.

mod ahead;
pub mod apply;
pub mod pass;
pub mod state;

pub use apply::{ApplyReport, ClusterOutcome, Progress, apply};
pub use pass::{Pass, Wanted, observe, plan};
pub use state::{Loaded, Loader, StateSource};
