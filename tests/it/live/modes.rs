//! What is never written: observed clusters, dumps, and anything that nobody said yes to.

use std::io::Write;
use std::process::{Command, Stdio};

use super::support::{changes, connection, labels, shared, state_of, versions};
use crate::support::control_plane::{NodeSpec, Role};
use crate::support::run;
use crate::support::state::State;

#[test]
fn an_observed_cluster_shows_its_differences_and_is_never_written() {
    let plane = shared();
    plane.create_nodes((1..=10).map(|number| NodeSpec::new(format!("observe-{number}"))));
    plane.create_nodes([NodeSpec::new("enforce-1")]);
    let before = versions(plane, ["observe-1", "observe-2"]);
    let state = State::new();
    state.cluster("watched", &format!("{}\n  mode: observe", connection(plane, Role::Drover)));
    state.cluster("prod", &connection(plane, Role::Drover)).node("prod", "enforce-1", "{workloads: [train]}");
    for number in 1..=10 {
        state.node("watched", &format!("observe-{number}"), "{workloads: [train]}");
    }

    let ran = state.drover(&["plan", "--cluster", "watched", "--detailed-exitcode"]);
    assert!(ran.out.contains("watched: 10 nodes, 10 labels: +10 ~0 -0 (observed only, never written)"), "{}", ran.out);
    // So many changes would be refused if they were to be made; as nobody makes them, they keep nothing else back.
    let ran = state.drover(&["apply", "--yes"]).expect(0);
    assert!(ran.out.contains("watched: nothing applied: mode: observe"), "{}", ran.out);
    assert!(ran.out.contains("prod: applied 1 label on 1 node"), "{}", ran.out);
    assert_eq!(versions(plane, ["observe-1", "observe-2"]), before);
}

#[test]
fn a_plan_saved_before_a_cluster_was_only_observed_is_not_applied() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("calm-1")]);
    let before = versions(plane, ["calm-1"]);
    let state = state_of(plane);
    state.node("prod", "calm-1", "{workloads: [train]}");
    state.drover(&["plan", "--out", "plan.json"]).expect(0);
    state.cluster("prod", &format!("{}\n  mode: observe", connection(plane, Role::Drover)));
    let ran = state.drover(&["apply", "plan.json", "--yes"]).expect(0);
    assert!(ran.out.contains("prod: nothing applied: mode: observe"), "{}", ran.out);
    assert_eq!(versions(plane, ["calm-1"]), before);
}

#[test]
fn a_dump_is_planned_against_and_never_written() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("dump-1")]);
    let before = versions(plane, ["dump-1"]);
    let state = state_of(plane);
    state.node("prod", "dump-1", "{workloads: [train]}");
    state.drover(&["snapshot", "--out", "live.yaml"]).expect(0);
    let dump = state.read("live.yaml");

    state.cluster("prod", "{file: ../live.yaml}");
    let plan = state.drover(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(changes(&plan), ["dump-1 train: none -> true"]);
    let ran = state.drover(&["apply", "--yes"]).expect(1);
    assert!(ran.out.contains("prod: nothing applied: its connection is a dump"), "{}", ran.out);
    assert!(ran.out.contains("not done, 1 node: dump-1"), "{}", ran.out);
    assert_eq!((state.read("live.yaml"), versions(plane, ["dump-1"])), (dump, before));
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_applied() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("ask-1")]);
    let before = versions(plane, ["ask-1"]);
    let state = state_of(plane);
    state.node("prod", "ask-1", "{workloads: [train]}");
    let ran = state.drover(&["apply"]).expect(1);
    assert!(ran.out.contains("prod: 1 node, 1 label"), "the plan is shown: {}", ran.out);
    assert!(ran.err.contains("nothing was applied: there is no terminal to ask on"), "{}", ran.err);
    assert!(ran.err.contains("pass --yes to apply without asking"), "{}", ran.err);
    assert_eq!(versions(plane, ["ask-1"]), before);

    state.drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "ask-1"), "train=true");
    state.drover(&["apply"]).expect(0); // nothing to do needs no yes
}

/// Runs drover on a terminal of its own, where a person gives this answer: the exit code, and what the terminal showed.
fn on_a_terminal(state: &State, arguments: &str, answer: &str) -> (Option<i32>, String) {
    let drover = run::command(state.root());
    let command = format!("'{}' {arguments}", drover.get_program().display());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &command, "/dev/null"]).current_dir(state.root());
    terminal.env_clear().envs(drover.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut running = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
    running.stdin.as_mut().expect("piped").write_all(format!("{answer}\n").as_bytes()).expect("it reads");
    let output = running.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn on_a_terminal_the_plan_is_shown_and_a_person_is_asked() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("person-1")]);
    let before = versions(plane, ["person-1"]);
    let state = state_of(plane);
    state.node("prod", "person-1", "{workloads: [train]}");
    for answer in ["no", "y", ""] {
        let (code, shown) = on_a_terminal(&state, "apply", answer);
        let (plan, rest) = shown.split_once("Apply these changes?").expect("a question");
        assert!(plan.contains("person-1") && plan.contains("\u{1b}["), "the plan comes first, in colour: {shown}");
        assert!(rest.contains("nothing was applied"), "{shown}");
        assert_eq!((code, versions(plane, ["person-1"])), (Some(0), before.clone()), "{answer:?}: {shown}");
    }
    let (code, shown) = on_a_terminal(&state, "apply", "yes");
    assert!(code == Some(0) && shown.contains("applied 1 label on 1 node"), "{shown}");
    assert_eq!(labels(plane, "person-1"), "train=true");
    let (code, shown) = on_a_terminal(&state, "apply", "");
    assert!(code == Some(0) && !shown.contains("Apply these changes?"), "nothing to do, nothing to ask: {shown}");
}
