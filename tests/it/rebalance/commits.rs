//! What is written of a decision.

use super::support::{Fleet, SHORT};

fn fleet() -> Fleet {
    let mut fleet = Fleet::new("{maxMoves: 1, dailyMoves: 1}");
    fleet.waiting("train", "web", "", SHORT).commit();
    fleet
}

#[test]
fn a_commit_changes_one_line_and_says_why() {
    let fleet = fleet();
    let ran = fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    let commit = fleet.state.git(&["rev-parse", "HEAD"]);
    assert!(ran.out.contains(&format!("commit {} on main", &commit[..10])), "{ran:?}");
    let diff = fleet.state.git(&["diff", "--unified=0", "HEAD~1", "HEAD", "--", "state/nodes"]);
    let lines: Vec<&str> = diff.lines().filter(|line| line.starts_with(['-', '+'])).skip(2).collect();
    assert_eq!(lines, ["-  group: ads  # for now", "+  group: web  # for now"]);
    let message = fleet.state.git(&["log", "-1", "--format=%B"]);
    for part in [
        "prod: move a1 from ads to web\n",
        "1 job of web waits, the first, jobs/train, for 20m; with it 1 job can start (jobs/train). 100 % of it is free; ads keeps 2 machines with 16 GPUs",
        "\nDrover-Policy: demand\nDrover-Move: a1 ads -> web\nDrover-Record: state/.drover/decisions/prod/",
    ] {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
    let record = message.lines().find_map(|line| line.strip_prefix("Drover-Record: ")).expect("a record");
    fleet.state.drover(&["rebalance", "--replay", record]).expect(0);
}

#[test]
fn what_moved_counts_against_the_budget_of_the_day_and_is_moving() {
    let fleet = fleet();
    fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    let head = fleet.state.git(&["rev-parse", "HEAD"]);
    let ran = fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    assert_eq!(fleet.state.git(&["rev-parse", "HEAD"]), head, "the budget is used up: {ran:?}");
    fleet.state.edit("state/clusters/prod.yaml", "dailyMoves: 1", "dailyMoves: 5");
    let decision = fleet.decision();
    assert_eq!(decision["decision"]["exhausted"], serde_json::Value::Null, "{decision}");
}

#[test]
fn an_observed_cluster_is_not_written_to() {
    let mut fleet = Fleet::new("{}");
    fleet.state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  mode: observe\n");
    fleet.waiting("train", "web", "", SHORT).commit();
    let ran = fleet.state.drover(&["rebalance", "--commit"]).expect(3);
    assert!(ran.out.contains("cluster prod is only observed"), "{ran:?}");
}
