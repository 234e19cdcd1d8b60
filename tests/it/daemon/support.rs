//! What the daemon's tests share.

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, MERGE_PATCH, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::state::State;

/// The connection of a Cluster document.
pub(super) fn connection(plane: &ControlPlane, role: Role) -> String {
    format!("{{kubeconfig: {}}}", plane.kubeconfig(role).display())
}

/// A label of a node; none where it has no such label.
pub(super) fn label(plane: &ControlPlane, node: &str, key: &str) -> Option<String> {
    let node = plane.get(&format!("/api/v1/nodes/{node}"));
    node["metadata"]["labels"][key].as_str().map(str::to_owned)
}

/// Waits until a node carries a label with this value; none for no such label.
pub(super) fn carries(plane: &ControlPlane, node: &str, key: &str, value: Option<&str>) {
    soon(&format!("{node} carries {key}={value:?}"), || label(plane, node, key).as_deref() == value);
}

/// Sets a label as a person with kubectl would; null removes it.
pub(super) fn tamper(plane: &ControlPlane, node: &str, key: &str, value: &Value) {
    let body = json!({ "metadata": { "labels": { key: value } } });
    let path = format!("/api/v1/nodes/{node}?fieldManager=kubectl-label");
    plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body))).accepted(&path);
}

/// Waits until the daemon says of a cluster, and of no other one, that it cannot be followed; it is worth keeping.
pub(super) fn is_trouble_of(daemon: &Daemon, cluster: &str) {
    soon(&format!("trouble of {cluster}"), || {
        let (code, checks) = daemon.get("/readyz");
        let failing: Vec<&str> = checks.lines().filter(|line| line.starts_with("[-]")).collect();
        let failures = &daemon.status()["clusters"][cluster]["failures"];
        code == 503
            && failing.len() == 1
            && failing[0].contains(&format!(" cluster {cluster}: "))
            && failures.as_object().is_some_and(|failures| !failures.is_empty())
            && daemon.metric("drover_ready") == Some(0.0)
    });
    assert_eq!(daemon.get("/healthz").0, 200);
}

/// Who holds drover's Lease: nobody where it is empty, none where there is no Lease.
pub(super) fn lease_holder(plane: &ControlPlane) -> Option<String> {
    let leases = plane.get("/apis/coordination.k8s.io/v1/namespaces/drover/leases");
    leases["items"][0]["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

/// The memory that a daemon has in use, in kB.
pub(super) fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A state under git, followed by daemons through its repository.
pub(super) struct Followed {
    pub(super) state: State,
}

impl Followed {
    /// A cluster `prod` that is reached as drover, committed.
    pub(super) fn of(plane: &ControlPlane) -> Self {
        let state = State::new();
        state.cluster("prod", &connection(plane, Role::Drover)).group("ads").group("rec");
        Self { state }
    }

    /// A daemon that follows the branch `main`.
    pub(super) fn run(&self, arguments: &[&str]) -> Daemon {
        let repository = self.state.root().display().to_string();
        let all: Vec<&str> =
            ["--repo", &repository, "--rev", "main"].into_iter().chain(arguments.iter().copied()).collect();
        Daemon::start(self.state.root(), &all)
    }
}
