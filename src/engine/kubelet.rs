//! The kubelet binds of a cluster: looked at beside its nodes, and changed after its labels.
//!
//! What is applied is looked at once more first: the plan names the list that it replaces, and another one makes it stale.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::apply::{ClusterOutcome, Progress};
use super::pass::{Observed, timeout_of};
use super::state::Loaded;
use super::write_back::{BindsEdit, BindsWritten, Writer};
use crate::adapters::files;
use crate::adapters::kube::KubeCluster;
use crate::adapters::kubelet::{Followed, Manager, Rancher, RkeCommand, RkeRun, Written};
use crate::error::Failure;
use crate::manifest::rke;
use crate::model::cluster::KubeletManager;
use crate::model::{ClusterName, ClusterSpec, DesiredCluster, Mode, ObservedKubelet};
use crate::plan::{ClusterPlan, ConfigPlan, KubeletPlan, is_same_set};

/// For how long a change is followed where the state does not say.
const FOLLOWED: Duration = Duration::from_secs(3600);

/// What was seen of the kubelets of a cluster.
pub struct Kubelets {
    /// What configures them; none where that is a dump, or could not be connected to.
    pub manager: Option<Manager>,
    /// Their binds, or why they are not known.
    pub seen: Result<ObservedKubelet, Failure>,
}

impl Kubelets {
    /// What was seen, or the reason why nothing was, in words.
    pub fn told(&self) -> Result<&ObservedKubelet, String> {
        self.seen.as_ref().map_err(in_words)
    }
}

/// A failure with its advice.
pub fn in_words(failure: &Failure) -> String {
    match failure.advice() {
        Some(advice) => format!("{failure} ({advice})"),
        None => failure.to_string(),
    }
}

/// What became of the binds of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletOutcome {
    /// What was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// How it ended.
    pub end: KubeletEnd,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What to do, where there is advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a change of binds ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KubeletEnd {
    /// Every kubelet was told.
    Done,
    /// Somebody else has to go on, such as the reviewer of a proposal.
    Waits,
    /// It goes on without drover, which did not see its end.
    Open,
    /// Somebody else changed the binds after the plan was made; they were left alone.
    Stale,
    /// It failed.
    Failed,
    /// It was not begun.
    NotDone,
}

impl KubeletOutcome {
    fn new(steps: Vec<String>, end: KubeletEnd, why: impl Into<String>) -> Self {
        Self { steps, end, why: why.into(), hint: None }
    }

    fn failed(steps: Vec<String>, failure: &Failure) -> Self {
        let hint = failure.advice().map(str::to_owned);
        Self { steps, end: KubeletEnd::Failed, why: failure.to_string(), hint }
    }

    /// Whether nothing went wrong.
    pub fn is_well(&self) -> bool {
        matches!(self.end, KubeletEnd::Done | KubeletEnd::Waits)
    }
}

/// Looks at the binds of a live cluster; none where binds do not apply.
pub async fn observe(kube: &KubeCluster, spec: &ClusterSpec, root: Option<&Path>) -> Option<Kubelets> {
    let kubelet = spec.kubelet.as_ref().filter(|kubelet| kubelet.manager.has_binds())?;
    match Manager::connect(kube, kubelet, root, timeout_of(spec)).await {
        Ok(manager) => {
            let manager = manager?;
            Some(Kubelets { seen: manager.observe().await, manager: Some(manager) })
        }
        Err(failure) => Some(Kubelets { manager: None, seen: Err(failure) }),
    }
}

/// The binds of a recorded cluster; none where binds do not apply.
pub fn recorded(spec: &ClusterSpec, recorded: Option<&ObservedKubelet>) -> Option<Kubelets> {
    let kubelet = spec.kubelet.as_ref().filter(|kubelet| kubelet.manager.has_binds())?;
    Some(Kubelets { manager: None, seen: recorded_binds(kubelet.manager, recorded) })
}

/// The binds in a dump, which must be of this manager.
pub fn recorded_binds(manager: KubeletManager, recorded: Option<&ObservedKubelet>) -> Result<ObservedKubelet, Failure> {
    match recorded {
        Some(seen) if seen.manager == manager => Ok(seen.clone()),
        Some(seen) => Err(Failure::new(format!("the dump was made when {} configured the kubelets", seen.manager))),
        None => Err(Failure::new("the dump holds no KubeletBinds").hint("write it anew with `drover snapshot`")),
    }
}

