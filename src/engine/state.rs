//! From a folder or a git revision to the desired state. Only content that is new is parsed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use git2::Oid;
use jiff::Timestamp;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::ahead::Ahead;
use super::pass::Observed;
use crate::adapters::files::{self, Listing, StateFile, normalized};
use crate::adapters::git::{self, Credentials, Fetched, Git, Revision};
use crate::error::Failure;
use crate::manifest::decode::{Document, Manifest};
use crate::manifest::{Parsed, Problem, link, parse};
use crate::model::{ClusterManifest, ClusterName, ClusterSpec, Desired};
use crate::plan::{Source, StateRevision};

/// The folder that holds the state where nothing else is said.
const DEFAULT_FOLDER: &str = "state";

/// Where a state is read from.
#[derive(Debug, Clone)]
pub enum StateSource {
    /// A working directory.
    Folder(PathBuf),
    /// A revision of a repository.
    Revision {
        /// A path on this machine, or the address of a remote repository.
        repository: String,
        /// A branch, tag or commit; the default branch, or what is checked out, where it is omitted.
        revision: Option<String>,
        /// The folder of the state in the repository; `state`, or the root, where it is omitted.
        folder: Option<PathBuf>,
        /// How drover proves who it is.
        credentials: Credentials,
        /// Where copies of remote repositories are kept.
        cache: PathBuf,
        /// How long a server may be silent.
        timeout: Duration,
    },
}

/// A state that was read.
pub struct Loaded {
    /// What it asks for, as far as it is right.
    pub desired: Arc<Desired>,
    /// What is wrong, ordered by file and line.
    pub problems: Vec<Problem>,
    /// Which state it is.
    pub revision: StateRevision,
    /// How many files and documents it has.
    pub size: Size,
    fleet: bool,
    origin: StateOrigin,
    ahead: Option<Ahead>,
}

/// How much a state holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Files.
    pub files: usize,
    /// Documents that could be read.
    pub documents: usize,
}

/// Where the files beside the state are, and where its history is.
enum StateOrigin {
    Folder { root: PathBuf, dirty: HashSet<Arc<str>>, history: Option<History> },
    Revision { git: Git, at: Revision },
    Absent { folder: PathBuf },
}

/// What was last committed of a folder.
struct History {
    git: Git,
    head: Revision,
    files: Vec<(String, Oid)>,
}

impl History {
    /// None where the folder is not under git, or nothing was ever committed.
    fn of(folder: &Path) -> Result<Option<Self>, Failure> {
        let Some((git, Some(folder))) = Git::discover(folder)? else { return Ok(None) };
        let Some(commit) = git.head() else { return Ok(None) };
        let head = Revision { commit, folder };
        let files = git.list(&head).unwrap_or_default();
        Ok(Some(Self { git, head, files }))
    }

    /// The files that are not as they were committed; a file that is gone counts under its name.
    fn differing(&self, root: &Path, listing: &Listing) -> HashSet<Arc<str>> {
        let committed: BTreeSet<(&str, Oid)> = self.files.iter().map(|(name, id)| (name.as_str(), *id)).collect();
        let here: BTreeSet<(&str, Oid)> = listing.files.iter().map(|file| (&*file.name, file.id)).collect();
        // A file that is too large to be read is a problem, and as such no reason to call the folder changed.
        let too_large: HashSet<&str> =
            listing.problems.iter().filter(|p| p.rule == "file-size").map(|p| &*p.file).collect();
        let same = |name: &str, id| too_large.contains(name) && self.git.holds(id, &root.join(name));
        let differing = here.symmetric_difference(&committed).filter(|(name, id)| !same(name, *id));
        differing.map(|(name, _)| Arc::from(*name)).collect()
    }
}

impl StateOrigin {
    fn root(&self) -> Option<&Path> {
        match self {
            Self::Folder { root, .. } => Some(root),
            Self::Revision { .. } | Self::Absent { .. } => None,
        }
    }
}

impl Loaded {
    /// Whether every document could be read and none contradicts another.
    pub fn is_valid(&self) -> bool {
        !self.problems.iter().any(Problem::is_error)
    }

    /// Whether it has a Fleet document.
    pub fn has_fleet(&self) -> bool {
        self.fleet
    }

    /// The folder that relative paths of the state start from, where it lies on this machine.
    pub fn root(&self) -> Option<&Path> {
        self.origin.root()
    }

