//! `demand`: machines go where work waits and they would let it start.
//!
//! Needs are served in the order of how many wait, and for how long. A need is served by the machine that lets it start at
//! the lowest cost (`Weights`). Where every such machine belongs to a group that cannot spare it, that group gets a machine on
//! which its own pods run already in exchange: pods on foreign machines are what makes groups short of effective capacity.

use std::cmp::Reverse;

use super::exchange::exchange;
use super::{Choice, Chosen, Tally, Unserved, below_ceiling, budget, keeps, movable, serves, without};
use crate::rebalance::decision::Why;
use crate::rebalance::world::{WHOLE, World};

/// How much of a long queue is looked at for one machine.
const LOOKED_AT: usize = 256;

/// A group in which work waits.
struct Need {
    group: u32,
    /// The oldest work of each kind: only the first may be served where work starts in order.
    works: Vec<u32>,
    queued: u32,
}

pub(super) fn choose(world: &mut World<'_>) -> Chosen {
    let mut chosen = Chosen::default();
    let budget = budget(world);
    (0..world.members.len() as u32).for_each(|group| drop(world.settle(group)));
    loop {
        let needs = needs(world);
        let room = budget - chosen.moves.len();
        if room == 0 {
            chosen.exhausted = !needs.is_empty();
            return chosen;
        }
        let mut unserved = Vec::with_capacity(needs.len());
        let mut found = needs.iter().find_map(|need| match pick(world, need) {
            Ok(choice) => Some(vec![choice]),
            Err(tally) => {
                unserved.extend(need.works.first().map(|&work| Unserved { group: need.group, work, tally: *tally }));
                None
            }
        });
        if found.is_none() && room > 1 {
            let moves = needs.iter().find_map(|need| exchange(world, need.group, &need.works, need.queued));
            found = moves.map(Vec::from);
        }
        let Some(moves) = found else {
            chosen.unserved = unserved;
            return chosen;
        };
        for mut choice in moves {
            world.relabel(choice.node, choice.to);
            choice.started = world.settle(choice.to);
            chosen.moves.push(choice);
        }
    }
}

/// The groups in which work waits, the most urgent first.
fn needs(world: &World<'_>) -> Vec<Need> {
    let (input, rules) = (world.input, &world.input.rules);
    let mut needs: Vec<(u128, Need)> = Vec::new();
    for (group, queue) in (0..).zip(&world.queues) {
        let Some(&oldest) = queue.first() else { continue };
        let age = input.time - world.waiting(oldest).since;
        if age < rules.pending_after {
            continue;
        }
        let below_home = world.labelled[group as usize].nodes < u64::from(world.home[group as usize]) * WHOLE;
        let boost = if below_home { rules.weights.below_home } else { 1 };
        // Number times weight times the root of the age, squared so that it stays in whole numbers.
        let number = queue.len() as u128 * u128::from(input.groups[group as usize].weight) * u128::from(boost);
        let urgency = number * number * (age + rules.weights.age_offset).max(1) as u128;
        needs.push((urgency, Need { group, works: kinds(world, queue), queued: queue.len() as u32 }));
    }
    needs.sort_by_key(|(urgency, need)| (Reverse(*urgency), need.group));
    needs.into_iter().map(|(_, need)| need).collect()
}

/// The oldest work of each kind in a queue that may start before the others.
fn kinds(world: &World<'_>, queue: &[u32]) -> Vec<u32> {
    let most = if world.input.rules.in_order { 1 } else { LOOKED_AT };
    let mut known = Vec::new();
    let mut works = Vec::new();
    for &work in queue.iter().take(most) {
        let waiting = world.waiting(work);
        if !known.contains(&(waiting.shape, waiting.pods)) {
            known.push((waiting.shape, waiting.pods));
            works.push(work);
        }
    }
    works
}

/// The best machine for a need, or why none would do for its oldest work.
fn pick(world: &World<'_>, need: &Need) -> Result<Choice, Box<Tally>> {
    let mut first = None;
    for &work in &need.works {
        let is_whole = can_gather(world, work, need.group);
        let mut tally = Tally::default();
        let mut best: Option<(i64, u32, u32)> = None;
        for (node, from) in (0..).zip(&world.group) {
            let Some(from) = *from else { continue };
            if from == need.group {
                continue;
            }
            match consider(world, work, node, from, need.group) {
                Ok(_) if !is_whole => tally.add(Why::TooFew, node),
                Ok(cost) => {
                    if best.is_none_or(|(lowest, ..)| cost < lowest) {
                        best = Some((cost, node, from));
                    }
                }
                Err(why) => tally.add(why, node),
            }
        }
        if let Some((_, node, from)) = best {
            return Ok(Choice {
                work: Some(work),
                queued: need.queued,
                tally,
                ..Choice::of(world, node, from, need.group)
            });
        }
        first.get_or_insert(tally);
    }
    Err(Box::new(first.unwrap_or_default()))
}

