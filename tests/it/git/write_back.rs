//! Moves of machines reach real servers as commits, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use drover::adapters::git::{Credentials, Person};
use drover::engine::{StateSource, Writer, Written};
use drover::model::{Desired, Move};
use drover::writeback::{Decision, trailers};
use tempfile::TempDir;

use super::servers::{Https, Served, Ssh, drover, tool};
use crate::support::run::{self, Ran};
use crate::support::state::State;

/// What nobody but people may change in a file.
const N1: &str = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n1, cluster: prod}\nspec:\n  group:   'ads'  # since the fire\n  shareable: true # yes\n";

/// A served fleet with groups, into which drover may write.
pub(super) struct Remote {
    pub(super) served: Served,
    pub(super) home: TempDir,
}

impl Remote {
    pub(super) fn new(more: &str) -> Self {
        let served = Served::new();
        served.work.group("ads").group("web").group("lab").write("state/nodes/prod/n1.yaml", N1);
        served.work.node("prod", "n2", "{group: ads}");
        served.work.write("state/fleet.yaml", fleet(more));
        served.publish("groups");
        served.git(&["config", "http.receivepack", "true"]);
        Self { served, home: Served::elsewhere() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.served.folder().join("fleet.git")
    }

    pub(super) fn head(&self) -> String {
        self.served.git(&["rev-parse", "main"])
    }

    /// The commits of a range, the newest first.
    pub(super) fn commits(&self, range: &str) -> Vec<String> {
        self.served.git(&["rev-list", range]).lines().map(str::to_owned).collect()
    }

    pub(super) fn message(&self, commit: &str) -> String {
        self.served.git(&["log", "-1", "--format=%B", commit])
    }

    pub(super) fn hook(&self, name: &str, script: &str) {
        let hook = self.path().join("hooks").join(name);
        fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
        fs::write(&hook, format!("#!/bin/sh\n{script}\n")).expect("a hook");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// Decisions of the branch, by their digests.
    pub(super) fn decisions(&self, range: &str) -> Vec<String> {
        let messages: Vec<String> = self.commits(range).iter().map(|commit| self.message(commit)).collect();
        let digests = messages.iter().flat_map(|message| trailers(message));
        digests.filter(|(name, _)| *name == "Decision").map(|(_, digest)| digest.to_owned()).collect()
    }

    pub(super) fn is_sound(&self) {
        self.served.git(&["fsck", "--full", "--strict", "--no-dangling"]);
    }

    fn source(&self, repository: &str) -> StateSource {
        StateSource::Revision {
            repository: repository.to_owned(),
            revision: None,
            folder: None,
            credentials: Credentials::default(),
            cache: self.home.path().join(".cache"),
            timeout: Duration::from_secs(20),
        }
    }

    pub(super) fn writer(&self) -> Writer {
        let source = self.source(&self.path().display().to_string());
        Writer { source, signers: None, author: None, checked_out: false }
    }
}

fn fleet(more: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  writeBack: {{name: drover, email: drover@example.org{more}}}\n"
    )
}

/// The arguments that move a machine on a server.
pub(super) fn moving<'a>(node: &'a str, to: &'a str, url: &'a str) -> Vec<&'a str> {
    vec![
        "move",
        node,
        "--to",
        to,
        "--reason",
        "web waits",
        "--push",
        "--repo",
        url,
        "--author",
        "Ann <ann@example.org>",
    ]
}

/// A decision to move a machine of `prod` from where it is.
pub(super) fn to(desired: &Desired, node: &str, to: &str, record: &str) -> Result<Decision, String> {
    let cluster = desired.clusters.get("prod").ok_or("no cluster")?;
    let from = cluster.nodes.get(node).ok_or("no machine")?.group.clone();
    let (prod, to) = ("prod".parse().expect("a name"), to.parse().expect("a name"));
    let made = Move { cluster: prod, node: node.parse().expect("a name"), from, to, reason: "it waits".into() };
    Ok(Decision::new(made.cluster.clone(), vec![made], record.as_bytes().to_vec()))
}

#[track_caller]
fn says(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for part in parts {
        assert!(ran.out.contains(part) || ran.err.contains(part), "{part:?} is not in {ran:?}");
    }
}

