//! Every planned change names the line that asks for it, and the commit that wrote that line.

use serde_json::Value;

use super::support::{Plan, fails, live};
use crate::support::state::State;

const N1: &str = "state/nodes/prod/n1.yaml";

/// Commits everything as someone at some time.
fn commit(state: &State, author: &str, date: &str, message: &str) -> String {
    state.git(&["add", "--all"]);
    let author = format!("{author} <someone@example.org>");
    state.git(&["commit", "--quiet", "--author", &author, "--date", date, "--message", message]);
    state.git(&["rev-parse", "HEAD"])
}

/// One node whose document three people wrote: `gpu` by Ann, `rack` by Bob, `cpu` by Cid.
fn three_authors() -> (State, [String; 3]) {
    let state = State::new();
    state.git(&["init", "--quiet"]);
    state.cluster("prod", "{file: live.yaml}").write("state/live.yaml", live(&["n1"]));
    let head = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n1, cluster: prod}\n";
    state.write(N1, format!("{head}spec:\n  devices:\n    gpu: A100\n"));
    let one = commit(&state, "Ann Ä.", "2026-01-02T03:04:05Z", "add n1\n\nwith more words below");
    state.edit(N1, "    gpu: A100\n", "    gpu: A100\n  labels:\n    rack: r1\n");
    let two = commit(&state, "Bob", "2026-02-03T23:30:00-05:00", "say where it stands");
    state.edit(N1, "    gpu: A100\n", "    cpu: true\n    gpu: A100\n");
    let three = commit(&state, "Cid", "2026-03-04T05:06:07Z", "cpu work may land there");
    (state, [one, two, three])
}

