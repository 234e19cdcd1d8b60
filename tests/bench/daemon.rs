//! What the daemon needs, and how fast it is: five real clusters of 1,213 nodes each, one process.
//!
//! Prints Markdown. `cargo bench --bench daemon`; TAMPERS (default 500), QUIET seconds (default 120), PUSHES (default 50).

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark drives the world outside, and gives up where that fails"
)]

#[allow(dead_code, unused_imports, reason = "the harness is the tests', which use all of it")]
#[path = "../it/support"]
mod support {
    pub(crate) mod control_plane;
    pub(crate) mod daemon;
    pub(crate) mod openb;
    pub(crate) mod run;
    pub(crate) mod state;
}

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role};
use support::daemon::Daemon;
use support::state::State;

const CLUSTERS: usize = 5;
const NODES: usize = 1213;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn specs() -> Vec<NodeSpec> {
    match support::openb::machines() {
        Some(machines) => machines.iter().map(NodeSpec::from).collect(),
        None => (0..NODES).map(|number| NodeSpec::new(format!("gpu-{number:04}")).gpus(8)).collect(),
    }
}

fn state(planes: &[ControlPlane], names: &[String]) -> State {
    let state = State::new();
    state.group("ads").group("rec");
    for (index, plane) in planes.iter().enumerate() {
        let cluster = format!("c{index}");
        state.cluster(&cluster, &format!("{{kubeconfig: {}}}", plane.kubeconfig(Role::Drover).display()));
        for name in names {
            state.node(
                &cluster,
                name,
                "{group: ads, shareable: true, devices: {cpu: true, gpu: true}, workloads: [train, notebook]}",
            );
        }
    }
    state.commit("the fleet");
    state
}

/// A line of /proc/PID/status, in kB.
fn memory(daemon: &Daemon, what: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix(what)).expect("a line");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

/// Processor time so far, in seconds.
fn processor(daemon: &Daemon) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).expect("the process runs");
    let fields: Vec<&str> = text.rsplit(')').next().expect("a command").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// How often each verb was asked for on each resource, by the API server's own count.
fn requests(plane: &ControlPlane) -> BTreeMap<String, u64> {
    let text = plane.request(Role::Admin, "GET", "/metrics", None).accepted("metrics").body;
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label =
            |name: &str| line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("");
        // What the API server asks itself, and what this benchmark asks, is not drover's.
        if !["nodes", "pods", "leases", "events"].contains(&label("resource")) {
            continue;
        }
        let count: f64 = line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        *counts.entry(format!("{} {}", label("verb"), label("resource"))).or_default() += count as u64;
    }
    counts
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}

/// Changes a label and waits until it is back. The clock starts once the change is made.
fn tamper(plane: &ControlPlane, node: &str) -> Duration {
    let client = plane.client().expect("a client");
    let (token, path) = (plane.token(Role::Admin), format!("/api/v1/nodes/{node}"));
    let body = json!({ "metadata": { "labels": { "org": "tampered" } } });
    let patch = format!("{path}?fieldManager=kubectl-label");
    client.send(&token, "PATCH", &patch, Some((MERGE_PATCH, &body))).expect("an answer").accepted(&patch);
    let begin = Instant::now();
    loop {
        let node: Value = client.send(&token, "GET", &path, None).expect("an answer").accepted(&path).json();
        if node["metadata"]["labels"]["org"] == "ads" {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{path} is never healed");
        thread::sleep(Duration::from_millis(2));
    }
}

fn tampers(planes: &[ControlPlane], names: &[String], count: usize) -> Vec<Duration> {
    (0..count).map(|number| tamper(&planes[number % planes.len()], &names[number * 7 % names.len()])).collect()
}

/// Heartbeats as 1,213 kubelets a cluster would send them every ten seconds, and somebody's own labels.
fn load(planes: &[ControlPlane], names: &[String], stop: &AtomicBool) {
    thread::scope(|scope| {
        for plane in planes {
            scope.spawn(move || {
                let client = plane.client().expect("a client");
                let token = plane.token(Role::Admin);
                for (beat, name) in names.iter().cycle().enumerate() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let now = format!("2026-11-24T{:02}:{:02}:{:02}Z", beat / 3600 % 24, beat / 60 % 60, beat % 60);
                    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now }] } });
                    let path = format!("/api/v1/nodes/{name}/status?fieldManager=kubelet");
                    const STRATEGIC: &str = "application/strategic-merge-patch+json";
                    client.send(&token, "PATCH", &path, Some((STRATEGIC, &status))).expect("an answer").accepted(&path);
                    thread::sleep(Duration::from_millis(8));
                }
            });
        }
    });
}

