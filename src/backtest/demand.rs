//! Drives drover's own decision in a replay.
use std::sync::Arc;
use super::fleet::Fleet;
use crate::model::group::Guarantee;
use crate::rebalance::{self, Class, Group, Input, LastMove, Node, Rules, Running, Shape, Waiting};

pub(super) struct Driver { input: Input, names: Vec<Arc<str>>, shapes: std::collections::BTreeMap<u32,u32> }

impl Driver {
    pub(super) fn new(fleet: &Fleet<'_>, rules: &Rules, backfill: bool) -> Self {
        let trace = fleet.trace;
        let mut sizes: Vec<u32> = fleet.machines.iter().map(|m| m.size).collect();
        sizes.sort_unstable(); sizes.dedup();
        let mut gp: Vec<u32> = trace.jobs.iter().map(|j| j.gpus.min(trace.groups[j.group as usize].size)).collect();
        gp.sort_unstable(); gp.dedup();
        let input = Input {
            version: rebalance::INPUT_VERSION.into(), cluster: "backtest".into(), time: 0,
            rules: Rules { in_order: !backfill, ..rules.clone() },
            resources: vec!["nvidia.com/gpu".into()],
            groups: trace.groups.iter().zip(&fleet.sides).map(|(g, s)| Group { name: g.name.as_str().into(), guarantee: Guarantee { nodes: Some(s.least), ..Guarantee::default() }, weight: 1, ..Group::default() }).collect(),
            classes: sizes.iter().map(|&s| Class { capacity: vec![s.into()], ..Class::default() }).collect(),
            shapes: gp.iter().map(|&s| Shape { requests: vec![s.into()], ..Shape::default() }).collect(),
            nodes: fleet.machines.iter().enumerate().map(|(i, m)| Node { name: format!("n-{i}").into(), class: sizes.binary_search(&m.size).unwrap_or(0) as u32, group: Some(m.group), home: Some(m.home), shareable: true, ..Node::default() }).collect(),
            ..Input::default()
        };
        Self { input, names: (0..trace.jobs.len()).map(|j| format!("job-{j}").into()).collect(), shapes: gp.iter().enumerate().map(|(i,&g)|(g,i as u32)).collect() }
    }
    pub(super) fn step(&mut self, fleet: &Fleet<'_>, now: i64) -> Vec<(u32,u32)> {
        if fleet.queued == 0 { return vec![]; }
        let i = &mut self.input;
        i.time = now;
        i.running.clear(); i.waiting.clear();
        for (n, m) in fleet.machines.iter().enumerate() {
            let k = &mut i.nodes[n];
            k.group = Some(m.group);
            k.last = m.last.map(|(from, at)| LastMove { from, at });
            for &(job, held) in &m.jobs {
                i.running.push(Running { node: n as u32, group: Some(fleet.trace.jobs[job as usize].group), shape: self.shapes[&held], pods: 1, since: fleet.started[job as usize].unwrap_or(now) });
            }
        }
        for (g, s) in fleet.sides.iter().enumerate() {
            for &job in &s.queue {
                let j = &fleet.trace.jobs[job as usize];
                let whole = fleet.whole(job) as u32;
                let shape = self.shapes[&(if whole > 0 { s.size } else { j.gpus })];
                i.waiting.push(Waiting { name: self.names[job as usize].clone(), group: g as u32, shape, pods: whole.max(1), since: j.submit, otherwise: false });
            }
        }
        let node = |name: &str| name.trim_start_matches("n-").parse::<u32>().unwrap_or(0);
        let group = |name: &str| fleet.trace.groups.iter().position(|g| g.name == name).unwrap_or(0) as u32;
        rebalance::decide(i).moves.iter().map(|m| (node(&m.node), group(&m.to))).collect()
    }
}
