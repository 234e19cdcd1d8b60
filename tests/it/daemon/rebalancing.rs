//! Pods wait, and a machine goes to their group: by a commit, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::support::{carries, connection, label};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::state::State;

/// A pod of `web` that no machine of its group holds.
fn wait_for_a_machine(plane: &ControlPlane) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train"}, "spec": {
        "nodeSelector": {"org": "web"},
        "containers": [{"name": "c", "image": "c", "resources": {
            "requests": {"nvidia.com/gpu": "8"}, "limits": {"nvidia.com/gpu": "8"}}}]}});
    let path = "/api/v1/namespaces/default/pods";
    plane.request(Role::Admin, "POST", path, Some(("application/json", &pod))).accepted(path);
    let says = "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match node selector.";
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": says});
    let path = format!("{path}/train/status");
    let body = json!({"status": {"conditions": [condition]}});
    plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body))).accepted(&path);
}

#[test]
fn a_machine_follows_the_work_through_the_repository_or_not_at_all() {
    let plane = ControlPlane::start_named("rebalanced");
    plane.create_nodes(["reb-1", "reb-2"].map(|name| NodeSpec::new(name).gpus(8)));
    for node in ["reb-1", "reb-2"] {
        // The API server calls new nodes not ready, and here nobody else says better.
        let path = format!("/api/v1/nodes/{node}");
        let body = json!({"spec": {"taints": null}});
        plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body))).accepted(&path);
    }
    let state = State::new();
    state.cluster("prod", &connection(&plane, Role::Drover)).group("ads").group("web");
    state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  rebalance: {every: 1s, patience: 1s}\n");
    state.write(
        "state/fleet.yaml",
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  writeBack: {name: drover, email: drover@example.org}\n",
    );
    for node in ["reb-1", "reb-2"] {
        state.node("prod", node, "{group: ads, shareable: true}");
    }
    state.write(".gitignore", ".cache/\nfleet.git/\n").commit("two machines");
    state.git(&["clone", "--quiet", "--bare", ".", "fleet.git"]);
    let hook = state.path("fleet.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    fs::write(&hook, "#!/bin/sh\necho no; exit 1\n").expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is ours");

    let repository = state.path("fleet.git").display().to_string();
    let daemon = Daemon::start(state.root(), &["--repo", &repository, "--rev", "main"]);
    carries(&plane, "reb-1", "org", Some("ads"));
    wait_for_a_machine(&plane);
    let passes = |kind: &str| {
        let sample = format!("drover_rebalance_passes_total{{cluster=\"prod\",kind=\"{kind}\"}}");
        daemon.metric(&sample).unwrap_or_default()
    };
    soon("two passes fail", || passes("failed") >= 2.0);
    assert!(daemon.said().contains("no machine was moved: "), "{}", daemon.said());
    assert_eq!(label(&plane, "reb-1", "org").as_deref(), Some("ads"), "the remote refused, and nothing moved");
    assert_eq!(label(&plane, "reb-2", "org").as_deref(), Some("ads"));

    fs::remove_file(&hook).expect("a hook");
    carries(&plane, "reb-1", "org", Some("web"));
    assert_eq!(label(&plane, "reb-2", "org").as_deref(), Some("ads"));
    let message = state.git(&["--git-dir", "fleet.git", "log", "-1", "--format=%an%n%B", "main"]);
    for part in ["drover\nprod: move reb-1 from ads to web\n", "default/train", "Drover-Policy: demand"] {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
    assert_eq!(daemon.metric("drover_moves_total{cluster=\"prod\"}"), Some(1.0));
    soon("nothing more has to move", || passes("nothing") >= 1.0);
    assert_eq!(state.git(&["--git-dir", "fleet.git", "rev-list", "--count", "main"]), "2");
}
