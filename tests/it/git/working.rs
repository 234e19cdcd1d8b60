//! A working directory: what its plan says of the revision.

use std::fs;

use super::support::{Plan, fleet};
use crate::support::state::State;

#[test]
fn a_clean_folder_is_its_commit() {
    let state = fleet();
    let commit = state.commit("all");
    let plan = Plan::of(&state, &[]);
    assert_eq!((plan.commit(), plan.is_dirty()), (Some(commit.as_str()), false));
    assert_eq!(plan.to("n1", "gpu-type"), Some("A100"));
    state.write("README.md", "not part of the state").write("state/notes.txt", "neither is this");
    assert!(!Plan::of(&state, &[]).is_dirty(), "only state files count");
}

#[test]
fn every_way_to_differ_from_the_commit_is_dirty() {
    let differences: [(&str, fn(&State)); 5] = [
        ("edited", |state| _ = state.edit("state/nodes/prod/n1.yaml", "A100", "T4")),
        ("untracked", |state| _ = state.node("prod", "n3", "{}")),
        ("staged", |state| _ = state.node("prod", "n3", "{}").git(&["add", "--all"])),
        ("ignored by git", |state| _ = state.write(".gitignore", "n3.yaml\n").node("prod", "n3", "{}")),
        ("deleted", |state| fs::remove_file(state.path("state/nodes/prod/n2.yaml")).expect("a file")),
    ];
    for (what, differ) in differences {
        let state = fleet();
        let commit = state.commit("all");
        let clean = Plan::of(&state, &[]);
        differ(&state);
        let plan = Plan::of(&state, &[]);
        assert_eq!((plan.commit(), plan.is_dirty()), (Some(commit.as_str()), true), "{what}");
        assert_ne!(plan.digest(), clean.digest(), "{what}");
        let text = state.drover(&["plan"]).expect(0).out;
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains(&commit[..10]) && first.contains("dirty"), "{what}:\n{text}");
    }
}

#[test]
fn a_folder_that_git_does_not_know_is_dirty_and_has_no_commit() {
    let state = fleet();
    let plan = Plan::of(&state, &[]);
    assert_eq!((plan.commit(), plan.is_dirty()), (None, true));
    assert!(state.drover(&["plan"]).expect(0).out.contains("not under git"));
    let digest = plan.digest().to_owned();
    state.git(&["init", "--quiet"]);
    let plan = Plan::of(&state, &[]);
    assert_eq!((plan.commit(), plan.is_dirty()), (None, true), "a repository without a commit");
    assert_eq!(plan.digest(), digest, "the digest is of the content");
}

#[test]
fn the_digest_is_that_of_the_content_wherever_it_is_read_from() {
    let state = fleet();
    let unknown = Plan::of(&state, &[]).digest().to_owned();
    let commit = state.commit("all");
    state.git(&["clone", "--quiet", "--bare", ".", "bare.git"]);
    let bare = state.path("bare.git").display().to_string();
    for arguments in [
        vec![],
        vec!["--rev", "main"],
        vec!["--rev", &commit],
        vec!["--repo", "."],
        vec!["--repo", &bare],
        vec!["--repo", &bare, "--rev", "main", "--state", "state"],
    ] {
        assert_eq!(Plan::of(&state, &arguments).digest(), unknown, "{arguments:?}");
    }
}

#[test]
fn a_folder_below_the_repository_and_the_repository_itself_may_be_the_state() {
    let state = fleet();
    state.commit("all");
    let plan = Plan::of(&state, &["--state", "state/."]);
    assert!(!plan.is_dirty());
    let inside = Plan::read(crate::support::run::drover(&state.path("state"), ["plan", "--format", "json"]));
    assert_eq!((inside.commit(), inside.is_dirty()), (plan.commit(), false));
    assert_eq!(inside.digest(), plan.digest());

    let root = State::new();
    for name in ["clusters/prod.yaml", "live.yaml", "nodes/prod/n1.yaml", "nodes/prod/n2.yaml"] {
        root.write(name, state.read(&format!("state/{name}")));
    }
    root.commit("the state is the repository");
    let at_root = Plan::of(&root, &[]);
    assert_eq!((at_root.digest(), at_root.is_dirty()), (plan.digest(), false));
    assert_eq!(Plan::of(&root, &["--rev", "HEAD"]).digest(), plan.digest());
    assert_eq!(Plan::of(&root, &["--repo", "."]).digest(), plan.digest());
}

#[test]
fn a_committed_file_that_is_too_large_is_a_problem_and_no_change() {
    let state = fleet();
    let large = |last: &str| format!("# {}\n{last}\n", "x".repeat(16 << 20));
    state.write("state/large.yaml", large("a")).commit("all");
    let plan = || state.drover(&["plan", "--format", "json"]).expect(1);
    let dirty = |content: Option<String>| {
        if let Some(content) = content {
            state.write("state/large.yaml", content);
        }
        assert!(plan().err.contains("file-size"), "it is a problem");
        plan().json()["state"]["dirty"].as_bool()
    };
    assert_eq!(dirty(None), Some(false));
    assert_eq!(dirty(Some(large("b"))), Some(true), "another content of the same size");
    assert_eq!(dirty(Some(large("longer"))), Some(true), "another size");
    assert_eq!(dirty(Some(large("a"))), Some(false), "as it was");
}

#[test]
fn a_linked_worktree_is_a_working_directory() {
    let state = fleet();
    state.commit("one");
    state.git(&["worktree", "add", "--quiet", "-b", "side", "side"]);
    state.edit("side/state/nodes/prod/n1.yaml", "A100", "T4");
    let side = state.path("side");
    let plan = |arguments: &[&str]| {
        Plan::read(crate::support::run::drover(&side, [&["plan", "--format", "json"], arguments].concat()))
    };
    assert!(plan(&[]).is_dirty());
    assert_eq!(plan(&[]).to("n1", "gpu-type"), Some("T4"));
    let committed = plan(&["--rev", "side"]);
    assert_eq!(committed.to("n1", "gpu-type"), Some("A100"));
    assert_eq!(committed.change("n1", "gpu-type").expect("a change")["source"]["commit"]["summary"], "one");
}

#[test]
fn a_repository_of_someone_else_is_refused_with_advice() {
    let state = fleet();
    state.commit("all");
    let chown = std::process::Command::new("chown").args(["-R", "12345:12345"]).arg(state.root()).output();
    if !chown.expect("chown runs").status.success() {
        return; // only root can give files away
    }
    super::support::fails(state.drover(&["plan"]), &["cannot open the repository around state", "safe.directory"]);
    super::support::fails(state.drover(&["plan", "--repo", "."]), &["cannot open the repository", "safe.directory"]);
}
