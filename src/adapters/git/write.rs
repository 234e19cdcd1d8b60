//! Commits without a checkout, and their way to the branch: never by force, and never over what somebody else put there.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{ErrorCode, ObjectType, Oid, PushOptions, Repository, Signature, Time, Tree};
use jiff::Timestamp;

use super::credentials::{Credentials, redacted};
use super::signature::SigningKey;
use super::{Git, failed, remote, short};
use crate::error::Failure;

/// The mode of a plain file.
const FILE: i32 = 0o100_644;
/// Commits in which a decision is looked for.
const RECENT: usize = 1000;

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// What a commit holds beside its parents.
pub struct Change<'c> {
    /// Whole files by their path in the repository.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// The message.
    pub message: &'c str,
    /// Who decided it.
    pub author: &'c Person,
    /// Who made the commit.
    pub committer: &'c Person,
    /// When.
    pub time: Timestamp,
    /// The key that signs it.
    pub key: Option<&'c SigningKey>,
}

/// Where commits are pushed to.
#[derive(Debug, Clone)]
pub struct Address {
    /// A path on this machine, or the address of a remote repository.
    pub repository: String,
    /// Whether it is a path.
    pub is_local: bool,
    /// How drover proves who it is.
    pub credentials: Credentials,
    /// Where copies of remote repositories are kept.
    pub cache: PathBuf,
    /// How long a server may be silent.
    pub timeout: Duration,
}

/// A repository that can be written to, as it was when it was opened.
pub struct Target {
    /// The repository itself, or drover's copy for writing.
    pub git: Git,
    /// The branch that is followed, as `main`.
    pub branch: String,
    /// Its newest commit.
    pub tip: Oid,
    /// Its address, without a password.
    pub shown: String,
    address: Address,
}

/// Why a commit did not get to its branch, as far as this end can tell.
#[derive(Debug)]
pub enum Unpushed {
    /// The branch is elsewhere by now.
    Moved,
    /// The server took the commit and refused it: its own words.
    Refused(String),
    /// It is not known whether it arrived.
    Unclear(Failure),
}

impl Address {
    /// The folder of the copies that are written in: another one than that of those that are read, so that neither
    /// disturbs the other.
    fn copies(&self) -> PathBuf {
        self.cache.join("write")
    }

    /// Removes drover's copy, of which nothing is lost.
    pub fn forget_copy(&self) -> Result<(), Failure> {
        remote::forget(&self.repository, &self.copies())
    }

    /// Opens the repository, or brings drover's copy up to date. Without a branch it is the default one.
    pub fn open(&self, branch: Option<&str>) -> Result<Target, Failure> {
        let (git, default, shown) = if self.is_local {
            let path = self.repository.strip_prefix("file://").unwrap_or(&self.repository);
            (Git::open(Path::new(path))?, None, self.repository.clone())
        } else {
            let fetched = remote::fetch(&self.repository, &self.copies(), &self.credentials, self.timeout)?;
            (fetched.git, fetched.default_branch, fetched.shown)
        };
        let head = || git.repository.find_reference("HEAD").ok()?.symbolic_target().ok().flatten().map(str::to_owned);
        let named = branch.filter(|name| *name != "HEAD").map(str::to_owned).or(default).or_else(head);
        let branch = named.map(|name| name.strip_prefix("refs/heads/").map(str::to_owned).unwrap_or(name));
        let branch =
            branch.ok_or_else(|| Failure::new(format!("{shown} has no default branch")).hint("name one with --rev"))?;
        let tip = git.branch(&branch).ok_or_else(|| {
            Failure::new(format!("{shown} has no branch {branch}"))
                .hint("commits can be added to a branch only; name one with --rev")
        })?;
        Ok(Target { git, branch, tip, shown, address: self.clone() })
    }
}

impl Git {
    /// Where a branch is.
    pub fn branch(&self, name: &str) -> Option<Oid> {
        self.repository
            .find_reference(&format!("refs/heads/{name}"))
            .ok()?
            .peel_to_commit()
            .ok()
            .map(|commit| commit.id())
    }

    /// A new commit on top of others. It is on no branch yet.
    pub fn commit(&self, parents: &[Oid], change: &Change<'_>) -> Result<Oid, Failure> {
        let tree = self.repository.find_commit(parents[0]).and_then(|parent| parent.tree());
        self.commit_tree(parents, tree, change).map_err(|error| failed("cannot make a commit", &error))?
    }