#[test]
fn a_move_is_one_commit_on_every_kind_of_server() {
    for kind in ["file", "ssh", "https"] {
        let remote = Remote::new("");
        let (ssh, https) = (Ssh::start(), Https::start(&remote.served));
        let (key, known) = (ssh.key("good"), ssh.home("host"));
        let (url, home) = match kind {
            "file" => (format!("file://{}", remote.path().display()), remote.home.path()),
            "ssh" => (ssh.url(&remote.path()), known.path()),
            _ => (https.url("token", "fleet.git"), remote.home.path()),
        };
        let before = remote.head();
        let certificate = https.certificate();
        let environment =
            [("DROVER_GIT_KEY", key.as_str()), ("SSL_CERT_FILE", &certificate), ("DROVER_GIT_TOKEN", Https::TOKEN)];
        let ran = drover(home, &environment, &moving("n1", "web", &url));
        says(&ran, 0, &["Moved n1 from ads to web: commit "]);
        let diff = remote.served.git(&["diff", "--unified=0", "main^", "main", "--", "state"]);
        let changed: Vec<&str> = diff.lines().filter(|line| line.starts_with(['+', '-'])).collect();
        let changed: Vec<&str> =
            changed.into_iter().filter(|line| line.contains("group") || line.contains("nodes")).collect();
        assert_eq!(
            changed,
            [
                "--- a/state/nodes/prod/n1.yaml",
                "+++ b/state/nodes/prod/n1.yaml",
                "-  group:   'ads'  # since the fire",
                "+  group:   'web'  # since the fire"
            ],
        );
        assert_eq!(remote.served.git(&["rev-parse", "main^"]), before, "{kind}: one commit on top of what was there");
        assert_eq!(
            remote.served.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>", "main"]),
            "Ann <ann@example.org> drover <drover@example.org>"
        );
        let message = remote.message("main");
        assert!(
            message.starts_with("prod: move n1 from ads to web\n\n- n1: ads -> web: web waits\n\nDrover-Decision: "),
            "{message}"
        );
        let trailers: Vec<(&str, &str)> = trailers(&message);
        assert_eq!((trailers[1], trailers[2]), (("Cluster", "prod"), ("Move", "n1 ads -> web")));
        let record = remote.served.git(&["show", &format!("main:{}", trailers[3].1)]);
        let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
        assert_eq!((&record["moves"][0]["node"], &record["by"]), (&"n1".into(), &"Ann <ann@example.org>".into()));
        remote.is_sound();
        let again = drover(home, &environment, &moving("n1", "web", &url));
        says(&again, 3, &["Nothing was moved: machine n1 is in group web already"]);
        assert_eq!(remote.commits(&format!("{before}..main")).len(), 1);
    }
}

#[test]
fn a_move_is_shown_first_and_changes_nothing() {
    let remote = Remote::new(", template: \"{{ cluster }} {{ moves[0].node }}\"");
    let (before, path) = (remote.head(), remote.path().display().to_string());
    let objects = remote.served.git(&["count-objects"]);
    let arguments = ["move", "n1", "--to", "web", "--reason", "why", "--repo", &path];
    let ran = drover(remote.home.path(), &[], &arguments);
    says(
        &ran,
        0,
        &[
            "-  group:   'ads'  # since the fire\n+  group:   'web'  # since the fire\n",
            "    prod n1\n",
            "Nothing was changed",
        ],
    );
    assert_eq!((remote.head(), remote.served.git(&["count-objects"])), (before, objects));
    for (more, code, parts) in [
        (vec!["--from", "lab"], 3, vec!["machine n1 is in ads by now, not in lab"]),
        (vec!["--cluster", "moon"], 3, vec!["no machine n1 in cluster moon"]),
        (vec!["--to", "nowhere"], 2, vec!["cannot be used multiple times"]),
    ] {
        says(&run::drover(remote.home.path(), [&arguments[..], &more].concat()), code, &parts);
    }
    let unknown = ["move", "n1", "--to", "nowhere", "--reason", "why", "--repo", &path];
    says(&drover(remote.home.path(), &[], &unknown), 3, &["there is no group nowhere"]);
}

