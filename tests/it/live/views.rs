//! What drover tells of a live cluster: its dump, its status, and why a node has its labels.

use serde_json::{Value, json};

use super::support::{changes, shared, state_of};
use crate::support::control_plane::{ControlPlane, NodeSpec, PodSpec, Role};
use crate::support::state::State;

/// Nodes in every state, with a pod that keeps one of them.
fn mixed(plane: &ControlPlane, name: &str) -> State {
    let node = |number: usize| NodeSpec::new(format!("{name}-{number}"));
    let org = format!("{name}-ads");
    plane.create_nodes([node(1), node(2).label("org", &org).gpus(8), node(4)]);
    plane.create_pod(PodSpec::on_node(format!("{name}-pod"), format!("{name}-2")).selecting("org", &org));
    let state = state_of(plane);
    state
        .group(&org)
        .node("prod", &format!("{name}-1"), &format!("{{group: {org}, workloads: [train]}}"))
        .drover(&["apply", "--yes"])
        .expect(0);
    plane.kubectl(["label", "node", &format!("{name}-2"), "service=true", &format!("{name}-rack=r1")]);
    plane.kubectl(["cordon", &format!("{name}-2")]);
    let hold = "{until: 2999-01-01, owner: ann@example.org, reason: RMA}";
    state.node("prod", &format!("{name}-2"), &format!("{{workloads: [notebook], hold: {hold}}}")).node(
        "prod",
        &format!("{name}-3"),
        &format!("{{group: {org}}}"),
    );
    state
}

#[test]
fn the_plan_against_a_snapshot_is_the_plan_against_the_cluster() {
    let plane = shared();
    let state = mixed(plane, "snap");
    let live = state.drover(&["plan", "--format", "json"]).expect(3).json();
    let ran = state.drover(&["snapshot", "--out", "live.yaml"]).expect(0);
    assert!(ran.err.contains(" nodes and ") && ran.err.contains(" pods of prod to live.yaml"), "{}", ran.err);
    state.cluster("prod", "{file: ../live.yaml}");
    let dumped = state.drover(&["plan", "--format", "json"]).expect(3).json();

    assert_eq!(
        changes(&live),
        ["snap-2 notebook: none -> true", "snap-2 org: snap-ads -> none", "snap-2 service: true -> none"]
    );
    // Other tests come and go on the cluster, and all of their nodes are unmanaged here.
    for part in ["nodes", "refusals", "absent", "managed", "mode"] {
        assert_eq!(live["clusters"][0][part], dumped["clusters"][0][part], "{part}");
    }
    assert_eq!(live["clusters"][0]["refusals"][0]["details"], json!(["default/snap-pod on snap-2"]));
}

#[test]
fn the_status_tells_what_is_live() {
    let plane = shared();
    let state = mixed(plane, "seen");
    let status = state.drover(&["status", "--format", "json", "--detailed-exitcode"]).expect(2).json();
    let nodes = status["clusters"][0]["nodes"].as_array().expect("nodes");
    let node = |name: &str| nodes.iter().find(|node| node["node"] == name).unwrap_or_else(|| panic!("no {name}"));
    let told = |name: &str| (node(name)["state"].clone(), node(name)["differences"].clone());
    assert_eq!(told("seen-1"), (json!("in-sync"), json!(0)));
    assert_eq!(told("seen-2"), (json!("drifting"), json!(3)));
    assert_eq!(told("seen-3"), (json!("absent"), json!(0)));
    assert_eq!(told("seen-4"), (json!("unmanaged"), json!(0)));
    let two = node("seen-2");
    assert_eq!((&two["ready"], &two["cordoned"], &two["held"]["reason"]), (&json!(true), &json!(true), &json!("RMA")));
    let groups = json!([{"group": "seen-ads", "desired": 2, "live": 2, "gpus": 8, "cpus": 64}]);
    assert_eq!(status["clusters"][0]["groups"], groups);

    let ran = state.drover(&["status"]).expect(0);
    assert!(
        ran.out.contains("drifting") && ran.out.contains("seen-2 until 2999-01-01 by ann@example.org: RMA"),
        "{}",
        ran.out
    );
}

