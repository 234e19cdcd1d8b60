//! One decision of the rebalancer: 5,000 machines, 100 groups, 100,000 pods, of which 10,000 wait.

#![allow(missing_docs, reason = "a benchmark has no public interface")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use drover::model::group::Guarantee;
use drover::rebalance::{Class, Group, INPUT_VERSION, Input, Node, Running, Shape, Waiting, decide};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NODES: u32 = 5_000;
const GROUPS: u32 = 100;
const RUNNING: u32 = 90_000;
const WAITING: u32 = 10_000;
const NOW: i64 = 1_800_000_000;

/// Half of the machines have GPUs. Every tenth group waits, and the others have room.
fn input() -> Input {
    let mut random = StdRng::seed_from_u64(4711);
    let gib = 1 << 30;
    let class = |gpus| Class { capacity: vec![64_000, 512 * gib, gpus], ..Class::default() };
    let shape = |cpu, gpus| Shape { requests: vec![cpu, 4 * gib, gpus], ..Shape::default() };
    let mut input = Input {
        version: INPUT_VERSION.to_owned(),
        cluster: "prod".to_owned(),
        time: NOW,
        resources: ["cpu", "memory", "nvidia.com/gpu"].map(Arc::from).to_vec(),
        classes: vec![class(0), class(8)],
        shapes: vec![shape(500, 0), shape(2_000, 0), shape(4_000, 1), shape(32_000, 8)],
        ..Input::default()
    };
    input.groups.extend((0..GROUPS).map(|group| Group {
        name: format!("group-{group:03}").into(),
        guarantee: Guarantee { nodes: Some(10), ..Guarantee::default() },
        weight: 1,
        ..Group::default()
    }));
    input.nodes.extend((0..NODES).map(|node| Node {
        name: format!("node-{node:04}").into(),
        class: node % 2,
        group: Some(node / 2 % GROUPS),
        shareable: node % 5 > 0,
        ..Node::default()
    }));
    input.running.extend((0..RUNNING).map(|_| {
        let node = random.gen_range(0..NODES);
        let shape = if node % 2 == 1 && random.gen_bool(0.2) { 2 } else { random.gen_range(0..2) };
        let group = Some(node / 2 % GROUPS);
        Running { node, group, shape, pods: 1, since: NOW - random.gen_range(0..100_000) }
    }));
    input.waiting.extend((0..WAITING).map(|number| Waiting {
        name: format!("jobs/pod-{number}").into(),
        group: random.gen_range(0..GROUPS / 10) * 10,
        shape: random.gen_range(2..4),
        pods: 1,
        since: NOW - random.gen_range(0..10_000),
        otherwise: false,
    }));
    input.running.sort_by_key(|pod| (pod.node, pod.group, pod.shape, pod.since));
    input.waiting.sort_by_key(|work| work.since);
    input
}

fn decision(criterion: &mut Criterion) {
    let input = input();
    let moves = decide(&input).moves.len();
    assert!(moves > 0, "there is something to decide");
    criterion.bench_function("a decision for 5,000 machines, 100 groups, 100,000 pods", |bencher| {
        bencher.iter(|| decide(black_box(&input)));
    });
}

criterion_group!(benches, decision);
criterion_main!(benches);
