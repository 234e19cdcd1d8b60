//! Commits decisions and pushes them: the newest state is fetched, the decision is made or checked against exactly that
//! state, and its commit gets to the branch only if nobody was faster. Who was slower begins anew.

mod binds;
mod run;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;

pub use self::binds::{BindsEdit, BindsWritten};
use self::run::{Draft, Run};
use super::state::{Loaded, Loader, StateSource, is_local};
use crate::adapters::git::{self, Address, Person, SignerFiles, Signers, Target};
use crate::error::Failure;
use crate::model::{ClusterName, Desired};
use crate::writeback::{Decision, FileEdit};

/// How often a lost race is run again before it is given up.
const ATTEMPTS: usize = 30;
/// The first and the longest wait between two attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
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

/// How an attempt ended.
enum Attempt<T> {
    Over(T),
    /// Somebody else was faster.
    Lost,
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
        let mut decide = |base: &Loaded| decide(&base.desired);
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
        self.write_on(cluster, now, |base| decide(&base.desired))
    }

    /// The same, where a decision depends on the history of the state too.
    ///
    /// # Errors
    /// As for writing.
    pub fn write_on(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        mut decide: impl FnMut(&Loaded) -> Result<Decision, String>,
    ) -> Result<Written, Failure> {
        let written = self.race(now, |run, target| run.attempt(target, cluster, &mut decide))?;
        Ok(match written {
            Ok((Written::Committed(committed), attempts)) => Written::Committed(Committed { attempts, ..committed }),
            Ok((written, _)) => written,
            Err(reason) => Written::Dropped { reason },
        })
    }

    /// Runs an attempt until it is not overtaken by others; gives up with a reason after many. Tells how many it took.
    fn race<T>(
        &self,
        now: Timestamp,
        mut attempt: impl FnMut(&mut Run<'_>, &Target) -> Result<Attempt<T>, Failure>,
    ) -> Result<Result<(T, usize), String>, Failure> {
        let waits = ExponentialBuilder::new().with_min_delay(WAITS.0).with_max_delay(WAITS.1).with_jitter();
        let mut waits = waits.with_max_times(ATTEMPTS - 1).build();
        let (mut attempts, mut renewed) = (0, false);
        loop {
            attempts += 1;
            match self.begin(now).and_then(|(mut run, target)| attempt(&mut run, &target)) {
                Ok(Attempt::Over(written)) => return Ok(Ok((written, attempts))),
                Ok(Attempt::Lost) => match waits.next() {
                    Some(wait) => std::thread::sleep(wait),
                    None => return Ok(Err(format!("others were faster {attempts} times in a row"))),
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
