//! Which revision is in force while a branch or a folder moves on, goes wrong, goes back or goes away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use drover::adapters::git::{Credentials, Relation};
use drover::engine::{FollowOptions, Follower, InForce, RefusalReason, StateSource, Synced};
use drover::error::Failure;
use jiff::Timestamp;

use super::support::{fleet, live};
use crate::support::state::State;

/// A repository, and a follower of its branch `main`.
struct Branch {
    state: State,
    follower: Follower,
    options: FollowOptions,
}

impl Branch {
    fn new(options: FollowOptions) -> Self {
        let state = fleet();
        state.commit("the first");
        Self { follower: follower(state.root(), &options), state, options }
    }

    /// Commits a state that is right.
    fn good(&self, model: &str) -> String {
        self.state.node("prod", "n1", &format!("{{devices: {{gpu: {model}}}}}"));
        self.state.commit(model)
    }

    /// Commits a state that is wrong.
    fn bad(&self, message: &str) -> String {
        self.state.node("prod", "n1", &format!("{{nonsense: {message}}}"));
        self.state.commit(message)
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.state.git(arguments)
    }

    /// Looks, and checks what is then in force and refused. Whoever begins now must come to the same.
    #[track_caller]
    fn comes_to(&mut self, in_force: &str, refused: &[&str]) -> Synced {
        let synced = self.looks(in_force, refused);
        let mut restarted = follower(self.state.root(), &self.options);
        let again = sync(&mut restarted).expect("a restarted one can look");
        assert_eq!(
            (commit(&restarted), ids(&again)),
            (in_force.to_owned(), refused.iter().map(ToString::to_string).collect())
        );
        synced
    }

    #[track_caller]
    fn looks(&mut self, in_force: &str, refused: &[&str]) -> Synced {
        let before = self.follower.in_force().map(|_| commit(&self.follower));
        let synced = sync(&mut self.follower).expect("it can look");
        assert_eq!(
            (commit(&self.follower).as_str(), ids(&synced)),
            (in_force, refused.iter().map(ToString::to_string).collect())
        );
        assert_eq!(synced.changed, before.as_deref() != Some(in_force));
        let idle = sync(&mut self.follower).expect("it can look again");
        assert_eq!((idle.changed, &idle.head, ids(&idle)), (false, &synced.head, ids(&synced)));
        synced
    }
}

fn follower(repository: &Path, options: &FollowOptions) -> Follower {
    Follower::new(
        source(repository.to_str().expect("UTF-8"), Path::new("/nonexistent"), Credentials::default()),
        options.clone(),
    )
}

pub(super) fn source(repository: &str, cache: &Path, credentials: Credentials) -> StateSource {
    StateSource::Revision {
        repository: repository.to_owned(),
        revision: Some("main".to_owned()),
        folder: None,
        credentials,
        cache: cache.to_path_buf(),
        timeout: Duration::from_secs(20),
    }
}

pub(super) fn sync(follower: &mut Follower) -> Result<Synced, Failure> {
    follower.sync(Timestamp::from_second(1_800_000_000).expect("a time"))
}

#[track_caller]
pub(super) fn commit(follower: &Follower) -> String {
    follower.in_force().expect("something is in force").revision.commit.clone().expect("a commit")
}

fn ids(synced: &Synced) -> Vec<String> {
    synced.refused.iter().map(|refused| refused.revision.clone()).collect()
}

fn gpu(follower: &Follower) -> String {
    let in_force = follower.in_force().expect("something is in force");
    let node = &in_force.desired.clusters["prod"].nodes["n1"];
    node.label("gpu-type").expect("a label").value.to_string()
}

