//! Moves that people merge: a branch of their own, and proposals on a stand-in for the APIs of GitHub and Gitea.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::servers::{Https, drover};
use super::write_back::{Remote, moving};

/// The pull requests of a server, and the requests that it got.
#[derive(Default)]
struct Pulls {
    open: Vec<Value>,
    requests: Vec<String>,
}

/// Serves as much of both APIs as their documents say of pull requests, for as long as the process lives.
fn api(token: &'static str) -> (String, Arc<Mutex<Pulls>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let pulls = Arc::new(Mutex::new(Pulls::default()));
    let all = pulls.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.expect("a connection"), token, &mut all.lock().expect("nobody panics with it"));
        }
    });
    (url, pulls)
}

fn serve(mut stream: TcpStream, token: &str, pulls: &mut Pulls) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(request) = lines.first().cloned() else { return };
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
        })
    };
    let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    pulls.requests.push(format!("{method} {}", path.split('?').next().unwrap_or_default()));
    let known = header("authorization") == Some(format!("token {token}"));
    let (status, answer) = match (method, path.split('?').next().unwrap_or_default()) {
        _ if !known => (401, json!({ "message": "Bad credentials" })),
        ("GET", "/repos/open/fleet/pulls") => {
            let first = path.contains("&page=1");
            (200, if first { Value::Array(pulls.open.clone()) } else { json!([]) })
        }
        ("POST", "/repos/open/fleet/pulls") => {
            let number = pulls.open.len() + 1;
            let pull = json!({
                "number": number, "html_url": format!("https://git.example.org/pulls/{number}"),
                "title": body["title"], "body": body["body"],
                "head": {"ref": body["head"]}, "base": {"ref": body["base"]},
            });
            pulls.open.push(pull.clone());
            (201, pull)
        }
        ("PATCH", path) => {
            let number: usize = path.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number");
            pulls.open[number - 1]["title"] = body["title"].clone();
            (200, pulls.open[number - 1].clone())
        }
        _ => (404, json!({ "message": "Not Found" })),
    };
    let answer = answer.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    );
}

#[test]
fn an_open_proposal_is_updated_and_not_opened_twice() {
    for form in ["github", "gitea"] {
        let (url, pulls) = api("t0ken");
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
