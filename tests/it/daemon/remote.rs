//! Git remotes that go away, hang, are rewritten, or hold what must not come true. What is in force stays in force, and
//! drift is healed from it meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Followed, carries, label, tamper};
use crate::support::control_plane::{ControlPlane, NodeSpec};
use crate::support::daemon::{Daemon, soon};
use crate::support::git_daemon::{GitDaemon, Mood};
use crate::support::run;

/// A cluster whose state is followed through a git server.
struct Remote {
    plane: ControlPlane,
    followed: Followed,
    server: GitDaemon,
    served: tempfile::TempDir,
}

impl Remote {
    fn start(name: &str) -> Self {
        let plane = ControlPlane::start_named(name);
        plane.create_nodes(["far-1", "far-2"].map(NodeSpec::new));
        let followed = Followed::of(&plane);
        followed.state.node("prod", "far-1", "{group: ads}").node("prod", "far-2", "{group: ads}").commit("two");
        let served = tempfile::tempdir().expect("a temporary folder");
        let bare = served.path().join("fleet.git").display().to_string();
        followed.state.git(&["clone", "--quiet", "--bare", ".", &bare]);
        let server = GitDaemon::start(served.path());
        Self { plane, followed, server, served }
    }

    fn run(&self, arguments: &[&str]) -> Daemon {
        let url = self.server.url("fleet.git");
        let all = [&["--repo", &url, "--rev", "main"], arguments].concat();
        let daemon = Daemon::start_command(run::command(self.followed.state.root()), &all);
        carries(&self.plane, "far-1", "org", Some("ads"));
        daemon.is_ready();
        daemon
    }

    /// Makes the server's branches those of the working folder.
    fn push(&self) {
        let bare = self.served.path().join("fleet.git").display().to_string();
        self.followed.state.git(&["push", "--quiet", "--mirror", &bare]);
    }

    fn publish(&self, message: &str) -> String {
        let commit = self.followed.state.commit(message);
        self.push();
        commit
    }

    fn heals(&self) {
        tamper(&self.plane, "far-1", "org", &json!("public"));
        carries(&self.plane, "far-1", "org", Some("ads"));
    }
}

/// Waits until something that was published is refused for a reason that says this.
fn refused(daemon: &Daemon, words: &str) {
    daemon.comes_to(&format!("a refusal: {words}"), |status| status["sync"]["refused"].to_string().contains(words));
}

#[test]
fn a_remote_that_is_away_or_hangs_keeps_the_last_state_in_force_and_is_not_believed_for_ever() {
    let remote = Remote::start("remote-away");
    let daemon = remote.run(&["--git-timeout", "2", "--poll", "500ms", "--fight-times", "1000"]);
    let since = Instant::now();
    for mood in [Mood::Away, Mood::Silent] {
        remote.server.is(mood);
        daemon.comes_to("it tells", |status| status["sync"]["failure"].is_string());
        remote.heals();
    }
    remote.followed.state.node("prod", "far-2", "{group: rec}");
    let commit = remote.publish("while nobody could see it");
    // Three polls and half a minute: then the state may be any.
    let stale = || daemon.get("/readyz").0 == 503;
    while since.elapsed() < Duration::from_secs(20) {
        assert!(!stale(), "it is ready for a while");
        remote.heals();
    }
    soon("it is not ready", stale);
    let checks = daemon.get("/readyz").1;
    assert!(checks.contains("[-] sync: ") && checks.contains("[+] cluster prod"), "{checks}");
    assert_eq!(daemon.get("/healthz").0, 200);
    assert!(daemon.metric("drover_sync_age_seconds").is_some_and(|age| age > 30.0));
    remote.heals();

    remote.server.is(Mood::Well);
    carries(&remote.plane, "far-2", "org", Some("rec"));
    daemon.is_ready();
    assert_eq!(daemon.status()["sync"]["inForce"]["commit"], commit.as_str());
    daemon.stop().expect(0);
}

#[test]
fn a_silent_remote_does_not_delay_the_end() {
    let remote = Remote::start("remote-end");
    let daemon = remote.run(&["--poll", "200ms", "--git-timeout", "60"]);
    remote.server.is(Mood::Silent);
    let looks = || daemon.metric("drover_syncs_total{result=\"success\"}").unwrap_or_default();
    // It looks all the time, until a look does not come back.
    let mut last = (looks(), Instant::now());
    soon("a look hangs", || {
        let now = looks();
        let moved = now > last.0;
        if moved {
            last = (now, Instant::now())
        };
        last.1.elapsed() > Duration::from_secs(2)
    });
    let begun = Instant::now();
    daemon.stop().expect(0);
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
}

