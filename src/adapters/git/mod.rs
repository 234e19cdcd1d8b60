//! State in git: any revision of a local or remote repository, read through the object database without a checkout.

mod blame;
mod credentials;
mod history;
mod links;
mod remote;
mod signature;
mod trees;
mod walk;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use git2::{ErrorCode, ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};
use rayon::prelude::*;

pub use blame::Blamer;
pub use credentials::{Credentials, redacted};
pub use history::Relation;
pub use remote::{Fetched, Tips, copy, fetch, forget, tips};
pub use signature::{Distrust, SignerFiles, SignerTexts, Signers, SigningKey};
pub use trees::FileChange;
pub use walk::{Told, Walk};
pub use write::{Address, Change, Person, Target, Unpushed};

use super::files::{self, Listing, StateFile, is_state_file};
use crate::error::Failure;
use crate::manifest::Problem;
use crate::manifest::decode::MAX_FILE;

/// The file modes of git for what is not a plain file.
const LINK: i32 = 0o120_000;
const SUBMODULE: i32 = 0o160_000;
/// Files from which reading them side by side pays.
const WORTH_THREADS: usize = 256;

/// The state files of a tree by name, and what is wrong with others.
type Entries = (Vec<(String, Oid)>, Vec<Problem>);

/// A repository, opened or fetched.
pub struct Git {
    repository: Repository,
}

/// A commit of a repository, and where the state lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit.
    pub commit: Oid,
    /// The folder of the state, relative to the root of the repository; empty where it is the root.
    pub folder: PathBuf,
}

fn failed(what: impl Into<String>, error: &git2::Error) -> Failure {
    // libgit2's own message is enough; its class and code mean nothing to a person.
    Failure::new(format!("{}: {}", what.into(), error.message()))
}

fn not_opened(what: String, error: &git2::Error) -> Failure {
    let failure = failed(what, error);
    match error.code() {
        ErrorCode::Owner => {
            failure.hint("if you trust it: git config --global --add safe.directory, and the path of the repository")
        }
        _ => failure,
    }
}

