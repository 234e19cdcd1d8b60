//! Follows a branch or a folder: which revision is in force, and which newer ones are refused.
//!
//! In force is the newest acceptable commit on the way back from the head of the branch along first parents. That is a
//! function of the history alone, so it does not matter how often one looks, or whether one was killed in between.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::Oid;
use jiff::Timestamp;

use super::refused::{RefusalReason, RefusedRevision};
use super::state::{Loaded, Loader, StateSource, folder_in, is_local};
use crate::adapters::git::{self, Fetched, Git, Relation, Revision, SignerFiles, Signers, Tips};
use crate::error::Failure;
use crate::manifest::Problem;
use crate::model::Desired;
use crate::plan::StateRevision;

/// Commits that are looked at for one that can be used, before giving up.
pub const MOST_COMMITS: usize = 1000;

/// What is asked of revisions.
#[derive(Debug, Clone, Default)]
pub struct FollowOptions {
    /// Also follow a branch to where the commit in force is no longer part of its history.
    pub follow_rewinds: bool,
    /// Who may sign commits; none where signatures are not asked for.
    pub signers: Option<SignerFiles>,
}

/// What a look at the source came to.
#[derive(Debug, Clone)]
pub struct Synced {
    /// Whether another state came into force.
    pub changed: bool,
    /// The commit that the source is at, whether it is in force or not.
    pub head: Option<String>,
    /// What is newer than the revision in force and was passed over, the newest first.
    pub refused: Arc<[RefusedRevision]>,
}

/// The state that is in force.
#[derive(Debug)]
pub struct InForce {
    /// What it asks for.
    pub desired: Arc<Desired>,
    /// Which revision it is.
    pub revision: StateRevision,
    /// Who signed it, where signatures are asked for.
    pub signer: Option<String>,
    /// The folder that relative paths of the state start from, where it lies on this machine.
    pub root: Option<PathBuf>,
    /// The files that clusters name: dumps in place of an API server, and what RKE makes clusters by.
    pub files: BTreeMap<String, Result<String, Failure>>,
    /// What is worth knowing about it.
    pub warnings: Vec<Problem>,
}

/// Follows a source of states.
pub struct Follower {
    source: StateSource,
    options: FollowOptions,
    loader: Loader,
    signers: Option<Signers>,
    /// Whether the commit in force was acceptable to the signers of now.
    trusted: bool,
    in_force: Option<Arc<InForce>>,
    refused: HashMap<Oid, RefusedRevision>,
    seen: Option<(Position, Synced)>,
}

/// Where a source stood: if it still stands there, there is nothing to do.
#[derive(PartialEq, Eq)]
enum Position {
    Head(Oid),
    Tips(Tips),
}

/// A repository that was opened or fetched, and the commit to follow.
struct Opened {
    git: Git,
    head: Oid,
    shown: String,
}

enum Verdict {
    Accepted(InForce),
    Refused(RefusalReason),
}

impl Follower {
    /// A follower that has not looked yet.
    pub fn new(source: StateSource, options: FollowOptions) -> Self {
        Self {
            source,
            options,
            loader: Loader::default(),
            signers: None,
            trusted: true,
            in_force: None,
            refused: HashMap::new(),
            seen: None,
        }
    }

