//! The parts of the daemon: what runs for as long as it does.

pub mod notices;
