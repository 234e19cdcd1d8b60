//! What an agent hears from its cluster, and tells it.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::{shared, spec, why};
use crate::support::control_plane::{ControlPlane, JSON, MERGE_PATCH, NodeSpec, Role, eventually};
use crate::support::machine::Machine;

const LIMIT: Duration = Duration::from_secs(60);
const OBJECTS: &str = "/apis/drover.dev/v1/nodestorages";

/// Asks for the storage of a machine, as drover does, and returns the generation.
pub(super) fn ask(plane: &ControlPlane, node: &str, spec: &Value) -> Value {
    let object =
        json!({"apiVersion": "drover.dev/v1", "kind": "NodeStorage", "metadata": {"name": node}, "spec": spec});
    let mut reply = plane.request(Role::Drover, "POST", OBJECTS, Some((JSON, &object)));
    if reply.status == 409 {
        let change = json!([{"op": "add", "path": "/spec", "value": spec}]);
        let body = Some(("application/json-patch+json", &change));
        reply = plane.request(Role::Drover, "PATCH", &format!("{OBJECTS}/{node}"), body);
    }
    reply.accepted("ask").json()["metadata"]["generation"].clone()
}

/// The report of a machine, once it is as it should be.
pub(super) fn reported(plane: &ControlPlane, node: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("the report of {node}"), LIMIT, || {
        let status = plane.get(&format!("{OBJECTS}/{node}"))["status"].clone();
        if is(&status) { Ok(status) } else { Err(status.to_string()) }
    })
}

