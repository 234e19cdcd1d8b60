//! An API server that is too busy, forgets to answer, or objects, at any moment of an apply.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{labels, shared};
use crate::support::control_plane::{NodeSpec, Role, eventually};
use crate::support::proxy::{Asked, Fault, Proxy};
use crate::support::run::{self, Ran, Running};
use crate::support::state::State;

/// Nodes of the group `NAME-old` that a state moves to `NAME-new`, through a proxy with these faults.
fn troubled(
    name: &str,
    count: usize,
    faults: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static,
) -> (State, Proxy) {
    let nodes: Vec<String> = (1..=count).map(|number| format!("{name}-{number}")).collect();
    let old = format!("{name}-old");
    shared().create_nodes(nodes.iter().map(|node| NodeSpec::new(node).label("org", &old).label("vgpu", "true")));
    let proxy = Proxy::start(shared(), faults);
    let (state, new) = (State::new(), format!("{name}-new"));
    state.write("config", proxy.kubeconfig(Role::Drover)).group(&new);
    state.cluster("prod", "{kubeconfig: ../config}\n  timeout: 2s");
    for node in &nodes {
        state.node("prod", node, &format!("{{group: {new}, workloads: [train]}}"));
    }
    (state, proxy)
}

fn path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

/// Applies, and checks that every change of every node was made, and counted as made.
fn applies_all(state: &State, name: &str, count: usize) {
    let report = state.drover(&["apply", "--yes", "--format", "json"]).expect(0).json();
    let cluster = &report["clusters"][0];
    assert_eq!((&cluster["stale"], &cluster["failed"]), (&json!([]), &json!([])));
    assert_eq!((&cluster["nodes"], &cluster["labels"]), (&json!(count), &json!(3 * count)));
    for number in 1..=count {
        assert_eq!(labels(shared(), &format!("{name}-{number}")), format!("org={name}-new train=true"));
    }
}

#[test]
fn a_busy_server_is_given_the_time_that_it_asks_for() {
    let (state, proxy) = troubled("busy", 3, |asked| {
        let first = asked.time == 1 && (asked.method == "PATCH" || asked.path == "/api/v1/nodes");
        first.then_some(Fault::RetryAfter(429, 1))
    });
    applies_all(&state, "busy", 3);
    let waited = |method, path| {
        let asked = proxy.asked(method, path);
        assert_eq!(asked.len(), 2, "{asked:?}");
        asked[1].at - asked[0].at
    };
    let waits = [
        waited("GET", "/api/v1/nodes"),
        waited("PATCH", &path("busy-1")),
        waited("PATCH", &path("busy-2")),
        waited("PATCH", &path("busy-3")),
    ];
    assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(1)), "{waits:?}");
}

#[test]
fn a_server_that_asks_for_more_time_than_there_is_ends_the_apply_at_once() {
    let (state, proxy) =
        troubled("late-busy", 1, |asked| (asked.method == "PATCH").then_some(Fault::RetryAfter(429, 3600)));
    let ran = state.drover(&["apply", "--yes"]).expect(1);
    let said = "failed late-busy-1: the API server refused to patch nodes (429): too many requests";
    assert!(ran.out.contains(said), "{}", ran.out);
    assert_eq!(proxy.asked("PATCH", &path("late-busy-1")).len(), 1);
}

#[test]
fn a_storm_of_errors_is_sat_out() {
    let (state, _proxy) = troubled("storm", 8, |asked| match (asked.method.as_str(), asked.time) {
        ("PATCH", 1) => Some(Fault::Status(503)),
        ("PATCH", 2) => Some(Fault::Status(500)),
        ("GET", 1) => Some(Fault::Status(503)),
        _ => None,
    });
    applies_all(&state, "storm", 8);
}

