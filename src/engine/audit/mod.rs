//! Which decisions the history of a state tells, what became of each, and whether they can be reproduced.

mod chronicle;
mod past;
mod places;
mod record;
mod verify;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use git2::Oid;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

pub use chronicle::{Chronicle, Entry, Step};
pub use past::{Veto, vetoes};
pub use places::{Changes, Machine, Place, Turn};
pub use record::{DecidedBy, MOVE_VERSION, MoveRecord};

use self::record::{AnyRecord, decided_by};
use self::verify::short;
use super::state::Loaded;
use crate::adapters::git::Git;
use crate::error::Failure;
use crate::model::time::Interval;
use crate::model::{ClusterName, Desired, NodeName};
use crate::writeback::{Trailers, reason};

/// For how long a machine is left alone that a person took back, where the cluster does not say.
const VETO: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Which decisions are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditOptions {
    /// Of these clusters; of all, where none is named.
    pub clusters: BTreeSet<String>,
    /// About this machine.
    pub node: Option<String>,
    /// That came to the branch since then.
    pub since: Option<Timestamp>,
    /// Replay each from its record.
    pub verify: bool,
}

/// The decisions that the history of a state tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover audit")]
pub struct AuditReport {
    /// The folder or repository.
    pub source: String,
    /// The newest commit that was looked at.
    pub commit: String,
    /// Whether the decisions were replayed.
    pub verified: bool,
    /// Whether only the newest part of history is here.
    pub shallow: bool,
    /// The decisions, the oldest first.
    pub decisions: Vec<Audited>,
    /// What is wrong with the history as a whole.
    pub faults: Vec<String>,
}

/// A decision of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    /// What tells it from every other one.
    pub decision: String,
    /// The cluster.
    pub cluster: String,
    /// The commit that made it.
    pub commit: String,
    /// The merge that brought that commit to the branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<String>,
    /// Who it is by.
    pub author: String,
    /// Whether the rebalancer decided it, or a person.
    pub decided_by: DecidedBy,
    /// When it came to the branch.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Timestamp,
    /// Its moves.
    pub moves: Vec<AuditedMove>,
    /// Where its record lies in the repository.
    pub record: String,
    /// What is unusual about it, and no fault.
    pub notes: Vec<String>,
    /// Why it does not stand up to being replayed; empty where it does, or where that was not asked for.
    pub faults: Vec<String>,
}

/// A move of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditedMove {
    /// The machine.
    pub node: String,
    /// The group that it left; `(none)` where it was in none.
    pub from: String,
    /// The group that it went to.
    pub to: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of it.
    pub effect: Effect,
}

/// What became of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// In a word.
    pub outcome: EffectOutcome,
    /// For how long the machine was there, or has been there so far, in seconds.
    pub seconds: i64,
    /// What ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Made>,
}

/// What became of a move, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EffectOutcome {
    /// The machine is where it was moved to.
    Stays,
    /// It went back to the group that it came from.
    Back,
    /// It went on to another group.
    MovedOn,
    /// It was taken out of the state.
    Removed,
    /// The branch did not take the move over.
    NotTaken,
}

/// A step of a machine, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// When it came to the branch.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Timestamp,
    /// The commit.
    pub commit: String,
    /// Who made it.
    pub author: String,
    /// Where the machine was: a group, `(none)` or `(absent)`.
    pub from: String,
    /// Where it went.
    pub to: String,
    /// Who decided, where it is a decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<DecidedBy>,
    /// Why, where that is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The history of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeHistory {
    /// Its steps, the oldest first.
    pub steps: Vec<Made>,
    /// Until when the rebalancer leaves it alone, since a person took it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub vetoed_until: Option<Timestamp>,
    /// Who took it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vetoed_by: Option<String>,
    /// Whether only the newest part of history is here.
    pub shallow: bool,
}

/// Reads the history of a state.
///
/// # Errors
/// Where the state is not under git, or the repository cannot be read.
pub fn chronicle(loaded: &Loaded) -> Result<Chronicle, Failure> {
    let (git, at) = loaded.committed().ok_or_else(|| {
        Failure::new(format!("{} has no history", loaded.revision.source))
            .hint("an audit reads commits: put the state under git, or name a repository with --repo")
    })?;
    Chronicle::read(git, at.commit, &at.folder)
}