    fn commit_tree(
        &self,
        parents: &[Oid],
        tree: Result<Tree<'_>, git2::Error>,
        change: &Change<'_>,
    ) -> Result<Result<Oid, Failure>, git2::Error> {
        let mut tree = tree?;
        for (path, content) in &change.files {
            let blob = self.repository.blob(content)?;
            let parts: Vec<&[u8]> = path.iter().map(|part| part.as_encoded_bytes()).collect();
            tree = self.repository.find_tree(with_file(&self.repository, Some(&tree), &parts, blob)?)?;
        }
        let time = Time::new(change.time.as_second(), 0);
        let by = |person: &Person| Signature::new(&person.name, &person.email, &time);
        let (author, committer) = (by(change.author)?, by(change.committer)?);
        let parents = parents.iter().map(|id| self.repository.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
        let parents: Vec<_> = parents.iter().collect();
        let Some(key) = change.key else {
            return self.repository.commit(None, &author, &committer, change.message, &tree, &parents).map(Ok);
        };
        let content = self.repository.commit_create_buffer(&author, &committer, change.message, &tree, &parents)?;
        let content = String::from_utf8_lossy(&content).into_owned();
        match key.sign(&content, change.time) {
            Ok(signature) => self.repository.commit_signed(&content, &signature, None).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// The tree in which two commits are merged; none where they contradict each other.
    pub fn merged(&self, one: Oid, two: Oid) -> Result<Option<Oid>, Failure> {
        let merged = || {
            let (one, two) = (self.repository.find_commit(one)?, self.repository.find_commit(two)?);
            let mut index = self.repository.merge_commits(&one, &two, None)?;
            if index.has_conflicts() { Ok(None) } else { index.write_tree_to(&self.repository).map(Some) }
        };
        merged().map_err(|error: git2::Error| failed(format!("cannot merge {} and {}", short(one), short(two)), &error))
    }

    /// A commit that merges others, with a tree that is there already.
    pub fn commit_merge(&self, parents: &[Oid], tree: Oid, change: &Change<'_>) -> Result<Oid, Failure> {
        self.commit_tree(parents, self.repository.find_tree(tree), change)
            .map_err(|error| failed("cannot make a merge commit", &error))?
    }

    /// A newer commit, if any, whose message is such. Commits on the way back are looked at, the newest first.
    pub fn recent(&self, head: Oid, is_it: impl Fn(&str) -> bool) -> Result<Option<Oid>, Failure> {
        let found = || {
            let mut walk = self.repository.revwalk()?;
            walk.push(head)?;
            for id in walk.take(RECENT) {
                let commit = self.repository.find_commit(id?)?;
                if is_it(&String::from_utf8_lossy(commit.message_bytes())) {
                    return Ok(Some(commit.id()));
                }
            }
            Ok(None)
        };
        found().map_err(|error: git2::Error| failed(format!("cannot read the history of {}", short(head)), &error))
    }

    /// What commits on the way back say and when they were made, the newest first, as far as a decision is looked for.
    pub fn messages(&self, head: Oid) -> Result<Vec<(String, i64)>, Failure> {
        let found = || -> Result<Vec<_>, git2::Error> {
            let mut walk = self.repository.revwalk()?;
            walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::TIME)?;
            walk.push(head)?;
            let read = |id: Result<Oid, git2::Error>| {
                let commit = self.repository.find_commit(id?)?;
                Ok((String::from_utf8_lossy(commit.message_bytes()).into_owned(), commit.time().seconds()))
            };
            walk.take(RECENT).map(read).collect()
        };
        found().map_err(|error| failed(format!("cannot read the history of {}", short(head)), &error))
    }

    /// The names in a folder of a commit; none where it has no such folder.
    pub fn names(&self, commit: Oid, folder: &Path) -> Vec<String> {
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree());
        let tree = tree.and_then(|tree| tree.get_path(folder)).and_then(|entry| self.repository.find_tree(entry.id()));
        tree.map(|tree| tree.iter().filter_map(|entry| entry.name().ok().map(str::to_owned)).collect())
            .unwrap_or_default()
    }

    /// The author that this machine's git would give a commit.
    pub fn whoami() -> Option<Person> {
        let config = git2::Config::open_default().and_then(|mut config| config.snapshot()).ok()?;
        let text = |key| config.get_string(key).ok().filter(|text| !text.is_empty());
        Some(Person { name: text("user.name")?, email: text("user.email")? })
    }

    /// The address that the checked-out branch is pulled from, and the branch's name there.
    pub fn upstream(&self) -> Option<(String, String)> {
        let head = self.repository.find_reference("HEAD").ok()?.symbolic_target().ok()??.to_owned();
        let remote = self.repository.branch_upstream_remote(&head).ok()?;
        let merge = format!("branch.{}.merge", head.strip_prefix("refs/heads/")?);
        let branch = self.repository.config().ok()?.get_string(&merge).ok()?;
        let remote = self.repository.find_remote(remote.as_str().ok()?).ok()?;
        Some((remote.url().ok()?.to_owned(), branch.strip_prefix("refs/heads/")?.to_owned()))
    }
}

/// A tree with one file in place of what it had there. The file keeps its mode.
fn with_file(repository: &Repository, tree: Option<&Tree<'_>>, path: &[&[u8]], blob: Oid) -> Result<Oid, git2::Error> {
    let Some((name, rest)) = path.split_first() else { return Err(git2::Error::from_str("a file has no name")) };
    let mut builder = repository.treebuilder(tree)?;
    let there = builder.get(*name)?.map(|entry| (entry.id(), entry.kind(), entry.filemode()));
    if rest.is_empty() {
        let mode = there.filter(|(_, kind, _)| *kind == Some(ObjectType::Blob)).map_or(FILE, |(_, _, mode)| mode);
        builder.insert(*name, blob, mode)?;
        return builder.write();
    }
    let inner = there.filter(|(_, kind, _)| *kind == Some(ObjectType::Tree)).map(|(id, ..)| repository.find_tree(id));
    let inner = with_file(repository, inner.transpose()?.as_ref(), rest, blob)?;
    builder.insert(*name, inner, 0o040_000)?;
    builder.write()
}

impl Target {
    /// The same repository as it is now.
    pub fn reopened(&self) -> Result<Self, Failure> {
        self.address.open(Some(&self.branch))
    }

