//! Following a real server: what a poll asks for, rotated tokens, damaged copies, servers that go away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use drover::adapters::git::{Credentials, Relation};
use drover::engine::{FollowOptions, Follower};
use tempfile::TempDir;

use super::follow::{commit, source, sync};
use super::servers::{Https, LIMIT, Served, Ssh};
use super::support::{Plan, fails};
use crate::support::limit;
use crate::support::run;

/// A served fleet, and a follower of it.
struct Polled {
    served: Served,
    server: Https,
    cache: TempDir,
    follower: Follower,
}

impl Polled {
    fn new(behaviour: &str, credentials: Credentials) -> Self {
        let served = Served::new();
        let server = Https::start(&served);
        #[expect(unsafe_code, reason = "libgit2 keeps this in globals, where it only adds a certificate")]
        unsafe {
            git2::opts::set_ssl_cert_file(server.certificate()).expect("a certificate");
        }
        let cache = Served::elsewhere();
        let source = source(&server.url(behaviour, "fleet.git"), cache.path(), credentials);
        Self { served, server, cache, follower: Follower::new(source, FollowOptions::default()) }
    }

    /// Changes the state, and commits and pushes it.
    fn publish(&self, model: &str) -> String {
        self.served.work.node("prod", "n1", &format!("{{devices: {{gpu: {model}}}}}"));
        self.served.publish(model)
    }

    /// Looks, and gives the requests that it took.
    #[track_caller]
    fn poll(&mut self, changed: bool) -> Vec<String> {
        let before = self.server.requests().len();
        assert_eq!(sync(&mut self.follower).expect("it can look").changed, changed);
        self.server.requests().split_off(before)
    }

    /// A follower that has not looked yet takes over, and finds the copy.
    fn restart(&mut self, behaviour: &str) {
        let source = source(&self.server.url(behaviour, "fleet.git"), self.cache.path(), Credentials::default());
        self.follower = Follower::new(source, FollowOptions::default());
    }

    fn copy(&self) -> PathBuf {
        let entries = fs::read_dir(self.cache.path()).expect("a cache").map(|entry| entry.expect("an entry").path());
        entries.into_iter().find(|path| path.is_dir()).expect("a copy")
    }
}

#[test]
fn a_poll_that_finds_nothing_new_asks_for_references_only() {
    let mut polled = Polled::new("open", Credentials::default());
    polled.poll(true);
    let aside = polled.copy().with_extension("aside");
    fs::rename(polled.copy(), &aside).expect("a folder");
    let idle = polled.poll(false);
    assert_eq!(idle, ["GET /open/fleet.git/info/refs?service=git-upload-pack -"]);
    // Another branch moves: that is nobody's business here.
    polled.served.work.git(&["checkout", "--quiet", "-b", "side"]);
    let side = polled.publish("T4");
    assert_eq!(polled.poll(false).len(), 1);
    let entries = fs::read_dir(polled.cache.path()).expect("a cache").map(|entry| entry.expect("an entry").path());
    assert!(!entries.into_iter().any(|path| path.is_dir() && path != aside), "no copy was needed");

    fs::rename(&aside, aside.with_extension("")).expect("a folder");
    polled.served.work.git(&["checkout", "--quiet", "main"]);
    polled.served.work.git(&["merge", "--quiet", "side"]);
    polled.served.push();
    let fetched = polled.poll(true);
    assert!(fetched.iter().any(|request| request.starts_with("POST ")), "{fetched:?}");
    assert_eq!(commit(&polled.follower), side);
    assert_eq!(polled.follower.contains(&side).expect("an answer"), Relation::Same);
}

#[test]
fn what_is_in_force_outlives_its_server() {
    let mut polled = Polled::new("open", Credentials::default());
    polled.poll(true);
    let first = commit(&polled.follower);
    let folder = polled.served.folder().join("fleet.git");
    let aside = polled.served.folder().join("aside");
    fs::rename(&folder, &aside).expect("a folder");
    let gone = sync(&mut polled.follower).expect_err("there is no repository").to_string();
    assert!(gone.contains("cannot fetch https://127.0.0.1:"), "{gone}");
    assert_eq!(commit(&polled.follower), first);
    fs::rename(&aside, &folder).expect("a folder");
    assert_eq!(polled.poll(false).len(), 1);

    let git = |arguments: &[&str]| polled.served.git(arguments);
    git(&["branch", "--quiet", "--move", "main", "other"]);
    let gone = sync(&mut polled.follower).expect_err("there is no branch").to_string();
    assert!(gone.contains("cannot follow https://127.0.0.1:") && gone.contains("no revision \"main\""), "{gone}");
    git(&["branch", "--quiet", "--move", "other", "main"]);
    assert_eq!((polled.poll(false).is_empty(), commit(&polled.follower)), (false, first.clone()));

    // A force-push that shares nothing with what was there.
    let work = &polled.served.work;
    work.git(&["checkout", "--quiet", "--orphan", "fresh"]);
    work.git(&["commit", "--quiet", "--message", "anew"]);
    work.git(&["branch", "--force", "main", "fresh"]);
    polled.served.push();
    let replaced = sync(&mut polled.follower).expect_err("another history").to_string();
    assert!(replaced.contains("its history was replaced"), "{replaced}");
    assert_eq!(commit(&polled.follower), first);
}