#[test]
fn what_does_not_validate_is_passed_over_until_it_is_mended() {
    let mut branch = Branch::new(FollowOptions::default());
    let first = branch.git(&["rev-parse", "HEAD"]);
    branch.comes_to(&first, &[]);
    let two = branch.good("T4");
    branch.comes_to(&two, &[]);
    assert_eq!(gpu(&branch.follower), "T4");

    let three = branch.bad("oops");
    let synced = branch.comes_to(&two, &[&three]);
    assert_eq!((synced.head.as_deref(), gpu(&branch.follower).as_str()), (Some(three.as_str()), "T4"));
    let refused = &synced.refused[0];
    let author = refused.commit.as_ref().expect("a commit");
    assert_eq!((author.author.as_str(), author.summary.as_str()), ("Ann", "oops"));
    let RefusalReason::Invalid { problems, errors: 1 } = &refused.reason else { panic!("{:?}", refused.reason) };
    assert_eq!((&*problems[0].file, problems[0].rule), ("nodes/prod/n1.yaml", "unknown-field"));
    let said = refused.to_string();
    assert!(
        said.contains("by Ann on 20") && said.contains("it does not validate (1 error): nodes/prod/n1.yaml:4: "),
        "{said}"
    );

    let four = branch.bad("again");
    branch.comes_to(&two, &[&four, &three]);
    let five = branch.good("V100");
    branch.comes_to(&five, &[]);
    assert_eq!(gpu(&branch.follower), "V100");
    // What leaves the state alone is a revision too, so that what is in force can be named.
    let six = branch.state.write("README", "words").commit("words");
    branch.comes_to(&six, &[]);
}

#[test]
fn what_was_missed_makes_no_difference() {
    // Good and bad commits in a random but fixed order; one follower looks always, one only now and then.
    let mut branch = Branch::new(FollowOptions::default());
    let mut seldom = follower(branch.state.root(), &branch.options);
    let (mut seed, mut in_force) = (7_u64, branch.git(&["rev-parse", "HEAD"]));
    let mut refused: Vec<String> = Vec::new();
    for round in 0..40 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (seed >> 33) % 5 {
            0 | 1 => {
                in_force = branch.good(&format!("T{round}"));
                refused.clear();
            }
            _ => refused.insert(0, branch.bad(&format!("r{round}"))),
        }
        branch.comes_to(&in_force, &refused.iter().map(String::as_str).collect::<Vec<_>>());
        if (seed >> 40) % 4 == 0 {
            sync(&mut seldom).expect("it can look");
        }
    }
    sync(&mut seldom).expect("it can look");
    assert_eq!(commit(&seldom), in_force);
}

#[test]
fn nothing_that_could_be_used_is_no_state() {
    let state = fleet();
    state.node("prod", "n1", "{nonsense: true}").commit("wrong from the start");
    let mut follower = follower(state.root(), &FollowOptions::default());
    let synced = sync(&mut follower).expect("it can look");
    assert_eq!((synced.changed, synced.refused.len(), follower.in_force().is_none()), (false, 1, true));
    state.git(&["rm", "-r", "--quiet", "state"]);
    state.write("state/README", "nothing here").commit("empty");
    let said = sync(&mut follower).expect("it can look").refused[0].to_string();
    assert!(said.ends_with("is refused: it does not validate (1 error): the state holds no document at all"), "{said}");
    state.git(&["rm", "-r", "--quiet", "state"]);
    state.commit("gone");
    assert_eq!(sync(&mut follower).expect("it can look").refused.len(), 3);
    assert!(follower.in_force().is_none());
}

#[test]
fn a_state_that_is_emptied_or_deleted_does_not_come_into_force() {
    let mut branch = Branch::new(FollowOptions::default());
    let first = branch.git(&["rev-parse", "HEAD"]);
    branch.git(&["rm", "-r", "--quiet", "state"]);
    branch.state.write("state/README", "nothing here");
    let emptied = branch.state.commit("emptied");
    branch.comes_to(&first, &[&emptied]);
    branch.git(&["rm", "-r", "--quiet", "state"]);
    let deleted = branch.state.write("README", "x").commit("deleted");
    branch.comes_to(&first, &[&deleted, &emptied]);
    let StateSource::Revision { repository, revision, credentials, cache, timeout, .. } =
        source(branch.state.root().to_str().expect("UTF-8"), Path::new("/nonexistent"), Credentials::default())
    else {
        unreachable!()
    };
    let folder = Some(PathBuf::from("state"));
    let named = StateSource::Revision { repository, revision, folder, credentials, cache, timeout };
    let mut named = Follower::new(named, FollowOptions::default());
    let said = sync(&mut named).expect("it can look").refused[0].to_string();
    assert!(said.ends_with("the commit has no folder state"), "{said}");
    assert_eq!(commit(&named), first);
}

