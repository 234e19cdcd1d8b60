//! Rancher: one list of one object, changed while Rancher works on it, and followed to the end.

use std::thread;

use serde_json::json;

use super::support::{
    BIND, CLUSTERS, ID, asked, clean, local, machines, object, patch, rancher_state, set_worker, spec, status, worker,
};
use crate::support::control_plane::{ControlPlane, Role};
use crate::support::daemon::soon;
use crate::support::pod::{in_a_pod, write_account};
use crate::support::run::{self, Ran};
use crate::support::state::State;

fn apply(state: &State, more: &[&str], code: i32) -> Ran {
    let all: Vec<&str> = ["apply", "--yes", "--allow", "kubelet-restart"].iter().chain(more).copied().collect();
    clean(state.drover(&all).expect(code))
}

fn condition(kind: &str, status: &str, message: &str) -> serde_json::Value {
    json!({"type": kind, "status": status, "message": message, "lastUpdateTime": "2026-02-02T00:00:00Z"})
}

/// Plays Rancher's controller from the moment that another list is asked for.
fn play_rancher(plane: &ControlPlane) {
    let path = format!("{CLUSTERS}/{ID}");
    soon("another list is asked for", || asked(plane).iter().any(|bind| bind == BIND));
    let binds = asked(plane);
    let binds: Vec<&str> = binds.iter().map(String::as_str).collect();
    patch(plane, &path, &json!({"status": {"conditions": [condition("Updated", "Unknown", "updating")]}}));
    patch(
        plane,
        &path,
        &json!({"status": {"appliedSpec": spec(&binds), "nodeVersion": 2, "conditions": [condition("Updated", "True", ""), condition("Upgraded", "Unknown", "upgrading 1 of 2")]}}),
    );
    set_worker(plane, "w-1", &binds, 2, 1);
    thread::sleep(std::time::Duration::from_secs(3));
    set_worker(plane, "w-1", &binds, 2, 2);
    patch(
        plane,
        &path,
        &json!({"status": {"conditions": [condition("Updated", "True", ""), condition("Upgraded", "True", "")]}}),
    );
    thread::sleep(std::time::Duration::from_secs(3));
    set_worker(plane, "w-2", &binds, 2, 2);
}

fn two(name: &str) -> (ControlPlane, ControlPlane) {
    let plane = ControlPlane::start_named(name);
    machines(&plane);
    (plane, ControlPlane::start_named(&format!("{name}-local")))
}

#[test]
fn a_bind_is_asked_for_and_followed_until_every_worker_has_it() {
    let (plane, rancher) = two("asked");
    local(&rancher, &spec(&["/x:/x"]), &status(&["/x:/x"]));
    ["w-1", "w-2"].iter().for_each(|name| worker(&rancher, name));
    let state = rancher_state(&plane, &rancher, "");
    let plan = clean(state.drover(&["plan"]).expect(3));
    assert!(plan.out.contains("kubelet binds (rancher)") && plan.out.contains(BIND), "{}", plan.out);

    let before = object(&rancher);
    thread::scope(|scope| {
        scope.spawn(|| play_rancher(&rancher));
        let ran = apply(&state, &[], 0);
        assert!(ran.out.contains("kubelet binds are as they must be"), "{}", ran.out);
        for said in ["prod: Rancher is asked for the binds", "upgrading 1 of 2", "w-2 is not planned yet"] {
            assert!(ran.err.contains(said), "{said:?} in {}", ran.err);
        }
    });
    let mut after = object(&rancher);
    assert_eq!(asked(&rancher), ["/x:/x", BIND]);
    after["spec"]["rancherKubernetesEngineConfig"]["services"]["kubelet"]["extraBinds"] = json!(["/x:/x"]);
    assert_eq!(after["spec"], before["spec"], "that list and nothing else");
    assert_eq!(after["status"]["serviceAccountToken"], before["status"]["serviceAccountToken"], "status survives");
    clean(state.drover(&["plan", "--detailed-exitcode"]).expect(0));
}

/// drover runs beside Rancher, as its documents advise: what it reaches by its service account is Rancher's cluster.
#[test]
fn beside_rancher_the_service_account_is_enough() {
    let (plane, rancher) = two("beside");
    local(&rancher, &spec(&["/x:/x"]), &status(&["/x:/x"]));
    ["w-1", "w-2"].iter().for_each(|name| worker(&rancher, name));
    let state = rancher_state(&plane, &rancher, "");
    let kubeconfig = format!("kubeconfig: {}", rancher.kubeconfig(Role::Drover).display());
    state.edit("state/clusters/prod.yaml", &kubeconfig, "inCluster: true");
    let account = state.path(".cache/account");
    let token = rancher.service_account("drover");
    write_account(&rancher, &account, &token);
    let Some(mut pod) = in_a_pod(&rancher, state.root(), &account) else { return };
    let plan = clean(run::finish(pod.arg("plan")).expect(3));
    assert!(plan.out.contains("kubelet binds (rancher)") && plan.out.contains(BIND), "{}", plan.out);
    assert!(!plan.out.contains(&token) && !plan.err.contains(&token));
    let outside = clean(state.drover(&["plan"]).expect(1));
    assert!(outside.out.contains("drover does not run inside a cluster"), "{}", outside.out);
    thread::scope(|scope| {
        scope.spawn(|| play_rancher(&rancher));
        let mut pod = in_a_pod(&rancher, state.root(), &account).expect("as before");
        let ran = clean(run::finish(pod.args(["apply", "--yes", "--allow", "kubelet-restart"])).expect(0));
        assert!(ran.out.contains("kubelet binds are as they must be"), "{}", ran.out);
    });
    assert_eq!(asked(&rancher), ["/x:/x", BIND]);
}