/// For how long a machine of a cluster is left alone that a person took back.
pub fn veto_of(desired: &Desired, cluster: &str) -> SignedDuration {
    let asked = desired.clusters.get(cluster).and_then(|cluster| cluster.spec.rebalance.as_ref()?.veto.as_ref());
    asked.map_or(VETO, |length: &Interval| length.duration().try_into().unwrap_or(SignedDuration::MAX))
}

/// Lists the decisions of the history of a state.
///
/// # Errors
/// As for reading the history.
pub fn audit(loaded: &Loaded, options: &AuditOptions, now: Timestamp) -> Result<AuditReport, Failure> {
    let chronicle = chronicle(loaded)?;
    let Some((git, at)) = loaded.committed() else { return Err(Failure::new("the state has no history")) };
    let book = Book::new(git, &chronicle);
    let mut first: HashMap<&str, Oid> = HashMap::new();
    let (mut decisions, mut faults) = (Vec::new(), Vec::new());
    for entry in &chronicle.entries {
        for trailers in &entry.decisions {
            let twice = first.get(trailers.decision.as_str()).copied();
            first.entry(&trailers.decision).or_insert(entry.commit);
            if !is_asked_for(options, entry, trailers) {
                continue;
            }
            let mut audited = book.audited(entry, trailers, now);
            if options.verify {
                audited.faults = verify::faults(git, &chronicle, entry, trailers);
                audited.faults.extend(twice.map(|commit| format!("commit {} made the same decision", short(commit))));
            }
            decisions.push(audited);
        }
    }
    if options.verify {
        faults.extend(untold(git, at.commit, &at.folder, &first, options));
        if chronicle.is_shallow {
            let fault = "only the newest part of the history is here, so that earlier decisions cannot be seen: \
                         fetch the rest with `git fetch --unshallow`";
            faults.push(fault.to_owned());
        }
    }
    Ok(AuditReport {
        source: loaded.revision.source.clone(),
        commit: at.commit.to_string(),
        verified: options.verify,
        shallow: chronicle.is_shallow,
        decisions,
        faults,
    })
}

impl AuditReport {
    /// Whether everything stood up to being replayed.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.decisions.iter().all(|decision| decision.faults.is_empty())
    }
}

/// The history of one machine; empty where the state has none.
///
/// # Errors
/// Where the history cannot be read.
pub fn node_history(
    loaded: &Loaded,
    cluster: &ClusterName,
    node: &str,
    now: Timestamp,
) -> Result<NodeHistory, Failure> {
    let (Some((git, at)), Ok(name)) = (loaded.committed(), node.parse::<NodeName>()) else {
        return Ok(NodeHistory::default());
    };
    let chronicle = Chronicle::read(git, at.commit, &at.folder)?;
    let book = Book::new(git, &chronicle);
    let steps = book.steps.get(&(cluster.clone(), name)).map(Vec::as_slice).unwrap_or_default();
    let steps = steps.iter().map(|step| book.made(step, node, cluster.as_str())).collect();
    let vetoes = vetoes(git, &chronicle, cluster, veto_of(&loaded.desired, cluster.as_str()), now);
    let veto = vetoes.get(node).map(|veto| (veto.until, veto.by.clone()));
    let (vetoed_until, vetoed_by) = veto.unzip();
    Ok(NodeHistory { steps, vetoed_until, vetoed_by, shallow: chronicle.is_shallow })
}

fn is_asked_for(options: &AuditOptions, entry: &Entry, trailers: &Trailers) -> bool {
    let is_node = |node: &String| trailers.moves.iter().any(|made| made[0] == *node);
    (options.clusters.is_empty() || options.clusters.contains(&trailers.cluster))
        && options.node.as_ref().is_none_or(is_node)
        && options.since.is_none_or(|since| entry.at >= since)
}

/// Records of which no commit tells the decision: its commit was squashed into another one, or history was rewritten.
fn untold(git: &Git, head: Oid, folder: &Path, told: &HashMap<&str, Oid>, options: &AuditOptions) -> Vec<String> {
    let records = folder.join(".drover/decisions");
    let mut faults = Vec::new();
    for cluster in git.names(head, &records) {
        if !options.clusters.is_empty() && !options.clusters.contains(&cluster) {
            continue;
        }
        for name in git.names(head, &records.join(&cluster)) {
            let digest = name.strip_suffix(".json").and_then(|name| name.rsplit_once('-')).map(|(_, digest)| digest);
            if digest.is_none_or(|digest| !told.contains_key(digest)) {
                faults.push(format!(
                    "no commit tells the decision of the record {}: its commit was squashed without its words, or the \
                     history was rewritten",
                    records.join(&cluster).join(&name).display()
                ));
            }
        }
    }
    faults
}

