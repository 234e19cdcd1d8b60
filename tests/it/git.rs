//! State in git: working directories, revisions, real ssh and https servers, copies that follow a server, blame, diff,
//! what is in force, signatures.

mod blame;
mod diff;
mod follow;
mod following;
mod https;
mod openpgp;
mod polling;
mod proposing;
mod revisions;
mod servers;
mod signatures;
mod silent;
mod ssh;
mod support;
mod working;
mod write_back;
mod writers;

pub(crate) use writers::many;
