//! Why a node has each of its labels.

use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::audit::by;
use super::status::{StorageStatus, storage_status};
use super::style::{STYLES, clean, count, paint};
use crate::engine::audit::NodeHistory;
use crate::model::kubelet::{BindParts, deciding};
use crate::model::node::Hold;
use crate::model::observed::{FIELD_MANAGER, SetBy};
use crate::model::storage::Verdict;
use crate::model::vocabulary::is_reserved;
use crate::model::{ClusterName, DesiredCluster, Mode, ObservedCluster, ObservedKubelet, Vocabulary};
use crate::plan::{Source, StateRevision};

/// How many steps of a machine are told as text; JSON has them all.
const STEPS: usize = 20;

/// Why a node has each of its labels, and where it has been.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "drover explanation")]
pub struct Explanation {
    /// The state.
    pub state: StateRevision,
    /// The cluster.
    pub cluster: String,
    /// Whether drover writes to the cluster.
    pub mode: Mode,
    /// Why the cluster could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
    /// The node.
    pub node: String,
    /// Its document; none where the node is unmanaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Source>,
    /// Whether the node is live; unknown where the cluster could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// What keeps the rebalancer away, with whether it still does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Whether the hold has ended.
    pub hold_expired: bool,
    /// How its storage stands, where its cluster has one that agents look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Every label that is asked for or live, ordered by key.
    pub labels: Vec<LabelExplanation>,
    /// What its kubelet sees of the machine, where that is configured by binds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<BindExplanation>,
    /// In which groups it was, and who moved it why.
    pub history: NodeHistory,
}

/// Why a kubelet has a bind.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindExplanation {
    /// What state asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What the cluster is configured with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
    /// The line that asks for it, or for it to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// State says that it must go.
    pub removed: bool,
}

/// Why a node has a label.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelExplanation {
    /// The label.
    pub key: String,
    /// What state asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What is live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
    /// Whose the key is.
    pub owner: Owner,
    /// The line that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Who set the live value, if it was not drover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_by: Option<SetBy>,
    /// Whether drover set the live value.
    pub set_by_drover: bool,
}

/// Whose a label key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// State asks for it.
    State,
    /// It belongs to the vocabulary, and state does not ask for it: it will be removed.
    Vocabulary,
    /// drover set it, and state has dropped it: it will be removed.
    Dropped,
    /// The node's document leaves it alone.
    LeftAlone,
    /// It belongs to Kubernetes.
    Kubernetes,
    /// It belongs to somebody else: never touched.
    Foreign,
}

/// Explains the labels of a node. `seen` is what the cluster shows, or why it could not be looked at.
pub fn explain(
    state: &StateRevision,
    (cluster, desired): (&ClusterName, &DesiredCluster),
    name: &str,
    vocabulary: &Vocabulary,
    seen: Result<&ObservedCluster, String>,
    now: Timestamp,
) -> Explanation {
    let document = desired.nodes.get(name).map(AsRef::as_ref);
    let (unreachable, seen) = match seen {
        Ok(seen) => (None, Some(seen)),
        Err(cause) => (Some(cause), None),
    };
    let live = seen.and_then(|seen| seen.nodes.get(name));
    let asked = document.iter().flat_map(|document| &document.labels).map(|label| label.key.as_str());
    let keys: std::collections::BTreeSet<&str> =
        asked.chain(live.iter().flat_map(|live| live.labels.keys().map(String::as_str))).collect();
    let labels = keys.into_iter().map(|key| {
        let label = document.and_then(|document| document.label(key));
        let set_by_drover = live.is_some_and(|live| live.set_by_drover(key));
        let owner = match document {
            _ if label.is_some() => Owner::State,
            Some(document) if document.leaves_alone(key) => Owner::LeftAlone,
            Some(_) if vocabulary.owns(key) => Owner::Vocabulary,
            Some(_) if set_by_drover => Owner::Dropped,
            _ if key.parse().is_ok_and(|key| is_reserved(&key)) => Owner::Kubernetes,
            _ => Owner::Foreign,
        };
        LabelExplanation {
            key: key.to_owned(),
            asked: label.map(|label| label.value.to_string()),
            live: live.and_then(|live| live.labels.get(key).cloned()),
            owner,
            source: label.map(|label| label.origin.clone().into()),
            set_by: live.and_then(|live| live.set_by(key)),
            set_by_drover,
        }
    });
    let hold = document.and_then(|document| document.hold.clone());
    Explanation {
        state: state.clone(),
        cluster: cluster.to_string(),
        mode: desired.spec.mode,
        unreachable,
        node: name.to_owned(),
        document: document.map(|document| document.origin.clone().into()),
        live: seen.map(|_| live.is_some()),
        storage: seen.and_then(|seen| storage_status(desired.storage().as_ref(), document, seen, name, now)),
        hold_expired: hold.as_ref().is_some_and(|hold| hold.until.has_passed(now)),
        hold,
        labels: labels.collect(),
        binds: Vec::new(),
        history: NodeHistory::default(),
    }
}

