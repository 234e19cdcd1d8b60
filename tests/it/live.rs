//! drover against real API servers: every test that no mock could stand in for.

mod adopt;
mod ahead;
mod concurrent;
mod credentials;
mod faults;
mod guards;
mod modes;
mod outage;
mod ownership;
mod saved;
mod storage;
mod support;
mod unreachable;
mod views;
