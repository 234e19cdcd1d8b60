//! Tells the cluster: what is news at once, and now and then that nothing is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{LONGEST_WAIT, NEVER, News, Settings, said};
use crate::adapters::backoff::Backoff;
use crate::adapters::kube::{CallError, KubeCluster, StorageCondition};
use crate::adapters::objects::Metadata;
use crate::model::storage::StorageReport;
use crate::storage::judge::is_news;

/// What was told last.
struct Told {
    report: Arc<(Metadata, StorageReport)>,
    condition: StorageCondition,
    /// When it is told again.
    again: Instant,
}

pub(super) async fn run(settings: &Settings, kube: &KubeCluster, mut news: watch::Receiver<News>) {
    let mut teller =
        Teller { settings, kube, told: None, cleared: false, backoff: Backoff::up_to(LONGEST_WAIT), fails: None };
    loop {
        let now = news.borrow_and_update().clone();
        let wait = match teller.tell(&now).await {
            Ok(()) => None,
            Err(wait) => Some(Instant::now() + wait),
        };
        let wait = wait.or_else(|| teller.told.as_ref().map(|told| told.again));
        let is_failing = teller.fails.is_some();
        tokio::select! {
            // While the API server is in trouble, news waits its turn too.
            changed = news.changed(), if !is_failing => if changed.is_err() { return },
            () = until(wait) => {}
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct Teller<'a> {
    settings: &'a Settings,
    kube: &'a KubeCluster,
    told: Option<Told>,
    /// The condition was taken away, since nothing is asked.
    cleared: bool,
    backoff: Backoff,
    fails: Option<String>,
}

impl Teller<'_> {
    /// Tells what is to be told now, if anything is. An error comes with how long to wait.
    async fn tell(&mut self, news: &News) -> Result<(), Duration> {
        let report = match news {
            News::None => return Ok(()),
            News::Unasked => {
                self.told = None;
                if !self.cleared {
                    match self.kube.drop_storage_condition(&self.settings.node, &NEVER).await {
                        Ok(()) | Err(CallError::Refused { code: 404, .. }) => self.works(),
                        Err(error) => return Err(self.fails("nodes/status", &error)),
                    }
                    self.cleared = true;
                }
                return Ok(());
            }
            News::Report(report) => report,
        };
        self.cleared = false;
        let is_due = self.told.as_ref().is_none_or(|told| {
            let of_another = told.report.0.uid != report.0.uid;
            of_another || is_news(&report.1, &told.report.1) || Instant::now() >= told.again
        });
        if !is_due {
            return Ok(());
        }
        match self.kube.report_storage(&report.0, &report.1, &NEVER).await {
            Ok(()) => {}
            // It is gone, or another one has its name: the watch tells what is asked now.
            Err(CallError::Refused { code: 404 | 422, message, .. }) => {
                tracing::debug!("the report has no object: {message}");
                self.told = None;
                sleep(Duration::from_millis(500)).await;
                return Err(self.backoff.failed());
            }
            Err(error) => return Err(self.fails("nodestorages/status", &error)),
        }
        let fresh = StorageCondition::of(&report.1);
        let known = self.told.take().map(|told| told.condition).filter(|known| known.says_what(&fresh));
        let condition = known.unwrap_or(fresh);
        match self.kube.set_storage_condition(&self.settings.node, &condition, &NEVER).await {
            Ok(()) => self.works(),
            Err(CallError::Refused { code: 404, .. }) => {
                tracing::info!("there is no node {}: it gets its condition when it joins", self.settings.node);
                self.works();
            }
            Err(error) => return Err(self.fails("nodes/status", &error)),
        }
        // At the latest after a whole heartbeat: what reads it counts on that.
        let again = Instant::now() + self.settings.heartbeat.mul_f64(0.8 + 0.2 * fastrand::f64());
        self.told = Some(Told { report: report.clone(), condition, again });
        Ok(())
    }

    fn works(&mut self) {
        self.backoff.went_well();
        if self.fails.take().is_some() {
            tracing::info!("reports arrive again");
        }
    }

    fn fails(&mut self, what: &str, error: &CallError) -> Duration {
        let why = said(&self.kube.unwritten(what, error));
        if self.fails.as_ref() != Some(&why) {
            tracing::warn!("the report does not arrive: {why}");
        }
        self.fails = Some(why);
        let asked =
            if let CallError::Refused { retry_after: Some(asked), .. } = error { *asked } else { Duration::ZERO };
        self.backoff.failed().max(asked)
    }
}
