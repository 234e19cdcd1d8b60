//! What is pushed comes true, and what must not come true does not.

use serde_json::{Value, json};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use super::support::{Followed, carries, connection, label};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::daemon::Daemon;
use crate::support::run::drover;
use crate::support::state::State;

#[test]
fn a_push_comes_true_by_itself_and_at_once_by_a_webhook() {
    let plane = ControlPlane::start_named("pushed");
    plane.create_nodes(["push-1", "push-2"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "push-1", "{group: ads}").commit("push-1");
    let daemon = followed.run(&[]);
    carries(&plane, "push-1", "org", Some("ads"));
    daemon.is_ready();

    followed.state.node("prod", "push-2", "{group: rec}").commit("push-2");
    carries(&plane, "push-2", "org", Some("rec"));
    let ran = daemon.stop().expect(0);
    assert!(ran.err.contains("drover has ended"), "{}", ran.err);

    // Polled so seldom that only the webhook can have told.
    let daemon = followed.run(&["--poll", "1h"]);
    daemon.is_ready();
    let commit = followed.state.node("prod", "push-2", "{group: ads}").commit("push-2 moves");
    let answer = ureq::post(format!("{}/hooks/git", daemon.url())).header("X-Gitea-Event", "push").send("{}");
    assert_eq!(answer.expect("an answer").status(), 202);
    carries(&plane, "push-2", "org", Some("ads"));
    let status =
        daemon.comes_to("the push is in force", |status| status["sync"]["inForce"]["commit"] == commit.as_str());
    assert_eq!(status["clusters"]["prod"]["tenure"]["role"], "holder");
    daemon.comes_to("nothing drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 0);
}

#[test]
fn a_folder_is_followed_as_its_files_are_saved() {
    let plane = ControlPlane::start_named("saved");
    plane.create_nodes(["save-1", "save-2"].map(NodeSpec::new));
    let state = State::new();
    state.cluster("prod", &connection(&plane, Role::Drover)).group("ads").group("rec");
    state.node("prod", "save-1", "{group: ads}");
    // Polled so seldom that only the folder itself can have told.
    let daemon = Daemon::start(state.root(), &["--state", "state", "--poll", "1h"]);
    carries(&plane, "save-1", "org", Some("ads"));
    state.node("prod", "save-1", "{group: rec}");
    carries(&plane, "save-1", "org", Some("rec"));
    // Also below a folder that was not there before.
    state.write(
        "state/nodes/new/far/save-2.yaml",
        "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: save-2, cluster: prod}\nspec: {group: ads}\n",
    );
    carries(&plane, "save-2", "org", Some("ads"));

    state.node("prod", "save-1", "{grup: ads}");
    let status = daemon.comes_to("refused", |status| status["sync"]["refused"] != json!([]));
    assert_eq!(status["sync"]["refused"][0]["reason"], "invalid");
    assert_eq!(label(&plane, "save-1", "org").as_deref(), Some("rec"));
    state.node("prod", "save-1", "{group: ads}");
    carries(&plane, "save-1", "org", Some("ads"));
    daemon.is_ready();
    daemon.stop().expect(0);
}

#[test]
fn a_webhook_needs_the_secret_that_its_file_holds_now() {
    let plane = ControlPlane::start_named("hooked");
    plane.create_nodes(["hook-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "hook-1", "{group: ads}").write(".cache/secret", "first\n").commit("ads");
    let secret = followed.state.path(".cache/secret").display().to_string();
    let daemon = followed.run(&["--poll", "1h", "--hook-secret-file", &secret]);
    carries(&plane, "hook-1", "org", Some("ads"));
    daemon.is_ready();
    // As GitLab sends its token; each delivery counts once.
    let deliver = |token: &str, delivery: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
        let post = agent.post(format!("{}/hooks/git", daemon.url())).header("X-Gitlab-Event", "Push Hook");
        let post = post.header("X-Gitlab-Token", token).header("X-Gitlab-Event-UUID", delivery);
        post.send("{}").expect("an answer").status().as_u16()
    };
    followed.state.node("prod", "hook-1", "{group: rec}").commit("rec");
    assert_eq!(deliver("wrong", "a"), 401);
    assert_eq!(deliver("first", "b"), 202);
    carries(&plane, "hook-1", "org", Some("rec"));

    followed.state.write(".cache/secret", "second\n").node("prod", "hook-1", "{group: ads}").commit("ads again");
    assert_eq!(deliver("first", "c"), 401);
    assert_eq!(deliver("second", "d"), 202);
    carries(&plane, "hook-1", "org", Some("ads"));
    assert!(!daemon.said().contains("second") && !daemon.get("/status").1.contains("second"));
}

#[test]
fn an_invalid_revision_is_refused_and_the_last_good_one_stays_in_force() {
    let plane = ControlPlane::start_named("refused");
    plane.create_nodes(["bad-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    let good = followed.state.node("prod", "bad-1", "{group: ads}").commit("good");
    let daemon = followed.run(&[]);
    carries(&plane, "bad-1", "org", Some("ads"));

    assert_eq!(daemon.metric("drover_revisions_refused{reason=\"invalid\"}"), Some(0.0));
    followed.state.node("prod", "bad-1", "{group: nobody-has-it, workloads: [trian]}");
    followed.state.node("prod", "bad-2", "{group: nor-this}").commit("typing error");
    let status = daemon.comes_to("it tells of the refusal", |status| {
        status["sync"]["refused"].as_array().is_some_and(|refused| !refused.is_empty())
    });
    let refused = &status["sync"]["refused"][0];
    let summary = refused["summary"].as_str().expect("text");
    assert!(summary.contains("typing error") && summary.contains("does not validate (2 errors)"), "{refused}");
    let problems = json!([
        "nodes/prod/bad-1.yaml:4: `trian` is not known here",
        "nodes/prod/bad-2.yaml:4: there is no group `nor-this`",
    ]);
    assert_eq!((&refused["problems"], &refused["reason"]), (&problems, &json!("invalid")));
    assert_eq!(status["sync"]["inForce"]["commit"], good.as_str());
    assert_eq!(daemon.metric("drover_revisions_refused{reason=\"invalid\"}"), Some(1.0));
    assert_eq!(label(&plane, "bad-1", "org").as_deref(), Some("ads"));
    let told = drover(followed.state.root(), ["status", "--daemon", &daemon.url()]).out;
    for problem in problems.as_array().expect("two") {
        let problem = problem.as_str().expect("text");
        assert!(daemon.said().contains(problem) && told.contains(problem), "{problem}: {told}\n{}", daemon.said());
    }

    // A daemon that starts now finds the same revision.
    drop(daemon);
    let daemon = followed.run(&[]);
    let status = daemon.comes_to("in force again", |status| status["sync"]["inForce"]["commit"] != Value::Null);
    assert_eq!(status["sync"]["inForce"]["commit"], good.as_str());

    followed.state.node("prod", "bad-2", "{group: rec}");
    let mended = followed.state.node("prod", "bad-1", "{group: rec}").commit("mended");
    carries(&plane, "bad-1", "org", Some("rec"));
    let status = daemon.status();
    assert_eq!(status["sync"]["inForce"]["commit"], mended.as_str());
    assert_eq!(status["sync"]["refused"], serde_json::json!([]));
}

/// Signs the head of the branch.
fn sign(followed: &Followed, key: &PrivateKey) -> String {
    let repository = git2::Repository::open(followed.state.root()).expect("a repository");
    let commit = followed.state.git(&["cat-file", "commit", "HEAD"]);
    let signature = key.sign("git", HashAlg::Sha512, commit.as_bytes()).expect("a signature");
    let signature = signature.to_pem(LineEnding::LF).expect("text");
    let id = repository.commit_signed(&commit, &signature, None).expect("a signed commit").to_string();
    followed.state.git(&["update-ref", "refs/heads/main", &id]);
    id
}

#[test]
fn only_signed_commits_come_true_where_signers_are_named() {
    let plane = ControlPlane::start_named("signed");
    plane.create_nodes(["sign-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    let key = PrivateKey::random(&mut rand::rngs::OsRng, Algorithm::Ed25519).expect("a key");
    let signers = tempfile::NamedTempFile::new().expect("a file");
    let public = key.public_key().to_openssh().expect("a line");
    std::fs::write(signers.path(), format!("ann@example.org {public}\n")).expect("written");
    followed.state.node("prod", "sign-1", "{group: ads}").commit("ads");
    let signed = sign(&followed, &key);
    let daemon = followed.run(&["--allowed-signers", signers.path().to_str().expect("UTF-8")]);
    carries(&plane, "sign-1", "org", Some("ads"));

    let unsigned = followed.state.node("prod", "sign-1", "{group: rec}").commit("not signed");
    let status = daemon.comes_to("refused", |status| status["sync"]["refused"] != serde_json::json!([]));
    let refused = status["sync"]["refused"][0]["summary"].as_str().expect("text");
    assert!(
        refused.contains(&unsigned[..10]) && refused.contains("Ann") && refused.contains("not signed"),
        "{refused}"
    );
    assert_eq!(status["sync"]["inForce"]["commit"], signed.as_str());
    assert_eq!(label(&plane, "sign-1", "org").as_deref(), Some("ads"));

    let signed = sign(&followed, &key);
    carries(&plane, "sign-1", "org", Some("rec"));
    let status = daemon.comes_to("nothing is refused", |status| status["sync"]["refused"] == serde_json::json!([]));
    assert_eq!(status["sync"]["inForce"]["commit"], signed.as_str());
}
