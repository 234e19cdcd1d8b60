//! Clusters that come and go, change how they are reached, or are not what the state takes them for.

use serde_json::{Value, json};

use super::support::{Followed, carries, connection, is_trouble_of, label, lease_holder, tamper};
use crate::support::control_plane::{ControlPlane, JSON, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};

fn failure(daemon: &Daemon, cluster: &str, part: &str) -> String {
    daemon.status()["clusters"][cluster]["failures"][part].as_str().unwrap_or_default().to_owned()
}

fn says(daemon: &Daemon, cluster: &str, part: &str, words: &[&str]) {
    soon(&format!("{part} of {cluster} fails with {words:?}"), || {
        words.iter().all(|word| failure(daemon, cluster, part).contains(word))
    });
}

#[test]
fn two_documents_that_lead_to_one_cluster_are_told_apart() {
    let plane = ControlPlane::start_named("twins");
    plane.create_nodes(["twin-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "twin-1", "{group: ads}");
    followed.state.cluster("twin", &connection(&plane, Role::Drover)).commit("twins");
    let daemon = followed.run(&[]);
    soon("one of them holds the Lease", || daemon.status()["clusters"].to_string().contains("\"holder\""));
    let status = daemon.status();
    let first = if status["clusters"]["prod"]["tenure"]["role"] == "holder" { "prod" } else { "twin" };
    let second = if first == "prod" { "twin" } else { "prod" };
    says(&daemon, second, "lease", &[&format!("already written to as {first}"), "only one Cluster document"]);
    is_trouble_of(&daemon, second);
    let transitions = || {
        let lease = plane.get("/apis/coordination.k8s.io/v1/namespaces/drover/leases/drover");
        lease["spec"]["leaseTransitions"].as_u64()
    };
    let before = transitions();
    if first == "prod" {
        tamper(&plane, "twin-1", "org", &json!("rec"));
    }
    std::fs::remove_file(followed.state.path("state/clusters/twin.yaml")).expect("it is there");
    followed.state.commit("one");
    carries(&plane, "twin-1", "org", Some("ads"));
    daemon.is_ready();
    assert!(first == "twin" || transitions() == before, "the Lease went to and fro");
}

#[test]
fn a_cluster_that_leaves_the_state_and_comes_back_is_looked_after_by_one_task() {
    let (plane, other) = (ControlPlane::start_named("leaving"), ControlPlane::start_named("staying"));
    plane.create_nodes(["gone-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.cluster("other", &connection(&other, Role::Drover));
    followed.state.node("prod", "gone-1", "{group: ads}").commit("both");
    let daemon = followed.run(&["--poll", "200ms"]);
    carries(&plane, "gone-1", "org", Some("ads"));
    for _ in 0..5 {
        followed.state.git(&["rm", "--quiet", "-r", "state/clusters/prod.yaml", "state/nodes"]);
        followed.state.commit("leaves");
        daemon.comes_to("it left", |status| status["clusters"]["prod"] == Value::Null);
        soon("its numbers are gone", || !daemon.get("/metrics").1.contains("cluster=\"prod\""));
        soon("the Lease was given back", || lease_holder(&plane).as_deref() == Some(""));
        tamper(&plane, "gone-1", "org", &json!("rec"));
        followed.state.git(&["revert", "--no-edit", "HEAD"]);
        carries(&plane, "gone-1", "org", Some("ads"));
        daemon.is_ready();
    }
    // Away and back within the time that a hung API server needs to be let go.
    plane.pause_api_server();
    is_trouble_of(&daemon, "prod");
    followed.state.git(&["rm", "--quiet", "-r", "state/clusters/prod.yaml", "state/nodes"]);
    followed.state.commit("leaves");
    followed.state.git(&["revert", "--no-edit", "HEAD"]);
    plane.resume_api_server();
    tamper(&plane, "gone-1", "org", &json!("rec"));
    carries(&plane, "gone-1", "org", Some("ads"));
    daemon.is_ready();
    let status = daemon.status();
    assert_eq!(status["clusters"]["prod"]["tenure"]["role"], "holder");
}

#[test]
fn a_dump_becomes_a_cluster_and_a_cluster_a_dump() {
    let plane = ControlPlane::start_named("dumped");
    plane.create_nodes(["dump-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    let dump = "kind: NodeList\nitems:\n- metadata: {name: dump-1}\n- metadata: {name: dump-2}\n";
    followed.state.write("state/live.txt", dump).cluster("prod", "{file: live.txt}");
    followed.state.node("prod", "dump-1", "{group: ads}").node("prod", "dump-2", "{group: ads}").commit("a dump");
    let daemon = followed.run(&[]);
    daemon.comes_to("both drift", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 2);
    daemon.is_ready();
    assert_eq!(daemon.status()["clusters"]["prod"]["tenure"]["role"], "observer");

    followed.state.cluster("prod", &connection(&plane, Role::Drover)).commit("a cluster");
    carries(&plane, "dump-1", "org", Some("ads"));
    daemon.comes_to("dump-2 is absent", |status| status["clusters"]["prod"]["nodes"]["absent"] == 1);
    daemon.is_ready();

    followed.state.cluster("prod", "{file: live.txt}").commit("a dump again");
    daemon.comes_to("both drift", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 2);
    soon("the Lease was given back", || lease_holder(&plane).as_deref() == Some(""));
    tamper(&plane, "dump-1", "org", &json!("rec"));
    followed.state.node("prod", "dump-1", "{group: ads, labels: {rack: r1}}").commit("more");
    daemon.comes_to("more differs", |status| status["clusters"]["prod"]["differingLabels"] == 3);
    assert_eq!(label(&plane, "dump-1", "org").as_deref(), Some("rec"));
}

#[test]
fn what_is_missing_for_the_lease_is_named_and_mended_without_a_restart() {
    let plane = ControlPlane::start_named("missing");
    plane.create_nodes(["right-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.cluster("prod", &connection(&plane, Role::Admin));
    followed.state.node("prod", "right-1", "{group: ads}").commit("as admin");
    let daemon = followed.run(&["--lease-namespace", "elsewhere"]);
    says(&daemon, "prod", "lease", &["404", "keeps its Lease in the namespace elsewhere: create it"]);
    is_trouble_of(&daemon, "prod");
    assert_eq!(label(&plane, "right-1", "org"), None, "nothing is written without a Lease");
    let body = json!({ "metadata": { "name": "elsewhere" } });
    plane.request(Role::Admin, "POST", "/api/v1/namespaces", Some((JSON, &body))).accepted("a namespace");
    carries(&plane, "right-1", "org", Some("ads"));
    daemon.is_ready();

    // Who may only read sees what drifts, is told what is missing, and follows on as an observer.
    followed.state.cluster("prod", &connection(&plane, Role::Reader)).commit("as reader");
    says(&daemon, "prod", "lease", &["drover may not", "leases", "deploy/rbac.yaml"]);
    tamper(&plane, "right-1", "org", &json!("rec"));
    daemon.comes_to("it drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 1);
    followed
        .state
        .cluster("prod", &format!("{}\n  mode: observe", connection(&plane, Role::Reader)))
        .commit("observed");
    daemon.is_ready();

    // Who may not see pods is told so: what would strand one cannot be known.
    followed.state.cluster("prod", &connection(&plane, Role::Blind)).commit("as blind");
    says(&daemon, "prod", "pods", &["drover may not list pods"]);
    is_trouble_of(&daemon, "prod");
}

#[test]
fn pods_are_known_again_after_their_watch_was_lost() {
    let plane = ControlPlane::start_named("pods");
    plane.create_nodes(["pod-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "pod-1", "{group: ads}").commit("one");
    let daemon = followed.run(&["--watch-lifetime", "2s"]);
    carries(&plane, "pod-1", "org", Some("ads"));
    plane.stop_api_server();
    is_trouble_of(&daemon, "prod");
    plane.start_api_server();
    daemon.is_ready();
    // A label is lost, so that pods matter.
    followed.state.node("prod", "pod-1", "{}").commit("none");
    carries(&plane, "pod-1", "org", None);
}
