//! What a dry run decides.

use super::support::{Fleet, SHORT};

#[test]
fn a_dry_run_shows_what_moves_and_why() {
    let mut fleet = Fleet::new("{}");
    fleet.waiting("train", "web", "", SHORT).edit("a1", "shareable: true", "shareable: false");
    fleet.commit();
    let ran = fleet.state.drover(&["rebalance"]).expect(0);
    insta::assert_snapshot!("dry-run", ran.out);
    assert_eq!(fleet.state.git(&["status", "--porcelain"]), "", "nothing was changed");
}

#[test]
fn nothing_waits_and_nothing_moves() {
    let fleet = Fleet::new("{}");
    fleet.commit();
    let ran = fleet.state.drover(&["rebalance"]).expect(0);
    assert_eq!(ran.out, "prod: no machine has to move (demand)\n");
}

#[test]
fn a_cluster_without_a_policy_is_left_alone() {
    for policy in ["{policy: \"off\"}", "null"] {
        let mut fleet = Fleet::new(policy);
        if policy == "null" {
            fleet.state.edit("state/clusters/prod.yaml", "  rebalance: null\n", "");
        }
        fleet.waiting("train", "web", "", SHORT).commit();
        assert_eq!(fleet.state.drover(&["rebalance"]).expect(0).out, "prod: rebalancing is off\n");
    }
}

#[test]
fn the_bounds_hold() {
    let refuses = |what: &str, why: &str, change: &dyn Fn(&mut Fleet)| {
        let mut fleet = Fleet::new("{}");
        fleet.waiting("train", "web", "", SHORT);
        change(&mut fleet);
        fleet.commit();
        assert_eq!(fleet.moves(), [""; 0], "{what}");
        assert!(fleet.rejected().iter().any(|found| found == why), "{what}: {:?}", fleet.rejected());
    };
    refuses("the group keeps its guarantee", "guarantee", &|fleet| {
        fleet.state.write(
            "state/groups/ads.yaml",
            "apiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: ads}\nspec: {guarantee: {prod: {nodes: 3}}}\n",
        );
    });
    refuses("a group is given no more than its ceiling", "ceiling", &|fleet| {
        fleet.state.write(
            "state/groups/web.yaml",
            "apiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: web}\nspec: {ceiling: {prod: {nodes: 1}}}\n",
        );
    });
    refuses("a hold holds", "barred", &|fleet| {
        for node in ["a1", "a2", "a3"] {
            let hold = "shareable: true\n  hold: {until: 2999-01-01, owner: ops, reason: RMA}";
            fleet.edit(node, "shareable: true", hold);
        }
    });
    refuses("only what is shareable moves", "not-shareable", &|fleet| {
        for node in ["a1", "a2", "a3"] {
            fleet.edit(node, "shareable: true", "shareable: false");
        }
    });
    refuses("only what is eligible moves", "not-eligible", &|fleet| {
        fleet.state.edit("state/clusters/prod.yaml", "rebalance: {}", "rebalance: {eligible: {train: \"true\"}}");
        fleet.edit("w1", "shareable: true", "shareable: true\n  workloads: [train]");
    });
    refuses("a machine must be large enough", "no-room", &|fleet| {
        for node in ["a1", "a2", "a3"] {
            fleet.running(&format!("on-{node}"), node, "ads", 1);
        }
    });
}

#[test]
fn machines_with_pods_move_only_where_the_guard_is_lifted() {
    let with = |rebalance: &str, lifted: bool| {
        let mut fleet = Fleet::new(rebalance);
        if lifted {
            let allow = "spec:\n  allow: [{guard: running-pods, until: 2999-01-01, owner: ops, reason: pods stay}]\n";
            fleet.state.edit("state/clusters/prod.yaml", "spec:\n", allow);
        }
        for node in ["a1", "a2", "a3"] {
            fleet.running(&format!("on-{node}"), node, "ads", 0);
        }
        fleet.waiting("train", "web", "", SHORT).commit();
        fleet.moves().len()
    };
    assert_eq!((with("{}", false), with("{}", true), with("{idleOnly: true}", true)), (0, 1, 0));
}

#[test]
fn labels_choose_which_machines_may_move() {
    let mut fleet = Fleet::new("{eligible: {train: \"true\", rack: r1}}");
    fleet.edit("a2", "shareable: true", "shareable: true\n  workloads: [train]\n  labels: {rack: r1}");
    fleet.edit("a3", "shareable: true", "shareable: true\n  workloads: [train]\n  labels: {rack: r2}");
    fleet.waiting("train", "web", "", SHORT).commit();
    assert_eq!(fleet.moves(), ["a2 -> web"]);
}

#[test]
fn a_pod_gets_the_model_that_it_selects() {
    let mut fleet = Fleet::new("{}");
    fleet.node("a4", "ads", "H800");
    let says = "0/5 nodes are available: 5 node(s) didn't match Pod's node affinity/selector.";
    fleet.waiting("train", "web", ", gpu-type: H800", says).commit();
    assert_eq!(fleet.moves(), ["a4 -> web"], "web has no machine of the kind: another machine helps");
}

#[test]
fn a_pod_that_waits_for_something_else_is_told_and_not_served() {
    let mut fleet = Fleet::new("{}");
    fleet.waiting("train", "web", "", "0/4 nodes are available: 4 node(s) had volume node affinity conflict.").commit();
    assert_eq!(fleet.moves(), [""; 0]);
    let ran = fleet.state.drover(&["rebalance"]).expect(0);
    assert!(
        ran.out.contains("no machine helps jobs/train of web: 0/4 nodes are available: 4 node(s) had vol"),
        "{ran:?}"
    );
}

#[test]
fn other_namespaces_do_not_count() {
    let mut fleet = Fleet::new("{namespaces: [pipeline]}");
    fleet.waiting("train", "web", "", SHORT).commit();
    assert_eq!(fleet.moves(), [""; 0]);
}

#[test]
fn a_recorded_decision_is_replayed_from_the_record_alone() {
    let mut fleet = Fleet::new("{}");
    fleet.waiting("train", "web", "", SHORT).commit();
    let first = fleet.state.drover(&["rebalance", "--record", "record.json"]).expect(0);
    let again = fleet.state.drover(&["rebalance", "--replay", "record.json"]).expect(0);
    assert_eq!(first.out, again.out);
    fleet.state.edit("record.json", "\"to\": \"web\"", "\"to\": \"ads\"");
    let ran = fleet.state.drover(&["rebalance", "--replay", "record.json"]).expect(1);
    assert!(ran.err.contains("record.json: its input does not give its decision"), "{ran:?}");
}
