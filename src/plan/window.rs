//! Maintenance windows: whether one is open, and when the next one opens.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::model::cluster::Window;

/// Whether changes may be applied now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// There are no windows, so always.
    Always,
    /// A window is open.
    Open {
        /// When the last of those that are open closes.
        closes: Timestamp,
    },
    /// None is open.
    Closed {
        /// When the next one opens; none where no schedule ever matches again.
        opens: Option<Timestamp>,
    },
}

/// How the windows of a cluster stand at a moment. A window includes the moment it opens, not the one it closes.
pub fn opening(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Always;
    }
    match windows.iter().filter_map(|window| closes(window, now)).max() {
        Some(closes) => Opening::Open { closes },
        None => Opening::Closed { opens: windows.iter().filter_map(|window| opens(window, now)).min() },
    }
}

/// When a window that is open closes.
fn closes(window: &Window, now: Timestamp) -> Option<Timestamp> {
    let opened = schedule(window)?.find_previous_occurrence(&local(window, now)?, true).ok()?.timestamp();
    let length = SignedDuration::try_from(window.duration.duration()).ok()?;
    let closes = opened.checked_add(length).ok()?;
    (now < closes).then_some(closes)
}

fn opens(window: &Window, now: Timestamp) -> Option<Timestamp> {
    let next = schedule(window)?.find_next_occurrence(&local(window, now)?, false);
    next.ok().map(|moment| moment.timestamp())
}

fn schedule(window: &Window) -> Option<Cron> {
    window.schedule.as_str().parse().ok()
}

fn local(window: &Window, now: Timestamp) -> Option<Zoned> {
    let zone = match &window.time_zone {
        Some(name) => TimeZone::get(name.as_str()).ok()?,
        None => TimeZone::UTC,
    };
    Some(now.to_zoned(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(schedule: &str, duration: &str, zone: Option<&str>) -> Window {
        Window {
            schedule: schedule.parse().expect("a schedule"),
            duration: duration.parse().expect("a duration"),
            time_zone: zone.map(|zone| zone.parse().expect("a zone")),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn without_windows_changes_may_always_be_applied() {
        assert_eq!(opening(&[], at("2026-11-24T12:00:00Z")), Opening::Always);
    }

    #[test]
    fn a_window_includes_its_opening_and_not_its_close() {
        let nightly = [window("0 22 * * 1-5", "2h", None)];
        let open = Opening::Open { closes: at("2026-11-25T00:00:00Z") };
        assert_eq!(opening(&nightly, at("2026-11-24T22:00:00Z")), open);
        assert_eq!(opening(&nightly, at("2026-11-24T23:59:59Z")), open);
        let next = Opening::Closed { opens: Some(at("2026-11-25T22:00:00Z")) };
        assert_eq!(opening(&nightly, at("2026-11-25T00:00:00Z")), next);
        let friday = Opening::Closed { opens: Some(at("2026-11-30T22:00:00Z")) };
        assert_eq!(opening(&nightly, at("2026-11-28T03:00:00Z")), friday, "none on a weekend");
    }

    #[test]
    fn a_window_opens_by_the_clock_of_its_zone() {
        let zone = [window("0 2 * * *", "1h", Some("Europe/Berlin"))];
        let opens = |now| opening(&zone, at(now));
        assert_eq!(opens("2026-01-10T00:30:00Z"), Opening::Closed { opens: Some(at("2026-01-10T01:00:00Z")) });
        assert_eq!(opens("2026-07-10T00:30:00Z"), Opening::Open { closes: at("2026-07-10T01:00:00Z") });
        // On the night of 2026-03-29 there is no 02:00: the window is not lost.
        assert!(matches!(opens("2026-03-29T01:10:00Z"), Opening::Open { .. }), "{:?}", opens("2026-03-29T01:10:00Z"));
    }

    #[test]
    fn the_longest_of_several_open_windows_counts() {
        let both = [window("0 22 * * *", "1h", None), window("30 21 * * *", "4h", None)];
        assert_eq!(opening(&both, at("2026-11-24T22:10:00Z")), Opening::Open { closes: at("2026-11-25T01:30:00Z") });
    }
}
