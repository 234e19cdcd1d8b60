//! Revisions of repositories on this machine.

use std::fs;

use super::support::{Plan, fails, fleet};
use crate::support::run;
use crate::support::state::State;

/// Three commits: `A100` (tag `v1`), `T4` (annotated tag `v2`), `V100` on a branch `next`; the last is checked out.
fn history() -> (State, [String; 3]) {
    let state = fleet();
    let one = state.commit("one");
    state.git(&["tag", "v1"]);
    let two = state.edit("state/nodes/prod/n1.yaml", "A100", "T4").commit("two");
    state.git(&["tag", "--annotate", "v2", "--message", "the second"]);
    state.git(&["checkout", "--quiet", "-b", "next"]);
    let three = state.edit("state/nodes/prod/n1.yaml", "T4", "V100").commit("three");
    (state, [one, two, three])
}

fn gpu(plan: &Plan) -> &str {
    plan.to("n1", "gpu-type").expect("a GPU model")
}

#[test]
fn branches_tags_commits_and_expressions_name_a_revision() {
    let (state, [one, two, three]) = history();
    state.edit("state/nodes/prod/n1.yaml", "V100", "not-committed");
    for (revision, commit, model) in [
        ("main", &two, "T4"),
        ("next", &three, "V100"),
        ("refs/heads/next", &three, "V100"),
        ("v1", &one, "A100"),
        ("v2", &two, "T4"),
        ("HEAD", &three, "V100"),
        ("HEAD~1", &two, "T4"),
        ("next~2", &one, "A100"),
        ("v2^{}", &two, "T4"),
        (&one, &one, "A100"),
        (&two[..8], &two, "T4"),
    ] {
        for repository in [&[][..], &["--repo", "."], &["--repo", &format!("file://{}", state.root().display())]] {
            let plan = Plan::of(&state, &[repository, &["--rev", revision]].concat());
            assert_eq!((plan.commit(), gpu(&plan)), (Some(commit.as_str()), model), "{revision} {repository:?}");
            assert!(!plan.is_dirty(), "a revision is never dirty");
        }
    }
}

#[test]
fn no_checkout_is_needed() {
    let (state, [.., three]) = history();
    fs::remove_dir_all(state.path("state")).expect("a folder");
    let absolute = state.path("state").display().to_string();
    for arguments in
        [&["--rev", "HEAD"][..], &["--rev", "HEAD", "--state", "state"], &["--rev", "HEAD", "--state", &absolute]]
    {
        let plan = Plan::of(&state, arguments);
        assert_eq!((plan.commit(), gpu(&plan)), (Some(three.as_str()), "V100"), "{arguments:?}");
    }
    assert_eq!(gpu(&Plan::of(&state, &["--repo", "."])), "V100", "what is checked out, without --rev");
    let message = "there is no state here";
    fails(state.drover(&["plan"]), &[message, "drover import"]);
}

#[test]
fn a_bare_repository_is_read_by_path_and_by_address() {
    let (state, [_, two, three]) = history();
    state.git(&["clone", "--quiet", "--bare", ".", "fleet.git"]);
    let path = state.path("fleet.git").display().to_string();
    for repository in ["fleet.git", "./fleet.git", &path, &format!("file://{path}")] {
        let plan = Plan::of(&state, &["--repo", repository]);
        assert_eq!((plan.commit(), gpu(&plan)), (Some(three.as_str()), "V100"), "{repository}");
        assert_eq!(plan.0["state"]["source"], *repository);
        assert_eq!(Plan::of(&state, &["--repo", repository, "--rev", "main"]).commit(), Some(two.as_str()));
    }
    state.drover(&["validate", "--repo", "fleet.git"]).expect(0);
    assert!(!state.path(".cache").exists(), "what lies on this machine is not copied");
}

#[test]
fn the_state_may_lie_in_any_folder_of_the_repository() {
    let state = fleet();
    state.commit("one");
    state.git(&["mv", "state", "deep"]);
    state.write("other/x", "y").git(&["mv", "deep", "other/fleet"]);
    state.commit("moved");
    assert_eq!(gpu(&Plan::of(&state, &["--repo", ".", "--state", "other/fleet"])), "A100");
    assert_eq!(gpu(&Plan::of(&state, &["--repo", ".", "--state", "./other/../other/fleet/"])), "A100");
    assert_eq!(gpu(&Plan::of(&state, &["--rev", "HEAD", "--state", "other/fleet"])), "A100");
    // From inside a folder, --state and the state found there are relative to it.
    let other = state.path("other");
    for arguments in
        [&["plan", "--rev", "HEAD", "--state", "fleet"][..], &["plan", "--rev", "HEAD~1", "--state", "../state"]]
    {
        let plan = Plan::read(run::drover(&other, [arguments, &["--format", "json"]].concat()));
        assert_eq!(gpu(&plan), "A100", "{arguments:?}");
    }
    // The folder of an earlier revision is gone from this one, and the other way round.
    assert_eq!(gpu(&Plan::of(&state, &["--rev", "HEAD~1", "--state", "state"])), "A100", "only in the revision");
    let (now, before) = (state.git(&["rev-parse", "HEAD"]), state.git(&["rev-parse", "HEAD~1"]));
    fails(
        state.drover(&["plan", "--rev", "HEAD", "--state", "state"]),
        &[&format!("commit {} has no folder state", &now[..10]), "--state"],
    );
    fails(
        state.drover(&["plan", "--rev", "HEAD~1", "--state", "other/fleet"]),
        &[&format!("commit {} has no folder other/fleet", &before[..10])],
    );
}

