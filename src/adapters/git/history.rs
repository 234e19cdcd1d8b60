//! How the commits of a repository stand to each other.

use std::path::Path;

use git2::{ErrorClass, ErrorCode, ObjectType, Oid};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Git, blame, failed, short};
use crate::error::Failure;
use crate::plan::Commit;

/// How a commit stands to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    /// It is the other one.
    Same,
    /// The other one leads on from it.
    Older,
    /// It leads on from the other one.
    Newer,
    /// Each has commits that the other lacks.
    Elsewhere,
    /// The repository does not have it, or not the other one.
    Unknown,
}

impl Git {
    /// How a commit stands to another one.
    pub fn relation(&self, commit: Oid, other: Oid) -> Result<Relation, Failure> {
        if commit == other {
            return Ok(Relation::Same);
        }
        if [commit, other].iter().any(|id| self.repository.find_commit(*id).is_err()) {
            return Ok(Relation::Unknown);
        }
        Ok(if self.leads_on(commit, other)? {
            Relation::Newer
        } else if self.leads_on(other, commit)? {
            Relation::Older
        } else {
            Relation::Elsewhere
        })
    }

    fn leads_on(&self, commit: Oid, from: Oid) -> Result<bool, Failure> {
        let answer = self.repository.graph_descendant_of(commit, from);
        answer.map_err(|error| failed(format!("cannot read the history of commit {}", short(commit)), &error))
    }

    /// Whether two commits have any commit in common.
    pub fn share_history(&self, one: Oid, two: Oid) -> bool {
        !matches!(self.repository.merge_base(one, two), Err(error) if error.code() == ErrorCode::NotFound)
    }

    /// A commit and those before it along first parents, the newest first, `most` at most.
    pub fn first_parents(&self, head: Oid, most: usize) -> Result<Vec<Oid>, Failure> {
        let mut path = vec![head];
        let mut last = head;
        while path.len() < most {
            let parent = self.repository.find_commit(last).map(|commit| commit.parent_ids().next());
            match parent.map_err(|error| failed(format!("cannot read commit {}", short(last)), &error))? {
                Some(parent) => path.push(parent),
                None => break,
            }
            last = path[path.len() - 1];
        }
        Ok(path)
    }

    /// Whether a commit certainly has no such folder, which is not the same as one that cannot be read.
    pub fn lacks_folder(&self, commit: Oid, folder: &Path) -> Result<bool, Failure> {
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree());
        match tree.and_then(|tree| tree.get_path(folder)) {
            Ok(entry) => Ok(entry.kind() != Some(ObjectType::Tree)),
            Err(error) if error.class() == ErrorClass::Tree => Ok(true),
            Err(error) => Err(failed(format!("cannot read commit {}", short(commit)), &error)),
        }
    }

    /// Who wrote a commit, and what it is about.
    pub fn describe(&self, commit: Oid) -> Result<Commit, Failure> {
        blame::describe(&self.repository, commit)
            .map_err(|error| failed(format!("cannot read commit {}", short(commit)), &error))
    }
}
