//! YAML that is valid in form and hostile in meaning.

use super::{LIMIT, NODE, Verdict, judge, sound, with};
use crate::support::limit::drover_within;

#[test]
fn alias_bombs_are_not_followed() {
    let bomb = |first: &str, open: &str, close: &str| {
        let levels = (1..12).map(|n| {
            let part = |i: usize| if open == "{" { format!("k{i}: *a{}", n - 1) } else { format!("*a{}", n - 1) };
            let parts: Vec<String> = (0..10).map(part).collect();
            format!("  a{n}: &a{n} {open}{}{close}\n", parts.join(", "))
        });
        format!("{NODE}spec:\n  a0: &a0 {first}\n{}", levels.collect::<String>())
    };
    for text in [bomb("[x, x]", "[", "]"), bomb("{x: 1}", "{", "}"), bomb("lol", "[", "]")] {
        judge(&with(text)).refused("yaml-alias", "x.yaml", 10, "the aliases of this file expand to more than");
    }
    let merges: String = (1..40).map(|n| format!("  a{n}: &a{n} {{<<: [*a{0}, *a{0}], k{n}: 1}}\n", n - 1)).collect();
    let verdict = judge(&with(format!("{NODE}spec:\n  a0: &a0 {{k: 1}}\n{merges}")));
    assert!(!verdict.valid, "{verdict:#?}");
    // A long text, repeated by alias: what counts is what it expands to.
    let long = format!("{NODE}spec:\n  a: &a {}\n  b: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 90_000].join(", "));
    assert!(!judge(&with(long)).valid);
    // The bomb starts again in every document of the file.
    let small = format!("{NODE}a: &a [{}]\nb: [{}]\n---\n", vec!["x"; 100].join(", "), vec!["*a"; 500].join(", "));
    assert!(!judge(&with(small.repeat(100))).valid);
}

#[test]
fn aliases_that_a_person_would_use_work() {
    let text = format!(
        "{NODE}spec:\n  labels: &common {{rack: r1, row: \"7\"}}\n---\n{}spec:\n  labels:\n    &key zone: &zone a\n    other: *zone\n",
        NODE.replace("n1", "n2")
    );
    judge(&with(text)).accepted(2);
    judge(&with(format!("{NODE}spec: &a {{labels: *a}}\n"))).refused(
        "yaml-alias",
        "x.yaml",
        4,
        "stands inside the value that it names",
    );
    let verdict = judge(&with(format!(
        "{NODE}spec: {{labels: &a {{x: y}}}}\n---\n{}spec: {{labels: *a}}\n",
        NODE.replace("n1", "n2")
    )));
    verdict.refused("yaml-syntax", "x.yaml", 9, "unknown anchor");
}

#[test]
fn merge_keys_work_and_bad_ones_are_named() {
    let merged = format!("{NODE}spec:\n  labels: {{<<: [{{rack: r1}}, {{rack: r2, row: a}}], zone: z}}\n");
    judge(&with(merged)).accepted(1);
    judge(&with(format!("{NODE}spec: {{<<: {{shareable: true}}}}\n"))).accepted(1);
    judge(&with(format!("{NODE}spec: {{<<: 5}}\n"))).refused("yaml-merge", "x.yaml", 4, "merges a mapping");
    judge(&with(format!("{NODE}spec: {{<<: [{{}}, 5]}}\n"))).refused("yaml-merge", "x.yaml", 4, "merges a mapping");
    let unknown = judge(&with(format!("{NODE}spec:\n  <<: {{grup: ads}}\n")));
    unknown.refused("unknown-field", "x.yaml", 5, "did you mean `group`?");
}

#[test]
fn deep_nesting_is_refused_where_it_becomes_too_deep() {
    const DEEP: usize = 100_000;
    for (what, text, line) in [
        ("flow lists", "[".repeat(DEEP), 1),
        ("closed flow lists", format!("a: {}{}", "[".repeat(DEEP), "]".repeat(DEEP)), 1),
        ("flow mappings", "{a: ".repeat(DEEP), 1),
        ("flow lists over lines", "[\n".repeat(DEEP), 65),
        ("mixed", "[{a: ".repeat(DEEP), 1),
        ("block lists", "- ".repeat(DEEP), 1),
        ("below a node", format!("{NODE}spec:\n  labels: {}", "[".repeat(DEEP)), 5),
        // Deeper block mappings need ever more spaces: 5,000 levels are 12 MB.
        ("block mappings", (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(), 65),
    ] {
        let verdict = judge(&with(text));
        assert!(!verdict.valid && verdict.problems.len() == 1, "{what}: {verdict:#?}");
        let problem = &verdict.problems[0];
        assert_eq!(
            (problem["file"].as_str(), problem["rule"].as_str()),
            (Some("x.yaml"), Some("yaml-depth")),
            "{what}: {problem:#}"
        );
        let found = problem["line"].as_u64().expect("a line");
        assert!(found.abs_diff(line) <= 1, "{what}: {problem:#}");
    }
    let nested = format!("a0: &a0 {0}x{1}\n", "[".repeat(60), "]".repeat(60));
    let by_alias = format!("{nested}a1: &a1 {0}*a0{1}\n", "[".repeat(60), "]".repeat(60));
    judge(&with(by_alias)).refused("yaml-depth", "x.yaml", 2, "nested more than");
}

#[test]
fn what_a_broken_document_costs_stays_with_it() {
    let text = format!("a: [1\nb: }}\n---\n{NODE}---\n{}x: 1\n", NODE.replace("n1", "n2"));
    let verdict = judge(&with(text));
    let lines: Vec<u64> = verdict.problems.iter().map(|problem| problem["line"].as_u64().expect("a line")).collect();
    assert_eq!((verdict.documents, lines.len()), (3, 2), "{verdict:#?}");
    let state = with("a: [\n");
    state.write("state/y.yaml", NODE);
    let verdict = judge(&state);
    assert_eq!((verdict.documents, verdict.problems.len()), (3, 1), "{verdict:#?}");
}

#[test]
fn documents_of_the_wrong_kind_are_named() {
    for (text, rule, line) in [
        ("[1, 2]\n", "wrong-type", 1),
        ("just text\n", "wrong-type", 1),
        ("42\n", "wrong-type", 1),
        ("true\n", "wrong-type", 1),
        ("---\n---\n- a\n", "wrong-type", 3),
        ("{}\n", "missing-field", 1),
        ("apiVersion: v1\nkind: ConfigMap\n", "unknown-version", 1),
        ("apiVersion: 1\nkind: Node\n", "wrong-type", 1),
        ("apiVersion: drover.dev/v1\nkind: [Node]\n", "wrong-type", 2),
        ("apiVersion: drover.dev/v1\nkind: Machine\n", "unknown-kind", 2),
        ("apiVersion: drover.dev/v1\nkind: Node\nmetadata: 5\n", "wrong-type", 3),
        ("apiVersion: drover.dev/v1\nkind: Node\nmetadata:\n", "missing-field", 3),
        ("!!python/object:os.system {a: b}\n", "yaml-tag", 1),
        ("!secret text\n", "yaml-tag", 1),
        ("? [a, b]\n: c\n", "yaml-key", 1),
        (&"? ".repeat(100_000), "yaml-key", 1),
        ("? {a: b}\n: c\n", "yaml-key", 1),
        ("%YAML 3.0\n---\na: b\n", "yaml-syntax", 1),
        ("a: 'not closed\n", "yaml-syntax", 1),
        ("a: \"\\z\"\n", "yaml-syntax", 1),
        ("a: @b\n", "yaml-syntax", 1),
        ("a: b: c\n", "yaml-syntax", 1),
        ("a: |9\n x\n", "yaml-syntax", 2),
        ("- a\nb: c\n", "yaml-syntax", 2),
        ("# a comment\n...\nb\n...\nc: [\n", "wrong-type", 3),
    ] {
        let verdict = Verdict::read(&drover_within(LIMIT, with(text).root(), &["validate", "--format", "json"]));
        let first = verdict.problems.first().unwrap_or_else(|| panic!("{text:?} is accepted"));
        assert_eq!((&first["rule"], &first["file"]), (&rule.into(), &"x.yaml".into()), "{text:?}: {first:#}");
        assert!(first["line"].as_u64().expect("a line").abs_diff(line) <= 1, "{text:?}: {first:#}");
    }
}

#[test]
fn a_file_without_documents_is_no_problem() {
    let state = sound();
    for (index, text) in
        ["", "\n\n", "# only a comment\n", "---\n", "---\n---\n# x\n...\n", "~\n", "\u{feff}", "%YAML 1.2\n---\n"]
            .iter()
            .enumerate()
    {
        state.write(&format!("state/{index}.yaml"), text);
    }
    judge(&state).accepted(0);
}