    /// The address that it was opened under.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Puts a commit on a branch that was at `expected`, or did not exist.
    pub fn push(&self, commit: Oid, branch: &str, expected: Option<Oid>, options: &[String]) -> Result<(), Unpushed> {
        match self.address.is_local {
            true => self.push_here(commit, branch, expected),
            false => self.push_there(commit, branch, expected, options),
        }
    }

    /// On this machine git's own reference is changed, if it still is what it was: libgit2's push to a path would
    /// overwrite what another process put there in between.
    fn push_here(&self, commit: Oid, branch: &str, expected: Option<Oid>) -> Result<(), Unpushed> {
        let repository = &self.git.repository;
        let name = format!("refs/heads/{branch}");
        let refused = |why: &str| Err(Unpushed::Refused(format!("{}: {why}", self.shown)));
        for hook in ["pre-receive", "update", "reference-transaction", "proc-receive"] {
            if is_executable(&repository.path().join("hooks").join(hook)) {
                return refused(&format!(
                    "it has the hook {hook}, which only git itself runs; push through ssh or https"
                ));
            }
        }
        let log = "drover: write-back";
        let put = match expected {
            Some(expected) => repository.reference_matching(&name, commit, true, expected, log),
            None => repository.reference(&name, commit, false, log),
        };
        match put {
            Ok(_) => Ok(()),
            Err(error) if error.code() == ErrorCode::Locked && is_left(&repository.commondir().join(&name)) => {
                let lock = format!("{}/{name}.lock", self.shown);
                Err(Unpushed::Unclear(
                    Failure::new(format!(
                        "cannot push to {}: a process that was killed left {name} locked",
                        self.shown
                    ))
                    .hint(format!("remove {lock} once no git runs there")),
                ))
            }
            Err(error) if matches!(error.code(), ErrorCode::Modified | ErrorCode::Exists | ErrorCode::Locked) => {
                Err(Unpushed::Moved)
            }
            Err(error) => Err(Unpushed::Unclear(failed(format!("cannot push to {}", self.shown), &error))),
        }
    }

