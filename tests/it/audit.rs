//! Decisions are told from git history alone, and whatever does not stand up to being replayed is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use drover::adapters::git::{Credentials, Git};
use drover::engine::audit::{Chronicle, vetoes};
use drover::engine::{StateSource, Writer, Written};
use drover::model::Move;
use drover::rebalance::{Class, Group, INPUT_VERSION, Input, Node, Record, Rules, Shape, Waiting, decide};
use drover::writeback::Decision;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::run::Ran;
use crate::support::state::State;

/// A committed fleet of four machines in group `ads`, two of them in one file.
fn fleet() -> State {
    let state = State::new();
    state.cluster("prod", "{file: live.yaml}").group("ads").group("web").group("lab");
    state.write("state/live.yaml", "kind: NodeList\nitems:\n- metadata: {name: n1}\n");
    state.write(
        "state/fleet.yaml",
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  writeBack: {name: drover, email: drover@example.org}\n",
    );
    let node = |name: &str| {
        format!(
            "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: prod}}\nspec:\n  group: ads\n"
        )
    };
    for name in ["n1", "n2"] {
        state.write(&format!("state/nodes/prod/{name}.yaml"), node(name));
    }
    state.write("state/nodes/prod/rack.yaml", format!("{}---\n{}", node("n3"), node("n4")));
    state.commit("the fleet");
    state
}

/// A person moves a machine with drover.
fn moved(state: &State, node: &str, to: &str) {
    let author = ["--commit", "--author", "Ann <ann@example.org>"];
    state.drover(&[&["move", node, "--to", to, "--reason", "she asked"], &author[..]].concat()).expect(0);
}

/// The rebalancer moves a machine out of group `ads`, because work waits.
fn rebalanced(state: &State, node: &str, to: &str) {
    rebalanced_at(state, node, to, Timestamp::now());
}

fn rebalanced_at(state: &State, node: &str, to: &str, now: Timestamp) {
    let group = |name: &str| Group { name: name.into(), weight: 1, ..Group::default() };
    let input = Input {
        version: INPUT_VERSION.to_owned(),
        cluster: "prod".to_owned(),
        time: now.as_second(),
        rules: Rules { pending_after: 0, patience: 0, ..Rules::default() },
        resources: vec!["cpu".into(), "nvidia.com/gpu".into()],
        groups: vec![group("ads"), group(to)],
        classes: vec![Class { capacity: vec![64_000, 8], ..Class::default() }],
        shapes: vec![Shape { requests: vec![1000, 8], ..Shape::default() }],
        nodes: vec![Node { name: node.into(), group: Some(0), shareable: true, ..Node::default() }],
        waiting: vec![Waiting {
            name: "jobs/a".into(),
            group: 1,
            shape: 0,
            pods: 1,
            since: now.as_second() - 9000,
            otherwise: false,
        }],
        ..Input::default()
    };
    let decision = decide(&input);
    let moves: Vec<Move> = decision
        .moves
        .iter()
        .map(|made| Move {
            cluster: "prod".parse().expect("a name"),
            node: made.node.parse().expect("a name"),
            from: Some(made.from.parse().expect("a name")),
            to: made.to.parse().expect("a name"),
            reason: "jobs/a waits".to_owned(),
        })
        .collect();
    assert_eq!(moves.len(), 1);
    let record = Record::new(input, decision).to_bytes();
    let source = StateSource::Revision {
        repository: state.root().display().to_string(),
        revision: None,
        folder: None,
        credentials: Credentials::default(),
        cache: state.path(".cache"),
        timeout: Duration::from_secs(20),
    };
    let writer = Writer { source, signers: None, author: None, checked_out: true };
    let cluster = "prod".parse().expect("a name");
    let written = writer.write(&cluster, now, |_| Ok(Decision::new(cluster.clone(), moves.clone(), record.clone())));
    assert!(matches!(written, Ok(Written::Committed(_))), "{written:?}");
}

/// A person edits the group of a machine by hand.
fn by_hand(state: &State, node: &str, from: &str, to: &str) {
    state.edit(&format!("state/nodes/prod/{node}.yaml"), &format!("group: {from}"), &format!("group: {to}"));
    state.commit(&format!("{node} to {to}"));
}

/// The only record of a state.
fn record(state: &State) -> PathBuf {
    let folder = state.path("state/.drover/decisions/prod");
    let mut records = fs::read_dir(folder).expect("records").map(|entry| entry.expect("an entry").path());
    let one = records.next().expect("a record");
    assert!(records.next().is_none(), "several records");
    one
}

