//! How long to wait after each failure in a row.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Waits that double with jitter, from half a second on, and begin anew once something went well.
#[derive(Debug)]
pub struct Backoff {
    longest: Duration,
    waits: Option<ExponentialBackoff>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// Nothing has failed yet; half a minute is the longest wait.
    pub fn new() -> Self {
        Self::up_to(Duration::from_secs(30))
    }

    /// Nothing has failed yet.
    pub fn up_to(longest: Duration) -> Self {
        Self { longest, waits: None }
    }

    /// How long to wait after one more failure.
    pub fn failed(&mut self) -> Duration {
        let longest = self.longest;
        let waits = self.waits.get_or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(500))
                .with_max_delay(longest / 2)
                .without_max_times()
                .with_jitter()
                .build()
        });
        waits.next().unwrap_or(longest)
    }

    /// Something went well.
    pub fn went_well(&mut self) {
        self.waits = None;
    }
}
