//! The one NodeStorage that is the machine's own, kept in sight through whatever happens to its API server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Asked, LONGEST_WAIT, Order, Settings, said};
use crate::adapters::backoff::Backoff;
use crate::adapters::kube::{KubeCluster, Seen, Watcher};
use crate::adapters::storage_objects::{NodeStorageObject, Part};

/// How long a single watch lives, at the least and at the most: thousands of agents must not open theirs anew all at once.
const WATCH: (u64, u64) = (300, 600);
/// A watch that lasted so long was well, whether it told anything or not.
const STEADY: Duration = Duration::from_secs(10);

pub(super) async fn run(settings: &Settings, kube: &KubeCluster, orders: &watch::Sender<Order>) {
    let lifetime = Duration::from_secs(fastrand::u64(WATCH.0..=WATCH.1));
    let mut watcher = Watcher::<NodeStorageObject>::of_one(lifetime, &settings.node);
    let mut backoff = Backoff::up_to(LONGEST_WAIT);
    let mut fails: Option<String> = None;
    loop {
        let begun = Instant::now();
        let mut heard = false;
        let lost = watcher
            .follow(kube, |seen| {
                heard |= !matches!(seen, Seen::Opened | Seen::All(_));
                if matches!(seen, Seen::Opened | Seen::Changed(_)) && fails.take().is_some() {
                    tracing::info!("what is asked can be followed again");
                }
                match seen {
                    Seen::All(objects) => {
                        let own = objects.into_iter().find(|object| object.node() == settings.node);
                        order(orders, own);
                    }
                    Seen::Changed(object) if object.node() == settings.node => order(orders, Some(object)),
                    Seen::Gone(object) if object.node() == settings.node => order(orders, None),
                    Seen::Changed(_) | Seen::Gone(_) | Seen::Opened | Seen::Alive => {}
                }
            })
            .await;
        if heard || begun.elapsed() >= STEADY {
            backoff.went_well();
        }
        let why = said(&lost.failure);
        if fails.as_ref() != Some(&why) {
            tracing::warn!("what is asked cannot be followed: {why}");
        }
        fails = Some(why);
        tokio::time::sleep(backoff.failed().max(lost.wait)).await;
    }
}

/// Passes on what is asked, if that is something else than before. The agent's own reports change the object too.
fn order(orders: &watch::Sender<Order>, object: Option<NodeStorageObject>) {
    let wanted = object.map(|object| {
        let wanted = match object.spec {
            Part::Read(wanted) => Some(Ok(wanted)),
            Part::Unreadable(why) => Some(Err(why)),
            Part::Absent => None,
        };
        (object.metadata, wanted, object.status)
    });
    let next = match wanted {
        Some((object, Some(wanted), status)) => {
            Order::Some(Arc::new(Asked { object, wanted, before: status.into_read() }))
        }
        _ => Order::None,
    };
    orders.send_if_modified(|order| {
        let is_same = match (&*order, &next) {
            (Order::None, Order::None) => true,
            (Order::Some(old), Order::Some(new)) => {
                let identity = |asked: &Asked| (asked.object.uid.clone(), asked.object.generation);
                identity(old) == identity(new) && old.wanted == new.wanted
            }
            _ => false,
        };
        if !is_same {
            match &next {
                Order::Some(asked) => tracing::info!(generation = asked.object.generation, "storage is asked for"),
                Order::None | Order::NotSeen => tracing::info!("no storage is asked for on this machine"),
            }
            *order = next;
        }
        !is_same
    });
}
