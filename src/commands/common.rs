//! Arguments that several commands share, and how a state is loaded for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapters::git::{Credentials, Git, Person, SignerFiles, redacted};
use crate::adapters::kubelet::RkeCommand;
use crate::engine::{Loaded, Loader, StateSource, Wanted, Writer};
use crate::error::Failure;
use crate::model::Guard;
use crate::report::problems_text;
use crate::ui::Ui;

/// Where the state is read from.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[command(next_help_heading = "State")]
pub(super) struct StateArgs {
    /// Folder of the state; with --repo or --rev its path in the repository [default: ./state, else the current folder]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,

    /// Read the state from a repository instead of files: a path, or a file, ssh or https address
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,

    /// Read this branch, tag or commit instead of files [default with --repo: its default branch]
    #[arg(long, value_name = "REV")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,

    /// Private key for git over ssh; without it, and after it, the ssh agent is asked
    #[arg(long, value_name = "FILE", env = "DROVER_GIT_KEY", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_key: Option<PathBuf>,

    /// Environment variable that holds the token for git over https [default: DROVER_GIT_TOKEN]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_token_env: Option<String>,

    /// File that holds the token for git over https, such as a mounted secret; read anew for each connection
    #[arg(long, value_name = "FILE", env = "DROVER_GIT_TOKEN_FILE", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_token_file: Option<PathBuf>,

    /// How long a git server may be silent, in seconds [default: 20]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_timeout: Option<u64>,

    /// Folder for copies of remote repositories [default: drover below the user's cache folder]
    #[arg(long, value_name = "DIR", env = "DROVER_CACHE", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

/// Who must have signed the commits that a command builds on.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SignerArgs {
    /// Commits must be signed by a key in this file, in the format of OpenSSH's allowed_signers
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,

    /// Commits must be signed by one of the OpenPGP public keys in this file
    #[arg(long, value_name = "FILE")]
    openpgp_keys: Option<PathBuf>,
}

/// Which clusters a command looks at.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ClusterArgs {
    /// Only this cluster; may be given several times
    #[arg(long = "cluster", value_name = "NAME")]
    pub clusters: Vec<String>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs; `drover schema` tells its form
    Json,
}

/// Guards that are lifted for one run.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct AllowArgs {
    /// Lift a guard for this run; may be given several times
    #[arg(long = "allow", value_name = "GUARD", value_parser = guard_parser())]
    pub allow: Vec<Guard>,
}

fn guard_parser() -> impl TypedValueParser<Value = Guard> {
    PossibleValuesParser::new(Guard::ALL.map(Guard::name))
        .map(|name| Guard::ALL.into_iter().find(|guard| guard.name() == name).unwrap_or(Guard::TooManyNodes))
}

/// How RKE is run where the binds of its clusters change. A state could not be let choose a program.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RkeArgs {
    /// Run this RKE (`up --config …`) where a cluster.yml is right and the cluster is not
    #[arg(long, value_name = "PATH", env = "DROVER_RKE")]
    rke: Option<PathBuf>,

    /// A further argument for it; may be given several times
    #[arg(long = "rke-arg", value_name = "ARG", requires = "rke", allow_hyphen_values = true)]
    rke_args: Vec<String>,

    /// With --repo: the folder that holds a folder for each cluster with its cluster.rkestate
    #[arg(long, value_name = "DIR", env = "DROVER_RKE_FOLDER")]
    rke_folder: Option<PathBuf>,
}

impl RkeArgs {
    /// How it is run, where somebody says so.
    pub(super) fn command(&self) -> Option<RkeCommand> {
        let program = self.rke.clone()?;
        Some(RkeCommand { program, args: self.rke_args.clone(), folder: self.rke_folder.clone() })
    }
}

impl ClusterArgs {
    /// What a pass is asked to do.
    pub(super) fn wanted(&self, allow: &AllowArgs) -> Wanted {
        Wanted { clusters: self.clusters.iter().cloned().collect(), allow: allow.allow.iter().copied().collect() }
    }
}

impl StateArgs {
    /// The same without the password that an address may hold.
    pub(super) fn shown(&self) -> Self {
        Self { repo: self.repo.as_deref().map(redacted), ..self.clone() }
    }

    /// The source that the arguments name.
    pub(super) fn source(&self) -> Result<StateSource, Failure> {
        match (&self.repo, &self.rev) {
            (None, None) => Ok(StateSource::Folder(self.folder()?)),
            (Some(repository), revision) => {
                Ok(self.revision_of(repository.clone(), revision.clone(), self.state.clone()))
            }
            (None, Some(revision)) => {
                let (repository, folder) = self.around()?;
                Ok(self.revision_of(repository, Some(revision.clone()), folder))
            }
        }
    }