#[test]
fn a_branch_that_goes_back_or_elsewhere_is_refused() {
    let mut branch = Branch::new(FollowOptions::default());
    let first = branch.git(&["rev-parse", "HEAD"]);
    let two = branch.good("T4");
    branch.looks(&two, &[]);
    branch.git(&["reset", "--quiet", "--hard", &first]);
    let synced = branch.looks(&two, &[&first]);
    assert_eq!(synced.refused[0].reason, RefusalReason::Rewound { in_force: two.clone() });
    let forced = branch.good("V100");
    let synced = branch.looks(&two, &[&forced]);
    assert_eq!((synced.refused[0].reason.category(), gpu(&branch.follower).as_str()), ("rewound", "T4"));
    let said = synced.refused[0].to_string();
    assert!(said.contains(&format!("it does not lead on from {}, which stays in force", &two[..10])), "{said}");

    branch.git(&["reset", "--quiet", "--hard", &two]);
    branch.looks(&two, &[]);
    let three = branch.good("P100");
    branch.comes_to(&three, &[]);
    // A refused commit may be taken back.
    branch.bad("oops");
    sync(&mut branch.follower).expect("it can look");
    branch.git(&["reset", "--quiet", "--hard", &three]);
    let four = branch.good("A30");
    branch.comes_to(&four, &[]);
}

#[test]
fn rewinds_are_followed_where_that_is_wanted() {
    let mut branch = Branch::new(FollowOptions { follow_rewinds: true, ..FollowOptions::default() });
    let first = branch.git(&["rev-parse", "HEAD"]);
    let two = branch.good("T4");
    branch.comes_to(&two, &[]);
    branch.git(&["reset", "--quiet", "--hard", &first]);
    branch.comes_to(&first, &[]);
    let forced = branch.bad("oops");
    branch.comes_to(&first, &[&forced]);
    branch.git(&["reset", "--quiet", "--hard", &two]);
    branch.comes_to(&two, &[]);
    branch.git(&["checkout", "--quiet", "--orphan", "other"]);
    let orphan = branch.good("P100");
    branch.git(&["branch", "--force", "main", "other"]);
    branch.comes_to(&orphan, &[]);
}

#[test]
fn what_was_merged_counts_only_as_merged() {
    let mut branch = Branch::new(FollowOptions::default());
    branch.git(&["checkout", "--quiet", "-b", "side"]);
    branch.good("T4");
    branch.git(&["checkout", "--quiet", "main"]);
    let first = branch.git(&["rev-parse", "HEAD"]);
    branch.git(&["merge", "--quiet", "--no-ff", "--no-commit", "side"]);
    let merged = branch.state.write("state/nodes/prod/n9.yaml", "kind: Nonsense\n").commit("a merge that is wrong");
    branch.comes_to(&first, &[&merged]);

    // The merge that `git pull` makes of a diverged branch: what was in force becomes its second parent.
    let mended = {
        fs::remove_file(branch.state.path("state/nodes/prod/n9.yaml")).expect("a file");
        branch.state.commit("mended")
    };
    branch.comes_to(&mended, &[]);
    branch.git(&["checkout", "--quiet", "-b", "mine", &first]);
    branch.state.write("README", "mine").commit("mine");
    branch.git(&["merge", "--quiet", "--no-ff", "--no-commit", "main"]);
    let wrong = branch.bad("a pull that is wrong");
    branch.git(&["branch", "--force", "main", "mine"]);
    branch.looks(&mended, &[&wrong]);
    branch.git(&["checkout", "--quiet", "main"]);
    let right = branch.good("A30");
    branch.comes_to(&right, &[]);
}

