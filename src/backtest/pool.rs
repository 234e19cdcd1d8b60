//! POOL: what a single pool without groups would reach; the bound that no moving of labels can pass by much.

use super::fleet::Fleet;

/// Starts what can start anywhere, the oldest first.
pub(super) fn dispatch(fleet: &mut Fleet<'_>, all: &[u32], now: i64) {
    if fleet.backfill { everything(fleet, all, now) } else { heads(fleet, all, now) }
}

/// Only the oldest job of each group may start.
fn heads(fleet: &mut Fleet<'_>, all: &[u32], now: i64) {
    let mut reserved = false;
    let mut blocked = vec![false; fleet.sides.len()];
    loop {
        let open = (0..fleet.sides.len()).filter(|&group| !blocked[group]);
        let heads = open.filter_map(|group| Some((*fleet.sides[group].queue.front()?, group)));
        let Some((job, group)) = heads.min() else { return };
        match fleet.fit(job, all, reserved) {
            Some(places) => {
                fleet.sides[group].queue.pop_front();
                fleet.start(job, places, now);
            }
            None => {
                // Idle machines are kept for the oldest gang, or small jobs would starve it.
                reserved |= fleet.whole(job) > 0;
                blocked[group] = true;
            }
        }
    }
}

/// Every job that fits may start: the queues by the age of their heads, each from its begin to its end.
fn everything(fleet: &mut Fleet<'_>, all: &[u32], now: i64) {
    let heads = (0..fleet.sides.len()).filter_map(|group| Some((*fleet.sides[group].queue.front()?, group)));
    let mut order: Vec<(u32, usize)> = heads.collect();
    order.sort_unstable();
    for (_, group) in order {
        let mut index = 0;
        while let Some(&job) = fleet.sides[group].queue.get(index) {
            match fleet.fit(job, all, false) {
                Some(places) => {
                    fleet.sides[group].queue.remove(index);
                    fleet.start(job, places, now);
                }
                None => index += 1,
            }
        }
    }
}