    /// Whether the revision has no folder of this name, which counts as an empty state.
    pub fn is_absent(&self) -> bool {
        matches!(self.origin, StateOrigin::Absent { .. })
    }

    /// What is put before the names of files, so that a person can open them.
    pub fn shown_folder(&self) -> String {
        match &self.origin {
            StateOrigin::Folder { root, .. } => root.display().to_string(),
            StateOrigin::Revision { at: Revision { folder, .. }, .. } | StateOrigin::Absent { folder } => {
                folder.display().to_string()
            }
        }
    }

    /// What a look at a cluster found that was begun while the state was read.
    pub(super) async fn looked_ahead(
        &self,
        name: &ClusterName,
        spec: &ClusterSpec,
    ) -> Option<Result<Observed, Failure>> {
        self.ahead.as_ref()?.answer(name, spec).await
    }

    /// The repository and the newest commit of the state; none where it is not under git, or nothing was ever committed.
    pub fn committed(&self) -> Option<(&Git, &Revision)> {
        match &self.origin {
            StateOrigin::Folder { history: Some(History { git, head, .. }), .. } => Some((git, head)),
            StateOrigin::Revision { git, at } => Some((git, at)),
            StateOrigin::Folder { history: None, .. } | StateOrigin::Absent { .. } => None,
        }
    }

    /// A file that the state names, such as a dump of live objects: a path relative to the root of the state.
    pub fn file(&self, path: &str) -> Result<String, Failure> {
        let bytes = match &self.origin {
            _ if Path::new(path).is_absolute() => files::read_regular(Path::new(path))?,
            StateOrigin::Folder { root, .. } => files::read_regular(&root.join(path))?,
            StateOrigin::Revision { git, at } => {
                let inside = normalized(&at.folder.join(path))
                    .ok_or_else(|| Failure::new(format!("the path {path} leads out of the repository")))?;
                git.file(at.commit, &inside)?
            }
            StateOrigin::Absent { .. } => {
                return Err(Failure::new(format!("there is no state that could hold {path}")));
            }
        };
        String::from_utf8(bytes).map_err(|_| Failure::new(format!("{path} is not UTF-8")))
    }

    /// The repository and the commit that the state was read from, or was changed from.
    pub(super) fn history(&self) -> Option<(&Git, Oid)> {
        match &self.origin {
            StateOrigin::Folder { history: Some(History { git, head, .. }), .. } => Some((git, head.commit)),
            StateOrigin::Revision { git, at } => Some((git, at.commit)),
            StateOrigin::Folder { history: None, .. } | StateOrigin::Absent { .. } => None,
        }
    }

    /// Gives each source the commit that last wrote its line.
    pub fn blame<'s>(&self, sources: impl Iterator<Item = &'s mut Source>) {
        match &self.origin {
            StateOrigin::Folder { root, dirty, history: Some(History { git, head, .. }) } => {
                git.blamer(&head.folder, Some(head.commit)).fill(sources, |file| {
                    dirty.contains(file).then(|| files::read_bytes(&root.join(file)).ok()).flatten()
                });
            }
            StateOrigin::Folder { history: None, .. } | StateOrigin::Absent { .. } => {}
            StateOrigin::Revision { git, at } => git.blamer(&at.folder, Some(at.commit)).fill(sources, |_| None),
        }
    }
}

/// What a file of this content was parsed into.
type Known = (Oid, Arc<Parsed>);

/// Reads states, and keeps what it parsed for the next revision.
#[derive(Default)]
pub struct Loader {
    parsed: HashMap<Arc<str>, Known>,
    last: Option<Arc<Desired>>,
    ahead: Option<BTreeSet<String>>,
    may_be_absent: bool,
}

impl Loader {
    /// A loader that begins to look at these clusters, or at all where there are none, while it still reads the state.
    pub fn looking_ahead(clusters: BTreeSet<String>) -> Self {
        Self { ahead: Some(clusters), ..Self::default() }
    }

    /// A loader for which a revision without the folder of the state has an empty state.
    pub fn for_comparison() -> Self {
        Self { may_be_absent: true, ..Self::default() }
    }

