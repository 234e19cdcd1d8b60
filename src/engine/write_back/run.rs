//! One attempt to write a decision: on the newest state, and only as long as it is the newest.

use std::path::{Path, PathBuf};

use git2::Oid;
use jiff::Timestamp;

use super::{Attempt, Committed, Prepared, Writer, Written};
use crate::adapters::git::{Change, Git, Person, Relation, Revision, Signers, SigningKey, Target, Unpushed};
use crate::adapters::proposals::{Proposal, Server};
use crate::engine::refused::RefusalReason;
use crate::engine::state::{Loaded, Loader, StateSource, folder_in};
use crate::error::Failure;
use crate::model::write_back::{ServerForm, WriteMode};
use crate::model::{ClusterName, WriteBack};
use crate::writeback::{Decision, Standing, edits, is_of, message, only_moved, subject};

/// What git servers say of a branch that somebody else was just changing.
const RACES: [&str; 4] = ["cannot lock ref", "failed to update ref", "incorrect old value", "non-fast-forward"];

/// Where a commit goes, and what it builds on.
pub(super) struct Place {
    pub(super) branch: String,
    /// Where that branch is now.
    expected: Option<Oid>,
    /// The parent of the commit.
    pub(super) base: Oid,
}

/// Who commits are by, and how.
pub(super) struct Settings {
    spec: WriteBack,
    committer: Person,
    author: Person,
    key: Option<SigningKey>,
    /// Where proposals are opened; none where there are none, or the push itself asks for them.
    server: Option<Server>,
}

pub(super) enum Draft {
    Commit(Box<Prepared>),
    Written(Written),
}

/// One attempt.
pub(super) struct Run<'w> {
    pub(super) writer: &'w Writer,
    pub(super) now: Timestamp,
    pub(super) signers: Option<Signers>,
    pub(super) loader: Loader,
}