#[test]
fn a_commit_here_takes_the_files_along_and_nothing_else() {
    let remote = Remote::new("");
    let work = &remote.served.work;
    work.write("notes.txt", "staged").git(&["add", "notes.txt"]);
    let arguments = ["move", "n1", "--to", "web", "--reason", "why", "--commit", "--author", "Ann <ann@example.org>"];
    says(&work.drover(&arguments), 0, &["Moved n1 from ads to web"]);
    assert_eq!(work.git(&["status", "--short"]), "A  notes.txt");
    assert!(work.read("state/nodes/prod/n1.yaml").contains("'web'  # since the fire"));
    work.edit("state/nodes/prod/n1.yaml", "# yes", "# no");
    let back = ["move", "n1", "--to", "ads", "--reason", "why", "--commit", "--author", "Ann <ann@example.org>"];
    says(&work.drover(&back), 1, &["n1.yaml has changes that are not committed"]);
    assert_eq!(work.git(&["log", "-1", "--format=%s"]), "prod: move n1 from ads to web");
    // What another repository has checked out is not changed behind its back.
    let path = work.root().display().to_string();
    says(&drover(remote.home.path(), &[], &moving("n1", "ads", &path)), 1, &["is checked out in"]);
}

#[test]
fn what_a_server_refuses_is_told_in_its_own_words() {
    let remote = Remote::new("");
    let server = Https::start(&remote.served);
    remote.hook("pre-receive", "echo 'no machines on fridays' >&2; exit 1");
    let before = remote.head();
    let ran = server.drover(remote.home.path(), "", &moving("n1", "web", &server.url("open", "fleet.git")));
    says(&ran, 1, &["refused the commit for main", "no machines on fridays", "pull-request"]);
    let path = remote.path().display().to_string();
    says(
        &drover(remote.home.path(), &[], &moving("n1", "web", &path)),
        1,
        &["the hook pre-receive", "through ssh or https"],
    );
    fs::remove_file(remote.path().join("hooks/pre-receive")).expect("a hook");
    let ran = server.drover(remote.home.path(), "", &moving("n1", "web", &server.url("readonly", "fleet.git")));
    says(&ran, 1, &["cannot push to", "403", "may write"]);
    let ran = server.drover(remote.home.path(), "", &moving("n1", "web", "https://127.0.0.1:1/fleet.git"));
    says(&ran, 1, &["cannot fetch"]);
    assert_eq!(remote.head(), before, "nothing moved");
}

#[test]
fn a_push_whose_answer_is_lost_counts_and_is_not_repeated() {
    let remote = Remote::new("");
    let server = Https::start(&remote.served);
    let before = remote.head();
    let ran = server.drover(remote.home.path(), "", &moving("n1", "web", &server.url("lost", "fleet.git")));
    says(&ran, 0, &["Moved n1 from ads to web"]);
    assert_eq!(remote.commits(&format!("{before}..main")).len(), 1);
}

#[test]
fn a_broken_copy_is_made_anew_and_a_full_disk_moves_nothing() {
    let remote = Remote::new("");
    let server = Https::start(&remote.served);
    let url = server.url("open", "fleet.git");
    says(&server.drover(remote.home.path(), "", &moving("n1", "web", &url)), 0, &["Moved"]);
    let copies = remote.home.path().join(".cache/write");
    let damage = "find . -type f \\( -path '*/objects/*' -o -name packed-refs \\) -exec chmod u+w {} + -exec truncate -s 20 {} +";
    assert!(Command::new("sh").args(["-c", damage]).current_dir(&copies).status().expect("sh runs").success());
    says(&server.drover(remote.home.path(), "", &moving("n1", "lab", &url)), 0, &["Moved n1 from web to lab"]);
    let before = remote.head();
    // No file may grow: what a full disk looks like, without one.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_drover")])
        .args(moving("n1", "ads", &url))
        .current_dir(remote.home.path());
    command.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH")).env("HOME", remote.home.path());
    command.env("DROVER_CACHE", remote.home.path().join(".cache")).env("SSL_CERT_FILE", server.certificate());
    let ran = run::finish(&mut command);
    assert!(ran.code == 1 && ran.err.contains("error"), "{ran:?}");
    assert_eq!(remote.head(), before);
    says(&server.drover(remote.home.path(), "", &moving("n1", "ads", &url)), 0, &["Moved n1 from lab to ads"]);
    remote.is_sound();
}

