//! A bare copy of a remote repository in the user's cache, brought up to date before it is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, FetchPrune, Oid, Remote, Repository};
use sha2::{Digest, Sha256};

use super::credentials::{Credentials, redacted, redacted_message};
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
    let mut updated = open_or_create(&folder).map(|repository| update(repository, url, credentials))?;
    if matches!(&updated, Err(error) if is_the_copys(error, &folder)) {
        clear(&folder)?;
        updated = open_or_create(&folder).map(|repository| update(repository, url, credentials))?;
    }
    let (repository, default_branch) = updated.map_err(|error| explain("fetch", url, &error, timeout))?;
    Ok(Fetched { git: Git { repository }, default_branch, shown })
}

/// Where the branches and tags of a server are, as far as they matter for what is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tips(BTreeMap<String, Oid>);

/// Asks a server where the reference that a revision names is, and for nothing else; the default branch where none is
/// named. Of a revision that is no reference's name, such as a commit, any reference may be the way to it.
pub fn tips(url: &str, revision: Option<&str>, credentials: &Credentials, timeout: Duration) -> Result<Tips, Failure> {
    set_timeouts(timeout);
    let asked = || {
        let mut remote = Remote::create_detached(url)?;
        let connection = remote.connect_auth(Direction::Fetch, Some(credentials.callbacks(url)), None)?;
        // git2 panics where a name is not UTF-8, which anybody who may push can bring about.
        let listed =
            connection.list()?.iter().filter_map(|head| catch_unwind(|| (head.name().to_owned(), head.oid())).ok());
        let mut all: BTreeMap<String, Oid> = listed.collect();
        let followed = match revision {
            None | Some("HEAD") => {
                connection.default_branch().ok().and_then(|name| name.as_str().ok().map(str::to_owned))
            }
            Some(name) => {
                let mut names =
                    ["", "refs/", "refs/tags/", "refs/heads/"].iter().map(|before| format!("{before}{name}"));
                names.find(|name| all.contains_key(name))
            }
        };
        let one = followed.and_then(|name| all.remove_entry(&name));
        Ok(Tips(one.map(|entry| BTreeMap::from([entry])).unwrap_or(all)))
    };
    asked().map_err(|error| explain("fetch", &redacted(url), &error, timeout))
}

/// Opens the copy of a remote repository as it was last fetched.
pub fn copy(url: &str, cache: &Path) -> Result<Git, Failure> {
    Git::open(&cache.join(name_of(url)))
}

/// Removes the copy of a remote repository; nothing in it is not on the server.
pub fn forget(url: &str, cache: &Path) -> Result<(), Failure> {
    let folder = cache.join(name_of(url));
    let _lock = lock(&folder.with_extension("lock"))?;
    clear(&folder)
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
    // A copy that a killed process left half made is no use.
    clear(folder)?;
    Repository::init_bare(folder).map_err(|error| failed(format!("cannot create {}", folder.display()), &error))
}

fn clear(folder: &Path) -> Result<(), Failure> {
    let cleared = match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => std::fs::remove_file(folder),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        cleared => cleared,
    };
    cleared.map_err(|error| Failure::caused(format!("cannot clear {}", folder.display()), &error))
}

type Updated = (Repository, Option<String>);

fn update(repository: Repository, url: &str, credentials: &Credentials) -> Result<Updated, git2::Error> {
    let default_branch = {
        let mut remote = repository.remote_anonymous(url)?;
        let mut connection = remote.connect_auth(Direction::Fetch, Some(credentials.callbacks(url)), None)?;
        let branch = connection.default_branch().ok();
        let mut options = FetchOptions::new();
        options.remote_callbacks(credentials.callbacks(url)).download_tags(AutotagOption::All).prune(FetchPrune::On);
        let wanted = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        connection.remote().fetch(&wanted, Some(&mut options), None)?;
        branch.and_then(|name| name.as_str().ok().map(str::to_owned))
    };
    if let Some(branch) = &default_branch {
        repository.set_head(branch)?; // so that `HEAD` and `HEAD~1` mean the server's
    }
    Ok((repository, default_branch))
}

/// Whether a failure comes from the copy, not from the server or the way to it: a file that was cut short, or a branch
/// `a` that stands in the way of the server's new branch `a/b`.
fn is_the_copys(error: &git2::Error, folder: &Path) -> bool {
    use ErrorClass::{Callback, Http, Net, Os, Ssh, Ssl};
    match (error.code(), error.class()) {
        (ErrorCode::Auth | ErrorCode::Certificate | ErrorCode::Timeout, _) => false,
        (_, Callback | Http | Net | Ssh | Ssl) => false,
        (_, Os) => error.message().contains(&*folder.to_string_lossy()),
        _ => true,
    }
}

/// What went wrong with a server; `doing` is `fetch` or `push to`.
pub(super) fn explain(doing: &str, url: &str, error: &git2::Error, timeout: Duration) -> Failure {
    let message = redacted_message(error.message().trim_end(), url);
    let says = |part: &str| message.contains(part);
    let url = redacted(url);
    let failure = Failure::new(format!("cannot {doing} {url}: {message}"));
    if error.code() == ErrorCode::Timeout || says("Resource temporarily unavailable") || says("imed out") {
        return Failure::new(format!("cannot {doing} {url}: the server was silent for {} s", timeout.as_secs()))
            .hint("check that it can be reached from here, or wait longer with --git-timeout");
    }
    match (error.code(), error.class()) {
        (ErrorCode::Certificate, ErrorClass::Ssh) => {
            failure.hint("if the server is the right one, add its key to ~/.ssh/known_hosts")
        }
        (ErrorCode::Certificate, _) => failure.hint("name a file that holds the server's certificate in SSL_CERT_FILE"),
        (ErrorCode::Auth, _) => {
            failure.hint("for https set DROVER_GIT_TOKEN or name a --git-token-file, for ssh add the key to the agent or set DROVER_GIT_KEY")
        }
        _ if says("status code: 403") => failure.hint("check that these credentials may write to this repository"),
        _ if says("status code: 404") || says("not appear to be a git repository") => {
            failure.hint("check the path of the repository, and that these credentials may read it")
        }
        (_, ErrorClass::Ssh) => {
            failure.hint("a key file must be a private key without a passphrase; an ssh agent takes any key")
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
