//! The agent on real machines: namespaces with mounts, kubelets and a GlusterFS volume of their own, and real API servers.

mod cluster;
mod deploy;
mod hostile;
mod kubelet;
mod once;
mod trouble;
mod whole;

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;

/// One API server for all tests that leave it alone: each has nodes of its own.
fn shared() -> &'static ControlPlane {
    static PLANE: OnceLock<ControlPlane> = OnceLock::new();
    PLANE.get_or_init(|| ControlPlane::start_named("agents"))
}

/// A spec for a root, with more fields.
fn spec(root: &str, more: Value) -> Value {
    let mut spec = json!({"root": root, "fileSystems": ["tmpfs", "fuse.glusterfs"], "timeoutSeconds": 10});
    spec.as_object_mut().expect("a mapping").extend(more.as_object().expect("a mapping").clone());
    spec
}

/// The reason and the message of a report.
fn why(report: &Value) -> (&str, &str) {
    let text = |name: &str| report[name].as_str().unwrap_or_default();
    (text("reason"), text("message"))
}
