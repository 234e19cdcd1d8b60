//! Exchanges: a group that cannot spare a machine lends it all the same, and gets one on which its own pods run already.

use super::demand::{is_due, starts};
use super::{Choice, below_ceiling, keeps, movable, serves, without};
use crate::rebalance::world::{Holding, WHOLE, World};

/// The machine that is lent, and the one that makes up for it.
struct Pair {
    lent: u32,
    lender: u32,
    back: u32,
    /// The group that gives the second machine; it may be the one in need.
    giver: u32,
    work: u32,
}

/// Two moves that serve a group where no single one does.
pub(super) fn exchange(world: &World<'_>, group: u32, works: &[u32], queued: u32) -> Option<[Choice; 2]> {
    if world.input.rules.idle_only {
        return None; // the second machine has pods by its nature
    }
    for &work in works {
        let mut best: Option<(i64, Pair)> = None;
        for lender in (0..world.members.len() as u32).filter(|&lender| lender != group) {
            // A group that waits itself would have to wait longer.
            if !world.queues[lender as usize].is_empty() {
                continue;
            }
            let lent = world.members[lender as usize].iter().copied().filter(|&node| {
                let may_go = serves(world, work, node).is_ok() && movable(world, node, group).is_ok();
                may_go && below_ceiling(world, group, node) && is_due(world, starts(world, group, node).1)
            });
            let lent: Vec<u32> = lent.collect();
            if lent.is_empty() {
                continue;
            }
            for back in backs(world, lender) {
                for &lent in &lent {
                    let pair = Pair { lent, lender, back: back.0, giver: back.1, work };
                    if let Some(gain) = gain(world, group, &pair)
                        && best.as_ref().is_none_or(|(most, _)| gain > *most)
                    {
                        best = Some((gain, pair));
                    }
                }
            }
        }
        if let Some((_, pair)) = best {
            return Some(choices(world, group, &pair, queued));
        }
    }
    None
}

/// Machines of other groups on which pods of the lender run.
fn backs(world: &World<'_>, lender: u32) -> Vec<(u32, u32)> {
    let others = (0..).zip(&world.group).filter_map(|(node, owner)| Some((node, (*owner)?)));
    let others = others.filter(|&(node, owner)| owner != lender && world.held(node, lender) > 0);
    others.filter(|&(node, _)| movable(world, node, lender).is_ok()).collect()
}

/// What an exchange brings, in millionths of a machine; none where it breaks a guarantee or brings too little.
fn gain(world: &World<'_>, group: u32, pair: &Pair) -> Option<i64> {
    let share = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let freed = share(world.slack(pair.lent)) - share(world.slack(pair.back));
    if freed < i64::from(world.input.rules.weights.exchange_gain) * share(WHOLE) / 100 {
        return None;
    }
    let mut lender = without(world, pair.lender, pair.lent);
    lender += world.worth(pair.back, pair.lender);
    let mut giver = without(world, pair.giver, pair.back);
    if pair.giver == group {
        giver += world.worth(pair.lent, group);
    }
    if !keeps(world, pair.lender, lender) || !keeps(world, pair.giver, giver) {
        return None;
    }
    let regained = share(world.held(pair.back, pair.lender)) - share(world.held(pair.back, pair.giver));
    Some(freed + 2 * regained - share(world.held(pair.lent, pair.lender)))
}

fn choices(world: &World<'_>, group: u32, pair: &Pair, queued: u32) -> [Choice; 2] {
    let mut back = Choice::of(world, pair.back, pair.giver, pair.lender);
    let mut lent = Choice::of(world, pair.lent, pair.lender, group);
    let worth = world.worth(pair.back, pair.lender);
    let with = |mut holding: Holding| {
        holding += worth;
        holding
    };
    lent.lender = (with(lent.lender.0), with(lent.lender.1));
    back.exchange = true;
    for choice in [&mut back, &mut lent] {
        choice.work = Some(pair.work);
        choice.serves = group;
        choice.queued = queued;
    }
    [back, lent]
}
