//! Copies of remote repositories follow their server, whatever happens to either.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use super::servers::{Https, Served};
use super::support::{Plan, fails};
use crate::support::run;

/// A served fleet, and a home whose copy follows it.
struct Followed {
    served: Served,
    server: Https,
    home: tempfile::TempDir,
}

impl Followed {
    fn new() -> Self {
        let served = Served::new();
        let server = Https::start(&served);
        Self { served, server, home: Served::elsewhere() }
    }

    fn url(&self) -> String {
        self.server.url("open", "fleet.git")
    }

    fn drover(&self, arguments: &[&str]) -> run::Ran {
        let command = ["plan", "--format", "json", "--repo", &self.url()];
        self.server.drover(self.home.path(), "", &[&command[..], arguments].concat())
    }

    #[track_caller]
    fn commit(&self, arguments: &[&str]) -> String {
        Plan::read(self.drover(arguments)).commit().expect("a commit").to_owned()
    }

    /// Changes the state, and commits and pushes it.
    fn publish(&self, model: &str) -> String {
        self.served.work.node("prod", "n1", &format!("{{devices: {{gpu: {model}}}}}"));
        self.served.publish(model)
    }

    /// The folder of the copy.
    fn copy(&self) -> PathBuf {
        let cache = self.home.path().join(".cache");
        let entries = fs::read_dir(cache).expect("a cache").map(|entry| entry.expect("an entry").path());
        entries.into_iter().find(|path| path.is_dir()).expect("a copy")
    }
}

#[test]
fn new_commits_forced_ones_and_gone_branches_are_seen() {
    let followed = Followed::new();
    let git = |arguments: &[&str]| followed.served.work.git(arguments);
    let one = followed.commit(&[]);
    let two = followed.publish("T4");
    assert_eq!(followed.commit(&[]), two);
    assert_eq!(followed.commit(&["--rev", "HEAD~1"]), one, "the history is there too");

    git(&["checkout", "--quiet", "-b", "side"]);
    let side = followed.publish("V100");
    assert_eq!((followed.commit(&["--rev", "side"]), followed.commit(&[])), (side.clone(), two.clone()));

    git(&["checkout", "--quiet", "main"]);
    git(&["reset", "--quiet", "--hard", &one]);
    let forced = followed.publish("P100");
    assert_eq!(followed.commit(&[]), forced, "a forced push");
    assert_eq!(followed.commit(&["--rev", &side]), side, "a commit by its id");

    git(&["branch", "--quiet", "-D", "side"]);
    git(&["branch", "side/one"]);
    followed.served.push();
    assert_eq!(followed.commit(&["--rev", "side/one"]), forced, "a branch in place of a folder of branches");
    fails(followed.drover(&["--rev", "side"]), &["there is no revision \"side\""]);

    git(&["branch", "--quiet", "-D", "side/one"]);
    git(&["branch", "side"]);
    followed.served.push();
    assert_eq!(followed.commit(&["--rev", "side"]), forced, "and back");
}

#[test]
fn tags_move_and_go() {
    let followed = Followed::new();
    let git = |arguments: &[&str]| followed.served.work.git(arguments);
    let one = followed.commit(&[]);
    git(&["tag", "stable"]);
    git(&["tag", "--annotate", "v1", "--message", "the first"]);
    followed.served.push();
    assert_eq!((followed.commit(&["--rev", "stable"]), followed.commit(&["--rev", "v1"])), (one.clone(), one));
    let two = followed.publish("T4");
    git(&["tag", "--force", "stable"]);
    followed.served.push();
    assert_eq!(followed.commit(&["--rev", "stable"]), two);
    git(&["tag", "--delete", "v1"]);
    followed.served.push();
    fails(followed.drover(&["--rev", "v1"]), &["there is no revision \"v1\""]);
}

#[test]
fn the_default_branch_is_the_servers() {
    let followed = Followed::new();
    let one = followed.commit(&[]);
    followed.served.work.git(&["checkout", "--quiet", "-b", "trunk"]);
    let two = followed.publish("T4");
    assert_eq!(followed.commit(&[]), one);
    followed.served.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    assert_eq!(followed.commit(&[]), two);
    assert_eq!(followed.commit(&["--rev", "HEAD"]), two);
    assert_eq!(followed.commit(&["--rev", "HEAD~1"]), one);
}

