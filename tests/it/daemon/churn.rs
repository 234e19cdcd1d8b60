//! Everything at once, for as long as one likes: pushes good and bad, tampering, joins and departures, killed and stopped
//! daemons, restarted API servers. In the end every cluster is exactly as the last good revision says.
//!
//! DROVER_CHURN sets the seconds (default 20); DROVER_SEED repeats a run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::support::{connection, memory, tamper};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::state::State;

const CLUSTERS: [&str; 2] = ["east", "west"];
const GROUPS: [&str; 3] = ["ads", "rec", "nlp"];
const NODES: usize = 12;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Churn {
    random: StdRng,
    planes: [ControlPlane; 2],
    state: State,
    /// The group of each node by the last good revision.
    wanted: BTreeMap<(usize, usize), &'static str>,
    daemons: Vec<Daemon>,
    done: BTreeMap<&'static str, usize>,
}

fn name(node: usize) -> String {
    format!("churn-{node:02}")
}

impl Churn {
    fn start(seed: u64) -> Self {
        let planes = CLUSTERS.map(ControlPlane::start_named);
        let state = State::new();
        for group in GROUPS {
            state.group(group);
        }
        for (plane, cluster) in planes.iter().zip(CLUSTERS) {
            plane.create_nodes((0..NODES).map(|node| NodeSpec::new(name(node)).label("example.org/own", "mine")));
            state.cluster(cluster, &connection(plane, Role::Drover));
        }
        // A dozen nodes are few: what churns here would be too many at once for the default.
        state.write(
            "state/fleet.yaml",
            "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: churn}\nspec: {limits: {changedNodesPercent: 100}}\n",
        );
        let mut churn = Self {
            random: StdRng::seed_from_u64(seed),
            planes,
            state,
            wanted: BTreeMap::new(),
            daemons: Vec::new(),
            done: BTreeMap::new(),
        };
        for cluster in 0..CLUSTERS.len() {
            for node in 0..NODES {
                churn.want(cluster, node, "ads");
            }
        }
        churn.state.commit("the beginning");
        churn.daemons = (0..2).map(|_| churn.daemon()).collect();
        churn
    }

    fn daemon(&self) -> Daemon {
        let repository = self.state.root().display().to_string();
        // Churn is no fight: nobody sets the same label back for a purpose.
        let fights = ["--fight-times", "1000"];
        let source = ["--repo", &repository, "--rev", "main", "--watch-lifetime", "5s"];
        Daemon::start(self.state.root(), &[&source[..], &fights[..]].concat())
    }

    fn want(&mut self, cluster: usize, node: usize, group: &'static str) {
        self.state.node(CLUSTERS[cluster], &name(node), &format!("{{group: {group}, labels: {{rack: r1}}}}"));
        self.wanted.insert((cluster, node), group);
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.gen_range(0..of.len())]
    }

    fn step(&mut self) {
        let (cluster, node) = (self.random.gen_range(0..CLUSTERS.len()), self.random.gen_range(0..NODES));
        let what = match self.random.gen_range(0..100) {
            0..=29 => {
                let group = self.pick(&GROUPS);
                self.want(cluster, node, group);
                self.state.git(&["add", "--all"]);
                self.state.git(&["commit", "--quiet", "--allow-empty", "--message", "a move"]);
                "good pushes"
            }
            30..=39 => {
                let wanted = self.wanted[&(cluster, node)];
                self.state.node(CLUSTERS[cluster], &name(node), "{group: nobody}").commit("a mistake");
                self.want(cluster, node, wanted);
                self.state.commit("mended");
                "bad pushes"
            }
            40..=74 => {
                let (key, value) =
                    self.pick(&[("org", Some("x")), ("org", None), ("rack", Some("r9")), ("gpu", Some("true"))]);
                let path = format!("/api/v1/nodes/{}?fieldManager=kubectl-label", name(node));
                let body = json!({ "metadata": { "labels": { key: value } } });
                self.planes[cluster].request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body)));
                "tampered labels"
            }
            75..=84 => {
                let path = format!("/api/v1/nodes/{}", name(node));
                self.planes[cluster].request(Role::Admin, "DELETE", &path, None);
                self.planes[cluster].create_nodes([NodeSpec::new(name(node)).label("example.org/own", "mine")]);
                "nodes that left and joined"
            }
            85..=89 => {
                let index = self.random.gen_range(0..self.daemons.len());
                let signal = self.pick(&["KILL", "TERM"]);
                let old = self.daemons.swap_remove(index);
                old.signal(signal);
                old.end();
                let new = self.daemon();
                self.daemons.push(new);
                "daemons killed or stopped"
            }
            90..=94 => {
                let index = self.random.gen_range(0..self.daemons.len());
                self.daemons[index].signal("STOP");
                std::thread::sleep(Duration::from_millis(self.random.gen_range(0..5000)));
                self.daemons[index].signal("CONT");
                "daemons paused"
            }
            95..=96 => {
                self.planes[cluster].stop_api_server();
                self.planes[cluster].start_api_server();
                "API servers restarted"
            }
            _ => {
                std::thread::sleep(Duration::from_millis(self.random.gen_range(0..2000)));
                "rests"
            }
        };
        *self.done.entry(what).or_default() += 1;
    }

    /// What differs from the last good revision.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for ((cluster, node), group) in &self.wanted {
            let live = self.planes[*cluster].get(&format!("/api/v1/nodes/{}", name(*node)));
            let labels = &live["metadata"]["labels"];
            for (key, value) in
                [("org", Some(*group)), ("rack", Some("r1")), ("gpu", None), ("example.org/own", Some("mine"))]
            {
                if labels[key].as_str() != value {
                    found.push(format!(
                        "{} {} {key}: {} instead of {value:?}",
                        CLUSTERS[*cluster],
                        name(*node),
                        labels[key]
                    ));
                }
            }
        }
        found
    }
}

#[test]
fn whatever_happens_the_clusters_end_up_as_the_last_good_revision_says() {
    let seed = setting("DROVER_SEED").unwrap_or_else(rand::random);
    let length = Duration::from_secs(setting("DROVER_CHURN").unwrap_or(20));
    eprintln!("DROVER_SEED={seed}");
    let mut churn = Churn::start(seed);
    let begin = Instant::now();
    while begin.elapsed() < length {
        churn.step();
    }
    eprintln!("in {length:?}: {:?}", churn.done);
    // They are some minutes old at most; one that leaked would show it.
    let memory: Vec<u64> = churn.daemons.iter().map(memory).collect();
    eprintln!("memory of the daemons: {memory:?} kB");
    assert!(memory.iter().all(|kilobytes| *kilobytes < 120_000), "{memory:?} kB");
    soon("the clusters are as the state says", || churn.differences().is_empty());
    for daemon in &churn.daemons {
        daemon.is_ready();
    }
    // It also stays so, and what is changed now is still healed.
    tamper(&churn.planes[0], &name(0), "org", &json!("x"));
    soon("drift is healed", || churn.differences().is_empty());
    for daemon in churn.daemons {
        daemon.stop().expect(0);
    }
}
