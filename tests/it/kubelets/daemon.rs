//! The daemon changes binds beside its labels, when the state allows it.

use serde_json::json;

use super::support::{
    BIND, CLUSTERS, ID, KEY, asked, local, machines, makes_live, object, patch, rancher_state, record, rke_state,
    set_worker, spec, stand_in, status, worker,
};
use crate::support::control_plane::ControlPlane;
use crate::support::daemon::{Daemon, soon};
use crate::support::git_daemon::GitDaemon;
use crate::support::pulls::Pulls;
use crate::support::state::State;

const ALLOW: &str =
    "  allow:\n    - {guard: kubelet-restart, until: 2099-01-01, owner: ops@example.org, reason: new storage}\n";

fn run(state: &State, more: &[&str]) -> Daemon {
    let repository = state.root().display().to_string();
    let all: Vec<&str> = ["--repo", &repository, "--rev", "main"].iter().chain(more).copied().collect();
    Daemon::start(state.root(), &all)
}

fn has_label(plane: &ControlPlane, node: &str, key: &str) -> bool {
    plane.get(&format!("/api/v1/nodes/{node}"))["metadata"]["labels"][key] == "true"
}

#[test]
fn labels_go_on_while_rancher_is_followed_and_nothing_restarts_unasked() {
    let plane = ControlPlane::start_named("run");
    machines(&plane);
    let rancher = ControlPlane::start_named("run-local");
    local(&rancher, &spec(&["/x:/x"]), &status(&["/x:/x"]));
    worker(&rancher, "w-1");
    let state = rancher_state(&plane, &rancher, "");
    state.node("prod", "w-1", "{workloads: [train]}").commit("prod");
    let daemon = run(&state, &[]);
    soon("the label is set", || has_label(&plane, "w-1", "train"));
    daemon
        .comes_to("the guard holds", |status| status["clusters"]["prod"]["refusals"][0]["guard"] == "kubelet-restart");
    assert_eq!(asked(&rancher), ["/x:/x"], "nobody allowed it");

    let text = state.read("state/clusters/prod.yaml") + ALLOW;
    state.write("state/clusters/prod.yaml", text).commit("allow it");
    soon("Rancher is asked", || asked(&rancher) == ["/x:/x", BIND]);
    // Rancher takes its time, and labels do not wait for it.
    state.node("prod", "w-2", "{workloads: [notebook]}").commit("w-2");
    soon("the other label is set", || has_label(&plane, "w-2", "notebook"));
    let path = format!("{CLUSTERS}/{ID}");
    patch(&rancher, &path, &json!({"status": {"appliedSpec": spec(&["/x:/x", BIND]), "nodeVersion": 2}}));
    set_worker(&rancher, "w-1", &["/x:/x", BIND], 2, 2);
    daemon.comes_to("the binds are right", |status| status["clusters"]["prod"]["kubelet"].is_null());
    assert_eq!(object(&rancher)["spec"], spec(&["/x:/x", BIND]));
    let status = daemon.status().to_string();
    let (_, page) = daemon.get("/");
    let ran = daemon.stop();
    assert!(ran.err.contains("binds changed"), "{}", ran.err);
    for text in [&ran.out, &ran.err, &status, &page] {
        assert!(!text.contains(KEY), "{text}");
    }
}

#[test]
fn a_cluster_yml_is_committed_and_rke_runs_once_that_is_in_force() {
    let plane = ControlPlane::start_named("run-rke");
    machines(&plane);
    record(&plane, &["/x:/x"]);
    let state = rke_state(&plane);
    let text = state.read("state/clusters/prod.yaml") + ALLOW;
    state.write("state/clusters/prod.yaml", text);
    state.write("state/fleet.yaml", "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: fleet}\nspec:\n  writeBack: {name: drover, email: drover@example.org, mode: push}\n");
    state.commit("prod");
    // The branch that is followed is not checked out: drover's commit must find nobody in its way.
    state.git(&["checkout", "--quiet", "-b", "elsewhere"]);
    let script = stand_in(&state, &makes_live(&state, &plane, &["/x:/x", BIND])).display().to_string();
    state.write("rke/prod/cluster.rkestate", "{}");
    let folder = state.path("rke").display().to_string();
    let daemon = run(&state, &["--rke", &script, "--rke-folder", &folder]);
    daemon.comes_to("the binds are right", |status| {
        let prod = &status["clusters"]["prod"];
        prod["kubelet"].is_null() && prod["kubeletOutcome"].as_str().is_some_and(|told| told.contains("up"))
    });
    assert_eq!(state.read("rke.log").lines().count(), 1, "it runs once");
    let log = state.git(&["log", "-1", "--format=%s", "main"]);
    assert_eq!(log, format!("prod: bind {BIND} into the kubelets"));
    let ran = daemon.stop();
    assert!(ran.err.contains("kubelets: INFO building the cluster") && !ran.err.contains(KEY), "{}", ran.err);
}

