//! `drover diff`: what a branch changes, without a cluster.

use serde_json::Value;

use super::servers::{Https, Served};
use super::support::{fails, fleet};
use crate::support::run::{self, Ran};
use crate::support::state::State;

const JSON: [&str; 3] = ["diff", "--format", "json"];

/// A fleet of three nodes in two groups, on branch `main`, and a branch `next` that is checked out.
fn branched() -> State {
    let state = fleet();
    state.group("ads").group("web").node("prod", "n1", "{group: ads}").node("prod", "n2", "{group: ads}");
    state.node("prod", "n3", "{group: web}");
    state.commit("base");
    state.git(&["checkout", "--quiet", "-b", "next"]);
    state
}

/// The only cluster of a diff as JSON.
#[track_caller]
fn cluster(ran: &Ran) -> Value {
    let plan = ran.json();
    let clusters = plan["clusters"].as_array().expect("clusters");
    assert_eq!(clusters.len(), 1, "{plan:#}");
    clusters[0].clone()
}

/// `node: key from → to` for each change.
fn changes(cluster: &Value) -> Vec<String> {
    let nodes = cluster["nodes"].as_array().expect("nodes").iter();
    let lines = nodes.flat_map(|node| {
        let changes = node["changes"].as_array().expect("changes").iter();
        changes.map(|change| {
            let value = |field: &str| change[field].as_str().unwrap_or("-").to_owned();
            format!("{}: {} {} → {}", value_of(node, "node"), value("key"), value("from"), value("to"))
        })
    });
    lines.collect()
}

fn value_of(value: &Value, field: &str) -> String {
    value[field].as_str().expect("text").to_owned()
}

