//! Many who write at once, and one who is killed: nothing is lost, nothing is forced, nothing is decided twice.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::servers::{Https, Ssh};
use super::write_back::{Remote, moving};
use crate::support::run;
use crate::support::state::State;

/// A number from the environment; continuous integration takes a smaller one than a thorough run.
pub(crate) fn many(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A person who commits a file of their own and pushes it, rebasing for as long as others are faster.
fn person(number: usize, url: &str, environment: &[(String, String)]) {
    let clone = State::new();
    let script = format!(
        "git clone --quiet \"$1\" . && echo {number} >person-{number} && git add --all && git commit --quiet -m 'person {number}' || exit 1
         i=0; until git push --quiet origin HEAD:main; do
           i=$((i+1)); [ $i -lt 400 ] || exit 1
           git pull --quiet --rebase origin main || exit 1
         done"
    );
    let mut git = Command::new("sh");
    git.args(["-c", &script, "sh", url]).current_dir(clone.root()).stdin(Stdio::null()).stderr(Stdio::null());
    git.env("HOME", clone.root()).env("GIT_CONFIG_NOSYSTEM", "1").envs(environment.iter().cloned());
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@example.org");
    }
    assert!(git.status().expect("sh runs").success(), "person {number} could not push");
}

/// Makes moves while people push, and holds the history against what must be true of it.
fn race(remote: &Remote, url: &str, people: usize, environment: &[(&str, &str)]) {
    let before = remote.head();
    let own: Vec<(String, String)> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let moves = ["web", "lab", "ads", "web", "lab"];
    let (mut made, mut ends) = (0, Vec::new());
    thread::scope(|scope| {
        for number in 0..people {
            let own = own.clone();
            scope.spawn(move || person(number, url, &own));
        }
        // Two that move at once: whoever comes second sees what the first did.
        let movers: Vec<_> = ["n1", "n1"]
            .into_iter()
            .map(|node| {
                scope.spawn(move || {
                    let home = tempfile::tempdir().expect("a folder");
                    let runs = moves.iter().map(|group| {
                        let mut command = run::command(home.path());
                        run::finish(command.args(moving(node, group, url)).envs(environment.iter().copied()))
                    });
                    runs.collect::<Vec<_>>()
                })
            })
            .collect();
        for mover in movers {
            for ran in mover.join().expect("it ends") {
                assert!([0, 3].contains(&ran.code), "{ran:?}");
                made += usize::from(ran.code == 0);
                ends.push(ran.out);
            }
        }
    });
    let range = format!("{before}..main");
    let commits = remote.commits(&range);
    assert_eq!(commits.len(), people + made, "no commit is lost, and none is there twice: {ends:?}");
    assert!(made >= moves.len(), "{ends:?}");
    assert_eq!(remote.served.git(&["rev-list", "--merges", &range]), "", "the history is linear");
    assert_eq!(remote.decisions(&range).len(), made);
    assert_eq!(remote.decisions(&range).into_iter().collect::<BTreeSet<_>>().len(), made, "no decision twice");
    // Each move began from the group that the machine had in the commit below it.
    for commit in commits {
        let message = remote.message(&commit);
        let Some(moved) = message.lines().find_map(|line| line.strip_prefix("Drover-Move: n1 ")) else { continue };
        let (from, to) = moved.split_once(" -> ").expect("a move");
        let group = |at: &str| remote.served.git(&["show", &format!("{at}:state/nodes/prod/n1.yaml")]);
        assert!(group(&format!("{commit}^")).contains(&format!("'{from}'")), "{message}");
        assert!(group(&commit).contains(&format!("'{to}'")), "{message}");
    }
    remote.is_sound();
}

#[test]
fn many_people_push_while_machines_move() {
    let people = many("DROVER_PUSHERS", 12);
    let remote = Remote::new("");
    race(&remote, &remote.path().display().to_string(), people, &[]);
    let remote = Remote::new("");
    let server = Https::start(&remote.served);
    let certificate = server.certificate();
    let trust = [("SSL_CERT_FILE", certificate.as_str()), ("GIT_SSL_CAINFO", certificate.as_str())];
    race(&remote, &server.url("open", "fleet.git"), people / 3, &trust);
    let remote = Remote::new("");
    let (server, path) = (Ssh::start(), remote.path());
    let (key, home) = (server.key("good"), server.home("host"));
    let known = home.path().join(".ssh/known_hosts").display().to_string();
    let ssh = format!("ssh -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known}");
    let url = server.url(&path);
    let home = home.path().display().to_string();
    race(&remote, &url, people / 3, &[("DROVER_GIT_KEY", &key), ("GIT_SSH_COMMAND", &ssh), ("HOME", &home)]);
}

#[test]
fn killed_at_any_point_it_leaves_a_sound_repository_and_decides_nothing_twice() {
    let kills = many("DROVER_KILLS", 40);
    for remote_kind in ["file", "https"] {
        let remote = Remote::new("");
        let server = Https::start(&remote.served);
        let url = match remote_kind {
            "file" => remote.path().display().to_string(),
            _ => server.url("open", "fleet.git"),
        };
        let certificate = server.certificate();
        let command = |to: &str| {
            let mut command = run::command(remote.home.path());
            command.args(moving("n1", to, &url)).env("SSL_CERT_FILE", &certificate);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let before = remote.head();
        // How long a whole run takes here, so that kills fall on all of it.
        let begun = Instant::now();
        assert!(command("lab").status().expect("drover runs").success());
        let whole = begun.elapsed();
        let mut moves = 1;
        for round in 0..kills / 2 {
            let to = if round % 2 == 0 { "web" } else { "lab" };
            let mut running = command(to).spawn().expect("drover runs");
            // Spread over the run by a step that has no common part with it.
            thread::sleep(whole.mul_f64((round as f64 * 0.618).fract() * 1.1).min(Duration::from_secs(20)));
            let _ = running.kill();
            let _ = running.wait();
            // What git leaves too when it is killed, and a person removes.
            let _ = std::fs::remove_file(remote.path().join("refs/heads/main.lock"));
            // The same order is given again: it is carried out if it was not, and else found to be.
            let code = command(to).status().expect("drover runs").code();
            assert!(matches!(code, Some(0 | 3)), "{code:?}");
            moves += 1;
        }
        let range = format!("{before}..main");
        assert_eq!(remote.commits(&range).len(), moves, "each move once");
        assert_eq!(remote.decisions(&range).into_iter().collect::<BTreeSet<_>>().len(), moves);
        remote.is_sound();
    }
}

#[test]
fn a_lock_that_a_killed_process_left_is_named_and_nothing_moves() {
    let remote = Remote::new("");
    let lock = remote.path().join("refs/heads/main.lock");
    let file = std::fs::File::create(&lock).expect("a lock");
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).expect("its time");
    let (before, url) = (remote.head(), remote.path().display().to_string());
    let order = || run::finish(run::command(remote.home.path()).args(moving("n1", "lab", &url)));
    let ran = order().expect(1);
    assert!(ran.err.contains("a process that was killed left refs/heads/main locked"), "{}", ran.err);
    assert!(ran.err.contains("refs/heads/main.lock once no git runs there"), "{}", ran.err);
    assert_eq!(remote.head(), before);
    std::fs::remove_file(&lock).expect("a lock");
    order().expect(0);
    assert_ne!(remote.head(), before);
}
