//! One replay of a trace under a policy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::fleet::Fleet;
use super::trace::Trace;
use super::{cube, demand, pool};
use crate::rebalance::Rules;

#[derive(Debug, Clone)]
pub enum Policy { Static, Pool, Cube, Demand(Rules) }

#[derive(Debug, Clone)]
pub struct Options {
    pub tick: i64, pub phase: i64, pub min_share: f64, pub horizon: i64, pub warmup: i64, pub backfill: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub delays: Vec<(u32, i64)>,
    pub pending: f64, pub busy: f64, pub violated: f64, pub effective: f64,
    pub moves: u64, pub nonidle: u64, pub flaps: u64, pub utilisation: f64, pub days: f64,
    pub group_pending: Vec<f64>, pub diag: [f64; 8],
}

pub fn replay(trace: &Trace, policy: &Policy, o: &Options) -> Figures {
    let mut fleet = Fleet::new(trace, o.min_share, o.backfill);
    if matches!(policy, Policy::Cube) { fleet.hash_names(); }
    let mut driver = match policy { Policy::Demand(r) => Some(demand::Driver::new(&fleet, r, o.backfill)), _ => None };
    let all: Vec<u32> = (0..fleet.machines.len() as u32).collect();
    let total: u64 = fleet.machines.iter().map(|m| u64::from(m.size)).sum();
    let mut ends: BinaryHeap<Reverse<(i64, u32)>> = BinaryHeap::new();
    let mut next = 0usize;
    let mut tick = if matches!(policy, Policy::Static | Policy::Pool) { i64::MAX } else { o.phase + o.tick };
    let mut f = Figures { group_pending: vec![0.0; fleet.sides.len()], days: (o.horizon-o.warmup) as f64/86400.0, ..Figures::default() };
    let mut at = 0i64;
    let mut touched: Vec<u32> = Vec::new();
    loop {
        let mut now = tick;
        if let Some(&Reverse((t, _))) = ends.peek() { now = now.min(t); }
        if let Some(j) = trace.jobs.get(next) { now = now.min(j.submit); }
        let until = now.min(o.horizon);
        let from = at.max(o.warmup);
        if until > from {
            let d = (until - from) as f64;
            f.pending += fleet.queued as f64 * d;
            f.busy += fleet.busy as f64 * d;
            let (mut v, mut e) = (false, false);
            for (i, s) in fleet.sides.iter().enumerate() {
                if s.queue.is_empty() { continue; }
                f.group_pending[i] += d * s.queue.iter().map(|&j| f64::from(trace.jobs[j as usize].gpus)).sum::<f64>();
                if (s.members.len() as u32) < s.least { v = true; }
                if s.capacity - s.foreign < s.least * s.size { e = true; }
            }
            if v { f.violated += d; }
            if v || e { f.effective += d; }
        }
        at = now;
        if now >= o.horizon { break; }
        loop {
            touched.clear();
            while let Some(&Reverse((t, job))) = ends.peek() {
                if t > now { break; }
                ends.pop();
                fleet.finish(job, &mut touched);
            }
            while let Some(j) = trace.jobs.get(next) {
                if j.submit > now { break; }
                touched.push(j.group);
                fleet.submit(next as u32);
                next += 1;
            }
            if touched.is_empty() { break; }
            touched.sort_unstable();
            touched.dedup();
            if matches!(policy, Policy::Pool) { pool::dispatch(&mut fleet, &all, now); } else {
                for &g in &touched { fleet.dispatch(g, now); }
            }
            for job in fleet.fresh.drain(..) { ends.push(Reverse((now + trace.jobs[job as usize].duration, job))); }
        }
        if now == tick {
            tick += o.tick;
            let moves: Vec<(u32,u32)> = match policy {
                Policy::Cube => cube::step(&fleet, now).into_iter().collect(),
                Policy::Demand(_) => driver.as_mut().map(|d| d.step(&fleet, now)).unwrap_or_default(),
                _ => vec![],
            };
            for (node, to) in moves {
                let m = &fleet.machines[node as usize];
                if now >= o.warmup { f.moves += 1; }
                if !m.idle() { f.nonidle += 1; }
                if m.last.is_some_and(|(g, t)| g == to && now - t <= 3600) { f.flaps += 1; }
                fleet.relabel(node, to, now);
                fleet.dispatch(to, now);
            }
            for job in fleet.fresh.drain(..) { ends.push(Reverse((now + trace.jobs[job as usize].duration, job))); }
            if now > o.warmup && fleet.queued > 0 && std::env::var("DIAG").is_ok() {
                let mut cat = [0.0; 8];
                let free: u32 = fleet.machines.iter().map(|m| m.free).sum();
                // biggest waiting group
                for (i, m) in fleet.machines.iter().enumerate() {
                    if m.free == 0 { continue; }
                    let s = &fleet.sides[m.group as usize];
                    let foreign: u32 = m.jobs.iter().filter(|&&(j, _)| trace.jobs[j as usize].group != m.group).map(|&(_, h)| h).sum();
                    let lendable = s.capacity - s.foreign >= s.least * s.size + (m.size - foreign);
                    let fr = f64::from(m.free);
                    // anyone else waiting whose head fits here
                    let fits = fleet.sides.iter().enumerate().any(|(g, t)| g as u32 != m.group && t.queue.iter().take(if o.backfill {9999} else {1}).any(|&h| { let w = fleet.whole(h); if w > 0 { m.idle() } else { trace.jobs[h as usize].gpus <= m.free } }));
                    let k = if !fits { 0 } else if !lendable && s.queue.is_empty() { 1 } else if !lendable { 2 } else if !s.queue.is_empty() { 3 } else if m.last.is_some_and(|(_, t)| now - t <= 3600) { 4 } else { 5 };
                    cat[k] += fr;
                }
                let mut inh = 0.0;
                for (g, t) in fleet.sides.iter().enumerate() {
                    let own: u32 = fleet.machines.iter().flat_map(|m| m.jobs.iter()).filter(|&&(j, _)| trace.jobs[j as usize].group == g as u32).map(|&(_, h)| h).sum();
                    let ownhere: u32 = t.members.iter().flat_map(|&m| fleet.machines[m as usize].jobs.iter()).filter(|&&(j, _)| trace.jobs[j as usize].group == g as u32).map(|&(_, h)| h).sum();
                    if t.queue.is_empty() { inh += f64::from((t.least * t.size).saturating_sub(own)); f.diag[7] += f64::from((t.least * t.size).saturating_sub(ownhere)).min(fleet.queued as f64) * o.tick as f64 / 3600.0; }
                }
                f.diag[6] += inh.min(fleet.queued as f64) * o.tick as f64 / 3600.0;
                let usable = (fleet.queued as f64).min(f64::from(free));
                let tot: f64 = cat.iter().sum();
                for k in 0..6 { f.diag[k] += if tot > 0.0 { cat[k] / tot * usable * o.tick as f64 / 3600.0 } else { 0.0 }; }
            }
        }
    }
    f.utilisation = f.busy / (total as f64 * (o.horizon - o.warmup) as f64);
    for (i, j) in trace.jobs.iter().enumerate() {
        if j.submit < o.warmup || j.submit >= o.horizon { continue; }
        f.delays.push((j.group, fleet.started[i].unwrap_or(o.horizon) - j.submit));
    }
    f
}
