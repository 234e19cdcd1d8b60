//! `drover run` against real API servers and real git remotes.

mod following;
mod healing;
mod replicas;
mod support;
