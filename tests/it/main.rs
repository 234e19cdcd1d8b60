//! One binary for all integration tests. Every test runs the real `drover` in a hermetic environment; those in `live`
//! run it against real API servers.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "tests drive the world outside, and give up where that fails"
)]

mod agent;
mod architecture;
mod audit;
mod backtest;
mod bootstrap;
mod daemon;
mod decisions;
mod edits;
mod examples;
mod fuzz;
mod git;
mod hooks;
mod hostile;
mod kubelets;
mod laws;
mod live;
mod notices;
mod outputs;
mod readme;
mod rebalance;
mod schemas;
mod support;