impl Git {
    /// Opens a repository on this machine: a working directory, its `.git`, or a bare one.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let repository = Repository::open(path)
            .map_err(|error| not_opened(format!("cannot open the repository {}", path.display()), &error))?;
        Ok(Self { repository })
    }

    /// The repository that a folder belongs to, and the folder's path in it, which a bare one has not; none where it is
    /// not under git.
    pub fn discover(folder: &Path) -> Result<Option<(Self, Option<PathBuf>)>, Failure> {
        let repository = match Repository::discover(folder) {
            Ok(repository) => repository,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => {
                return Err(not_opened(format!("cannot open the repository around {}", folder.display()), &error));
            }
        };
        let inside = repository.workdir().and_then(|root| {
            let (root, folder) = (root.canonicalize().ok()?, folder.canonicalize().ok()?);
            folder.strip_prefix(root).ok().map(Path::to_path_buf)
        });
        let known = inside.is_some() || repository.is_bare();
        Ok(known.then_some((Self { repository }, inside)))
    }

    /// Where it lies on this machine.
    pub fn location(&self) -> String {
        self.repository.workdir().unwrap_or_else(|| self.repository.path()).display().to_string()
    }

    /// Where its database lies on this machine.
    pub fn path(&self) -> PathBuf {
        self.repository.path().to_path_buf()
    }

    /// Whether every branch and tag leads to a commit, and every object can be read.
    pub fn is_whole(&self) -> bool {
        let odb = self.repository.odb();
        let history = self.repository.revwalk().and_then(|mut walk| walk.push_glob("*").map(|()| walk));
        let (Ok(odb), Ok(history)) = (odb, history) else { return false };
        let mut readable = true;
        let all = odb.foreach(|id| {
            readable = odb.read_header(*id).is_ok();
            readable
        });
        let has_tree = |id| self.repository.find_commit(id).and_then(|commit| commit.tree()).is_ok();
        readable && all.is_ok() && history.into_iter().all(|id| id.is_ok_and(has_tree))
    }

    /// The commit in which `head` left `base`.
    fn merge_base(&self, base: &str, head: &str) -> Result<Oid, Failure> {
        let or_head = |revision: &str| self.resolve(if revision.is_empty() { "HEAD" } else { revision });
        let (one, two) = (or_head(base)?, or_head(head)?);
        self.repository
            .merge_base(one, two)
            .map_err(|error| failed(format!("{base} and {head} have no commit in common"), &error))
    }

    /// The commit that a revision names: a branch, tag, id or any expression of git; `A...B` is where B left A.
    pub fn resolve(&self, revision: &str) -> Result<Oid, Failure> {
        if let Some((base, head)) = revision.split_once("...") {
            return self.merge_base(base, head);
        }
        let found = self.repository.revparse_single(revision).and_then(|object| object.peel_to_commit());
        found.map(|commit| commit.id()).map_err(|error| {
            let mut branches = self.repository.references().into_iter().flatten();
            let hint = if branches.next().is_none() {
                "the repository has no commit yet"
            } else {
                "give a branch, a tag or a commit that the repository has"
            };
            failed(format!("there is no revision {revision:?} in {}", self.location()), &error).hint(hint)
        })
    }

    /// The commit that is checked out; none in a repository without one.
    pub fn head(&self) -> Option<Oid> {
        self.repository.head().ok()?.peel_to_commit().ok().map(|commit| commit.id())
    }

    /// The ids of the state files of a revision, without their content.
    pub fn list(&self, at: &Revision) -> Result<Vec<(String, Oid)>, Failure> {
        Ok(self.entries(at)?.0)
    }

    fn entries(&self, at: &Revision) -> Result<Entries, Failure> {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let read = |error: git2::Error| failed(format!("cannot read commit {}", at.commit), &error);
        let root = self.repository.find_commit(at.commit).and_then(|commit| commit.tree()).map_err(read)?;
        let tree = if at.folder.as_os_str().is_empty() {
            root
        } else {
            let entry = root
                .get_path(&at.folder)
                .and_then(|entry| entry.to_object(&self.repository))
                .and_then(|object| object.peel_to_tree());
            entry.map_err(|_| {
                Failure::new(format!("commit {} has no folder {}", short(at.commit), at.folder.display()))
                    .hint("name the folder of the state with --state")
            })?
        };
        let (mut entries, mut links) = (0, Vec::new());
        let walked = tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
            if entry.name_bytes().starts_with(b".") {
                return TreeWalkResult::Skip;
            }
            entries += 1;
            if entries > files::MAX_ENTRIES {
                return TreeWalkResult::Abort;
            }
            let Ok(part) = entry.name() else {
                problems.push(files::bad_name(format!("{folder}{}", String::from_utf8_lossy(entry.name_bytes()))));
                return TreeWalkResult::Skip;
            };
            let name = format!("{folder}{part}");
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Blob), LINK) => links.push((name, entry.id())),
                (Some(ObjectType::Blob), _) if is_state_file(&name) => found.push((name, entry.id())),
                (_, SUBMODULE) => problems.push(files::submodule(name)),
                (Some(ObjectType::Tree), _) if folder.matches('/').count() >= files::MAX_DEPTH => {
                    problems.push(files::too_deep(name));
                    return TreeWalkResult::Skip;
                }
                _ => {}
            }
            TreeWalkResult::Ok
        });
        if entries > files::MAX_ENTRIES {
            return Ok((Vec::new(), vec![files::too_many()]));
        }
        walked.map_err(read)?;
        let links = links.into_iter().filter(|(name, _)| files::link_matters(name));
        problems.extend(links.filter_map(|(name, id)| links::misleading(&self.repository, &tree, &name, id)));
        Ok((found, problems))
    }

    /// Reads the state files of a revision; those that `known` already has are listed without content,
    /// under the name that it gives.
    pub fn read(&self, at: &Revision, known: impl Fn(&str, Oid) -> Option<Arc<str>>) -> Result<Listing, Failure> {
        let (entries, problems) = self.entries(at)?;
        let mut listing = Listing { files: Vec::with_capacity(entries.len()), problems };
        let mut new = Vec::new();
        for (name, id) in entries {
            match known(&name, id) {
                Some(name) => listing.files.push(StateFile { name, id, bytes: Vec::new() }),
                None => new.push((name, id)),
            }
        }
        let taken = AtomicUsize::new(0);
        let read: Vec<Result<StateFile, Problem>> = if new.len() < WORTH_THREADS {
            new.into_iter().map(|(name, id)| read_blob(Ok(&self.repository), name, id, &taken)).collect()
        } else {
            // libgit2 handles are not shared between threads: each piece of the work opens the repository once.
            let path = self.repository.path().to_path_buf();
            let pieces = new.into_par_iter().with_min_len(WORTH_THREADS);
            pieces
                .map_init(
                    || Repository::open(&path),
                    |repository, (name, id)| read_blob(repository.as_ref(), name, id, &taken),
                )
                .collect()
        };
        for file in read {
            match file {
                Ok(file) => listing.files.push(file),
                Err(problem) => listing.problems.push(problem),
            }
        }
        listing.files.sort_by(|a, b| a.name.cmp(&b.name));
        if taken.into_inner() > files::MAX_STATE {
            listing.files.clear();
            listing.problems.push(files::too_large());
        }
        Ok(listing)
    }

    /// Whether a file has exactly the content of a blob, which may be too large to be kept in memory.
    pub fn holds(&self, blob: Oid, file: &Path) -> bool {
        let size = self.repository.odb().and_then(|odb| odb.read_header(blob)).map(|(size, _)| size as u64);
        let alike = size.is_ok_and(|size| file.metadata().is_ok_and(|data| data.len() == size));
        alike && Oid::hash_file(ObjectType::Blob, file).is_ok_and(|id| id == blob)
    }

    /// Any file of a revision, by its path from the root of the repository.
    pub fn file(&self, commit: Oid, path: &Path) -> Result<Vec<u8>, Failure> {
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree());
        let blob = tree.and_then(|tree| tree.get_path(path)).and_then(|entry| self.repository.find_blob(entry.id()));
        blob.map(|blob| blob.content().to_vec())
            .map_err(|_| Failure::new(format!("commit {} has no file {}", short(commit), path.display())))
    }

    /// Whether a revision has a folder.
    pub fn has_folder(&self, commit: Oid, folder: &Path) -> bool {
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree());
        tree.and_then(|tree| tree.get_path(folder)).is_ok_and(|entry| entry.kind() == Some(ObjectType::Tree))
    }

    /// Finds the commits behind lines of the state.
    pub fn blamer(&self, folder: &Path, newest: Option<Oid>) -> Blamer {
        Blamer::new(self.repository.path().to_path_buf(), folder.to_path_buf(), newest)
    }
}

