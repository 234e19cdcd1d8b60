//! The clock of the long-running shells: each tick of theirs reads it once, and everything below is told the time.

use std::time::Duration;

use jiff::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the daemon runs on; this is where its time enters")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Waits until a moment; for ever where there is none. Looks again now and then, so that a clock that was set or a
/// machine that slept is noticed.
pub async fn until(moment: Option<Timestamp>) {
    const LOOK_AGAIN: Duration = Duration::from_secs(30);
    let Some(moment) = moment else { return std::future::pending().await };
    loop {
        match Duration::try_from(moment.duration_since(now())) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK_AGAIN)).await,
            _ => return,
        }
    }
}
