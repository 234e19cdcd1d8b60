//! Every example does what it is there to show. Snapshots are the expected output; `cargo insta review` mends them.

use std::fs;
use std::path::Path;

use crate::support::run::{Ran, drover};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A run as a person sees it, without the commits of this checkout and what depends on the day.
fn shown(ran: &Ran) -> String {
    let text = format!("{}{}exit code {}\n", ran.err, ran.out, ran.code);
    text.lines()
        .map(|line| match line.strip_prefix("state: ").and_then(|rest| rest.split_once(" @ ")) {
            Some((source, _)) => format!("state: {source} @ REVISION\n"),
            None => match line.split_once("; the next one opens at ") {
                Some((before, _)) => format!("{before}; the next one opens at MOMENT\n"),
                None => format!("{line}\n"),
            },
        })
        .collect()
}

#[test]
fn the_example_state_has_a_meaningful_plan() {
    drover(root(), ["validate"]).expect(0);
    let plan = drover(root(), ["plan", "--no-blame"]).expect(0);
    insta::assert_snapshot!("state-plan", shown(&plan));
    insta::assert_snapshot!("state-status", shown(&drover(root(), ["status"]).expect(0)));
    assert_eq!(drover(root(), ["plan", "--no-blame", "--detailed-exitcode"]).code, 2);
}

#[test]
fn focused_examples_show_what_they_say() {
    for (name, code) in [
        ("one-machine", 0),
        ("expansion", 0),
        ("several-groups", 0),
        ("several-clusters", 0),
        ("guarded", 3),
        ("maintenance", 3),
        ("kubelet", 3),
        ("bootstrap", 0),
    ] {
        let state = format!("examples/{name}/state");
        drover(root(), ["validate", "--state", &state]).expect(0);
        let plan = drover(root(), ["plan", "--no-blame", "--state", &state]).expect(code);
        insta::assert_snapshot!(format!("plan-{name}"), shown(&plan));
        let readme = fs::read_to_string(root().join("examples").join(name).join("README.md")).expect("a README");
        assert!(readme.contains(&format!("--state {state}")), "examples/{name}/README.md does not give its command");
    }
}

#[test]
fn invalid_examples_get_their_messages() {
    let mut folders: Vec<_> =
        fs::read_dir(root().join("examples/invalid")).expect("examples").map(|e| e.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 20, "{folders:?}");
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let state = format!("examples/invalid/{name}");
        let ran = drover(root(), ["validate", "--state", &state]);
        let valid = ["expired-hold", "merge-key", "twin-clusters"].contains(&name.as_str());
        assert_eq!(ran.code == 0, valid, "{name}: {}", ran.out);
        insta::assert_snapshot!(format!("invalid-{name}"), shown(&ran));
        says_where_and_what_to_do(&state);
    }
}

/// Each problem shows its line with the culprit, and what to do about it.
fn says_where_and_what_to_do(state: &str) {
    let report = drover(root(), ["validate", "--state", state, "--format", "json"]).json();
    for problem in report["problems"].as_array().expect("problems") {
        let number = |field: &str| problem[field].as_u64().expect("a number") as usize;
        let file =
            fs::read_to_string(root().join(state).join(problem["file"].as_str().expect("a file"))).expect("text");
        let line = file.lines().nth(number("line") - 1).expect("its line");
        match problem["rule"] == "secret-in-state" {
            // What should not be in the state is not said once more.
            true => assert!(problem["text"].as_str().is_some_and(|text| text != line && text.contains("***"))),
            false => assert_eq!(problem["text"], line.replace('\t', "␉"), "{problem:#}"),
        }
        assert!(number("column") > 0 && number("length") > 0, "{problem:#}");
        assert!(number("column") - 1 + number("length") <= line.chars().count().max(1), "{problem:#}");
        assert!(problem["help"].as_str().is_some_and(|help| !help.is_empty()), "{problem:#}");
    }
}
