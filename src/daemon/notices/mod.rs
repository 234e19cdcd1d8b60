//! Notices on their way to the receivers that a Fleet names.
//!
//! Telling never waits: each receiver has a queue and a task of its own, so that one that is dead delays no other, and
//! gets the latest of what it missed when it is back.

mod told;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::adapters::notify::Sender;
use crate::model::Notice;
use crate::model::fleet::{Notification, NotificationForm};
use crate::report::notice_body;
pub use told::{REPEAT_AFTER, Told};

/// Notices that wait for one receiver at most; beyond them, the oldest is dropped.
const QUEUE: usize = 256;
/// How long the end of the daemon waits for what is on its way.
const FAREWELL: Duration = Duration::from_secs(5);

/// Tells people. Clones tell the same people.
#[derive(Debug, Clone)]
pub struct Notices {
    sender: Sender,
    counters: Arc<BTreeMap<NotificationForm, Arc<Counters>>>,
    inner: Arc<Mutex<Inner>>,
}

/// What became of the messages of one form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken by their receiver.
    pub sent: u64,
    /// Given up, after retries where these could help.
    pub failed: u64,
    /// Given up without an answer: the queue was full, or the daemon ended.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    told: Told,
    receivers: Vec<Arc<Receiver>>,
    tasks: JoinSet<()>,
}

/// One receiver, and what waits for it.
#[derive(Debug)]
struct Receiver {
    notification: Arc<Notification>,
    counters: Arc<Counters>,
    queue: Mutex<Queue>,
    /// Wakes the task of this receiver.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Notice>>,
    /// Whether one more is on its way.
    sending: bool,
    /// Whether nothing is added any more.
    closed: bool,
}

impl Default for Notices {
    fn default() -> Self {
        Self::new()
    }
}

impl Notices {
    /// Tells nobody yet.
    pub fn new() -> Self {
        use NotificationForm::{Feishu, Generic, Slack, Wecom};
        let counters = [Generic, Slack, Wecom, Feishu].map(|form| (form, Arc::default()));
        Self { sender: Sender::new(), counters: Arc::new(counters.into()), inner: Arc::default() }
    }

    /// From now on, tells these receivers. One that stays keeps its queue; one that goes gets what it was told before.
    ///
    /// Must be called on a tokio runtime.
    pub fn update_targets(&self, notifications: Vec<Notification>) {
        let mut inner = lock(&self.inner);
        while inner.tasks.try_join_next().is_some() {}
        let before = std::mem::take(&mut inner.receivers);
        let (stay, go): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|receiver| notifications.contains(&receiver.notification));
        go.iter().for_each(|receiver| receiver.close());
        inner.receivers = stay;
        for notification in notifications {
            if inner.receivers.iter().any(|receiver| *receiver.notification == notification) {
                continue;
            }
            let receiver = Arc::new(Receiver {
                counters: self.counters.get(&notification.form).cloned().unwrap_or_default(),
                notification: Arc::new(notification),
                queue: Mutex::default(),
                changed: Notify::new(),
            });
            inner.receivers.push(receiver.clone());
            inner.tasks.spawn(serve(self.sender.clone(), receiver));
        }
    }

    /// Tells a notice to the receivers that want it, unless they were told already. Never waits.
    pub fn tell(&self, notice: Notice) {
        let mut inner = lock(&self.inner);
        let wanting: Vec<_> = inner.receivers.iter().filter(|r| r.notification.wants(&notice)).cloned().collect();
        // What nobody heard was not told; that something is over is known in any case.
        if (wanting.is_empty() && !notice.resolved) || !inner.told.is_news(&notice) {
            return;
        }
        let notice = Arc::new(notice);
        wanting.iter().for_each(|receiver| receiver.add(notice.clone()));
    }

    /// What became of the messages so far, by their form.
    pub fn counts(&self) -> BTreeMap<NotificationForm, Counts> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = |counters: &Counters| Counts {
            sent: read(&counters.sent),
            failed: read(&counters.failed),
            dropped: read(&counters.dropped),
        };
        self.counters.iter().map(|(form, counters)| (*form, counts(counters))).collect()
    }

    /// Tells nothing more, and waits up to five seconds for what is on its way.
    pub async fn shut_down(&self) {
        let (receivers, mut tasks) = {
            let mut inner = lock(&self.inner);
            (std::mem::take(&mut inner.receivers), std::mem::take(&mut inner.tasks))
        };
        receivers.iter().for_each(|receiver| receiver.close());
        drop(receivers);
        let flushed = tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
        if flushed.is_err() {
            tracing::warn!("some notifications were not sent before the end");
            tasks.shutdown().await;
        }
    }
}

/// Sends what one receiver is told, in order, until its queue is closed and empty.
async fn serve(sender: Sender, receiver: Arc<Receiver>) {
    let form = receiver.notification.form;
    while let Some(notice) = receiver.next().await {
        let sent = sender.send(&receiver.notification, notice_body(form, &notice)).await;
        lock(&receiver.queue).sending = false;
        match sent {
            Ok(()) => add(&receiver.counters.sent, 1),
            Err(failure) => {
                add(&receiver.counters.failed, 1);
                let (kind, hint) = (notice.kind.name(), failure.advice());
                tracing::warn!(kind, hint, "a notification was not sent: {failure}");
            }
        }
    }
}

impl Receiver {
    fn add(&self, notice: Arc<Notice>) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= QUEUE {
            queue.waiting.pop_front();
            add(&self.counters.dropped, 1);
        }
        queue.waiting.push_back(notice);
        self.changed.notify_one();
    }

    fn close(&self) {
        lock(&self.queue).closed = true;
        self.changed.notify_one();
    }

    /// The next notice; none at the end.
    async fn next(&self) -> Option<Arc<Notice>> {
        loop {
            {
                let mut queue = lock(&self.queue);
                let next = queue.waiting.pop_front();
                queue.sending = next.is_some();
                if next.is_some() || queue.closed {
                    return next;
                }
            }
            self.changed.notified().await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let queue = lock(&self.queue);
        add(&self.counters.dropped, queue.waiting.len() as u64 + u64::from(queue.sending));
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// What it guards is whole also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
