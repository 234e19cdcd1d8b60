//! Drives drover's own decision: what the replay shows is written as the input that a cluster would have given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Settings;
use super::fleet::{Fleet, Machine};
use crate::model::cluster::Policy;
use crate::model::group::Guarantee;
use crate::rebalance::{
    self, Class, Group, INPUT_VERSION, Input, LastMove, Node, PastMove, Rules, Running, Shape, Waiting,
};

/// The resource that a trace counts.
const GPU: &str = "nvidia.com/gpu";
const DAY: i64 = 86_400;

/// The input, of which each tick only changes what changed, and the way back from names to indices.
pub(super) struct Demand {
    input: Input,
    job_names: Vec<Arc<str>>,
    shapes: BTreeMap<u32, u32>,
    nodes: HashMap<Arc<str>, u32>,
    groups: HashMap<Arc<str>, u32>,
}

impl Demand {
    pub(super) fn new(fleet: &Fleet<'_>, settings: &Settings) -> Self {
        let trace = fleet.trace;
        let size_of = |group: u32| trace.groups[group as usize].size;
        let sizes = distinct(fleet.machines.iter().map(|machine| machine.size));
        // A job that takes machines whole holds all that they have.
        let wants = trace.jobs.iter().map(|job| job.gpus.min(size_of(job.group)));
        let wants = distinct(wants.chain(sizes.iter().copied()));
        let groups: Vec<Group> = trace
            .groups
            .iter()
            .zip(&fleet.sides)
            .map(|(group, side)| {
                let guarantee = Guarantee { nodes: Some(side.least), ..Guarantee::default() };
                Group { name: group.name.as_str().into(), guarantee, weight: 1, ..Group::default() }
            })
            .collect();
        let node = |(index, machine): (usize, &Machine)| Node {
            name: format!("node-{index}").into(),
            class: sizes.binary_search(&machine.size).unwrap_or_default() as u32,
            group: Some(machine.group),
            home: Some(machine.home),
            shareable: true,
            ..Node::default()
        };
        let input = Input {
            version: INPUT_VERSION.into(),
            cluster: "backtest".into(),
            rules: Rules { policy: Policy::Demand, in_order: !settings.backfill, ..settings.rules.clone() },
            resources: vec![GPU.into()],
            classes: sizes.iter().map(|&size| Class { capacity: vec![size.into()], ..Class::default() }).collect(),
            shapes: wants.iter().map(|&gpus| Shape { requests: vec![gpus.into()], ..Shape::default() }).collect(),
            nodes: fleet.machines.iter().enumerate().map(node).collect(),
            groups,
            ..Input::default()
        };
        Self {
            job_names: (0..trace.jobs.len()).map(|job| format!("job-{job}").into()).collect(),
            shapes: (0..).zip(wants).map(|(shape, gpus)| (gpus, shape)).collect(),
            nodes: (0..).zip(&input.nodes).map(|(index, node)| (node.name.clone(), index)).collect(),
            groups: (0..).zip(&input.groups).map(|(index, group)| (group.name.clone(), index)).collect(),
            input,
        }
    }

    /// The moves of a tick: machines and their new groups.
    pub(super) fn step(&mut self, fleet: &Fleet<'_>, now: i64) -> Vec<(u32, u32)> {
        if fleet.queued == 0 {
            return Vec::new();
        }
        self.see(fleet, now);
        let decision = rebalance::decide(&self.input);
        let moves = decision.moves.iter().map(|choice| (self.nodes[&choice.node], self.groups[&choice.to]));
        let moves: Vec<(u32, u32)> = moves.collect();
        self.input.moves.extend(moves.iter().map(|&(node, _)| PastMove { at: now, node }));
        moves
    }

    /// Writes down what a controller would see.
    fn see(&mut self, fleet: &Fleet<'_>, now: i64) {
        let (input, jobs) = (&mut self.input, &fleet.trace.jobs);
        input.time = now;
        input.moves.retain(|past| now - past.at < DAY);
        input.running.clear();
        input.waiting.clear();
        for (index, machine) in (0..).zip(&fleet.machines) {
            let node = &mut input.nodes[index as usize];
            node.group = Some(machine.group);
            node.last = machine.last.map(|(from, at)| LastMove { from, at });
            input.running.extend(machine.jobs.iter().map(|&(job, held)| Running {
                node: index,
                group: Some(jobs[job as usize].group),
                shape: self.shapes[&held],
                pods: 1,
                since: fleet.started[job as usize].unwrap_or(now),
            }));
        }
        for (group, side) in (0..).zip(&fleet.sides) {
            input.waiting.extend(side.queue.iter().map(|&job| {
                let (asked, machines) = (&jobs[job as usize], fleet.whole(job) as u32);
                Waiting {
                    name: self.job_names[job as usize].clone(),
                    group,
                    shape: self.shapes[&asked.gpus.min(side.size)],
                    pods: machines.max(1),
                    since: asked.submit,
                    otherwise: false,
                }
            }));
        }
    }
}

fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
