//! `drover agent`: looks at the storage of its machine, makes what is missing, and reports.
//!
//! ```text
//! follow ── what is asked ──▶ looking ── reports ──▶ tell
//!  watch of the NodeStorage     mounts, interval       status of the NodeStorage, condition of the Node
//! ```
//!
//! Neither waits for another: the machine is looked at while the API server is away, and a file system that does not
//! answer keeps no report back. Nothing is stored but in the cluster.

mod follow;
mod looking;
pub mod rights;
mod tell;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use looking::look_once;

use crate::adapters::backoff::Backoff;
use crate::adapters::kube::KubeCluster;
use crate::adapters::objects::Metadata;
use crate::error::Failure;
use crate::model::cluster::Connection;
use crate::model::storage::{StorageReport, StorageWanted};

/// How long an API server may take to answer.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest wait after failures in a row: thousands of agents knock at a server that is in trouble.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How an agent works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node that it runs on.
    pub node: String,
    /// How its API server is reached.
    pub connection: Connection,
    /// The root directory of the machine.
    pub host_root: PathBuf,
    /// How often the machine is looked at when nothing tells that it changed.
    pub interval: Duration,
    /// How often a report is repeated.
    pub heartbeat: Duration,
    /// The arguments with which this program answers one look.
    pub probe: &'static [&'static str],
}

/// What is asked of the storage of the machine.
#[derive(Debug)]
struct Asked {
    object: Metadata,
    /// Or why it cannot be read.
    wanted: Result<StorageWanted, String>,
    /// What was reported last, by this agent or one before it.
    before: Option<StorageReport>,
}

/// What is known of what is asked.
#[derive(Debug, Clone)]
enum Order {
    /// Nothing yet.
    NotSeen,
    /// Nothing is asked.
    None,
    /// This is.
    Some(Arc<Asked>),
}

/// What is to be told.
#[derive(Debug, Clone)]
enum News {
    /// Nothing yet.
    None,
    /// That nothing is asked, and so nothing known.
    Unasked,
    /// This report.
    Report(Arc<(Metadata, StorageReport)>),
}

/// Runs until `stop`.
pub async fn run(settings: &Settings, stop: &CancellationToken) -> Result<(), Failure> {
    let (ordered, orders) = watch::channel(Order::NotSeen);
    let (reported, reports) = watch::channel(News::None);
    let api = async {
        let kube = connect(settings).await;
        tokio::join!(follow::run(settings, &kube, &ordered), tell::run(settings, &kube, reports));
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        // None of them ends by itself; one that did would leave a machine that nobody looks at.
        ((), ()) = async { tokio::join!(api, looking::run(settings, orders, &reported)) } => {
            Err(Failure::new("a part of the agent ended in a way that it must not"))
        }
    }
}

/// A client; a kubeconfig that is not there yet is waited for.
async fn connect(settings: &Settings) -> KubeCluster {
    let mut backoff = Backoff::up_to(LONGEST_WAIT);
    loop {
        match KubeCluster::connect(&settings.node, &settings.connection, None, API_TIMEOUT, None).await {
            Ok(kube) => return kube,
            Err(failure) => {
                tracing::warn!("no connection to the API server: {}", said(&failure));
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
}

/// A failure with its advice.
fn said(failure: &Failure) -> String {
    match failure.advice() {
        Some(advice) => format!("{failure} ({advice})"),
        None => failure.to_string(),
    }
}

/// A length of time, give or take a tenth: what began together does not stay together.
fn about(length: Duration) -> Duration {
    length.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Writes of an agent are given up with the agent: nothing has to be stopped one by one.
static NEVER: AtomicBool = AtomicBool::new(false);