#[test]
fn an_explanation_tells_who_set_each_label() {
    let plane = shared();
    let state = mixed(plane, "why");
    let explain = |node: &str| {
        let all = state.drover(&["explain", node, "--format", "json"]).expect(0).json();
        let labels = all[0]["labels"].as_array().expect("labels").clone();
        move |key: &str| {
            let label = labels.iter().find(|label| label["key"] == key).unwrap_or_else(|| panic!("no {key}"));
            let by = label["setBy"]["manager"].clone();
            (label["owner"].clone(), label["setByDrover"].clone(), if by.is_null() { Value::Null } else { by })
        }
    };
    let label = explain("why-1");
    assert_eq!(label("train"), (json!("state"), json!(true), Value::Null));
    assert_eq!(label("kubernetes.io/os"), (json!("kubernetes"), json!(false), json!("kubelet")));
    let label = explain("why-2");
    assert_eq!(label("service"), (json!("vocabulary"), json!(false), json!("kubectl-label")));
    assert_eq!(label("why-rack"), (json!("foreign"), json!(false), json!("kubectl-label")));
    assert_eq!(label("notebook"), (json!("state"), json!(false), Value::Null));

    let ran = state.drover(&["explain", "why-2"]).expect(0);
    assert!(ran.out.contains("not asked for: will be removed; live value set by kubectl-label on 20"), "{}", ran.out);
    let ran = state.drover(&["explain", "why-4"]).expect(0);
    assert!(ran.out.contains("unmanaged: no document of the state names it"), "{}", ran.out);
    let ran = state.drover(&["explain", "why-22"]).expect(1);
    assert!(
        ran.err.contains("no cluster has a node \"why-22\"") && ran.err.contains("did you mean why-2?"),
        "{}",
        ran.err
    );
}

#[test]
fn the_images_that_kubelets_tell_of_are_asked_for_and_recorded() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("img-1"), NodeSpec::new("img-2")]);
    let status = json!({ "status": {
        "nodeInfo": { "bootID": "b1", "kernelVersion": "6.1.0", "containerRuntimeVersion": "docker://24.0.9", "machineID": "",
            "systemUUID": "", "osImage": "", "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": "" },
        "images": [{ "names": ["rancher/pause@sha256:00", "rancher/pause:3.7"], "sizeBytes": 1 }],
    } });
    let patch = ("application/merge-patch+json", &status);
    let reply = plane.request(Role::Admin, "PATCH", "/api/v1/nodes/img-1/status", Some(patch));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let state = state_of(plane);
    let cluster = state.read("state/clusters/prod.yaml")
        + "  bootstrap:\n    runtime: {type: docker}\n    images: [{mirror: m.example.org/, naming: rancher, images: [rancher/pause:3.7, busybox]}]\n";
    state.write("state/clusters/prod.yaml", &cluster).node("prod", "img-1", "{}").node("prod", "img-2", "{}");
    let lacks = || {
        let status = state.drover(&["status", "--format", "json"]).expect(0).json();
        let nodes = status["clusters"][0]["nodes"].as_array().expect("nodes").clone();
        let of = |name: &str| nodes.iter().find(|node| node["node"] == name).expect("a node")["lacks"].clone();
        (of("img-1"), of("img-2"))
    };
    let told = (json!([{ "what": "images", "images": ["busybox"] }]), Value::Null);
    assert_eq!(lacks(), told, "a kubelet that tells of no image tells nothing");
    state.drover(&["snapshot", "--out", "live.yaml"]).expect(0);
    let (head, _) = cluster.split_once("  connection:").expect("a connection");
    let (_, bootstrap) = cluster.split_once("  bootstrap:").expect("the section");
    state.write(
        "state/clusters/prod.yaml",
        format!("{head}  connection: {{file: ../live.yaml}}\n  bootstrap:{bootstrap}"),
    );
    assert_eq!(lacks(), told, "a recording tells the same");
}
