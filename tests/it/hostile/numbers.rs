//! Too much of everything.

use super::{LIMIT, NODE, Verdict, judge, sound, with};
use crate::support::limit::drover_within;

#[test]
fn a_file_of_100_megabytes_is_refused_unread() {
    let line = "# drover reads this line not once but never\n";
    let state = with(line.repeat((100 << 20) / line.len() + 1));
    judge(&state).refused("file-size", "x.yaml", 0, "100 MiB; drover reads at most 16 MiB");
}

#[test]
fn ten_thousand_documents_in_one_file_work() {
    let documents =
        (0..10_000).map(|n| format!("{}spec: {{devices: {{cpu: true}}}}\n---\n", NODE.replace("n1", &format!("m{n}"))));
    judge(&with(documents.collect::<String>())).accepted(10_000);
}

#[test]
fn twenty_thousand_keys_given_twice_are_told_once_each_up_to_a_bound() {
    for text in [
        format!("{NODE}spec:\n  labels:\n{}", "    rack: r1\n".repeat(20_000)),
        format!("{NODE}spec:\n  labels:\n{0}{0}", (0..2_000).map(|n| format!("    k{n}: v\n")).collect::<String>()),
        format!("{NODE}spec:\n  labels: {{{}}}\n", vec!["rack: r1"; 2_000].join(", ")),
    ] {
        let verdict = judge(&with(text));
        assert!(!verdict.valid && (1..=102).contains(&verdict.problems.len()), "{} problems", verdict.problems.len());
        assert_eq!(verdict.problems[0]["rule"], "duplicate-key", "{:#}", verdict.problems[0]);
    }
    judge(&with(format!("{NODE}---\n{NODE}"))).refused(
        "duplicate-name",
        "x.yaml",
        7,
        "is defined twice; first in x.yaml:3",
    );
}

#[test]
fn a_hundred_thousand_labels_on_a_node_are_too_many() {
    let labels = |count, value: &str| (0..count).map(|n| format!("    k{n}: {value}\n")).collect::<String>();
    judge(&with(format!("{NODE}spec:\n  labels:\n{}", labels(100_000, "v")))).refused(
        "too-many-labels",
        "x.yaml",
        5,
        "1000",
    );
    let verdict = judge(&with(format!("{NODE}spec:\n  labels:\n{}", labels(10_000, "not a value"))));
    assert!(!verdict.valid && verdict.problems.len() <= 102, "{} problems", verdict.problems.len());
    let verdict = judge(&with(format!("{NODE}spec:\n{}", labels(10_000, "v").replace("    ", "  "))));
    assert!(!verdict.valid && verdict.problems.len() <= 102, "{} problems", verdict.problems.len());
}

#[test]
fn lines_and_values_of_a_megabyte_are_shown_cut() {
    const LONG: usize = 50_000;
    let long = "x".repeat(LONG);
    for (text, rule, line) in [
        (format!("{NODE}spec: {{labels: {{rack: {}}}}}\n", "x".repeat(1 << 20)), "bad-value", 4),
        (format!("{NODE}spec: {{labels: {{ {}rack: 'a b'}}}}\n", " ".repeat(1 << 20)), "bad-value", 4),
        (format!("{NODE}spec:\n  ? {}\n  : 1\n", "x".repeat(1 << 20)), "unknown-field", 5),
        (format!("{NODE}spec: {{group: {long}}}\n"), "bad-value", 4),
        (format!("{NODE}spec: {{{long}: 1}}\n"), "yaml-syntax", 4),
        (format!("{NODE}spec:\n  ? {long}\n  : 1\n"), "unknown-field", 5),
        (format!("{NODE}spec: {{labels: {{? {long} : r1}}}}\n"), "bad-value", 4),
        (format!("{NODE}spec: {{workloads: [{long}]}}\n"), "unknown-value", 4),
        (format!("{NODE}spec: {{workloads: {long}}}\n"), "wrong-type", 4),
        (format!("{NODE}spec: {{shareable: {long}}}\n"), "wrong-type", 4),
        (format!("apiVersion: {long}\nkind: Node\n"), "unknown-version", 1),
        (format!("apiVersion: drover.dev/v1\nkind: {long}\n"), "unknown-kind", 2),
        (format!("? {long}\n: 1\n? {long}\n: 2\n"), "duplicate-key", 3),
        (format!("a: !{long} b\n"), "yaml-tag", 1),
        (format!("a: *{long}\n"), "yaml-syntax", 1),
        (format!("a: [{}\n", "x, ".repeat(LONG / 3)), "yaml-syntax", 2),
        (format!("# {long}\nkind: 5\n"), "missing-field", 2),
    ] {
        let verdict = judge(&with(&text));
        let found = verdict.problems.iter().find(|problem| problem["rule"] == rule);
        let problem = found.unwrap_or_else(|| panic!("no {rule} in {:.60}…: {:.3000}", text, format!("{verdict:#?}")));
        assert!(problem["line"].as_u64().expect("a line").abs_diff(line) <= 1, "{problem:#}");
        for field in ["message", "text", "help"] {
            let length = problem[field].as_str().unwrap_or_default().len();
            assert!(length < 2_000, "{rule}: {field} has {length} bytes");
        }
    }
    judge(&with(format!("{NODE}spec: {{hold: {{until: 2126-01-01, owner: {long}, reason: r}}}} # {long}\n")))
        .accepted(1);
}