#[test]
fn what_another_replica_recorded_is_placed() {
    let mut branch = Branch::new(FollowOptions::default());
    let first = branch.git(&["rev-parse", "HEAD"]);
    let none = branch.follower.contains(&first).expect("an answer");
    let two = branch.good("T4");
    branch.looks(&two, &[]);
    let three = branch.good("V100");
    branch.git(&["checkout", "--quiet", "-b", "side", &first]);
    let side = branch.good("P100");
    let follower = &branch.follower;
    let all = [&two, &first, &three, &side, &"0".repeat(40), &"nonsense".to_owned()];
    let relations = all.map(|commit| follower.contains(commit).expect("an answer"));
    let expected =
        [Relation::Same, Relation::Older, Relation::Newer, Relation::Elsewhere, Relation::Unknown, Relation::Unknown];
    assert_eq!((none, relations), (Relation::Unknown, expected));
}

#[test]
fn what_is_in_force_outlives_its_branch_and_its_repository() {
    let mut branch = Branch::new(FollowOptions::default());
    let two = branch.good("T4");
    branch.looks(&two, &[]);
    branch.git(&["checkout", "--quiet", "-b", "other"]);
    branch.git(&["branch", "--quiet", "-D", "main"]);
    let gone = sync(&mut branch.follower).expect_err("the branch is gone");
    assert!(gone.to_string().contains("there is no revision \"main\""), "{gone}");
    assert_eq!(gpu(&branch.follower), "T4");
    branch.git(&["branch", "main", "other"]);
    branch.looks(&two, &[]);

    let folder = branch.state.path(".git");
    fs::rename(&folder, branch.state.path(".taken")).expect("a folder");
    assert!(sync(&mut branch.follower).is_err());
    branch.git(&["init", "--quiet"]);
    let empty = sync(&mut branch.follower).expect_err("there is no commit");
    assert_eq!(empty.advice(), Some("the repository has no commit yet"));
    branch.state.git(&["add", "--all", "state"]);
    branch.git(&["commit", "--quiet", "--message", "another repository"]);
    let replaced = sync(&mut branch.follower).expect_err("another repository").to_string();
    assert!(
        replaced.contains(&format!("no longer has the commit in force, {two}: its history was replaced")),
        "{replaced}"
    );
    fs::remove_dir_all(&folder).expect("a folder");
    fs::rename(branch.state.path(".taken"), &folder).expect("a folder");
    branch.looks(&two, &[]);
}

#[test]
fn a_folder_is_followed_as_it_is_worked_on() {
    let state = fleet();
    fs::rename(state.path("state/live.yaml"), state.path("state/live.dump")).expect("a file");
    state.cluster("prod", "{file: live.dump}");
    let mut follower = Follower::new(StateSource::Folder(state.path("state")), FollowOptions::default());
    let now = |follower: &mut Follower| sync(follower).expect("it can look");
    assert!(now(&mut follower).changed);
    assert!(!now(&mut follower).changed);
    let in_force = follower.in_force().expect("a state");
    assert_eq!((in_force.root.as_deref(), in_force.revision.dirty), (Some(state.path("state").as_path()), true));
    assert_eq!(in_force.files["live.dump"], Ok(live(&["n1", "n2"])));

    state.node("prod", "n1", "{devices: {gpu: T4}}");
    assert!(now(&mut follower).changed);
    state.node("prod", "n1", "{nonsense: true}");
    let synced = now(&mut follower);
    assert_eq!((synced.changed, synced.refused.len(), gpu(&follower).as_str()), (false, 1, "T4"));
    let said = synced.refused[0].to_string();
    assert!(said.contains("is refused: it does not validate (1 error): nodes/prod/n1.yaml:4: "), "{said}");
    state.node("prod", "n1", "{devices: {gpu: T4}}");
    assert!(!now(&mut follower).changed, "back to what is in force");

    state.write("state/live.dump", live(&["n1"]));
    assert!(now(&mut follower).changed, "a dump is part of what is in force");
    fs::remove_file(state.path("state/live.dump")).expect("a file");
    assert!(now(&mut follower).changed);
    let unread = follower.in_force().expect("a state").files["live.dump"].clone().expect_err("it is gone");
    assert!(unread.to_string().contains("live.dump"), "{unread}");
    fs::remove_dir_all(state.path("state")).expect("a folder");
    assert!(sync(&mut follower).is_err());
    assert_eq!(gpu(&follower), "T4");
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    let mut branch = Branch::new(FollowOptions::default());
    let first = branch.git(&["rev-parse", "HEAD"]);
    branch.looks(&first, &[]);
    let two = branch.good("T4");
    let blob = branch.git(&["rev-parse", "HEAD:state/nodes/prod/n1.yaml"]);
    let file = branch.state.path(&format!(".git/objects/{}/{}", &blob[..2], &blob[2..]));
    fs::rename(&file, branch.state.path("aside")).expect("a file");
    let error = sync(&mut branch.follower).expect_err("a file is lost").to_string();
    assert!(error.contains(&format!("commit {two}: nodes/prod/n1.yaml cannot be read")), "{error}");
    assert_eq!(commit(&branch.follower), first);
    fs::rename(branch.state.path("aside"), &file).expect("a file");
    branch.looks(&two, &[]);
}

