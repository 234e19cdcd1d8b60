//! A distributed file system that works, hangs, dies and comes back: a GlusterFS volume mounted through FUSE.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::{ask, condition, reported};
use super::{shared, spec, why};
use crate::support::control_plane::{ControlPlane, NodeSpec};
use crate::support::machine::{Gluster, Machine};

const BOUND: u32 = 2;
/// How long what happens at once may take where many tests share two cores.
const BUSY: Duration = Duration::from_secs(20);

#[test]
fn one_look_at_each_state_of_a_volume() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    let volume = machine.gluster(&root);
    let directories = json!({"kubeflow/minio": {"mode": "0777"}, "infra/mysql": {"owner": "999:999"}});
    let spec = spec(
        &root,
        json!({"directories": directories, "writeTest": true, "timeoutSeconds": BOUND, "sources": [Gluster::SOURCE]}),
    );
    let report = machine.once(&spec, true).expect(0).json();
    assert_eq!(report["mount"]["fileSystem"], "fuse.glusterfs", "{report}");
    assert_eq!(machine.sh("stat -c '%a %u' $F/brick/kubeflow/minio $F/brick/infra/mysql"), "777 0\n755 999\n");

    for hang in [Gluster::client, Gluster::server] {
        hang(&volume, "STOP");
        let begun = Instant::now();
        let report = machine.report(&spec, true);
        let took = begun.elapsed();
        assert_eq!((why(&report).0, &report["verdict"]), ("ProbeTimeout", &json!("Unknown")), "{report}");
        assert!(why(&report).1.contains("fuse.glusterfs"), "{report}");
        assert!(took < Duration::from_secs(u64::from(BOUND) + 2), "{took:?}");
        hang(&volume, "CONT");
        let report = machine.report(&spec, true);
        assert_eq!(why(&report).0, "StorageVerified", "{report}");
    }
    volume.client("KILL");
    for more in [json!({}), json!({"directories": {"a": {}}})] {
        let report = machine.report(&super::spec(&root, more), true);
        assert_eq!((why(&report).0, &report["verdict"]), ("ProbeFailed", &json!("Failed")), "{report}");
    }
    volume.unmount();
    assert_eq!(machine.report(&spec, true)["reason"], "NotMounted");
    assert_eq!(machine.sh("ls -A $F/data"), "");
    volume.mount();
    machine.once(&spec, true).expect(0);
}

/// Waits for a reason, and returns the report and how long it took.
fn awaits(plane: &ControlPlane, node: &str, reason: &str) -> (Value, Duration) {
    let begun = Instant::now();
    let report = reported(plane, node, |report| report["reason"] == reason);
    (report, begun.elapsed())
}

#[test]
fn an_agent_lives_through_everything_and_never_hangs() {
    let Some(machine) = Machine::start() else { return };
    let plane = shared();
    let root = machine.text("data");
    let volume = machine.gluster(&root);
    let kubelet = machine.kubelet_on_host("slave");
    plane.create_nodes([NodeSpec::new("trouble-1")]);
    let wanted =
        spec(&root, json!({"directories": {"a": {}}, "timeoutSeconds": BOUND, "kubelet": true, "writeTest": true}));
    ask(plane, "trouble-1", &wanted);
    // A long interval: what changes must be noticed by itself.
    let agent = machine.agent(plane, "trouble-1", &["--interval", "4s", "--heartbeat", "1m"]);
    awaits(plane, "trouble-1", "StorageVerified");

    // The server is frozen: the process that looks cannot even be killed.
    volume.server("STOP");
    let (_, took) = awaits(plane, "trouble-1", "ProbeTimeout");
    assert!(took < Duration::from_secs(4 + u64::from(BOUND)) + BUSY, "{took:?}");
    assert_eq!(condition(plane, "trouble-1")["status"], "Unknown");
    std::thread::sleep(Duration::from_secs(6));
    let waiting = machine.sh("ps axo stat,args | grep -c '[a]gent --probe' || true");
    assert_eq!(waiting.trim(), "1", "one process waits, and no second one is started");
    // Meanwhile it answers to what is asked, and ends when it is told to.
    let generation = ask(plane, "trouble-1", &spec(&root, json!({"timeoutSeconds": BOUND})));
    let report = reported(plane, "trouble-1", |report| report["observedGeneration"] == generation);
    assert_eq!(report["reason"], "ProbeTimeout", "{report}");
    ask(plane, "trouble-1", &wanted);
    volume.server("CONT");
    let (report, took) = awaits(plane, "trouble-1", "StorageVerified");
    assert!(took < BUSY, "it is noticed when the process comes back: {took:?} {report}");

    volume.client("STOP");
    awaits(plane, "trouble-1", "ProbeTimeout");
    volume.client("CONT");
    awaits(plane, "trouble-1", "StorageVerified");

    volume.client("KILL");
    let (report, _) = awaits(plane, "trouble-1", "ProbeFailed");
    assert_eq!(report["verdict"], "Failed");
    volume.unmount();
    let (_, took) = awaits(plane, "trouble-1", "NotMounted");
    assert!(took < BUSY, "the list of mounts tells: {took:?}");
    assert_eq!(condition(plane, "trouble-1")["status"], "False");
    volume.mount();
    let (_, took) = awaits(plane, "trouble-1", "StorageVerified");
    assert!(took < BUSY, "the list of mounts tells: {took:?}");
    assert_eq!(condition(plane, "trouble-1")["status"], "True");

    volume.server("STOP");
    awaits(plane, "trouble-1", "ProbeTimeout");
    let begun = Instant::now();
    Machine::signal(&agent, "TERM");
    agent.end().expect(0);
    assert!(begun.elapsed() < BUSY, "{:?}", begun.elapsed());
    volume.server("CONT");
    kubelet.end();
}