/// Makes the newest commit again, with what is in the folder now.
fn amend(state: &State, more: &[&str]) {
    state.git(&["add", "--all"]);
    state.git(&[&["commit", "--quiet", "--amend"], more].concat());
}

fn audit(state: &State, arguments: &[&str]) -> Ran {
    state.drover(&[&["audit"], arguments].concat())
}

fn json(state: &State, arguments: &[&str]) -> Value {
    audit(state, &[&["--format", "json"], arguments].concat()).json()
}

/// That verification ends so, and says each of these.
#[track_caller]
fn verified(state: &State, code: i32, parts: &[&str]) {
    let ran = audit(state, &["--verify"]);
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    for part in parts {
        assert!(ran.out.contains(part), "{part:?} is not in\n{}", ran.out);
    }
    assert_eq!(ran.out.contains("fault: "), code == 1, "{}", ran.out);
}

#[test]
fn a_machine_tells_where_it_has_been() {
    let state = fleet();
    rebalanced(&state, "n2", "lab");
    by_hand(&state, "n2", "lab", "ads");
    moved(&state, "n2", "web");
    let ran = state.drover(&["explain", "n2"]).expect(0);
    let begin = ran.out.find("  history\n").unwrap_or_else(|| panic!("no history in {}", ran.out));
    let told: Vec<&str> = ran.out[begin..].lines().skip(1).collect();
    let expected = [
        "ads → lab  by the rebalancer (commit ",
        "lab → ads  by Ann <ann@example.org> (commit ",
        "ads → web  by Ann <ann@example.org> (commit ",
    ];
    assert_eq!(told.len(), expected.len() + 1, "{told:#?}");
    for (line, expected) in told.iter().zip(expected) {
        assert!(line.contains(expected), "{line:?} does not hold {expected:?}");
    }
    assert!(told[0].ends_with("): jobs/a waits") && told[2].ends_with("): she asked"), "{told:#?}");
    assert!(told[3].starts_with("  veto      until ") && told[3].contains(": Ann took it back"), "{told:#?}");
    let json = state.drover(&["explain", "n2", "--format", "json"]).expect(0).json();
    let steps = json[0]["history"]["steps"].as_array().expect("steps");
    assert_eq!((steps.len(), &steps[0]["decidedBy"]), (3, &Value::from("rebalancer")));
    // A folder without history has none to tell.
    fs::remove_dir_all(state.path(".git")).expect("a repository");
    let ran = state.drover(&["explain", "n2"]).expect(0);
    assert!(!ran.out.contains("history"), "{}", ran.out);
}

