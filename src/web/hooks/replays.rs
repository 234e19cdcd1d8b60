//! Deliveries that were accepted, so that none is accepted twice.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// Ids that are remembered at most.
const REMEMBERED: usize = 10_000;
/// How long an id is remembered.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);

/// The ids of accepted deliveries: at most 10,000, for a day.
#[derive(Debug, Default)]
pub struct Replays {
    known: HashSet<Arc<str>>,
    by_age: VecDeque<(Timestamp, Arc<str>)>,
}

impl Replays {
    /// Remembers an id; false where it is known already.
    pub fn remember(&mut self, id: &str, now: Timestamp) -> bool {
        let is_old = |at: &Timestamp| now.duration_since(*at) >= MEMORY;
        while self.by_age.front().is_some_and(|(at, _)| is_old(at)) {
            self.forget_oldest();
        }
        if self.known.contains(id) {
            return false;
        }
        if self.by_age.len() >= REMEMBERED {
            self.forget_oldest();
        }
        let id: Arc<str> = id.into();
        self.by_age.push_back((now, id.clone()));
        self.known.insert(id)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_age.pop_front() {
            self.known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_a_day_and_memory_is_bounded() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let mut replays = Replays::default();
        assert!(replays.remember("a", at(0)));
        assert!(!replays.remember("a", at(23)));
        assert!(replays.remember("a", at(24)));
        for n in 0..REMEMBERED {
            assert!(replays.remember(&n.to_string(), at(25)));
        }
        assert_eq!((replays.known.len(), replays.by_age.len()), (REMEMBERED, REMEMBERED));
        assert!(replays.remember("a", at(25)), "the oldest made room");
        assert!(!replays.remember("9999", at(25)));
    }
}
