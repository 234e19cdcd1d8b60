//! What thousands of agents ask of an API server, and what one asks of its machine.
//!
//! Prints Markdown. `cargo bench --bench agents`; NODES (default 5000), WATCHES (default 500), STEADY and QUIET seconds
//! (default 60 each). As root, so that the one real agent has a machine of its own.

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
    pub(crate) mod machine;
    pub(crate) mod pod;
    pub(crate) mod run;
}

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use drover::adapters::kube::{KubeCluster, Seen, StorageCondition, Watcher};
use drover::adapters::objects::Metadata;
use drover::adapters::storage_objects::NodeStorageObject;
use drover::model::cluster::Connection;
use drover::model::storage::StorageReport;
use futures::StreamExt;
use serde_json::{Value, json};
use support::control_plane::{ControlPlane, JSON, NodeSpec, Role, eventually};
use support::machine::Machine;

const OBJECTS: &str = "/apis/drover.dev/v1/nodestorages";
/// A heartbeat comes after 4 to 5 minutes.
const HEARTBEAT: f64 = 270.0;
static NEVER: AtomicBool = AtomicBool::new(false);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn report(verdict: &str) -> StorageReport {
    let reason = if verdict == "Verified" { "StorageVerified" } else { "NotMounted" };
    serde_json::from_value(json!({
        "observedGeneration": 1, "checked": jiff::Timestamp::now(), "since": "2026-01-01T00:00:00Z", "verdict": verdict,
        "reason": reason, "message": "/data/k8s lies on 10.0.0.5:/k8s (nfs4), mounted at /data/k8s", "agent": "0.1.0",
        "bootId": "05eb2679-cee2-43f5-ad35-5aebbc4b187e", "kubelet": "Same", "freeBytes": 1_u64 << 40, "totalBytes": 1_u64 << 42,
        "mount": {"mountPoint": "/data/k8s", "fileSystem": "nfs4", "source": "10.0.0.5:/k8s"},
    }))
    .expect("a report")
}

/// The two writes of an agent.
async fn tell(kube: &KubeCluster, object: &Metadata, report: &StorageReport, condition: &StorageCondition) -> Duration {
    let begun = Instant::now();
    kube.report_storage(object, report, &NEVER).await.expect("the report arrives");
    kube.set_storage_condition(&object.name, condition, &NEVER).await.expect("the condition arrives");
    begun.elapsed()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// Processor time of the API server and its etcd, in seconds.
fn processor(port: &str) -> f64 {
    let ticks = |process: &str| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // After the state, of which no number is made: user and system time are the 11th and 12th.
        fields.get(10).copied().unwrap_or(0) + fields.get(11).copied().unwrap_or(0)
    };
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let servers = names.filter(|name| {
        let line = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("kube-apiserver") && line.contains(&format!("--secure-port={port}"))
    });
    servers.map(|name| ticks(&name)).sum::<u64>() as f64 / 100.0
}