#[test]
fn a_lost_race_is_decided_anew_on_what_the_others_pushed() {
    let remote = Remote::new("");
    let prod = "prod".parse().expect("a name");
    let clone = State::new();
    clone.git(&["clone", "--quiet", &remote.path().display().to_string(), "."]);
    let publish = |what: &str| {
        clone.commit(what);
        clone.git(&["pull", "--quiet", "--rebase"]);
        clone.git(&["push", "--quiet"]);
    };
    // The machine's document goes to another file, is rewritten in another style, and keeps its group.
    let mut asked = 0;
    let written = remote.writer().write(&prod, jiff::Timestamp::UNIX_EPOCH, |desired| {
        asked += 1;
        if asked == 1 {
            clone.git(&["rm", "--quiet", "state/nodes/prod/n1.yaml"]);
            clone.write("state/nodes/prod/rack.yaml", "# rack\napiVersion: drover.dev/v1\nkind: Node\nmetadata:\n  name: n1\n  cluster: prod\nspec: {shareable: true, group: ads}\n");
            publish("restructure");
        }
        to(desired, "n1", "web", "{}")
    });
    let Ok(Written::Committed(committed)) = written else { panic!("{written:?}") };
    assert_eq!((asked, committed.attempts), (2, 2));
    assert!(
        remote
            .served
            .git(&["show", "main:state/nodes/prod/rack.yaml"])
            .ends_with("spec: {shareable: true, group: web}")
    );
    // Somebody else moves the machine, or takes it away: the decision is dropped with the reason.
    for (change, reason) in
        [("group: lab", "machine n1 is in lab by now, not in web"), ("", "the state has no machine n1 in cluster prod")]
    {
        let mut first = None;
        let before = remote.commits("main").len();
        let written = remote.writer().write(&prod, jiff::Timestamp::UNIX_EPOCH, |desired| {
            if first.is_none() {
                first = Some(to(desired, "n1", "ads", change));
                clone.git(&["pull", "--quiet", "--rebase"]);
                match change {
                    "" => drop(clone.git(&["rm", "--quiet", "state/nodes/prod/rack.yaml"])),
                    group => drop(clone.edit("state/nodes/prod/rack.yaml", "group: web", group)),
                }
                publish("by hand");
            }
            first.clone().expect("it was decided")
        });
        assert_eq!(written, Ok(Written::Dropped { reason: reason.to_owned() }));
        assert_eq!(remote.commits("main").len(), before + 1, "only the person's commit");
    }
    remote.is_sound();
}

#[test]
fn a_decision_is_written_once() {
    let remote = Remote::new("");
    let prod = "prod".parse().expect("a name");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let there = |desired: &Desired| to(desired, "n1", "web", "the same");
    let mut first = None;
    let written = remote.writer().write(&prod, now, |desired| {
        first = Some(there(desired)?);
        there(desired)
    });
    assert!(matches!(written, Ok(Written::Committed(_))), "{written:?}");
    let head = remote.head();
    // A person takes the move back; the same decision, told again, stays written.
    let back = remote.writer().write(&prod, now, |desired| to(desired, "n1", "ads", "back"));
    assert!(matches!(back, Ok(Written::Committed(_))), "{back:?}");
    let again = remote.writer().write(&prod, now, |_| Ok(first.clone().expect("a decision")));
    assert_eq!(again, Ok(Written::Already { commit: head }));
    // The record tells it, too, where history does not.
    remote.served.git(&[
        "update-ref",
        "refs/heads/main",
        &remote.served.git(&["commit-tree", "main^{tree}", "-m", "squashed"]),
    ]);
    let again = remote.writer().write(&prod, now, |_| Ok(first.clone().expect("a decision")));
    assert_eq!(again, Ok(Written::Already { commit: remote.head() }));
}

