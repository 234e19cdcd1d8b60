//! How long to wait after each failure in a row.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Waits that double with jitter, from half a second to half a minute, and begin anew once something went well.
pub(super) struct Backoff {
    waits: Option<ExponentialBackoff>,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { waits: None }
    }

    /// How long to wait after one more failure.
    pub(super) fn failed(&mut self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(30);
        let waits = self.waits.get_or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(500))
                .with_max_delay(LONGEST / 2)
                .without_max_times()
                .with_jitter()
                .build()
        });
        waits.next().unwrap_or(LONGEST)
    }

    /// Something went well.
    pub(super) fn went_well(&mut self) {
        self.waits = None;
    }
}
