//! Looks at the source of the state: now and then, and at once when somebody says that it changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::backoff::Backoff;
use crate::adapters::clock;
use crate::adapters::folder::{FolderWatch, watch_folder};
use crate::engine::{Follower, InForce, Relation, StateSource, Synced};
use crate::error::Failure;
use crate::model::notice::{NoticeKind, Severity};
use crate::report::RefusedReport;

/// How long further hints are waited for: files are saved, and branches pushed, in bursts.
const GATHER: Duration = Duration::from_millis(100);

/// How other tasks speak to the one that follows the source.
pub(crate) struct Follow {
    /// The source may have changed; told several times before it is looked at, it is looked at once.
    trigger: Arc<Notify>,
    ask: mpsc::Sender<Question>,
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
}

/// Whether a commit is older than another one, which is in force.
struct Question {
    commit: String,
    in_force: String,
    answer: oneshot::Sender<bool>,
}

impl Default for Follow {
    fn default() -> Self {
        let (ask, questions) = mpsc::channel(16);
        Self { trigger: Arc::default(), ask, questions: Mutex::new(Some(questions)) }
    }
}

impl Follow {
    pub(super) fn trigger(&self) -> Arc<Notify> {
        self.trigger.clone()
    }

    /// Whether the commit in force may take the place of another one. The source is looked at before that is denied; what
    /// is in force can become another one by that, and then it is denied as well.
    pub(super) async fn is_older(&self, commit: &str, in_force: &str) -> bool {
        let (answer, answered) = oneshot::channel();
        let question = Question { commit: commit.to_owned(), in_force: in_force.to_owned(), answer };
        self.ask.send(question).await.is_ok() && answered.await.unwrap_or(false)
    }
}

/// Follows the source until `stop`.
pub(super) async fn run(
    daemon: Arc<Daemon>,
    in_force: watch::Sender<Option<Arc<InForce>>>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let questions = daemon.follow.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut questions) = questions else { return Err(Failure::new("the daemon runs already")) };
    let settings = &daemon.settings;
    let trigger = daemon.trigger();
    let _watch = watch_source(&settings.source, trigger.clone());
    let mut source = Source {
        follower: Some(Follower::new(settings.source.clone(), settings.follow.clone())),
        daemon: daemon.clone(),
        in_force,
    };
    let mut backoff = Backoff::new();
    loop {
        // Whoever waits for a silent server must not wait for the end as well.
        let looked = tokio::select! {
            looked = source.look() => looked?,
            () = stop.cancelled() => return Ok(()),
        };
        let wait = match looked {
            true => {
                backoff.went_well();
                settings.poll
            }
            false => backoff.failed().min(settings.poll),
        };
        // Spread over replicas and daemons, so that they do not all knock at once.
        let pause = tokio::time::sleep(wait.mul_f64(source.spread()));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = &mut pause => break,
                () = trigger.notified() => {
                    tokio::time::sleep(GATHER).await;
                    break;
                }
                Some(question) = questions.recv() => source.answer(question).await?,
            }
        }
    }
}

/// A folder on this machine tells by itself when it changes.
fn watch_source(source: &StateSource, trigger: Arc<Notify>) -> Option<FolderWatch> {
    let StateSource::Folder(folder) = source else { return None };
    match watch_folder(folder, move || trigger.notify_one()) {
        Ok(watch) => Some(watch),
        Err(failure) => {
            tracing::warn!("changes are only noticed when polled: {failure}");
            None
        }
    }
}

struct Source {
    /// Away only while it looks, on a thread of its own.
    follower: Option<Follower>,
    daemon: Arc<Daemon>,
    in_force: watch::Sender<Option<Arc<InForce>>>,
}