    /// Reads a state. `now` decides which holds have expired.
    pub fn load(&mut self, source: &StateSource, now: Timestamp) -> Result<Loaded, Failure> {
        match source {
            StateSource::Folder(folder) => self.load_folder(folder, now),
            StateSource::Revision { repository, revision, folder, .. } if is_local(repository) => {
                let path = repository.strip_prefix("file://").unwrap_or(repository);
                let git = Git::open(Path::new(path))?;
                self.load_at(git, revision.as_deref().unwrap_or("HEAD"), folder.as_deref(), repository.clone(), now)
            }
            StateSource::Revision { repository, revision, folder, credentials, cache, timeout } => {
                let mut again = true;
                loop {
                    let Fetched { git, default_branch, shown } = git::fetch(repository, cache, credentials, *timeout)?;
                    let copy = git.path();
                    let revision = revision.as_deref().or(default_branch.as_deref()).unwrap_or("HEAD");
                    let loaded = self.load_at(git, revision, folder.as_deref(), shown, now);
                    if !again || is_readable(&loaded) || Git::open(&copy).is_ok_and(|git| git.is_whole()) {
                        return loaded;
                    }
                    // Files of the copy were cut short or lost: it is fetched anew, once.
                    git::forget(repository, cache)?;
                    again = false;
                }
            }
        }
    }

    fn load_at(
        &mut self,
        git: Git,
        revision: &str,
        folder: Option<&Path>,
        shown: String,
        now: Timestamp,
    ) -> Result<Loaded, Failure> {
        let commit = git.resolve(revision)?;
        let folder = folder_in(&git, commit, folder)?;
        if self.may_be_absent && !folder.as_os_str().is_empty() && !git.has_folder(commit, &folder) {
            let (commit, digest) = (Some(commit.to_string()), digest(&[]));
            let revision = StateRevision { source: shown, commit, dirty: false, digest };
            return Ok(self.finish(Listing::default(), revision, StateOrigin::Absent { folder }, now));
        }
        self.load_revision(git, Revision { commit, folder }, shown, now)
    }

    /// Reads a revision of an open repository.
    pub fn load_revision(&mut self, git: Git, at: Revision, shown: String, now: Timestamp) -> Result<Loaded, Failure> {
        let known = &self.parsed;
        let listing = git.read(&at, |name, id| {
            known.get_key_value(name).filter(|(_, (known, _))| *known == id).map(|(name, _)| name.clone())
        })?;
        let (commit, dirty) = (Some(at.commit.to_string()), false);
        let revision = StateRevision { source: shown, commit, dirty, digest: digest(&listing.files) };
        Ok(self.finish(listing, revision, StateOrigin::Revision { git, at }, now))
    }

    fn load_folder(&mut self, folder: &Path, now: Timestamp) -> Result<Loaded, Failure> {
        let (listing, history) = rayon::join(|| files::read(folder), || History::of(folder));
        let (listing, history) = (listing?, history?);
        let dirty = match &history {
            Some(history) => history.differing(folder, &listing),
            None => listing.files.iter().map(|file| file.name.clone()).collect(),
        };
        let revision = StateRevision {
            source: folder.display().to_string(),
            commit: history.as_ref().map(|history| history.head.commit.to_string()),
            dirty: !dirty.is_empty(),
            digest: digest(&listing.files),
        };
        let origin = StateOrigin::Folder { root: folder.to_path_buf(), dirty, history };
        Ok(self.finish(listing, revision, origin, now))
    }

    fn finish(&mut self, listing: Listing, revision: StateRevision, origin: StateOrigin, now: Timestamp) -> Loaded {
        let ahead = self.ahead.as_ref().and_then(|wanted| Ahead::new(wanted, origin.root()));
        let parsed = self.parse(&listing.files, ahead.as_ref());
        let mut problems = listing.problems;
        let dumps = dumps_of(&parsed);
        let parsed: Vec<&Arc<Parsed>> = listing
            .files
            .iter()
            .zip(&parsed)
            .filter(|(file, _)| !dumps.contains(&*file.name))
            .map(|(_, p)| p)
            .collect();
        problems.retain(|problem| problem.rule != "file-size" || !dumps.contains(&*problem.file));
        problems.extend(parsed.iter().flat_map(|parsed| parsed.problems.iter().cloned()));
        let broken: Vec<_> = parsed.iter().flat_map(|parsed| parsed.broken.iter().cloned()).collect();
        let documents: Vec<&Document> = parsed.iter().flat_map(|parsed| &parsed.documents).collect();
        let size = Size { files: parsed.len(), documents: documents.len() };
        let linked = link(documents.iter().copied(), &broken, now, self.last.as_deref());
        let desired = Arc::new(linked.desired);
        self.last = (problems.is_empty() && linked.problems.is_empty()).then(|| desired.clone());
        problems.extend(linked.problems);
        let absent = matches!(origin, StateOrigin::Absent { .. });
        if size.documents == 0 && !problems.iter().any(Problem::is_error) && !absent {
            let message = "the state holds no document at all";
            problems.push(
                Problem::of_file("empty-state", "", message)
                    .help("adopt a live cluster with `drover import`, or see the examples"),
            );
        }
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        let fleet = documents.iter().any(|document| matches!(document.manifest, Manifest::Fleet(_)));
        Loaded { desired, problems, revision, size, fleet, origin, ahead }
    }