#[test]
fn copies_that_are_lost_or_damaged_are_fetched_anew() {
    let remote = Remote::start("remote-copy");
    let daemon = remote.run(&[]);
    let cache = remote.followed.state.path(".cache");
    fs::remove_dir_all(&cache).expect("it is there");
    remote.followed.state.node("prod", "far-2", "{group: rec}");
    remote.publish("without a copy");
    carries(&remote.plane, "far-2", "org", Some("rec"));

    let copy = fs::read_dir(&cache).expect("it is there again").filter_map(Result::ok).map(|entry| entry.path());
    let copy = copy.into_iter().find(|path| path.is_dir()).expect("a copy");
    for object in walkdir::WalkDir::new(copy.join("objects")).into_iter().filter_map(Result::ok) {
        if object.file_type().is_file() {
            fs::remove_file(object.path()).and_then(|()| fs::write(object.path(), "garbage")).expect("it is ours");
        }
    }
    remote.followed.state.node("prod", "far-2", "{group: ads}");
    remote.publish("with a damaged copy");
    carries(&remote.plane, "far-2", "org", Some("ads"));
    remote.heals();
    daemon.is_ready();
}

#[test]
fn history_that_is_rewritten_is_refused_unless_it_is_to_be_followed() {
    let remote = Remote::start("remote-rewound");
    remote.followed.state.node("prod", "far-2", "{group: rec}");
    let ahead = remote.publish("ahead");
    let daemon = remote.run(&[]);
    carries(&remote.plane, "far-2", "org", Some("rec"));
    remote.followed.state.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    remote.push();
    refused(&daemon, &ahead[..10]);
    remote.heals();
    assert_eq!(daemon.status()["sync"]["inForce"]["commit"], ahead.as_str());
    assert_eq!(label(&remote.plane, "far-2", "org").as_deref(), Some("rec"));
    daemon.stop().expect(0);
    let daemon = remote.run(&["--follow-rewinds"]);
    carries(&remote.plane, "far-2", "org", Some("ads"));

    // The branch goes, and comes back.
    let bare = remote.served.path().join("fleet.git").display().to_string();
    remote.followed.state.git(&["--git-dir", &bare, "update-ref", "-d", "refs/heads/main"]);
    daemon.comes_to("it tells", |status| status["sync"]["failure"].is_string());
    remote.heals();
    remote.followed.state.node("prod", "far-2", "{group: rec}");
    remote.publish("the branch is back");
    carries(&remote.plane, "far-2", "org", Some("rec"));
    daemon.comes_to("all is well", |status| status["sync"]["failure"].is_null());
}

#[test]
fn empty_broken_and_huge_revisions_are_met_as_they_should_be() {
    let remote = Remote::start("remote-empty");
    let daemon = remote.run(&[]);
    let state = &remote.followed.state;
    state.git(&["rm", "--quiet", "-r", "state/nodes"]);
    remote.publish("no node any more");
    daemon.comes_to("held back", |status| status["clusters"]["prod"]["refusals"][0]["guard"] == "empty-state");
    assert_eq!(label(&remote.plane, "far-1", "org").as_deref(), Some("ads"));
    state.git(&["rm", "--quiet", "-r", "state"]);
    remote.publish("nothing at all");
    refused(&daemon, "nothing at all");
    state.git(&["checkout", "--quiet", "HEAD~2", "--", "state"]);
    remote.publish("everything again");
    daemon.comes_to("nothing is held back", |status| status["clusters"]["prod"]["refusals"] == json!([]));
    remote.heals();

    state.write("state/nodes/prod/broken.yaml", "kind: Node\nspec: {grup: ads}\n");
    state.node("prod", "far-2", "{group: rec}");
    remote.publish("broken");
    refused(&daemon, "broken");
    remote.heals();
    assert_eq!(label(&remote.plane, "far-2", "org").as_deref(), Some("ads"));

    let node = |number| {
        format!(
            "---\napiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: many-{number}, cluster: prod}}\nspec: {{group: ads}}\n"
        )
    };
    fs::remove_file(state.path("state/nodes/prod/broken.yaml")).expect("it is there");
    for part in 0..100 {
        let nodes: String = (part * 100..(part + 1) * 100).map(node).collect();
        state.write(&format!("state/nodes/prod/many-{part}.yaml"), nodes);
    }
    remote.publish("ten thousand more");
    carries(&remote.plane, "far-2", "org", Some("rec"));
    let status =
        daemon.comes_to("they are waited for", |status| status["clusters"]["prod"]["nodes"]["absent"] == 10_000);
    assert_eq!(status["sync"]["refused"], json!([]));
    remote.plane.create_nodes([NodeSpec::new("many-4711")]);
    carries(&remote.plane, "many-4711", "org", Some("ads"));
}
