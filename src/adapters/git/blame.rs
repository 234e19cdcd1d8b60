//! Which commit wrote each line that a plan shows.
//!
//! One walk through history serves all files together. libgit2's own blame takes a walk for each file: for a plan of a
//! thousand machines with a file each, that is a hundred times the work.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::{
    Delta, Diff, DiffFindOptions, DiffOptions, ObjectType, Oid, Patch, Repository, TreeWalkMode, TreeWalkResult,
};

use crate::adapters::files::MAX_ENTRIES;
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
type Lines = BTreeMap<PathBuf, Vec<Line>>;

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
        let mut lines = Lines::new();
        for (wanted, source) in sources.iter().enumerate() {
            let path = self.folder.join(&*source.origin.file);
            lines.entry(path).or_default().push(Line { number: source.origin.line, wanted });
        }
        if lines.is_empty() {
            return;
        }
        // Provenance is a help, not a condition: what history cannot tell is left out of the plan.
        let committed = committed(&repository, newest, lines, &self.folder, uncommitted).unwrap_or_default();
        let found = walk(&repository, newest, committed).unwrap_or_default();
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
    newest: Oid,
    lines: Lines,
    folder: &Path,
    uncommitted: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Lines, git2::Error> {
    let files = files(repository, newest, folder, &lines)?;
    let mut kept = Lines::new();
    for (path, lines) in lines {
        let Some(id) = files.get(&path) else { continue };
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let lines = match uncommitted(&name) {
            None => lines,
            Some(content) => {
                let blob = repository.find_blob(*id)?;
                let mut options = exact();
                let patch = Patch::from_blob_and_buffer(&blob, None, &content, None, Some(&mut options))?;
                Moves::of(&patch)?.split(lines).0
            }
        };
        if !lines.is_empty() {
            kept.insert(path, lines);
        }
    }
    Ok(kept)
}

/// The files of a commit that lines are looked for in. One walk: libgit2 does not keep large trees between look-ups.
fn files(
    repository: &Repository,
    commit: Oid,
    folder: &Path,
    lines: &Lines,
) -> Result<HashMap<PathBuf, Oid>, git2::Error> {
    let root = repository.find_commit(commit)?.tree()?;
    let tree = match folder.as_os_str().is_empty() {
        true => root,
        false => root.get_path(folder)?.to_object(repository)?.peel_to_tree()?,
    };
    let folders: HashSet<&Path> = lines.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    let mut files = HashMap::new();
    tree.walk(TreeWalkMode::PreOrder, |below, entry| {
        let Ok(name) = entry.name() else { return TreeWalkResult::Skip };
        let path = folder.join(below).join(name);
        match entry.kind() {
            Some(ObjectType::Blob) => drop(files.insert(path, entry.id())),
            Some(ObjectType::Tree) if !folders.contains(path.as_path()) => return TreeWalkResult::Skip,
            _ => {}
        }
        TreeWalkResult::Ok
    })?;
    Ok(files)
}

/// The folders of trees, for those that were looked at.
#[derive(Default)]
struct Shapes(HashMap<Oid, Rc<Shape>>);

#[derive(Default)]
struct Shape {
    entries: usize,
    folders: BTreeMap<Vec<u8>, Oid>,
}

impl Shapes {
    fn of(&mut self, repository: &Repository, id: Option<Oid>) -> Result<Rc<Shape>, git2::Error> {
        let Some(id) = id else { return Ok(Rc::default()) };
        if let Some(shape) = self.0.get(&id) {
            return Ok(shape.clone());
        }
        let tree = repository.find_tree(id)?;
        let folders = tree.iter().filter(|entry| entry.kind() == Some(ObjectType::Tree));
        let folders = folders.map(|entry| (entry.name_bytes().to_vec(), entry.id())).collect();
        let shape = Rc::new(Shape { entries: tree.len(), folders });
        self.0.insert(id, shape.clone());
        Ok(shape)
    }