/// Explains the binds of a cluster's kubelets: every machine has the same. `seen` is what is live, where that is known.
pub fn explain_binds(desired: &DesiredCluster, seen: Option<&ObservedKubelet>) -> Vec<BindExplanation> {
    let Some((kubelet, origins)) = desired.spec.kubelet.as_ref().zip(desired.kubelet.as_ref()) else {
        return Vec::new();
    };
    let live: Vec<&String> = seen.iter().flat_map(|seen| &seen.binds).collect();
    let shows = |bind: &str| {
        let decides = deciding(live.iter().map(|live| live.as_str()), BindParts::of(bind).destination)?;
        live.iter().find(|live| BindParts::of(live) == decides).map(|live| (*live).clone())
    };
    let asked = kubelet.extra_binds.iter().zip(&origins.binds).map(|(bind, origin)| BindExplanation {
        asked: Some(bind.to_string()),
        live: shows(bind.as_str()),
        source: Some(origin.clone().into()),
        removed: false,
    });
    let mut binds: Vec<BindExplanation> = asked.collect();
    for live in
        live.iter().filter(|live| !binds.iter().any(|bind| bind.live.as_ref() == Some(live))).collect::<Vec<_>>()
    {
        let removal = kubelet.remove_binds.iter().position(|path| *path == *BindParts::of(live).destination);
        let source = removal.and_then(|index| origins.removed.get(index)).map(|origin| origin.clone().into());
        binds.push(BindExplanation { asked: None, live: Some((*live).clone()), removed: source.is_some(), source });
    }
    binds
}

/// The explanation as text.
pub fn explain_text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let what = match (&explanation.document, explanation.live) {
        (Some(_), Some(true)) => "managed",
        (Some(_), Some(false)) => "managed, absent: its labels are set when it joins",
        (Some(_), None) => "managed, its cluster could not be looked at",
        (None, _) => "unmanaged: no document of the state names it, drover never touches it",
    };
    let title = format!("{} in {}", clean(&explanation.node), explanation.cluster);
    let _ = writeln!(text, "{}: {what}", paint(STYLES.bold, title));
    if let Some(cause) = &explanation.unreachable {
        let _ = writeln!(text, "  {}", paint(STYLES.remove, format!("unreachable: {}", clean(cause))));
    }
    if let Some(document) = &explanation.document {
        let _ = writeln!(text, "  document  {}", place(document));
    }
    if explanation.mode == Mode::Observe {
        let _ = writeln!(text, "  mode      observe: differences are reported, never applied");
    }
    if let Some(hold) = &explanation.hold {
        let ended = if explanation.hold_expired { " (ended)" } else { "" };
        let _ = writeln!(
            text,
            "  hold      until {}{ended} by {}: {}",
            hold.until,
            clean(&hold.owner),
            clean(&hold.reason)
        );
    }
    if let Some(storage) = &explanation.storage {
        storage_text(&mut text, storage);
    }
    for bind in &explanation.binds {
        let why = match (&bind.source, bind.removed) {
            (Some(source), false) => format!("asked for by {}", place(source)),
            (Some(source), true) => format!("to be removed by {}", place(source)),
            (None, _) => "not asked for: left alone".to_owned(),
        };
        let (style, cell) = match (&bind.live, &bind.asked) {
            (Some(live), Some(asked)) if live == asked => (STYLES.add, clean(live)),
            (Some(live), Some(asked)) => (STYLES.dim, format!("{} shown by {}", clean(asked), clean(live))),
            (None, Some(asked)) => (STYLES.change, format!("(absent) → {}", clean(asked))),
            (live, None) => {
                (if bind.removed { STYLES.remove } else { STYLES.dim }, clean(live.as_deref().unwrap_or_default()))
            }
        };
        let _ = writeln!(text, "  bind      {}  {why}", paint(style, cell));
    }
    let width = |cell: fn(&LabelExplanation) -> usize| explanation.labels.iter().map(cell).max().unwrap_or(0);
    let (keys, values) = (width(|label| label.key.chars().count()), width(|label| value(label).chars().count()));
    for label in &explanation.labels {
        let style = match label.owner {
            Owner::State if explanation.live == Some(true) && label.live != label.asked => STYLES.change,
            Owner::State => STYLES.add,
            Owner::Vocabulary | Owner::Dropped => STYLES.remove,
            Owner::LeftAlone | Owner::Kubernetes | Owner::Foreign => STYLES.dim,
        };
        let cells = format!("{:<keys$}  {:<values$}", clean(&label.key), value(label));
        let _ = writeln!(text, "  {}  {}", paint(style, cells), why(label));
    }
    text + &history(&explanation.history)
}

