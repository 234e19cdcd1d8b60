//! What was told, so that nobody is told the same thing again and again.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::model::{ClusterName, Notice, NoticeKind};

/// After this long, a matter that lasts is told again.
pub const REPEAT_AFTER: SignedDuration = SignedDuration::from_hours(4);
/// Matters that are remembered at most; beyond them the oldest is forgotten, and what lasts is forgotten last.
const REMEMBERED: usize = 10_000;

/// The matters that were told, and when. The times are those of the notices.
#[derive(Debug, Default)]
pub struct Told {
    matters: HashMap<Matter, Timestamp>,
}

/// What makes two notices the same matter.
type Matter = (NoticeKind, Option<ClusterName>, String);

impl Told {
    /// Whether this is news: a matter that was not told, or not for [`REPEAT_AFTER`]; or the end of one that was told.
    /// What is news counts as told.
    pub fn is_news(&mut self, notice: &Notice) -> bool {
        let matter = (notice.kind, notice.cluster.clone(), notice.subject.clone());
        if notice.resolved {
            return self.matters.remove(&matter).is_some();
        }
        let is_fresh = |told: &Timestamp| notice.at.duration_since(*told) < REPEAT_AFTER;
        if self.matters.get(&matter).is_some_and(is_fresh) {
            return false;
        }
        self.matters.insert(matter, notice.at);
        if self.matters.len() > REMEMBERED {
            self.forget_one();
        }
        true
    }

    fn forget_one(&mut self) {
        let least = self.matters.iter().min_by_key(|((kind, ..), told)| (kind.lasts(), **told));
        if let Some(matter) = least.map(|(matter, _)| matter.clone()) {
            self.matters.remove(&matter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    fn notice(subject: &str, minutes: i64) -> Notice {
        Notice {
            kind: NoticeKind::NodeAbsent,
            cluster: "prod".parse().ok(),
            subject: subject.to_owned(),
            title: format!("{subject} left"),
            lines: Vec::new(),
            severity: Severity::Warning,
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes),
            resolved: false,
        }
    }

    fn over(notice: Notice) -> Notice {
        Notice { resolved: true, ..notice }
    }

    #[test]
    fn the_same_matter_is_told_once_until_it_is_over() {
        let mut told = Told::default();
        assert!(told.is_news(&notice("a", 0)));
        assert!(!told.is_news(&notice("a", 1)));
        assert!(told.is_news(&notice("b", 1)));
        assert!(told.is_news(&Notice { cluster: None, ..notice("a", 1) }));
        assert!(told.is_news(&Notice { kind: NoticeKind::Fighting, ..notice("a", 1) }));

        assert!(told.is_news(&over(notice("a", 2))));
        assert!(!told.is_news(&over(notice("a", 3))), "its end is told once");
        assert!(told.is_news(&notice("a", 4)), "it is a new matter after its end");
    }

    #[test]
    fn what_lasts_is_told_again_after_hours() {
        let mut told = Told::default();
        assert!(told.is_news(&notice("a", 0)));
        assert!(!told.is_news(&notice("a", 239)));
        assert!(told.is_news(&notice("a", 240)));
        assert!(!told.is_news(&notice("a", 479)));
        assert!(told.is_news(&over(notice("a", 10_000))), "it is known for as long as it lasts");
    }

    #[test]
    fn the_end_of_what_nobody_was_told_is_no_news() {
        assert!(!Told::default().is_news(&over(notice("a", 0))));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_lasts() {
        let mut told = Told::default();
        let once = |n: usize, minutes| Notice { kind: NoticeKind::NodeJoined, ..notice(&n.to_string(), minutes) };
        assert!(told.is_news(&notice("a", 0)));
        for n in 0..REMEMBERED + 200 {
            assert!(told.is_news(&once(n, if n < REMEMBERED { 1 } else { 300 })));
            assert!(told.matters.len() <= REMEMBERED);
        }
        assert!(told.is_news(&over(notice("a", 301))));
    }
}