    /// Whether two trees can be compared as a whole: a few objects of git can stand for billions of files.
    fn are_comparable(&mut self, repository: &Repository, old: Oid, new: Oid) -> Result<bool, git2::Error> {
        let mut entries = 0;
        let mut pairs = vec![(Some(old), Some(new))];
        while let Some((old, new)) = pairs.pop() {
            let (old, new) = (self.of(repository, old)?, self.of(repository, new)?);
            entries += old.entries + new.entries;
            if entries > MAX_ENTRIES {
                return Ok(false);
            }
            let names: BTreeSet<&Vec<u8>> = old.folders.keys().chain(new.folders.keys()).collect();
            let both = names.into_iter().map(|name| (old.folders.get(name).copied(), new.folders.get(name).copied()));
            pairs.extend(both.filter(|(old, new)| old != new));
        }
        Ok(true)
    }
}

fn exact() -> DiffOptions {
    let mut options = DiffOptions::new();
    options.context_lines(0).interhunk_lines(0).ignore_submodules(true);
    options
}

/// Takes the lines back through history, newest commit first, until each has met the commit that wrote it.
fn walk(repository: &Repository, newest: Oid, lines: Lines) -> Result<Vec<(usize, Oid)>, git2::Error> {
    let (mut found, mut shapes) = (Vec::new(), Shapes::default());
    let mut waiting: HashMap<Oid, Lines> = HashMap::from([(newest, lines)]);
    let mut next = BinaryHeap::from([(repository.find_commit(newest)?.time().seconds(), newest)]);
    while let Some((_, id)) = next.pop() {
        let Some(mut lines) = waiting.remove(&id) else { continue };
        let commit = repository.find_commit(id)?;
        for parent in commit.parents() {
            if lines.is_empty() {
                break;
            }
            let passed = pass_on(repository, &parent, &commit, &mut lines, &mut shapes)?;
            if !passed.is_empty() {
                let parents = waiting.entry(parent.id()).or_default();
                passed.into_iter().for_each(|(path, lines)| parents.entry(path).or_default().extend(lines));
                next.push((parent.time().seconds(), parent.id()));
            }
        }
        found.extend(lines.into_values().flatten().map(|line| (line.wanted, id)));
    }
    Ok(found)
}

/// Takes out of `lines` what the parent already had, under the names and numbers that it had there.
fn pass_on(
    repository: &Repository,
    parent: &git2::Commit<'_>,
    commit: &git2::Commit<'_>,
    lines: &mut Lines,
    shapes: &mut Shapes,
) -> Result<Lines, git2::Error> {
    let (old, new) = (parent.tree()?, commit.tree()?);
    let mut options = exact();
    let comparable = shapes.are_comparable(repository, old.id(), new.id())?;
    if !comparable {
        lines.keys().fold(options.disable_pathspec_match(true), |options, path| options.pathspec(path));
    }
    let mut diff = repository.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))?;
    if comparable
        && diff.deltas().any(|delta| {
            delta.status() == Delta::Added && delta.new_file().path().is_some_and(|path| lines.contains_key(path))
        })
    {
        diff.find_similar(Some(DiffFindOptions::new().renames(true)))?;
    }
    let changed = changed(&diff);
    let mut passed = Lines::new();
    for (path, wanted) in std::mem::take(lines) {
        let Some(index) = changed.get(path.as_path()) else {
            passed.insert(path, wanted);
            continue;
        };
        let (older, own) = match Patch::from_diff(&diff, *index)? {
            Some(patch) if patch.delta().status() != Delta::Added => Moves::of(&patch)?.split(wanted),
            _ => (Vec::new(), wanted),
        };
        if !older.is_empty() {
            let before = diff.get_delta(*index).and_then(|delta| delta.old_file().path().map(Path::to_path_buf));
            passed.entry(before.unwrap_or_else(|| path.clone())).or_default().extend(older);
        }
        if !own.is_empty() {
            lines.insert(path, own);
        }
    }
    Ok(passed)
}

fn changed<'d>(diff: &'d Diff<'_>) -> HashMap<&'d Path, usize> {
    let deltas = diff.deltas().enumerate();
    deltas.filter_map(|(index, delta)| Some((delta.new_file().path()?, index))).collect()
}

impl Moves {
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
