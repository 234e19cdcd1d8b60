//! How machines are chosen, and the bounds that hold for every way of choosing.

mod cube;
mod demand;
mod exchange;

use super::decision::Why;
use super::world::{Holding, WHOLE, World};
use crate::model::cluster::Policy;
use crate::model::group::Guarantee;

/// A move that a policy chose, with what it was chosen for.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) node: u32,
    pub(super) from: u32,
    pub(super) to: u32,
    /// The work that it is for; none where loads are evened out.
    pub(super) work: Option<u32>,
    /// The group whose need it serves in the end.
    pub(super) serves: u32,
    /// It makes up for a machine that this group lends in the same decision.
    pub(super) exchange: bool,
    /// Work that waited in the group that is served when this was chosen.
    pub(super) queued: u32,
    /// What starts because of it.
    pub(super) started: Vec<u32>,
    /// What is free on the machine, and what pods of the lender hold there, in millionths of it.
    pub(super) free: u64,
    pub(super) left_behind: u64,
    /// The lender before and after.
    pub(super) lender: (Holding, Holding),
    pub(super) tally: Tally,
}

/// A need that no machine could serve.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) group: u32,
    pub(super) work: u32,
    pub(super) tally: Tally,
}

/// Why machines were not taken: how many for each reason, and the first of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    counts: [(u32, [u32; EXAMPLES]); Why::ALL.len()],
}

const EXAMPLES: usize = 3;

impl Tally {
    pub(super) fn add(&mut self, why: Why, node: u32) {
        let (count, first) = &mut self.counts[why as usize];
        if let Some(place) = first.get_mut(*count as usize) {
            *place = node;
        }
        *count += 1;
    }

    /// The reasons that occurred, how often, and the first machines.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (Why, u32, &[u32])> {
        Why::ALL
            .into_iter()
            .zip(&self.counts)
            .filter(|(_, (count, _))| *count > 0)
            .map(|(why, (count, first))| (why, *count, &first[..(*count as usize).min(EXAMPLES)]))
    }
}

/// What a policy came to.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) moves: Vec<Choice>,
    pub(super) unserved: Vec<Unserved>,
    /// Needs remained, but the budget was used up.
    pub(super) exhausted: bool,
}

/// Chooses moves. The world is left as it would be after them.
pub(super) fn choose(world: &mut World<'_>) -> Chosen {
    match world.input.rules.policy {
        Policy::Demand => demand::choose(world),
        Policy::Cube => cube::choose(world),
        Policy::Off => Chosen::default(),
    }
}

/// How many moves the rules leave for this pass.
fn budget(world: &World<'_>) -> usize {
    let (input, rules) = (world.input, &world.input.rules);
    let recent = input.moves.iter().filter(|past| input.time - past.at < 86_400).count();
    let daily = rules.daily_moves.map_or(usize::MAX, |most| (most as usize).saturating_sub(recent));
    daily.min(rules.max_moves as usize)
}

/// Whether a machine may change to a group at all, whoever lends it.
fn movable(world: &World<'_>, node: u32, to: u32) -> Result<(), Why> {
    let (input, known) = (world.input, &world.input.nodes[node as usize]);
    if world.moved[node as usize] {
        return Err(Why::MovedNow);
    }
    if !known.shareable {
        return Err(Why::NotShareable);
    }
    if known.ineligible {
        return Err(Why::NotEligible);
    }
    if let Some(barred) = &known.barred
        && barred.until.is_none_or(|until| until > input.time)
    {
        return Err(Why::Barred);
    }
    if known.last.is_some_and(|last| last.from == to && input.time - last.at <= input.rules.cooldown) {
        return Err(Why::CoolingDown);
    }
    if input.rules.idle_only && !world.idle(node) {
        return Err(Why::NotIdle);
    }
    Ok(())
}

/// Whether a group keeps its guarantee where `after` is left to it.
fn keeps(world: &World<'_>, group: u32, after: Holding) -> bool {
    let Guarantee { nodes, cpus, gpus } = world.input.groups[group as usize].guarantee;
    let at_least = |have: u64, least: Option<u32>, unit: u64| least.is_none_or(|least| have >= u64::from(least) * unit);
    at_least(after.nodes, nodes, WHOLE) && at_least(after.cpu, cpus, 1000) && at_least(after.gpus, gpus, 1)
}

/// What a group effectively has once a machine is gone from it.
fn without(world: &World<'_>, group: u32, node: u32) -> Holding {
    let mut after = world.effective[group as usize];
    after -= world.worth(node, group);
    after
}

/// Whether a group may have one more machine.
fn below_ceiling(world: &World<'_>, group: u32, node: u32) -> bool {
    let Guarantee { nodes, cpus, gpus } = world.input.groups[group as usize].ceiling;
    let mut after = world.labelled[group as usize];
    after += world.whole(node);
    let at_most = |have: u64, most: Option<u32>, unit: u64| most.is_none_or(|most| have <= u64::from(most) * unit);
    at_most(after.nodes, nodes, WHOLE) && at_most(after.cpu, cpus, 1000) && at_most(after.gpus, gpus, 1)
}

/// Whether a machine could take pods of a piece of work now: the right kind, labels, taints, and room.
fn serves(world: &World<'_>, work: u32, node: u32) -> Result<(), Why> {
    let shape = world.waiting(work).shape;
    if world.asks_for_gpus(world.requests(shape)) != world.has_gpus(node) {
        return Err(Why::OtherKind);
    }
    if !world.may(shape, node) {
        return Err(Why::Unfit);
    }
    if !world.fits(shape, node) {
        return Err(Why::NoRoom);
    }
    Ok(())
}