#[test]
fn what_a_revision_cannot_give_is_said() {
    let (state, _) = history();
    let root = state.root().display().to_string();
    for revision in ["nope", "v3", "0123456789", "HEAD~99", "", "main:state", "@{u}", "a b"] {
        let ran =
            fails(state.drover(&["plan", "--rev", revision]), &["there is no revision", &format!("{revision:?}")]);
        assert!(ran.err.contains(&root) && ran.out.is_empty(), "{revision}: {}", ran.err);
    }
    fails(
        state.drover(&["plan", "--repo", ".", "--state", "../elsewhere"]),
        &["../elsewhere leads out of the repository"],
    );
    fails(state.drover(&["plan", "--repo", "nowhere"]), &["cannot open the repository nowhere"]);
    fails(state.drover(&["plan", "--repo", "state"]), &["cannot open the repository state"]);
    fails(state.drover(&["plan", "--repo", ".", "--state", "state/live.yaml"]), &["has no folder state/live.yaml"]);
    fails(State::new().drover(&["plan", "--rev", "HEAD"]), &["is not in a git repository", "--repo"]);
    fails(fleet().drover(&["plan", "--rev", "HEAD"]), &["state is not in a git repository", "--repo"]);
}

#[test]
fn a_repository_without_commits_is_said_to_be_empty() {
    let state = fleet();
    state.git(&["init", "--quiet"]);
    state.git(&["init", "--quiet", "--bare", "empty.git"]);
    for arguments in [
        &["--rev", "HEAD"][..],
        &["--rev", "main"],
        &["--repo", "empty.git"],
        &["--repo", "empty.git", "--rev", "main"],
    ] {
        fails(
            state.drover(&[&["plan"], arguments].concat()),
            &["there is no revision", "the repository has no commit yet"],
        );
    }
    assert_eq!(gpu(&Plan::of(&state, &[])), "A100", "its files are still a state");
}

#[test]
fn every_command_that_reads_a_state_takes_a_revision() {
    let (state, [one, ..]) = history();
    let text = state.drover(&["validate", "--rev", "v1"]).expect(0).out;
    assert!(text.contains("valid: 3 files, 3 documents"), "{text}");
    let text = state.drover(&["explain", "n1", "--rev", "v1"]).expect(0).out;
    assert!(text.contains("A100") && text.contains(&one[..10]), "{text}");
    let text = state.drover(&["status", "--rev", "v1"]).expect(0).out;
    assert!(text.contains(&one[..10]), "{text}");
}

#[test]
fn a_revision_may_be_named_from_inside_a_bare_repository() {
    let (state, [.., three]) = history();
    state.git(&["clone", "--quiet", "--bare", ".", "bare.git"]);
    for folder in ["bare.git", "bare.git/refs"] {
        for arguments in [&["--rev", "next"][..], &["--rev", "next", "--state", "state"]] {
            let plan = [&["plan", "--format", "json"], arguments].concat();
            let plan = Plan::read(run::drover(&state.path(folder), plan));
            assert_eq!((plan.commit(), gpu(&plan)), (Some(three.as_str()), "V100"), "{folder} {arguments:?}");
        }
    }
    fails(run::drover(&state.path("bare.git"), ["plan"]), &["there is no state here"]);
}

#[test]
fn problems_name_files_from_the_root_of_the_repository() {
    let state = fleet();
    state.edit("state/nodes/prod/n1.yaml", "devices", "divices").commit("a typo");
    for arguments in [&[][..], &["--repo", "."], &["--rev", "HEAD"], &["--repo", ".", "--state", "state"]] {
        let ran = state.drover(&[&["validate"], arguments].concat()).expect(1);
        assert!(ran.out.contains("state/nodes/prod/n1.yaml:4:"), "{arguments:?}: {}", ran.out);
        let ran = state.drover(&[&["plan"], arguments].concat()).expect(1);
        assert!(ran.err.contains("state/nodes/prod/n1.yaml:4:"), "{arguments:?}: {}", ran.err);
    }
}