/// Reads a blob, as long as all that were `taken` together are not too much.
fn read_blob(
    repository: Result<&Repository, &git2::Error>,
    name: String,
    id: Oid,
    taken: &AtomicUsize,
) -> Result<StateFile, Problem> {
    let unreadable = |error: &git2::Error| {
        Problem::of_file("unreadable", name.clone(), format!("cannot be read: {}", error.message()))
            .help("`git fsck` tells more of the repository")
    };
    let repository = repository.map_err(unreadable)?;
    let size = repository.odb().and_then(|odb| odb.read_header(id)).map_err(|error| unreadable(&error))?.0;
    if size > MAX_FILE {
        let message = format!("the file has {} MiB; drover reads at most {} MiB", size >> 20, MAX_FILE >> 20);
        return Err(Problem::of_file("file-size", name, message).help("split it into several files"));
    }
    let fits = taken.fetch_add(size, Ordering::Relaxed) + size <= files::MAX_STATE;
    let blob = fits.then(|| repository.find_blob(id)).transpose().map_err(|error| unreadable(&error))?;
    let bytes = blob.map(|blob| blob.content().to_vec()).unwrap_or_default();
    Ok(StateFile { name: name.into(), id, bytes })
}

fn short(id: Oid) -> String {
    id.to_string().chars().take(10).collect()
}
