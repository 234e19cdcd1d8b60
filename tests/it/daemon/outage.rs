//! API servers and their stores that go away, hang, and come back: the daemon says so while it lasts, every other cluster
//! is looked after as ever, and everything comes true by itself afterwards.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Followed, carries, connection, is_trouble_of, tamper};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};

/// A cluster that meets with an outage, another one that does not, and a daemon that looks after both.
struct Two {
    bad: ControlPlane,
    good: ControlPlane,
    followed: Followed,
    daemon: Daemon,
}

/// A hung server is noticed within seconds.
const QUICK: [&str; 4] = ["--watch-lifetime", "2s", "--lease", "6s"];

impl Two {
    fn start(name: &str) -> Self {
        let (bad, good) = (ControlPlane::start_named(name), ControlPlane::start_named("good"));
        let followed = Followed::of(&bad);
        let hasty = |plane| format!("{}\n  timeout: 2s", connection(plane, Role::Drover));
        followed.state.cluster("prod", &hasty(&bad)).cluster("good", &hasty(&good));
        for (cluster, plane) in [("prod", &bad), ("good", &good)] {
            plane.create_nodes(["out-1", "out-2"].map(NodeSpec::new));
            for node in ["out-1", "out-2"] {
                followed.state.node(cluster, node, "{group: ads}");
            }
        }
        followed.state.commit("both");
        let daemon = followed.run(&QUICK);
        daemon.is_ready();
        for plane in [&bad, &good] {
            carries(plane, "out-1", "org", Some("ads"));
            carries(plane, "out-2", "org", Some("ads"));
        }
        Self { bad, good, followed, daemon }
    }

    /// The daemon tells of the outage, heals the other cluster as ever, and takes a push that the bad one cannot get.
    fn lasts(&self) {
        is_trouble_of(&self.daemon, "prod");
        let begun = Instant::now();
        tamper(&self.good, "out-1", "org", &json!("rec"));
        carries(&self.good, "out-1", "org", Some("ads"));
        assert!(begun.elapsed() < Duration::from_secs(5), "the other cluster waited {:?}", begun.elapsed());
        let moved = "{group: rec}";
        self.followed.state.node("prod", "out-2", moved).node("good", "out-2", moved).commit("meanwhile");
        carries(&self.good, "out-2", "org", Some("rec"));
        let failures = self.daemon.metric("drover_watch_failures_total{cluster=\"good\",kind=\"nodes\"}");
        assert_eq!(failures, Some(0.0), "the other cluster is fine");
    }

    /// Everything comes true, and the daemon says that it is well.
    fn is_over(&self) {
        carries(&self.bad, "out-2", "org", Some("rec"));
        carries(&self.bad, "out-1", "org", Some("ads"));
        self.daemon.is_ready();
        // It truly follows again.
        tamper(&self.bad, "out-1", "gpu", &json!("true"));
        carries(&self.bad, "out-1", "gpu", None);
        self.bad.create_nodes([NodeSpec::new("out-3")]);
        self.daemon.comes_to("out-3 was seen", |status| status["clusters"]["prod"]["nodes"]["unmanaged"] == 1);
    }

    fn watch_failures(&self) -> f64 {
        self.daemon.metric("drover_watch_failures_total{cluster=\"prod\",kind=\"nodes\"}").unwrap_or_default()
    }
}

#[test]
fn an_api_server_that_was_away_is_followed_again() {
    let two = Two::start("away");
    for _ in 0..2 {
        two.bad.stop_api_server();
        two.lasts();
        assert!(two.watch_failures() >= 1.0);
        two.bad.start_api_server();
        tamper(&two.bad, "out-1", "org", &json!("rec"));
        two.bad.kubectl(["delete", "node", "out-3", "--ignore-not-found"]);
        two.is_over();
        two.followed.state.node("prod", "out-2", "{group: ads}").node("good", "out-2", "{group: ads}").commit("back");
        carries(&two.bad, "out-2", "org", Some("ads"));
    }
}

#[test]
fn an_api_server_that_hung_is_followed_again() {
    let two = Two::start("hung");
    two.bad.pause_api_server();
    two.lasts();
    soon("its watch counts as lost", || two.watch_failures() >= 1.0);
    two.bad.resume_api_server();
    two.is_over();
}

#[test]
fn a_store_that_hung_or_was_away_is_followed_again() {
    let two = Two::start("store");
    two.bad.pause_etcd();
    two.lasts();
    two.bad.resume_etcd();
    two.is_over();

    two.bad.stop_etcd();
    is_trouble_of(&two.daemon, "prod");
    two.bad.start_etcd();
    two.daemon.is_ready();
    tamper(&two.bad, "out-1", "org", &json!("rec"));
    carries(&two.bad, "out-1", "org", Some("ads"));
}

#[test]
fn a_cluster_that_was_restored_from_a_copy_is_seen_as_it_is() {
    let plane = ControlPlane::start_named("restored");
    plane.create_nodes(["old-1", "old-2"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "old-1", "{group: ads}").commit("one");
    plane.back_up();
    let daemon = followed.run(&QUICK);
    carries(&plane, "old-1", "org", Some("ads"));
    daemon.is_ready();
    // The history grows, and is lost with everything that was done.
    plane.create_nodes((1..50).map(|number| NodeSpec::new(format!("new-{number}"))));
    daemon.comes_to("they joined", |status| status["clusters"]["prod"]["nodes"]["unmanaged"] == 50);
    plane.restore();
    carries(&plane, "old-1", "org", Some("ads"));
    daemon.comes_to("they never were", |status| status["clusters"]["prod"]["nodes"]["unmanaged"] == 1);
    daemon.is_ready();
}
