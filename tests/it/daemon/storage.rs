//! The daemon and storage: what attracts work goes and comes with the word of a machine's agent, by itself.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::support::{Followed, carries, label, tamper};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role};
use crate::support::daemon::soon;

fn path() -> String {
    "/apis/drover.dev/v1/nodestorages/store-1".to_owned()
}

/// What an agent would report, so long ago.
fn report(plane: &ControlPlane, verdict: &str, reason: &str, ago: SignedDuration) {
    let generation = &plane.get(&path())["metadata"]["generation"];
    let status = json!({ "status": {
        "observedGeneration": generation, "checked": (Timestamp::now() - ago).to_string(), "verdict": verdict,
        "reason": reason, "message": "as the test says", "kubelet": "Same",
    }});
    let path = format!("{}/status", path());
    plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &status))).accepted(&path);
}

#[test]
fn labels_go_and_come_with_the_storage_of_a_machine() {
    let plane = ControlPlane::start_named("daemon-storage");
    plane.create_nodes(["store-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    let storage = "{root: /data/k8s, staleAfter: 20s}";
    followed.state.edit("state/clusters/prod.yaml", "spec:\n", &format!("spec:\n  storage: {storage}\n"));
    followed.state.node("prod", "store-1", "{group: ads, devices: {cpu: true}, workloads: [train]}").commit("storage");
    let daemon = followed.run(&[]);
    carries(&plane, "store-1", "cpu", Some("true"));
    soon("its agent is asked", || plane.request(Role::Admin, "GET", &path(), None).status == 200);
    daemon.comes_to("it waits", |status| status["clusters"]["prod"]["nodes"]["waiting"] == 1);
    assert_eq!(label(&plane, "store-1", "org"), None);

    report(&plane, "Verified", "StorageVerified", SignedDuration::ZERO);
    carries(&plane, "store-1", "org", Some("ads"));
    carries(&plane, "store-1", "train", Some("true"));

    report(&plane, "Failed", "NotMounted", SignedDuration::ZERO);
    carries(&plane, "store-1", "org", None);
    carries(&plane, "store-1", "train", None);
    let status = daemon.comes_to("it says why", |status| status["clusters"]["prod"]["waiting"]["store-1"].is_string());
    assert_eq!(status["clusters"]["prod"]["waiting"]["store-1"], "NotMounted: as the test says");
    assert_eq!(label(&plane, "store-1", "cpu").as_deref(), Some("true"));

    report(&plane, "Verified", "StorageVerified", SignedDuration::ZERO);
    carries(&plane, "store-1", "org", Some("ads"));

    // An old word, and none at all, set nothing and take nothing off.
    report(&plane, "Failed", "NotMounted", SignedDuration::from_mins(2));
    tamper(&plane, "store-1", "cpu", &Value::Null);
    carries(&plane, "store-1", "cpu", Some("true")); // a pass has seen the word
    assert_eq!(label(&plane, "store-1", "org").as_deref(), Some("ads"));
    assert!(daemon.said().contains("storage: NotMounted: as the test says"), "{}", daemon.said());
    daemon.stop().expect(0);
}
