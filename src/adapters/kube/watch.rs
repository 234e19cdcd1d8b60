//! A list followed by watches, so that nothing is listed again while the API server remembers where drover was.
//!
//! The watches of kube's runtime keep their bookmarks to themselves, and with them whether a quiet watch is alive. Here
//! every watch ends within its lifetime, and one that does not has hung: silence is never taken for peace.

use std::marker::PhantomData;
use std::time::Duration;

use http::{Request, header};
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::call::{Lines, call_error};
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
    /// A watch stands: whatever happens from here on will be told.
    Opened,
    /// Nothing happened, and the API server says so.
    Alive,
}

/// How following came to an end.
#[derive(Debug)]
pub struct Lost {
    /// Why.
    pub failure: Failure,
    /// How long the API server wants to be left alone.
    pub wait: Duration,
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

/// Pods that run or wait; one that ends is seen as gone.
impl Watched for PodObject {
    const WHAT: &'static str = "pods";
    const PATH: &'static str = "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Follows the objects of a kind. It can be stopped at any await and followed on.
#[derive(Debug)]
pub struct Watcher<T> {
    lifetime: Duration,
    /// The address of the objects and the selection of those that are followed.
    path: String,
    /// What the API server knows this place in the history by; none where a list must come first.
    version: Option<String>,
    /// Whether the last watch ended as it should, so that the API server is the one that it was.
    orderly: bool,
    kind: PhantomData<fn() -> T>,
}

/// How a watch ended that could be opened.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// At the end of its lifetime.
    Orderly,
    /// Before that: the API server stopped, or the connection was cut.
    Early,
}

impl<T: Watched> Watcher<T> {
    /// Nothing seen yet. Each single watch lives as long as `lifetime`.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, path: T::PATH.to_owned(), version: None, orderly: false, kind: PhantomData }
    }

    /// Follows the one object of this name, whether it is there already or not.
    pub fn of_one(lifetime: Duration, name: &str) -> Self {
        Self { path: format!("{}fieldSelector=metadata.name%3D{name}&", T::PATH), ..Self::new(lifetime) }
    }

    /// Tells what happens until something fails.
    pub async fn follow(&mut self, cluster: &KubeCluster, mut tell: impl FnMut(Seen<T>)) -> Lost {
        loop {
            let begun = Instant::now();
            let orderly = std::mem::replace(&mut self.orderly, false);
            if let Err((verb, error)) = self.turn(cluster, orderly, &mut tell).await {
                let wait = error.retry_after().unwrap_or_default();
                return Lost { failure: cluster.explain(verb, T::WHAT, &error), wait };
            }
            tokio::time::sleep_until(begun + SHORTEST).await;
        }
    }

    /// A list where one is needed, and a watch to its end. An error comes with what was being done.
    async fn turn(
        &mut self,
        cluster: &KubeCluster,
        orderly: bool,
        tell: &mut impl FnMut(Seen<T>),
    ) -> Result<(), (&'static str, CallError)> {
        if !orderly && let Some(version) = &self.version {
            let now = self.page(cluster, 1, "").await.map_err(|error| ("list", error))?.metadata.resource_version;
            // Its data were restored from a copy, or it is another one: it knows nothing of what was seen, and would
            // stay silent until it has come as far again.
            if is_before(&now, version) {
                self.version = None;
            }
        }
        let (version, listed) = match self.version.clone() {
            Some(version) => (version, false),
            None => {
                let (items, version) = self.list(cluster).await.map_err(|error| ("list", error))?;
                tell(Seen::All(items));
                self.version = Some(version.clone());
                (version, true)
            }
        };
        match self.watch(cluster, version, tell).await {
            Ok(End::Orderly) => {
                self.orderly = true;
                tell(Seen::Alive);
            }
            Ok(End::Early) => {}
            // The API server does not know that place, or not any more: everything must be listed anew.
            Err(error @ CallError::Refused { code: 400 | 410 | 504, .. }) => {
                self.version = None;
                if listed {
                    return Err(("watch", error));
                }
            }
            Err(error) => return Err(("watch", error)),
        }
        Ok(())
    }

