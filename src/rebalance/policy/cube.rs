//! `cube`: the rule of cube-studio, for people who want its behaviour, within the bounds of every policy.
//!
//! One machine a pass: to work that waits, from the least loaded group; otherwise from the least to the most loaded group, if
//! their loads differ by more than the threshold. GPU machines and others are looked at apart.

use std::cmp::Reverse;

use super::{Choice, Chosen, Tally, Unserved, below_ceiling, budget, keeps, movable, serves, without};
use crate::rebalance::decision::Why;
use crate::rebalance::world::{WHOLE, World};

/// Groups with fewer machines of a kind are neither the least nor the most loaded one.
const FEWEST: usize = 3;

pub(super) fn choose(world: &mut World<'_>) -> Chosen {
    let mut chosen = Chosen::default();
    if budget(world) == 0 {
        chosen.exhausted = world.queues.iter().any(|queue| !queue.is_empty());
        return chosen;
    }
    (0..world.members.len() as u32).for_each(|group| drop(world.settle(group)));
    let loads = [loads(world, false), loads(world, true)];
    let found = waiting(world, &loads, &mut chosen).or_else(|| loads.iter().find_map(|loads| even_out(world, loads)));
    if let Some(mut choice) = found {
        world.relabel(choice.node, choice.to);
        choice.started = world.settle(choice.to);
        chosen.moves.push(choice);
    }
    chosen
}

/// The groups that have enough machines of a kind, by load in millionths, the least loaded first.
fn loads(world: &World<'_>, gpus: bool) -> Vec<(u64, u32)> {
    let mut loads = Vec::new();
    for (group, members) in (0..).zip(&world.members) {
        let of_kind = members.iter().filter(|&&node| world.has_gpus(node) == gpus);
        let (count, free) = of_kind.fold((0, 0), |(count, free), &node| (count + 1, free + world.slack(node)));
        if count >= FEWEST {
            loads.push((WHOLE - free / count as u64, group));
        }
    }
    loads.sort_unstable();
    loads
}

/// A machine of the least loaded group that may leave it for the oldest work that waits.
fn waiting(world: &World<'_>, loads: &[Vec<(u64, u32)>; 2], chosen: &mut Chosen) -> Option<Choice> {
    let input = world.input;
    let overdue = world.queues.iter().filter_map(|queue| queue.first().copied());
    let overdue = overdue.filter(|&work| input.time - world.waiting(work).since > input.rules.pending_after);
    let mut overdue: Vec<u32> = overdue.collect();
    overdue.sort_by_key(|&work| (world.waiting(work).since, work));
    for work in overdue {
        let waiting = world.waiting(work);
        let gpus = world.asks_for_gpus(world.requests(waiting.shape));
        let mut tally = Tally::default();
        // A group that is itself the least loaded is helped by the next one.
        let lender = loads[usize::from(gpus)].iter().find(|&&(load, group)| group != waiting.group && load < WHOLE);
        if let Some(&(_, from)) = lender
            && let Some(node) = spare(world, from, waiting.group, Some(work), gpus, &mut tally)
        {
            let queued = world.queues[waiting.group as usize].len() as u32;
            let choice = Choice::of(world, node, from, waiting.group);
            return Some(Choice { work: Some(work), queued, tally, ..choice });
        }
        chosen.unserved.push(Unserved { group: waiting.group, work, tally });
    }
    None
}

/// A machine of the least loaded group for the most loaded one, if they differ enough.
fn even_out(world: &World<'_>, loads: &[(u64, u32)]) -> Option<Choice> {
    let (&(low, from), &(high, to)) = (loads.first()?, loads.last()?);
    if from == to || (high - low) as f64 <= world.input.rules.threshold * WHOLE as f64 {
        return None;
    }
    let gpus = world.members[from as usize].first().is_some_and(|&node| world.has_gpus(node));
    let mut tally = Tally::default();
    let node = spare(world, from, to, None, gpus, &mut tally)?;
    Some(Choice { tally, ..Choice::of(world, node, from, to) })
}

/// The least loaded machine of a group that may go to another.
fn spare(world: &World<'_>, from: u32, to: u32, work: Option<u32>, gpus: bool, tally: &mut Tally) -> Option<u32> {
    let may_go = |node: u32| -> Result<(), Why> {
        work.map_or(Ok(()), |work| serves(world, work, node))?;
        movable(world, node, to)?;
        if !keeps(world, from, without(world, from, node)) {
            return Err(Why::Guarantee);
        }
        if below_ceiling(world, to, node) { Ok(()) } else { Err(Why::Ceiling) }
    };
    let members = world.members[from as usize].iter().copied().filter(|&node| world.has_gpus(node) == gpus);
    let able = members.filter(|&node| may_go(node).map_err(|why| tally.add(why, node)).is_ok());
    able.min_by_key(|&node| (Reverse(world.slack(node)), node))
}
