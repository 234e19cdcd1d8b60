//! What somebody changes by hand is changed back, within the guards and with manners.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Followed, carries, label, tamper};
use crate::support::control_plane::{ControlPlane, NodeSpec, PodSpec, Role};
use crate::support::daemon::soon;

#[test]
fn drift_is_healed_nodes_that_join_are_labelled_and_those_that_leave_are_absent() {
    let plane = ControlPlane::start_named("healed");
    plane.create_nodes(["heal-1", "heal-2"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    for node in ["heal-1", "heal-2", "heal-3"] {
        followed.state.node("prod", node, "{group: ads, labels: {rack: r1}}");
    }
    followed.state.commit("three");
    let daemon = followed.run(&[]);
    daemon.is_ready();
    carries(&plane, "heal-1", "org", Some("ads"));

    tamper(&plane, "heal-1", "org", &json!("rec"));
    carries(&plane, "heal-1", "org", Some("ads"));
    tamper(&plane, "heal-1", "gpu", &json!("true"));
    carries(&plane, "heal-1", "gpu", None);
    tamper(&plane, "heal-2", "rack", &Value::Null);
    carries(&plane, "heal-2", "rack", Some("r1"));
    tamper(&plane, "heal-2", "example.org/own", &json!("mine"));

    plane.create_nodes([NodeSpec::new("heal-3")]);
    carries(&plane, "heal-3", "org", Some("ads"));
    assert_eq!(label(&plane, "heal-2", "example.org/own").as_deref(), Some("mine"));

    plane.kubectl(["delete", "node", "heal-1"]);
    let status = daemon.comes_to("heal-1 is absent", |status| status["clusters"]["prod"]["nodes"]["absent"] == 1);
    assert_eq!(status["clusters"]["prod"]["nodes"]["managed"], 3);
    plane.create_nodes([NodeSpec::new("heal-1")]);
    carries(&plane, "heal-1", "rack", Some("r1"));

    soon("the node's Events tell", || plane.kubectl(["get", "events", "-A", "-o", "wide"]).contains("Labelled"));
    assert!(plane.kubectl(["describe", "node", "heal-1"]).contains("+rack=r1"), "kubectl describe shows it");
    let changes = daemon.metric("drover_label_changes_total{cluster=\"prod\",kind=\"written\"}");
    assert!(changes.is_some_and(|changes| changes >= 8.0), "{changes:?}");
}

/// DROVER_TAMPERS sets how often (default 40); the times are told.
#[test]
fn drift_is_healed_within_a_second() {
    let number = std::env::var("DROVER_TAMPERS").map_or(40, |count| count.parse().expect("a number"));
    let plane = ControlPlane::start_named("quick");
    let names: Vec<String> = (0..8).map(|number| format!("quick-{number}")).collect();
    plane.create_nodes(names.iter().map(NodeSpec::new));
    let followed = Followed::of(&plane);
    for name in &names {
        followed.state.node("prod", name, "{group: ads}");
    }
    followed.state.commit("eight");
    let daemon = followed.run(&["--fight-times", "60000", "--poll", "1h"]);
    names.iter().for_each(|name| carries(&plane, name, "org", Some("ads")));
    daemon.is_ready();
    let client = plane.client().expect("a client");
    let heal = |number: usize| {
        let name = &names[number % names.len()];
        tamper(&plane, name, "org", &json!("rec"));
        let (begun, path) = (Instant::now(), format!("/api/v1/nodes/{name}"));
        loop {
            let node = client.send(&plane.token(Role::Admin), "GET", &path, None).expect("an answer").json();
            match node["metadata"]["labels"]["org"] == "ads" {
                true => return begun.elapsed(),
                false => assert!(begun.elapsed() < Duration::from_secs(120), "{name} is never healed"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut times: Vec<Duration> = (0..number).map(heal).collect();
    times.sort();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    eprintln!("{number} times: median {:?}, p99 {:?}, worst {:?}", at(50), at(99), at(100));
    // The slowest ones say more of a machine that runs all tests at once; `cargo bench --bench daemon` judges p99.
    assert!(at(50) < Duration::from_secs(1), "{times:?}");
}

#[test]
fn what_a_guard_holds_back_stays_until_the_guard_is_lifted() {
    let plane = ControlPlane::start_named("guarded");
    plane.create_nodes(["guard-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "guard-1", "{group: ads}").commit("ads");
    let daemon = followed.run(&[]);
    carries(&plane, "guard-1", "org", Some("ads"));
    plane.create_pod(PodSpec::on_node("training", "guard-1").selecting("org", "ads"));

    followed.state.node("prod", "guard-1", "{group: rec}").commit("rec");
    let status = daemon.comes_to("held back", |status| {
        status["clusters"]["prod"]["refusals"].as_array().is_some_and(|refusals| !refusals.is_empty())
    });
    assert_eq!(status["clusters"]["prod"]["refusals"][0]["guard"], "running-pods");
    assert_eq!(status["clusters"]["prod"]["refusals"][0]["details"], json!(["default/training on guard-1"]));
    assert_eq!(label(&plane, "guard-1", "org").as_deref(), Some("ads"));

    // The pod ends: nothing holds the change back any more, and something else gives the cluster another look.
    plane.kubectl(["delete", "pod", "training", "--grace-period=0", "--force"]);
    tamper(&plane, "guard-1", "gpu", &json!("true"));
    carries(&plane, "guard-1", "org", Some("rec"));
}

#[test]
fn an_observed_cluster_is_reported_and_never_written() {
    let plane = ControlPlane::start_named("observed");
    plane.create_nodes(["watch-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  mode: observe\n");
    followed.state.node("prod", "watch-1", "{group: ads}").commit("observed");
    let daemon = followed.run(&[]);
    let status = daemon.comes_to("it drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 1);
    assert_eq!(status["clusters"]["prod"]["tenure"]["role"], "observer");
    daemon.is_ready();
    assert_eq!(label(&plane, "watch-1", "org"), None);
    let leases = plane.get("/apis/coordination.k8s.io/v1/namespaces/drover/leases");
    assert_eq!(leases["items"], json!([]), "not even a Lease is written");

    followed.state.edit("state/clusters/prod.yaml", "mode: observe", "mode: enforce").commit("enforced");
    carries(&plane, "watch-1", "org", Some("ads"));
    followed.state.edit("state/clusters/prod.yaml", "mode: enforce", "mode: observe").commit("observed again");
    daemon.comes_to("an observer again", |status| status["clusters"]["prod"]["tenure"]["role"] == "observer");
    tamper(&plane, "watch-1", "org", &json!("rec"));
    daemon.comes_to("it drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 1);
    assert_eq!(label(&plane, "watch-1", "org").as_deref(), Some("rec"));
}

#[test]
fn a_kubelet_that_joins_finds_its_labels_at_once_and_its_heartbeats_change_nothing() {
    let plane = ControlPlane::start_named("joined");
    let followed = Followed::of(&plane);
    followed.state.node("prod", "hollow-1", "{group: ads, workloads: [train]}").commit("to come");
    let daemon = followed.run(&[]);
    let status = daemon.comes_to("it waits for the node", |status| status["clusters"]["prod"]["nodes"]["absent"] == 1);
    assert_eq!(status["clusters"]["prod"]["nodes"]["drifting"], 0);

    let kubelet = plane.hollow_kubelet("hollow-1");
    soon("the node is there", || plane.kubectl(["get", "nodes", "-o", "name"]).contains("hollow-1"));
    carries(&plane, "hollow-1", "org", Some("ads"));
    soon("the node is ready", || plane.kubectl(["get", "nodes"]).contains(" Ready "));
    daemon.comes_to("nothing is left to do", |status| {
        status["clusters"]["prod"]["nodes"]
            == json!({"managed": 1, "drifting": 0, "absent": 0, "unmanaged": 0, "waiting": 0})
    });
    assert_eq!(label(&plane, "hollow-1", "train").as_deref(), Some("true"));
    let written = daemon.metric("drover_label_changes_total{cluster=\"prod\",kind=\"written\"}");
    assert_eq!(written, Some(2.0), "each label once, whatever the kubelet says meanwhile");
    drop(kubelet);
}