impl Run<'_> {
    pub(super) fn attempt(
        &mut self,
        target: &Target,
        cluster: &ClusterName,
        decide: &mut dyn FnMut(&Loaded) -> Result<Decision, String>,
    ) -> Result<Attempt<Written>, Failure> {
        let (place, settings, base) = self.place(target, cluster)?;
        let prepared = match self.draft(target, &place, &settings, &base, decide)? {
            Draft::Commit(prepared) => *prepared,
            Draft::Written(written) => {
                if let Written::Already { .. } = &written {
                    // Somebody was killed between the push and the proposal.
                    let title = format!("drover: moves on {}", place.branch);
                    self.propose(target, &place, &settings, (&title, ""))?;
                }
                return Ok(Attempt::Over(written));
            }
        };
        let commit = self.commit(target, &place, &settings, &base, &prepared)?;
        let title = subject(&prepared.decision);
        if !self.push(target, &place, &settings, commit, (&title, &prepared.message))? {
            return Ok(Attempt::Lost);
        }
        if self.writer.checked_out {
            let files = self.paths(target, &place, &prepared)?;
            target.check_out(commit, &files.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        }
        let proposal = self.propose(target, &place, &settings, (&title, &prepared.message))?;
        Ok(Attempt::Over(Written::Committed(Committed {
            commit: commit.to_string(),
            branch: place.branch,
            repository: target.shown.clone(),
            decision: prepared.decision,
            attempts: 1,
            proposal,
        })))
    }

    /// Where the commit goes, by what the branch that is followed says, and the state that it builds on.
    pub(super) fn place(
        &mut self,
        target: &Target,
        cluster: &ClusterName,
    ) -> Result<(Place, Settings, Loaded), Failure> {
        let followed = self.load(target, target.tip, "nothing is written on top of")?;
        let settings = self.settings(target, &followed)?;
        let direct = Place { branch: target.branch.clone(), expected: Some(target.tip), base: target.tip };
        if settings.spec.mode == WriteMode::Push || self.writer.checked_out {
            return Ok((direct, settings, followed));
        }
        let branch = settings.spec.branch.as_ref();
        let branch = branch.map_or_else(|| format!("drover/{cluster}"), |branch| branch.of(cluster.as_str()));
        let expected = target.git.branch(&branch);
        let base = match expected.map(|tip| Ok((tip, target.git.relation(tip, target.tip)?))).transpose()? {
            // Nothing is proposed that is not merged.
            None | Some((_, Relation::Same | Relation::Older)) => target.tip,
            Some((tip, Relation::Newer)) => tip,
            Some((tip, _)) => self.merge(target, &settings, &branch, tip)?,
        };
        let state = if base == target.tip { followed } else { self.load(target, base, "nothing is added to")? };
        Ok((Place { branch, expected, base }, settings, state))
    }

    /// A proposal that is behind the branch it is for is brought up to date by a merge: a rebase would need force.
    fn merge(&self, target: &Target, settings: &Settings, branch: &str, tip: Oid) -> Result<Oid, Failure> {
        let tree = target.git.merged(tip, target.tip)?.ok_or_else(|| {
            Failure::new(format!("the proposal {branch} contradicts what {} has become", target.branch))
                .hint("merge or close it, and delete its branch; drover then begins a new one")
        })?;
        let message = format!("Merge {} into {branch}\n", target.branch);
        target.git.commit_merge(&[tip, target.tip], tree, &self.change(settings, Vec::new(), &message))
    }

    pub(super) fn change<'c>(
        &self,
        settings: &'c Settings,
        files: Vec<(PathBuf, Vec<u8>)>,
        message: &'c str,
    ) -> Change<'c> {
        let Settings { author, committer, key, .. } = settings;
        Change { files, message, author, committer, time: self.now, key: key.as_ref() }
    }

    /// A state that may be built on: it validates, and is signed where that is asked for.
    pub(super) fn load(&mut self, target: &Target, commit: Oid, what: &str) -> Result<Loaded, Failure> {
        let refused =
            |reason: RefusalReason| Failure::new(format!("{what} commit {commit} of {}, since {reason}", target.shown));
        if let Some(signers) = &self.signers
            && let Err(distrust) = target.git.signer(commit, signers)?
        {
            return Err(refused(distrust.into()));
        }
        let folder = self.folder(target, commit)?;
        let git = Git::open(&target.git.path())?;
        let loaded = self.loader.load_revision(git, Revision { commit, folder }, target.shown.clone(), self.now)?;
        match loaded.is_valid() {
            true => Ok(loaded),
            false => Err(refused(RefusalReason::invalid(loaded.problems))),
        }
    }

    pub(super) fn folder(&self, target: &Target, commit: Oid) -> Result<PathBuf, Failure> {
        let StateSource::Revision { folder, .. } = &self.writer.source else { return Ok(PathBuf::new()) };
        folder_in(&target.git, commit, folder.as_deref())
    }

    fn settings(&self, target: &Target, followed: &Loaded) -> Result<Settings, Failure> {
        let spec = followed.desired.fleet.write_back.clone().ok_or_else(|| {
            Failure::new("the Fleet does not say who drover's commits are by")
                .hint("add `writeBack: {name: drover, email: drover@example.org}` to its spec")
        })?;
        let committer = Person { name: spec.name.clone(), email: spec.email.clone() };
        let author = self.writer.author.clone().unwrap_or_else(|| committer.clone());
        let key = spec.signing.as_ref().map(SigningKey::read).transpose()?;
        // What a proposal needs is looked for first: a branch that nobody is asked to merge would go unnoticed.
        let is_asked = spec.mode == WriteMode::PullRequest && !self.writer.checked_out;
        let server = spec.server.as_ref().filter(|server| is_asked && server.form != ServerForm::Gitlab);
        let server = server.map(|server| Server::new(server, &target.address().repository)).transpose()?;
        Ok(Settings { spec, committer, author, key, server })
    }

    pub(super) fn draft(
        &mut self,
        target: &Target,
        place: &Place,
        settings: &Settings,
        base: &Loaded,
        decide: &mut dyn FnMut(&Loaded) -> Result<Decision, String>,
    ) -> Result<Draft, Failure> {
        let dropped = |reason| Ok(Draft::Written(Written::Dropped { reason }));
        let decision = match decide(base) {
            Ok(decision) => decision,
            Err(reason) => return dropped(reason),
        };
        let folder = self.folder(target, place.base)?;
        if let Some(commit) = written(target, place.base, &folder, &decision)? {
            return Ok(Draft::Written(Written::Already { commit: commit.to_string() }));
        }
        if let Standing::Stale(reason) = decision.standing(&base.desired) {
            return dropped(reason);
        }
        let edits = edits(&base.desired, &decision, |file| base.file(file))?;
        let record = folder.join(decision.record_name(self.now)).display().to_string();
        let message = message(&decision, settings.spec.template.as_ref(), &record)?;
        Ok(Draft::Commit(Box::new(Prepared { branch: place.branch.clone(), decision, edits, message })))
    }

    fn paths(&self, target: &Target, place: &Place, prepared: &Prepared) -> Result<Vec<PathBuf>, Failure> {
        let folder = self.folder(target, place.base)?;
        let record = folder.join(prepared.decision.record_name(self.now));
        Ok(prepared.edits.iter().map(|edit| folder.join(&*edit.file)).chain([record]).collect())
    }

    /// Makes the commit, and reads it again as a whole: the moves must be all that it changes.
    fn commit(
        &mut self,
        target: &Target,
        place: &Place,
        settings: &Settings,
        base: &Loaded,
        prepared: &Prepared,
    ) -> Result<Oid, Failure> {
        let paths = self.paths(target, place, prepared)?;
        let known: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        match (target.is_checked_out(&place.branch), self.writer.checked_out) {
            (true, false) => {
                return Err(Failure::new(format!("{} is checked out in {}", place.branch, target.shown))
                    .hint("commit in that folder itself, or name a bare repository"));
            }
            (true, true) => {
                if let Some(file) = target.uncommitted(&known) {
                    return Err(Failure::new(format!("{} has changes that are not committed", file.display()))
                        .hint("commit them or take them back first"));
                }
            }
            _ => {}
        }
        let texts = prepared.edits.iter().map(|edit| edit.after.clone().into_bytes());
        let files = paths.iter().cloned().zip(texts.chain([prepared.decision.record.clone()])).collect();
        let commit = target.git.commit(&[place.base], &self.change(settings, files, &prepared.message))?;
        let after = self.load(target, commit, "nothing was pushed: drover's own")?;
        match only_moved(&base.desired, &after.desired, &prepared.decision) {
            true => Ok(commit),
            false => Err(Failure::new(format!(
                "nothing was pushed: commit {commit} would change more than the group of {}",
                prepared.decision.moves.iter().map(|made| made.node.to_string()).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Pushes a commit; false where somebody else was faster.
    pub(super) fn push(
        &self,
        target: &Target,
        place: &Place,
        settings: &Settings,
        commit: Oid,
        words: (&str, &str),
    ) -> Result<bool, Failure> {
        let options = push_options(place, target, settings, words);
        match target.push(commit, &place.branch, place.expected, &options) {
            Ok(()) => Ok(true),
            Err(unpushed) => arrived(target, place, commit, unpushed),
        }
    }

    /// Opens the proposal of a branch, or brings it up to date.
    pub(super) fn propose(
        &self,
        target: &Target,
        place: &Place,
        settings: &Settings,
        (title, body): (&str, &str),
    ) -> Result<Option<String>, Failure> {
        let Some(server) = &settings.server else { return Ok(None) };
        let proposal = Proposal { branch: &place.branch, into: &target.branch, title, body };
        let opened = server.open_or_update(&proposal);
        opened.map(Some).map_err(|failure| {
            failure.within(format!("the decision is on branch {}, but is not proposed", place.branch))
        })
    }
}

/// GitLab opens a merge request when a push asks for it, and leaves one that is open as it is.
fn push_options(place: &Place, target: &Target, settings: &Settings, (title, body): (&str, &str)) -> Vec<String> {
    let is_gitlab = settings.spec.server.as_ref().is_some_and(|server| server.form == ServerForm::Gitlab);
    match is_gitlab && place.branch != target.branch {
        true => vec![
            "merge_request.create".to_owned(),
            format!("merge_request.target={}", target.branch),
            format!("merge_request.title={title}"),
            format!("merge_request.description={}", body.trim_end().replace('\n', "<br>")),
        ],
        false => Vec::new(),
    }
}

/// Whether a commit is on its branch after all, or somebody else was faster: what happened is what the repository says
/// now, not what the connection said.
fn arrived(target: &Target, place: &Place, commit: Oid, unpushed: Unpushed) -> Result<bool, Failure> {
    let now = target.reopened().map_err(|failure| {
        let first = match &unpushed {
            Unpushed::Unclear(failure) => format!("{failure}; "),
            Unpushed::Refused(words) => format!("the server refused the commit: {words}; "),
            Unpushed::Moved => String::new(),
        };
        failure
            .within(format!("{first}whether commit {commit} arrived cannot be seen"))
            .hint("try again: a decision that did arrive is found, and not made twice")
    })?;
    let tip = now.git.branch(&place.branch);
    if let Some(tip) = tip
        && matches!(now.git.relation(commit, tip)?, Relation::Same | Relation::Older)
    {
        return Ok(true);
    }
    match unpushed {
        _ if tip != place.expected => Ok(false),
        Unpushed::Moved => Ok(false),
        Unpushed::Refused(words) if RACES.iter().any(|race| words.contains(race)) => Ok(false),
        Unpushed::Refused(words) => {
            Err(Failure::new(format!("{} refused the commit for {}: {words}", target.shown, place.branch))
                .hint("let drover push to this branch, or set `writeBack.mode: pull-request` in the Fleet"))
        }
        Unpushed::Unclear(failure) => Err(failure),
    }
}

/// The commit that a decision was written with, if it was.
fn written(target: &Target, head: Oid, folder: &Path, decision: &Decision) -> Result<Option<Oid>, Failure> {
    let found = target.git.recent(head, |message| is_of(message, &decision.digest))?;
    // Its record is there even where its commit is too far back, or was squashed into another one.
    let end = format!("-{}.json", decision.digest);
    let has_record =
        || target.git.names(head, &folder.join(decision.record_folder())).iter().any(|name| name.ends_with(&end));
    Ok(found.or_else(|| has_record().then_some(head)))
}
