//! What the tests share: running drover, building states, and real control planes.

pub(crate) mod control_plane;
pub(crate) mod daemon;
pub(crate) mod git_daemon;
pub(crate) mod limit;
pub(crate) mod machine;
pub(crate) mod openb;
pub(crate) mod pod;
pub(crate) mod proxy;
pub(crate) mod pulls;
pub(crate) mod run;
pub(crate) mod state;
