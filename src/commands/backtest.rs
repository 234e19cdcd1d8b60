use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use super::common::json;
use crate::adapters::files;
use crate::backtest::history::{History, recorded};
use crate::backtest::{self, Contender, Settings, Trace};
use crate::engine::audit::MOVE_VERSION;
use crate::error::Failure;
use crate::rebalance::{Record, RecordError, Rules};
use crate::report::{BacktestReport, backtest_html, backtest_text};
use crate::ui::Ui;

/// Replay a job trace under policies: what would moving machines have brought?
///
/// Simulates weeks of a cluster in seconds, several times with shifted decisions, and compares how long jobs waited. The
/// policy `demand` is drover's rebalancer itself: the same function decides here and in production. `static` moves
/// nothing, `cube` is the rule of cube-studio, and `pool` is the bound: one pool in which every machine serves everyone.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Files (CSV; the columns may stand in any order and among others):
  --jobs    submit_s,duration_s,gpus,group    seconds from its begin; jobs without GPUs are left out
  --groups  group,nodes,gpus_per_node         the machines that each group begins with

A cluster's own history: `drover snapshot --jobs` and `drover snapshot --groups` write such files of its pods and machines, and --jobs may be the folder of its decision records, state/.drover/decisions/CLUSTER.

What is simulated: a machine serves the queue of the group whose label it carries. Relabelling takes no time, and running jobs stay to their end. A job of at most one machine's GPUs goes to the fullest machine of its group that has room; a larger one takes as many wholly idle machines as it needs. Nothing is preempted, nothing fails. Policies see labels, requests, queues and ages, but neither how long a job will run nor what comes.

Examples:
  drover backtest --jobs jobs.csv --groups groups.csv
  drover backtest --jobs jobs.csv --groups groups.csv --policy static,demand --backfill
  drover backtest --jobs jobs.csv --groups groups.csv --format html > backtest.html
  drover backtest --jobs jobs.csv --groups groups.csv --rule patience=300 --rule weights.home=2
  drover backtest --jobs state/.drover/decisions/prod")]
pub(super) struct BacktestArgs {
    /// The jobs: a CSV file with submit_s,duration_s,gpus,group, or the folder of a cluster's decision records
    #[arg(long, value_name = "FILE")]
    jobs: PathBuf,

    /// The groups and their machines: a CSV file with group,nodes,gpus_per_node; records tell them themselves
    #[arg(long, value_name = "FILE")]
    groups: Option<PathBuf>,

    /// Which policies; comma separated, or given several times [default: all]
    #[arg(long = "policy", value_name = "POLICY", value_enum, value_delimiter = ',')]
    policies: Vec<Policy>,

    /// Seconds between two decisions
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    tick: u32,

    /// Replays of each policy that decides, each with its decisions shifted within a tick
    ///
    /// A cluster is a chaotic system: who starts first changes everything after it. One replay says little; the figures
    /// are means of all phases, with their deviation.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    phases: u32,

    /// Part of its first machines that each group keeps whatever happens; at least one machine
    #[arg(long, value_name = "FRACTION", default_value_t = 0.25, value_parser = fraction)]
    min_share: f64,

    /// When the replay ends, in seconds from the begin of the trace [default: four weeks, 2419200; of records, the last]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
    horizon: Option<u32>,

    /// Before which nothing is counted, since a trace begins with an empty cluster [default: two days, 172800; of records,
    /// the first]
    #[arg(long, value_name = "SECONDS")]
    warmup: Option<u32>,

    /// Every waiting job that fits may start, and not only the oldest of its group
    #[arg(long)]
    backfill: bool,

    /// Change a parameter of `demand`, to see what it does; may be given several times
    ///
    /// The names are those of `rules` in the JSON report, as patience or weights.served; its schema says what each means.
    #[arg(long = "rule", value_name = "NAME=VALUE")]
    rules: Vec<String>,

    /// How the result is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Ten years; more would be a slip of the pen that takes hours.
const MOST_SECONDS: i64 = 315_360_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// No machine ever moves
    Static,
    /// The rule of cube-studio, without bounds
    Cube,
    /// drover's own rebalancer
    Demand,
    /// Every machine serves every group
    Pool,
}

impl From<Policy> for Contender {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Static => Self::Static,
            Policy::Cube => Self::Cube,
            Policy::Demand => Self::Demand,
            Policy::Pool => Self::Pool,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: tables
    Text,
    /// For programs; `drover schema backtest` tells its form
    Json,
    /// For people: one page with plots that needs nothing else
    Html,
}

fn fraction(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a fraction from 0 to 1 is expected, as 0.25".to_owned())
}