impl Source {
    /// Looks once. Whether that went well.
    async fn look(&mut self) -> Result<bool, Failure> {
        let (now, begun) = (clock::now(), Instant::now());
        let synced = self.with_follower(move |follower| follower.sync(now)).await?;
        let daemon = &self.daemon;
        daemon.metrics.synced(synced.is_ok(), begun.elapsed());
        daemon.board.sync(|sync| sync.last_look = Some(clock::now()));
        match synced {
            Ok(synced) => {
                self.tell_synced(&synced);
                Ok(true)
            }
            Err(failure) => {
                let lines = [Some(failure.to_string()), failure.advice().map(str::to_owned)];
                let title = "the state cannot be read".to_owned();
                let lines = lines.into_iter().flatten().collect();
                daemon.tell(NoticeKind::SyncFailed, None, "", title, lines, Severity::Critical);
                let mut before = None;
                daemon.board.sync(|sync| before = sync.failure.replace(failure.to_string()));
                if before != Some(failure.to_string()) {
                    tracing::warn!("the state cannot be read: {failure}");
                }
                Ok(false)
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Result<(), Failure> {
        let mut older = self.relation(&question).await?;
        if older == Some(false) {
            // Another replica may simply have looked later than this one.
            let looked = self.look().await?;
            older = self.relation(&question).await?;
            if looked && self.daemon.settings.follow.follow_rewinds {
                older = older.map(|_| true);
            }
        }
        let _ = question.answer.send(older == Some(true));
        Ok(())
    }

    /// Whether the commit is older than the one in force; none where another one is in force by now.
    async fn relation(&mut self, question: &Question) -> Result<Option<bool>, Failure> {
        let (commit, ours) = (question.commit.clone(), question.in_force.clone());
        self.with_follower(move |follower| {
            let still = follower.in_force().is_some_and(|state| state.revision.commit.as_ref() == Some(&ours));
            still.then(|| matches!(follower.contains(&commit), Ok(Relation::Same | Relation::Older)))
        })
        .await
    }

    /// Git and parsing block, and keep nobody else waiting.
    async fn with_follower<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Follower) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let Some(mut follower) = self.follower.take() else { return Err(Failure::new("the state is being read")) };
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut follower);
            (follower, result)
        });
        let (follower, result) =
            done.await.map_err(|error| Failure::caused("reading the state ended in a way that it must not", &error))?;
        self.follower = Some(follower);
        Ok(result)
    }

    fn tell_synced(&self, synced: &Synced) {
        let daemon = &self.daemon;
        let now = self.follower.as_ref().and_then(Follower::in_force);
        let refused: Vec<RefusedReport> = synced.refused.iter().map(RefusedReport::from).collect();
        let mut before = Vec::new();
        // First of all: the receivers that a state names are told of that state, too.
        if let (true, Some(state)) = (synced.changed, &now) {
            daemon.notices.update_targets(state.desired.fleet.notifications.clone());
        }
        // A cluster that nobody has looked at yet is not ready, whatever is in force.
        for name in now.iter().flat_map(|state| state.desired.clusters.keys()) {
            daemon.board.cluster(name.as_str(), |_| {});
        }
        daemon.board.sync(|sync| {
            sync.last_success = Some(clock::now());
            sync.failure = None;
            sync.head = synced.head.clone();
            sync.in_force = now.as_ref().map(|state| state.revision.clone());
            before = std::mem::replace(&mut sync.refused, refused.clone());
        });
        daemon.resolve(NoticeKind::SyncFailed, None, "", "the state can be read again".to_owned());
        for (revision, report) in synced.refused.iter().zip(&refused).filter(|(_, report)| !before.contains(report)) {
            let (id, reason) = (&revision.revision, &report.reason);
            tracing::warn!(revision = id, reason, "not applied: {}", report.summary);
            for problem in report.further_problems() {
                tracing::warn!(revision = id, reason, "not applied: {problem}");
            }
            let title = format!("revision {} is not applied", short(id));
            let lines = std::iter::once(&report.summary).chain(report.further_problems()).cloned().collect();
            daemon.tell(NoticeKind::RevisionRefused, None, "", title, lines, Severity::Warning);
        }
        let (true, Some(state)) = (synced.changed, now) else { return };
        tracing::info!(revision = state.revision.short(), source = state.revision.source, "in force");
        for warning in &state.warnings {
            tracing::warn!("{}:{}: {}", warning.file, warning.line, warning.message);
        }
        let title = format!("revision {} is in force", state.revision.short());
        if synced.refused.is_empty() {
            daemon.resolve(NoticeKind::RevisionRefused, None, "", title.clone());
        }
        let lines = state.signer.iter().map(|signer| format!("signed by {signer}")).collect();
        daemon.tell(NoticeKind::RevisionApplied, None, &state.revision.digest, title, lines, Severity::Info);
        self.in_force.send_replace(Some(state));
    }

    /// Between 0.9 and 1.1, and each time another.
    fn spread(&self) -> f64 {
        let nanos = clock::now().subsec_nanosecond().unsigned_abs();
        0.9 + 0.2 * f64::from(nanos % 1000) / 1000.0
    }
}

/// A commit as people name it; a folder as it is.
fn short(revision: &str) -> &str {
    let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { &revision[..10] } else { revision }
}