    /// The state in force; none before a revision could be used.
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.in_force.clone()
    }

    /// Looks at the source once. After an error, what is in force stays so.
    pub fn sync(&mut self, now: Timestamp) -> Result<Synced, Failure> {
        match self.source.clone() {
            StateSource::Folder(folder) => self.sync_folder(&folder, now),
            StateSource::Revision { repository, .. } if is_local(&repository) => {
                self.reread_signers()?;
                let opened = self.open()?;
                let position = Position::Head(opened.head);
                self.unless_seen(position, |follower| follower.advance(&opened, now))
            }
            StateSource::Revision { repository, revision, credentials, timeout, cache, .. } => {
                self.reread_signers()?;
                // Only references are asked for, as long as the one that is followed does not move.
                let tips = git::tips(&repository, revision.as_deref(), &credentials, timeout)?;
                self.unless_seen(Position::Tips(tips), |follower| {
                    let synced = follower.open().and_then(|opened| follower.advance(&opened, now));
                    if synced.is_ok() || git::copy(&repository, &cache).is_ok_and(|git| git.is_whole()) {
                        return synced;
                    }
                    // Files of the copy were cut short or lost: it is fetched anew, once.
                    git::forget(&repository, &cache)?;
                    follower.open().and_then(|opened| follower.advance(&opened, now))
                })
            }
        }
    }

    /// How a commit, such as one that another replica recorded, stands to the one in force.
    pub fn contains(&self, commit: &str) -> Result<Relation, Failure> {
        let (Some(in_force), Ok(commit)) = (self.commit_in_force(), Oid::from_str(commit)) else {
            return Ok(Relation::Unknown);
        };
        let git = match &self.source {
            StateSource::Folder(folder) => Git::discover(folder)?.map(|(git, _)| git),
            StateSource::Revision { repository, .. } if is_local(repository) => Some(open_local(repository)?),
            StateSource::Revision { repository, cache, .. } => Some(git::copy(repository, cache)?),
        };
        git.map_or(Ok(Relation::Unknown), |git| git.relation(commit, in_force))
    }

    fn commit_in_force(&self) -> Option<Oid> {
        self.in_force.as_ref()?.revision.commit.as_deref().and_then(|commit| Oid::from_str(commit).ok())
    }

    fn reread_signers(&mut self) -> Result<(), Failure> {
        let Some(files) = &self.options.signers else { return Ok(()) };
        let texts = files.read()?;
        if self.signers.as_ref().is_none_or(|signers| *signers.texts() != texts) {
            self.signers = Some(Signers::parse(texts)?);
            // Whom to trust was decided anew, so every verdict is.
            (self.trusted, self.seen) = (false, None);
            self.refused.clear();
        }
        Ok(())
    }

    fn unless_seen(
        &mut self,
        position: Position,
        look: impl FnOnce(&mut Self) -> Result<Synced, Failure>,
    ) -> Result<Synced, Failure> {
        if let Some((seen, synced)) = &self.seen
            && *seen == position
        {
            return Ok(synced.clone());
        }
        let synced = look(self)?;
        self.seen = Some((position, Synced { changed: false, ..synced.clone() }));
        Ok(synced)
    }

    fn open(&self) -> Result<Opened, Failure> {
        let StateSource::Revision { repository, revision, credentials, cache, timeout, .. } = &self.source else {
            return Err(Failure::new("a folder has no revisions"));
        };
        let (git, default_branch, shown) = if is_local(repository) {
            (open_local(repository)?, None, repository.clone())
        } else {
            let Fetched { git, default_branch, shown } = git::fetch(repository, cache, credentials, *timeout)?;
            (git, default_branch, shown)
        };
        let revision = revision.as_deref().or(default_branch.as_deref()).unwrap_or("HEAD");
        let head = git.resolve(revision).map_err(|failure| failure.within(format!("cannot follow {shown}")))?;
        Ok(Opened { git, head, shown })
    }

    /// Puts the newest acceptable revision in force.
    fn advance(&mut self, opened: &Opened, now: Timestamp) -> Result<Synced, Failure> {
        let Opened { git, head, .. } = opened;
        let synced =
            |changed, refused: Vec<_>| Synced { changed, head: Some(head.to_string()), refused: refused.into() };
        let base = self.commit_in_force();
        if let Some(refused) = self.rewound(opened, base)? {
            return Ok(synced(false, vec![refused]));
        }
        let path = git.first_parents(*head, MOST_COMMITS + 1)?;
        self.refused.retain(|commit, _| path.contains(commit));
        // Only what leads on from the commit in force may follow it. On the way back, such commits come first.
        let bound = base.filter(|_| self.trusted && !self.options.follow_rewinds);
        let mut failure = None;
        let reach = path.partition_point(|commit| match bound.map(|base| git.relation(*commit, base)).transpose() {
            Ok(relation) => relation.is_none_or(|relation| matches!(relation, Relation::Same | Relation::Newer)),
            Err(error) => failure.replace(error).is_some(),
        });
        failure.map_or(Ok(()), Err)?;
        let mut refused = Vec::new();
        for commit in path[..reach].iter().copied() {
            if base == Some(commit) && self.trusted {
                return Ok(synced(false, refused));
            }
            if refused.len() == MOST_COMMITS {
                refused.push(refusal(git, commit, RefusalReason::TooFar { looked_at: MOST_COMMITS })?);
                break;
            }
            if let Some(known) = self.refused.get(&commit) {
                refused.push(known.clone());
                continue;
            }
            match self.judge(opened, commit, now)? {
                Verdict::Refused(reason) => {
                    refused.push(refusal(git, commit, reason)?);
                    self.refused.extend(refused.last().map(|refused| (commit, refused.clone())));
                }
                Verdict::Accepted(accepted) => {
                    self.trusted = true;
                    let changed = base != Some(commit);
                    if changed {
                        self.in_force = Some(Arc::new(accepted));
                    }
                    return Ok(synced(changed, refused));
                }
            }
        }
        Ok(synced(false, refused))
    }

    /// Why a head cannot be followed at all, where it does not lead on from what is in force.
    fn rewound(&self, opened: &Opened, base: Option<Oid>) -> Result<Option<RefusedRevision>, Failure> {
        let Opened { git, head, shown } = opened;
        let Some(base) = base.filter(|_| !self.options.follow_rewinds) else { return Ok(None) };
        match git.relation(*head, base)? {
            Relation::Same | Relation::Newer => Ok(None),
            Relation::Older | Relation::Elsewhere if git.share_history(*head, base) => {
                refusal(git, *head, RefusalReason::Rewound { in_force: base.to_string() }).map(Some)
            }
            _ => Err(Failure::new(format!(
                "{shown} no longer has the commit in force, {base}: its history was replaced"
            ))
            .hint("what is in force stays; to follow the new history, allow rewinds or start drover anew")),
        }
    }

    /// Whether a commit can be used. An error is no verdict: nothing could be read.
    fn judge(&mut self, opened: &Opened, commit: Oid, now: Timestamp) -> Result<Verdict, Failure> {
        let Opened { git, shown, .. } = opened;
        let signer = match self.signers.as_ref().map(|signers| git.signer(commit, signers)).transpose()? {
            Some(Err(distrust)) => return Ok(Verdict::Refused(distrust.into())),
            Some(Ok(signer)) => Some(signer),
            None => None,
        };
        let StateSource::Revision { folder, .. } = &self.source else {
            return Err(Failure::new("a folder has no revisions"));
        };
        let folder = folder_in(git, commit, folder.as_deref())?;
        if !folder.as_os_str().is_empty() && git.lacks_folder(commit, &folder)? {
            let missing = format!("the commit has no folder {}", folder.display());
            let missing =
                Problem::of_file("empty-state", "", missing).help("bring it back, or name another with --state");
            return Ok(Verdict::Refused(RefusalReason::invalid(vec![missing])));
        }
        let at = Revision { commit, folder };
        let loaded = self.loader.load_revision(Git::open(&git.path())?, at, shown.clone(), now)?;
        if let Some(problem) = loaded.problems.iter().find(|problem| problem.rule == "unreadable") {
            return Err(Failure::new(format!("commit {commit}: {} {}", problem.file, problem.message)));
        }
        Ok(match loaded.is_valid() {
            true => Verdict::Accepted(in_force(loaded, signer)),
            false => Verdict::Refused(RefusalReason::invalid(loaded.problems)),
        })
    }

    fn sync_folder(&mut self, folder: &Path, now: Timestamp) -> Result<Synced, Failure> {
        if self.options.signers.is_some() {
            return Err(Failure::new(format!("the files in {} carry no signatures", folder.display()))
                .hint("follow a repository with --repo, or ask for no signatures"));
        }
        let loaded = self.loader.load(&self.source, now)?;
        let head = loaded.revision.commit.clone();
        if !loaded.is_valid() {
            let (revision, reason) = (loaded.revision.source, RefusalReason::invalid(loaded.problems));
            return Ok(Synced {
                changed: false,
                head,
                refused: [RefusedRevision { revision, commit: None, reason }].into(),
            });
        }
        let new = in_force(loaded, None);
        let same = |old: &Arc<InForce>| old.revision == new.revision && old.files == new.files;
        let changed = !self.in_force.as_ref().is_some_and(same);
        if changed {
            self.in_force = Some(Arc::new(new));
        }
        Ok(Synced { changed, head, refused: [].into() })
    }
}

fn in_force(loaded: Loaded, signer: Option<String>) -> InForce {
    let files = loaded.desired.clusters.values().flat_map(|cluster| cluster.spec.files()).map(str::to_owned);
    let files: BTreeSet<String> = files.collect();
    InForce {
        files: files.into_iter().map(|path| (loaded.file(&path), path)).map(|(read, path)| (path, read)).collect(),
        root: loaded.root().map(Path::to_path_buf),
        desired: loaded.desired,
        revision: loaded.revision,
        signer,
        warnings: loaded.problems,
    }
}

fn refusal(git: &Git, commit: Oid, reason: RefusalReason) -> Result<RefusedRevision, Failure> {
    Ok(RefusedRevision { revision: commit.to_string(), commit: Some(git.describe(commit)?), reason })
}

fn open_local(repository: &str) -> Result<Git, Failure> {
    Git::open(Path::new(repository.strip_prefix("file://").unwrap_or(repository)))
}
