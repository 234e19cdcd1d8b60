//! Moves that people merge: a branch of their own, and proposals on a stand-in for the APIs of GitHub and Gitea.

use std::fs;

use serde_json::json;

use super::servers::{Https, drover};
use super::write_back::{Remote, moving};
use crate::support::pulls::Pulls;

#[test]
fn an_open_proposal_is_updated_and_not_opened_twice() {
    for form in ["github", "gitea"] {
        let (url, pulls) = Pulls::serve("t0ken");
        let keys = tempfile::tempdir().expect("a folder");
        let token = keys.path().join("token").display().to_string();
        fs::write(&token, "t0ken\n").expect("a file");
        let remote =
            Remote::new(&format!(", mode: pull-request, server: {{type: {form}, api: '{url}', tokenFile: {token}}}"));
        let server = Https::start(&remote.served);
        let repository = server.url("open", "fleet.git");
        let run = |node: &str, to: &str| server.drover(remote.home.path(), "", &moving(node, to, &repository));
        let before = remote.head();
        let ran = run("n1", "web").expect(0);
        assert!(ran.out.contains("on drover/prod\nProposed at https://git.example.org/pulls/1"), "{ran:?}");
        assert_eq!(remote.head(), before, "the branch that is followed stays");
        assert_eq!(remote.served.git(&["rev-parse", "drover/prod^"]), before);
        // What is proposed counts: the same move is not proposed again, and another one is added to it.
        assert!(run("n1", "web").expect(3).out.contains("is in group web already"));
        run("n2", "web").expect(0);
        assert_eq!(remote.commits("main..drover/prod").len(), 2);
        let (open, requests) = {
            let pulls = pulls.lock().expect("nobody panics with it");
            (pulls.open.clone(), pulls.requests.clone())
        };
        assert_eq!((open.len(), &open[0]["title"]), (1, &json!("prod: move n2 from ads to web")));
        assert_eq!((&open[0]["head"]["ref"], &open[0]["base"]["ref"]), (&json!("drover/prod"), &json!("main")));
        assert_eq!(requests.iter().filter(|request| request.starts_with("POST")).count(), 1, "{requests:?}");
        // The branch went on meanwhile: the proposal takes that in, without force.
        let work = &remote.served.work;
        work.write("notes.md", "by hand").commit("by hand");
        work.git(&["push", "--quiet", &remote.path().display().to_string(), "main"]);
        run("n2", "lab").expect(0);
        assert_eq!(remote.served.git(&["merge-base", "main", "drover/prod"]), remote.head());
        // Merged, it begins anew from there.
        remote.served.git(&["update-ref", "refs/heads/main", "drover/prod"]);
        run("n1", "lab").expect(0);
        assert_eq!(remote.served.git(&["rev-parse", "drover/prod^"]), remote.head());
        // A token that is refused is told, and what was pushed is found again and proposed.
        fs::write(&token, "other").expect("a file");
        let ran = run("n1", "ads").expect(1);
        assert!(ran.err.contains("is not proposed") && ran.err.contains("Bad credentials"), "{ran:?}");
        assert!(!ran.err.contains("other"), "no secret is shown: {ran:?}");
        remote.is_sound();
    }
}

#[test]
fn a_proposal_that_contradicts_its_branch_is_left_to_people() {
    let remote = Remote::new(", mode: pull-request, branch: 'moves-of-{cluster}'");
    let path = remote.path().display().to_string();
    let run = |to: &str| drover(remote.home.path(), &[], &moving("n1", to, &path));
    run("web").expect(0);
    assert_eq!(remote.commits("main..moves-of-prod").len(), 1);
    let work = &remote.served.work;
    work.edit("state/nodes/prod/n1.yaml", "'ads'", "lab").commit("by hand");
    work.git(&["push", "--quiet", &path, "main"]);
    let ran = run("ads").expect(1);
    assert!(ran.err.contains("the proposal moves-of-prod contradicts what main has become"), "{ran:?}");
    assert_eq!(remote.commits("main..moves-of-prod").len(), 1, "nothing was forced");
}

#[test]
fn gitlab_is_asked_by_options_of_the_push() {
    let remote = Remote::new(", mode: pull-request, server: {type: gitlab}");
    remote.served.git(&["config", "receive.advertisePushOptions", "true"]);
    let log = remote.home.path().join("options").display().to_string();
    remote.hook(
        "pre-receive",
        &format!(
            "for i in $(seq 0 $((GIT_PUSH_OPTION_COUNT-1))); do eval echo \\\"\\$GIT_PUSH_OPTION_$i\\\"; done >{log}"
        ),
    );
    let server = Https::start(&remote.served);
    let ran = server.drover(remote.home.path(), "", &moving("n1", "web", &server.url("open", "fleet.git")));
    ran.expect(0);
    let options = fs::read_to_string(log).expect("options");
    for option in
        ["merge_request.create", "merge_request.target=main", "merge_request.title=prod: move n1 from ads to web"]
    {
        assert!(options.lines().any(|line| line == option), "{options}");
    }
}