#[test]
fn a_culprit_far_to_the_right_is_shown_with_what_stands_around_it() {
    let state = with(format!("{NODE}spec: {{labels: {{ {}rack: 'bad value'}}}}\n", " ".repeat(5_000)));
    let verdict = judge(&state);
    verdict.refused("bad-value", "x.yaml", 4, "is not a label value");
    assert_eq!(verdict.problems[0]["column"], 5_024);
    let text = drover_within(LIMIT, state.root(), &["validate"]).expect(1).out;
    assert!(text.contains("rack: 'bad value'") && text.contains("^^^^^^^^^^^"), "{text}");
    assert!(text.contains("state/x.yaml:4:5024"), "{text}");
}

#[test]
fn a_file_full_of_tiny_values_is_bounded() {
    for unit in ["- a\n", "- []\n", "- {}\n", "---\n", "? a\n", "- &a b\n", "- !!str\n", "- ''\n", "- \"\\n\"\n"] {
        let state = with(unit.repeat((64 << 10) / unit.len()));
        let verdict = Verdict::read(&drover_within(LIMIT, state.root(), &["validate", "--format", "json"]));
        assert!(verdict.problems.len() <= 120, "{unit:?}: {} problems", verdict.problems.len());
    }
    let state = with("- a\n".repeat(1_100_000));
    let verdict = Verdict::read(&drover_within(LIMIT, state.root(), &["validate", "--format", "json"]));
    verdict.refused("file-size", "x.yaml", 999_998, "more than 1000000 keys and values");
}

#[test]
fn problems_without_end_are_told_up_to_a_bound() {
    let verdict = judge(&with("---\na\n".repeat(20_000)));
    assert_eq!(verdict.problems.len(), 1_001);
    assert_eq!((&verdict.problems[0]["rule"], &verdict.problems[0]["line"]), (&"too-many-problems".into(), &0.into()));
    let verdict = judge(&with("---\na: [\n".repeat(20_000)));
    assert_eq!((verdict.problems.len(), &verdict.problems[0]["rule"]), (1_001, &"too-many-problems".into()));
}

#[test]
fn many_broken_files_are_all_told() {
    let state = sound();
    (0..300).for_each(|n| _ = state.write(&format!("state/broken/{n:03}.yaml"), "a: [\n"));
    let verdict = judge_loosely(&state);
    assert_eq!(verdict, 300);
}

/// How many problems there are, as files and as a commit.
fn judge_loosely(state: &crate::support::state::State) -> usize {
    let count = |arguments: &[&str]| {
        let command = [&["validate", "--format", "json"], arguments].concat();
        drover_within(LIMIT, state.root(), &command).expect(1).json()["problems"].as_array().expect("problems").len()
    };
    let folder = count(&[]);
    state.commit("many");
    assert_eq!(count(&["--rev", "HEAD"]), folder);
    folder
}