/// File, line, and author, date and summary of the commit of a label's change.
fn source(plan: &Plan, key: &str) -> (String, u64, Option<[String; 4]>) {
    let source = &plan.change("n1", key).unwrap_or_else(|| panic!("no change of {key}: {plan:?}"))["source"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let commit =
        source.get("commit").map(|commit| ["id", "author", "date", "summary"].map(|field| text(&commit[field])));
    (text(&source["file"]), source["line"].as_u64().expect("a line"), commit)
}

fn by(id: &str, author: &str, date: &str, summary: &str) -> Option<[String; 4]> {
    Some([&id[..10], author, date, summary].map(str::to_owned))
}

#[test]
fn each_line_names_the_commit_that_wrote_it() {
    let (state, [one, two, three]) = three_authors();
    for arguments in [&[][..], &["--rev", "HEAD"], &["--repo", "."]] {
        let plan = Plan::of(&state, arguments);
        let file = "nodes/prod/n1.yaml".to_owned();
        assert_eq!(source(&plan, "cpu"), (file.clone(), 6, by(&three, "Cid", "2026-03-04", "cpu work may land there")));
        assert_eq!(source(&plan, "gpu"), (file.clone(), 7, by(&one, "Ann Ä.", "2026-01-02", "add n1")));
        assert_eq!(source(&plan, "gpu-type"), source(&plan, "gpu"));
        assert_eq!(source(&plan, "rack"), (file, 9, by(&two, "Bob", "2026-02-04", "say where it stands")));
    }
    let text = state.drover(&["plan"]).expect(0).out;
    assert!(text.contains(&format!("nodes/prod/n1.yaml:6 ({} Cid, 2026-03-04)", &three[..10])), "{text}");
    let text = state.drover(&["plan", "--no-blame"]).expect(0).out;
    assert!(text.contains("nodes/prod/n1.yaml:6") && !text.contains("Cid"), "{text}");
}

#[test]
fn an_older_revision_names_the_commits_of_its_time() {
    let (state, [one, two, _]) = three_authors();
    let plan = Plan::of(&state, &["--rev", &two]);
    assert_eq!(source(&plan, "gpu").1, 6);
    assert_eq!(source(&plan, "gpu").2, by(&one, "Ann Ä.", "2026-01-02", "add n1"));
    assert!(plan.change("n1", "cpu").is_none());
}

#[test]
fn lines_that_are_not_committed_have_no_commit_and_the_others_keep_theirs() {
    let (state, [one, two, three]) = three_authors();
    state.edit(N1, "kind: Node\n", "kind: Node\n# a comment\n# and another\n");
    state.edit(N1, "rack: r1", "rack: r2");
    state.edit(N1, "  labels:\n", "  labels:\n    row: a\n");
    let plan = Plan::of(&state, &[]);
    assert_eq!(
        source(&plan, "cpu"),
        ("nodes/prod/n1.yaml".into(), 8, by(&three, "Cid", "2026-03-04", "cpu work may land there"))
    );
    assert_eq!((source(&plan, "gpu").1, source(&plan, "gpu").2), (9, by(&one, "Ann Ä.", "2026-01-02", "add n1")));
    assert_eq!((source(&plan, "row").1, source(&plan, "row").2), (11, None));
    assert_eq!((source(&plan, "rack").1, source(&plan, "rack").2), (12, None));
    let committed = Plan::of(&state, &["--rev", "HEAD"]);
    assert_eq!(source(&committed, "rack").2, by(&two, "Bob", "2026-02-04", "say where it stands"));

    let (state, _) = three_authors();
    state.edit(N1, "\n", "\r\n");
    let plan = Plan::of(&state, &[]);
    assert_eq!(source(&plan, "gpu").2, None, "every line end was changed");
}

#[test]
fn files_that_git_does_not_know_have_no_commit() {
    let (state, _) = three_authors();
    state.git(&["mv", N1, "state/nodes/prod/renamed.yaml"]);
    let plan = Plan::of(&state, &[]);
    assert_eq!(source(&plan, "gpu"), ("nodes/prod/renamed.yaml".into(), 7, None));
    state.node("prod", "absent", "{}");
    let absent = &Plan::of(&state, &[]).0["clusters"][0]["absent"][0];
    assert_eq!((absent["node"].as_str(), absent["source"].get("commit")), (Some("absent"), None));
}

#[test]
fn a_renamed_file_keeps_the_commits_of_its_lines() {
    let (state, [one, _, three]) = three_authors();
    state.git(&["mv", N1, "state/all.yaml"]);
    let four = commit(&state, "Dee", "2026-04-05T06:07:08Z", "one file");
    state.edit("state/all.yaml", "r1", "r2");
    let five = commit(&state, "Eve", "2026-05-06T07:08:09Z", "it moved");
    assert_ne!(four, five);
    let plan = Plan::of(&state, &[]);
    assert_eq!(source(&plan, "gpu"), ("all.yaml".into(), 7, by(&one, "Ann Ä.", "2026-01-02", "add n1")));
    assert_eq!(source(&plan, "cpu").2, by(&three, "Cid", "2026-03-04", "cpu work may land there"));
    assert_eq!(source(&plan, "rack").2, by(&five, "Eve", "2026-05-06", "it moved"));
    // The folder of the state was renamed as a whole.
    state.git(&["mv", "state", "fleet"]);
    commit(&state, "Fay", "2026-06-07T08:09:10Z", "another folder");
    for arguments in [&["--state", "fleet"][..], &["--state", "fleet", "--rev", "HEAD"]] {
        assert_eq!(
            source(&Plan::of(&state, arguments), "cpu").2,
            by(&three, "Cid", "2026-03-04", "cpu work may land there")
        );
    }
}

#[test]
fn a_merge_does_not_take_the_lines_it_brings() {
    let (state, [_, _, three]) = three_authors();
    state.git(&["checkout", "--quiet", "-b", "side", "HEAD~1"]);
    state.edit(N1, "rack: r1", "rack: r7");
    let side = commit(&state, "Sue", "2026-04-01T00:00:00Z", "on the side");
    state.git(&["checkout", "--quiet", "main"]);
    state.git(&["merge", "--quiet", "--no-ff", "--message", "merge side", "side"]);
    let plan = Plan::of(&state, &[]);
    assert_eq!(source(&plan, "rack").2, by(&side, "Sue", "2026-04-01", "on the side"));
    assert_eq!(source(&plan, "cpu").2, by(&three, "Cid", "2026-03-04", "cpu work may land there"));
}

#[test]
fn a_removal_names_the_document_that_does_not_ask() {
    let (state, [one, ..]) = three_authors();
    state.write("state/live.yaml", "kind: NodeList\nitems:\n- metadata: {name: n1, labels: {train: \"true\"}}\n");
    let plan = Plan::of(&state, &[]);
    assert_eq!(source(&plan, "train"), ("nodes/prod/n1.yaml".into(), 3, by(&one, "Ann Ä.", "2026-01-02", "add n1")));
    state.node("prod", "n9", "{}");
    commit(&state, "Dee", "2026-04-05T06:07:08Z", "n9 will join");
    let absent = &Plan::of(&state, &[]).0["clusters"][0]["absent"][0];
    assert_eq!((&absent["node"], &absent["source"]["commit"]["author"]), (&"n9".into(), &"Dee".into()));
}

#[test]
fn names_in_history_reach_no_terminal_unfiltered() {
    let (state, _) = three_authors();
    state.edit(N1, "rack: r1", "rack: r2");
    commit(&state, "Mallory \u{1b}[31m\u{9b}2J", "2026-07-08T09:10:11Z", "red \u{1b}]0;title\u{7} alert");
    for format in ["text", "markdown", "html", "json"] {
        let ran = state.drover(&["--color", "always", "plan", "--full", "--format", format]).expect(0);
        let foreign = ["Mallory \u{1b}", "\u{1b}]", "\u{9b}", "\u{7}"];
        assert!(!foreign.iter().any(|sequence| ran.out.contains(sequence)), "{format}: {:?}", ran.out);
        assert!(ran.out.contains("Mallory"), "{format}: {}", ran.out);
    }
}

#[test]
fn history_that_is_cut_off_is_no_error() {
    let (state, [.., three]) = three_authors();
    let address = format!("file://{}", state.root().display());
    state.git(&["clone", "--quiet", "--depth", "1", &address, "shallow"]);
    let plan = Plan::of(&state, &["--repo", "shallow"]);
    let commit = source(&plan, "gpu").2.expect("a commit");
    assert_eq!(commit[0], three[..10], "the oldest commit that is known");
    fails(state.drover(&["plan", "--repo", "shallow", "--rev", "HEAD~1"]), &["there is no revision \"HEAD~1\""]);
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn a_long_history_is_told_as_git_tells_it() {
    let (state, _) = three_authors();
    let mut numbers = Numbers(7);
    let mut labels: Vec<String> = (0..40).map(|number| format!("    l{number}: v{number}")).collect();
    let head = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n1, cluster: prod}\nspec:\n  labels:\n";
    let file = |labels: &[String]| format!("{head}{}\n", labels.join("\n"));
    for round in 0..25 {
        for edit in 0..=numbers.below(4) {
            let (at, name) = (numbers.below(labels.len()), |part| format!("    r{round}e{edit}p{part}: x"));
            match numbers.below(4) {
                0 => labels.insert(at, name(0)),
                1 => drop(labels.remove(at)),
                2 => drop(labels.splice(at..at, (0..3).map(name))),
                _ => labels[at] = name(0),
            }
        }
        state.write(N1, file(&labels));
        commit(&state, "Ann", &format!("2026-03-05T00:{round:02}:00Z"), &format!("round {round}"));
    }
    labels[3] = "    uncommitted: one".to_owned();
    labels.insert(20, "    uncommitted-2: two".to_owned());
    labels.remove(30);
    state.write(N1, file(&labels));
    let blamed = state.git(&["blame", "-s", "--abbrev=9", N1]);
    let expected: Vec<Option<&str>> =
        blamed.lines().map(|line| Some(&line[..10]).filter(|id| !id.starts_with("00000"))).collect();
    let plan = Plan::of(&state, &[]);
    for (index, label) in labels.iter().enumerate() {
        let key = label.trim_start().split(':').next().expect("a key");
        let (_, line, commit) = source(&plan, key);
        assert_eq!(line as usize, index + 6, "{key}");
        assert_eq!(commit.map(|commit| commit[0].clone()).as_deref(), expected[index + 5], "{key} in line {line}");
    }
}