/// Adds what the cluster.yml says, where RKE configures the kubelets. `read` gives the text of a file that state names.
pub fn add_config(seen: &mut ObservedKubelet, spec: &ClusterSpec, read: impl Fn(&str) -> Result<String, Failure>) {
    let Some(rke) = spec.kubelet.as_ref().and_then(|kubelet| kubelet.rke.as_ref()) else { return };
    if seen.manager != KubeletManager::Rke {
        return;
    }
    let config = read(&rke.config).and_then(|text| {
        rke::read(&rke.config.as_str().into(), &text).map_err(|error| Failure::new(error.to_string()))
    });
    match config {
        Ok(config) => {
            seen.config = Some(config.binds);
            seen.max_unavailable = config.max_unavailable_worker;
            seen.notes.extend(config.notes);
        }
        Err(failure) => seen.blocked = Some(failure.to_string()),
    }
}

/// With what binds are changed.
#[derive(Clone)]
pub struct Operator {
    /// How RKE is run; it is not, where nobody says how.
    pub rke: Option<RkeCommand>,
    /// Where the state is read from, and written to.
    pub place: StatePlace,
}

/// Where a cluster.yml that state names lies.
#[derive(Clone)]
pub enum StatePlace {
    /// In a working directory: this is the root of the state in it.
    Folder(PathBuf),
    /// In a repository, which is written to by commits.
    Repository(Box<Writer>),
    /// Somewhere that drover does not write to, and why.
    ReadOnly(String),
}

/// A change of binds that is to be made.
pub struct Work<'w> {
    /// The cluster.
    pub name: &'w ClusterName,
    /// Its document.
    pub cluster: &'w DesiredCluster,
    /// The change.
    pub plan: &'w KubeletPlan,
    /// What configures the kubelets.
    pub manager: &'w Manager,
    /// With what it is changed.
    pub operator: &'w Operator,
    /// When it was planned.
    pub now: Timestamp,
}

/// Why the binds of a cluster are not changed, although its labels may be.
fn not_begun(
    plan: &ClusterPlan,
    kubelet: &KubeletPlan,
    observed: Option<&Observed>,
    labels: &ClusterOutcome,
) -> Option<String> {
    if plan.mode == Mode::Observe {
        return Some("mode: observe, changes are only reported".to_owned());
    }
    if let Some(why) = kubelet.blocked.as_ref().or(kubelet.unknown.as_ref()) {
        return Some(why.clone());
    }
    if observed.and_then(|observed| observed.kubelet.as_ref()?.manager.as_ref()).is_none() {
        return Some("its connection is a dump, which has no cluster behind it".to_owned());
    }
    // Work that a label attracts must be gone before what it needs goes.
    (!labels.labels_are_whole() && kubelet.takes_away())
        .then(|| "labels are not as they must be yet, and binds that work may need would go".to_owned())
}

/// Changes the binds of a cluster whose labels were applied, if its plan says so.
pub async fn apply(
    loaded: &Loaded,
    plan: &ClusterPlan,
    observed: Option<&Observed>,
    labels: &ClusterOutcome,
    operator: &Operator,
    (stop, progress): (&AtomicBool, &dyn Progress),
    now: Timestamp,
) -> Option<KubeletOutcome> {
    let kubelet = plan.kubelet.as_ref().filter(|kubelet| kubelet.changes_anything())?;
    if plan.unreachable.is_some() {
        return None;
    }
    if let Some(why) = not_begun(plan, kubelet, observed, labels) {
        let end = if plan.mode == Mode::Observe { KubeletEnd::Waits } else { KubeletEnd::NotDone };
        return Some(KubeletOutcome::new(Vec::new(), end, why));
    }
    let (name, cluster) = loaded.desired.clusters.get_key_value(plan.cluster.as_str())?;
    let manager = observed?.kubelet.as_ref()?.manager.as_ref()?;
    let work = Work { name, cluster, plan: kubelet, manager, operator, now };
    Some(work.carry_out(stop, &|line| progress.told(&plan.cluster, line)).await)
}

