//! The rebalancer, from load to commit.

mod commits;
mod decisions;
mod support;
