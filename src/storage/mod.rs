//! The storage of one machine: which mount a path lies on, whether the kubelet sees the same, and what it all comes to.
//!
//! ```text
//! mountinfo ──▶ mounts ──▶ view ──┐
//! what was seen ──────▶ facts ────┴─▶ judge ──▶ StorageReport
//! ```
//!
//! Pure: `adapters/host` looks, and asks here whether what it found is a mount that it may write to.

pub mod facts;
pub mod judge;
pub mod mounts;
pub mod view;

pub use facts::{DirectoryFault, Facts, Fault, KubeletFact, RootFact, Space, WriteFault};
pub use judge::{Look, acceptable, judge};
pub use mounts::Mount;