#[test]
fn nothing_is_written_on_top_of_what_is_not_accepted() {
    let remote = Remote::new("");
    let path = remote.path().display().to_string();
    let key = remote.home.path().join("key").display().to_string();
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    let signers = remote.home.path().join("signers").display().to_string();
    let public = fs::read_to_string(format!("{key}.pub")).expect("a key");
    fs::write(&signers, format!("drover@example.org {public}")).expect("a file");
    let policy = ["--allowed-signers", signers.as_str()];
    let trusted = [moving("n1", "web", &path), policy.to_vec()].concat();
    says(&drover(remote.home.path(), &[], &trusted), 1, &["nothing is written on top of commit", "it is not signed"]);
    // The head is signed, but drover has no key.
    let work = &remote.served.work;
    let sign = ["-c", "gpg.format=ssh", "-c", &format!("user.signingKey={key}")].map(str::to_owned);
    let sign: Vec<&str> = sign.iter().map(String::as_str).collect();
    work.git(&[&sign[..], &["commit", "--quiet", "--allow-empty", "-S", "-m", "signed"]].concat());
    remote.served.push();
    says(
        &drover(remote.home.path(), &[], &trusted),
        1,
        &["nothing was pushed: drover's own commit", "it is not signed"],
    );
    work.write("state/fleet.yaml", fleet(&format!(", signing: {{format: ssh, keyFile: {key}}}")));
    work.git(&["add", "--all"]);
    work.git(&[&sign[..], &["commit", "--quiet", "-S", "-m", "drover signs"]].concat());
    remote.served.push();
    says(&drover(remote.home.path(), &[], &trusted), 0, &["Moved n1 from ads to web"]);
    remote.served.git(&["-c", &format!("gpg.ssh.allowedSignersFile={signers}"), "verify-commit", "main"]);
    // What does not validate is not built on.
    work.git(&["pull", "--quiet", &path, "main"]);
    work.write("state/groups/bad.yaml", "kind: Gruop\n");
    remote.served.publish("broken");
    says(
        &drover(remote.home.path(), &[], &moving("n1", "lab", &path)),
        1,
        &["nothing is written on top of commit", "does not validate"],
    );
    // Without an identity there is no commit.
    fs::remove_file(work.path("state/groups/bad.yaml")).expect("a file");
    fs::remove_file(work.path("state/fleet.yaml")).expect("a file");
    remote.served.publish("nobody");
    says(
        &drover(remote.home.path(), &[], &moving("n1", "lab", &path)),
        1,
        &["who drover's commits are by", "writeBack:"],
    );
}

#[test]
fn openpgp_signatures_are_good_for_gpg() {
    let keys = TempDir::new_in("/tmp").expect("a folder");
    fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
    let home = format!("GNUPGHOME={}", keys.path().display());
    let gpg = |arguments: &[&str]| {
        tool(
            "env",
            &[
                &[home.as_str(), "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""],
                arguments,
            ]
            .concat(),
        )
    };
    gpg(&["--quick-generate-key", "drover <drover@example.org>", "ed25519", "sign", "never"]);
    let key = keys.path().join("secret.asc").display().to_string();
    gpg(&["--armor", "--output", &key, "--export-secret-keys"]);
    let public = keys.path().join("public.asc").display().to_string();
    gpg(&["--armor", "--output", &public, "--export"]);
    let remote = Remote::new(&format!(", signing: {{format: openpgp, keyFile: {key}}}"));
    let path = remote.path().display().to_string();
    says(&drover(remote.home.path(), &[], &moving("n1", "web", &path)), 0, &["Moved n1 from ads to web"]);
    tool("env", &[&home, "git", "--git-dir", &path, "verify-commit", "main"]);
    // Its own commits pass the policy that it asks others to pass.
    let policy = ["--openpgp-keys", public.as_str()];
    says(
        &drover(remote.home.path(), &[], &[moving("n1", "lab", &path), policy.to_vec()].concat()),
        0,
        &["Moved n1 from web to lab"],
    );
    let gone = Path::new(&key);
    fs::remove_file(gone).expect("a file");
    says(&drover(remote.home.path(), &[], &moving("n1", "ads", &path)), 1, &["the signing key", "secret.asc"]);
    tool("env", &[&home, "gpgconf", "--kill", "all"]);
}

#[test]
fn who_decided_is_the_author() {
    let remote = Remote::new("");
    let author = Some(Person { name: "Bo".into(), email: "bo@example.org".into() });
    let writer = Writer { author, ..remote.writer() };
    let written = writer
        .write(&"prod".parse().expect("a name"), jiff::Timestamp::UNIX_EPOCH, |desired| to(desired, "n2", "lab", "{}"));
    assert!(matches!(written, Ok(Written::Committed(_))), "{written:?}");
    assert_eq!(remote.served.git(&["log", "-1", "--format=%an %cn %at", "main"]), "Bo drover 0");
}
