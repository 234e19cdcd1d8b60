//! What the kubelets of a cluster see of their hosts: binds as people and managers write them, and what makes two of them
//! the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::KubeletManager;

/// The binds of a live cluster, as whatever configures its kubelets knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservedKubelet {
    /// What configures the kubelets.
    pub manager: KubeletManager,
    /// The binds that it keeps: of RKE those of its last run, of Rancher those that it is asked for.
    #[serde(default)]
    pub binds: Vec<String>,
    /// Of RKE: the binds in cluster.yml, which its next run makes live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Vec<String>>,
    /// Of Rancher: the binds that it says it has applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Vec<String>>,
    /// How many workers restart at the same time: a number, or a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<String>,
    /// What a person should know before anything is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it cannot be changed, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

impl ObservedKubelet {
    /// Binds of which nothing else is known.
    pub fn new(manager: KubeletManager, binds: Vec<String>) -> Self {
        Self { manager, binds, config: None, applied: None, max_unavailable: None, notes: Vec::new(), blocked: None }
    }
}

/// A bind taken apart. What is live was not checked by drover, so nothing is asked of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindParts<'b> {
    /// The path on the machine.
    pub source: &'b str,
    /// The path in the kubelet's container.
    pub destination: &'b str,
    options: &'b str,
}

/// How mounts below a bind pass between the machine and the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Propagation {
    /// What is mounted later stays invisible.
    Private,
    /// What is mounted on the machine later is seen.
    Slave,
    /// The same in both directions.
    Shared,
}

impl<'b> BindParts<'b> {
    /// The parts of a bind.
    pub fn of(bind: &'b str) -> Self {
        let mut parts = bind.splitn(3, ':');
        let mut path = || parts.next().unwrap_or_default();
        let (source, destination) = (trimmed(path()), trimmed(path()));
        // A bind without a destination is an anonymous volume at its only path.
        let destination = if destination.is_empty() { source } else { destination };
        Self { source, destination, options: parts.next().unwrap_or_default() }
    }

    fn options(&self) -> impl Iterator<Item = &'b str> + use<'b> {
        self.options.split(',').map(str::trim).filter(|option| !option.is_empty())
    }

    fn has(&self, wanted: &str) -> bool {
        self.options().any(|option| option == wanted)
    }

    fn propagation(&self) -> Propagation {
        let one = |option| match option {
            "shared" | "rshared" => Propagation::Shared,
            "slave" | "rslave" => Propagation::Slave,
            _ => Propagation::Private,
        };
        self.options().map(one).max().unwrap_or(Propagation::Private)
    }

    /// Whether a file system that is mounted after the kubelet was started is seen.
    pub fn propagates(&self) -> bool {
        self.propagation() > Propagation::Private
    }

    /// Whether both come to the same mount, however they are written.
    pub fn is_same(&self, other: &Self) -> bool {
        let told = |bind: &Self| {
            let implied = |option: &&str| !matches!(*option, "rw" | "private" | "rprivate");
            let mut options: Vec<&str> = bind.options().filter(implied).collect();
            options.sort_unstable();
            options.dedup();
            options
        };
        (self.source, self.destination) == (other.source, other.destination) && told(self) == told(other)
    }

    /// Whether this bind alone makes the container see what another one would show it: it binds an ancestor, source and
    /// destination map alike, and it grants no less.
    pub fn covers(&self, other: &Self) -> bool {
        let shows = |path: &str| {
            let rest = below(other.destination, self.destination)?;
            Some(below(path, self.source)? == rest)
        };
        shows(other.source) == Some(true)
            && self.propagation() >= other.propagation()
            && (!self.has("ro") && !other.has("ro") || self.is_same(other))
    }
}

/// The bind that decides what the container sees at a path: the one with the longest destination above it.
pub fn deciding<'b>(binds: impl Iterator<Item = &'b str>, path: &str) -> Option<BindParts<'b>> {
    binds
        .map(BindParts::of)
        .filter(|bind| below(path, bind.destination).is_some())
        .max_by_key(|bind| bind.destination.len())
}

/// Whether binds show the container exactly the path of the machine at the same path.
pub fn shows<'b>(binds: impl Iterator<Item = &'b str>, path: &str) -> Option<BindParts<'b>> {
    let bind = deciding(binds, path)?;
    (below(path, bind.destination)? == below(path, bind.source)?).then_some(bind)
}

/// What is left of a path below an ancestor, or below itself.
fn below<'p>(path: &'p str, ancestor: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(ancestor.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn trimmed(path: &str) -> &str {
    match path.trim().trim_end_matches('/') {
        "" if path.contains('/') => "/",
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_implied_makes_no_difference() {
        let same = |a, b| BindParts::of(a).is_same(&BindParts::of(b));
        assert!(
            same("/a:/b", "/a:/b:rw,rprivate") && same("/a:/b/", "/a/:/b") && same("/a:/b:z,rslave", "/a:/b:rslave,z")
        );
        assert!(!same("/a:/b", "/a:/b:ro") && !same("/a:/b", "/a:/b:rslave") && !same("/a:/b", "/a:/c"));
    }

    #[test]
    fn an_ancestor_covers_when_it_maps_alike_and_grants_as_much() {
        let covers = |a, b| BindParts::of(a).covers(&BindParts::of(b));
        assert!(
            covers("/data:/data", "/data/k8s:/data/k8s") && covers("/data:/data:rshared", "/data/k8s:/data/k8s:rslave")
        );
        assert!(covers("/:/", "/data:/data") && covers("/a:/b", "/a/x:/b/x"));
        assert!(!covers("/data:/data", "/data/k8s:/data/k8s:rslave"), "it does not propagate");
        assert!(!covers("/data:/data:ro", "/data/k8s:/data/k8s"), "it is read-only");
        assert!(!covers("/data:/data", "/data/k8s:/data/k8s:ro"), "it grants more than is asked for");
        assert!(!covers("/mnt:/data", "/data/k8s:/data/k8s") && !covers("/data:/data", "/database:/database"));
    }

    #[test]
    fn the_longest_destination_decides() {
        let shows = |binds: &[&'static str]| shows(binds.iter().copied(), "/data/k8s").is_some();
        assert!(shows(&["/data:/data"]) && shows(&["/x:/data", "/data/k8s:/data/k8s"]));
        assert!(!shows(&["/data:/data", "/mnt/k8s:/data/k8s"]) && !shows(&["/data/k8s/x:/data/k8s/x"]) && !shows(&[]));
    }
}