#[test]
fn failures_timeouts_templates_and_other_people_are_told() {
    let (plane, rancher) = two("failed");
    local(&rancher, &spec(&["/x:/x"]), &status(&["/x:/x"]));
    worker(&rancher, "w-1");
    let state = rancher_state(&plane, &rancher, "    timeout: 4s\n");
    let path = format!("{CLUSTERS}/{ID}");

    // Somebody else was faster than a saved plan.
    state.drover(&["plan", "--allow", "kubelet-restart", "--out", "plan.json"]).expect(0);
    patch(&rancher, &path, &json!({"spec": spec(&["/x:/x", "/z:/z"])}));
    let ran = apply(&state, &["plan.json"], 1);
    assert!(ran.out.contains("kubelet binds are stale, left alone") && ran.out.contains("/z:/z"), "{}", ran.out);
    assert_eq!(asked(&rancher), ["/x:/x", "/z:/z"]);

    // Nobody plays Rancher: what is open is told when the time is over.
    let ran = apply(&state, &[], 1);
    assert!(ran.out.contains("not done within 4 s: Rancher has not applied it yet"), "{}", ran.out);
    assert_eq!(asked(&rancher), ["/x:/x", "/z:/z", BIND], "appended");

    // Rancher is at work, and has failed before.
    let failed = json!({"failedSpec": spec(&["/x:/x", "/z:/z", BIND]), "conditions": [condition("Updated", "False", "no such host")]});
    patch(&rancher, &path, &json!({"status": failed}));
    let plan = clean(state.drover(&["plan"]).expect(0));
    for said in ["Updated is false: no such host", "failedSpec", "has not applied the binds"] {
        assert!(plan.out.contains(said), "{said:?} in {}", plan.out);
    }

    // The same happens while it is followed.
    patch(
        &rancher,
        &path,
        &json!({"spec": spec(&["/x:/x"]), "status": {"failedSpec": null, "conditions": [condition("Updated", "True", "")]}}),
    );
    state.edit("state/clusters/prod.yaml", "timeout: 4s", "timeout: 60s");
    thread::scope(|scope| {
        scope.spawn(|| {
            soon("it is asked for", || asked(&rancher).len() == 2);
            let failed = json!({"failedSpec": spec(&["/x:/x", BIND]), "conditions": [condition("Provisioned", "False", "cannot ssh to w-1")]});
            patch(&rancher, &path, &json!({"status": failed}));
        });
        let ran = apply(&state, &[], 1);
        assert!(
            ran.out.contains("kubelet binds failed: Rancher says that Provisioned is false: cannot ssh to w-1"),
            "{}",
            ran.out
        );
    });

    let templated = json!({"spec": {"clusterTemplateRevisionName": "cattle-global-data:ctr-9"}, "status": {"failedSpec": null, "conditions": []}});
    patch(&rancher, &path, &templated);
    patch(&rancher, &path, &json!({"spec": spec(&["/x:/x"])}));
    let ran = apply(&state, &[], 1);
    assert!(ran.out.contains("kubelet binds not done") && ran.out.contains("ctr-9"), "{}", ran.out);
    assert_eq!(asked(&rancher), ["/x:/x"]);
}

#[test]
fn a_rancher_that_is_away_keeps_no_label_waiting() {
    let (plane, rancher) = two("away");
    local(&rancher, &spec(&["/x:/x"]), &status(&["/x:/x"]));
    let state = rancher_state(&plane, &rancher, "");
    state.node("prod", "w-1", "{workloads: [train]}");
    rancher.stop_api_server();
    let ran = clean(state.drover(&["apply", "--yes"]).expect(1));
    assert!(ran.out.contains("the binds are not known: Rancher: cannot be reached"), "{}", ran.out);
    assert!(ran.out.contains("applied 1 label on 1 node"), "{}", ran.out);
    rancher.start_api_server();
    rancher.kubectl(["delete", "clusterrole", "drover-rancher"]);
    soon("the right is gone", || {
        let path = format!("{CLUSTERS}/{ID}");
        rancher.request(Role::Drover, "GET", &path, None).status == 403
    });
    let ran = clean(state.drover(&["plan"]).expect(1));
    assert!(ran.out.contains("drover may not get clusters.management.cattle.io there"), "{}", ran.out);
    assert!(ran.out.contains("deploy/rancher-rbac.yaml"), "{}", ran.out);
}