/// The chronicle with what is looked up in it.
struct Book<'c> {
    git: &'c Git,
    steps: BTreeMap<Machine, Vec<Step<'c>>>,
}

impl<'c> Book<'c> {
    fn new(git: &'c Git, chronicle: &'c Chronicle) -> Self {
        Self { git, steps: chronicle.steps() }
    }

    fn audited(&self, entry: &Entry, trailers: &Trailers, now: Timestamp) -> Audited {
        let record = verify::record(self.git, entry, trailers).ok();
        let moves = trailers.moves.iter().map(|made| AuditedMove {
            node: made[0].clone(),
            from: made[1].clone(),
            to: made[2].clone(),
            reason: self.reason(entry, made, record.as_deref()),
            effect: self.effect(entry, trailers, made, now),
        });
        let mut notes = Vec::new();
        if !trailers.is_last {
            notes.push("its words stand where a squash leaves them".to_owned());
        }
        if entry.authored != entry.committed {
            notes.push(format!("its commit was made anew, rebased or squashed, on {}", day(entry.committed)));
        }
        Audited {
            decision: trailers.decision.clone(),
            cluster: trailers.cluster.clone(),
            commit: entry.commit.to_string(),
            merge: entry.merge.map(|merge| merge.to_string()),
            author: format!("{} <{}>", entry.author.name, entry.author.email),
            decided_by: decided_by(record.as_deref()),
            time: entry.at,
            moves: moves.collect(),
            record: trailers.record.clone(),
            notes,
            faults: Vec::new(),
        }
    }

    /// Why a machine moved: as the message says, and where its template does not, as the record says.
    fn reason(&self, entry: &Entry, made: &[String; 3], record: Option<&[u8]>) -> Option<String> {
        let of_record = || {
            let moves = AnyRecord::parse(record?).ok()?.moves();
            moves.into_iter().find(|recorded| recorded.told == *made).map(|recorded| recorded.reason)
        };
        reason(&entry.message, made).map(str::to_owned).or_else(of_record)
    }

    fn effect(&self, entry: &Entry, trailers: &Trailers, made: &[String; 3], now: Timestamp) -> Effect {
        let machine = trailers.cluster.parse().ok().zip(made[0].parse().ok());
        let steps =
            machine.and_then(|machine: Machine| self.steps.get(&machine)).map(Vec::as_slice).unwrap_or_default();
        let own = steps.iter().position(|step| step.entry.commit == entry.commit);
        let Some(own) = own else {
            return Effect { outcome: EffectOutcome::NotTaken, seconds: 0, ended: None };
        };
        let Some(next) = steps.get(own + 1) else {
            let seconds = now.duration_since(entry.at).as_secs().max(0);
            return Effect { outcome: EffectOutcome::Stays, seconds, ended: None };
        };
        let outcome = match &next.to {
            Place::Absent | Place::Unreadable => EffectOutcome::Removed,
            to if to.shown() == made[1] => EffectOutcome::Back,
            _ => EffectOutcome::MovedOn,
        };
        let seconds = next.entry.at.duration_since(entry.at).as_secs().max(0);
        Effect { outcome, seconds, ended: Some(self.made(next, &made[0], &trailers.cluster)) }
    }

    fn made(&self, step: &Step<'_>, node: &str, cluster: &str) -> Made {
        let entry = step.entry;
        let told = entry.decisions.iter().filter(|trailers| trailers.cluster == cluster);
        let decision = told.into_iter().find_map(|trailers| {
            let made = trailers.moves.iter().rev().find(|made| made[0] == node && made[2] == step.to.shown())?;
            Some((trailers, made))
        });
        let record = decision.and_then(|(trailers, _)| verify::record(self.git, entry, trailers).ok());
        Made {
            time: entry.at,
            commit: entry.commit.to_string(),
            author: format!("{} <{}>", entry.author.name, entry.author.email),
            from: step.from.shown().to_owned(),
            to: step.to.shown().to_owned(),
            decided_by: decision.map(|_| decided_by(record.as_deref())),
            reason: decision.and_then(|(_, made)| self.reason(entry, made, record.as_deref())),
        }
    }
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}
