use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_yaml::Value;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::common::{json, signalled};
use super::run::Log;
use crate::adapters::files;
use crate::adapters::host::{self, Request};
use crate::agent::{self, Settings};
use crate::error::Failure;
use crate::model::cluster::Connection;
use crate::model::storage::{StorageWanted, Verdict};
use crate::model::time::Interval;
use crate::ui::{LogFormat, Ui};

/// Look after the storage of the machine that this runs on: one for each machine, as a DaemonSet
///
/// Reads what drover asks for in the machine's NodeStorage object, looks whether the storage is really there and whether
/// the kubelet sees it too, makes missing directories in a verified mount, and reports: in the object's status, and as
/// the condition StorageReady of the Node. It never deletes, and never writes where nothing is mounted.
///
/// The program `drover-agent` is this command alone, in half the memory.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    /// The node that this machine is
    #[arg(long, value_name = "NAME", env = "NODE_NAME", required_unless_present_any = ["once", "probe"])]
    node: Option<String>,

    /// A kubeconfig file [default: the service account of the pod]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// The root directory of the machine
    #[arg(long, value_name = "DIR", default_value = "/proc/1/root")]
    host_root: PathBuf,

    /// How often the machine is looked at when nothing tells that it changed
    #[arg(long, value_name = "TIME", default_value = "1m")]
    interval: Interval,

    /// How often the report is repeated when nothing changed
    #[arg(long, value_name = "TIME", default_value = "5m")]
    heartbeat: Interval,

    /// Look once at what a file asks for, print the report and end; no cluster is needed, and nothing is changed
    #[arg(long, requires = "spec")]
    once: bool,

    /// The file for --once: a NodeStorage or its `spec` alone, as YAML or JSON
    #[arg(long, value_name = "FILE", requires = "once")]
    spec: Option<PathBuf>,

    /// With --once: also make what is missing
    #[arg(long, requires = "once")]
    make: bool,

    /// How the log is written
    #[arg(long, value_enum, default_value = "text", env = "DROVER_LOG_FORMAT")]
    log_format: Log,

    /// What is logged: error, warn, info, debug, or a filter
    #[arg(long, value_name = "LEVEL", default_value = "info,kube_client=off", env = "DROVER_LOG")]
    log: String,

    /// Answer one request on stdin: the agent itself runs this, since a file system may never answer
    #[arg(long, hide = true)]
    probe: bool,
}

pub(super) async fn run(args: &AgentArgs, probe: &'static [&'static str], ui: Ui) -> Result<Outcome, Failure> {
    if args.probe {
        return host::serve(io::stdin(), io::stdout()).map(|()| Outcome::Done);
    }
    if let Some(spec) = &args.spec {
        return once(args, spec, probe, ui).await;
    }
    let format = if args.log_format == Log::Json { LogFormat::Json } else { LogFormat::Text };
    ui.log(format, &args.log)?;
    let settings = args.settings(probe)?;
    tracing::info!(node = settings.node, version = env!("CARGO_PKG_VERSION"), "the agent runs");
    let stop = CancellationToken::new();
    let signal = async {
        if !signalled().await {
            std::future::pending::<()>().await;
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = agent::run(&settings, &stop) => ended?,
        () = signal => {}
    }
    tracing::info!("the agent has ended");
    Ok(Outcome::Done)
}

async fn once(args: &AgentArgs, spec: &Path, probe: &'static [&'static str], ui: Ui) -> Result<Outcome, Failure> {
    let wanted = read_spec(spec)?;
    let node = args.node.clone().unwrap_or_else(|| "this-machine".into());
    let request = Request { host_root: args.host_root.clone(), wanted, node, make: args.make };
    let report = agent::look_once(&request, probe).await;
    ui.out(&json(&report)?)?;
    Ok(if report.verdict == Verdict::Verified { Outcome::Done } else { Outcome::Error })
}

/// What is asked by a file: the spec of a NodeStorage, or the whole object.
fn read_spec(path: &Path) -> Result<StorageWanted, Failure> {
    #[derive(Deserialize)]
    struct Object {
        spec: StorageWanted,
    }
    let text = files::read_text(path)?;
    let is_object = serde_yaml::from_str::<Value>(&text).is_ok_and(|value| value.get("spec").is_some());
    let read = match is_object {
        true => serde_yaml::from_str(&text).map(|object: Object| object.spec),
        false => serde_yaml::from_str(&text),
    };
    read.map_err(|error| {
        Failure::new(format!("{} is not what is asked of a machine: {error}", path.display()))
            .hint("write the spec of a NodeStorage, or the object as `kubectl get nodestorage NODE -o yaml` prints it")
    })
}

impl AgentArgs {
    fn settings(&self, probe: &'static [&'static str]) -> Result<Settings, Failure> {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        let in_cluster = kubeconfig.is_none() && self.context.is_none();
        let (interval, heartbeat) = (self.interval.duration(), self.heartbeat.duration());
        Ok(Settings {
            node: self.node.clone().ok_or_else(|| Failure::new("nobody says which node this machine is"))?,
            connection: Connection { kubeconfig, context: self.context.clone(), in_cluster, file: None },
            host_root: self.host_root.clone(),
            interval: interval.min(heartbeat), // a heartbeat tells of a look that is no older
            heartbeat,
            probe,
        })
    }
}
