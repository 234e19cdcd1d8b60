//! Which commit wrote each line that a plan shows.
//!
//! One walk through history serves all files together. libgit2's own blame takes a walk for each file: for a plan of a
//! thousand machines with a file each, that is a hundred times the work.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::path::{Path, PathBuf};

use git2::{Delta, DiffFindOptions, DiffOptions, Oid, Patch, Repository};

use super::trees::{Touched, Trees};
use crate::plan::{Commit, Source};

/// Finds the commits behind lines of a state.
pub struct Blamer {
    repository: PathBuf,
    folder: PathBuf,
    newest: Option<Oid>,
}

/// A line that is looked for: its number in the commit that is looked at, and which sources want it.
#[derive(Debug, Clone, Copy)]
struct Line {
    number: u32,
    wanted: usize,
}

/// The lines that are looked for in a commit, by file.
type Lines = BTreeMap<String, Vec<Line>>;

/// How lines moved between two versions of a file.
struct Moves(Vec<Hunk>);

struct Hunk {
    old_start: u32,
    old_lines: u32,
    new_start: u32,
    new_lines: u32,
}

impl Blamer {
    pub(super) fn new(repository: PathBuf, folder: PathBuf, newest: Option<Oid>) -> Self {
        Self { repository, folder, newest }
    }

    /// Gives every source the commit that last wrote its line. `uncommitted` gives the content of a file that differs
    /// from the commit; lines that are not committed, and files that git does not know, get none.
    pub fn fill<'s>(
        &self,
        sources: impl Iterator<Item = &'s mut Source>,
        uncommitted: impl Fn(&str) -> Option<Vec<u8>>,
    ) {
        let (Some(newest), Ok(repository)) = (self.newest, Repository::open(&self.repository)) else { return };
        let mut sources: Vec<&mut Source> = sources.collect();
        let folder = self.folder.to_str().filter(|folder| !folder.is_empty()).map(|folder| format!("{folder}/"));
        let folder = folder.unwrap_or_default();
        let mut lines = Lines::new();
        for (wanted, source) in sources.iter().enumerate() {
            let path = format!("{folder}{}", source.origin.file);
            lines.entry(path).or_default().push(Line { number: source.origin.line, wanted });
        }
        if lines.is_empty() {
            return;
        }
        // Provenance is a help, not a condition: what history cannot tell is left out of the plan.
        let mut trees = Trees::new(&repository);
        let uncommitted = |path: &str| uncommitted(&path[folder.len()..]);
        let committed = committed(&repository, &mut trees, newest, lines, uncommitted).unwrap_or_default();
        let found = walk(&repository, &mut trees, newest, committed).unwrap_or_default();
        let mut commits: HashMap<Oid, Option<Commit>> = HashMap::new();
        for (wanted, id) in found {
            let commit = commits.entry(id).or_insert_with(|| describe(&repository, id).ok());
            sources[wanted].commit.clone_from(commit);
        }
    }
}

/// The lines as they are in the newest commit; those that only the working directory has are left out.
fn committed(
    repository: &Repository,
    trees: &mut Trees<'_>,
    newest: Oid,
    mut lines: Lines,
    uncommitted: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Lines, git2::Error> {
    let root = repository.find_commit(newest)?.tree_id();
    let files = trees.touched(None, root, |folder| is_looked_into(&lines, folder))?;
    let mut kept = Lines::new();
    for Touched { path, new: id, .. } in files {
        let Some(lines) = lines.remove(&path) else { continue };
        let lines = match uncommitted(&path) {
            None => lines,
            Some(content) => {
                let blob = repository.find_blob(id)?;
                let patch = Patch::from_blob_and_buffer(&blob, None, &content, None, Some(&mut exact()))?;
                Moves::of(&patch)?.split(lines).0
            }
        };
        if !lines.is_empty() {
            kept.insert(path, lines);
        }
    }
    Ok(kept)
}

fn exact() -> DiffOptions {
    let mut options = DiffOptions::new();
    options.context_lines(0).interhunk_lines(0).ignore_submodules(true);
    options
}

/// Takes the lines back through history, newest commit first, until each has met the commit that wrote it.
fn walk(
    repository: &Repository,
    trees: &mut Trees<'_>,
    newest: Oid,
    lines: Lines,
) -> Result<Vec<(usize, Oid)>, git2::Error> {
    let mut found = Vec::new();
    let mut waiting: HashMap<Oid, Lines> = HashMap::from([(newest, lines)]);
    let mut next = BinaryHeap::from([(repository.find_commit(newest)?.time().seconds(), newest)]);
    while let Some((_, id)) = next.pop() {
        let Some(mut lines) = waiting.remove(&id) else { continue };
        let commit = repository.find_commit(id)?;
        trees.forget_old();
        for parent in commit.parents() {
            if lines.is_empty() {
                break;
            }
            let passed = pass_on(repository, trees, &parent, &commit, &mut lines)?;
            if passed.is_empty() {
                continue;
            }
            match waiting.entry(parent.id()) {
                Entry::Vacant(place) => drop(place.insert(passed)),
                Entry::Occupied(mut there) => {
                    passed.into_iter().for_each(|(path, lines)| there.get_mut().entry(path).or_default().extend(lines));
                }
            }
            next.push((parent.time().seconds(), parent.id()));
        }
        found.extend(lines.into_values().flatten().map(|line| (line.wanted, id)));
    }
    Ok(found)
}

/// Takes out of `lines` what the parent already had, under the names and numbers that it had there.
fn pass_on(
    repository: &Repository,
    trees: &mut Trees<'_>,
    parent: &git2::Commit<'_>,
    commit: &git2::Commit<'_>,
    lines: &mut Lines,
) -> Result<Lines, git2::Error> {
    let (old, new) = (parent.tree_id(), commit.tree_id());
    let mut passed = std::mem::take(lines);
    if old == new {
        return Ok(passed);
    }
    let touched = trees.touched(Some(old), new, |folder| is_looked_into(&passed, folder))?;
    let mut any_added = false;
    for Touched { path, old, new } in touched {
        let Some(wanted) = passed.remove(&path) else { continue };
        any_added |= old.is_none();
        let (older, own) = match old {
            Some(old) => Moves::between(repository, old, new)?.split(wanted),
            None => (Vec::new(), wanted),
        };
        if !older.is_empty() {
            passed.insert(path.clone(), older);
        }
        if !own.is_empty() {
            lines.insert(path, own);
        }
    }
    if any_added && trees.lose_files(old, new)? {
        follow_renames(repository, parent, commit, lines, &mut passed)?;
    }
    Ok(passed)
}

/// Whether lines are looked for in files below a folder.
fn is_looked_into(lines: &Lines, folder: &str) -> bool {
    let inside = format!("{folder}/");
    lines.range(inside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&inside))
}

