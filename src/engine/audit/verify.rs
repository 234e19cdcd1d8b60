//! Whether a decision can be reproduced from what the repository holds, and whether its commit did what it tells.

use std::collections::BTreeSet;

use git2::Oid;

use super::chronicle::{Chronicle, Entry};
use super::places::Place;
use super::record::AnyRecord;
use crate::adapters::git::{Git, Told};
use crate::rebalance::RecordError;
use crate::writeback::{Decision, Trailers};

/// Bytes beyond which a record is not read.
const MAX_RECORD: usize = 256 << 20;

/// The record of a decision, as its commit has it.
pub(super) fn record(git: &Git, entry: &Entry, trailers: &Trailers) -> Result<Vec<u8>, String> {
    if trailers.record.is_empty() {
        return Err("its commit names no record".to_owned());
    }
    if !trailers.record.contains(".drover/decisions/") {
        return Err(format!("its commit names a record in an unusual place, {}", trailers.record));
    }
    let missing = || format!("the record {} is missing in its commit", trailers.record);
    let blob = git.blob_at(entry.commit, &trailers.record).ok_or_else(missing)?;
    let content = git.content(blob).map_err(|failure| failure.to_string())?;
    match content.len() > MAX_RECORD {
        true => Err(format!("the record {} is larger than any that drover writes", trailers.record)),
        false => Ok(content),
    }
}

/// What is wrong with a decision, in words for a person.
pub(super) fn faults(git: &Git, chronicle: &Chronicle, entry: &Entry, trailers: &Trailers) -> Vec<String> {
    let mut faults = Vec::new();
    match record(git, entry, trailers) {
        Ok(bytes) => faults.extend(of_record(&bytes, trailers)),
        Err(fault) => faults.push(fault),
    }
    for edit in chronicle.edits.get(&trailers.record).into_iter().flatten() {
        faults.push(format!("its record was changed later, by {}", by(edit)));
    }
    faults.extend(of_commit(entry));
    faults
}

fn by(commit: &Told) -> String {
    format!("{} of {}", short(commit.commit), commit.author.name)
}

fn of_record(bytes: &[u8], trailers: &Trailers) -> Vec<String> {
    let mut faults = Vec::new();
    let told = trailers.moves.iter().map(|made| [0, 1, 2].map(|at| made[at].as_str()));
    let digest = Decision::digest_of(&trailers.cluster, told, bytes);
    if digest != trailers.decision {
        faults.push(format!("its record or its trailers were changed: they have digest {digest}"));
    }
    let record = match AnyRecord::parse(bytes) {
        Ok(record) => record,
        Err(error) => {
            let cut = matches!(&error, RecordError::NotJson(_)) && !bytes.trim_ascii_end().ends_with(b"}");
            faults.push(if cut { format!("{error}; it seems to be cut off") } else { error.to_string() });
            return faults;
        }
    };
    if let Err(error) = record.replay() {
        faults.push(error.to_string());
    }
    if record.cluster().is_some_and(|cluster| cluster != trailers.cluster) {
        faults.push("its record is of another cluster".to_owned());
    }
    let recorded: BTreeSet<[String; 3]> = record.moves().into_iter().map(|made| made.told).collect();
    let told: BTreeSet<[String; 3]> = trailers.moves.iter().cloned().collect();
    let list = |moves: Vec<&[String; 3]>| {
        moves.iter().map(|[node, from, to]| format!("{node} {from} -> {to}")).collect::<Vec<_>>().join(", ")
    };
    if recorded != told {
        let recorded = if recorded.is_empty() { "no move".to_owned() } else { list(recorded.iter().collect()) };
        faults.push(format!("its commit tells {}, its record {recorded}", list(told.iter().collect())));
    }
    faults
}

/// Whether a commit moved what the decisions that it tells say, and nothing else.
fn of_commit(entry: &Entry) -> Vec<String> {
    let Some(changes) = &entry.changes else {
        return vec!["the commit before its own is not here, so that what it changed is not known".to_owned()];
    };
    let mut faults = Vec::new();
    let mut told: BTreeSet<(&str, &str)> = BTreeSet::new();
    for trailers in &entry.decisions {
        for [node, from, to] in &trailers.moves {
            told.insert((&trailers.cluster, node));
            let turn = changes
                .turns
                .iter()
                .find(|turn| turn.machine.0.as_str() == trailers.cluster && turn.machine.1.as_str() == node);
            match turn {
                None if squashed_away(entry, &trailers.cluster, node) => {}
                None => faults.push(format!("its commit does not move {node}")),
                Some(turn) if entry.decisions.len() > 1 => {
                    // Of several moves in one commit, the first and the last show.
                    let shows = [turn.from.shown() == from, turn.to.shown() == to].contains(&true);
                    if !shows && !squashed_away(entry, &trailers.cluster, node) {
                        faults.push(moved(node, &turn.from, &turn.to, from, to));
                    }
                }
                Some(turn) if turn.from.shown() != from || turn.to.shown() != to => {
                    faults.push(moved(node, &turn.from, &turn.to, from, to));
                }
                Some(_) => {}
            }
        }
    }
    for turn in &changes.turns {
        let (cluster, node) = (turn.machine.0.as_str(), turn.machine.1.as_str());
        if !told.contains(&(cluster, node)) {
            let (from, to) = (turn.from.shown(), turn.to.shown());
            faults.push(format!("its commit also moves {node} of {cluster}, {from} -> {to}, which it does not tell"));
        }
    }
    faults.extend(changes.beyond.iter().map(|what| format!("its commit also changes {what}")));
    faults
}

fn moved(node: &str, was: &Place, is: &Place, from: &str, to: &str) -> String {
    format!("its commit moves {node} {} -> {}, and tells {from} -> {to}", was.shown(), is.shown())
}

/// Whether several decisions of one commit are about a machine: only what they come to together can be seen.
fn squashed_away(entry: &Entry, cluster: &str, node: &str) -> bool {
    let about = |trailers: &&Trailers| trailers.cluster == cluster && trailers.moves.iter().any(|made| made[0] == node);
    entry.decisions.iter().filter(about).count() > 1
}

pub(super) fn short(commit: Oid) -> String {
    commit.to_string().chars().take(10).collect()
}
