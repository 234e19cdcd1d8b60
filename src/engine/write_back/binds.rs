//! Commits that change the binds in a cluster.yml: on the newest state, and only while it still says what was planned for.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::run::Run;
use super::{Attempt, Writer};
use crate::adapters::files::normalized;
use crate::adapters::git::Target;
use crate::engine::Loaded;
use crate::error::Failure;
use crate::manifest::rke;
use crate::model::ClusterName;
use crate::plan::{BindChange, ConfigPlan};

/// What a cluster.yml must become, and the words of the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindsEdit {
    path: String,
    from: Vec<String>,
    to: Vec<String>,
    message: String,
}

/// What became of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindsWritten {
    /// The branch that is followed says it.
    InForce {
        /// The new commit; none where it said so already.
        commit: Option<String>,
        /// The text of the file.
        text: String,
    },
    /// It waits on a branch for somebody to merge it.
    Proposed {
        /// The branch.
        branch: String,
        /// The proposal, where a server has one.
        proposal: Option<String>,
        /// Whether it is there since now.
        is_new: bool,
    },
    /// It is not written.
    Dropped(String),
}

impl BindsEdit {
    /// The edit of a plan.
    pub fn of(cluster: &ClusterName, config: &ConfigPlan, changes: &[BindChange]) -> Self {
        // A bind in a file could otherwise make up lines of drover's own.
        let missing = |of: &[String], from: &[String]| -> Vec<String> {
            of.iter().filter(|bind| !from.contains(bind)).map(|bind| bind.replace(char::is_control, " ")).collect()
        };
        let (added, removed) = (missing(&config.to, &config.from), missing(&config.from, &config.to));
        let subject = match (added.as_slice(), removed.as_slice()) {
            ([one], []) => format!("{cluster}: bind {one} into the kubelets"),
            _ => format!("{cluster}: other binds for the kubelets"),
        };
        let mut message = format!("{subject}\n\n");
        added.iter().for_each(|bind| message += &format!("+ {bind}\n"));
        removed.iter().for_each(|bind| message += &format!("- {bind}\n"));
        let mut lines: Vec<String> = changes.iter().map(|change| change.source.origin.to_string()).collect();
        lines.sort();
        lines.dedup();
        if !lines.is_empty() {
            message += &format!("\nasked for by {}\n", lines.join(", "));
        }
        message += &format!("\nDrover-Cluster: {cluster}\nDrover-Binds: {}\n", config.path);
        Self { path: config.path.clone(), from: config.from.clone(), to: config.to.clone(), message }
    }

    fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

impl Writer {
    /// Writes an edit of a cluster.yml, as the Fleet says: to the branch that is followed, or as a proposal.
    ///
    /// # Errors
    /// Where it could not be written; trying again is safe.
    pub fn write_binds(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        edit: &BindsEdit,
    ) -> Result<BindsWritten, Failure> {
        let written = self.race(now, |run, target| run.attempt_binds(target, cluster, edit))?;
        Ok(written.map_or_else(BindsWritten::Dropped, |(written, _)| written))
    }
}

impl Run<'_> {
    fn attempt_binds(
        &mut self,
        target: &Target,
        cluster: &ClusterName,
        edit: &BindsEdit,
    ) -> Result<Attempt<BindsWritten>, Failure> {
        let over = |written| Ok(Attempt::Over(written));
        let name: Arc<str> = edit.path.as_str().into();
        let refused = |error: rke::RkeError| {
            Failure::new(error.to_string()).hint("edit `services.kubelet.extra_binds` by hand, and commit it")
        };
        let read = |state: &Loaded| -> Result<(String, Vec<String>), Failure> {
            let text = state.file(&edit.path)?;
            let binds = rke::read(&name, &text).map_err(refused)?.binds;
            Ok((text, binds))
        };
        // What was merged is in force, whatever became of its branch.
        let (text, found) = read(&self.load(target, target.tip, "nothing is written on top of")?)?;
        if found == edit.to {
            return over(BindsWritten::InForce { commit: None, text });
        }
        let (place, settings, base) = self.place(target, cluster)?;
        let direct = place.branch == target.branch;
        let (text, found) = read(&base)?;
        let message = (edit.subject(), edit.message.as_str());
        if found == edit.to {
            // Whoever pushed it may have been killed before the proposal.
            let proposal = self.propose(target, &place, &settings, message)?;
            return over(BindsWritten::Proposed { branch: place.branch, proposal, is_new: false });
        }
        if found != edit.from {
            return over(BindsWritten::Dropped(format!("{} says something else by now", edit.path)));
        }
        let edited = rke::set_binds(&name, &text, &edit.to).map_err(refused)?;
        let path = self.path_of(target, &place, &edit.path)?;
        if target.is_checked_out(&place.branch) {
            return Err(Failure::new(format!("{} is checked out in {}", place.branch, target.shown))
                .hint("apply in that folder itself, or name a bare repository"));
        }
        let files = vec![(path, edited.clone().into_bytes())];
        let commit = target.git.commit(&[place.base], &self.change(&settings, files, &edit.message))?;
        // The commit is read like any other revision before it is pushed.
        let after = self.load(target, commit, "nothing was pushed: drover's own")?;
        if after.file(&edit.path)? != edited {
            return Err(Failure::new(format!("nothing was pushed: commit {commit} does not hold the edit")));
        }
        if !self.push(target, &place, &settings, commit, message)? {
            return Ok(Attempt::Lost);
        }
        if direct {
            return over(BindsWritten::InForce { commit: Some(commit.to_string()), text: edited });
        }
        let proposal = self.propose(target, &place, &settings, message)?;
        over(BindsWritten::Proposed { branch: place.branch, proposal, is_new: true })
    }

    fn path_of(&self, target: &Target, place: &super::run::Place, path: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder(target, place.base)?;
        normalized(&folder.join(path))
            .ok_or_else(|| Failure::new(format!("the path {path} leads out of the repository")))
    }
}