#[test]
fn what_is_in_force_is_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    is_shared::<InForce>();
    moves::<Follower>();
}

/// Adds commits to `main` quickly; each writes the text as the node `n1`.
fn import(state: &State, commits: usize, text: impl Fn(usize) -> String) {
    let mut stream = String::new();
    for number in 0..commits {
        let text = text(number);
        stream += &format!(
            "commit refs/heads/main\ncommitter Ann <ann@example.org> {} +0000\ndata 1\nx\n{}\
             M 100644 inline state/nodes/prod/n1.yaml\ndata {}\n{text}\n",
            1_700_000_000 + number,
            if number == 0 { "from refs/heads/main^0\n" } else { "" },
            text.len(),
        );
    }
    let mut child = Command::new("git")
        .args(["-C", state.root().to_str().expect("UTF-8"), "fast-import", "--quiet", "--force"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), stream.as_bytes()).expect("git reads");
    assert!(child.wait().expect("git ends").success());
}

fn node(spec: &str) -> String {
    format!("apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: n1, cluster: prod}}\nspec: {spec}\n")
}

#[test]
fn a_long_history_stays_quick() {
    let mut branch = Branch::new(FollowOptions::default());
    import(&branch.state, 10_000, |number| node(&format!("{{labels: {{n: v{number}}}}}")));
    let head = branch.git(&["rev-parse", "main"]);
    let begun = Instant::now();
    branch.comes_to(&head, &[]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    import(&branch.state, 300, |number| node(&format!("{{nonsense: {number}}}")));
    let begun = Instant::now();
    let synced = sync(&mut branch.follower).expect("it can look");
    assert_eq!((commit(&branch.follower), synced.refused.len()), (head.clone(), 300));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The next one is judged alone.
    import(&branch.state, 1, |_| node("{nonsense: true}"));
    let begun = Instant::now();
    assert_eq!(sync(&mut branch.follower).expect("it can look").refused.len(), 301);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    import(&branch.state, 699, |number| node(&format!("{{nonsense: {number}}}")));
    let mut late = follower(branch.state.root(), &branch.options);
    let synced = sync(&mut late).expect("it can look");
    assert_eq!((late.in_force().is_none(), synced.refused.len()), (true, 1001));
    let last = &synced.refused[1000];
    assert_eq!((last.revision.as_str(), &last.reason), (head.as_str(), &RefusalReason::TooFar { looked_at: 1000 }));
    import(&branch.state, 1, |_| node("{devices: {gpu: T4}}"));
    sync(&mut late).expect("it can look");
    assert_eq!(gpu(&late), "T4");
}
