//! `drover run` against real API servers and real git remotes.

mod following;
mod healing;
mod manners;
mod replicas;
mod settings;
mod support;
mod telling;
