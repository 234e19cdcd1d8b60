//! Hollow kubelets: the real kubelet over a container runtime that only pretends. They register their node, send
//! heartbeats, and run the pods that are bound to them. And the real scheduler, which binds them.

use std::time::Duration;

use serde_json::json;

use super::process::{Server, Slot, eventually};
use super::{ControlPlane, MERGE_PATCH, Role, binaries};

/// A hollow kubelet; its node stays registered when it ends.
pub(crate) struct Kubelet {
    _process: Server,
    /// Its two ports.
    _slot: Slot,
}

impl ControlPlane {
    /// Starts a hollow kubelet, which joins the cluster as a node of this name.
    pub(crate) fn hollow_kubelet(&self, name: &str) -> Kubelet {
        let slot = Slot::claim();
        let args = [
            "--morph=kubelet".into(),
            format!("--name={name}"),
            format!("--kubeconfig={}", self.kubeconfig(Role::Admin).display()),
            format!("--kubelet-port={}", slot.api_port),
            format!("--kubelet-read-only-port={}", slot.etcd_port),
        ];
        let process = Server::spawn(&binaries().join("kubemark"), &args, slot.dir.join("kubelet.log"));
        Kubelet { _process: process, _slot: slot }
    }

    /// A hollow kubelet whose machine has GPUs, and whose node is ready for pods.
    pub(crate) fn hollow_gpu_kubelet(&self, name: &str, gpus: u32) -> Kubelet {
        let kubelet = self.hollow_kubelet(name);
        let path = format!("/api/v1/nodes/{name}");
        let limit = Duration::from_secs(60);
        eventually(&format!("{name} joins"), limit, || {
            let reply = self.request(Role::Admin, "GET", &path, None);
            if reply.status == 200 { Ok(()) } else { Err(reply.body) }
        });
        // What a device plugin would report; the kubelet keeps it, and offers it.
        let status = json!({ "status": { "capacity": { "nvidia.com/gpu": gpus.to_string() } } });
        let path_of_status = format!("{path}/status");
        eventually(&format!("{name} offers GPUs"), limit, || {
            self.request(Role::Admin, "PATCH", &path_of_status, Some((MERGE_PATCH, &status))).accepted(&path_of_status);
            // The API server calls new nodes not ready, and nobody runs here who would take that back.
            let open = json!({ "spec": { "taints": null } });
            self.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &open))).accepted(&path);
            let node = self.get(&path);
            let offers = node["status"]["allocatable"]["nvidia.com/gpu"].as_str() == Some(&gpus.to_string());
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            if offers && ready && node["spec"]["taints"].is_null() { Ok(()) } else { Err(format!("{node:#}")) }
        });
        kubelet
    }

    /// Starts the real scheduler.
    pub(crate) fn scheduler(&self) -> Kubelet {
        let slot = Slot::claim();
        let args = [
            format!("--kubeconfig={}", self.kubeconfig(Role::Admin).display()),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            "--port=0".into(),
            format!("--secure-port={}", slot.api_port),
            format!("--cert-dir={}", slot.dir.display()),
        ];
        let process = Server::spawn(&binaries().join("kube-scheduler"), &args, slot.dir.join("scheduler.log"));
        Kubelet { _process: process, _slot: slot }
    }
}
