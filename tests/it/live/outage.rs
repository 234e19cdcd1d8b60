//! An apply of 1,213 nodes that does not get to run undisturbed.

use std::time::{Duration, Instant};

use super::support::Herd;

#[test]
fn a_restart_of_the_api_server_delays_an_apply_and_nothing_more() {
    let Some(herd) = Herd::start() else { return };
    let mut apply = herd.begin_apply(&["--parallel", "4"]);
    herd.plane.stop_api_server();
    assert!(apply.is_running(), "the server ends in the middle of the apply");
    herd.plane.start_api_server();

    let ran = apply.end().expect(0);
    assert!(ran.out.contains("prod: applied 2426 labels on 1213 nodes"), "{}", ran.out);
    assert_eq!(herd.labelled(), 1213);
    herd.state.drover(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn an_api_server_that_stays_away_ends_an_apply_which_another_one_completes() {
    let Some(herd) = Herd::start() else { return };
    let apply = herd.begin_apply(&["--parallel", "4"]);
    herd.plane.stop_api_server();
    let stopped = Instant::now();

    let ran = apply.end().expect(1);
    assert!(stopped.elapsed() < Duration::from_secs(90), "it waited {:?}", stopped.elapsed());
    let (_, report) = ran.out.rsplit_once("\nprod: ").expect("a report after the plan");
    assert!(report.starts_with("applied "), "{report}");
    assert!(report.contains(": cannot be reached: ") && report.contains("failed openb-node-"), "{report}");
    assert!(report.contains("not done, ") && report.contains(" nodes: openb-node-"), "{report}");

    herd.plane.start_api_server();
    assert!((303..1213).contains(&herd.labelled()), "{}", herd.labelled());
    herd.state.drover(&["apply", "--yes", "--allow", "too-many-nodes"]).expect(0);
    assert_eq!(herd.labelled(), 1213);
}

#[test]
fn an_interrupted_apply_finishes_what_is_in_flight_and_says_what_was_not_done() {
    let Some(herd) = Herd::start() else { return };
    let apply = herd.begin_apply(&["--parallel", "1", "--format", "json"]);
    apply.interrupt();

    let ran = apply.end().expect(1);
    assert!(ran.err.contains("interrupted: finishing what is in flight"), "{}", ran.err);
    let report = ran.json();
    let cluster = &report["clusters"][0];
    let done = cluster["nodes"].as_u64().expect("a number") as usize;
    let not_done = cluster["notDone"].as_array().expect("a list").len();
    assert_eq!((report["interrupted"].as_bool(), done + not_done), (Some(true), 1213), "{report}");
    assert!(not_done > 0 && cluster["failed"].as_array().is_some_and(Vec::is_empty), "{report}");
    assert_eq!(herd.labelled(), done, "each write that was begun was finished, and counted");

    let ran = herd.state.drover(&["apply", "--yes", "--allow", "too-many-nodes"]).expect(0);
    assert!(ran.out.contains(&format!("on {not_done} nodes\n")), "{}", ran.out);
    assert_eq!(herd.labelled(), 1213);
}
