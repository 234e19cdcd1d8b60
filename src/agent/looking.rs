//! Looks at the machine: when something else is asked, when its mounts change, and now and then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use super::{Asked, News, Order, Settings, about};
use crate::adapters::clock;
use crate::adapters::host::{Answer, MountWatch, Prober, Request, boot_id, mountinfo_of, mounts};
use crate::model::storage::{MountFact, StorageReport, StorageWanted};
use crate::storage::judge::{following, is_news};
use crate::storage::mounts::{Mount, covering, entries};
use crate::storage::{Look, RootFact};

/// How long the mounts are let come to rest: every pod that starts brings some.
const REST: Duration = Duration::from_millis(500);
/// The least time between looks at a file system that did not answer.
const SHORTEST: Duration = Duration::from_secs(5);

pub(super) async fn run(settings: &Settings, mut orders: watch::Receiver<Order>, news: &watch::Sender<News>) {
    let mut watched = Watched::new(&settings.host_root);
    let mut prober = Prober::new(settings.probe);
    let mut last: Option<StorageReport> = None;
    loop {
        let order = orders.borrow_and_update().clone();
        let Order::Some(asked) = order else {
            last = None;
            if matches!(order, Order::None) {
                news.send_replace(News::Unasked);
            }
            if orders.changed().await.is_err() {
                return;
            }
            continue;
        };
        let before = last.take().or_else(|| asked.before.clone());
        let (report, again) = look(settings, &asked, &mut prober, &mut watched).await;
        let report = following(report, before.as_ref());
        if before.is_none_or(|before| is_news(&report, &before)) {
            let (verdict, reason) = (report.verdict, report.reason.name());
            tracing::info!(?verdict, reason, "{}", report.message);
        }
        news.send_replace(News::Report((asked.object.clone(), report.clone()).into()));
        last = Some(report);
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(about(again)) => {}
            () = watched.moved() => tracing::debug!("the mounts changed"),
            () = prober.freed() => tracing::info!("the file system answers again, or is gone"),
        }
    }
}

/// One look, and when to look again if nothing happens.
async fn look(
    settings: &Settings,
    asked: &Asked,
    prober: &mut Prober,
    watched: &mut Watched,
) -> (StorageReport, Duration) {
    let now = || Look {
        generation: asked.object.generation,
        checked: clock::now(),
        boot_id: boot_id(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let wanted = match &asked.wanted {
        Ok(wanted) => wanted,
        Err(why) => {
            let why = format!("what is asked cannot be read, perhaps since drover is newer than its agent: {why}");
            return (now().failed(&why), settings.interval);
        }
    };
    watched.remember(wanted);
    let request = Request {
        host_root: settings.host_root.clone(),
        wanted: wanted.clone(),
        node: settings.node.clone(),
        make: true,
    };
    let limit = limit(wanted);
    match prober.look(&request, limit).await {
        Answer::Seen(facts) => {
            facts.made.iter().for_each(|made| tracing::info!("made or set: {made}"));
            if let RootFact::Found { path, .. } = &facts.root {
                watched.leads_to(path);
            }
            (now().report(wanted, &facts), settings.interval)
        }
        Answer::TimedOut => {
            let again = if prober.hangs() { settings.interval } else { settings.interval.min(limit.max(SHORTEST)) };
            (now().timed_out(wanted, watched.mount(), limit), again)
        }
        Answer::Failed(why) => (now().failed(&why), settings.interval),
    }
}

fn limit(wanted: &StorageWanted) -> Duration {
    Duration::from_secs(wanted.timeout_seconds.clamp(1, 600).into())
}

/// A single look, for a person. `probe` are the arguments with which this program answers one.
pub async fn look_once(request: &Request, probe: &'static [&'static str]) -> StorageReport {
    let look = || Look {
        generation: 0,
        checked: clock::now(),
        boot_id: boot_id(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (wanted, limit) = (&request.wanted, limit(&request.wanted));
    match Prober::new(probe).look(request, limit).await {
        Answer::Seen(facts) => look().report(wanted, &facts),
        Answer::TimedOut => {
            let mut watched = Watched::new(&request.host_root);
            watched.remember(wanted);
            look().timed_out(wanted, watched.mount(), limit)
        }
        Answer::Failed(why) => look().failed(&why),
    }
}

/// The mounts that matter: those on which the root lies, and what it leads to.
struct Watched {
    mountinfo: PathBuf,
    /// What stands before the paths of the machine in its list of mounts.
    base: Vec<u8>,
    watch: Option<MountWatch>,
    /// Where the root led to at the last look.
    led_to: Option<Vec<u8>>,
    known: Vec<(Vec<u8>, Option<Mount<'static>>)>,
}

impl Watched {
    fn new(host_root: &Path) -> Self {
        let mountinfo = mountinfo_of(host_root);
        let of_process = !mountinfo.starts_with("/proc/self");
        let base = if of_process { "" } else { host_root.to_str().unwrap_or_default().trim_end_matches('/') };
        let watch = MountWatch::open(&mountinfo);
        if let Err(failure) = &watch {
            tracing::warn!("changes of mounts are only seen now and then: {failure}");
        }
        Self { base: base.as_bytes().to_vec(), watch: watch.ok(), mountinfo, led_to: None, known: Vec::new() }
    }

    /// Before a look: what changes from here on is a reason for another one.
    fn remember(&mut self, wanted: &StorageWanted) {
        let paths = [Some(&wanted.root), wanted.link.as_ref()];
        let mut paths: Vec<Vec<u8>> = paths.into_iter().flatten().map(|path| path.as_str().into()).collect();
        paths.extend(self.led_to.clone());
        self.known = self.on(paths);
    }

    /// After a look: the root is a link to there.
    fn leads_to(&mut self, path: &[u8]) {
        if self.led_to.as_deref() != Some(path) {
            self.led_to = Some(path.to_vec());
            let more = self.on(vec![path.to_vec()]);
            self.known.extend(more);
        }
    }

    /// The mount on which each path lies by the list, which tells nothing of links.
    fn on(&self, paths: Vec<Vec<u8>>) -> Vec<(Vec<u8>, Option<Mount<'static>>)> {
        let list = mounts(&self.mountinfo).unwrap_or_default();
        let on = |path: &[u8]| {
            let path = [self.base.as_slice(), path].concat();
            covering(entries(&list), &path).map(Mount::into_owned)
        };
        paths.into_iter().map(|path| (path.clone(), on(&path))).collect()
    }

    /// What the list says of the root, for when nothing else can be said.
    fn mount(&self) -> Option<MountFact> {
        let led_to = self.led_to.as_ref();
        let known = self.known.iter().find(|(path, _)| led_to.is_none_or(|led_to| led_to == path));
        known.and_then(|(_, mount)| mount.as_ref()).map(Mount::fact)
    }

    /// Waits until one of the mounts is another one. It can be stopped at any await, and no change is lost.
    async fn moved(&self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        loop {
            watch.changed().await;
            tokio::time::sleep(REST).await;
            if self.on(self.known.iter().map(|(path, _)| path.clone()).collect()) != self.known {
                return;
            }
        }
    }
}