#[test]
fn a_damaged_copy_is_made_anew() {
    let mut polled = Polled::new("open", Credentials::default());
    polled.poll(true);
    let packs = polled.copy().join("objects/pack");
    fs::remove_dir_all(&packs).expect("a folder");
    fs::create_dir(&packs).expect("a folder");
    let two = polled.publish("T4");
    polled.poll(true);
    assert_eq!(commit(&polled.follower), two);

    // A pack that is cut short shows only when its files are read, which is no verdict on the state.
    let three = polled.publish("V100");
    polled.poll(true);
    let mut all = fs::read_dir(&packs).expect("packs").map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
    let largest = all.iter().max_by_key(|path| path.metadata().expect("a size").len()).expect("a pack");
    let half = fs::read(largest).map(|bytes| bytes[..bytes.len() / 2].to_vec()).expect("a pack");
    fs::remove_file(largest).and_then(|()| fs::write(largest, half)).expect("a file");
    polled.restart("open");
    assert_eq!(sync(&mut polled.follower).expect("it can look").refused.len(), 0);
    assert_eq!((commit(&polled.follower), all.len()), (three, 2));
}

#[test]
fn a_reference_whose_name_is_not_text_is_no_obstacle() {
    let mut polled = Polled::new("open", Credentials::default());
    let head = polled.served.git(&["rev-parse", "HEAD"]);
    let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{head} refs/heads/");
    let packed = [packed.as_bytes(), b"a\xff\n", head.as_bytes(), b" refs/heads/main\n"].concat();
    fs::write(polled.served.folder().join("fleet.git/packed-refs"), packed).expect("a file");
    assert!(polled.served.git(&["for-each-ref"]).contains('\u{fffd}'), "the server has it");
    polled.poll(true);
    assert_eq!((commit(&polled.follower), polled.poll(false).len()), (head, 1));
}

#[test]
fn a_token_that_is_rotated_is_picked_up() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let credentials = Credentials { token_file: Some(file.path().to_path_buf()), ..Credentials::default() };
    let mut polled = Polled::new("token", credentials);
    for (token, says) in [("wrong-s3cret", "tried the token file, git's"), (" \n", "in which no token can be read")] {
        fs::write(file.path(), token).expect("a file");
        let refused = sync(&mut polled.follower).expect_err("a wrong token");
        let said = format!("{refused} {:?}", refused.advice());
        assert!(said.contains(says) && said.contains("--git-token-file") && !said.contains("s3cret"), "{said}");
    }
    fs::write(file.path(), format!("{}\n", Https::TOKEN)).expect("a file");
    polled.poll(true);
    fs::write(file.path(), "revoked").expect("a file");
    assert!(sync(&mut polled.follower).is_err());
    fs::write(file.path(), Https::TOKEN).expect("a file");
    polled.poll(false);
}

#[test]
fn the_command_line_takes_a_token_file() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let file = home.path().join("token");
    let url = server.url("token", "fleet.git");
    let plan = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = run::command(home.path());
        command.args(["plan", "--format", "json", "--repo", &url]).args(arguments);
        command.env("SSL_CERT_FILE", server.certificate()).envs(environment.iter().copied());
        limit::within(LIMIT, &command)
    };
    let path = file.to_str().expect("UTF-8");
    fails(plan(&[], &["--git-token-file", path]), &["the token file, in which no token can be read"]);
    fs::write(&file, Https::TOKEN).expect("a file");
    for (environment, arguments) in [
        (vec![], vec!["--git-token-file", path]),
        (vec![("DROVER_GIT_TOKEN_FILE", path)], vec![]),
        (vec![("DROVER_GIT_TOKEN_FILE", path), ("DROVER_GIT_TOKEN", "other")], vec![]),
    ] {
        assert!(Plan::read(plan(&environment, &arguments)).commit().is_some(), "{environment:?} {arguments:?}");
    }
}

/// What `an_ssh_server_is_polled_too` runs in a process of its own, whose home knows the server.
const TOLD: &str = "DROVER_TEST_FOLLOW";

#[test]
fn an_ssh_server_is_polled_too() {
    if let Some(told) = std::env::var_os(TOLD) {
        let told = told.into_string().expect("UTF-8");
        let (url, key) = told.split_once(' ').expect("an address and a key");
        let credentials = Credentials { key_file: Some(Path::new(key).to_path_buf()), ..Credentials::default() };
        let cache = Served::elsewhere();
        let mut follower = Follower::new(source(url, cache.path(), credentials), FollowOptions::default());
        assert!(sync(&mut follower).expect("it can look").changed);
        fs::remove_dir_all(cache.path()).expect("a folder");
        assert!(!sync(&mut follower).expect("it can look").changed);
        assert!(!cache.path().exists(), "references are all that was asked for");
        return;
    }
    let (served, server) = (Served::new(), Ssh::start());
    let home = server.home("host");
    let told = format!("{} {}", server.url(&served.folder().join("fleet.git")), server.key("good"));
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "git::polling::an_ssh_server_is_polled_too"]).env("HOME", home.path()).env(TOLD, told);
    let ran = limit::within(LIMIT, &command).expect(0);
    assert!(ran.out.contains("1 passed"), "{}", ran.out);
}
