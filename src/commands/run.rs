use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::common::{StateArgs, signalled};
use crate::adapters::files;
use crate::adapters::git::SignerFiles;
use crate::adapters::kubelet::RkeCommand;
use crate::daemon::{Daemon, Settings};
use crate::engine::FollowOptions;
use crate::error::Failure;
use crate::model::time::Interval;
use crate::plan::FightLimits;
use crate::ui::{LogFormat, Ui};
use crate::web;

/// Follow the state and keep every cluster as it says, day and night
///
/// Looks at the state again when a webhook or a changed file says so, and now and then by itself; a revision that does
/// not validate is refused, and the last good one stays in force. Watches every cluster and heals drift at once, within
/// the guards. Several replicas share the clusters: each is written by the one that holds its Lease.
///
/// A setting is taken from its flag, else from the environment, else from the file.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// YAML file with settings: the flags below in camelCase, those about the state below `source`
    #[arg(long, value_name = "FILE", env = "DROVER_CONFIG")]
    config: Option<PathBuf>,

    /// Print the settings that are in force, and end; secrets are files, and only their names are printed
    #[arg(long)]
    print_config: bool,

    #[command(flatten)]
    own: Own,

    #[command(flatten)]
    source: StateArgs,
}

/// The settings of a daemon as a file holds them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(title = "drover run settings")]
pub(super) struct Config {
    /// Where the state is read from.
    source: StateArgs,
    /// The rest.
    daemon: Own,
}

#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[command(next_help_heading = "Daemon")]
struct Own {
    /// How often the state's source is looked at when nothing tells that it changed [default: 1m]
    #[arg(long, value_name = "TIME", env = "DROVER_POLL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    poll: Option<Interval>,

    /// Also follow the branch when it was rewound or forced, so that it no longer holds the commit in force
    #[arg(long, num_args = 0..=1, default_missing_value = "true", env = "DROVER_FOLLOW_REWINDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    follow_rewinds: Option<bool>,

    /// Only apply commits signed by these: a file in the format of ssh-keygen's ALLOWED SIGNERS
    #[arg(long, value_name = "FILE", env = "DROVER_ALLOWED_SIGNERS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_signers: Option<PathBuf>,

    /// Only apply commits signed by these: a file of OpenPGP public keys
    #[arg(long, value_name = "FILE", env = "DROVER_OPENPGP_KEYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    openpgp_keys: Option<PathBuf>,

    /// Where the web page, metrics, health and webhooks are served [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDRESS", env = "DROVER_LISTEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,

    /// File with the secret of git webhooks; without it every call is taken for a hint to look
    #[arg(long, value_name = "FILE", env = "DROVER_HOOK_SECRET_FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hook_secret_file: Option<PathBuf>,

    /// The namespace of drover's Lease in each cluster [default: drover]
    #[arg(long, value_name = "NAME", env = "DROVER_LEASE_NAMESPACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_namespace: Option<String>,

    /// How long a replica that fell silent keeps a cluster [default: 15s]
    #[arg(long, value_name = "TIME", env = "DROVER_LEASE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<Interval>,

    /// What this replica is called in Leases and Events [default: the host name]
    #[arg(long, value_name = "NAME", env = "DROVER_IDENTITY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,

    /// How long a single watch lives; longer silence means that it hangs [default: 1m]
    #[arg(long, value_name = "TIME", env = "DROVER_WATCH_LIFETIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    watch_lifetime: Option<Interval>,

    /// How often everything is listed anew, although the watches should have told [default: 12h]
    #[arg(long, value_name = "TIME", env = "DROVER_RESYNC")]
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<Interval>,

    /// How many nodes of a cluster are written at the same time [default: 16]
    #[arg(long, value_name = "N", env = "DROVER_PARALLEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<NonZeroU8>,

    /// Run this RKE where a cluster.yml is in force and the cluster is not as it says; a state cannot choose the program
    #[arg(long, value_name = "PATH", env = "DROVER_RKE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rke: Option<PathBuf>,

