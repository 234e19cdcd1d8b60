//! What others ask of the daemon over HTTP.

pub mod hooks;
