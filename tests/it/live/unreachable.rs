//! Two clusters, one of which hangs or is down: the other one gets its plan and its labels.

use std::time::{Duration, Instant};

use super::support::{changes, connection, labels, shared};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::state::State;

/// A state of two clusters: `far`, in trouble, waits for at most 2 s; `near` is well and lacks a label.
fn two_clusters(far: &ControlPlane, node: &str) -> State {
    shared().create_nodes([NodeSpec::new(node)]);
    let state = State::new();
    state
        .cluster("far", &format!("{}\n  timeout: 2s", connection(far, Role::Drover)))
        .node("far", "far-1", "{workloads: [train]}")
        .cluster("near", &connection(shared(), Role::Drover))
        .node("near", node, "{workloads: [train]}");
    state
}

#[test]
fn a_hanging_api_server_is_reported_within_its_timeout_beside_the_plan_of_the_others() {
    let far = ControlPlane::start_named("far");
    let state = two_clusters(&far, "hang-1");
    far.pause_api_server();

    let began = Instant::now();
    let ran = state.drover(&["plan"]).expect(1);
    assert!(began.elapsed() < Duration::from_secs(9), "it waited {:?}, more than its timeout", began.elapsed());
    assert!(ran.out.contains("far: unreachable: no answer within 2 s"), "{}", ran.out);
    assert!(ran.out.contains("near: 1 node, 1 label: +1 ~0 -0"), "{}", ran.out);
    let ran = state.drover(&["status"]).expect(1);
    assert!(ran.out.contains("far: unreachable: no answer within 2 s"), "{}", ran.out);
    let ran = state.drover(&["explain", "far-1"]).expect(1);
    assert!(ran.out.contains("unreachable: no answer within 2 s"), "{}", ran.out);

    let ran = state.drover(&["apply", "--yes"]).expect(1);
    assert!(ran.out.contains("far: nothing applied: unreachable: no answer within 2 s"), "{}", ran.out);
    assert_eq!(labels(shared(), "hang-1"), "train=true");

    far.resume_api_server();
    let ran = state.drover(&["plan"]).expect(0);
    assert!(ran.out.contains("absent, labelled when they join: far-1"), "{}", ran.out);
}

#[test]
fn a_cluster_that_is_down_keeps_no_other_one_from_its_labels() {
    let far = ControlPlane::start_named("far");
    far.create_nodes([NodeSpec::new("far-1")]);
    let state = two_clusters(&far, "down-1");
    state.drover(&["plan", "--out", "both.json"]).expect(0);
    far.stop_api_server();

    let ran = state.drover(&["plan", "--format", "json", "--detailed-exitcode"]).expect(1);
    let plan = ran.json();
    let cause = plan["clusters"][0]["unreachable"].as_str().expect("a cause");
    assert!(cause.starts_with("cannot be reached: ") && cause.contains("onnection refused"), "{cause}");
    assert_eq!(changes(&plan), ["down-1 train: none -> true"]);

    let report = state.drover(&["apply", "--yes", "--format", "json"]).expect(1).json();
    let skipped = report["clusters"][0]["skipped"].as_str().expect("why");
    assert!(skipped.starts_with("unreachable: cannot be reached: "), "{report}");
    assert_eq!((&report["clusters"][1]["cluster"], &report["clusters"][1]["labels"]), (&"near".into(), &1.into()));
    assert_eq!(labels(shared(), "down-1"), "train=true");

    let ran = state.drover(&["apply", "both.json", "--yes"]).expect(1);
    assert!(ran.out.contains("far: nothing applied: unreachable: cannot be reached: "), "{}", ran.out);
    assert!(ran.out.contains("not done, 1 node: far-1"), "{}", ran.out);
    far.start_api_server();
    state.drover(&["apply", "both.json", "--yes"]).expect(0);
    assert_eq!(labels(&far, "far-1"), "train=true");
}
