//! What the tests of kubelet binds share: the objects of RKE and Rancher as they are, keys and passwords included.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, JSON, MERGE_PATCH, NodeSpec, Role};
use crate::support::run::Ran;
use crate::support::state::State;

/// Stands in every private key and password, so that every output can be searched for all of them.
pub(super) const KEY: &str = "KEY-OF-THE-WHOLE-CLUSTER";
/// The id that Rancher gave the cluster.
pub(super) const ID: &str = "c-x7k2p";
/// The bind that tests ask for.
pub(super) const BIND: &str = "/data/k8s:/data/k8s:rslave";

/// Nothing that a run says holds a key.
pub(super) fn clean(ran: Ran) -> Ran {
    assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY), "a key shows up:\n{}\n{}", ran.out, ran.err);
    ran
}

/// A cluster with a control plane node, a worker that is ready, and one that is not.
pub(super) fn machines(plane: &ControlPlane) {
    let role = |node: NodeSpec, role: &str| node.label(&format!("node-role.kubernetes.io/{role}"), "true");
    plane.create_nodes([
        role(role(NodeSpec::new("cp-1"), "controlplane"), "etcd"),
        role(NodeSpec::new("w-1"), "worker"),
        role(NodeSpec::new("w-2"), "worker"),
    ]);
}

/// What RKE keeps in `full-cluster-state`.
pub(super) fn full_cluster_state(binds: &[&str]) -> String {
    let bundle = json!({"kube-ca": {"certificatePEM": "-----BEGIN CERTIFICATE-----", "keyPEM": format!("-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n")}});
    let config = |binds: &[&str]| {
        json!({
            "nodes": [{"address": "10.0.0.1", "role": ["controlplane", "etcd", "worker"], "sshKey": KEY}],
            "services": {"kubelet": {"image": "rancher/hyperkube:v1.20.15", "extraBinds": binds, "clusterDomain": "cluster.local"}},
            "privateRegistries": [{"url": "r.example.org", "password": KEY}],
        })
    };
    json!({
        "desiredState": {"rkeConfig": config(&["/desired:/desired"]), "certificatesBundle": bundle, "encryptionConfig": KEY},
        "currentState": {"rkeConfig": config(binds), "certificatesBundle": bundle},
    })
    .to_string()
}

/// The Secret of RKE as a manifest.
pub(super) fn secret(binds: &[&str]) -> Value {
    let data = BASE64.encode(full_cluster_state(binds).as_bytes());
    let metadata = json!({"name": "full-cluster-state", "namespace": "kube-system"});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {"full-cluster-state": data}})
}

/// Creates an object.
pub(super) fn create(plane: &ControlPlane, path: &str, object: &Value) {
    plane.request(Role::Admin, "POST", path, Some((JSON, object))).accepted(path);
}

/// Puts RKE's Secret there, in place of one that may be there.
pub(super) fn record(plane: &ControlPlane, binds: &[&str]) {
    let path = "/api/v1/namespaces/kube-system/secrets";
    let one = format!("{path}/full-cluster-state");
    let replaced = plane.request(Role::Admin, "PUT", &one, Some((JSON, &secret(binds))));
    if replaced.status == 404 {
        create(plane, path, &secret(binds));
    } else {
        replaced.accepted(&one);
    }
}

/// A cluster.yml as people write it.
pub(super) const CLUSTER_YML: &str = "\
# prod, made in 2021
nodes:
  - address: 10.0.0.1   # cp-1
    role: [controlplane, etcd, worker]
    ssh_key: |
      KEY-OF-THE-WHOLE-CLUSTER
services:
  kubelet:
    cluster_domain: cluster.local
    extra_binds:
      - \"/x:/x\"  # the old disk
  etcd: {snapshot: true}
private_registries:
  - {url: r.example.org, password: KEY-OF-THE-WHOLE-CLUSTER}
upgrade_strategy: {max_unavailable_worker: 50%}
";

/// Writes a Cluster `prod` with this kubelet section, indented by two.
pub(super) fn cluster(state: &State, plane: &ControlPlane, kubelet: &str) {
    let connection = format!("{{kubeconfig: {}}}", plane.kubeconfig(Role::Drover).display());
    state.cluster("prod", &connection);
    let name = "state/clusters/prod.yaml";
    let text = state.read(name) + "  kubelet:\n" + kubelet;
    state.write(name, text);
}

/// A state whose cluster is RKE's, with its cluster.yml in it.
pub(super) fn rke_state(plane: &ControlPlane) -> State {
    let state = State::new();
    cluster(
        &state,
        plane,
        &format!("    manager: rke\n    rke: {{config: rke/cluster.yml}}\n    extraBinds:\n      - {BIND}\n"),
    );
    state.write("state/rke/cluster.yml", CLUSTER_YML);
    state
}

/// A script in the place of `rke`: it does what its lines say after it wrote down how it was called.
pub(super) fn stand_in(state: &State, lines: &str) -> PathBuf {
    let path = state.path("rke.sh");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >> {}\necho 'INFO building the cluster'\necho 'INFO on stderr' >&2\n{lines}\n",
        state.path("rke.log").display()
    );
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an executable");
    path
}