#[test]
fn decisions_are_listed_with_what_became_of_them() {
    let state = fleet();
    assert!(audit(&state, &["--verify"]).expect(0).out.contains("No decisions"));
    moved(&state, "n1", "web");
    rebalanced(&state, "n2", "lab");
    moved(&state, "n3", "web");
    moved(&state, "n3", "lab");
    rebalanced(&state, "n4", "web");
    by_hand(&state, "n2", "lab", "ads");
    state.edit(
        "state/nodes/prod/rack.yaml",
        "---\napiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n4, cluster: prod}\nspec:\n  group: web\n",
        "",
    );
    state.commit("n4 is sold");
    let text = audit(&state, &["--verify"]).expect(0).out;
    for part in [
        "prod  by Ann <ann@example.org>  commit",
        "n1: ads -> web: she asked\n    still there, for ",
        "prod  by the rebalancer  commit",
        "n2: ads -> lab: jobs/a waits\n    went back to ads after ",
        "s, by Ann <ann@example.org> (commit ",
        "n3: ads -> web: she asked\n    moved on to lab after ",
        "n4: ads -> web: jobs/a waits\n    taken out of the state after ",
        "5 decisions, 5 moves: 2 in effect, 1 taken back. Nothing is wrong with them.",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let told = json(&state, &["--verify"]);
    let errors = crate::schemas::errors(&crate::schemas::validator("audit"), &told);
    assert!(errors.is_empty(), "{errors:?}");
    let outcomes: Vec<&str> =
        (0..5).map(|at| told["decisions"][at]["moves"][0]["effect"]["outcome"].as_str().expect("text")).collect();
    assert_eq!(outcomes, ["stays", "back", "movedOn", "stays", "removed"]);
    let of = |arguments: &[&str]| json(&state, arguments)["decisions"].as_array().expect("decisions").len();
    assert_eq!(
        (of(&["--node", "n3"]), of(&["--node", "n9"]), of(&["--cluster", "prod"]), of(&["--cluster", "moon"])),
        (2, 0, 5, 0)
    );
    assert_eq!((of(&["--since", "1h"]), of(&["--since", "2020-01-01"]), of(&["--since", "2999-01-01"])), (5, 5, 0));
    assert_eq!(of(&["--rev", "HEAD~4"]), 3);
    let elsewhere = State::new();
    let url = format!("file://{}", state.root().display());
    assert_eq!(json(&elsewhere, &["--repo", &url, "--verify"])["decisions"].as_array().map(Vec::len), Some(5));
    assert!(audit(&state, &["--since", "soon"]).expect(2).err.contains("7d"));
}

#[test]
fn without_a_history_there_is_nothing_to_audit() {
    let state = State::new();
    state.group("ads");
    let ran = audit(&state, &[]).expect(1);
    assert!(ran.err.contains("has no history") && ran.err.contains("--repo"), "{}", ran.err);
}

#[test]
fn what_does_not_stand_up_is_named() {
    let edit = |state: &State, change: &dyn Fn(&str) -> String| {
        let path = record(state);
        fs::write(&path, change(&fs::read_to_string(&path).expect("a record"))).expect("a record");
    };
    let cases: [(&str, &dyn Fn(&State), &[&str]); 13] = [
        (
            "changed later",
            &|state| {
                edit(state, &|text| text.replace("jobs/a", "jobs/b"));
                state.commit("tidy up");
                edit(state, &|text| text.replace("jobs/b", "jobs/a"));
                state.commit("as it was");
            },
            &["its record was changed later, by ", " of Ann"],
        ),
        (
            "cut off",
            &|state| {
                edit(state, &|text| text[..200].to_owned());
                amend(state, &["--no-edit"]);
            },
            &["the record is not JSON", "it seems to be cut off", "have digest"],
        ),
        (
            "not JSON",
            &|state| {
                edit(state, &|_| "moved: n1 }".to_owned());
                amend(state, &["--no-edit"]);
            },
            &["the record is not JSON"],
        ),
        (
            "of the future",
            &|state| {
                edit(state, &|text| text.replace("record/v1", "record/v7"));
                amend(state, &["--no-edit"]);
            },
            &["version \"drover.dev/rebalance-record/v7\", which this drover cannot replay"],
        ),
        (
            "another input",
            &|state| {
                edit(state, &|text| text.replace("\"shareable\":true", "\"shareable\":false"));
                amend(state, &["--no-edit"]);
            },
            &[
                "its input does not give its decision: it records n1 ads -> web, and the input gives no move",
                "were changed",
            ],
        ),
        (
            "missing",
            &|state| {
                fs::remove_file(record(state)).expect("a record");
                amend(state, &["--no-edit"]);
            },
            &["is missing in its commit"],
        ),
        (
            "more moves",
            &|state| {
                state.edit("state/nodes/prod/n2.yaml", "group: ads", "group: lab");
                amend(state, &["--no-edit"]);
            },
            &["its commit also moves n2 of prod, ads -> lab, which it does not tell"],
        ),
        (
            "more changes",
            &|state| {
                state.edit("state/nodes/prod/n2.yaml", "group: ads", "group: ads\n  shareable: true");
                amend(state, &["--no-edit"]);
            },
            &["its commit also changes more than the group of n2"],
        ),
        (
            "another move",
            &|state| {
                state.edit("state/nodes/prod/n1.yaml", "group: web", "group: lab");
                amend(state, &["--no-edit"]);
            },
            &["its commit moves n1 ads -> lab, and tells ads -> web"],
        ),
        (
            "no move",
            &|state| {
                state.edit("state/nodes/prod/n1.yaml", "group: web", "group: ads");
                amend(state, &["--no-edit"]);
            },
            &["its commit does not move n1", "the branch did not take it over"],
        ),
        (
            "other words",
            &|state| {
                let words = state
                    .git(&["log", "-1", "--format=%B"])
                    .replace("Drover-Move: n1 ads -> web", "Drover-Move: n2 ads -> web");
                amend(state, &["--message", &words]);
            },
            &[
                "its commit tells n2 ads -> web, its record n1 ads -> web",
                "its commit does not move n2",
                "its commit also moves n1",
            ],
        ),
        (
            "squashed without words",
            &|state| amend(state, &["--message", "moves"]),
            &["no commit tells the decision of the record state/.drover/decisions/prod/", "1 fault in the history"],
        ),
        (
            "made twice",
            &|state| {
                let commit = state.git(&["rev-parse", "HEAD"]);
                state.git(&["revert", "--no-edit", "HEAD"]);
                state.git(&["cherry-pick", &commit]);
            },
            &["made the same decision"],
        ),
    ];
    for (name, change, parts) in cases {
        let state = fleet();
        rebalanced(&state, "n1", "web");
        verified(&state, 0, &[]);
        change(&state);
        eprintln!("{name}");
        verified(&state, 1, parts);
        assert_eq!(audit(&state, &[]).code, 0, "{name}: without --verify it only lists");
    }
}

#[test]
fn a_record_of_drover_move_is_held_against_its_digest() {
    let state = fleet();
    moved(&state, "n1", "web");
    verified(&state, 0, &["she asked"]);
    let path = record(&state);
    let text = fs::read_to_string(&path).expect("a record");
    fs::write(&path, text.replace("she asked", "he asked")).expect("a record");
    amend(&state, &["--no-edit"]);
    verified(&state, 1, &["its record or its trailers were changed"]);
}

#[test]
fn what_people_do_with_branches_is_no_fault() {
    // Rebased: another committer and time, on top of another commit.
    let state = fleet();
    state.git(&["checkout", "--quiet", "-b", "proposal"]);
    rebalanced_at(&state, "n1", "web", Timestamp::now() - SignedDuration::from_hours(30));
    state.git(&["checkout", "--quiet", "main"]);
    state.write("README", "x").commit("a person");
    state.git(&["checkout", "--quiet", "proposal"]);
    state.git(&["rebase", "--quiet", "main"]);
    verified(&state, 0, &["made anew, rebased or squashed", "still there"]);
    // Merged: told once, with the merge, in effect since then.
    let state = fleet();
    state.git(&["checkout", "--quiet", "-b", "proposal"]);
    rebalanced(&state, "n1", "web");
    moved(&state, "n3", "lab");
    let words = state.git(&["log", "-1", "--format=%B"]);
    state.git(&["checkout", "--quiet", "main"]);
    state.write("README", "x").commit("a person");
    state.git(&["merge", "--quiet", "--no-ff", "-m", &format!("Merge proposal\n\n{words}"), "proposal"]);
    verified(&state, 0, &["2 decisions, 2 moves: 2 in effect"]);
    assert_eq!(json(&state, &[])["decisions"][0]["merge"], state.git(&["rev-parse", "HEAD"]));
    // Squashed with its words: several decisions in one commit.
    let state = fleet();
    state.git(&["checkout", "--quiet", "-b", "proposal"]);
    rebalanced(&state, "n1", "web");
    moved(&state, "n3", "lab");
    moved(&state, "n3", "web");
    state.git(&["checkout", "--quiet", "main"]);
    state.git(&["merge", "--quiet", "--squash", "proposal"]);
    let words = fs::read_to_string(state.path(".git/SQUASH_MSG")).expect("words");
    state.git(&["commit", "--quiet", "--message", &words]);
    verified(&state, 0, &["3 decisions", "where a squash leaves them"]);
    // Afterwards: files are renamed, joined and rewritten, a file is broken for a time, the record is removed.
    let state = fleet();
    rebalanced(&state, "n1", "web");
    let text = state.read("state/nodes/prod/n1.yaml").replace("spec:\n  group: web", "spec: {group: web} # tidy");
    state.git(&["rm", "--quiet", "state/nodes/prod/n1.yaml"]);
    state.write("state/nodes/prod/all.yaml", format!("{}---\n{text}", state.read("state/nodes/prod/n2.yaml")));
    state.git(&["rm", "--quiet", "state/nodes/prod/n2.yaml"]);
    state.commit("in one file");
    let whole = state.read("state/nodes/prod/all.yaml");
    state.write("state/nodes/prod/all.yaml", format!("{whole}---\n{{")).commit("oops");
    state.write("state/nodes/prod/all.yaml", whole).commit("mended");
    fs::remove_file(record(&state)).expect("a record");
    state.commit("old records");
    verified(&state, 0, &["1 decision, 1 move: 1 in effect"]);
    // The folder of the state is renamed, and the state moves to the root.
    state.git(&["mv", "state", "machines"]);
    state.commit("renamed");
    by_hand_in(&state, "machines/nodes/prod/all.yaml", "group: web", "group: lab");
    let ran = audit(&state, &["--verify", "--state", "machines"]).expect(0);
    assert!(ran.out.contains("moved on to lab"), "{}", ran.out);
}

fn by_hand_in(state: &State, file: &str, from: &str, to: &str) {
    state.edit(file, from, to);
    state.commit("by hand");
}

#[test]
fn a_merge_that_leaves_a_move_out_is_told() {
    let state = fleet();
    state.git(&["checkout", "--quiet", "-b", "proposal"]);
    rebalanced(&state, "n1", "web");
    state.git(&["checkout", "--quiet", "main"]);
    by_hand(&state, "n1", "ads", "lab");
    state.git(&["merge", "--quiet", "--strategy", "ours", "-m", "no", "proposal"]);
    let told = json(&state, &[]);
    assert_eq!(told["decisions"][0]["moves"][0]["effect"]["outcome"], "notTaken", "{told}");
}

#[test]
fn a_shallow_clone_says_that_it_does_not_know_everything() {
    let state = fleet();
    rebalanced(&state, "n1", "web");
    moved(&state, "n3", "lab");
    let clone = State::new();
    clone.git(&["clone", "--quiet", "--depth", "1", &format!("file://{}", state.root().display()), "."]);
    let listed = audit(&clone, &[]).expect(0).out;
    assert!(
        listed.contains("Only the newest part of the history is here") && listed.contains("1 decision,"),
        "{listed}"
    );
    verified(&clone, 1, &["the commit before its own is not here", "git fetch --unshallow"]);
    clone.git(&["fetch", "--quiet", "--unshallow"]);
    verified(&clone, 0, &["2 decisions"]);
}

fn vetoed(state: &State, now: Timestamp) -> Vec<String> {
    let git = Git::open(state.root()).expect("a repository");
    let head = git.resolve("HEAD").expect("a commit");
    let chronicle = Chronicle::read(&git, head, Path::new("state")).expect("a history");
    let week = SignedDuration::from_hours(7 * 24);
    vetoes(&git, &chronicle, &"prod".parse().expect("a name"), week, now).into_keys().collect()
}

#[test]
fn who_takes_a_machine_back_vetoes() {
    let now = Timestamp::now();
    let state = fleet();
    // What a person moves and takes back was never the rebalancer's.
    moved(&state, "n1", "web");
    by_hand(&state, "n1", "web", "ads");
    assert_eq!(vetoed(&state, now), [""; 0]);
    // By hand, with git revert, or with drover move: the content decides.
    rebalanced(&state, "n1", "web");
    assert_eq!(vetoed(&state, now), [""; 0]);
    by_hand(&state, "n1", "web", "ads");
    assert_eq!(vetoed(&state, now), ["n1"]);
    rebalanced(&state, "n2", "lab");
    state.git(&["revert", "--no-edit", "HEAD"]);
    rebalanced(&state, "n3", "web");
    moved(&state, "n3", "ads");
    assert_eq!(vetoed(&state, now), ["n1", "n2", "n3"]);
    // Another group is a wish, and no veto.
    rebalanced(&state, "n4", "web");
    moved(&state, "n4", "lab");
    assert_eq!(vetoed(&state, now), ["n1", "n2", "n3"]);
    // It ends, and a commit from the future does not make it longer.
    let day = SignedDuration::from_hours(24);
    assert_eq!(vetoed(&state, now + day * 6).len(), 3);
    assert_eq!(vetoed(&state, now + day * 8), [""; 0]);
}

#[test]
fn a_long_history_is_read_quickly() {
    let commits = crate::git::many("DROVER_COMMITS", 2000);
    let state = fleet();
    for node in 0..1000 {
        state.node("prod", &format!("m{node}"), "{group: ads}");
    }
    state.commit("many machines");
    rebalanced(&state, "n1", "web");
    let head = state.git(&["rev-parse", "HEAD"]);
    let mut script = String::new();
    for number in 0..commits {
        let (node, group) = (number % 1000, ["web", "lab", "ads"][number / 1000 % 3]);
        let text = format!(
            "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: m{node}, cluster: prod}}\nspec: {{group: {group}}}\n"
        );
        let file = if number % 2 == 0 { format!("state/nodes/prod/m{node}.yaml") } else { format!("notes/{node}") };
        script += &format!(
            "commit refs/heads/main\ncommitter Bo <bo@example.org> {} +0000\ndata 1\nx\n",
            1_700_000_000 + number
        );
        if number == 0 {
            script += &format!("from {head}\n");
        }
        script += &format!("M 100644 inline {file}\ndata {}\n{text}\n", text.len());
    }
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet", "--force"])
        .current_dir(state.root())
        .stdin(Stdio::piped())
        .spawn()
        .expect("git runs");
    std::io::Write::write_all(&mut import.stdin.take().expect("piped"), script.as_bytes()).expect("it listens");
    assert!(import.wait().expect("it ends").success());
    let begun = Instant::now();
    let ran = audit(&state, &["--verify", "--rev", "main"]).expect(0);
    let took = begun.elapsed();
    eprintln!("{commits} commits over 1,000 files: {took:?}");
    assert!(ran.out.contains("1 decision, 1 move: 1 in effect"), "{}", ran.out);
    assert!(took < Duration::from_secs(30), "{took:?}");
}