#[test]
fn changed_added_and_removed_nodes_are_shown() {
    let state = branched();
    state.node("prod", "n1", "{group: web, labels: {rack: r1}}").node("prod", "n4", "{group: ads, workloads: [train]}");
    std::fs::remove_file(state.path("state/nodes/prod/n3.yaml")).expect("a file");
    let head = state.commit("move n1, add n4, drop n3");
    for range in ["main..next", "main..", "main..HEAD", "main...next", "main...", "HEAD~1..next", "main"] {
        let ran = state.drover(&[&JSON[..], &[range]].concat()).expect(0);
        let cluster = cluster(&ran);
        assert_eq!(
            changes(&cluster),
            ["n1: org ads → web", "n1: rack - → r1", "n4: org - → ads", "n4: train - → true"],
            "{range}"
        );
        assert_eq!(cluster["unmanaged"], serde_json::json!(["n3"]), "{range}");
        assert_eq!(cluster["notes"], serde_json::json!(["1 new node document"]), "{range}");
        let source = &cluster["nodes"][0]["changes"][0]["source"];
        assert_eq!((&source["file"], &source["line"]), (&"nodes/prod/n1.yaml".into(), &4.into()), "{range}");
        assert_eq!(source["commit"]["id"], head[..10], "{range}");
        assert_eq!(ran.json()["state"]["commit"], *head, "{range}");
    }
    let text = state.drover(&["diff", "main..next"]).expect(0).out;
    for part in ["ads → web", "1 new node document", "no longer managed, left as they are: n3"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let back = cluster(&state.drover(&[&JSON[..], &["next..main"]].concat()).expect(0));
    assert_eq!(changes(&back), ["n1: org web → ads", "n1: rack r1 → -", "n3: org - → web"]);
}

#[test]
fn exit_codes_tell_a_difference_when_asked() {
    let state = branched();
    state.drover(&["diff", "main..next"]).expect(0);
    let ran = state.drover(&[&JSON[..], &["main..next", "--detailed-exitcode"]].concat()).expect(0);
    assert_eq!(ran.json()["clusters"], serde_json::json!([]));
    state.node("prod", "n1", "{group: web}").commit("move n1");
    state.drover(&["diff", "main..next"]).expect(0);
    state.drover(&["diff", "main..next", "--detailed-exitcode"]).expect(2);
    state.drover(&["diff", "main..next", "--detailed-exitcode", "--cluster", "other"]).expect(0);
    state.drover(&["diff", "main..next", "--detailed-exitcode", "--cluster", "prod"]).expect(2);
    // Only a comment differs.
    state.git(&["checkout", "--quiet", "-B", "next", "main"]);
    state.edit("state/nodes/prod/n1.yaml", "kind: Node", "kind: Node # a machine");
    state.drover(&["diff", "main", "--detailed-exitcode"]).expect(0);
}

#[test]
fn files_that_are_not_committed_are_compared_with_a_base() {
    let state = branched();
    state.node("prod", "n1", "{group: web}");
    let ran = state.drover(&[&JSON[..], &["HEAD", "--detailed-exitcode"]].concat()).expect(2);
    assert_eq!(changes(&cluster(&ran)), ["n1: org ads → web"]);
    assert_eq!(ran.json()["state"]["dirty"], true);
    let ran = state.drover(&[&JSON[..], &["main..next"]].concat()).expect(0);
    assert_eq!(ran.json()["clusters"], serde_json::json!([]), "a range knows only commits");
    // The folder does not exist here, only in the revisions.
    state.node("prod", "n2", "{group: web}").commit("move both");
    std::fs::remove_dir_all(state.path("state")).expect("a folder");
    let ran = state.drover(&[&JSON[..], &["main..next"]].concat()).expect(0);
    assert_eq!(changes(&cluster(&ran)), ["n1: org ads → web", "n2: org ads → web"]);
}

#[test]
fn three_dots_leave_out_what_the_base_did_since() {
    let served = Served::new();
    let state = &served.work;
    let base = state.git(&["rev-parse", "HEAD"]);
    state.git(&["checkout", "--quiet", "-b", "next"]);
    state.node("prod", "n1", "{devices: {gpu: T4}}").commit("on next");
    state.git(&["checkout", "--quiet", "main"]);
    state.node("prod", "n2", "{devices: {gpu: V100}}").commit("on main");
    state.git(&["checkout", "--quiet", "--orphan", "alone"]);
    state.commit("without history");
    served.push();
    let (two, three) = (
        ["n1: gpu-type A100 → T4", "n2: cpu - → true", "n2: gpu true → -", "n2: gpu-type V100 → -"],
        ["n1: gpu-type A100 → T4"],
    );
    let check = |drover: &dyn Fn(&[&str]) -> Ran| {
        assert_eq!(changes(&cluster(&drover(&["main..next"]).expect(0))), two);
        assert_eq!(changes(&cluster(&drover(&["main...next"]).expect(0))), three);
        assert_eq!(changes(&cluster(&drover(&[&format!("{base}...next")]).expect(0))), three);
        fails(drover(&["alone...next"]), &["alone and next have no commit in common"]);
        fails(drover(&["main...nope"]), &["there is no revision \"nope\""]);
        fails(drover(&["nope..next"]), &["there is no revision \"nope\""]);
    };
    check(&|range| state.drover(&[&JSON[..], range].concat()));
    check(&|range| state.drover(&[&JSON[..], &["--repo", "."], range].concat()));
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let url = server.url("open", "fleet.git");
    check(&|range| server.drover(home.path(), "", &[&JSON[..], &["--repo", &url], range].concat()));
}

#[test]
fn a_side_without_the_folder_of_the_state_is_empty() {
    let state = State::new();
    // Such a repository may well hold YAML that is not drover's.
    state.write("ci.yaml", "jobs: []\n").commit("no state yet");
    state.git(&["checkout", "--quiet", "-b", "next"]);
    state.cluster("prod", "{file: live.yaml}").node("prod", "n1", "{devices: {gpu: A100}}").commit("a state");
    let check = |folder: &std::path::Path, arguments: &[&str]| {
        let drover = |range| run::drover(folder, [&JSON[..], arguments, &[range]].concat());
        let ran = drover("main..next").expect(0);
        assert_eq!(changes(&cluster(&ran)), ["n1: gpu - → true", "n1: gpu-type - → A100"], "{arguments:?}");
        assert!(ran.err.contains("the base, ") && ran.err.contains("has no folder state: "), "{}", ran.err);
        let ran = drover("next..main").expect(3);
        let back = cluster(&ran);
        assert_eq!((&back["unmanaged"][0], &back["refusals"][0]["guard"]), (&"n1".into(), &"empty-state".into()));
        assert!(ran.err.contains("the head, ") && ran.err.contains("has no folder state: "), "{}", ran.err);
        assert_eq!(drover("next..next").expect(0).json()["clusters"], serde_json::json!([]));
    };
    check(state.root(), &[]);
    check(state.root(), &["--repo", "."]);
    let ran = state.drover(&[&JSON[..], &["main"]].concat()).expect(0);
    assert_eq!(changes(&cluster(&ran)).len(), 2, "the files here against a base without them");
    state.git(&["checkout", "--quiet", "main"]);
    check(state.root(), &[]);
    fails(state.drover(&["plan", "--rev", "main", "--state", "state"]), &["has no folder state"]);
}

#[test]
fn a_new_cluster_shows_all_its_labels() {
    let state = branched();
    state.cluster("edge", "{file: live.yaml}").node("edge", "e1", "{group: ads}").node("edge", "e2", "{}");
    state.commit("a second cluster");
    let cluster = cluster(&state.drover(&[&JSON[..], &["main..next"]].concat()).expect(0));
    assert_eq!(cluster["cluster"], "edge");
    assert_eq!(changes(&cluster), ["e1: org - → ads"]);
    assert_eq!(cluster["notes"], serde_json::json!(["a new cluster with 2 new node documents"]));
}

#[test]
fn a_cluster_that_goes_is_refused_until_it_is_allowed() {
    let state = branched();
    state.cluster("edge", "{file: live.yaml}").node("edge", "e1", "{group: ads}").commit("a second cluster");
    let before = state.git(&["rev-parse", "HEAD"]);
    std::fs::remove_dir_all(state.path("state/nodes/edge")).expect("a folder");
    let emptied = state.commit("no nodes there");
    std::fs::remove_file(state.path("state/clusters/edge.yaml")).expect("a file");
    let gone = state.commit("no cluster there");
    for (head, note) in [(&emptied, None), (&gone, Some("the cluster leaves the state"))] {
        let ran = state.drover(&[&JSON[..], &[&format!("{before}..{head}")]].concat()).expect(3);
        let cluster = cluster(&ran);
        assert_eq!((&cluster["cluster"], &cluster["refusals"][0]["guard"]), (&"edge".into(), &"empty-state".into()));
        assert_eq!(cluster["unmanaged"], serde_json::json!(["e1"]));
        let notes = cluster.get("notes").map(Value::to_string).unwrap_or_default();
        assert!(note.is_none_or(|note| notes.contains(note)), "{notes}");
    }
    let text = state.drover(&["diff", &format!("{before}..{gone}")]).expect(3).out;
    assert!(text.contains("refused by empty-state"), "{text}");
}

#[test]
fn a_groups_value_changes_all_its_nodes() {
    let state = branched();
    state.write(
        "state/groups/ads.yaml",
        "apiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: ads}\nspec: {org: adverts}\n",
    );
    state.commit("ads is called adverts on the nodes");
    let ran = state.drover(&[&JSON[..], &["main..next", "--detailed-exitcode"]].concat()).expect(2);
    assert_eq!(changes(&cluster(&ran)), ["n1: org ads → adverts", "n2: org ads → adverts"]);
}

#[test]
fn settings_of_a_cluster_are_mentioned() {
    let state = branched();
    state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  mode: observe\n").commit("only look");
    let cluster = cluster(&state.drover(&[&JSON[..], &["main..next"]].concat()).expect(0));
    assert_eq!((changes(&cluster), cluster["mode"].as_str()), (vec![], Some("observe")));
    assert!(cluster["notes"][0].as_str().expect("a note").contains("clusters/prod.yaml"), "{cluster:#}");
}

#[test]
fn a_side_that_does_not_validate_is_named() {
    let state = branched();
    state.edit("state/nodes/prod/n1.yaml", "group", "grup").commit("a typo");
    let ran = state.drover(&["diff", "main..next"]).expect(1);
    assert!(ran.err.contains("the head, ") && ran.err.contains("does not validate"), "{}", ran.err);
    assert!(ran.err.contains("nodes/prod/n1.yaml:4:") && ran.err.contains("unknown field `grup`"), "{}", ran.err);
    state.drover(&["diff", "main", "--detailed-exitcode"]).expect(1);
    state.drover(&[&JSON[..], &["main..next"]].concat()).expect(1);

    // A branch that mends a broken base may be merged.
    let ran = state.drover(&["diff", "next..main"]).expect(0);
    assert!(ran.err.contains("the base, ") && ran.err.contains("does not validate"), "{}", ran.err);
    assert!(ran.err.contains("unknown field `grup`"), "{}", ran.err);
}

#[test]
fn what_is_no_range_is_said() {
    let state = branched();
    fails(state.drover(&["diff", "--repo", ".", "main"]), &["\"main\" is not a range", "BASE..HEAD"]);
    fails(state.drover(&["diff", "--rev", "main", "main..next"]), &["not with --rev"]);
    fails(state.drover(&["diff", "nope"]), &["there is no revision \"nope\""]);
    fails(fleet().drover(&["diff", "main..next"]), &["is not in a git repository"]);
}