    async fn list(&self, cluster: &KubeCluster) -> Result<(Vec<T>, String), CallError> {
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let page = self.page(cluster, PAGE, &next).await?;
            items.extend(page.items);
            match page.metadata.next.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={token}"),
                None => return Ok((items, page.metadata.resource_version)),
            }
        }
    }

    async fn page(&self, cluster: &KubeCluster, limit: usize, next: &str) -> Result<List<T>, CallError> {
        let request = request(format!("{}limit={limit}{next}", self.path))?;
        let body = timeout(cluster.timeout, cluster.call(request)).await.unwrap_or(Err(CallError::TimedOut))?;
        serde_json::from_slice(&body)
            .map_err(|error| CallError::Unreachable { cause: format!("its list cannot be read: {error}") })
    }

    /// One watch, to its end.
    async fn watch(
        &mut self,
        cluster: &KubeCluster,
        version: String,
        tell: &mut impl FnMut(Seen<T>),
    ) -> Result<End, CallError> {
        let seconds = self.lifetime.as_secs().max(2);
        let request = request(format!(
            "{}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}",
            self.path
        ))?;
        let opened = timeout(cluster.timeout, cluster.open(request)).await;
        let lines = Lines::of(opened.unwrap_or(Err(CallError::TimedOut))?);
        tracing::debug!(cluster = cluster.name, "watching {} from {version}", T::WHAT);
        let told = self.listen(lines, Duration::from_secs(seconds), tell).await;
        if told.is_err() {
            self.version = None; // whether it would have told of everything, nobody knows
        }
        told
    }

    async fn listen(
        &mut self,
        mut lines: Lines,
        lifetime: Duration,
        tell: &mut impl FnMut(Seen<T>),
    ) -> Result<End, CallError> {
        let begun = Instant::now();
        let mut stands = false;
        loop {
            let ends = begun + if stands { lifetime + GRACE } else { SHORTEST };
            let line = match timeout_at(ends, lines.next()).await {
                Err(_) if stands => return Err(CallError::TimedOut),
                Err(_) => {
                    stands = true;
                    tell(Seen::Opened);
                    continue;
                }
                Ok(Ok(Some(line))) => line,
                Ok(Err(CallError::Unreachable { .. }) | Ok(None)) if !stands => {
                    return Err(CallError::Unreachable { cause: "its watch ended at once".into() });
                }
                Ok(Ok(None)) if begun.elapsed() + SHORTEST >= lifetime => return Ok(End::Orderly),
                // Whether the API server is still there, the next request shows.
                Ok(Err(CallError::Unreachable { .. }) | Ok(None)) => return Ok(End::Early),
                Ok(Err(error)) => return Err(error),
            };
            stands = true;
            let event = serde_json::from_slice::<WatchEvent<T>>(&line)
                .map_err(|error| CallError::Unreachable { cause: format!("its watch cannot be read: {error}") })?;
            let (seen, version) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = object.metadata().resource_version.clone();
                    (Seen::Changed(object), version)
                }
                WatchEvent::Deleted(object) => {
                    let version = object.metadata().resource_version.clone();
                    (Seen::Gone(object), version)
                }
                WatchEvent::Bookmark(mark) => (Seen::Alive, mark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(call_error(&kube::Error::Api(status))),
            };
            if !version.is_empty() {
                self.version = Some(version);
            }
            tell(seen);
        }
    }
}

/// Whether a place in a history comes before another one. Versions are numbers that only grow, where they are numbers.
fn is_before(version: &str, other: &str) -> bool {
    matches!((version.parse::<u64>(), other.parse::<u64>()), (Ok(version), Ok(other)) if version < other)
}

fn request(path: String) -> Result<Request<Vec<u8>>, CallError> {
    let request = Request::get(path).header(header::ACCEPT, JSON).body(Vec::new());
    request.map_err(|error| CallError::Unreachable { cause: error.to_string() })
}
