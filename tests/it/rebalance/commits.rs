//! What is written of a decision.

use serde_json::{Value, json};

use super::support::{Fleet, SHORT};
use crate::support::state::State;

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
fn what_moved_counts_against_the_budget_of_the_day() {
    let mut fleet = fleet();
    fleet.waiting("tune", "web", "", SHORT).commit();
    fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    let head = fleet.state.git(&["rev-parse", "HEAD"]);
    let decision = fleet.decision();
    assert_eq!((&decision["decision"]["moves"], &decision["decision"]["exhausted"]), (&json!([]), &json!(true)));
    let ran = fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    assert_eq!(fleet.state.git(&["rev-parse", "HEAD"]), head, "the budget is used up: {ran:?}");
    fleet.state.edit("state/clusters/prod.yaml", "dailyMoves: 1", "dailyMoves: 2");
    assert_eq!(fleet.decision()["decision"]["moves"][0]["node"], "a2", "the first is on its way");
}

#[test]
fn what_a_person_takes_back_is_left_alone_for_a_time() {
    let fleet = fleet();
    fleet.state.edit("state/clusters/prod.yaml", "dailyMoves: 1", "dailyMoves: 9");
    fleet.state.commit("more moves");
    fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    fleet.state.git(&["revert", "--no-edit", "HEAD"]);
    fleet.state.drover(&["rebalance", "--record", "record.json"]).expect(0);
    let text = std::fs::read_to_string(fleet.state.path("record.json")).expect("a record");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(record["decision"]["moves"][0]["node"], "a2", "{record}");
    let a1 = record["input"]["nodes"].as_array().expect("nodes").iter().find(|node| node["name"] == "a1");
    assert_eq!(a1.expect("a node")["barred"]["by"], "vetoed", "{record}");
    let audit = fleet.state.drover(&["audit", "--verify"]).expect(0);
    assert!(audit.out.contains("went back to ads"), "{}", audit.out);

    // Its length is the cluster's to say.
    fleet.state.edit("state/clusters/prod.yaml", "dailyMoves: 9", "dailyMoves: 9, cooldown: 1s, veto: 1s");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(fleet.decision()["decision"]["moves"][0]["node"], "a1");
}

#[test]
fn an_observed_cluster_is_not_written_to() {
    let mut fleet = Fleet::new("{}");
    fleet.state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  mode: observe\n");
    fleet.waiting("train", "web", "", SHORT).commit();
    let ran = fleet.state.drover(&["rebalance", "--commit"]).expect(3);
    assert!(ran.out.contains("cluster prod is only observed"), "{ran:?}");
}

#[test]
fn half_a_history_is_not_decided_by() {
    let fleet = fleet();
    fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    let shallow = State::new();
    let origin = format!("file://{}", fleet.state.root().display());
    shallow.git(&["clone", "--quiet", "--depth", "1", &origin, "."]);
    let ran = shallow.drover(&["rebalance"]).expect(0);
    assert!(ran.err.contains("budgets, cooldowns and vetoes may be missed"), "{ran:?}");
    let ran = shallow.drover(&["rebalance", "--commit"]).expect(1);
    assert!(ran.err.contains("only the newest part of the history") && ran.err.contains("--unshallow"), "{ran:?}");
}

#[test]
fn absurd_requests_change_nothing_for_the_others() {
    let mut fleet = fleet();
    for number in 0..3 {
        fleet.running(&format!("absurd-{number}"), "w1", "web", u64::MAX);
    }
    fleet.commit();
    fleet.state.drover(&["rebalance", "--commit"]).expect(0);
    assert!(fleet.state.git(&["log", "-1", "--format=%B"]).contains("Drover-Move: a1 ads -> web"));
    fleet.state.drover(&["audit", "--verify"]).expect(0);
}