/// Lets the lines of files that were only renamed pass to the parent as well.
fn follow_renames(
    repository: &Repository,
    parent: &git2::Commit<'_>,
    commit: &git2::Commit<'_>,
    lines: &mut Lines,
    passed: &mut Lines,
) -> Result<(), git2::Error> {
    let (old, new) = (parent.tree()?, commit.tree()?);
    let mut diff = repository.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut exact()))?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true)))?;
    for (index, delta) in diff.deltas().enumerate().filter(|(_, delta)| delta.status() == Delta::Renamed) {
        let path_of = |file: git2::DiffFile<'_>| file.path().and_then(Path::to_str).map(str::to_owned);
        let (Some(before), Some(after)) = (path_of(delta.old_file()), path_of(delta.new_file())) else { continue };
        let (Some(wanted), Some(patch)) = (lines.remove(&after), Patch::from_diff(&diff, index)?) else { continue };
        let (older, own) = Moves::of(&patch)?.split(wanted);
        if !older.is_empty() {
            passed.entry(before).or_default().extend(older);
        }
        if !own.is_empty() {
            lines.insert(after, own);
        }
    }
    Ok(())
}

impl Moves {
    fn between(repository: &Repository, old: Oid, new: Oid) -> Result<Self, git2::Error> {
        let (old, new) = (repository.find_blob(old)?, repository.find_blob(new)?);
        Self::of(&Patch::from_blobs(&old, None, &new, None, Some(&mut exact()))?)
    }

    fn of(patch: &Patch<'_>) -> Result<Self, git2::Error> {
        let hunks = (0..patch.num_hunks()).map(|index| {
            let (hunk, _) = patch.hunk(index)?;
            Ok(Hunk {
                old_start: hunk.old_start(),
                old_lines: hunk.old_lines(),
                new_start: hunk.new_start(),
                new_lines: hunk.new_lines(),
            })
        });
        hunks.collect::<Result<_, git2::Error>>().map(Self)
    }

    /// The lines that the old version had, under their old numbers, and those that are new.
    fn split(&self, lines: Vec<Line>) -> (Vec<Line>, Vec<Line>) {
        let (mut older, mut own) = (Vec::new(), Vec::new());
        for line in lines {
            match self.old_number(line.number) {
                Some(number) => older.push(Line { number, ..line }),
                None => own.push(line),
            }
        }
        (older, own)
    }

    fn old_number(&self, number: u32) -> Option<u32> {
        let mut shift = 0_i64;
        for hunk in &self.0 {
            // Without new lines, a hunk names the line that it stands behind.
            let begin = if hunk.new_lines == 0 { hunk.new_start + 1 } else { hunk.new_start };
            if number < begin {
                break;
            }
            if number < begin + hunk.new_lines {
                return None;
            }
            let old_begin = if hunk.old_lines == 0 { hunk.old_start + 1 } else { hunk.old_start };
            shift = i64::from(old_begin + hunk.old_lines) - i64::from(begin + hunk.new_lines);
        }
        u32::try_from(i64::from(number) + shift).ok()
    }
}

pub(super) fn describe(repository: &Repository, id: Oid) -> Result<Commit, git2::Error> {
    let commit = repository.find_commit(id)?;
    let author = commit.author();
    let date = jiff::Timestamp::from_second(author.when().seconds()).map(|time| time.strftime("%Y-%m-%d").to_string());
    // Names and messages are anybody's text: what a terminal would obey is taken out.
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(char::is_control, "\u{fffd}");
    Ok(Commit {
        id: super::short(id),
        author: shown(author.name_bytes()),
        date: date.unwrap_or_default(),
        summary: commit.summary_bytes().map(shown).unwrap_or_default(),
    })
}