pub(super) fn run(args: &BacktestArgs, ui: Ui) -> Result<Outcome, Failure> {
    let read = read(&args.jobs, args.groups.as_deref(), ui)?;
    let settings = Settings {
        tick: args.tick,
        phases: args.phases,
        min_share: args.min_share,
        horizon: args.horizon.unwrap_or(read.until),
        warmup: args.warmup.unwrap_or(read.from),
        backfill: args.backfill,
        rules: rules(&args.rules)?,
    };
    if settings.warmup >= settings.horizon {
        let text = format!("nothing would be counted: the warm-up of {} s lasts until the horizon", settings.warmup);
        return Err(Failure::new(text).hint("give a smaller --warmup, or a later --horizon"));
    }
    let trace = read.trace;
    let policies: Vec<Contender> = match args.policies.as_slice() {
        [] => Contender::ALL.to_vec(),
        some => some.iter().copied().map(Contender::from).collect(),
    };
    let bar = ui.steps("replays", backtest::replays(&settings, &policies));
    let outcome = backtest::run(&trace, &settings, &policies, || bar.step());
    drop(bar);
    let report = BacktestReport::new(&trace, &settings, &outcome);
    report.notes.iter().for_each(|note| ui.note(&format!("note: {note}")));
    match args.format {
        Format::Text => ui.out(&backtest_text(&report))?,
        Format::Json => ui.out(&json(&report)?)?,
        Format::Html => ui.out(&backtest_html(&report, &outcome)?)?,
    }
    Ok(Outcome::Done)
}

/// Reads a trace from files, or from the records of a cluster.
fn read(jobs: &Path, groups: Option<&Path>, ui: Ui) -> Result<History, Failure> {
    if jobs.is_dir() {
        return read_records(jobs, groups, ui);
    }
    let groups = groups.ok_or_else(|| {
        Failure::new("--groups is missing: which machines each group begins with")
            .hint("a CSV file with group,nodes,gpus_per_node; `drover snapshot --groups` writes that of a cluster")
    })?;
    let name = |path: &Path| path.display().to_string();
    let (job_file, group_file) = (files::read_regular(jobs)?, files::read_regular(groups)?);
    let trace = Trace::read((&name(jobs), &job_file), (&name(groups), &group_file))?;
    let Settings { warmup, horizon, .. } = Settings::default();
    Ok(History { trace, from: warmup, until: horizon, notes: Vec::new() })
}

/// Reads the decision records of a cluster. One that cannot be read is told, and the others count.
fn read_records(folder: &Path, groups: Option<&Path>, ui: Ui) -> Result<History, Failure> {
    if let Some(groups) = groups {
        return Err(Failure::new(format!("{} holds records, which tell the groups themselves", folder.display()))
            .hint(format!("leave --groups {} out", groups.display())));
    }
    let mut inputs = Vec::new();
    for path in files::list_folder(folder)?.iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let bytes = files::read_regular(path)?;
        match Record::parse(&bytes).and_then(|record| record.check().map(|()| record)) {
            Ok(record) => inputs.push(record.input),
            // What a person ordered has no input.
            Err(RecordError::Version(version)) if version == MOVE_VERSION => {}
            Err(error) => ui.note(&format!("note: {} is passed over: {error}", path.display())),
        }
    }
    let history = recorded(inputs).map_err(|failure| failure.within(folder.display().to_string()))?;
    history.notes.iter().for_each(|note| ui.note(&format!("note: {note}")));
    Ok(history)
}

/// The rules of production, but for what was asked to be changed.
fn rules(changes: &[String]) -> Result<Rules, Failure> {
    let unreadable = |error: serde_json::Error| Failure::caused("cannot change the rules", &error);
    let mut rules = serde_json::to_value(Rules::default()).map_err(unreadable)?;
    for change in changes {
        let failed =
            |text: String| Failure::new(text).hint("write for example --rule patience=300 or --rule weights.home=2");
        let (name, text) = change.split_once('=').ok_or_else(|| failed(format!("--rule {change:?} has no =")))?;
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        let mut around = &mut rules;
        for part in name.split('.') {
            around = match around.as_object_mut() {
                Some(object) => object.entry(part).or_insert(Value::Null),
                None => return Err(failed(format!("--rule {change:?}: there is no rule {name}"))),
            };
        }
        *around = value;
        let read = Rules::deserialize(&rules);
        read.map_err(|error| failed(format!("--rule {change:?}: {error}")))?;
    }
    serde_json::from_value(rules).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Rules, Failure> {
        rules(&changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn rules_are_those_of_production_but_for_what_is_changed() {
        assert_eq!(changed(&[]).expect("rules"), Rules::default());
        let rules = changed(&["patience=7", "weights.home=2", "idleOnly=true", "dailyMoves=9"]).expect("rules");
        assert_eq!((rules.patience, rules.weights.home, rules.idle_only), (7, 2, true));
        assert_eq!(rules.daily_moves, Some(9));
        for wrong in ["patience", "patient=7", "weights.x=1", "patience.x=1", "patience=soon", "=", "maxMoves=-1"] {
            let failure = changed(&[wrong]).expect_err("no rule");
            assert!(failure.to_string().contains(&format!("{wrong:?}")) && failure.advice().is_some(), "{failure}");
        }
    }
}
