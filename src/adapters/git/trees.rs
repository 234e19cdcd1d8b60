//! What differs between two trees. Only folders that differ are read, and each at most once in a walk through history:
//! libgit2 reads a large tree anew for every question, and its diff asks several.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use git2::{ObjectType, Oid, Repository, Tree, TreeEntry};

use super::LINK;
use crate::adapters::files::MAX_ENTRIES;

/// The part of a file mode that tells files, links and submodules apart.
const KIND: i32 = 0o170_000;

/// A file that is not as it was before.
pub(super) struct Touched {
    /// Its path from the root of the tree.
    pub path: String,
    /// What it was before; none where it is new.
    pub old: Option<Oid>,
    /// What it is.
    pub new: Oid,
}

/// What a commit did to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path from the root of the repository.
    pub path: String,
    /// What it was; none where it is new.
    pub old: Option<Oid>,
    /// What it is; none where it is gone.
    pub new: Option<Oid>,
}

/// The trees of a repository.
pub(super) struct Trees<'r> {
    repository: &'r Repository,
    recent: HashMap<Oid, Rc<Tree<'r>>>,
    older: HashMap<Oid, Rc<Tree<'r>>>,
}

/// A folder that may differ: its path, and what it was and is.
type Folder = (String, Option<Oid>, Option<Oid>);

impl<'r> Trees<'r> {
    pub(super) fn new(repository: &'r Repository) -> Self {
        Self { repository, recent: HashMap::new(), older: HashMap::new() }
    }

    /// Forgets the trees that were not asked for since this was called before.
    pub(super) fn forget_old(&mut self) {
        self.older = std::mem::take(&mut self.recent);
    }

    fn read(&mut self, id: Option<Oid>) -> Result<Option<Rc<Tree<'r>>>, git2::Error> {
        let Some(id) = id else { return Ok(None) };
        let known = self.recent.get(&id).cloned().or_else(|| self.older.remove(&id));
        let tree = known.map_or_else(|| self.repository.find_tree(id).map(Rc::new), Ok)?;
        self.recent.insert(id, tree.clone());
        Ok(Some(tree))
    }

    /// The files that are new or differ, in the folders that matter.
    pub(super) fn touched(
        &mut self,
        old: Option<Oid>,
        new: Oid,
        matters: impl Fn(&str) -> bool,
    ) -> Result<Vec<Touched>, git2::Error> {
        let mut touched = Vec::new();
        let mut folders: Vec<Folder> = vec![(String::new(), old, Some(new))];
        while let Some((folder, old, new)) = folders.pop() {
            let (old, new) = (self.read(old)?, self.read(new)?);
            differing(old.as_deref(), new.as_deref(), |old, new| {
                let Some(new) = new else { return };
                let Ok(name) = new.name() else { return };
                let path = format!("{folder}{name}");
                let before = old.map(TreeEntry::id);
                match new.kind() {
                    Some(ObjectType::Blob) => touched.push(Touched { path, old: before, new: new.id() }),
                    Some(ObjectType::Tree) if matters(&path) => folders.push((path + "/", before, Some(new.id()))),
                    _ => {}
                }
            });
        }
        Ok(touched)
    }

    /// The files that are new, gone or differ, in the folders that matter: what they were, and what they are. Links are none.
    pub(super) fn changed(
        &mut self,
        old: Oid,
        new: Oid,
        matters: impl Fn(&str) -> bool,
    ) -> Result<Vec<FileChange>, git2::Error> {
        let mut changed = Vec::new();
        let mut folders: Vec<(String, Option<Oid>, Option<Oid>)> = vec![(String::new(), Some(old), Some(new))];
        while let Some((folder, old, new)) = folders.pop() {
            let (old, new) = (self.read(old)?, self.read(new)?);
            differing(old.as_deref(), new.as_deref(), |old, new| {
                let Some(entry) = new.or(old).filter(|entry| kind(entry) != LINK) else { return };
                let Ok(name) = entry.name() else { return };
                let path = format!("{folder}{name}");
                let (before, after) = (old.map(TreeEntry::id), new.map(TreeEntry::id));
                match entry.kind() {
                    _ if !matters(&path) => {}
                    Some(ObjectType::Blob) => changed.push(FileChange { path, old: before, new: after }),
                    Some(ObjectType::Tree) => folders.push((path + "/", before, after)),
                    _ => {}
                }
            });
        }
        Ok(changed)
    }

    /// Whether any file is gone, wherever it was. Not known, and no, where too much differs: a few objects of git can
    /// stand for billions of files.
    pub(super) fn lose_files(&mut self, old: Oid, new: Oid) -> Result<bool, git2::Error> {
        let (mut entries, mut lost) = (0, false);
        let mut folders = vec![(old, new)];
        while let Some((old, new)) = folders.pop() {
            let (old, new) = (self.read(Some(old))?, self.read(Some(new))?);
            entries += [&old, &new].into_iter().flatten().map(|tree| tree.len()).sum::<usize>();
            if entries > MAX_ENTRIES {
                return Ok(false);
            }
            differing(old.as_deref(), new.as_deref(), |old, new| match (old, new) {
                (Some(_), None) => lost = true,
                (Some(old), Some(new)) if new.kind() == Some(ObjectType::Tree) => folders.push((old.id(), new.id())),
                _ => {}
            });
        }
        Ok(lost)
    }
}

/// Tells the entries that differ, of two trees or of one tree and nothing. What changed its kind is gone, and new.
fn differing(
    old: Option<&Tree<'_>>,
    new: Option<&Tree<'_>>,
    mut tell: impl FnMut(Option<&TreeEntry<'_>>, Option<&TreeEntry<'_>>),
) {
    let mut olds = old.into_iter().flat_map(Tree::iter).peekable();
    let mut news = new.into_iter().flat_map(Tree::iter).peekable();
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => order(old, new),
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        match (&old, &new) {
            (Some(old), Some(new)) if old.id() == new.id() && kind(old) == kind(new) => {}
            (Some(before), Some(after)) if kind(before) != kind(after) => {
                tell(Some(before), None);
                tell(None, Some(after));
            }
            _ => tell(old.as_ref(), new.as_ref()),
        }
    }
}

fn kind(entry: &TreeEntry<'_>) -> i32 {
    entry.filemode() & KIND
}

/// The order of git: folders as if their name ended with a slash.
fn order(one: &TreeEntry<'_>, two: &TreeEntry<'_>) -> Ordering {
    let is_folder = |entry: &TreeEntry<'_>| entry.kind() == Some(ObjectType::Tree);
    let ended = |entry: &TreeEntry<'_>| if is_folder(entry) { &b"/"[..] } else { b"" };
    if one.name_bytes() == two.name_bytes() {
        return is_folder(one).cmp(&is_folder(two));
    }
    let (one, two) = ((one.name_bytes(), ended(one)), (two.name_bytes(), ended(two)));
    one.0.iter().chain(one.1).cmp(two.0.iter().chain(two.1))
}
