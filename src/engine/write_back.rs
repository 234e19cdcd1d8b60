//! Commits decisions and pushes them: the newest state is fetched, the decision is made or checked against exactly that
//! state, and its commit gets to the branch only if nobody was faster. Who was slower begins anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use git2::Oid;
use jiff::Timestamp;

use super::refused::RefusalReason;
use super::state::{Loaded, Loader, StateSource, folder_in, is_local};
use crate::adapters::git::{self, Address, Change, Git, Person, Relation, Revision, SignerFiles, Signers, SigningKey};
use crate::adapters::git::{Target, Unpushed};
use crate::adapters::proposals::{self, Proposal};
use crate::error::Failure;
use crate::model::write_back::{ProposalServer, ServerForm, WriteMode};
use crate::model::{ClusterName, Desired, WriteBack};
use crate::writeback::{Decision, FileEdit, Standing, edits, is_of, message, only_moved, subject};

/// How often a lost race is run again before it is given up.
const ATTEMPTS: usize = 30;
/// The first and the longest wait between two attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// What git servers say of a branch that somebody else was just changing.
const RACES: [&str; 4] = ["cannot lock ref", "failed to update ref", "incorrect old value", "non-fast-forward"];

/// How decisions are written back.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The repository and branch.
    pub source: StateSource,
    /// Who may sign commits, where that is asked for: of those that drover builds on, and of its own.
    pub signers: Option<SignerFiles>,
    /// Who decided; drover itself where nobody is named.
    pub author: Option<Person>,
    /// Commit to a branch that is checked out on this machine, and bring its files along.
    pub checked_out: bool,
}

/// What a write-back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The decision is on its branch.
    Committed(Committed),
    /// It was there already.
    Already {
        /// The commit that it was found under.
        commit: String,
    },
    /// It is not written.
    Dropped {
        /// Why.
        reason: String,
    },
}

/// A decision that is on its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub commit: String,
    /// Its branch.
    pub branch: String,
    /// The repository, without a password.
    pub repository: String,
    /// The decision.
    pub decision: Decision,
    /// How many attempts it took.
    pub attempts: usize,
    /// The proposal that asks people to merge it, where a server has one.
    pub proposal: Option<String>,
}

/// A commit as it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The branch that it goes to.
    pub branch: String,
    /// The decision.
    pub decision: Decision,
    /// The files that change.
    pub edits: Vec<FileEdit>,
    /// The message.
    pub message: String,
}

/// Where a commit goes, and what it builds on.
struct Place {
    branch: String,
    /// Where that branch is now.
    expected: Option<Oid>,
    /// The parent of the commit.
    base: Oid,
}

/// Who commits are by, and how.
struct Settings {
    spec: WriteBack,
    committer: Person,
    author: Person,
    key: Option<SigningKey>,
}

enum Attempt {
    Over(Written),
    Lost,
}

enum Draft {
    Commit(Box<Prepared>),
    Written(Written),
}

impl Writer {
    /// Shows what a decision would change, and changes nothing.
    ///
    /// # Errors
    /// As for writing.
    pub fn prepare(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        mut decide: impl FnMut(&Desired) -> Result<Decision, String>,
    ) -> Result<Result<Prepared, Written>, Failure> {
        let (mut run, target) = self.begin(now)?;
        let (place, settings, base) = run.place(&target, cluster)?;
        Ok(match run.draft(&target, &place, &settings, &base, &mut decide)? {
            Draft::Commit(prepared) => Ok(*prepared),
            Draft::Written(written) => Err(written),
        })
    }