pub(super) fn conditions(plane: &ControlPlane, node: &str) -> Vec<Value> {
    let node = plane.get(&format!("/api/v1/nodes/{node}"));
    node["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

/// The condition StorageReady of a node, once it is there and says what the report does.
pub(super) fn condition(plane: &ControlPlane, node: &str) -> Value {
    eventually(&format!("the condition of {node}"), LIMIT, || {
        let report = plane.get(&format!("{OBJECTS}/{node}"))["status"].clone();
        let found = conditions(plane, node).into_iter().find(|condition| condition["type"] == "StorageReady");
        let found = found.ok_or_else(|| "there is none".to_owned())?;
        if found["reason"] == report["reason"] { Ok(found) } else { Err(format!("{found} {report}")) }
    })
}

fn machine_with_volume() -> Option<Machine> {
    let machine = Machine::start()?;
    machine.sh("mkdir $F/data; mount -t tmpfs volume $F/data");
    Some(machine)
}

#[test]
fn from_spec_to_status_and_condition() {
    let Some(machine) = machine_with_volume() else { return };
    let (plane, node) = (shared(), "whole-1");
    plane.create_nodes([NodeSpec::new(node)]);
    let before = conditions(plane, node);
    let agent = machine.agent(plane, node, &["--interval", "1h", "--heartbeat", "2h"]);
    agent.says("no storage is asked for on this machine");
    assert_eq!(conditions(plane, node), before, "nothing is said where nothing is asked");

    let spec = |directory: &str| spec(&machine.text("data"), json!({"directories": {directory: {}}}));
    let generation = ask(plane, node, &spec("a"));
    let report = reported(plane, node, |report| report["observedGeneration"] == generation);
    assert_eq!((&report["verdict"], why(&report).0), (&json!("Verified"), "StorageVerified"), "{report}");
    assert_eq!(report["agent"], env!("CARGO_PKG_VERSION"));
    assert!(report["bootId"].as_str().is_some_and(|boot| boot.len() == 36), "{report}");
    let ready = condition(plane, node);
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("StorageVerified")));
    assert_eq!(ready["message"], report["message"]);
    assert!(ready["lastTransitionTime"].is_string() && ready["lastHeartbeatTime"].is_string(), "{ready}");
    let others: Vec<_> = conditions(plane, node).into_iter().filter(|c| c["type"] != "StorageReady").collect();
    assert_eq!(others, before, "other conditions are left alone");

    // What is asked changes: the verdict stays, and so does its time.
    sleep(Duration::from_millis(1100));
    let generation = ask(plane, node, &spec("b"));
    let again = reported(plane, node, |report| report["observedGeneration"] == generation);
    assert_eq!(again["since"], report["since"]);
    assert_eq!(machine.sh("ls $F/data"), "a\nb\n", "what was made once stays");
    machine.sh("rmdir $F/data/b; touch $F/data/b");
    let generation = ask(
        plane,
        node,
        &json!({"root": machine.text("data"), "fileSystems": ["tmpfs"], "timeoutSeconds": 5, "directories": {"b": {}}}),
    );
    let failed = reported(plane, node, |report| report["observedGeneration"] == generation);
    assert_eq!(failed["directories"], json!({"b": "is no directory"}), "{failed}");
    let not_ready = condition(plane, node);
    assert_eq!(not_ready["status"], "False");
    assert_ne!(not_ready["lastTransitionTime"], ready["lastTransitionTime"]);
    // What a report does not tell any more is gone from it.
    machine.sh("rm $F/data/b");
    ask(plane, node, &spec("b"));
    let mended = reported(plane, node, |report| report["verdict"] == "Verified");
    assert_eq!(mended.get("directories"), None, "{mended}");

    // It looks once an hour: the kernel's list tells it of a mount that goes and comes.
    machine.sh("umount $F/data");
    reported(plane, node, |report| report["verdict"] == "Failed");
    machine.sh("mount -t tmpfs volume $F/data; mkdir $F/data/a");
    reported(plane, node, |report| report["verdict"] == "Verified");

    // Nobody asks any more: nothing is known.
    plane.request(Role::Admin, "DELETE", &format!("{OBJECTS}/{node}"), None).accepted("delete");
    eventually("the condition is gone", LIMIT, || {
        let now = conditions(plane, node);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    // Another object of the same name and generation is another one.
    ask(plane, node, &spec("c"));
    reported(plane, node, |report| report["verdict"] == "Verified");
    assert_eq!(machine.sh("ls $F/data"), "a\nb\nc\n");
    Machine::signal(&agent, "TERM");
    let ran = agent.end().expect(0);
    assert!(ran.err.contains("the agent has ended"), "{}", ran.err);
}

#[test]
fn heartbeats_tell_of_fresh_looks_and_write_nothing_else() {
    let Some(machine) = machine_with_volume() else { return };
    let (plane, node) = (shared(), "beat-1");
    plane.create_nodes([NodeSpec::new(node)]);
    ask(plane, node, &spec(&machine.text("data"), json!({})));
    let _agent = machine.agent(plane, node, &["--interval", "1s", "--heartbeat", "4s"]);
    let report = reported(plane, node, |report| report["verdict"] == "Verified");
    condition(plane, node);
    let version = |path: &str| plane.get(path)["metadata"]["resourceVersion"].clone();
    let node_before = version(&format!("/api/v1/nodes/{node}"));
    let (mut told, mut last) = (Vec::new(), report["checked"].clone());
    eventually("three heartbeats", LIMIT, || {
        let report = plane.get(&format!("{OBJECTS}/{node}"))["status"].clone();
        if report["checked"] != last {
            last = report["checked"].clone();
            told.push(std::time::Instant::now());
        }
        if told.len() >= 4 { Ok(()) } else { Err(format!("{}", told.len())) }
    });
    for pair in told.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(
            (Duration::from_millis(2800)..Duration::from_millis(5500)).contains(&apart),
            "{apart:?}: looks are no news"
        );
    }
    assert_eq!(version(&format!("/api/v1/nodes/{node}")), node_before, "a heartbeat does not touch the Node");
    // A condition that was lost comes back with the next one.
    let lost = json!({"status": {"conditions": [{"type": "StorageReady", "$patch": "delete"}]}});
    let path = format!("/api/v1/nodes/{node}/status");
    plane
        .request(Role::Admin, "PATCH", &path, Some(("application/strategic-merge-patch+json", &lost)))
        .accepted("patch");
    condition(plane, node);
}

#[test]
fn an_agent_that_was_killed_goes_on_where_it_was() {
    let Some(machine) = machine_with_volume() else { return };
    let (plane, node) = (shared(), "killed-1");
    plane.create_nodes([NodeSpec::new(node)]);
    ask(plane, node, &spec(&machine.text("data"), json!({})));
    let agent = machine.agent(plane, node, &["--interval", "1h"]);
    let first = reported(plane, node, |report| report["verdict"] == "Verified");
    let before = condition(plane, node);
    Machine::signal(&agent, "KILL");
    drop(agent);
    sleep(Duration::from_millis(1100));
    let agent = machine.agent(plane, node, &["--interval", "1h"]);
    let again = reported(plane, node, |report| report["checked"] != first["checked"]);
    assert_eq!(again["since"], first["since"], "the verdict stands since then");
    assert_eq!(condition(plane, node)["lastTransitionTime"], before["lastTransitionTime"]);
    // The machine changed while nobody looked.
    Machine::signal(&agent, "KILL");
    drop(agent);
    machine.sh("umount $F/data");
    let _agent = machine.agent(plane, node, &["--interval", "1h"]);
    let failed = reported(plane, node, |report| report["verdict"] == "Failed");
    assert_ne!(failed["since"], first["since"]);
}

#[test]
fn an_api_server_that_goes_away_is_waited_for() {
    let Some(machine) = machine_with_volume() else { return };
    let (plane, node) = (ControlPlane::start_named("away"), "away-1");
    plane.create_nodes([NodeSpec::new(node)]);
    ask(&plane, node, &spec(&machine.text("data"), json!({})));
    let mut agent = machine.agent(&plane, node, &["--interval", "1s", "--heartbeat", "1m"]);
    reported(&plane, node, |report| report["verdict"] == "Verified");
    plane.stop_api_server();
    machine.sh("umount $F/data");
    agent.says("NotMounted");
    sleep(Duration::from_secs(3));
    assert!(agent.is_running());
    plane.start_api_server();
    reported(&plane, node, |report| report["reason"] == "NotMounted");
    assert_eq!(condition(&plane, node)["status"], "False");
    // It hangs, and the agent goes on looking.
    plane.pause_api_server();
    machine.sh("mount -t tmpfs volume $F/data");
    sleep(Duration::from_secs(3));
    plane.resume_api_server();
    reported(&plane, node, |report| report["verdict"] == "Verified");
    // What was asked meanwhile is heard, too.
    plane.stop_api_server();
    plane.start_api_server();
    let generation = ask(&plane, node, &spec(&machine.text("data"), json!({"directories": {"later": {}}})));
    reported(&plane, node, |report| report["observedGeneration"] == generation);
    assert_eq!(machine.sh("ls $F/data"), "later\n");
}

#[test]
fn an_agent_may_do_what_it_must_and_nothing_else() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("rights-1")]);
    ask(plane, "rights-1", &spec("/data", json!({})));
    let object = format!("{OBJECTS}/rights-1");
    let (merge, strategic) = (MERGE_PATCH, "application/strategic-merge-patch+json");
    let may = |method: &str, path: &str, body: Option<(&str, Value)>| {
        let body = body.as_ref().map(|(kind, value)| (*kind, value));
        plane.request(Role::Agent, method, path, body).status
    };
    let ready = json!({"status": {"conditions": [{"type": "StorageReady", "status": "True"}]}});
    let report = json!({"status": {"observedGeneration": 1, "checked": "2026-01-01T00:00:00Z", "verdict": "Failed", "reason": "NotMounted", "message": "m"}});
    assert_eq!(may("GET", &object, None), 200);
    assert_eq!(may("GET", OBJECTS, None), 200);
    assert_eq!(may("PATCH", &format!("{object}/status"), Some((merge, report))), 200);
    assert_eq!(may("PATCH", "/api/v1/nodes/rights-1/status", Some((strategic, ready))), 200);
    // A spec that comes in with a status is not taken over.
    let sneaky = json!({"spec": {"root": "/etc"}});
    assert_eq!(may("PATCH", &format!("{object}/status"), Some((merge, sneaky.clone()))), 200);
    assert_eq!(plane.get(&object)["spec"]["root"], "/data");
    let labels = json!({"metadata": {"labels": {"org": "mine"}}});
    for (method, path, body) in [
        ("PATCH", object.as_str(), Some((merge, sneaky))),
        (
            "POST",
            OBJECTS,
            Some((JSON, json!({"apiVersion": "drover.dev/v1", "kind": "NodeStorage", "metadata": {"name": "x"}}))),
        ),
        ("DELETE", &object, None),
        ("PATCH", "/api/v1/nodes/rights-1", Some((merge, labels))),
        ("GET", "/api/v1/nodes/rights-1", None),
        ("GET", "/api/v1/nodes", None),
        ("DELETE", "/api/v1/nodes/rights-1", None),
        ("GET", "/api/v1/pods", None),
        ("GET", "/api/v1/namespaces/kube-system/secrets", None),
        ("GET", "/apis/coordination.k8s.io/v1/leases", None),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", None),
    ] {
        assert_eq!(may(method, path, body), 403, "{method} {path}");
    }
    // drover itself asks, and does not report.
    let verdict = json!({"status": {"verdict": "Verified"}});
    let reply = plane.request(Role::Drover, "PATCH", &format!("{object}/status"), Some((merge, &verdict)));
    assert_eq!(reply.status, 403, "{}", reply.body);
}

#[test]
fn a_cluster_that_knows_no_node_storage_or_denies_it_is_waited_for() {
    let Some(machine) = machine_with_volume() else { return };
    let plane = shared();
    let mut command = machine.command(env!("CARGO_BIN_EXE_drover"));
    command.args(["agent", "--node", "denied-1", "--kubeconfig"]).arg(plane.kubeconfig(Role::Blind));
    let mut agent = crate::support::run::Running::start(&mut command);
    agent.says("give drover's user a ClusterRole with the verb \"list\" on the resource \"nodestorages\"");
    assert!(agent.is_running());
    Machine::signal(&agent, "TERM");
    agent.end().expect(0);
}