/// Where the machine has been, the newest last.
fn history(history: &NodeHistory) -> String {
    let mut text = String::new();
    let earlier = history.steps.len().saturating_sub(STEPS);
    if !history.steps.is_empty() {
        let _ = writeln!(text, "  history");
    }
    if earlier > 0 {
        let _ = writeln!(text, "    {}", paint(STYLES.dim, format!("{} before these", count(earlier, "step"))));
    }
    for step in &history.steps[earlier..] {
        let when = step.time.strftime("%Y-%m-%d %H:%M UTC");
        let reason = step.reason.as_ref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
        let _ = writeln!(text, "    {when}  {} → {}  {}{reason}", clean(&step.from), clean(&step.to), by(step));
    }
    if history.shallow {
        let _ =
            writeln!(text, "    only the newest part of the history is here; `git fetch --unshallow` brings the rest");
    }
    if let Some(until) = &history.vetoed_until {
        let by = history.vetoed_by.as_deref().map(clean).unwrap_or_default();
        let until = until.strftime("%Y-%m-%d %H:%M UTC");
        let _ = writeln!(text, "  veto      until {until}: {by} took it back, and the rebalancer leaves it alone");
    }
    text
}

fn storage_text(text: &mut String, storage: &StorageStatus) {
    let checked = storage.checked.map(|at| at.strftime(" (looked at on %Y-%m-%d %H:%M UTC)").to_string());
    let (style, verdict) = match storage.verdict {
        Verdict::Verified => (STYLES.add, "verified"),
        Verdict::Failed => (STYLES.remove, "not as it must be"),
        Verdict::Unknown => (STYLES.change, "unknown"),
    };
    let why = storage.why.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
    let _ = writeln!(text, "  storage   {}{why}{}", paint(style, verdict), checked.unwrap_or_default());
    if storage.verdict != Verdict::Verified {
        let _ = writeln!(text, "            labels that attract work are not set until it is verified");
    }
}

fn value(label: &LabelExplanation) -> String {
    match (&label.live, &label.asked) {
        (Some(live), Some(asked)) if live != asked => format!("{} → {asked}", clean(live)),
        (Some(live), _) => clean(live),
        (None, Some(asked)) => format!("(absent) → {asked}"),
        (None, None) => String::new(),
    }
}

fn why(label: &LabelExplanation) -> String {
    let mut why = match (label.owner, &label.source) {
        (Owner::State, Some(source)) => format!("asked for by {}", place(source)),
        (Owner::State, None) => "asked for".to_owned(),
        (Owner::Vocabulary, _) => "not asked for: will be removed".to_owned(),
        (Owner::Dropped, _) => "set by drover before, no longer asked for: will be removed".to_owned(),
        (Owner::LeftAlone, _) => "left alone: listed under `unmanaged` of its document".to_owned(),
        (Owner::Kubernetes, _) => "belongs to Kubernetes: never touched".to_owned(),
        (Owner::Foreign, _) => "not drover's: never touched".to_owned(),
    };
    if let Some(by) = &label.set_by {
        let when = by.time.map(|time| time.strftime(" on %Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
        let fights = if by.fights && matches!(label.owner, Owner::State | Owner::Vocabulary | Owner::Dropped) {
            ", which fights drover"
        } else {
            ""
        };
        let _ = write!(why, "; live value set by {}{when}{fights}", clean(&by.manager));
    } else if label.set_by_drover {
        let _ = write!(why, "; live value set by {FIELD_MANAGER}");
    }
    why
}

fn place(source: &Source) -> String {
    match &source.commit {
        Some(commit) => format!(
            "{} ({} {}, {}: {})",
            source.origin,
            commit.id,
            clean(&commit.author),
            commit.date,
            clean(&commit.summary)
        ),
        None => source.origin.to_string(),
    }
}
