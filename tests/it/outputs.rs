//! What a person reads, as snapshots: help, formats, errors.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::run::{drover, finish};
use crate::support::state::State;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn help_is_good_enough_to_need_no_manual() {
    insta::assert_snapshot!("help", drover(root(), ["--help"]).expect(0).out);
    for command in [
        "validate",
        "plan",
        "diff",
        "apply",
        "run",
        "status",
        "explain",
        "agent",
        "audit",
        "bootstrap",
        "import",
        "move",
        "rebalance",
        "snapshot",
        "backtest",
        "schema",
        "completions",
    ] {
        insta::assert_snapshot!(format!("help-{command}"), drover(root(), [command, "--help"]).expect(0).out);
    }
    let mut agent = Command::new(env!("CARGO_BIN_EXE_drover-agent"));
    insta::assert_snapshot!(
        "help-drover-agent",
        finish(agent.arg("--help").env_clear().env("COLUMNS", "110")).expect(0).out
    );
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = drover(root(), ["completions", shell]).expect(0).out;
        assert!(script.contains("drover") && script.contains("validate"), "{shell}");
    }
}

/// A state of two clusters, one in trouble with every guard that a dump can show.
fn troubled() -> State {
    let state = State::new();
    state.write(
        "live.yaml",
        "apiVersion: v1\nkind: List\nitems:\n\
         - {kind: Node, metadata: {name: n-1, labels: {mysql: 'true', org: ads, \"note\": \"a|b`c`\"}}}\n\
         - {kind: Node, metadata: {name: n-2, labels: {org: ads}}}\n\
         - {kind: Node, metadata: {name: stray}}\n\
         - {kind: Pod, metadata: {name: db-0, namespace: infra}, spec: {nodeName: n-1, nodeSelector: {mysql: 'true'}}, status: {phase: Running}}\n",
    );
    state.cluster("prod", "{file: ../live.yaml}").cluster("lost", "{file: ../nowhere.yaml}").group("ads").group("web");
    state.node("prod", "n-1", "{group: web, devices: {cpu: true}}").node("prod", "n-2", "{group: ads}").node(
        "prod",
        "n-3",
        "{group: web}",
    );
    state
}

fn without_revision(text: &str) -> String {
    let mut settings = Vec::new();
    for line in text.lines() {
        let line = match line.find("looked at ") {
            Some(at) => {
                format!("{}looked at TIME{}", &line[..at], line[at..].find(". <").map_or("", |end| &line[at + end..]))
            }
            None => line.to_owned(),
        };
        settings.push(line);
    }
    settings.join("\n") + "\n"
}

#[test]
fn every_format_of_a_plan_tells_the_same() {
    let state = troubled();
    let run = |format: &str| state.drover(&["plan", "--format", format]).expect(1).out;
    insta::assert_snapshot!("plan-text", run("text"));
    insta::assert_snapshot!("plan-markdown", run("markdown"));
    insta::assert_snapshot!("plan-html", without_revision(&run("html")));
    let json = state.drover(&["plan", "--format", "json"]).expect(1).json();
    insta::assert_json_snapshot!("plan-json", json, { ".observedAt" => "TIME", ".state.digest" => "DIGEST" });
}

#[test]
fn a_plan_is_saved_wherever_a_person_wants_it() {
    let state = troubled();
    let save =
        |to: &str| state.drover(&["plan", "--cluster", "prod", "--no-blame", "--format", "markdown", "--out", to]);
    let is_plan = |text: &str| {
        let plan: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(plan["version"], "drover.dev/plan/v1");
    };
    let ran = save("/dev/stdout").expect(3);
    is_plan(&ran.out[ran.out.find("{\n").expect("JSON after Markdown")..]);

    // A link stays a link, and a pipe a pipe.
    std::fs::create_dir(state.path("out")).expect("a folder");
    state.write("out/real.json", "old");
    std::os::unix::fs::symlink("out/real.json", state.path("link.json")).expect("a link");
    save("link.json").expect(3);
    assert!(state.path("link.json").is_symlink());
    is_plan(&state.read("out/real.json"));
    let pipe = state.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).expect("read"));
    save("pipe").expect(3);
    is_plan(&reader.join().expect("read"));

    let nowhere = save("nowhere/plan.json").expect(1).err;
    assert!(nowhere.contains("cannot write nowhere/plan.json: there is no folder nowhere"), "{nowhere}");
    assert!(save("out").expect(1).err.contains("cannot write out: "));
    // Others may read it as they may read any new file.
    save("plan.json").expect(3);
    let mode = |name: &str| std::fs::metadata(state.path(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode("plan.json"), mode("live.yaml"));
}

