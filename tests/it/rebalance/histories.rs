//! A cluster's own history is replayed: what its pods tell, and the records of its decisions.

use serde_json::json;

use super::support::{Fleet, SHORT};
use crate::support::state::State;

/// A machine each for two groups, and pods of every kind.
const LIVE: &str = r#"kind: List
items:
- kind: Node
  metadata: {name: a1, labels: {org: ads}}
  status: {allocatable: {cpu: "64", nvidia.com/gpu: "8"}}
- kind: Node
  metadata: {name: w1, labels: {org: web}}
  status: {allocatable: {cpu: "64", nvidia.com/gpu: "4"}}
- kind: Node
  metadata: {name: c1, labels: {org: web}}
  status: {allocatable: {cpu: "64"}}
- kind: Pod
  metadata: {name: done, namespace: jobs, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {nodeName: a1, nodeSelector: {org: ads}, containers: [{resources: {requests: {nvidia.com/gpu: "8"}}}]}
  status:
    phase: Succeeded
    startTime: "2026-01-01T00:01:00Z"
    containerStatuses: [{state: {terminated: {finishedAt: "2026-01-01T01:01:00Z"}}}]
- kind: Pod
  metadata: {name: worker-0, namespace: jobs, creationTimestamp: "2026-01-01T00:10:00Z", labels: {training.kubeflow.org/job-name: train}}
  spec: {nodeName: w1, nodeSelector: {org: web}, containers: [{resources: {requests: {nvidia.com/gpu: "2"}}}]}
  status:
    phase: Failed
    startTime: "2026-01-01T00:11:00Z"
    containerStatuses: [{state: {terminated: {finishedAt: "2026-01-01T00:20:00Z"}}}]
- kind: Pod
  metadata: {name: worker-1, namespace: jobs, creationTimestamp: "2026-01-01T00:10:05Z", labels: {training.kubeflow.org/job-name: train}}
  spec: {nodeName: w1, nodeSelector: {org: web}, containers: [{resources: {requests: {nvidia.com/gpu: "2"}}}]}
  status:
    phase: Succeeded
    startTime: "2026-01-01T00:12:00Z"
    containerStatuses: [{state: {terminated: {finishedAt: "2026-01-01T00:22:00Z"}}}]
- kind: Pod
  metadata: {name: lost, namespace: jobs, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {nodeName: a1, nodeSelector: {org: ads}, containers: [{resources: {requests: {nvidia.com/gpu: "1"}}}]}
  status: {phase: Failed, startTime: "2026-01-01T00:01:00Z"}
- kind: Pod
  metadata: {name: waits, namespace: jobs, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {nodeSelector: {org: ads}, containers: [{resources: {requests: {nvidia.com/gpu: "1"}}}]}
  status: {phase: Pending}
- kind: Pod
  metadata: {name: web-server, namespace: jobs, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {nodeName: c1, nodeSelector: {org: web}, containers: [{resources: {requests: {cpu: "1"}}}]}
  status: {phase: Running, startTime: "2026-01-01T00:00:00Z"}
- kind: Pod
  metadata: {name: foreign, namespace: other, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {nodeName: a1, nodeSelector: {org: ads}, containers: [{resources: {requests: {nvidia.com/gpu: "1"}}}]}
  status: {phase: Running, startTime: "2026-01-01T00:00:00Z"}
"#;

#[test]
fn the_pods_of_a_cluster_are_a_trace() {
    let state = State::new();
    state.cluster("prod", "{file: live.yaml}").group("ads").group("web").write("state/live.yaml", LIVE);
    state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  rebalance: {namespaces: [jobs]}\n");
    for (name, group) in [("a1", "ads"), ("w1", "web"), ("c1", "web")] {
        state.node("prod", name, &format!("{{group: {group}}}"));
    }
    let ran = state.drover(&["snapshot", "--jobs", "--out", "jobs.csv"]).expect(0);
    assert_eq!(
        state.read("jobs.csv"),
        "submit_s,duration_s,gpus,group,job\n0,3600,8,ads,jobs/done\n600,600,4,web,jobs/train\n"
    );
    for said in [
        "1 jobs wait and are left out",
        "1 jobs ended without saying when",
        "replay them with --warmup 0 --horizon 3600",
        "wrote 2 jobs of prod to jobs.csv",
    ] {
        assert!(ran.err.contains(said), "{said:?} is not in {}", ran.err);
    }
    let ran = state.drover(&["snapshot", "--groups"]).expect(0);
    assert_eq!(ran.out, "group,nodes,gpus_per_node\nads,1,8\nweb,1,4\n");
    state.write("groups.csv", ran.out);
    let arguments = ["backtest", "--jobs", "jobs.csv", "--groups", "groups.csv", "--warmup", "0", "--horizon", "3600"];
    let report = state.drover(&[&arguments[..], &["--format", "json"]].concat()).expect(0).json();
    assert_eq!((&report["trace"]["jobs"], &report["trace"]["gpus"]), (&json!(2), &json!(12)));
    let missing = state.drover(&["backtest", "--jobs", "jobs.csv"]).expect(1);
    assert!(missing.err.contains("--groups is missing") && missing.err.contains("drover snapshot --groups"));
}

#[test]
fn the_records_of_a_cluster_are_a_trace() {
    let mut fleet = Fleet::new("{maxMoves: 1, patience: 1ms}");
    fleet.waiting("train", "web", "", SHORT).waiting("tune", "web", "", SHORT).commit();
    for _ in 0..2 {
        fleet.state.drover(&["rebalance", "--commit"]).expect(0);
        // Records of one second would be of one moment.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    // What a person ordered is no look at the cluster.
    let author = ["--commit", "--author", "Ann <ann@example.org>"];
    let arguments = ["move", "w1", "--to", "ads", "--reason", "because"];
    fleet.state.drover(&[&arguments[..], &author].concat()).expect(0);
    let folder = "state/.drover/decisions/prod";
    let ran = fleet.state.drover(&["backtest", "--jobs", folder, "--format", "json"]).expect(0);
    let report = ran.json();
    assert_eq!((&report["trace"]["jobs"], &report["trace"]["nodes"]), (&json!(1), &json!(4)), "one pod runs");
    assert_eq!(report["trace"]["groups"]["ads"]["nodes"], 3, "as it was before any move");
    assert!(ran.err.contains("2 records over 0.0 hours"), "{}", ran.err);
    fleet.state.write(&format!("{folder}/broken.json"), "{");
    let ran = fleet.state.drover(&["backtest", "--jobs", folder]).expect(0);
    assert!(ran.err.contains("broken.json is passed over: the record is not JSON"), "{}", ran.err);
    fleet.state.write("groups.csv", "group,nodes,gpus_per_node\nads,1,8\n");
    let ran = fleet.state.drover(&["backtest", "--jobs", folder, "--groups", "groups.csv"]).expect(1);
    assert!(ran.err.contains("which tell the groups themselves"), "{}", ran.err);
    let ran = fleet.state.drover(&["backtest", "--jobs", "state"]).expect(1);
    assert!(ran.err.contains("there are no records of decisions"), "{}", ran.err);
}