    /// Parses what is new, side by side, and forgets what is no longer part of the state.
    fn parse(&mut self, files: &[StateFile], ahead: Option<&Ahead>) -> Vec<Arc<Parsed>> {
        let known = &self.parsed;
        let parsed: Vec<(Arc<Parsed>, bool)> = files
            .par_iter()
            .with_min_len(64)
            .map(|file| match known.get(&file.name).filter(|(id, _)| *id == file.id) {
                Some((_, parsed)) => (parsed.clone(), false),
                None => (Arc::new(parse(&file.name, &file.bytes)), true),
            })
            .inspect(|(parsed, _)| ahead.into_iter().for_each(|ahead| clusters_of(parsed).for_each(|c| ahead.begin(c))))
            .collect();
        // Most files are as they were: what is known of them stays in place.
        let new = files.iter().zip(&parsed).filter(|(_, (_, is_new))| *is_new);
        self.parsed.reserve(files.len().saturating_sub(self.parsed.len()));
        self.parsed.extend(new.map(|(file, (parsed, _))| (file.name.clone(), (file.id, parsed.clone()))));
        if self.parsed.len() > files.len() {
            let names: HashSet<&str> = files.iter().map(|file| &*file.name).collect();
            self.parsed.retain(|name, _| names.contains(&**name));
        }
        parsed.into_iter().map(|(parsed, _)| parsed).collect()
    }
}

/// The folder of the state in a commit.
pub(super) fn folder_in(git: &Git, commit: Oid, named: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = named.map(Path::to_path_buf).unwrap_or_else(|| {
        let default = PathBuf::from(DEFAULT_FOLDER);
        if git.has_folder(commit, &default) { default } else { PathBuf::new() }
    });
    normalized(&folder).ok_or_else(|| {
        Failure::new(format!("the folder {} leads out of the repository", folder.display()))
            .hint("with --repo, --state is a path inside the repository")
    })
}

/// Whether everything that a revision lists could also be read.
fn is_readable(loaded: &Result<Loaded, Failure>) -> bool {
    loaded.as_ref().is_ok_and(|loaded| loaded.problems.iter().all(|problem| problem.rule != "unreadable"))
}

pub(super) fn is_local(repository: &str) -> bool {
    // `host:path` is ssh, unless it names something that is here.
    repository.starts_with("file://")
        || Path::new(repository).exists()
        || !(repository.contains("://") || repository.contains(':'))
}

fn clusters_of(parsed: &Parsed) -> impl Iterator<Item = &ClusterManifest> {
    parsed.documents.iter().filter_map(|document| match &document.manifest {
        Manifest::Cluster(cluster) => Some(&**cluster),
        _ => None,
    })
}

/// Dumps and files of RKE that a Cluster names may lie in the state, and are no documents of it.
fn dumps_of(parsed: &[Arc<Parsed>]) -> HashSet<String> {
    let clusters = parsed.iter().flat_map(|parsed| clusters_of(parsed));
    let files = clusters.flat_map(|cluster| cluster.spec.files()).map(str::to_owned);
    files.filter_map(|file| Some(normalized(Path::new(&file))?.to_string_lossy().into_owned())).collect()
}

fn digest(files: &[StateFile]) -> String {
    let mut names: Vec<(&str, Oid)> = files.iter().map(|file| (&*file.name, file.id)).collect();
    names.sort_unstable();
    let mut digest = Sha256::new();
    for (name, id) in names {
        digest.update(name.as_bytes());
        digest.update([0]);
        digest.update(id.as_bytes());
    }
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