#[test]
fn colours_are_for_terminals_only() {
    let state = troubled();
    assert!(!state.drover(&["plan"]).out.contains('\u{1b}'));
    assert!(state.drover(&["plan", "--color", "always"]).out.contains('\u{1b}'));
}

#[test]
fn a_comment_on_a_pull_request_is_never_too_long_and_shows_the_worst_first() {
    let state = State::new();
    state.group("ads");
    for cluster in 0..40 {
        let name = format!("c-{cluster:02}");
        let mut live = String::from("kind: List\nitems:\n");
        let mut nodes = String::new();
        for node in 0..60 {
            // Every node differs from every other, so that none can be shown together.
            live += &format!(
                "- {{kind: Node, metadata: {{name: n-{node}, labels: {{mysql: 'true', rack: old-{node}}}}}}}\n"
            );
            nodes += &format!(
                "---\napiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: n-{node}, cluster: {name}}}\nspec: {{group: ads, labels: {{rack: r-{node}}}{}}}\n",
                if cluster == 39 { "" } else { ", platform: [mysql]" }
            );
        }
        state.write(&format!("live/{name}.yaml"), live).write(&format!("state/nodes/{name}.yaml"), nodes);
        state.cluster(&name, &format!("{{file: ../live/{name}.yaml}}"));
    }
    let markdown = state.drover(&["plan", "--format", "markdown"]).expect(3).out;
    let length = markdown.chars().count();
    assert!((50_000..65_536).contains(&length), "{length} characters");
    assert_eq!(markdown.matches("<details").count(), markdown.matches("</details>").count());
    assert_eq!(markdown.matches("<details").count(), 40, "every cluster keeps its heading");
    let first = markdown.find("<details").expect("a block");
    assert!(
        markdown[first..].starts_with("<details open><summary><b>c-39</b>"),
        "the cluster that loses a role comes first"
    );
    assert!(markdown.contains("more node"), "what is cut is counted");
    assert!(markdown.trim_end().ends_with("`drover plan --format html`._"), "and where the rest is");
}

#[test]
fn problems_become_annotations_on_a_pull_request() {
    let out =
        drover(root(), ["validate", "--state", "examples/invalid/unknown-field", "--format", "github"]).expect(1).out;
    insta::assert_snapshot!("validate-github", out);
}

#[test]
fn explain_tells_why_a_node_has_each_label() {
    for node in ["v100-02", "v100-04", "a100-04", "dev-lab-07", "h800-01"] {
        let ran = drover(root(), ["explain", node]).expect(0);
        // The commits are those of this checkout.
        let plain: String = ran.out.lines().map(|line| format!("{}\n", without_commit(line))).collect();
        // Where a machine has been is told by this repository's own commits.
        let plain = plain.split("  history\n").next().unwrap_or_default();
        insta::assert_snapshot!(format!("explain-{node}"), plain);
    }
}

fn without_commit(line: &str) -> String {
    let open = line.find(".yaml:").and_then(|place| Some(place + line[place..].find(" (")?));
    let close = open.and_then(|open| Some(open + line[open..].find(')')?));
    match (open, close) {
        (Some(open), Some(close)) => format!("{}{}", &line[..open], &line[close + 1..]),
        _ => line.to_owned(),
    }
}

#[test]
fn errors_name_the_object_and_say_what_to_do() {
    let state = troubled();
    let cases: [(&str, &[&str]); 8] = [
        ("no-such-folder", &["plan", "--state", "nowhere"]),
        ("no-such-cluster", &["plan", "--cluster", "prd"]),
        ("no-such-node", &["explain", "n-11", "--cluster", "prod"]),
        ("no-such-guard", &["plan", "--allow", "everything"]),
        ("no-plan", &["apply", "nowhere.json"]),
        ("not-a-plan", &["apply", "live.yaml"]),
        ("no-such-schema", &["schema", "nodes"]),
        ("no-repository", &["diff", "main..HEAD"]),
    ];
    for (name, arguments) in cases {
        let ran = state.drover(arguments);
        assert!(ran.code == 1 || ran.code == 2, "{name}: {}", ran.code);
        insta::assert_snapshot!(format!("error-{name}"), ran.err);
    }
    let nothing = State::new();
    insta::assert_snapshot!("error-no-state", nothing.drover(&["plan"]).expect(1).err);
}