    /// A revision of a repository, with this command line's credentials.
    pub(super) fn revision_of(
        &self,
        repository: String,
        revision: Option<String>,
        folder: Option<PathBuf>,
    ) -> StateSource {
        StateSource::Revision {
            repository,
            revision,
            folder,
            credentials: self.credentials(),
            cache: self.cache.clone().unwrap_or_else(default_cache),
            timeout: Duration::from_secs(self.git_timeout.unwrap_or(20)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the command line names the variable that holds the token")]
    fn credentials(&self) -> Credentials {
        let token = std::env::var(self.git_token_env.as_deref().unwrap_or("DROVER_GIT_TOKEN"))
            .ok()
            .filter(|token| !token.is_empty());
        Credentials { key_file: self.git_key.clone(), token, token_file: self.git_token_file.clone() }
    }

    /// The repository around the folder of the state, and the folder's path in it where one is known.
    pub(super) fn around(&self) -> Result<(String, Option<PathBuf>), Failure> {
        let named = self.state.clone().or_else(|| self.folder().ok());
        let folder = named.clone().unwrap_or_default();
        // The folder, and folders around it, may exist only in the revision that is asked for.
        let or_here = |path| if path == Path::new("") { Path::new(".") } else { path };
        let start = folder.ancestors().map(or_here).find(|path| path.is_dir()).unwrap_or(Path::new("."));
        let missing = folder.strip_prefix(start).unwrap_or(&folder);
        let (git, inside) = Git::discover(start)?.ok_or_else(|| {
            Failure::new(format!("{} is not in a git repository", start.display())).hint("name one with --repo")
        })?;
        let whole = match (named, inside) {
            (Some(_), inside) => Some(inside.unwrap_or_default().join(missing)),
            (None, Some(inside)) if !inside.as_os_str().is_empty() => Some(inside.join("state")),
            (None, _) => None,
        };
        Ok((git.location(), whole))
    }

    /// What is written to: what --repo names, the repository here, or with `push` the one that it is pulled from.
    pub(super) fn writer(&self, push: bool, signers: &SignerArgs, author: Option<Person>) -> Result<Writer, Failure> {
        let signers = SignerFiles { ssh: signers.allowed_signers.clone(), openpgp: signers.openpgp_keys.clone() };
        let signers = (signers.ssh.is_some() || signers.openpgp.is_some()).then_some(signers);
        let writer = |source, checked_out| Writer { source, signers, author, checked_out };
        if self.repo.is_some() {
            return Ok(writer(self.source()?, false));
        }
        let (here, folder) = self.around()?;
        if !push {
            return Ok(writer(self.revision_of(here, self.rev.clone(), folder), self.rev.is_none()));
        }
        let (url, branch) = Git::open(Path::new(&here))?.upstream().ok_or_else(|| {
            Failure::new(format!("the branch that is checked out in {here} is not pulled from anywhere"))
                .hint("name the repository with --repo, or set an upstream with `git branch --set-upstream-to`")
        })?;
        Ok(writer(self.revision_of(url, self.rev.clone().or(Some(branch)), folder), false))
    }

    /// The folder of the state on this machine.
    pub(super) fn folder(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state {
            return match folder.is_dir() {
                true => Ok(folder.clone()),
                false => Err(Failure::new(format!("there is no folder {}", folder.display()))
                    .hint("name the folder of the state with --state")),
            };
        }
        if Path::new("state").is_dir() {
            return Ok(PathBuf::from("state"));
        }
        if ["fleet.yaml", "fleet.yml", "clusters", "nodes"].iter().any(|name| Path::new(name).exists()) {
            return Ok(PathBuf::from("."));
        }
        Err(Failure::new("there is no state here: neither ./state nor a state in the current folder")
            .hint("name its folder with --state, or make one from a live cluster with `drover import`"))
    }

    /// Loads the state.
    pub(super) fn load(&self, now: Timestamp) -> Result<Loaded, Failure> {
        Loader::default().load(&self.source()?, now)
    }

    /// Loads the state, and tells what is wrong with it.
    pub(super) fn load_and_tell(&self, ui: Ui, now: Timestamp) -> Result<Loaded, Failure> {
        self.load_with(Loader::default(), ui, now)
    }

    /// Loads the state and already looks at the clusters meanwhile, and tells what is wrong with it.
    pub(super) fn load_and_look(&self, clusters: &ClusterArgs, ui: Ui, now: Timestamp) -> Result<Loaded, Failure> {
        self.load_with(Loader::looking_ahead(clusters.clusters.iter().cloned().collect()), ui, now)
    }

    fn load_with(&self, mut loader: Loader, ui: Ui, now: Timestamp) -> Result<Loaded, Failure> {
        let loaded = loader.load(&self.source()?, now)?;
        if !loaded.problems.is_empty() {
            ui.note(problems_text(&loaded.problems, &loaded.shown_folder()).trim_end());
            ui.note("");
        }
        Ok(loaded)
    }
}

#[expect(clippy::disallowed_methods, reason = "the user's cache folder is named by the environment")]
fn default_cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("drover/git")
}

/// Tells what is wrong with a state; an error where it cannot be used.
pub(super) fn problems_of(loaded: &Loaded, folder: &Path, ui: Ui) -> Result<(), Failure> {
    if !loaded.problems.is_empty() {
        ui.note(problems_text(&loaded.problems, &folder.display().to_string()).trim_end());
    }
    match loaded.is_valid() {
        true => Ok(()),
        false => Err(Failure::new(format!("the state in {} does not validate", folder.display()))
            .hint("mend the problems above")),
    }
}

/// A value as JSON, ready to print.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::caused("cannot write JSON", &error))?;
    Ok(escaped(&text) + "\n")
}

/// JSON leaves the control characters above ASCII as they are, and some terminals obey them.
fn escaped(json: &str) -> String {
    let obeyed = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(obeyed) {
        return json.to_owned();
    }
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        match obeyed(c) {
            true => text += &format!("\\u{:04x}", c as u32),
            false => text.push(c),
        }
        text
    })
}

/// Waits for somebody to ask the process to end; false where that cannot be waited for.
pub(super) async fn signalled() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return false };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
        received = terminate.recv() => received.is_some(),
    }
}