#[test]
fn a_cluster_yml_is_proposed_once_and_rke_runs_when_somebody_has_merged_it() {
    let plane = ControlPlane::start_named("run-proposed");
    machines(&plane);
    record(&plane, &["/x:/x"]);
    let state = rke_state(&plane);
    let text = state.read("state/clusters/prod.yaml") + ALLOW;
    state.write("state/clusters/prod.yaml", text);
    let (api, pulls) = Pulls::serve("t0ken");
    let token = state.write(".cache/token", "t0ken").path(".cache/token");
    state.write("state/fleet.yaml", format!("apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {{name: fleet}}\nspec:\n  writeBack:\n    name: drover\n    email: drover@example.org\n    mode: pull-request\n    server: {{type: github, api: '{api}', tokenFile: {}}}\n", token.display()));
    state.commit("prod");
    let served = tempfile::tempdir().expect("a temporary folder");
    let bare = served.path().join("open/fleet.git").display().to_string();
    state.git(&["clone", "--quiet", "--bare", ".", &bare]);
    let server = GitDaemon::start(served.path());
    let on_server = |arguments: &[&str]| state.git(&[&["--git-dir", &bare], arguments].concat());
    let before = on_server(&["rev-parse", "main"]);

    let script = stand_in(&state, &makes_live(&state, &plane, &["/x:/x", BIND])).display().to_string();
    state.write("rke/prod/cluster.rkestate", "{}");
    let (folder, url) = (state.path("rke").display().to_string(), server.url("open/fleet.git"));
    let all = ["--repo", &url, "--rev", "main", "--poll", "1s", "--rke", &script, "--rke-folder", &folder];
    let proposed = |daemon: &Daemon| {
        daemon.comes_to("it waits for its proposal", |status| {
            let told = status["clusters"]["prod"]["kubeletOutcome"].as_str().unwrap_or_default();
            told.ends_with("merge the branch drover/prod: https://git.example.org/pulls/1")
        });
    };
    let daemon = Daemon::start(state.root(), &all);
    proposed(&daemon);
    assert_eq!(on_server(&["rev-parse", "main"]), before, "the branch that is followed stays");
    assert_eq!(on_server(&["log", "--format=%s", "main..drover/prod"]), format!("prod: bind {BIND} into the kubelets"));
    // Another one takes over, and knows it for its own.
    daemon.signal("KILL");
    daemon.end();
    let daemon = Daemon::start(state.root(), &all);
    proposed(&daemon);
    assert!(!state.path("rke.log").exists(), "nobody merged it");
    {
        let pulls = pulls.lock().expect("nobody panics with it");
        assert_eq!((pulls.open.len(), &pulls.open[0]["head"]["ref"]), (1, &json!("drover/prod")));
    }
    // Squashed, so that the branch never becomes a part of what is followed.
    let squashed = on_server(&["commit-tree", "drover/prod^{tree}", "-p", "main", "-m", "new storage (#1)"]);
    on_server(&["update-ref", "refs/heads/main", &squashed]);
    daemon.comes_to("the binds are right", |status| status["clusters"]["prod"]["kubelet"].is_null());
    assert_eq!(state.read("rke.log").lines().count(), 1, "it runs once");
    assert_eq!(pulls.lock().expect("nobody panics with it").open.len(), 1, "what was merged is not proposed again");
    let ran = daemon.stop();
    assert!(!ran.err.contains(KEY) && !ran.err.contains("t0ken"), "{}", ran.err);
}
