//! A list followed by watches, so that nothing is listed again while the API server remembers where drover was.
//!
//! The watches of kube's runtime keep their bookmarks to themselves, and with them whether a quiet watch is alive. Here
//! every watch ends within its lifetime, and one that does not has hung: silence is never taken for peace.

use std::marker::PhantomData;
use std::time::Duration;

use futures::StreamExt;
use http::{Request, header};
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::call::call_error;
use super::{CallError, JSON, KubeCluster};
use crate::adapters::objects::{List, Metadata, NodeObject, PodObject};
use crate::error::Failure;

/// How many objects one page of the first list holds: whole lists of several clusters at once would be what drover
/// needs the most memory for.
const PAGE: usize = 250;
/// How much longer than its lifetime a watch may take to end before it counts as hung.
const GRACE: Duration = Duration::from_secs(10);
/// A watch that ends sooner than this was not worth its connection, and is not repeated at once.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a watch sees.
#[derive(Debug)]
pub enum Seen<T> {
    /// All objects there are; what was seen before no longer counts.
    All(Vec<T>),
    /// An object is new, or is other than before.
    Changed(T),
    /// An object is gone.
    Gone(T),
    /// Nothing happened, and the API server says so.
    Alive,
}

/// An object that can be watched.
pub trait Watched: DeserializeOwned + Clone + Send {
    /// What people call these objects.
    const WHAT: &'static str;
    /// Their address and the selection of those that matter, without paging.
    const PATH: &'static str;

    /// The object's metadata.
    fn metadata(&self) -> &Metadata;
}

impl Watched for NodeObject {
    const WHAT: &'static str = "nodes";
    const PATH: &'static str = "/api/v1/nodes?";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Pods that are bound to a node and have not ended; one that ends is seen as gone.
impl Watched for PodObject {
    const WHAT: &'static str = "pods";
    const PATH: &'static str =
        "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cspec.nodeName%21%3D&";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Follows the objects of a kind. It can be stopped at any await and followed on, also through a new connection.
#[derive(Debug)]
pub struct Watcher<T> {
    lifetime: Duration,
    /// What the API server knows this place in the history by; none where a list must come first.
    version: Option<String>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Watched> Watcher<T> {
    /// Nothing seen yet. Each single watch lives as long as `lifetime`.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, version: None, kind: PhantomData }
    }

    /// Tells what happens until something fails.
    pub async fn follow(&mut self, cluster: &KubeCluster, mut tell: impl FnMut(Seen<T>)) -> Failure {
        loop {
            let version = match &self.version {
                Some(version) => version.clone(),
                None => match self.list(cluster).await {
                    Ok((items, version)) => {
                        tell(Seen::All(items));
                        self.version = Some(version.clone());
                        version
                    }
                    Err(error) => return cluster.explain("list", T::WHAT, &error),
                },
            };
            let begun = Instant::now();
            match self.watch(cluster, version, &mut tell).await {
                Ok(()) => {
                    tell(Seen::Alive);
                    tokio::time::sleep_until(begun + SHORTEST).await;
                }
                // The API server no longer knows that place: everything must be listed anew.
                Err(CallError::Refused { code: 410, .. }) => {
                    self.version = None;
                    tokio::time::sleep_until(begun + SHORTEST).await;
                }
                Err(error) => return cluster.explain("watch", T::WHAT, &error),
            }
        }
    }

    async fn list(&self, cluster: &KubeCluster) -> Result<(Vec<T>, String), CallError> {
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let request = request(format!("{}limit={PAGE}{next}", T::PATH))?;
            let body = timeout(cluster.timeout, cluster.call(request)).await.unwrap_or(Err(CallError::TimedOut))?;
            let page: List<T> = serde_json::from_slice(&body)
                .map_err(|error| CallError::Unreachable { cause: format!("its list cannot be read: {error}") })?;
            items.extend(page.items);
            match page.metadata.next.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={token}"),
                None => return Ok((items, page.metadata.resource_version)),
            }
        }
    }

    /// One watch, to its orderly end.
    async fn watch(
        &mut self,
        cluster: &KubeCluster,
        version: String,
        tell: &mut impl FnMut(Seen<T>),
    ) -> Result<(), CallError> {
        let seconds = self.lifetime.as_secs().max(1);
        let request = request(format!(
            "{}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}",
            T::PATH
        ))?;
        let ends = Instant::now() + Duration::from_secs(seconds) + GRACE;
        let opened = timeout(cluster.timeout, cluster.client.request_events::<T>(request)).await;
        let events = opened.map_err(|_| CallError::TimedOut)?.map_err(|error| call_error(&error))?;
        let mut events = Box::pin(events);
        tracing::debug!(cluster = cluster.name, "watching {} from {version}", T::WHAT);
        loop {
            let event = tokio::time::timeout_at(ends, events.next()).await.map_err(|_| CallError::TimedOut)?;
            let (seen, version) = match event.transpose().map_err(|error| call_error(&error))? {
                None => return Ok(()),
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    let version = object.metadata().resource_version.clone();
                    (Seen::Changed(object), version)
                }
                Some(WatchEvent::Deleted(object)) => {
                    let version = object.metadata().resource_version.clone();
                    (Seen::Gone(object), version)
                }
                Some(WatchEvent::Bookmark(mark)) => (Seen::Alive, mark.metadata.resource_version),
                Some(WatchEvent::Error(status)) => return Err(call_error(&kube::Error::Api(status))),
            };
            if !version.is_empty() {
                self.version = Some(version);
            }
            tell(seen);
        }
    }
}

fn request(path: String) -> Result<Request<Vec<u8>>, CallError> {
    let request = Request::get(path).header(header::ACCEPT, JSON).body(Vec::new());
    request.map_err(|error| CallError::Unreachable { cause: error.to_string() })
}
