//! Work as the rebalancer sees it: what pods ask for, where they run, or why they wait.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::selector::NodeSelection;

/// A pod that runs or waits.
#[derive(Debug, Clone, PartialEq)]
pub struct PodWork {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it is bound to; none while it waits.
    pub node: Option<String>,
    /// Since when it runs, or waits.
    pub since: Timestamp,
    /// Which nodes it may be on.
    pub selection: NodeSelection,
    /// The taints that it tolerates.
    pub tolerations: Vec<Toleration>,
    /// What it requests: thousandths of a core for `cpu`, bytes for `memory`, pieces for every other resource.
    pub requests: BTreeMap<String, u64>,
    /// The gang that it starts with, as `namespace/name`; none for a pod that starts alone.
    pub gang: Option<String>,
    /// Whether every node runs one like it: it belongs to the node, not to a group.
    pub of_daemon_set: bool,
    /// What the scheduler says of why it waits.
    pub says: Option<String>,
}

/// A pod from its submission to its end, also where it has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct PodLife {
    /// The pod.
    pub pod: PodWork,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// When it began; none while it waits.
    pub started: Option<Timestamp>,
    /// Whether it has ended.
    pub is_over: bool,
    /// When it ended, where it says so.
    pub ended: Option<Timestamp>,
}

impl PodLife {
    /// The GPUs that it requests.
    pub fn gpus(&self) -> u64 {
        self.pod.requests.get("nvidia.com/gpu").copied().unwrap_or(0)
    }
}

/// What keeps pods off a node that do not tolerate it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty where it has none.
    pub value: String,
    /// `NoSchedule` or `NoExecute`; a mere preference keeps nobody off.
    pub effect: String,
}

impl Taint {
    /// What Kubernetes puts on a cordoned node.
    pub fn cordoned() -> Self {
        Self {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        }
    }
}

/// A taint, or a set of them, that a pod does not mind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The key; any key where it is none.
    pub key: Option<String>,
    /// The value; any value where it is none.
    pub value: Option<String>,
    /// The effect; any effect where it is none.
    pub effect: Option<String>,
}

impl Toleration {
    /// Whether a pod with it does not mind the taint.
    pub fn covers(&self, taint: &Taint) -> bool {
        let is = |asked: &Option<String>, has: &str| asked.as_deref().is_none_or(|asked| asked == has);
        is(&self.key, &taint.key) && is(&self.value, &taint.value) && is(&self.effect, &taint.effect)
    }
}

impl std::fmt::Display for Taint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}:{}", self.key, self.value, self.effect)
    }
}

/// Why a pod waits, in the words of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A machine that it could be on has too little left: one more machine would help.
    Resources,
    /// No machine takes it, by labels or taints alone: one more would help if its group has none of that kind.
    NoMatch,
    /// Something that no machine changes: a volume, a port, other pods, a gate.
    Otherwise,
}

/// Reads the scheduler's message, as `0/10 nodes are available: 3 Insufficient cpu, 7 node(s) didn't match node selector.`
///
/// It counts every machine of the cluster, and machines of other groups never match: what counts is whether any machine
/// lacks room.
pub fn why_it_waits(message: &str) -> Wait {
    let message = message.to_ascii_lowercase();
    // Volcano judges gangs as a whole and does not say of what there is too little.
    if message.contains("gang unschedulable") || message.contains("pod group is not ready") {
        return Wait::Resources;
    }
    // Since 1.22 the outcome of preemption follows: it says nothing new.
    let message = message.split("preemption: ").next().unwrap_or_default();
    let Some((_, reasons)) = message.split_once("available: ") else { return Wait::Otherwise };
    // A taint in the words of older schedulers holds a comma: ", that the pod didn't tolerate".
    let reasons = reasons.replace(", that the pod", " that the pod");
    let mut reasons = reasons
        .split([',', ';'])
        .map(|reason| reason.trim().trim_start_matches(|c: char| c.is_ascii_digit()).trim().trim_end_matches('.'))
        .filter(|reason| !reason.is_empty())
        .peekable();
    let lacks_room = |reason: &str| reason.starts_with("insufficient ") || reason.starts_with("too many pods");
    let no_match = |reason: &str| {
        ["node selector", "node affinity", "taint", "were unschedulable"].iter().any(|word| reason.contains(word))
            && !reason.contains("volume")
    };
    if reasons.peek().is_none() {
        return Wait::Otherwise;
    }
    let mut wait = Wait::NoMatch;
    for reason in reasons {
        if lacks_room(reason) {
            return Wait::Resources;
        }
        if !no_match(reason) {
            wait = Wait::Otherwise;
        }
    }
    wait
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_room_is_demand() {
        for (message, wait) in [
            // 1.20 and before
            ("0/10 nodes are available: 3 Insufficient cpu, 7 node(s) didn't match node selector.", Wait::Resources),
            ("0/10 nodes are available: 10 Insufficient nvidia.com/gpu.", Wait::Resources),
            (
                "0/2 nodes are available: 1 Too many pods, 1 node(s) had taint {a: b}, that the pod didn't tolerate.",
                Wait::Resources,
            ),
            ("0/2 nodes are available: 2 node(s) had taint {a: b}, that the pod didn't tolerate.", Wait::NoMatch),
            // 1.21 to 1.23
            ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", Wait::NoMatch),
            ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", Wait::Otherwise),
            // since 1.24
            (
                "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
                Wait::Resources,
            ),
            (
                "0/3 nodes are available: 1 node(s) had untolerated taint {x: y}, 2 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
                Wait::NoMatch,
            ),
            (
                "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
                Wait::Otherwise,
            ),
            ("0/3 nodes are available: 3 node(s) didn't have free ports for the requested pod ports.", Wait::Otherwise),
            ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", Wait::Otherwise),
            ("persistentvolumeclaim \"data\" not found", Wait::Otherwise),
            ("Scheduling is blocked due to non-empty scheduling gates", Wait::Otherwise),
            ("no nodes available to schedule pods", Wait::Otherwise),
            // Volcano
            ("3/3 tasks in gang unschedulable: pod group is not ready, 3 Pending, 3 minAvailable.", Wait::Resources),
            ("all nodes are unavailable: 3 Insufficient nvidia.com/gpu.", Wait::Resources),
            ("0/3 nodes are available: ", Wait::Otherwise),
            ("", Wait::Otherwise),
        ] {
            assert_eq!(why_it_waits(message), wait, "{message}");
        }
    }

    #[test]
    fn a_toleration_covers_what_it_names() {
        let taint = Taint { key: "gpu".into(), value: "a100".into(), effect: "NoSchedule".into() };
        let toleration = |key: Option<&str>, value: Option<&str>, effect: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Toleration { key: own(key), value: own(value), effect: own(effect) }
        };
        assert!(toleration(None, None, None).covers(&taint));
        assert!(toleration(Some("gpu"), None, None).covers(&taint));
        assert!(!toleration(Some("gpu"), Some("t4"), None).covers(&taint));
        assert!(!toleration(Some("gpu"), Some("a100"), Some("NoExecute")).covers(&taint));
    }
}
