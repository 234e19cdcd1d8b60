//! One binary for all integration tests. Every test runs the real `drover` in a hermetic environment; those in `live`
//! run it against real API servers.

mod architecture;
mod examples;
mod fuzz;
mod git;
mod hostile;
mod laws;
mod live;
mod outputs;
mod readme;
mod schemas;
mod support;
