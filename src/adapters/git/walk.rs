//! History for those who want to know what each commit did: who made it, and which files it changed.

use git2::{Oid, Signature};
use jiff::Timestamp;

use super::trees::{FileChange, Trees};
use super::{Git, Person, failed, short};
use crate::error::Failure;

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The commit.
    pub commit: Oid,
    /// Its parents, as far as the repository has them.
    pub parents: Vec<Oid>,
    /// Who made the change.
    pub author: Person,
    /// When the change was made.
    pub authored: Timestamp,
    /// When the commit was made.
    pub committed: Timestamp,
    /// Its message.
    pub message: String,
}

/// A walk through history. Folders that one commit and the next one share are read once.
pub struct Walk<'g> {
    git: &'g Git,
    trees: Trees<'g>,
}

impl Git {
    /// Begins a walk.
    pub fn walk(&self) -> Walk<'_> {
        Walk { git: self, trees: Trees::new(&self.repository) }
    }

    /// Whether only the newest part of its history was fetched.
    pub fn is_shallow(&self) -> bool {
        self.repository.is_shallow()
    }

    /// The content of a file by its id.
    pub fn content(&self, blob: Oid) -> Result<Vec<u8>, Failure> {
        let blob = self.repository.find_blob(blob);
        blob.map(|blob| blob.content().to_vec()).map_err(|error| failed("cannot read a file of the history", &error))
    }

    /// The file that a commit has at a path, by its id.
    pub fn blob_at(&self, commit: Oid, path: &str) -> Option<Oid> {
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree()).ok()?;
        let entry = tree.get_path(std::path::Path::new(path)).ok()?;
        (entry.kind() == Some(git2::ObjectType::Blob)).then(|| entry.id())
    }
}

impl Walk<'_> {
    /// What a commit says of itself.
    pub fn told(&self, commit: Oid) -> Result<Told, Failure> {
        let found = self.git.repository.find_commit(commit).map_err(|error| unread(commit, &error))?;
        let is_here = |id: &Oid| self.git.repository.find_commit(*id).is_ok();
        let time = |by: &Signature<'_>| Timestamp::from_second(by.when().seconds()).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let author = found.author();
        Ok(Told {
            commit,
            parents: found.parent_ids().filter(is_here).collect(),
            authored: time(&author),
            committed: time(&found.committer()),
            author: Person { name: text(author.name_bytes()), email: text(author.email_bytes()) },
            message: text(found.message_bytes()),
        })
    }

    /// The files that a commit changed against one of its parents, in the folders and of the names that matter.
    pub fn changes(
        &mut self,
        commit: Oid,
        parent: Oid,
        matters: impl Fn(&str) -> bool,
    ) -> Result<Vec<FileChange>, Failure> {
        let tree = |id: Oid| self.git.repository.find_commit(id).map(|commit| commit.tree_id());
        let (old, new) = (tree(parent).map_err(|e| unread(parent, &e))?, tree(commit).map_err(|e| unread(commit, &e))?);
        if old == new {
            return Ok(Vec::new());
        }
        self.trees.forget_old();
        self.trees.changed(old, new, matters).map_err(|error| unread(commit, &error))
    }
}

fn unread(commit: Oid, error: &git2::Error) -> Failure {
    failed(format!("cannot read commit {}", short(commit)), error)
        .hint("the repository is damaged or incomplete: fetch it anew, or look with `git fsck`")
}
