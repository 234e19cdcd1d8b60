use clap::Args;
use jiff::Timestamp;

use super::Outcome;
use super::common::{Format, SignerArgs, StateArgs, json};
use crate::adapters::git::{Git, Person};
use crate::engine::Written;
use crate::error::Failure;
use crate::model::text::closest;
use crate::model::{ClusterName, Desired, GroupName, Move, NodeName};
use crate::report::{MoveReport, move_text};
use crate::ui::Ui;
use crate::writeback::Decision;

/// Move a machine to another group, as a commit
///
/// Changes the `group` line of the machine's document and nothing else, and records who moved it and why, in the same way
/// in which the rebalancer's decisions are recorded. Without --commit or --push it only shows the change.
///
/// --push works on the newest state of the server, not on the files here: pull afterwards. Where somebody else pushes at
/// the same time, the move is checked again on top of what they pushed.
#[derive(Debug, Args)]
#[command(name = "move")]
pub(super) struct MoveArgs {
    /// The machine
    #[arg(value_name = "NODE")]
    node: NodeName,

    /// The group that it goes to
    #[arg(long, value_name = "GROUP")]
    to: GroupName,

    /// Its cluster [default: the only one that has such a machine]
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,

    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// Only from this group: the move is dropped when somebody else moved the machine
    #[arg(long, value_name = "GROUP")]
    from: Option<GroupName>,

    /// Commit to the branch that is checked out here
    #[arg(long, conflicts_with = "push")]
    commit: bool,

    /// Commit to the branch on the server: that of --repo and --rev, or the one that is pulled from here
    #[arg(long)]
    push: bool,

    /// Who moves it [default: who git on this machine says you are]
    #[arg(long, value_name = "NAME <EMAIL>", value_parser = person)]
    author: Option<Person>,

    #[command(flatten)]
    signers: SignerArgs,

    /// How the change is shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    state: StateArgs,
}

fn person(text: &str) -> Result<Person, String> {
    let named = text.trim().strip_suffix('>').and_then(|text| text.split_once('<'));
    let (name, email) = named.map(|(name, email)| (name.trim(), email.trim())).unwrap_or_default();
    let bad = |text: &str| text.is_empty() || text.contains(['<', '>']) || text.contains(char::is_control);
    if bad(name) || bad(email) {
        return Err("write it as NAME <EMAIL>".to_owned());
    }
    Ok(Person { name: name.to_owned(), email: email.to_owned() })
}

pub(super) fn run(args: &MoveArgs, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
    if args.reason.trim().is_empty() {
        return Err(Failure::new("the reason is empty").hint("say why, for those who read the history"));
    }
    let author = args.author.clone().or_else(Git::whoami);
    let writer = args.state.writer(args.push, &args.signers, author.clone())?;
    let cluster = cluster(args, now)?;
    let decide = |desired: &Desired| decide(args, &cluster, author.as_ref(), desired, now);
    let (report, outcome) = if args.commit || args.push {
        let written = writer.write(&cluster, now, decide)?;
        let outcome = if matches!(written, Written::Dropped { .. }) { Outcome::Refused } else { Outcome::Done };
        (MoveReport::written(written), outcome)
    } else {
        match writer.prepare(&cluster, now, decide)? {
            Ok(prepared) => (MoveReport::prepared(prepared), Outcome::Done),
            Err(written) => (MoveReport::written(written), Outcome::Refused),
        }
    };
    match args.format {
        Format::Text => ui.out(&move_text(&report))?,
        Format::Json => ui.out(&json(&report)?)?,
    }
    Ok(outcome)
}

/// The cluster that is named, or the only one with such a machine.
fn cluster(args: &MoveArgs, now: Timestamp) -> Result<ClusterName, Failure> {
    if let Some(cluster) = &args.cluster {
        return Ok(cluster.clone());
    }
    let loaded = args.state.load(now)?;
    let clusters = &loaded.desired.clusters;
    let found: Vec<&ClusterName> =
        clusters.iter().filter(|(_, cluster)| cluster.nodes.contains_key(&args.node)).map(|(name, _)| name).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let names = clusters.values().flat_map(|cluster| cluster.nodes.keys().map(NodeName::as_str));
            let failure = Failure::new(format!("the state has no machine {}", args.node));
            Err(match closest(args.node.as_str(), names) {
                Some(near) => failure.hint(format!("did you mean {near}?")),
                None => failure,
            })
        }
        _ => {
            Err(Failure::new(format!("several clusters have a machine {}", args.node)).hint("name one with --cluster"))
        }
    }
}

/// The move, as the newest state has the machine.
fn decide(
    args: &MoveArgs,
    cluster: &ClusterName,
    author: Option<&Person>,
    desired: &Desired,
    now: Timestamp,
) -> Result<Decision, String> {
    let node = desired.clusters.get(cluster).and_then(|cluster| cluster.nodes.get(&args.node));
    let Some(node) = node else {
        return Err(format!("the state has no machine {} in cluster {cluster}", args.node));
    };
    let made = Move {
        cluster: cluster.clone(),
        node: args.node.clone(),
        from: args.from.clone().or_else(|| node.group.clone()),
        to: args.to.clone(),
        reason: args.reason.clone(),
    };
    let record = serde_json::json!({
        "version": "drover.dev/move/v1",
        "time": now.to_string(),
        "by": author.map(|person| format!("{} <{}>", person.name, person.email)),
        "moves": [made],
    });
    let record = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())? + "\n";
    Ok(Decision::new(cluster.clone(), vec![made], record.into_bytes()))
}
