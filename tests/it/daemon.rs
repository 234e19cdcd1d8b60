//! `drover run` against real API servers and real git remotes.

mod clusters;
mod credentials;
mod faults;
mod following;
mod healing;
mod outage;
mod support;