/// The lines with which a stand-in makes binds live.
pub(super) fn makes_live(state: &State, plane: &ControlPlane, binds: &[&str]) -> String {
    state.write("after.json", secret(binds).to_string());
    // The real path of kubectl: the one beside the API server.
    let kubectl = plane.kubectl_path();
    format!(
        "{} --kubeconfig {} replace -f {} >/dev/null",
        kubectl.display(),
        plane.kubeconfig(Role::Admin).display(),
        state.path("after.json").display()
    )
}

fn crd(plural: &str, kind: &str, scope: &str) -> Value {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": any, "status": any}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.management.cattle.io")},
        "spec": {
            "group": "management.cattle.io", "scope": scope,
            "names": {"plural": plural, "kind": kind, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": "v3", "served": true, "storage": true, "schema": schema}],
        },
    })
}

pub(super) const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";

/// Rancher's own cluster, with the object of one that it made.
pub(super) fn local(plane: &ControlPlane, spec: &Value, status: &Value) {
    for (plural, kind, scope) in [("clusters", "Cluster", "Cluster"), ("nodes", "Node", "Namespaced")] {
        create(plane, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd(plural, kind, scope));
    }
    create(plane, "/api/v1/namespaces", &json!({"metadata": {"name": ID}}));
    plane.kubectl(["apply", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rancher-rbac.yaml")]);
    crate::support::daemon::soon("the kinds of Rancher are served", || {
        plane.request(Role::Admin, "GET", CLUSTERS, None).status == 200
    });
    let object = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Cluster",
        "metadata": {"name": ID, "annotations": {"lifecycle.cattle.io/create.cluster": "true"}}, "spec": spec, "status": status,
    });
    create(plane, CLUSTERS, &object);
}

/// The spec of a cluster that Rancher made.
pub(super) fn spec(binds: &[&str]) -> Value {
    json!({
        "displayName": "prod",
        "rancherKubernetesEngineConfig": {
            "services": {"kubelet": {"extraBinds": binds, "failSwapOn": false}, "etcd": {"snapshot": true}},
            "privateRegistries": [{"password": KEY}],
            "upgradeStrategy": {"maxUnavailableWorker": "10%"},
        },
    })
}

/// The status of a cluster that is as it was asked for.
pub(super) fn status(binds: &[&str]) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"});
    let conditions: Vec<Value> =
        ["Provisioned", "Updated", "Upgraded", "Waiting", "Ready"].into_iter().map(condition).collect();
    json!({"appliedSpec": spec(binds), "conditions": conditions, "nodeVersion": 1, "serviceAccountToken": KEY})
}

/// A worker as Rancher has it.
pub(super) fn worker(plane: &ControlPlane, name: &str) {
    let path = format!("/apis/management.cattle.io/v3/namespaces/{ID}/nodes");
    let node = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Node", "metadata": {"name": format!("m-{name}"), "namespace": ID},
        "spec": {"worker": true, "requestedHostname": name}, "status": worker_status(name, &["/x:/x"], 1, 1),
    });
    create(plane, &path, &node);
}

fn worker_status(name: &str, binds: &[&str], version: u32, applied: u32) -> Value {
    let all: Vec<&str> = ["/sys:/sys", "/run:/run:rprivate"].iter().chain(binds).copied().collect();
    let plan = json!({"plan": {"processes": {"kubelet": {"binds": all, "env": [KEY]}}}, "version": version});
    json!({"nodeName": name, "nodePlan": plan, "appliedNodeVersion": applied})
}

/// Changes the status of a worker.
pub(super) fn set_worker(plane: &ControlPlane, name: &str, binds: &[&str], version: u32, applied: u32) {
    let path = format!("/apis/management.cattle.io/v3/namespaces/{ID}/nodes/m-{name}");
    patch(plane, &path, &json!({"status": worker_status(name, binds, version, applied)}));
}

/// Changes an object as another client would.
pub(super) fn patch(plane: &ControlPlane, path: &str, change: &Value) {
    plane.request(Role::Admin, "PATCH", path, Some((MERGE_PATCH, change))).accepted(path);
}

/// The object of the cluster in Rancher.
pub(super) fn object(plane: &ControlPlane) -> Value {
    plane.get(&format!("{CLUSTERS}/{ID}"))
}

/// The binds that Rancher is asked for.
pub(super) fn asked(plane: &ControlPlane) -> Vec<String> {
    let binds = object(plane)["spec"]["rancherKubernetesEngineConfig"]["services"]["kubelet"]["extraBinds"].clone();
    binds.as_array().into_iter().flatten().map(|bind| bind.as_str().expect("text").to_owned()).collect()
}

/// A state whose cluster is Rancher's.
pub(super) fn rancher_state(plane: &ControlPlane, local: &ControlPlane, more: &str) -> State {
    let state = State::new();
    let kubeconfig = local.kubeconfig(Role::Drover);
    let kubelet = format!(
        "    manager: rancher\n    rancher: {{connection: {{kubeconfig: {}}}, cluster: {ID}}}\n    extraBinds: [\"{BIND}\"]\n{more}",
        kubeconfig.display()
    );
    cluster(&state, plane, &kubelet);
    state
}
