//! The machine that an agent runs on: its mounts, its kubelet, and the directories of its storage.
//!
//! ```text
//! the agent      mounts (reads lists of mounts)    probe (starts a process, and waits for it no longer than it may)
//! that process   look ─▶ tree (paths below a root)  kubelet  make  write
//! ```
//!
//! A file system whose server is gone blocks whoever touches it, and a process that is blocked so cannot be ended. So
//! nothing in the agent itself touches one.

mod kubelet;
mod look;
mod make;
mod mounts;
mod probe;
mod tree;
mod write;

pub use look::{Request, look, serve};
pub use mounts::{MountWatch, boot_id, mountinfo_of, mounts};
pub use probe::{Answer, Prober};
