//! Killed at any moment, again and again, while everything changes: whoever runs last makes the last valid revision true,
//! and nothing else was touched.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Followed, tamper};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role, eventually};
use crate::support::run::{self, Running};

const NODES: u64 = 9;

/// Numbers that look random, and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What the test knows to be right.
#[derive(Default)]
struct Right {
    /// Labels that the last valid revision asks for, by node.
    asked: BTreeMap<String, BTreeMap<String, String>>,
    /// Labels that other people set, by node.
    foreign: BTreeMap<String, BTreeMap<String, String>>,
    joined: u64,
}

impl Right {
    /// The labels of every node, as they must be in the end.
    fn all(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let own = |name: &str| {
            let kubelet = [("hostname", name), ("os", "linux"), ("arch", "amd64")];
            kubelet.map(|(key, value)| (format!("kubernetes.io/{key}"), value.to_owned()))
        };
        let names = (0..self.joined).map(|number| format!("kill-{number}")).chain(["stranger".to_owned()]);
        names
            .map(|name| {
                let of = |labels: &BTreeMap<String, BTreeMap<String, String>>| {
                    labels.get(&name).cloned().unwrap_or_default()
                };
                let labels = own(&name).into_iter().chain(of(&self.asked)).chain(of(&self.foreign)).collect();
                (name, labels)
            })
            .collect()
    }
}

fn live(plane: &ControlPlane) -> BTreeMap<String, BTreeMap<String, String>> {
    let list: Value = serde_json::from_str(&plane.raw_list()).expect("a list");
    let nodes = list["items"].as_array().expect("nodes").iter().map(|node| {
        let name = node["metadata"]["name"].as_str().expect("a name").to_owned();
        (name, serde_json::from_value(node["metadata"]["labels"].clone()).expect("labels"))
    });
    nodes.collect()
}

/// Changes something: the state, the cluster, or both.
fn change(dice: &mut Dice, right: &mut Right, plane: &ControlPlane, followed: &Followed) {
    let state = &followed.state;
    let name = format!("kill-{}", dice.below(NODES));
    let number = dice.below(1000);
    match dice.below(6) {
        0 | 1 => {
            let group = ["ads", "rec"][dice.below(2) as usize];
            let rack = (dice.below(3) > 0).then(|| format!("r{number}"));
            let labels = rack.as_ref().map(|rack| format!(", labels: {{rack: {rack}}}")).unwrap_or_default();
            state.node("prod", &name, &format!("{{group: {group}{labels}}}"));
            state.commit(&format!("{name} {number} {group} {rack:?}"));
            let asked =
                rack.map(|rack| ("rack".to_owned(), rack)).into_iter().chain([("org".to_owned(), group.to_owned())]);
            right.asked.insert(name, asked.collect());
        }
        2 => {
            let path = "state/nodes/prod/typing-error.yaml";
            state.write(path, format!("kind: Node\nspec: {{grup: {number}}}\n")).commit("a typing error");
            std::fs::remove_file(state.path(path)).expect("it is there");
        }
        3 if right.joined < NODES => {
            plane.create_nodes([NodeSpec::new(format!("kill-{}", right.joined))]);
            right.joined += 1;
        }
        _ if !name.ends_with(|last: char| last.to_digit(10).is_some_and(|last| u64::from(last) < right.joined)) => {}
        4 => {
            tamper(plane, &name, "example.org/note", &json!(number.to_string()));
            right.foreign.entry(name).or_default().insert("example.org/note".into(), number.to_string());
        }
        _ => {
            let key = ["org", "gpu", "rack"][dice.below(3) as usize];
            // A label that nobody asks for is only drover's where it is part of the vocabulary.
            if key != "rack" || right.asked.get(&name).is_some_and(|asked| asked.contains_key("rack")) {
                let value = if dice.below(2) == 0 { Value::Null } else { json!(format!("x{number}")) };
                tamper(plane, &name, key, &value);
            }
        }
    }
}

/// The Lease of whoever was killed runs out.
fn free_the_lease(plane: &ControlPlane) {
    let path = "/apis/coordination.k8s.io/v1/namespaces/drover/leases/drover";
    let body = json!({ "spec": { "holderIdentity": "" } });
    let reply = plane.request(Role::Admin, "PATCH", path, Some((MERGE_PATCH, &body)));
    assert!([200, 404].contains(&reply.status), "{}", reply.body);
}

#[test]
fn killed_at_any_moment_it_converges_to_the_last_valid_revision() {
    let kills: u64 = std::env::var("DROVER_KILLS").map_or(20, |count| count.parse().expect("a number"));
    let seed: u64 = std::env::var("DROVER_SEED").map_or(4711, |seed| seed.parse().expect("a number"));
    eprintln!("DROVER_KILLS={kills} DROVER_SEED={seed}");
    let mut dice = Dice(seed);
    let plane = ControlPlane::start_named("killed");
    let followed = Followed::of(&plane);
    let mut right = Right { joined: 3, ..Right::default() };
    for number in 0..NODES {
        let name = format!("kill-{number}");
        followed.state.node("prod", &name, "{group: ads}");
        right.asked.insert(name, BTreeMap::from([("org".to_owned(), "ads".to_owned())]));
    }
    plane.create_nodes((0..right.joined).map(|number| NodeSpec::new(format!("kill-{number}"))));
    plane.create_nodes([NodeSpec::new("stranger").label("org", "nobody").label("gpu", "true")]);
    let strange = BTreeMap::from([("org".to_owned(), "nobody".to_owned()), ("gpu".to_owned(), "true".to_owned())]);
    right.foreign.insert("stranger".into(), strange);
    followed.state.commit("nine");

    let mut wrote = 0;
    for _ in 0..kills {
        let mut command = run::command(followed.state.root());
        let repository = followed.state.root().display().to_string();
        command.args(["run", "--repo", &repository, "--rev", "main", "--listen", "127.0.0.1:0", "--color", "never"]);
        command.args(["--poll", "200ms", "--lease", "3s"]);
        let running = Running::start(&mut command);
        let lives = Duration::from_millis(dice.below(800));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..=dice.below(3) {
                    change(&mut dice, &mut right, &plane, &followed);
                }
            });
            // The moment itself is what is tried out: nothing is waited for.
            thread::sleep(lives);
        });
        running.signal("KILL");
        wrote += usize::from(running.end().err.contains("labelled: "));
        free_the_lease(&plane);
    }
    eprintln!("{wrote} of {kills} wrote before they were killed");

    change(&mut dice, &mut right, &plane, &followed);
    let daemon = followed.run(&[]);
    eventually("everything is as the last valid revision says", Duration::from_secs(30), || {
        let (live, right) = (live(&plane), right.all());
        let wrong: Vec<_> = right.iter().filter(|(name, labels)| live.get(*name) != Some(*labels)).collect();
        if wrong.is_empty() && live.len() == right.len() {
            Ok(())
        } else {
            Err(format!("{live:#?}\nand not {wrong:#?}"))
        }
    });
    daemon.is_ready();
    daemon.comes_to("nothing drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 0);
    assert_eq!(live(&plane), right.all());
}
