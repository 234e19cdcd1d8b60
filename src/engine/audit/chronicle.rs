//! What the history of a state did to its machines, commit by commit.
//!
//! What counts is the way that the followed branch took, along first parents: where a merge brought several commits at
//! once, each of them is told, as long as together they explain what the merge changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use git2::Oid;
use jiff::Timestamp;

use super::places::{Changes, Machine, Place, Turn, changes};
use crate::adapters::files::is_state_file;
use crate::adapters::git::{FileChange, Git, Person, Told, Walk};
use crate::engine::state::folder_in;
use crate::error::Failure;
use crate::writeback::{Trailers, told};

/// Files beyond this size are not looked into.
const MAX_FILE: usize = 16 << 20;

/// A commit that tells a decision, or puts a machine elsewhere.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The commit.
    pub commit: Oid,
    /// Who made the change.
    pub author: Person,
    /// When the change was made.
    pub authored: Timestamp,
    /// When the commit was made.
    pub committed: Timestamp,
    /// When it came to the branch.
    pub at: Timestamp,
    /// The merge that brought it, where one did.
    pub merge: Option<Oid>,
    /// Whether it joins several others.
    pub is_merge: bool,
    /// Its message, where it tells a decision.
    pub message: String,
    /// The decisions that it tells.
    pub decisions: Vec<Trailers>,
    /// What it did to the documents; none where the commit before it is not known.
    pub changes: Option<Changes>,
}

/// What the history of a state did to its machines.
#[derive(Debug)]
pub struct Chronicle {
    folder: PathBuf,
    head: Option<Oid>,
    seen: HashSet<Oid>,
    /// The commits that matter, the oldest first.
    pub entries: Vec<Entry>,
    /// Commits that changed the record of a decision after it was written, by the path of the record.
    pub edits: BTreeMap<String, Vec<Told>>,
    /// Whether only the newest part of history is here.
    pub is_shallow: bool,
}

/// A step of one machine.
#[derive(Debug, Clone)]
pub struct Step<'c> {
    /// The commit that made it.
    pub entry: &'c Entry,
    /// Where the machine was.
    pub from: Place,
    /// Where it went.
    pub to: Place,
}

impl Chronicle {
    /// Reads the history before a commit. `folder` is that of the state.
    pub fn read(git: &Git, head: Oid, folder: &Path) -> Result<Self, Failure> {
        let mut chronicle = Self {
            folder: folder.to_path_buf(),
            head: None,
            seen: HashSet::new(),
            entries: Vec::new(),
            edits: BTreeMap::new(),
            is_shallow: git.is_shallow(),
        };
        chronicle.follow(git, head)?;
        Ok(chronicle)
    }

    /// Reads on to a newer commit; everything anew where it does not lead on from what was read.
    pub fn follow(&mut self, git: &Git, head: Oid) -> Result<(), Failure> {
        let mut walk = git.walk();
        let (mut line, mut next) = (Vec::new(), Some(head));
        while let Some(commit) = next.filter(|commit| Some(*commit) != self.head) {
            let told = walk.told(commit)?;
            next = told.parents.first().copied();
            line.push(told);
        }
        if next.is_none() && self.head.is_some() {
            *self = Self::read(git, head, &self.folder)?;
            return Ok(());
        }
        self.seen.extend(line.iter().map(|told| told.commit));
        for told in line.into_iter().rev() {
            self.step(git, &mut walk, told)?;
        }
        self.head = Some(head);
        Ok(())
    }

    /// A commit of the branch, with what it merged.
    fn step(&mut self, git: &Git, walk: &mut Walk<'_>, told: Told) -> Result<(), Failure> {
        let (at, merge) = (told.committed, told.commit);
        let mut entry = self.entry(git, walk, &told, (at, None))?;
        let mut brought = Vec::new();
        for commit in self.merged(walk, &told)? {
            if commit.parents.len() < 2 {
                brought.push(self.entry(git, walk, &commit, (at, Some(merge)))?);
            }
        }
        if told.parents.len() > 1 {
            explain(&mut entry, &mut brought);
            // A server repeats the words of a proposal in the merge of it.
            let known: HashSet<&str> =
                brought.iter().flat_map(|entry| &entry.decisions).map(|trailers| trailers.decision.as_str()).collect();
            entry.decisions.retain(|trailers| !known.contains(trailers.decision.as_str()));
        }
        self.entries.extend(brought.into_iter().chain([entry]).filter(matters));
        Ok(())
    }

    /// The commits that a merge brought, the oldest first.
    fn merged(&mut self, walk: &Walk<'_>, merge: &Told) -> Result<Vec<Told>, Failure> {
        let mut found = Vec::new();
        let mut waiting: Vec<(Oid, Option<Told>)> =
            merge.parents.iter().skip(1).rev().map(|parent| (*parent, None)).collect();
        while let Some((commit, told)) = waiting.pop() {
            match told {
                // Everything before it was told.
                Some(told) => found.push(told),
                None if self.seen.insert(commit) => {
                    let told = walk.told(commit)?;
                    let parents = told.parents.clone();
                    waiting.push((commit, Some(told)));
                    waiting.extend(parents.into_iter().rev().map(|parent| (parent, None)));
                }
                None => {}
            }
        }
        Ok(found)
    }