#[test]
fn a_write_whose_answer_is_lost_is_done_and_not_stale() {
    let (state, proxy) =
        troubled("lost", 4, |asked| (asked.method == "PATCH" && asked.time == 1).then_some(Fault::LostAnswer));
    applies_all(&state, "lost", 4);
    assert_eq!(proxy.asked("PATCH", &path("lost-1")).len(), 2, "it met its own write");
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn a_write_that_gets_no_answer_is_repeated() {
    let (state, _proxy) =
        troubled("mute", 2, |asked| (asked.method == "PATCH" && asked.time == 1).then_some(Fault::Silence));
    applies_all(&state, "mute", 2);
}

#[test]
fn a_webhook_that_objects_to_one_node_keeps_no_other_one_back() {
    const SAYS: &str = "admission webhook \"nodes.example.org\" denied the request: frozen";
    let (state, _proxy) = troubled("hook", 3, |asked| {
        (asked.method == "PATCH" && asked.path == "/api/v1/nodes/hook-1").then_some(Fault::Refused(403, SAYS))
    });
    let ran = state.drover(&["apply", "--yes", "--parallel", "1"]).expect(1);
    let said = format!("failed hook-1: the API server refused to patch nodes (403): {SAYS}");
    assert!(ran.out.contains(&said), "{}", ran.out);
    assert!(!ran.out.contains("ClusterRole"), "no right is missing: {}", ran.out);
    assert_eq!(labels(shared(), "hook-1"), "org=hook-old vgpu=true");
    assert_eq!([2, 3].map(|n| labels(shared(), &format!("hook-{n}"))), ["org=hook-new train=true"; 2]);
}

#[test]
fn what_the_api_server_finds_invalid_is_told_in_its_own_words() {
    const SAYS: &str =
        "Node \"invalid-1\" is invalid: metadata.labels: Invalid value: a valid label must be an empty string";
    let (state, _proxy) = troubled("invalid", 2, |asked| {
        (asked.method == "PATCH" && asked.path == "/api/v1/nodes/invalid-1").then_some(Fault::Refused(422, SAYS))
    });
    let ran = state.drover(&["apply", "--yes"]).expect(1);
    let said = format!("failed invalid-1: the API server refused to patch nodes (422): {SAYS}");
    assert!(ran.out.contains(&said), "{}", ran.out);
    assert_eq!(labels(shared(), "invalid-1"), "org=invalid-old vgpu=true");
    assert_eq!(labels(shared(), "invalid-2"), "org=invalid-new train=true");
}

/// Begins an apply, and interrupts it once the proxy has seen a write of this node `times` times.
fn interrupted(state: &State, proxy: &Proxy, node: &str, times: usize) -> (Ran, Duration) {
    let running = Running::start(run::command(state.root()).args(["apply", "--yes", "--format", "json"]));
    eventually("the node is written", Duration::from_secs(30), || {
        let asked = proxy.asked("PATCH", &path(node)).len();
        if asked >= times { Ok(()) } else { Err(format!("{asked} writes")) }
    });
    running.interrupt();
    running.says("interrupted");
    let begin = Instant::now();
    (running.end(), begin.elapsed())
}

#[test]
fn an_interrupted_apply_waits_for_no_server_that_is_away() {
    let (state, proxy) = troubled("gone", 2, |asked| (asked.method == "PATCH").then_some(Fault::Status(503)));
    let (ran, took) = interrupted(&state, &proxy, "gone-1", 3);
    let report = ran.expect(1).json();
    assert!(took < Duration::from_secs(3), "it waited {took:?}");
    let failed = report["clusters"][0]["failed"].as_array().map(Vec::len);
    assert_eq!((&report["interrupted"], failed), (&json!(true), Some(2)), "{report}");
}

#[test]
fn an_apply_whose_last_write_was_in_flight_is_not_reported_as_interrupted() {
    let late = Duration::from_secs(1);
    let (state, proxy) = troubled("late", 1, move |asked| (asked.method == "PATCH").then_some(Fault::Late(late)));
    let (ran, _) = interrupted(&state, &proxy, "late-1", 1);
    let report = ran.expect(0).json();
    assert_eq!((&report["interrupted"], &report["clusters"][0]["nodes"]), (&json!(false), &json!(1)), "{report}");
    assert_eq!(labels(shared(), "late-1"), "org=late-new train=true");
}
