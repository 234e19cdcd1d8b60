//! Reading, checking and planning 10,000 Node documents from a git revision, cold and after a change of ten files.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark drives the world outside, and gives up where that fails"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use drover::adapters::git::Credentials;
use drover::engine::{Loaded, Loader, StateSource};
use drover::model::{ObservedCluster, ObservedNode};
use drover::plan::diff;
use jiff::Timestamp;

const NODES: usize = 10_000;
const CHANGED: usize = 10;

fn git(folder: &Path, arguments: &[&str]) {
    let run = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(arguments)
        .output();
    let output = run.expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn node(number: usize, rack: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1\nkind: Node\nmetadata:\n  name: n-{number:05}\n  cluster: prod\nspec:\n  group: g{}\n  shareable: true\n  \
         devices:\n    cpu: true\n    gpu: A100\n    rdma: true\n  workloads: [train, notebook]\n  labels:\n    rack: {rack}\n",
        number % 20
    )
}

/// A repository with two revisions, `one` and `two`, of which the second changes ten files.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: String, text: String| {
        let path = folder.path().join("state").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    };
    let head = "apiVersion: drover.dev/v1\nkind: ";
    write(
        "clusters/prod.yaml".into(),
        format!("{head}Cluster\nmetadata: {{name: prod}}\nspec: {{connection: {{context: prod}}}}\n"),
    );
    (0..20).for_each(|group| {
        write(format!("groups/g{group}.yaml"), format!("{head}Group\nmetadata: {{name: g{group}}}\n"))
    });
    (0..NODES)
        .for_each(|number| write(format!("nodes/prod/n-{number:05}.yaml"), node(number, &format!("r{}", number / 40))));
    git(folder.path(), &["init", "--quiet"]);
    git(folder.path(), &["config", "gc.auto", "0"]);
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "one"]);
    git(folder.path(), &["tag", "one"]);
    (0..CHANGED)
        .for_each(|number| write(format!("nodes/prod/n-{:05}.yaml", number * 997), node(number * 997, "moved")));
    git(folder.path(), &["commit", "--quiet", "--all", "--message", "two"]);
    git(folder.path(), &["tag", "two"]);
    git(folder.path(), &["gc", "--quiet"]);
    folder
}

fn source(folder: &Path, revision: &str) -> StateSource {
    StateSource::Revision {
        repository: folder.display().to_string(),
        revision: Some(revision.to_owned()),
        folder: None,
        credentials: Credentials::default(),
        cache: folder.join(".cache"),
        timeout: std::time::Duration::from_secs(5),
    }
}

/// A cluster that is as the state says.
fn live(loaded: &Loaded) -> ObservedCluster {
    let nodes = loaded.desired.clusters["prod"].nodes.values().map(|node| {
        let labels = node.labels.iter().map(|label| (label.key.to_string(), label.value.to_string())).collect();
        (node.name.to_string(), ObservedNode { name: node.name.to_string(), labels, ..ObservedNode::default() })
    });
    ObservedCluster { nodes: nodes.collect(), ..ObservedCluster::default() }
}

fn load_and_plan(loader: &mut Loader, source: &StateSource, live: &ObservedCluster) -> usize {
    let loaded = loader.load(source, Timestamp::UNIX_EPOCH).expect("a state");
    assert!(loaded.is_valid(), "{:?}", loaded.problems.first());
    let plan = diff("prod", &loaded.desired.clusters["prod"], &loaded.desired.vocabulary, live);
    plan.nodes.len()
}

fn benches(criterion: &mut Criterion) {
    let folder = repository();
    let (one, two) = (source(folder.path(), "one"), source(folder.path(), "two"));
    let live = live(&Loader::default().load(&one, Timestamp::UNIX_EPOCH).expect("a state"));
    criterion.bench_function("10,000 nodes from git, cold: validate and plan", |bencher| {
        bencher.iter(|| assert_eq!(load_and_plan(&mut Loader::default(), &one, &live), 0));
    });
    criterion.bench_function("10,000 nodes from git, ten files later: validate and plan", |bencher| {
        let warm = || {
            let mut loader = Loader::default();
            loader.load(&one, Timestamp::UNIX_EPOCH).expect("a state");
            loader
        };
        bencher.iter_batched_ref(
            warm,
            |loader| assert_eq!(load_and_plan(loader, &two, &live), CHANGED),
            BatchSize::PerIteration,
        );
    });
}

criterion_group! { name = state; config = Criterion::default().sample_size(20); targets = benches }
criterion_main!(state);
