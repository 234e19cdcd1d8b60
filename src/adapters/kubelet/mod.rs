//! What configures the kubelets of a cluster: where their binds are seen, and how they are changed.

mod process;
mod rancher;
mod rke;

use std::path::Path;
use std::time::Duration;

pub use process::{RkeCommand, RkeRun};
pub use rancher::{Followed, Rancher, Written};
pub use rke::has_state;

use super::kube::KubeCluster;
use crate::error::Failure;
use crate::model::ObservedKubelet;
use crate::model::cluster::{Kubelet, KubeletManager};

/// What configures the kubelets of a live cluster.
#[derive(Clone)]
pub enum Manager {
    /// RKE1: its record lies in the cluster itself.
    Rke(Box<KubeCluster>),
    /// Rancher, in a cluster of its own.
    Rancher(Box<Rancher>),
}

impl Manager {
    /// Connects to what configures the kubelets; none where binds do not apply. A relative kubeconfig is looked for below
    /// `base`.
    pub async fn connect(
        kube: &KubeCluster,
        kubelet: &Kubelet,
        base: Option<&Path>,
        timeout: Duration,
    ) -> Result<Option<Self>, Failure> {
        match (kubelet.manager, &kubelet.rancher) {
            (KubeletManager::Rke, _) => Ok(Some(Self::Rke(Box::new(kube.clone())))),
            (KubeletManager::Rancher, Some(spec)) => {
                Ok(Some(Self::Rancher(Box::new(Rancher::connect(kube.name(), spec, base, timeout).await?))))
            }
            _ => Ok(None),
        }
    }

    /// The binds, as the manager knows them. Of RKE that is without its cluster.yml.
    pub async fn observe(&self) -> Result<ObservedKubelet, Failure> {
        match self {
            Self::Rke(kube) => Ok(ObservedKubelet::new(KubeletManager::Rke, rke::live_binds(kube).await?)),
            Self::Rancher(rancher) => rancher.observe().await,
        }
    }
}