/// Whether there are machines enough for all pods of a piece of work. Where any work may start first, a machine that comes
/// for a part of a gang is taken by smaller work before the others are there.
fn can_gather(world: &World<'_>, work: u32, group: u32) -> bool {
    let asked = world.waiting(work);
    if asked.pods == 1 || world.input.rules.in_order {
        return true;
    }
    let able = |&(node, from): &(u32, &Option<u32>)| {
        from.is_some_and(|from| from == group || consider(world, work, node, from, group).is_ok())
    };
    let mut left = asked.pods;
    for (node, _) in (0..).zip(&world.group).filter(able) {
        left -= world.room(asked.shape, node, left);
        if left == 0 {
            return true;
        }
    }
    false
}

/// What it would cost to give a machine to a group for a piece of work, in millionths of a machine.
fn consider(world: &World<'_>, work: u32, node: u32, from: u32, to: u32) -> Result<i64, Why> {
    serves(world, work, node)?;
    movable(world, node, to)?;
    if !keeps(world, from, without(world, from, node)) {
        return Err(Why::Guarantee);
    }
    if !below_ceiling(world, to, node) {
        return Err(Why::Ceiling);
    }
    let (starts, waited) = starts(world, to, node);
    if !is_due(world, waited) {
        return Err(Why::NotDue);
    }
    let weights = &world.input.rules.weights;
    let at_home = world.labelled[from as usize].nodes <= u64::from(world.home[from as usize]) * WHOLE;
    let share = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    Ok(share(world.slack(node)) - weights.served * share(starts) + weights.left_behind * share(world.held(node, from))
        - weights.regained * share(world.held(node, to))
        + weights.home * share(if at_home { WHOLE } else { 0 }))
}

/// Whether what a move starts has waited long enough to be worth it; `waited` is in millionths of machine-seconds.
pub(super) fn is_due(world: &World<'_>, waited: u128) -> bool {
    waited >= world.input.rules.patience.max(0) as u128 * u128::from(WHOLE)
}

/// What would start on a machine were it in a group, in millionths of it; and the same times the seconds that it waited.
pub(super) fn starts(world: &World<'_>, group: u32, node: u32) -> (u64, u128) {
    let mut free = world.free(node).to_vec();
    let (mut share, mut waited) = (0, 0);
    let mut full: Vec<u32> = Vec::new();
    for &work in world.queues[group as usize].iter().take(LOOKED_AT) {
        let work = world.waiting(work);
        if full.contains(&work.shape) {
            continue;
        }
        let requests = world.requests(work.shape);
        let room = if world.selects(work.shape, node) { pods_in(&free, requests, work.pods) } else { 0 };
        // A gang takes what there is, if it is first; the rest of it is looked for elsewhere.
        if room == work.pods || (room > 0 && share == 0) {
            let part = world.share(requests, node) * u64::from(room);
            share += part;
            waited += u128::from(part) * (world.input.time - work.since).max(0) as u128;
            free.iter_mut().zip(requests).for_each(|(free, request)| *free -= request * u64::from(room));
        }
        if room < work.pods {
            if world.input.rules.in_order {
                break;
            }
            full.push(work.shape);
        }
        if share >= WHOLE {
            break;
        }
    }
    (share.min(WHOLE), waited)
}

/// How many pods fit into what is free, at most `most`.
fn pods_in(free: &[u64], requests: &[u64], most: u32) -> u32 {
    let times = free.iter().zip(requests).filter(|&(_, &wants)| wants > 0).map(|(have, wants)| have / wants).min();
    times.unwrap_or(u64::MAX).min(most.into()) as u32
}

impl Choice {
    /// A move with what it costs the lender; what it is for is filled in by the caller.
    pub(super) fn of(world: &World<'_>, node: u32, from: u32, to: u32) -> Self {
        Self {
            node,
            from,
            to,
            work: None,
            serves: to,
            exchange: false,
            queued: 0,
            started: Vec::new(),
            free: world.slack(node),
            left_behind: world.held(node, from),
            lender: (world.effective[from as usize], without(world, from, node)),
            tally: Tally::default(),
        }
    }
}
