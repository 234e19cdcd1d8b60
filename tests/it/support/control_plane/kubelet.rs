//! Hollow kubelets: the real kubelet over a container runtime that only pretends. They register their node, send
//! heartbeats, and run the pods that are bound to them.

use super::process::{Server, Slot};
use super::{ControlPlane, Role, binaries};

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
}
