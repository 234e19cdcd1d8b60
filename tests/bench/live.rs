//! drover beside kubectl, in one run on one real API server: 1,213 nodes, all of whose labels change.
//!
//! Prints a Markdown table of medians. `cargo bench --bench live`; ROUNDS sets how often (default 7).

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
    pub(crate) mod openb;
}

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::control_plane::{ControlPlane, NodeSpec, Role};

const NODES: usize = 1213;

fn timed(what: &str, accepted: &[i32], command: &mut Command) -> Duration {
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let took = begin.elapsed();
    let code = output.status.code().unwrap_or(-1);
    assert!(accepted.contains(&code), "{what} ended with {code}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The kubectl on PATH is the peer; the one built with the control plane where there is none.
fn kubectl() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|file| file.is_file());
    found.unwrap_or_else(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control-plane/build.sh");
        let output = Command::new(script).output().expect("the control plane's folder");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("kubectl")
    })
}

fn names() -> Vec<String> {
    (0..NODES).map(|number| format!("gpu-{number:04}")).collect()
}

fn specs() -> Vec<NodeSpec> {
    match support::openb::machines() {
        Some(machines) => machines.iter().map(NodeSpec::from).collect(),
        None => names().iter().map(|name| NodeSpec::new(name).gpus(8)).collect(),
    }
}

/// The same labels for kubectl.
fn manifests(names: &[String], org: &str) -> String {
    let mut text = String::new();
    for name in names {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{org: {org}, cpu: \"true\", gpu: \"true\", train: \"true\", share: \"true\"}}\n"
        );
    }
    text
}

fn state(folder: &Path, names: &[String], kubeconfig: &Path) {
    let head = "apiVersion: drover.dev/v1\nkind: ";
    let write = |name: &str, text: String| {
        let path = folder.join("state").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    };
    write(
        "clusters/prod.yaml",
        format!(
            "{head}Cluster\nmetadata: {{name: prod}}\nspec: {{connection: {{kubeconfig: {}}}}}\n",
            kubeconfig.display()
        ),
    );
    group(folder, "start");
    for name in names {
        let spec = "{group: ads, shareable: true, devices: {cpu: true, gpu: true}, workloads: [train]}";
        write(
            &format!("nodes/prod/{name}.yaml"),
            format!("{head}Node\nmetadata: {{name: {name}, cluster: prod}}\nspec: {spec}\n"),
        );
    }
}

/// One line that changes a label of every node.
fn group(folder: &Path, org: &str) {
    let path = folder.join("state/groups");
    fs::create_dir_all(&path).expect("folders");
    let text = format!("apiVersion: drover.dev/v1\nkind: Group\nmetadata: {{name: ads}}\nspec: {{org: {org}}}\n");
    fs::write(path.join("ads.yaml"), text).expect("a file");
}

fn commit(folder: &Path) {
    for arguments in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message", "state"]] {
        let run = Command::new("git")
            .current_dir(folder)
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(arguments)
            .output();
        assert!(run.expect("git runs").status.success(), "git {arguments:?}");
    }
}

fn main() {
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(7);
    let plane = ControlPlane::start_named("prod");
    let specs = specs();
    let kubeconfig = plane.kubeconfig(Role::Admin);
    plane.create_nodes(specs);
    let listed: serde_json::Value = plane.get("/api/v1/nodes");
    let names: Vec<String> = listed["items"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["metadata"]["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(names.len(), NODES);

    let folder = tempfile::tempdir().expect("a folder");
    state(folder.path(), &names, &kubeconfig);
    commit(folder.path());
    let labels = folder.path().join("labels.yaml");
    let run_kubectl = |arguments: &[&str]| {
        let mut command = Command::new(kubectl());
        command.arg("--kubeconfig").arg(&kubeconfig).args(arguments).arg("-f").arg(&labels);
        command
    };
    let run_drover = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command.current_dir(folder.path()).args(arguments);
        command
    };

    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..=rounds {
        fs::write(&labels, manifests(&names, &format!("k{round}"))).expect("a file");
        group(folder.path(), &format!("d{round}"));
        let begin = Instant::now();
        assert!(plane.raw_list().len() > 100_000);
        let list = begin.elapsed();
        let row = [
            list,
            timed("drover plan", &[3], &mut run_drover(&["plan"])), // beside the list, which bounds it
            timed("kubectl diff", &[1], &mut run_kubectl(&["diff", "--server-side", "--force-conflicts"])),
            timed("kubectl apply", &[0], &mut run_kubectl(&["apply", "--server-side", "--force-conflicts"])),
            timed("drover apply", &[0], &mut run_drover(&["apply", "--yes", "--allow", "too-many-nodes"])),
        ];
        if round > 0 {
            times.iter_mut().zip(row).for_each(|(all, time)| all.push(time)); // the first round warms everything up
        }
    }
    let [list, plan, diff, kubectl_apply, drover_apply] = times.map(median);
    let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
    let times_faster = |slow: Duration, fast: Duration| slow.as_secs_f64() / fast.as_secs_f64();
    println!("{NODES} nodes, medians of {rounds} rounds\n");
    println!("| what | time |\n|---|--:|");
    println!("| raw list of the nodes | {} |", seconds(list));
    println!("| `kubectl diff --server-side` | {} |", seconds(diff));
    println!("| `drover plan` | {} |", seconds(plan));
    println!("| `kubectl apply --server-side` | {} |", seconds(kubectl_apply));
    println!("| `drover apply --yes` | {} |", seconds(drover_apply));
    println!("\n- plan: {:.1} times faster than kubectl diff (at least 30 wanted)", times_faster(diff, plan));
    println!("- plan: bound of 1.5 × list + 50 ms = {}", seconds(list.mul_f64(1.5) + Duration::from_millis(50)));
    println!(
        "- apply: {:.1} times faster than kubectl apply (at least 3 wanted)",
        times_faster(kubectl_apply, drover_apply)
    );
}