#[test]
fn several_processes_may_fetch_at_the_same_time() {
    let followed = Followed::new();
    let mut newest = followed.served.git(&["rev-parse", "HEAD"]);
    for round in ["T4", "V100", "P100"] {
        let commits: Vec<String> = thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| followed.commit(&[]))).collect();
            runs.into_iter().map(|run| run.join().expect("a plan")).collect()
        });
        assert_eq!(commits, vec![newest; 4], "before {round}");
        newest = followed.publish(round);
    }
    let copies = fs::read_dir(followed.home.path().join(".cache")).expect("a cache").count();
    assert_eq!(copies, 2, "one copy and its lock");
}

#[test]
fn a_damaged_copy_is_made_anew() {
    let followed = Followed::new();
    followed.commit(&[]);
    followed.publish("T4");
    let newest = followed.commit(&[]);
    let damages: [(&str, fn(&Path)); 9] = [
        ("packs cut short", |copy| cut(copy, "pack", 2)),
        ("packs empty", |copy| cut(copy, "pack", u64::MAX)),
        ("indexes cut short", |copy| cut(copy, "idx", 2)),
        ("packs lost", |copy| fs::remove_dir_all(copy.join("objects/pack")).expect("a folder")),
        ("objects lost", |copy| fs::remove_dir_all(copy.join("objects")).expect("a folder")),
        ("branches cut short", |copy| cut(&copy.join("refs"), "", 2)),
        ("branches empty", |copy| cut(&copy.join("refs"), "", u64::MAX)),
        ("HEAD empty", |copy| drop(File::create(copy.join("HEAD")).expect("a file"))),
        ("settings that are none", |copy| fs::write(copy.join("config"), "[core\n\0").expect("a file")),
    ];
    for (what, damage) in damages {
        damage(&followed.copy());
        let plan = Plan::read(followed.drover(&[]));
        assert_eq!((plan.commit(), plan.to("n1", "gpu-type")), (Some(newest.as_str()), Some("T4")), "{what}");
        assert_eq!(plan.change("n1", "gpu").expect("a change")["source"]["commit"]["summary"], "T4", "{what}");
    }
    let copy = followed.copy();
    fs::remove_dir_all(&copy).expect("a folder");
    fs::write(&copy, "a file in its place").expect("a file");
    assert_eq!(followed.commit(&[]), newest);
}

#[test]
fn one_damaged_pack_among_several_is_noticed() {
    let followed = Followed::new();
    followed.commit(&[]);
    let oldest = packs(&followed.copy()).pop().expect("a pack");
    let newest = followed.publish("T4");
    assert_eq!(followed.commit(&[]), newest);
    cut(&oldest, "pack", 2);
    let plan = Plan::read(followed.drover(&[]));
    assert_eq!((plan.commit(), plan.to("n2", "cpu")), (Some(newest.as_str()), Some("true")), "a blob of the old pack");
    assert_eq!(packs(&followed.copy()).len(), 1, "fetched anew");
    // A state that is wrong, or a revision that does not exist, is no reason to fetch all again.
    let before = followed.server.requests().len();
    fails(followed.drover(&["--rev", "nope"]), &["there is no revision"]);
    assert_eq!(followed.server.requests().len() - before, 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_said() {
    let followed = Followed::new();
    fs::write(followed.home.path().join("taken"), "").expect("a file");
    let ran = followed.drover(&["--cache", "taken"]);
    fails(ran, &["cannot create the cache folder taken"]);
    let mut command = run::command(followed.home.path());
    command.env_remove("DROVER_CACHE").env("SSL_CERT_FILE", followed.server.certificate());
    run::finish(command.args(["validate", "--repo", &followed.url()])).expect(0);
    assert!(followed.home.path().join(".cache/drover/git").is_dir(), "below the user's cache folder by default");
}

/// Leaves one part in so many of every file below a path whose extension this is; of all files where it is empty.
fn cut(path: &Path, extension: &str, part: u64) {
    let files = walkdir::WalkDir::new(path).into_iter().map(|entry| entry.expect("an entry").into_path());
    let wanted = |path: &PathBuf| extension.is_empty() || path.extension().is_some_and(|found| found == extension);
    let files: Vec<PathBuf> = files.filter(|path| path.is_file() && wanted(path)).collect();
    assert!(!files.is_empty(), "nothing to damage below {}", path.display());
    for path in files {
        let length = path.metadata().expect("a size").len();
        let mut rights = path.metadata().expect("rights").permissions();
        #[expect(
            clippy::permissions_set_readonly_false,
            reason = "packs are read-only, and lie in a temporary folder"
        )]
        rights.set_readonly(false);
        fs::set_permissions(&path, rights).expect("they are ours");
        File::options().write(true).open(&path).and_then(|file| file.set_len(length / part)).expect("a file");
    }
}

fn packs(copy: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(copy.join("objects/pack")).expect("packs").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pack")).collect()
}