/// Writes a row; returns the time that 99 of 100 keep to.
fn row(text: &mut String, what: &str, times: &mut [Duration]) -> Duration {
    let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1000.0);
    let (half, most) = (percentile(times, 50), percentile(times, 99));
    let worst = percentile(times, 100);
    let _ = writeln!(text, "| {what} | {} | {} | {} | {} |", times.len(), ms(half), ms(most), ms(worst));
    most
}

fn main() -> ExitCode {
    let planes: Vec<ControlPlane> =
        (0..CLUSTERS).map(|index| ControlPlane::start_named(&format!("c{index}"))).collect();
    let specs = specs();
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    for plane in &planes {
        plane.create_nodes(specs.clone());
    }
    let state = state(&planes, &names);
    let repository = state.root().display().to_string();
    // The guard holds a plan that changes everything: the first time is a person's decision.
    state.drover(&["apply", "--yes", "--allow", "too-many-nodes", "--format", "json"]).expect(0);
    let begin = Instant::now();
    let daemon =
        Daemon::start(state.root(), &["--repo", &repository, "--rev", "main", "--poll", "5s", "--lease", "15s"]);
    daemon.is_ready();
    daemon.comes_to("everything is compared", |status| {
        (0..CLUSTERS).all(|index| {
            let cluster = &status["clusters"][format!("c{index}")];
            cluster["nodes"]["managed"] == names.len()
                && cluster["tenure"]["role"] == "holder"
                && cluster["nodes"]["drifting"] == 0
        })
    });
    let mut text = format!("ready after {:.1} s\n\n| what | |\n|---|--:|\n", begin.elapsed().as_secs_f64());
    let (rss, peak) = (memory(&daemon, "VmRSS:"), memory(&daemon, "VmHWM:"));
    let _ = writeln!(
        text,
        "| resident memory, {CLUSTERS} clusters × {} nodes | {} MB (peak {} MB) |",
        names.len(),
        rss / 1024,
        peak / 1024
    );

    let quiet = setting("QUIET", 120);
    let (before, spent) = (requests(&planes[0]), processor(&daemon));
    thread::sleep(Duration::from_secs(quiet));
    let (after, spent) = (requests(&planes[0]), processor(&daemon) - spent);
    let _ = writeln!(text, "| processor, nothing happening | {:.2} % of a core |", spent * 100.0 / quiet as f64);
    let mut lists = 0;
    for (what, count) in after {
        let count = count - before.get(&what).copied().unwrap_or(0);
        if count > 0 {
            lists += if what.starts_with("LIST ") { count } else { 0 };
            let _ = writeln!(text, "| `{what}` requests in {quiet} s, one cluster | {count} |");
        }
    }

    let count = setting("TAMPERS", 500) as usize;
    text += "\n| what | times | median | p99 | worst |\n|---|--:|--:|--:|--:|\n";
    let quietly = row(&mut text, "drift healed", &mut tampers(&planes, &names, count));
    let stop = AtomicBool::new(false);
    let under_load = thread::scope(|scope| {
        scope.spawn(|| load(&planes, &names, &stop));
        let times = &mut tampers(&planes, &names, count);
        stop.store(true, Ordering::Relaxed);
        row(&mut text, "drift healed, with the heartbeats of all nodes", times)
    });
    let mut pushes = Vec::new();
    for (number, name) in names.iter().enumerate().take(setting("PUSHES", 50) as usize) {
        let index = number % CLUSTERS;
        state
            .edit(&format!("state/nodes/c{index}/{name}.yaml"), "group: ads", "group: rec")
            .commit(&format!("{name} to rec"));
        let begin = Instant::now();
        ureq::post(format!("{}/hooks/git", daemon.url()))
            .header("X-Gitea-Event", "push")
            .send("{}")
            .expect("an answer");
        while planes[index].get(&format!("/api/v1/nodes/{name}"))["metadata"]["labels"]["org"] != "rec" {
            assert!(begin.elapsed() < Duration::from_secs(60), "{name} is never labelled");
            thread::sleep(Duration::from_millis(2));
        }
        pushes.push(begin.elapsed());
    }
    row(&mut text, "webhook of a push to the label on the node", &mut pushes);
    let (rss, peak) = (memory(&daemon, "VmRSS:"), memory(&daemon, "VmHWM:"));
    let _ = writeln!(text, "\nresident memory at the end: {} MB (peak {} MB)", rss / 1024, peak / 1024);
    println!("{text}");
    daemon.stop().expect(0);
    let goals = [
        ("drift is healed within 1 s (p99)", quietly <= Duration::from_secs(1)),
        ("drift is healed within 1 s (p99) with heartbeats", under_load <= Duration::from_secs(1)),
        ("at most 120 MB resident", peak <= 120 * 1024),
        ("no list requests while nothing happens", lists == 0),
    ];
    let missed: Vec<&str> = goals.iter().filter(|(_, reached)| !reached).map(|(goal, _)| *goal).collect();
    missed.iter().for_each(|goal| eprintln!("missed: {goal}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