    /// Writes a decision. `decide` is asked on the newest state, and again whenever somebody else was faster: it gives
    /// the decision for that state, or the reason why there is none any more.
    ///
    /// # Errors
    /// Where the decision could not be written. It is not on the branch then, except where the error says that this could
    /// not be seen; trying again is safe in every case.
    pub fn write(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        mut decide: impl FnMut(&Desired) -> Result<Decision, String>,
    ) -> Result<Written, Failure> {
        let waits = ExponentialBuilder::new().with_min_delay(WAITS.0).with_max_delay(WAITS.1).with_jitter();
        let mut waits = waits.with_max_times(ATTEMPTS - 1).build();
        let (mut attempts, mut renewed) = (0, false);
        loop {
            attempts += 1;
            let attempt = self.begin(now).and_then(|(mut run, target)| run.attempt(&target, cluster, &mut decide));
            match attempt {
                Ok(Attempt::Over(Written::Committed(committed))) => {
                    return Ok(Written::Committed(Committed { attempts, ..committed }));
                }
                Ok(Attempt::Over(written)) => return Ok(written),
                Ok(Attempt::Lost) => match waits.next() {
                    Some(wait) => std::thread::sleep(wait),
                    None => {
                        let reason = format!("others were faster {attempts} times in a row");
                        return Ok(Written::Dropped { reason });
                    }
                },
                // Files of the copy were cut short or lost: it is fetched anew, once.
                Err(_) if !renewed && self.has_broken_copy() => {
                    renewed = true;
                    self.address()?.forget_copy()?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn begin(&self, now: Timestamp) -> Result<(Run<'_>, Target), Failure> {
        let StateSource::Revision { revision, .. } = &self.source else {
            return Err(Failure::new("decisions are written to a repository, and this is a folder"));
        };
        let signers = self.signers.as_ref().map(|files| files.read().and_then(Signers::parse)).transpose()?;
        let target = self.address()?.open(revision.as_deref())?;
        Ok((Run { writer: self, now, signers, loader: Loader::default() }, target))
    }

    fn address(&self) -> Result<Address, Failure> {
        let StateSource::Revision { repository, credentials, cache, timeout, .. } = &self.source else {
            return Err(Failure::new("decisions are written to a repository, and this is a folder"));
        };
        let (is_local, cache, timeout) = (is_local(repository), cache.clone(), *timeout);
        Ok(Address { repository: repository.clone(), is_local, credentials: credentials.clone(), cache, timeout })
    }

    fn has_broken_copy(&self) -> bool {
        let StateSource::Revision { repository, cache, .. } = &self.source else { return false };
        !is_local(repository) && git::copy(repository, &cache.join("write")).is_ok_and(|git| !git.is_whole())
    }
}

/// One attempt.
struct Run<'w> {
    writer: &'w Writer,
    now: Timestamp,
    signers: Option<Signers>,
    loader: Loader,
}

impl Run<'_> {
    fn attempt(
        &mut self,
        target: &Target,
        cluster: &ClusterName,
        decide: &mut dyn FnMut(&Desired) -> Result<Decision, String>,
    ) -> Result<Attempt, Failure> {
        let (place, settings, base) = self.place(target, cluster)?;
        let prepared = match self.draft(target, &place, &settings, &base, decide)? {
            Draft::Commit(prepared) => *prepared,
            Draft::Written(written) => {
                if let Written::Already { .. } = &written {
                    // Somebody was killed between the push and the proposal.
                    self.propose(target, &place, &settings, None)?;
                }
                return Ok(Attempt::Over(written));
            }
        };
        let commit = self.commit(target, &place, &settings, &base, &prepared)?;
        let options = push_options(&place, target, &settings, &prepared);
        if let Err(unpushed) = target.push(commit, &place.branch, place.expected, &options)
            && !arrived(target, &place, commit, unpushed)?
        {
            return Ok(Attempt::Lost);
        }
        if self.writer.checked_out {
            let files = self.paths(target, &place, &prepared)?;
            target.check_out(commit, &files.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        }
        let proposal = self.propose(target, &place, &settings, Some(&prepared))?;
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
    fn place(&mut self, target: &Target, cluster: &ClusterName) -> Result<(Place, Settings, Loaded), Failure> {
        let followed = self.load(target, target.tip, "nothing is written on top of")?;
        let settings = self.settings(&followed)?;
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

    fn change<'c>(&self, settings: &'c Settings, files: Vec<(PathBuf, Vec<u8>)>, message: &'c str) -> Change<'c> {
        let Settings { author, committer, key, .. } = settings;
        Change { files, message, author, committer, time: self.now, key: key.as_ref() }
    }

    /// A state that may be built on: it validates, and is signed where that is asked for.
    fn load(&mut self, target: &Target, commit: Oid, what: &str) -> Result<Loaded, Failure> {
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

    fn folder(&self, target: &Target, commit: Oid) -> Result<PathBuf, Failure> {
        let StateSource::Revision { folder, .. } = &self.writer.source else { return Ok(PathBuf::new()) };
        folder_in(&target.git, commit, folder.as_deref())
    }

    fn settings(&self, followed: &Loaded) -> Result<Settings, Failure> {
        let spec = followed.desired.fleet.write_back.clone().ok_or_else(|| {
            Failure::new("the Fleet does not say who drover's commits are by")
                .hint("add `writeBack: {name: drover, email: drover@example.org}` to its spec")
        })?;
        let committer = Person { name: spec.name.clone(), email: spec.email.clone() };
        let author = self.writer.author.clone().unwrap_or_else(|| committer.clone());
        let key = spec.signing.as_ref().map(SigningKey::read).transpose()?;
        Ok(Settings { spec, committer, author, key })
    }

    fn draft(
        &mut self,
        target: &Target,
        place: &Place,
        settings: &Settings,
        base: &Loaded,
        decide: &mut dyn FnMut(&Desired) -> Result<Decision, String>,
    ) -> Result<Draft, Failure> {
        let dropped = |reason| Ok(Draft::Written(Written::Dropped { reason }));
        let decision = match decide(&base.desired) {
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

    /// Opens the proposal of a branch, or brings it up to date.
    fn propose(
        &self,
        target: &Target,
        place: &Place,
        settings: &Settings,
        prepared: Option<&Prepared>,
    ) -> Result<Option<String>, Failure> {
        let is_own = place.branch != target.branch;
        let Some(server) = settings.spec.server.as_ref().filter(|server| is_own && server.form != ServerForm::Gitlab)
        else {
            return Ok(None);
        };
        let ProposalServer { form, api, token_file } = server;
        let words = prepared.map(|prepared| (subject(&prepared.decision), prepared.message.clone()));
        let (title, body) = match words {
            Some(words) => words,
            None => (format!("drover: moves on {}", place.branch), String::new()),
        };
        let repository = &target.address().repository;
        let proposal = Proposal { branch: &place.branch, into: &target.branch, title: &title, body: &body };
        let opened = proposals::open_or_update(*form, api.as_deref(), token_file.as_ref(), repository, &proposal);
        opened.map(Some).map_err(|failure| {
            failure.within(format!("the decision is on branch {}, but is not proposed", place.branch))
        })
    }
}

/// GitLab opens a merge request when a push asks for it, and leaves one that is open as it is.
fn push_options(place: &Place, target: &Target, settings: &Settings, prepared: &Prepared) -> Vec<String> {
    let is_gitlab = settings.spec.server.as_ref().is_some_and(|server| server.form == ServerForm::Gitlab);
    match is_gitlab && place.branch != target.branch {
        true => vec![
            "merge_request.create".to_owned(),
            format!("merge_request.target={}", target.branch),
            format!("merge_request.title={}", subject(&prepared.decision)),
            format!("merge_request.description={}", prepared.message.trim_end().replace('\n', "<br>")),
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
