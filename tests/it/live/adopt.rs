//! From a running cluster of 1,213 machines to one under git, and on.

use super::support::{all_nodes, changes};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::openb::{self, Machine};
use crate::support::state::State;

/// As people label machines by hand: some at registration, most with kubectl, some labels of other tools.
fn labelled_by_hand(machines: &[Machine]) -> ControlPlane {
    let plane = ControlPlane::start_named("adopt");
    plane.create_nodes(machines.iter().zip(0..).map(|(machine, number)| {
        let node = NodeSpec::from(machine).label("gpu", "true").label("gpu-type", &machine.model);
        let node = node.label("rack", &format!("r{}", number / 40)).label("nvidia.com/gpu.product", &machine.model);
        if number % 100 == 0 { node.label("mysql", "true").label("cpu", "yes") } else { node }
    }));
    plane.kubectl(["label", "nodes", "--all", "org=public", "train=true"]);
    plane.kubectl(["label", "nodes", "--selector=gpu-type=T4", "org=ads", "share=true", "--overwrite"]);
    plane
}

#[test]
fn import_plan_edit_apply_and_the_plan_is_empty_again() {
    let Some(machines) = openb::machines() else { return };
    assert_eq!(machines.len(), 1213);
    let plane = labelled_by_hand(&machines);
    let live = all_nodes(&plane);

    let state = State::new();
    let kubeconfig = plane.kubeconfig(Role::Drover).display().to_string();
    let ran = state.drover(&["import", "--kubeconfig", &kubeconfig, "--cluster", "prod"]).expect(0);
    assert!(ran.err.contains("cluster prod, 1213 nodes, 2 new groups"), "{}", ran.err);
    assert!(ran.err.contains("cpu=yes"), "what state cannot say is told: {}", ran.err);
    assert_eq!(all_nodes(&plane), live, "adopting writes nothing");
    state.drover(&["validate"]).expect(0);
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);
    state.commit("adopt prod");

    // One machine changes its group and is shared no more, one gets work and a label, one role moves.
    let (t4, role) = (first(&machines, |machine| machine.model == "T4"), &machines[0].name);
    let g2 = first(&machines, |machine| machine.model == "G2");
    let file = |name: &str| format!("state/nodes/prod/{name}.yaml");
    state.edit(&file(t4), "group: ads", "group: public").edit(&file(t4), "  shareable: true\n", "");
    state.edit(&file(g2), "  - train\n", "  - train\n  - notebook\n").edit(&file(g2), "rack: ", "zone: z1\n    rack: ");
    state.edit(&file(role), "mysql", "redis");
    let edit = state.commit("move, grow, and another role");

    let plan = state.drover(&["plan", "--format", "json", "--detailed-exitcode"]).expect(2).json();
    let mut expected = vec![
        format!("{t4} org: ads -> public"),
        format!("{t4} share: true -> none"),
        format!("{g2} notebook: none -> true"),
        format!("{g2} zone: none -> z1"),
        format!("{role} mysql: true -> none"),
        format!("{role} redis: none -> true"),
    ];
    expected.sort();
    assert_eq!(changes(&plan), expected);
    let source = &plan["clusters"][0]["nodes"].as_array().expect("nodes").iter().find(|node| node["node"] == *t4);
    let commit = &source.expect("it is planned")["changes"][0]["source"]["commit"];
    assert!(edit.starts_with(commit["id"].as_str().expect("a commit")) && commit["author"] == "Ann", "{commit}");
    assert_eq!(all_nodes(&plane), live, "planning writes nothing");

    state.drover(&["apply", "--yes"]).expect(0);
    let after = all_nodes(&plane);
    let written: Vec<_> = after.iter().filter(|(name, node)| live[*name] != **node).map(|(name, _)| name).collect();
    let mut edited = vec![t4, g2, role];
    edited.sort();
    assert_eq!(written, edited, "only the nodes with a difference are written");
    assert_eq!(after[t4].0, "gpu=true gpu-type=T4 nvidia.com/gpu.product=T4 org=public rack=r0 train=true");
    state.drover(&["plan", "--detailed-exitcode"]).expect(0);
    let ran = state.drover(&["apply", "--yes"]).expect(0);
    assert!(ran.out.contains("no difference"), "{}", ran.out);
    assert_eq!(all_nodes(&plane), after, "a second apply writes nothing");
}

fn first(machines: &[Machine], is: impl Fn(&Machine) -> bool) -> &String {
    // The very first ones have labels of their own.
    &machines[1..].iter().find(|machine| is(machine)).expect("such a machine").name
}
