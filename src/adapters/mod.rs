//! The only places that touch files, git, clusters and webhooks.

#![allow(clippy::disallowed_methods, reason = "this is where the world outside is read and changed")]

pub mod backoff;
pub mod clock;
pub mod dump;
pub mod files;
pub mod folder;
pub mod git;
pub mod host;
pub mod kube;
pub mod kubelet;
pub mod node_images;
pub mod notify;
pub mod objects;
pub mod proposals;
pub mod storage_objects;
pub mod web_client;
