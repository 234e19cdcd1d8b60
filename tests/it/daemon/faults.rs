//! API servers that answer badly: busy, broken, slow, garbled, cut off. A proxy in front of a real one makes the faults;
//! what drover cannot see through it is changed directly.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::support::{Followed, carries, is_trouble_of, memory, tamper};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::proxy::{Asked, Fault, Proxy};

type Rule = fn(&Asked) -> Option<Fault>;

/// A cluster behind a proxy with faults that come and go, and a daemon that looks after it.
struct Behind {
    plane: ControlPlane,
    proxy: Proxy,
    rule: Arc<Mutex<Rule>>,
    followed: Followed,
    daemon: Daemon,
}

impl Behind {
    fn start(name: &str) -> Self {
        let plane = ControlPlane::start_named(name);
        plane.create_nodes(["node-1", "node-2"].map(NodeSpec::new));
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(|_| None));
        let ruling = rule.clone();
        let proxy = Proxy::start(&plane, move |asked| {
            let rule = *ruling.lock().unwrap_or_else(PoisonError::into_inner);
            rule(asked)
        });
        let followed = Followed::of(&plane);
        followed.state.write(".cache/config", proxy.kubeconfig(Role::Drover));
        let config = followed.state.path(".cache/config");
        followed.state.cluster("prod", &format!("{{kubeconfig: {}}}\n  timeout: 2s", config.display()));
        for node in ["node-1", "node-2"] {
            followed.state.node("prod", node, "{group: ads, labels: {rack: r1}}");
        }
        followed.state.commit("two");
        let daemon = followed.run(&["--watch-lifetime", "4s", "--fight-times", "1000"]);
        daemon.is_ready();
        carries(&plane, "node-1", "org", Some("ads"));
        carries(&plane, "node-2", "org", Some("ads"));
        Self { plane, proxy, rule, followed, daemon }
    }

    /// The fault of requests from now on; what is open is cut.
    fn set(&self, rule: Rule) {
        self.ask(rule);
        self.proxy.cut();
    }

    /// The fault of requests from now on.
    fn ask(&self, rule: Rule) {
        *self.rule.lock().expect("nobody panics with it") = rule;
    }

    fn failures(&self) -> f64 {
        self.daemon.metric("drover_watch_failures_total{cluster=\"prod\",kind=\"nodes\"}").unwrap_or_default()
    }

    /// Tampers, and sees it healed; the daemon says that it is well.
    fn is_well(&self) {
        carries(&self.plane, "node-1", "org", Some("ads"));
        tamper(&self.plane, "node-2", "org", &json!("rec"));
        carries(&self.plane, "node-2", "org", Some("ads"));
        self.daemon.is_ready();
    }

    /// A fault comes, is told of, and goes; what was changed meanwhile is healed.
    fn sits_out(&self, rule: Rule) {
        let before = self.failures();
        self.set(rule);
        is_trouble_of(&self.daemon, "prod");
        soon("the watch counts as lost", || self.failures() >= before + 2.0);
        tamper(&self.plane, "node-1", "org", &json!("rec"));
        self.set(|_| None);
        self.is_well();
    }
}

#[test]
fn storms_of_every_kind_are_sat_out() {
    let behind = Behind::start("storms");
    behind.sits_out(|_| Some(Fault::Status(503)));
    behind.sits_out(|_| Some(Fault::Cut));
    behind.sits_out(|_| Some(Fault::Says("this is no API server\n")));
    behind.sits_out(|_| Some(Fault::Status(401)));
    behind.sits_out(|asked| asked.is_watch.then_some(Fault::Status(500)));
}

#[test]
fn watches_that_tell_nonsense_or_nothing_are_no_peace() {
    let behind = Behind::start("nonsense");
    behind.sits_out(|asked| asked.is_watch.then_some(Fault::Says("{\"type\":\"ADDED\",\"object\":7}\n")));
    behind.sits_out(|asked| asked.is_watch.then_some(Fault::Says("{\"type\":\"ADDED\",")));
    behind.sits_out(|asked| asked.is_watch.then_some(Fault::Status(410)));
    const GONE: &str = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\"}}\n";
    behind.sits_out(|asked| asked.is_watch.then_some(Fault::Says(GONE)));
}