    fn entry(
        &mut self,
        git: &Git,
        walk: &mut Walk<'_>,
        commit: &Told,
        (at, merge): (Timestamp, Option<Oid>),
    ) -> Result<Entry, Failure> {
        let decisions = told(&commit.message);
        let changes = match commit.parents.first() {
            Some(parent) => Some(self.changes(git, walk, commit, *parent)?),
            None => None,
        };
        Ok(Entry {
            commit: commit.commit,
            author: commit.author.clone(),
            authored: commit.authored,
            committed: commit.committed,
            at,
            merge,
            is_merge: commit.parents.len() > 1,
            message: if decisions.is_empty() { String::new() } else { commit.message.clone() },
            decisions,
            changes,
        })
    }

    fn changes(&mut self, git: &Git, walk: &mut Walk<'_>, commit: &Told, parent: Oid) -> Result<Changes, Failure> {
        let folder = |commit| match git.has_folder(commit, &self.folder) || self.folder.as_os_str().is_empty() {
            true => self.folder.clone(),
            false => folder_in(git, commit, None).unwrap_or_default(),
        };
        let (old, new) = (folder(parent), folder(commit.commit));
        let looks = |path: &str| is_looked_at(path, &old) || is_looked_at(path, &new);
        let touched = walk.changes(commit.commit, parent, looks)?;
        let mut files = Vec::new();
        for FileChange { path, old: before, new: after } in touched {
            if path.contains(".drover/decisions/") {
                if before.is_some() && after.is_some() {
                    self.edits.entry(path).or_default().push(commit.clone());
                }
                continue;
            }
            let inside = |folder: &Path| Path::new(&path).strip_prefix(folder).ok().and_then(Path::to_str);
            let read = |id: Option<Oid>, folder: &Path| match id {
                Some(id) if inside(folder).is_some_and(is_state_file) => {
                    git.content(id).map(|bytes| Some(bytes).filter(|bytes| bytes.len() <= MAX_FILE))
                }
                _ => Ok(None),
            };
            let file = (read(before, &old)?, read(after, &new)?);
            if file != (None, None) {
                files.push(file);
            }
        }
        Ok(changes(&files))
    }

    /// The steps of every machine, the oldest first, as the branch took them. What could not be read for a time counts as
    /// not changed.
    pub fn steps(&self) -> BTreeMap<Machine, Vec<Step<'_>>> {
        let mut steps: BTreeMap<Machine, Vec<Step<'_>>> = BTreeMap::new();
        let mut lost: HashMap<&Machine, Place> = HashMap::new();
        for entry in &self.entries {
            let turns = entry.changes.iter().flat_map(|changes| &changes.turns);
            for Turn { machine, from, to, .. } in turns.filter(|turn| turn.counts) {
                let from = lost.remove(machine).unwrap_or_else(|| from.clone());
                if *to == Place::Unreadable {
                    lost.insert(machine, from);
                } else if from != *to && from != Place::Unreadable {
                    steps.entry(machine.clone()).or_default().push(Step { entry, from, to: to.clone() });
                }
            }
        }
        steps
    }
}

fn matters(entry: &Entry) -> bool {
    !entry.decisions.is_empty() || entry.changes.as_ref().is_some_and(|changes| !changes.turns.is_empty())
}

/// Whether a path leads to a file of the state or to a record.
fn is_looked_at(path: &str, folder: &Path) -> bool {
    let path = Path::new(path);
    match path.strip_prefix(folder) {
        Ok(inside) => {
            let mut parts = inside.iter().map(|part| part.as_encoded_bytes());
            match parts.next() {
                Some(b".drover") => parts.next().is_none_or(|part| part == b"decisions"),
                Some(first) => !first.starts_with(b".") && parts.all(|part| !part.starts_with(b".")),
                None => true,
            }
        }
        Err(_) => folder.starts_with(path),
    }
}

/// Whether the commits that a merge brought explain what it changed: then they tell it, and else the merge does.
fn explain(merge: &mut Entry, brought: &mut [Entry]) {
    let Some(changes) = &mut merge.changes else { return };
    let mut ways: HashMap<Machine, Option<(Place, Place)>> = HashMap::new();
    for Turn { machine, from, to, .. } in
        brought.iter().filter_map(|entry| entry.changes.as_ref()).flat_map(|changes| &changes.turns)
    {
        let way = ways.entry(machine.clone()).or_insert_with(|| Some((from.clone(), from.clone())));
        *way = way.take().filter(|(_, last)| last == from).map(|(first, _)| (first, to.clone()));
    }
    let mut net: HashMap<Machine, (Place, Place)> =
        changes.turns.iter().map(|turn| (turn.machine.clone(), (turn.from.clone(), turn.to.clone()))).collect();
    let is_told = |machine: &Machine, way: &Option<(Place, Place)>| match (way, net.get(machine)) {
        (Some(way), Some(net)) => way == net,
        (Some((first, last)), None) => first == last,
        (None, _) => false,
    };
    let told: HashSet<Machine> =
        ways.iter().filter(|(machine, way)| is_told(machine, way)).map(|(machine, _)| machine.clone()).collect();
    net.retain(|machine, _| !told.contains(machine));
    changes.turns.retain(|turn| !told.contains(&turn.machine));
    for entry in brought {
        for turn in entry.changes.iter_mut().flat_map(|changes| &mut changes.turns) {
            turn.counts = told.contains(&turn.machine);
        }
    }
}