    /// A further argument for it; may be given several times
    #[arg(long = "rke-arg", value_name = "ARG", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rke_args: Vec<String>,

    /// The folder that holds a folder for each cluster with its cluster.rkestate, where RKE is run
    #[arg(long, value_name = "DIR", env = "DROVER_RKE_FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rke_folder: Option<PathBuf>,

    /// A label that was changed back so many times is fought over, and left alone for a while [default: 5]
    #[arg(long, value_name = "N", env = "DROVER_FIGHT_TIMES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fight_times: Option<NonZeroU16>,

    /// ... within this time [default: 10m]
    #[arg(long, value_name = "TIME", env = "DROVER_FIGHT_WITHIN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fight_within: Option<Interval>,

    /// How long it is left alone; twice as long each further time [default: 30m]
    #[arg(long, value_name = "TIME", env = "DROVER_FIGHT_REST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fight_rest: Option<Interval>,

    /// How the log is written [default: text]
    #[arg(long, value_enum, env = "DROVER_LOG_FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<Log>,

    /// What is logged: error, warn, info, debug, or a filter as `drover=debug,kube=info` [default: info,kube_client=off]
    #[arg(long, value_name = "LEVEL", env = "DROVER_LOG")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Log {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub(super) async fn run(args: &RunArgs, ui: Ui, _now: Timestamp) -> Result<Outcome, Failure> {
    let config = args.config()?;
    if args.print_config {
        let text = serde_yaml::to_string(&config.shown());
        ui.out(&text.map_err(|error| Failure::caused("cannot write the settings", &error))?)?;
        return Ok(Outcome::Done);
    }
    let own = &config.daemon;
    let format = if own.log_format == Some(Log::Json) { LogFormat::Json } else { LogFormat::Text };
    ui.log(format, own.log.as_deref().unwrap_or(LOG))?;
    let identity = identity(own.identity.as_deref());
    let daemon = Daemon::new(config.settings()?, &identity);
    let server = web::bind(own.listen.as_deref().unwrap_or("127.0.0.1:8470")).await?;
    tracing::info!(identity, address = server.address(), version = env!("CARGO_PKG_VERSION"), "drover runs");
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone());
    let serve = server.serve(daemon.clone(), own.hook_secret_file.clone(), stop.clone());
    let (ran, served) = tokio::join!(
        async {
            let ran = daemon.run(stop.clone()).await;
            stop.cancel();
            ran
        },
        async {
            let served = serve.await;
            stop.cancel();
            served
        }
    );
    ran.and(served)?;
    tracing::info!("drover has ended");
    Ok(Outcome::Done)
}

impl RunArgs {
    /// Flags and environment over the file.
    fn config(&self) -> Result<Config, Failure> {
        let given = Config { source: self.source.clone(), daemon: self.own.clone() };
        let Some(path) = &self.config else { return Ok(given) };
        let text = String::from_utf8(files::read_regular(path)?)
            .map_err(|_| Failure::new(format!("{} is not UTF-8", path.display())))?;
        let file: Config = serde_yaml::from_str(&text).map_err(|error| {
            Failure::caused(format!("{} cannot be read", path.display()), &error)
                .hint("`drover schema run` tells its form, and `drover run --print-config` shows one")
        })?;
        let mut all = to_value(&file)?;
        overlay(&mut all, to_value(&given)?);
        serde_json::from_value(all).map_err(|error| Failure::caused("cannot join the settings", &error))
    }
}

fn to_value(config: &Config) -> Result<Value, Failure> {
    serde_json::to_value(config).map_err(|error| Failure::caused("cannot join the settings", &error))
}

fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

