//! The rebalancer, from load to commit.

mod commits;
mod decisions;
mod histories;
mod killed;
mod pushed;
mod support;