async fn many(plane: &ControlPlane) {
    let (nodes, watches) = (setting("NODES", 5000) as usize, setting("WATCHES", 500) as usize);
    let steady = Duration::from_secs(setting("STEADY", 60));
    plane.create_nodes((0..nodes).map(|number| NodeSpec::new(format!("n-{number:05}"))));
    let spec = json!({"root": "/data/k8s", "fileSystems": ["nfs4"], "kubelet": true, "timeoutSeconds": 10});
    let connection =
        Connection { kubeconfig: Some(plane.kubeconfig(Role::Agent).display().to_string()), ..Connection::default() };
    let kube = KubeCluster::connect("bench", &connection, None, Duration::from_secs(60), None).await.expect("a client");
    let client = Arc::new(plane.client().expect("a client"));
    let token = plane.token(Role::Admin);
    let objects: Vec<Metadata> = futures::stream::iter(0..nodes)
        .map(|number| {
            let (client, token, spec) = (client.clone(), token.clone(), spec.clone());
            async move {
                let object = json!({"apiVersion": "drover.dev/v1", "kind": "NodeStorage", "metadata": {"name": format!("n-{number:05}")}, "spec": spec});
                let made = tokio::task::spawn_blocking(move || client.send(&token, "POST", OBJECTS, Some((JSON, &object))));
                let made = made.await.expect("it ends").expect("an answer").accepted("create").json();
                serde_json::from_value(made["metadata"].clone()).expect("metadata")
            }
        })
        .buffered(16)
        .collect()
        .await;
    for object in objects.iter().take(watches) {
        let (kube, name) = (kube.clone(), object.name.clone());
        tokio::spawn(async move {
            let mut watcher = Watcher::<NodeStorageObject>::of_one(Duration::from_secs(900), &name);
            loop {
                watcher.follow(&kube, |seen: Seen<NodeStorageObject>| drop(seen)).await;
            }
        });
    }
    let port = plane.url().rsplit(':').next().expect("a port").to_owned();

    // All have news at once: the file server went away.
    let (news, condition) = (report("Failed"), StorageCondition::of(&report("Failed")));
    let begun = Instant::now();
    let all = futures::stream::iter(&objects).map(|object| tell(&kube, object, &news, &condition)).buffer_unordered(64);
    let mut times: Vec<Duration> = all.collect().await;
    let took = begun.elapsed();
    println!("| what | |\n|---|--:|");
    println!(
        "| all {nodes} report news at once, with the condition of the Node | {:.1} s ({:.0} writes/s) |",
        took.as_secs_f64(),
        2.0 * nodes as f64 / took.as_secs_f64()
    );
    println!("| one of them, p99 | {:.0} ms |", percentile(&mut times, 99).as_secs_f64() * 1e3);

    // Nothing happens: heartbeats alone, each with a condition that says the same.
    let pace = Duration::from_secs_f64(HEARTBEAT / nodes as f64);
    let (before, begun) = (processor(&port), Instant::now());
    let node_before = plane.get("/api/v1/nodes/n-00000")["metadata"]["resourceVersion"].clone();
    let (mut ticks, mut tasks) = (tokio::time::interval(pace), tokio::task::JoinSet::new());
    let mut next = 0;
    while begun.elapsed() < steady {
        ticks.tick().await;
        let (kube, object, condition) = (kube.clone(), objects[next % nodes].clone(), condition.clone());
        tasks.spawn(async move { tell(&kube, &object, &report("Failed"), &condition).await });
        next += 1;
    }
    let mut times = tasks.join_all().await;
    let used = (processor(&port) - before) / begun.elapsed().as_secs_f64();
    let node_after = plane.get("/api/v1/nodes/n-00000")["metadata"]["resourceVersion"].clone();
    assert_eq!(node_before, node_after, "a heartbeat changes no Node");
    println!(
        "| heartbeats of {nodes} machines: writes to etcd | {:.1}/s |",
        next as f64 / begun.elapsed().as_secs_f64()
    );
    println!(
        "| one of them, median and p99 | {:.0} ms, {:.0} ms |",
        percentile(&mut times, 50).as_secs_f64() * 1e3,
        percentile(&mut times, 99).as_secs_f64() * 1e3
    );
    println!("| processor of the API server, with {watches} watches | {:.0} % of a core |", used * 100.0);
}

/// The one real agent, on a machine with a volume and a kubelet, in a container as its DaemonSet has it.
fn one(plane: &ControlPlane) {
    let Some(machine) = Machine::start() else { return };
    machine.sh("mkdir $F/data; mount -t tmpfs volume $F/data");
    let spec = json!({"root": machine.text("data"), "fileSystems": ["tmpfs"], "timeoutSeconds": 10, "writeTest": true, "kubelet": true,
        "directories": {"kubeflow/minio": {}, "infra/mysql": {"mode": "0777"}, "monitoring/grafana": {"mode": "0777"}}});
    let object =
        json!({"apiVersion": "drover.dev/v1", "kind": "NodeStorage", "metadata": {"name": "real-1"}, "spec": spec});
    plane.create_nodes([NodeSpec::new("real-1")]);
    plane.request(Role::Admin, "POST", OBJECTS, Some((JSON, &object))).accepted("create");
    let kubelet = machine.kubelet_on_host("slave");
    let capabilities = ["SYS_PTRACE", "DAC_OVERRIDE", "CHOWN", "FOWNER", "FSETID"].map(str::to_owned);
    let agent = machine.agent_in_pod(plane, "real-1", &capabilities);
    eventually("it reports", Duration::from_secs(60), || {
        let status: Value = plane.get(&format!("{OBJECTS}/real-1"))["status"].clone();
        if status["verdict"] == "Verified" { Ok(()) } else { Err(status.to_string()) }
    });
    let process = Machine::process(&agent);
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        // Its own time, and that of the processes that looked for it.
        fields[11..15].iter().map(|field| field.parse::<u64>().expect("a number")).sum::<u64>()
    };
    let quiet = Duration::from_secs(setting("QUIET", 60));
    let before = ticks();
    std::thread::sleep(quiet);
    let used = (ticks() - before) as f64 / 100.0 / quiet.as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = |what: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().expect("a number") * 1024.0 / 1e6
    };
    println!(
        "| one agent: resident memory (goal: 15 MB) | {:.1} MB (peak {:.1} MB, its own {:.1} MB) |",
        line("VmRSS:"),
        line("VmHWM:"),
        line("RssAnon:")
    );
    println!("| one agent: processor, with a look every minute | {:.2} % of a core |", used * 100.0);
    kubelet.end();
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let plane = ControlPlane::start_named("bench");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(many(&plane));
    runtime.shutdown_background();
    one(&plane);
    ExitCode::SUCCESS
}
