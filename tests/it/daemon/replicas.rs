//! Several replicas share a cluster: one writes at a time, whatever is done to it, and the next one follows without delay.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::support::{Followed, carries, tamper};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role, Write, eventually};
use crate::support::daemon::{Daemon, soon};
use crate::support::openb::machines;
use crate::support::state::State;

const LEASE: &str = "drover";
/// The lease of the replicas here.
const LENGTH: Duration = Duration::from_secs(4);
/// How long a thousand writes may take on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// A replica whose name shows in the audit log.
fn replica(followed: &Followed, name: &str, arguments: &[&str]) -> Daemon {
    let length = format!("{}s", LENGTH.as_secs());
    let mut all = vec!["--identity", name, "--lease", &length];
    if !arguments.contains(&"--poll") {
        all.extend(["--poll", "1h"]);
    }
    all.extend(arguments);
    followed.run(&all)
}

fn role(daemon: &Daemon) -> Value {
    daemon.status()["clusters"]["prod"]["tenure"]["role"].clone()
}

/// Who holds the cluster's Lease now, without what makes the name unique.
fn holder(plane: &ControlPlane) -> Option<String> {
    let leases = plane.get("/apis/coordination.k8s.io/v1/namespaces/drover/leases");
    let identity = leases["items"][0]["spec"]["holderIdentity"].as_str()?.to_owned();
    let name = identity.split('_').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The name that a replica gives itself in its requests; none for others than drover.
fn writer(write: &Write) -> Option<&str> {
    write.agent.strip_prefix("drover/")?.split_once('(')?.1.strip_suffix(')')
}

/// Every write to a node by drover lies in the tenure of its writer, and a tenure begins only after the one before was
/// given back or ran out. Returns how many writes there were, and how many tenures.
fn every_write_is_in_its_writers_tenure(plane: &ControlPlane) -> (usize, usize) {
    let (mut holder, mut renewed) = (String::new(), None);
    let (mut writes, mut tenures, mut wrong) = (0, 0, Vec::new());
    for write in plane.writes() {
        if write.name == LEASE && write.resource == "leases" {
            let now = write.object["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
            assert!(
                now.is_empty() || Some(now.as_str()) == writer(&write),
                "nobody takes a Lease for others: {write:?}"
            );
            if now != holder && !now.is_empty() {
                tenures += 1;
                let waited = renewed.map(|at| write.at.duration_since(at).as_secs_f32());
                let enough = LENGTH.as_secs_f32() * 0.84;
                assert!(
                    holder.is_empty() || waited >= Some(enough),
                    "{now} took over from {holder} after {waited:?} s"
                );
            }
            (holder, renewed) = (now, Some(write.at));
        } else if let Some(writer) = writer(&write) {
            writes += 1;
            if writer != holder {
                wrong.push(format!("{} at {} by {writer}, while {holder:?} held the Lease", write.name, write.at));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {writes} writes:\n{}", wrong.len(), wrong.join("\n"));
    (writes, tenures)
}

/// All nodes of the cluster in one file, with a label that has this value.
fn racks(followed: &Followed, nodes: &[NodeSpec], rack: &str) {
    let document = |node: &NodeSpec| {
        let name = &node.name;
        format!(
            "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: prod}}\nspec: {{labels: {{rack: {rack}}}}}\n"
        )
    };
    let text: Vec<String> = nodes.iter().map(document).collect();
    followed.state.write("state/nodes/prod.yaml", text.join("---\n")).commit(rack);
}

/// A Fleet whose clusters may be changed whole.
fn whole(followed: &Followed) {
    followed.state.write(
        "state/fleet.yaml",
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: fleet}\nspec: {limits: {changedNodesPercent: 100}}\n",
    );
}

fn done(plane: &ControlPlane, nodes: usize, rack: &str) {
    eventually("the revision is applied", LONG, || match is_done(plane, nodes, rack) {
        true => Ok(()),
        false => Err("it is not".to_owned()),
    });
}

fn is_done(plane: &ControlPlane, nodes: usize, rack: &str) -> bool {
    let found = plane.get(&format!("/api/v1/nodes?labelSelector=rack%3D{rack}&limit=2000"));
    found["items"].as_array().map_or(0, Vec::len) == nodes
}

/// Tells a daemon to look at the repository.
fn hook(daemon: &Daemon) {
    let answer = ureq::post(format!("{}/hooks/git", daemon.url())).header("X-Gitea-Event", "push").send("{}");
    assert_eq!(answer.expect("an answer").status(), 202);
}

#[test]
fn a_replica_that_was_stopped_in_the_middle_of_writing_writes_nothing_after_its_tenure() {
    let Some(machines) = machines() else { return };
    let nodes: Vec<NodeSpec> = machines.iter().map(NodeSpec::from).collect();
    let plane = ControlPlane::start_audited("fenced");
    plane.create_nodes(nodes.clone());
    let followed = Followed::of(&plane);
    whole(&followed);
    racks(&followed, &nodes, "r0");
    let replicas = ["a", "b", "c"].map(|name| (name, replica(&followed, name, &[])));
    done(&plane, nodes.len(), "r0");

    let rounds = std::env::var("DROVER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let mut random = rand::thread_rng();
    for round in 1..=rounds {
        let rack = format!("r{round}");
        racks(&followed, &nodes, &rack);
        for (_, daemon) in &replicas {
            hook(daemon);
        }
        soon("somebody writes", || !is_done(&plane, 0, &rack));
        std::thread::sleep(Duration::from_millis(random.gen_range(0..150)));
        let name = holder(&plane).expect("somebody writes");
        let (_, paused) = replicas.iter().find(|(known, _)| *known == name).expect("one of them");
        paused.signal("STOP");
        soon("another one takes over", || holder(&plane).is_some_and(|now| now != name));
        // Sometimes it wakes while the others write, and sometimes after.
        if random.gen_bool(0.5) {
            done(&plane, nodes.len(), &rack);
        }
        paused.signal("CONT");
        done(&plane, nodes.len(), &rack);
        soon("it knows that it was replaced", || role(paused) == "standby");
    }
    let (writes, tenures) = every_write_is_in_its_writers_tenure(&plane);
    assert!(writes >= nodes.len() * (rounds + 1) && tenures > rounds, "{writes} writes in {tenures} tenures");
    eprintln!("{writes} writes in {tenures} tenures");
}

#[test]
fn a_stream_of_drift_is_healed_by_one_replica_at_a_time() {
    let plane = ControlPlane::start_audited("stream");
    let nodes: Vec<NodeSpec> = (0..40).map(|number| NodeSpec::new(format!("node-{number:02}"))).collect();
    plane.create_nodes(nodes.clone());
    let followed = Followed::of(&plane);
    whole(&followed);
    racks(&followed, &nodes, "r0");
    let limits = ["--fight-times", "60000"];
    let replicas = ["a", "b"].map(|name| (name, replica(&followed, name, &limits)));
    done(&plane, nodes.len(), "r0");

    let ends = Instant::now() + LENGTH * 6;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = rand::thread_rng();
            while Instant::now() < ends {
                // A few at a time: a third of the cluster at once would be held back.
                for node in nodes.choose_multiple(&mut random, 8) {
                    tamper(&plane, &node.name, "rack", &json!("tampered"));
                }
            }
        });
        let mut random = rand::thread_rng();
        while Instant::now() < ends {
            let Some(name) = holder(&plane) else { continue };
            let (_, paused) = replicas.iter().find(|(known, _)| *known == name).expect("one of them");
            paused.signal("STOP");
            std::thread::sleep(LENGTH.mul_f32(random.gen_range(0.2..1.6)));
            paused.signal("CONT");
        }
    });
    done(&plane, nodes.len(), "r0");
    let (writes, tenures) = every_write_is_in_its_writers_tenure(&plane);
    assert!(writes > nodes.len() && tenures > 1, "{writes} writes in {tenures} tenures");
}

#[test]
fn a_cluster_is_taken_over_within_the_lease_after_a_kill_and_at_once_after_a_stop() {
    let plane = ControlPlane::start_audited("takeover");
    plane.create_nodes(["over-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "over-1", "{group: ads}").commit("ads");
    let mut first = replica(&followed, "n0", &[]);
    carries(&plane, "over-1", "org", Some("ads"));
    for (round, signal) in ["KILL", "TERM", "KILL", "TERM"].into_iter().enumerate() {
        let next = replica(&followed, &format!("n{}", round + 1), &[]);
        next.comes_to("standby", |status| status["clusters"]["prod"]["tenure"]["role"] == "standby");
        next.is_ready();
        let since = jiff::Timestamp::now();
        first.signal(signal);
        tamper(&plane, "over-1", "org", &json!("rec"));
        carries(&plane, "over-1", "org", Some("ads"));
        let healed = eventually("the write is in the audit log", LENGTH, || {
            let by_next = |write: &Write| {
                write.resource == "nodes" && writer(write).is_some_and(|by| by.starts_with(&format!("n{}_", round + 1)))
            };
            plane
                .writes()
                .iter()
                .rfind(|write| by_next(write))
                .map(|write| write.at)
                .ok_or_else(|| "not yet".to_owned())
        });
        let gap = healed.duration_since(since).as_secs_f32() / LENGTH.as_secs_f32();
        eprintln!("{signal}: a gap of {gap:.2} leases");
        assert!(gap < if signal == "KILL" { 1.05 } else { 0.4 }, "{signal}: a gap of {gap:.2} leases");
        first = next;
    }
    every_write_is_in_its_writers_tenure(&plane);
}

/// Another copy of the repository.
fn mirror(followed: &Followed) -> Followed {
    let state = State::new();
    let from = followed.state.root().display().to_string();
    state.git(&["clone", "--quiet", &from, "."]);
    Followed { state }
}

#[test]
fn a_replica_whose_copy_is_older_does_not_fall_back_behind_what_is_recorded() {
    let plane = ControlPlane::start_audited("behind");
    plane.create_nodes(["old-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "old-1", "{group: ads}").commit("ads");
    let older = mirror(&followed);
    let newest = followed.state.node("prod", "old-1", "{group: rec}").commit("rec");

    let new = replica(&followed, "new", &["--poll", "1s"]);
    carries(&plane, "old-1", "org", Some("rec"));
    let old = replica(&older, "old", &["--poll", "1s"]);
    old.comes_to("standby", |status| status["clusters"]["prod"]["tenure"]["role"] == "standby");
    new.stop().expect(0);
    let behind =
        |status: &Value| status["clusters"]["prod"]["tenure"] == json!({ "role": "behind", "recorded": newest });
    old.comes_to("behind", behind);
    assert_eq!(old.get("/readyz").0, 503);
    tamper(&plane, "old-1", "org", &json!("tampered"));
    old.comes_to("it drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 1);
    assert_eq!(holder(&plane), None, "who may not write leaves the Lease to those who may");

    // One that knows the newest revision is not kept out.
    let new = replica(&followed, "new", &["--poll", "1s"]);
    carries(&plane, "old-1", "org", Some("rec"));
    new.stop().expect(0);
    old.comes_to("behind again", behind);

    // The copy catches up: nothing else is needed.
    older.state.git(&["fetch", "--quiet", "origin"]);
    older.state.git(&["reset", "--quiet", "--hard", "origin/main"]);
    old.comes_to("holder", |status| status["clusters"]["prod"]["tenure"]["role"] == "holder");
    old.stop().expect(0);

    // A commit that nobody knows is followed by an older one only where that is asked for.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/drover/leases/drover";
    let unknown = json!({ "metadata": { "annotations": { "drover.dev/revision": "f".repeat(40) } } });
    plane.request(Role::Admin, "PATCH", lease, Some((MERGE_PATCH, &unknown))).accepted(lease);
    tamper(&plane, "old-1", "org", &json!("tampered"));
    let old = replica(&older, "old", &[]);
    old.comes_to("behind", |status| status["clusters"]["prod"]["tenure"]["recorded"] == "f".repeat(40));
    old.stop().expect(0);
    let old = replica(&older, "old", &["--follow-rewinds"]);
    carries(&plane, "old-1", "org", Some("rec"));
    old.stop().expect(0);
    every_write_is_in_its_writers_tenure(&plane);
}