impl Config {
    /// The settings with their defaults filled in, and without the password that an address may hold.
    fn shown(&self) -> Self {
        let own = &self.daemon;
        let interval = |given: &Option<Interval>, default: &str| given.clone().or_else(|| default.parse().ok());
        let limits = FightLimits::default();
        let daemon = Own {
            poll: interval(&own.poll, POLL),
            follow_rewinds: Some(own.follow_rewinds.unwrap_or_default()),
            listen: own.listen.clone().or_else(|| Some("127.0.0.1:8470".into())),
            lease_namespace: own.lease_namespace.clone().or_else(|| Some("drover".into())),
            lease: interval(&own.lease, LEASE),
            watch_lifetime: interval(&own.watch_lifetime, WATCH),
            resync: interval(&own.resync, RESYNC),
            parallel: own.parallel.or(NonZeroU8::new(PARALLEL)),
            fight_times: own.fight_times.or(u16::try_from(limits.times).ok().and_then(NonZeroU16::new)),
            fight_within: interval(&own.fight_within, "10m"),
            fight_rest: interval(&own.fight_rest, "30m"),
            log_format: own.log_format.or(Some(Log::Text)),
            log: own.log.clone().or_else(|| Some(LOG.into())),
            ..own.clone()
        };
        Self { source: self.source.shown(), daemon }
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let own = &self.daemon;
        let limits = FightLimits::default();
        let signers = (own.allowed_signers.is_some() || own.openpgp_keys.is_some())
            .then(|| SignerFiles { ssh: own.allowed_signers.clone(), openpgp: own.openpgp_keys.clone() });
        let signed = |given: &Option<Interval>, default| {
            given.as_ref().and_then(|given| SignedDuration::try_from(given.duration()).ok()).unwrap_or(default)
        };
        Ok(Settings {
            source: self.source.source()?,
            follow: FollowOptions { follow_rewinds: own.follow_rewinds.unwrap_or_default(), signers },
            poll: length(&own.poll, POLL),
            lease_namespace: own.lease_namespace.clone().unwrap_or_else(|| "drover".into()),
            lease: length(&own.lease, LEASE),
            watch_lifetime: length(&own.watch_lifetime, WATCH),
            resync: length(&own.resync, RESYNC),
            parallel: own.parallel.map_or(PARALLEL, NonZeroU8::get).into(),
            rke: own.rke.clone().map(|program| RkeCommand {
                program,
                args: own.rke_args.clone(),
                folder: own.rke_folder.clone(),
            }),
            fights: FightLimits {
                times: own.fight_times.map_or(limits.times, |times| times.get().into()),
                within: signed(&own.fight_within, limits.within),
                rest: signed(&own.fight_rest, limits.rest),
            },
        })
    }
}

const POLL: &str = "1m";
const LEASE: &str = "15s";
const WATCH: &str = "1m";
const RESYNC: &str = "12h";
const PARALLEL: u8 = 16;
/// kube calls every request an error that was not answered well; drover tells what follows from it.
const LOG: &str = "info,kube_client=off";

fn length(given: &Option<Interval>, default: &str) -> Duration {
    let default = || default.parse::<Interval>().map(|interval| interval.duration()).unwrap_or_default();
    given.as_ref().map_or_else(default, Interval::duration)
}

/// A name for this process that no other one has, also not the next one on this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the name of the machine is part of its environment, and time makes names"
)]
fn identity(given: Option<&str>) -> String {
    let of_file = || files::read_regular(Path::new("/etc/hostname")).ok().and_then(|name| String::from_utf8(name).ok());
    let host = given.map(str::to_owned).or_else(|| std::env::var("HOSTNAME").ok()).or_else(of_file);
    let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    format!(
        "{}_{:x}-{:x}",
        host.unwrap_or_else(|| "drover".into()),
        std::process::id(),
        Timestamp::now().as_microsecond()
    )
}

/// Stops in good order on the first signal; the second ends the process at once.
fn stop_on_signal(stop: CancellationToken) {
    tokio::spawn(async move {
        while signalled().await {
            if stop.is_cancelled() {
                #[expect(clippy::exit, reason = "a person who interrupts twice wants out at once")]
                std::process::exit(130);
            }
            tracing::info!("stopping: finishing what is in flight (once more to stop at once)");
            stop.cancel();
        }
    });
}
