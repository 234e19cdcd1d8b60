//! `drover run` against real API servers and real git remotes.

mod churn;
mod following;
mod healing;
mod outage;
mod replicas;
mod support;