impl Work<'_> {
    /// Makes the change, and follows it to its end.
    pub async fn carry_out(&self, stop: &AtomicBool, tell: &(dyn Fn(&str) + Sync)) -> KubeletOutcome {
        match self.manager {
            Manager::Rancher(rancher) => self.by_rancher(rancher, stop, tell).await,
            Manager::Rke(_) => {
                let mut steps = Vec::new();
                match self.by_rke(&mut steps, stop, tell).await {
                    Ok((end, why)) => KubeletOutcome::new(steps, end, why),
                    Err(failure) => KubeletOutcome::failed(steps, &failure),
                }
            }
        }
    }

    async fn by_rancher(&self, rancher: &Rancher, stop: &AtomicBool, tell: &(dyn Fn(&str) + Sync)) -> KubeletOutcome {
        let none = Vec::new();
        let before = match rancher.write(&self.plan.from, &self.plan.to, stop).await {
            Ok(Written::Asked(before)) => before,
            Ok(Written::Stale { found }) => return KubeletOutcome::new(none, KubeletEnd::Stale, stale(&found)),
            Ok(Written::Blocked(why)) => return KubeletOutcome::new(none, KubeletEnd::NotDone, why),
            Err(failure) => return KubeletOutcome::failed(none, &failure),
        };
        tell("Rancher is asked for the binds");
        let steps = vec!["Rancher is asked for the binds".to_owned()];
        match rancher.follow(&self.plan.to, &before, self.timeout(), stop, tell).await {
            Followed::Done => KubeletOutcome::new(steps, KubeletEnd::Done, ""),
            Followed::Failed(why) => KubeletOutcome::new(steps, KubeletEnd::Failed, why),
            Followed::Open(open) => {
                let why = format!("not done within {} s: {open}", self.timeout().as_secs());
                KubeletOutcome::new(steps, KubeletEnd::Open, why)
            }
            Followed::Stopped(open) => KubeletOutcome::new(steps, KubeletEnd::Open, format!("Rancher goes on: {open}")),
        }
    }

    fn timeout(&self) -> Duration {
        let timeout = self.cluster.spec.kubelet.as_ref().and_then(|kubelet| kubelet.timeout.as_ref());
        timeout.map_or(FOLLOWED, |timeout| timeout.duration())
    }

    async fn by_rke(
        &self,
        steps: &mut Vec<String>,
        stop: &AtomicBool,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<(KubeletEnd, String), Failure> {
        let Some(config) = &self.plan.config else {
            return Ok((KubeletEnd::NotDone, "the plan does not know the cluster.yml".to_owned()));
        };
        let live = self.manager.observe().await?.binds;
        if !self.plan.changes.is_empty() && live != self.plan.from {
            return Ok((KubeletEnd::Stale, stale(&live)));
        }
        let file = match self.edited(config, steps).await? {
            Edited::Here(file) => file,
            Edited::Over(end, why) => return Ok((end, why)),
        };
        if self.plan.changes.is_empty() {
            return Ok((KubeletEnd::Done, String::new()));
        }
        let Some(rke) = &self.operator.rke else {
            return Ok((
                KubeletEnd::Waits,
                format!("run `rke up --config {}`, or tell drover how with --rke", file.shown()),
            ));
        };
        let path = match &file {
            File::At(path) => path.clone(),
            File::Text(text) => match &rke.folder {
                Some(folder) => put(&folder.join(self.name.as_str()), config, text)?,
                None => {
                    let why = format!(
                        "run `rke up` with {}, or name the folder with its cluster.rkestate with --rke-folder",
                        config.path
                    );
                    return Ok((KubeletEnd::Waits, why));
                }
            },
        };
        match rke.up(&path, stop, tell).await? {
            RkeRun::Failed(why) => return Ok((KubeletEnd::Failed, why)),
            RkeRun::Stopped => return Ok((KubeletEnd::Open, "RKE was stopped before its end".to_owned())),
            RkeRun::Done => steps.push(format!("ran {} up", rke.program.display())),
        }
        let live = self.manager.observe().await?.binds;
        match is_same_set(&live, &self.plan.to) {
            true => Ok((KubeletEnd::Done, String::new())),
            false => Ok((KubeletEnd::Failed, format!("RKE ended well, and yet {} is live", shown(&live)))),
        }
    }

    /// Edits the cluster.yml, where it is not right yet.
    async fn edited(&self, config: &ConfigPlan, steps: &mut Vec<String>) -> Result<Edited, Failure> {
        let absolute = Path::new(&config.path).is_absolute();
        let path = match &self.operator.place {
            StatePlace::Folder(root) => root.join(&config.path),
            _ if absolute && config.from == config.to => PathBuf::from(&config.path),
            _ if absolute => {
                let why = format!(
                    "{} lies outside of the repository: edit it there, or with `drover apply --state`",
                    config.path
                );
                return Ok(Edited::Over(KubeletEnd::Waits, why));
            }
            StatePlace::ReadOnly(why) if config.from != config.to => {
                return Ok(Edited::Over(KubeletEnd::Waits, why.clone()));
            }
            StatePlace::ReadOnly(_) => {
                let why = format!("run `rke up --config {}`", config.path);
                return Ok(Edited::Over(KubeletEnd::Waits, why));
            }
            StatePlace::Repository(writer) => return self.committed(writer, config, steps).await,
        };
        let text = files::read_text(&path)?;
        let name: Arc<str> = config.path.as_str().into();
        let found = rke::read(&name, &text).map_err(|error| Failure::new(error.to_string()))?.binds;
        if found == config.to {
            return Ok(Edited::Here(File::At(path)));
        }
        if found != config.from {
            return Ok(Edited::Over(KubeletEnd::Stale, format!("{} was changed since the plan was made", config.path)));
        }
        let edited = rke::set_binds(&name, &text, &config.to).map_err(|error| {
            Failure::new(error.to_string()).hint("edit `services.kubelet.extra_binds` by hand, then apply again")
        })?;
        files::replace_alike(&path, &edited)?;
        steps.push(match absolute {
            true => format!("edited {}", path.display()),
            false => format!("edited {}: commit it", path.display()),
        });
        Ok(Edited::Here(File::At(path)))
    }

    async fn committed(
        &self,
        writer: &Writer,
        config: &ConfigPlan,
        steps: &mut Vec<String>,
    ) -> Result<Edited, Failure> {
        let (writer, name, now) = (writer.clone(), self.name.clone(), self.now);
        let edit = BindsEdit::of(&name, config, &self.plan.changes);
        let writing = tokio::task::spawn_blocking(move || writer.write_binds(&name, now, &edit));
        let written =
            writing.await.map_err(|error| Failure::caused("the commit ended in a way that it must not", &error))??;
        Ok(match written {
            BindsWritten::InForce { commit, text } => {
                steps.extend(commit.map(|commit| format!("committed {} as {commit}", config.path)));
                Edited::Here(File::Text(text))
            }
            BindsWritten::Proposed { branch, proposal, is_new } => {
                if is_new {
                    steps.push(format!("committed {} to the branch {branch}", config.path));
                }
                let at = proposal.map(|at| format!(": {at}")).unwrap_or_default();
                Edited::Over(KubeletEnd::Waits, format!("merge the branch {branch}{at}"))
            }
            BindsWritten::Dropped(why) => Edited::Over(KubeletEnd::Stale, why),
        })
    }
}

enum Edited {
    Here(File),
    Over(KubeletEnd, String),
}

/// A cluster.yml that is in force.
enum File {
    At(PathBuf),
    Text(String),
}

impl File {
    fn shown(&self) -> String {
        match self {
            Self::At(path) => path.display().to_string(),
            Self::Text(_) => "cluster.yml".to_owned(),
        }
    }
}

/// Puts a cluster.yml beside the state that RKE keeps of the cluster.
fn put(folder: &Path, config: &ConfigPlan, text: &str) -> Result<PathBuf, Failure> {
    let name = Path::new(&config.path).file_name().unwrap_or("cluster.yml".as_ref());
    let path = folder.join(name);
    files::create_folder(folder)?;
    files::replace_alike(&path, text)?;
    Ok(path)
}

fn stale(found: &[String]) -> String {
    format!("somebody changed the binds since the plan was made: {} is live now", shown(found))
}

fn shown(binds: &[String]) -> String {
    if binds.is_empty() { "no bind".to_owned() } else { binds.join(", ") }
}
