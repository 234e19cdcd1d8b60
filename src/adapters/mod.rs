//! The only places that touch files, git and clusters.

pub mod dump;
pub mod files;
pub mod git;
pub mod kube;
pub mod objects;
