//! Pods wait, and a machine goes to their group: by a commit, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::support::{carries, connection, label};
use crate::notices::receiver::{OK, Receiver};
use crate::schemas::{errors, validator};
use crate::support::control_plane::{ControlPlane, JSON, MERGE_PATCH, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::state::State;

const SHORT: &str = "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match node selector.";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod of `web` that waits, and what the scheduler says of it.
fn wait(plane: &ControlPlane, name: &str, gpus: u32, says: &str) {
    let gpus = gpus.to_string();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeSelector": {"org": "web"},
        "containers": [{"name": "c", "image": "c", "resources": {
            "requests": {"nvidia.com/gpu": gpus}, "limits": {"nvidia.com/gpu": gpus}}}]}});
    plane.request(Role::Admin, "POST", PODS, Some((JSON, &pod))).accepted(PODS);
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": says});
    let path = format!("{PODS}/{name}/status");
    let body = json!({"status": {"conditions": [condition]}});
    plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body))).accepted(&path);
}

/// Two GPU machines of `ads`, and a state on a server that lets them move.
fn fleet(plane: &ControlPlane, nodes: [&str; 2], rebalance: &str, fleet: &str) -> State {
    plane.create_nodes(nodes.map(|name| NodeSpec::new(name).gpus(8)));
    for node in nodes {
        // The API server calls new nodes not ready, and here nobody else says better.
        let path = format!("/api/v1/nodes/{node}");
        let body = json!({"spec": {"taints": null}});
        plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body))).accepted(&path);
    }
    let state = State::new();
    state.cluster("prod", &connection(plane, Role::Drover)).group("ads").group("web");
    state.edit("state/clusters/prod.yaml", "spec:\n", &format!("spec:\n  rebalance: {rebalance}\n"));
    state.write(
        "state/fleet.yaml",
        format!("apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  writeBack: {{name: drover, email: drover@example.org}}\n{fleet}"),
    );
    for node in nodes {
        state.node("prod", node, "{group: ads, shareable: true}");
    }
    state.write(".gitignore", ".cache/\nfleet.git/\n*.url\n").commit("two machines");
    state.git(&["clone", "--quiet", "--bare", ".", "fleet.git"]);
    state
}

fn run(state: &State) -> Daemon {
    let repository = state.path("fleet.git").display().to_string();
    Daemon::start(state.root(), &["--repo", &repository, "--rev", "main"])
}

#[test]
fn a_machine_follows_the_work_through_the_repository_or_not_at_all() {
    let plane = ControlPlane::start_named("rebalanced");
    let state = fleet(&plane, ["reb-1", "reb-2"], "{every: 1s, patience: 1s}", "");
    let hook = state.path("fleet.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    fs::write(&hook, "#!/bin/sh\necho no; exit 1\n").expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is ours");

    let daemon = run(&state);
    carries(&plane, "reb-1", "org", Some("ads"));
    wait(&plane, "train", 8, SHORT);
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

#[test]
fn people_are_told_of_moves_and_of_pods_that_no_machine_helps() {
    let plane = ControlPlane::start_named("moves-told");
    let receiver = Receiver::start(|_| OK);
    let urls = tempfile::tempdir().expect("a folder");
    let url = urls.path().join("generic.url");
    fs::write(&url, &receiver.url).expect("a file");
    let notifications = format!("  notifications: [{{type: generic, urlFile: {}}}]\n", url.display());
    let state = fleet(&plane, ["reb-3", "reb-4"], "{every: 1s, patience: 1s, pendingAfter: 1s}", &notifications);
    let daemon = run(&state);
    carries(&plane, "reb-3", "org", Some("ads"));
    let told = |kind: &str, resolved: bool, about: &str| {
        let is_it = |notice: &Value| {
            notice["kind"] == kind && notice["resolved"] == resolved && notice.to_string().contains(about)
        };
        soon(&format!("told: {kind} {resolved} {about}"), || receiver.got().iter().any(|got| is_it(&got.json())));
        receiver.got().iter().map(|got| got.json()).find(is_it).expect("it came")
    };

    // One pod lacks a machine, one waits for its volume, and one asks for more than any machine has.
    wait(&plane, "train", 8, SHORT);
    let notice = told("move-made", false, "reb-3");
    assert_eq!(notice["title"], "prod: move reb-3 from ads to web");
    assert!(notice["lines"][0].as_str().is_some_and(|line| line.contains("default/train")), "{notice}");
    wait(&plane, "stuck", 1, "0/2 nodes are available: 2 node(s) had volume node affinity conflict.");
    let notice = told("pods-pending", false, "default/stuck");
    assert!(notice["lines"][0].as_str().is_some_and(|line| line.contains("volume node affinity conflict")), "{notice}");
    plane.kubectl(["delete", "pod", "train", "--grace-period=0", "--force"]);
    wait(&plane, "big", 16, SHORT);
    let notice = told("no-move", false, "default/big");
    assert!(notice["lines"].to_string().contains("do not fit by labels, taints or size"), "{notice}");
    let waits = |kind: &str| daemon.metric(&format!("drover_waiting{{cluster=\"prod\",kind=\"{kind}\"}}"));
    assert_eq!((waits("resources"), waits("otherwise")), (Some(1.0), Some(1.0)));

    plane.kubectl(["delete", "pod", "stuck", "big", "--grace-period=0", "--force"]);
    told("pods-pending", true, "default/stuck");
    told("no-move", true, "web");
    soon("nothing waits", || waits("resources") == Some(0.0) && waits("otherwise") == Some(0.0));
    let schema = validator("notice");
    for message in receiver.got() {
        assert_eq!(errors(&schema, &message.json()), [] as [String; 0]);
    }
}
