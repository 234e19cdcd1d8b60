//! `drover run` against real API servers and real git remotes.

mod churn;
mod clusters;
mod credentials;
mod ending;
mod faults;
mod following;
mod healing;
mod kills;
mod manners;
mod outage;
mod rebalancing;
mod remote;
mod replicas;
mod scheduling;
mod settings;
mod storage;
mod support;
mod telling;