#[test]
fn a_version_that_the_server_forgot_is_no_trouble() {
    let behind = Behind::start("forgot");
    let before = behind.proxy.asked("GET", "/api/v1/nodes").len();
    // Once for the nodes and once for the pods: the second attempt goes well.
    static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    behind.ask(|asked| {
        let mut refused = REFUSED.lock().expect("nobody panics with it");
        let first = asked.is_watch && !refused.contains(&asked.path);
        first.then(|| refused.push(asked.path.clone()));
        first.then_some(Fault::Status(410))
    });
    soon("both were refused", || REFUSED.lock().expect("nobody panics with it").len() == 2);
    behind.is_well();
    assert_eq!(behind.failures(), 0.0, "it listed anew, and that was all");
    assert!(behind.proxy.asked("GET", "/api/v1/nodes").len() < before + 12);
}

#[test]
fn a_watch_that_falls_silent_is_noticed_and_does_not_hide_drift() {
    let behind = Behind::start("silent");
    behind.proxy.hold(true);
    tamper(&behind.plane, "node-1", "org", &json!("rec"));
    // The watches stay open and never tell: what is listed in their place does.
    carries(&behind.plane, "node-1", "org", Some("ads"));
    assert!(behind.failures() >= 1.0);
    behind.proxy.hold(false);
    behind.is_well();
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let behind = Behind::start("busy");
    behind.set(|_| Some(Fault::RetryAfter(429, 2)));
    is_trouble_of(&behind.daemon, "prod");
    let busy = |asked: &Vec<Asked>| asked.iter().rev().take(4).map(|asked| asked.at).collect::<Vec<_>>();
    let before = behind.proxy.asked("GET", "/api/v1/nodes").len();
    soon("it asks again", || behind.proxy.asked("GET", "/api/v1/nodes").len() >= before + 4);
    let times = busy(&behind.proxy.asked("GET", "/api/v1/nodes"));
    let shortest = times.windows(2).map(|pair| pair[0] - pair[1]).min().expect("several");
    assert!(shortest >= Duration::from_millis(1990), "it asked again after {shortest:?}");
    tamper(&behind.plane, "node-1", "org", &json!("rec"));
    behind.set(|_| None);
    behind.is_well();
}

#[test]
fn writes_that_get_slow_late_or_no_answers_come_true_once() {
    let behind = Behind::start("answers");
    // The Lease must be renewed within 0.6 s, and is.
    behind.set(|_| Some(Fault::Late(Duration::from_millis(200))));
    behind.is_well();
    behind.set(|asked| (asked.method == "PATCH" && asked.time % 2 == 1).then_some(Fault::LostAnswer));
    behind.is_well();
    behind.set(|asked| (asked.method == "PATCH" && asked.time % 3 != 0).then_some(Fault::Silence));
    behind.is_well();
    behind.set(|asked| (asked.method == "PUT" && asked.time % 2 == 1).then_some(Fault::LostAnswer));
    behind.is_well();
    behind.followed.state.node("prod", "node-1", "{group: rec}").commit("moved");
    carries(&behind.plane, "node-1", "org", Some("rec"));
    behind.daemon.comes_to("nobody is left", |status| status["clusters"]["prod"]["failing"] == json!({}));
}

#[test]
fn drift_that_no_watch_tells_of_is_met_without_haste() {
    let behind = Behind::start("stale");
    behind.proxy.hold(true);
    // What the plan expects to replace is not there any more, and the watch does not say so.
    tamper(&behind.plane, "node-1", "org", &json!("public"));
    behind.followed.state.node("prod", "node-1", "{group: rec, labels: {rack: r1}}").commit("moved");
    carries(&behind.plane, "node-1", "org", Some("rec"));
    let writes = behind.proxy.asked("PATCH", "/api/v1/nodes/node-1").len();
    assert!(writes < 8, "it wrote {writes} times");
    behind.proxy.hold(false);
}

#[test]
fn outage_after_outage_costs_neither_memory_nor_requests() {
    let behind = Behind::start("again");
    let cycles = std::env::var("DROVER_OUTAGES").map_or(8, |count| count.parse().expect("a number"));
    let mut before = None;
    for cycle in 0..cycles {
        let (failures, asked) = (behind.failures(), behind.proxy.count());
        behind.set(|_| Some(Fault::Cut));
        soon("it is noticed", || behind.failures() > failures);
        let during = behind.proxy.count() - asked;
        assert!(during < 60, "{during} requests into nothing");
        behind.set(|_| None);
        behind.daemon.is_ready();
        // What is kept for good has been taken by then.
        if cycle == 2 {
            before = Some(memory(&behind.daemon));
        }
    }
    let (before, after) = (before.expect("several cycles"), memory(&behind.daemon));
    eprintln!("memory: {before} kB before, {after} kB after {cycles} outages");
    assert!(after < before + 8_000, "{before} kB before, {after} kB after");
    behind.is_well();
}