    fn push_there(&self, commit: Oid, branch: &str, expected: Option<Oid>, options: &[String]) -> Result<(), Unpushed> {
        let url = &self.address.repository;
        let (said, refused, moved) = (RefCell::new(Vec::new()), RefCell::new(None), Cell::new(false));
        let pushed = || {
            let mut remote = self.git.repository.remote_anonymous(url)?;
            let mut callbacks = self.address.credentials.callbacks(url);
            callbacks.sideband_progress(|words| {
                said.borrow_mut().extend_from_slice(words);
                true
            });
            callbacks.push_update_reference(|_, status| {
                refused.replace(status.map(str::to_owned));
                Ok(())
            });
            // The server changes the branch only if it is where it just said. Here that is held against where it was
            // when the decision was made: a branch that was taken back must not be put forward again.
            callbacks.push_negotiation(|updates| {
                let is_expected = updates.iter().all(|update| update.src() == expected.unwrap_or(Oid::ZERO_SHA1));
                moved.set(!is_expected);
                if is_expected { Ok(()) } else { Err(git2::Error::from_str("the branch has moved")) }
            });
            let mut push = PushOptions::new();
            push.remote_callbacks(callbacks);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            if !options.is_empty() {
                push.remote_push_options(&options);
            }
            remote.push(&[format!("{commit}:refs/heads/{branch}")], Some(&mut push))
        };
        let pushed: Result<(), git2::Error> = pushed();
        if moved.get() {
            return Err(Unpushed::Moved);
        }
        let words = words(&said.borrow());
        if let Some(status) = refused.borrow().as_deref() {
            // A hook says why in words of its own; the status alone is often no more than that there was one.
            return Err(Unpushed::Refused(if words.is_empty() {
                status.to_owned()
            } else {
                format!("{status}: {words}")
            }));
        }
        match pushed {
            Ok(()) => Ok(()),
            Err(error) if error.code() == ErrorCode::NotFastForward => Err(Unpushed::Moved),
            Err(error) => {
                let failure = remote::explain("push to", &redacted(url), &error, self.address.timeout);
                Err(Unpushed::Unclear(if words.is_empty() { failure } else { failure.within(words) }))
            }
        }
    }

    /// Brings the working directory of a repository on this machine to a commit that was just put on its branch, as far
    /// as these files go.
    pub fn check_out(&self, commit: Oid, files: &[&Path]) -> Result<(), Failure> {
        let mut options = git2::build::CheckoutBuilder::new();
        options.force().disable_pathspec_match(true);
        for file in files {
            options.path(*file);
        }
        let tree = self.git.repository.find_commit(commit).and_then(|commit| commit.tree());
        tree.and_then(|tree| self.git.repository.checkout_tree(tree.as_object(), Some(&mut options)))
            .map_err(|error| failed(format!("commit {} was made, but not checked out", short(commit)), &error))
    }

    /// Whether a branch of a repository on this machine is checked out.
    pub fn is_checked_out(&self, branch: &str) -> bool {
        let head = self.git.repository.find_reference("HEAD");
        let name = format!("refs/heads/{branch}");
        self.address.is_local
            && !self.git.repository.is_bare()
            && head.is_ok_and(|head| matches!(head.symbolic_target(), Ok(Some(target)) if target == name))
    }

    /// The first of these files that is not as it was committed.
    pub fn uncommitted<'f>(&self, files: &[&'f Path]) -> Option<&'f Path> {
        let is_clean = |file: &&&Path| {
            let status = self.git.repository.status_file(file);
            matches!(&status, Ok(status) if status.is_empty())
                || matches!(&status, Err(error) if error.code() == ErrorCode::NotFound)
        };
        files.iter().find(|file| !is_clean(file)).copied()
    }
}

#[cfg(unix)]
/// Whether the lock of a reference is older than git ever takes to move one.
fn is_left(reference: &Path) -> bool {
    const LONG: Duration = Duration::from_secs(2);
    let mut lock = reference.as_os_str().to_owned();
    lock.push(".lock");
    let age = Path::new(&lock).metadata().and_then(|lock| lock.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age > LONG)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// What a server said beside its answer, in one line.
fn words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.replace(char::is_control, "\u{fffd}")).collect::<Vec<_>>().join("; ")
}
