//! A bare copy of a remote repository in the user's cache, brought up to date before it is read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, FetchPrune, Repository};
use sha2::{Digest, Sha256};

use super::credentials::{Credentials, redacted};
use super::{Git, failed};
use crate::error::Failure;

/// What was fetched.
pub struct Fetched {
    /// The copy.
    pub git: Git,
    /// The branch that the server calls its default, if it has one.
    pub default_branch: Option<String>,
    /// The address, without a password.
    pub shown: String,
}

/// Brings the copy of a remote repository up to date. `cache` is the folder that the copies live in.
///
/// Branches and tags are fetched; a server that does not answer within `timeout` is an error.
pub fn fetch(url: &str, cache: &Path, credentials: &Credentials, timeout: Duration) -> Result<Fetched, Failure> {
    let shown = redacted(url);
    let folder = cache.join(name_of(url));
    set_timeouts(timeout);
    std::fs::create_dir_all(cache)
        .map_err(|error| Failure::caused(format!("cannot create the cache folder {}", cache.display()), &error))?;
    // Two processes that fetch into one copy would trip over each other's locks.
    let _lock = lock(&folder.with_extension("lock"))?;
    let repository = open_or_create(&folder)?;
    let default_branch = update(&repository, url, credentials).map_err(|error| explain(&shown, &error))?;
    Ok(Fetched { git: Git { repository }, default_branch, shown })
}

fn name_of(url: &str) -> String {
    let digest = Sha256::digest(url.as_bytes());
    digest[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock(path: &PathBuf) -> Result<File, Failure> {
    let locked = File::create(path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| Failure::caused(format!("cannot lock {}", path.display()), &error))
}

fn open_or_create(folder: &Path) -> Result<Repository, Failure> {
    if let Ok(repository) = Repository::open_bare(folder) {
        return Ok(repository);
    }
    // A copy that a killed process left half made is no use; nothing in it is not on the server.
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .map_err(|error| Failure::caused(format!("cannot clear {}", folder.display()), &error))?;
    }
    Repository::init_bare(folder).map_err(|error| failed(format!("cannot create {}", folder.display()), &error))
}

fn update(repository: &Repository, url: &str, credentials: &Credentials) -> Result<Option<String>, git2::Error> {
    let mut remote = repository.remote_anonymous(url)?;
    let default_branch = {
        let connection = remote.connect_auth(Direction::Fetch, Some(credentials.callbacks()), None)?;
        let branch = connection.default_branch().ok();
        branch.and_then(|name| name.as_str().ok().map(str::to_owned))
    };
    let mut options = FetchOptions::new();
    options.remote_callbacks(credentials.callbacks()).download_tags(AutotagOption::All).prune(FetchPrune::On);
    remote.fetch(&["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"], Some(&mut options), None)?;
    Ok(default_branch)
}

fn explain(url: &str, error: &git2::Error) -> Failure {
    let failure = failed(format!("cannot fetch {url}"), error);
    match (error.code(), error.class()) {
        (ErrorCode::Auth, _) | (_, ErrorClass::Ssh | ErrorClass::Callback) => {
            failure.hint("for https set DROVER_GIT_TOKEN, for ssh add the key to the agent or set DROVER_GIT_KEY")
        }
        (ErrorCode::Certificate, _) => {
            failure.hint("add the server's certificate to SSL_CERT_FILE, or its key to ~/.ssh/known_hosts")
        }
        (_, ErrorClass::Net | ErrorClass::Os) => {
            failure.hint("check the address, and that the server can be reached from here")
        }
        _ => failure,
    }
}

fn set_timeouts(timeout: Duration) {
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: libgit2 keeps these two numbers in globals; this runs once, before any connection is made.
        #[expect(unsafe_code, reason = "git2 offers no safe way to bound how long a server may be silent")]
        unsafe {
            let _ = git2::opts::set_server_connect_timeout_in_milliseconds(milliseconds);
            let _ = git2::opts::set_server_timeout_in_milliseconds(milliseconds);
        }
    });
}
