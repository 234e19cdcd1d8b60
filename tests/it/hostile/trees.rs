//! Trees that only git can hold: made object by object, as no working directory could.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{LIMIT, NODE, judged, sound};
use crate::support::limit::drover_within;
use crate::support::state::State;

/// Writes an object and gives its id.
fn object(state: &State, command: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(command)
        .current_dir(state.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    child.stdin.take().expect("piped").write_all(input).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git {command:?} failed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn blob(state: &State, content: impl AsRef<[u8]>) -> String {
    object(state, &["hash-object", "-w", "--stdin"], content.as_ref())
}

/// A tree of entries `(mode, id, name)`, however odd.
fn tree(state: &State, entries: &[(&str, &str, &[u8])]) -> String {
    let mut bytes = Vec::new();
    for (mode, id, name) in entries {
        bytes.extend_from_slice(format!("{mode} ").as_bytes());
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend((0..20).map(|index| u8::from_str_radix(&id[2 * index..2 * index + 2], 16).expect("hexadecimal")));
    }
    object(state, &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &bytes)
}

/// A valid state that is committed, and how to commit another tree as `state/`.
fn committed() -> State {
    let state = sound();
    state.commit("sound");
    state
}

/// Commits a tree beside the files of the valid state, as `state/extra`, and judges it.
#[track_caller]
fn judge_extra(state: &State, extra: &str) -> super::Verdict {
    let id = |name: &str| state.git(&["rev-parse", &format!("main:{name}")]);
    let (clusters, nodes) = (id("state/clusters"), id("state/nodes"));
    let folder =
        tree(state, &[("40000", &clusters, b"clusters"), ("40000", extra, b"extra"), ("40000", &nodes, b"nodes")]);
    let root = tree(state, &[("100644", &id("live.yaml"), b"live.yaml"), ("40000", &folder, b"state")]);
    let commit = state.git(&["commit-tree", "-m", "hostile", &root]);
    judged(state, &["--rev", &commit])
}

/// A tree of ten billion files, made of eleven objects.
fn bomb(state: &State) -> String {
    let mut inner = tree(state, &[("100644", &blob(state, NODE), b"x.yaml")]);
    let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    for _ in 0..10 {
        let entries: Vec<_> = names.iter().map(|name| ("40000", inner.as_str(), name.as_bytes())).collect();
        inner = tree(state, &entries);
    }
    inner
}

#[test]
fn a_tree_that_stands_for_billions_of_files_is_refused() {
    let state = committed();
    let bomb = bomb(&state);
    judge_extra(&state, &bomb).refused("state-size", "", 0, "more than 250000 files and folders");
}

#[test]
fn what_lies_beside_the_state_is_not_walked() {
    let state = committed();
    let (bomb, id) = (bomb(&state), |name: &str| state.git(&["rev-parse", &format!("main:{name}")]));
    let entries = [("clusters", id("state/clusters")), ("nodes", id("state/nodes"))];
    let mut inside: Vec<(&str, &str, &[u8])> = vec![("40000", &bomb, b".bomb")];
    inside.extend(entries.iter().map(|(name, id)| ("40000", id.as_str(), name.as_bytes())));
    let root = [
        ("40000", bomb.as_str(), &b"bomb"[..]),
        ("100644", &id("live.yaml"), b"live.yaml"),
        ("40000", &tree(&state, &inside), b"state"),
    ];
    let commit = state.git(&["commit-tree", "-m", "hostile", "-p", "main", &tree(&state, &root)]);
    let plan = drover_within(LIMIT, state.root(), &["plan", "--format", "json", "--rev", &commit]).expect(0).json();
    let source = &plan["clusters"][0]["nodes"][0]["changes"][0]["source"];
    assert_eq!(source["commit"]["summary"], "sound", "the line is older than what was put beside it: {plan:#}");
    let difference = drover_within(LIMIT, state.root(), &["diff", &format!("main..{commit}")]).expect(0);
    assert!(!difference.out.contains("prod"), "{}", difference.out);
}

#[test]
fn a_tree_of_endless_depth_is_refused() {
    let state = committed();
    // One process writes all the trees: level by level would take a process each.
    let path = "d/".repeat(5_000);
    let script = format!(
        "blob\nmark :1\ndata 0\n\ncommit refs/heads/deep\ncommitter A <a@b> 0 +0000\ndata 0\nM 100644 :1 {path}x.yaml\n\n"
    );
    object(&state, &["fast-import", "--quiet"], script.as_bytes());
    let deep = state.git(&["rev-parse", "deep:d"]);
    let verdict = judge_extra(&state, &deep);
    verdict.refused("state-size", &format!("extra{}", "/d".repeat(64)), 0, "nested more than 64 deep");
}

#[test]
fn names_that_no_file_could_have_stay_where_they_are() {
    let state = committed();
    let node = blob(&state, NODE);
    for name in [&b".."[..], b".", b".git", b".gitmodules"] {
        let extra = tree(&state, &[("100644", &node, name)]);
        judge_extra(&state, &extra).accepted(0);
        let folder = tree(&state, &[("100644", &node, b"x.yaml")]);
        judge_extra(&state, &tree(&state, &[("40000", &folder, name)])).accepted(0);
    }
    for name in [&b"../../../x.yaml"[..], b"a/b.yaml", b"/etc/x.yaml", b"x\\y.yaml", b"con.yaml", b"x.yaml "] {
        let extra = tree(&state, &[("100644", &node, name)]);
        let verdict = judge_extra(&state, &extra);
        assert!(verdict.valid, "what it is called changes nothing, since nothing is written: {verdict:#?}");
    }
    let twice = tree(&state, &[("100644", &node, b"x.yaml"), ("100644", &node, b"x.yaml")]);
    judge_extra(&state, &twice).refused("duplicate-name", "extra/x.yaml", 3, "is defined twice");
}

#[test]
fn entries_that_are_not_what_their_mode_says_are_named() {
    let state = committed();
    let (node, missing) = (blob(&state, NODE), "0123456789012345678901234567890123456789");
    let folder = tree(&state, &[("100644", &node, b"x.yaml")]);
    for (mode, id, rule) in
        [("100644", missing, "unreadable"), ("100644", folder.as_str(), "unreadable"), ("160000", missing, "submodule")]
    {
        let verdict = judge_extra(&state, &tree(&state, &[(mode, id, b"x.yaml")]));
        verdict.refused(rule, "extra/x.yaml", 0, "");
    }
    for mode in ["100755", "100664"] {
        judge_extra(&state, &tree(&state, &[(mode, &node, b"x.yaml")])).accepted(1);
    }
    for target in [missing, &node] {
        let extra = tree(&state, &[("40000", target, b"folder")]);
        let ran = {
            let id = |name: &str| state.git(&["rev-parse", &format!("main:{name}")]);
            let folder = tree(&state, &[("40000", &id("state/clusters"), b"clusters"), ("40000", &extra, b"extra")]);
            let root = tree(&state, &[("40000", &folder, b"state")]);
            let commit = state.git(&["commit-tree", "-m", "hostile", &root]);
            drover_within(LIMIT, state.root(), &["validate", "--rev", &commit]).expect(1)
        };
        assert!(ran.err.contains("cannot read commit"), "{}", ran.err);
    }
    for text in [&b""[..], b"\0", b"\xff.yaml", &b"a/".repeat(100_000)] {
        let verdict = judge_extra(&state, &tree(&state, &[("120000", &blob(&state, text), b"x.yaml")]));
        assert!(!verdict.valid && verdict.problems.len() == 1, "{text:?}: {verdict:#?}");
    }
}
