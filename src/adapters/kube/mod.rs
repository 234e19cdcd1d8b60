//! Live clusters through their API servers.

mod call;
mod connect;
mod events;
mod fence;
mod lease;
mod object;
mod patch;
mod report;
mod storage;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde::de::DeserializeOwned;

pub use call::CallError;
pub use fence::Fence;
pub use lease::{Lease, LeaseTimes, Tenure};
pub use patch::{PatchError, Patched, Stale};
pub use report::StorageCondition;
pub use storage::Storages;
pub use watch::{Lost, Seen, Watched, Watcher};

use super::node_images::NodeImagesObject;
use super::objects::{List, NodeObject, PodObject};
use crate::error::Failure;
use crate::model::ObservedCluster;
use crate::model::storage::PLURAL;

/// How many pods one page of a list holds.
const PAGE: usize = 2000;
/// Up to this many nodes, their pods are asked for node by node.
const NODE_BY_NODE: usize = 8;
/// The media type that asks for JSON.
const JSON: &str = "application/json";

/// A live cluster.
#[derive(Clone)]
pub struct KubeCluster {
    name: String,
    client: kube::Client,
    timeout: Duration,
    /// What writes must ask, and the client that does; none where nobody else writes.
    fenced: Option<(kube::Client, Arc<Fence>)>,
}

impl KubeCluster {
    /// What a plan is made against: the nodes, and the storage of the machines.
    pub async fn observe(&self) -> Result<ObservedCluster, Failure> {
        let (nodes, storages) = tokio::join!(self.nodes(), self.storages());
        let nodes = nodes?.into_iter().map(NodeObject::observed).map(|node| (node.name.clone(), node)).collect();
        let (storage, storage_unseen) = match storages {
            Ok(storage) => (storage, None),
            Err(why) => (Default::default(), Some(why)),
        };
        Ok(ObservedCluster { nodes, storage, storage_unseen, recorded: None })
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeObject>, Failure> {
        self.list("nodes", "/api/v1/nodes?").await
    }

    /// The images of all nodes.
    pub async fn node_images(&self) -> Result<Vec<NodeImagesObject>, Failure> {
        self.list("nodes", "/api/v1/nodes?").await
    }

    /// The pods that are bound to some of the nodes and have not ended.
    pub async fn pods_on(&self, nodes: &BTreeSet<&str>) -> Result<Vec<PodObject>, Failure> {
        const LIVING: &str = "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cspec.nodeName";
        if nodes.len() > NODE_BY_NODE {
            return self.list("pods", &format!("/api/v1/pods?fieldSelector={LIVING}%21%3D&")).await;
        }
        let mut pods = Vec::new();
        for node in nodes {
            pods.extend(self.list("pods", &format!("/api/v1/pods?fieldSelector={LIVING}%3D{node}&")).await?);
        }
        Ok(pods)
    }

    /// The pods that have not ended, bound or not.
    pub async fn living_pods(&self) -> Result<Vec<PodObject>, Failure> {
        self.list("pods", "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&").await
    }

    /// All pods.
    pub async fn pods(&self) -> Result<Vec<PodObject>, Failure> {
        self.list("pods", "/api/v1/pods?").await
    }

    async fn list<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<Vec<T>, Failure> {
        self.pages(what, path).await.map_err(|error| self.explain("list", what, &error))
    }

    /// All pages of a list.
    async fn pages<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<Vec<T>, CallError> {
        let whole = async {
            let mut items = Vec::new();
            let mut next = String::new();
            loop {
                // Nodes come in one answer: paging would cost more than it saves.
                let limit = if what == "pods" { format!("limit={PAGE}") } else { String::new() };
                let request =
                    Request::get(format!("{path}{limit}{next}")).header(http::header::ACCEPT, JSON).body(Vec::new());
                let request = request.map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
                let body = self.call(request).await?;
                let page: List<T> = serde_json::from_slice(&body)
                    .map_err(|error| CallError::Unreadable { what: what.to_owned(), cause: error.to_string() })?;
                items.extend(page.items);
                match page.metadata.next.filter(|token| !token.is_empty()) {
                    Some(token) => next = format!("&continue={token}"),
                    None => return Ok(items),
                }
            }
        };
        tokio::time::timeout(self.timeout, whole).await.unwrap_or(Err(CallError::TimedOut))
    }

    fn silent(&self) -> Failure {
        Failure::new(format!("no answer within {} s", self.timeout.as_secs_f32()))
            .hint("`timeout` in the Cluster document sets how long drover waits")
    }

    /// An error of a call, in words; a missing right is named.
    fn explain(&self, verb: &str, what: &str, error: &CallError) -> Failure {
        match error {
            CallError::Refused { code: 403, message, .. } if error.is_denied() => Failure::new(format!(
                "drover may not {verb} {what}: {message}"
            ))
            .hint(format!("give drover's user a ClusterRole with the verb \"{verb}\" on the resource \"{what}\"")),
            CallError::Refused { code: 401, .. } => Failure::new("the API server does not accept drover's credentials")
                .hint("the token or certificate of the kubeconfig is wrong or has expired"),
            CallError::Refused { code: 404, .. } if what == PLURAL => Failure::new(
                "the cluster knows no NodeStorage objects, so that nothing tells of its machines' storage",
            )
            .hint("install deploy/nodestorages.yaml, deploy/agent-rbac.yaml and deploy/agent.yaml there, or write `verify: none` in the storage of the Cluster document"),
            CallError::Refused { code, message, .. } => {
                Failure::new(format!("the API server refused to {verb} {what} ({code}): {message}"))
            }
            CallError::Unreachable { cause } => Failure::new(format!("cannot be reached: {cause}"))
                .hint("check that the API server runs and that its address in the kubeconfig is right"),
            CallError::Unreadable { what, cause } => {
                Failure::new(format!("the API server's list of {what} cannot be read: {cause}"))
                    .hint("what answers there may be no API server: check its address in the kubeconfig")
            }
            CallError::TimedOut => self.silent(),
            CallError::Fenced => Failure::new("this process does not hold the cluster's Lease any more"),
        }
    }
}
