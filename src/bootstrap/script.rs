//! From steps to the script: what it goes by, the functions that it needs, and one line for each step.

use std::fmt::Write;

use super::quote::{quote, shown, words};
use super::steps::{Kind, Setup};
use crate::model::bootstrap::Engine;

const BEGIN: &str = include_str!("script/begin.sh");
const PACKAGES: &str = include_str!("script/packages.sh");
const DOCKER: &str = include_str!("script/docker.sh");
const CONTAINERD: &str = include_str!("script/containerd.sh");
const FIREWALL: &str = include_str!("script/firewall.sh");
const SWAP: &str = include_str!("script/swap.sh");
const STORAGE: &str = include_str!("script/storage.sh");
const IMAGES: &str = include_str!("script/images.sh");
const JOIN: &str = include_str!("script/join.sh");

impl Kind {
    /// What the names of its functions begin with.
    fn name(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::DockerConfig => "docker_config",
            Self::DockerRunning => "docker_running",
            Self::ContainerdConfig => "containerd_config",
            Self::ContainerdRunning => "containerd_running",
            Self::Firewall => "firewall",
            Self::Swap => "swap",
            Self::Fstab => "fstab",
            Self::Mount => "mount",
            Self::Verified => "verified",
            Self::Root => "root",
            Self::Link => "link",
            Self::Directory => "directory",
            Self::Images(_) => "images",
            Self::Join => "join",
        }
    }

    /// The parts of the script that hold them.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Packages => &[PACKAGES],
            Self::DockerConfig | Self::DockerRunning => &[DOCKER],
            Self::ContainerdConfig | Self::ContainerdRunning => &[CONTAINERD],
            Self::Firewall => &[FIREWALL],
            Self::Swap => &[SWAP],
            Self::Fstab | Self::Mount | Self::Verified | Self::Root | Self::Link | Self::Directory => &[STORAGE],
            Self::Images(Engine::Docker) => &[DOCKER, IMAGES],
            Self::Images(Engine::Containerd) => &[CONTAINERD, IMAGES],
            Self::Join => &[JOIN],
        }
    }
}

/// The script that sets a machine up. Everything that comes from the state is a quoted word in it.
pub fn script(setup: &Setup) -> String {
    let mut text = String::from("#!/usr/bin/env bash\n");
    let (node, cluster) = (setup.node.as_str(), setup.cluster.as_str());
    let _ = writeln!(
        text,
        "# Sets up {node} as a machine of the cluster {cluster}: drover bootstrap {node} --cluster {cluster}"
    );
    text.push_str("# It can be run again at any time. --dry-run tells what it would do, --help everything else.\n");
    text.push_str("# It sets no labels: drover sets those of the Node document once the machine has joined.\n#\n");
    text.push_str("# Not every machine needs every setting, and steps are called by the names of their functions.\n");
    text.push_str("# shellcheck disable=SC2034,SC2317\n\n");
    let _ = writeln!(text, "readonly NODE={} CLUSTER={} STEPS={}", quote(node), quote(cluster), setup.steps.len());
    if let Some(storage) = &setup.storage {
        let _ = writeln!(text, "readonly ROOT={} LOCAL={}", quote(&storage.root), storage.local);
        let _ = writeln!(text, "readonly TYPES=({})", words(&storage.types));
        let _ = writeln!(text, "readonly SOURCES=({})", words(&storage.sources));
    }
    if let Some(join) = &setup.join {
        let _ = writeln!(text, "readonly TOKEN_FROM={} TOKEN_SOURCE={}", quote(join.from), quote(&join.source));
        let _ = writeln!(text, "readonly JOINED=({})", words(&join.joined));
    }
    let mut parts = vec![BEGIN];
    for part in setup.steps.iter().flat_map(|step| step.kind.parts()) {
        if !parts.contains(part) {
            parts.push(part);
        }
    }
    for part in parts {
        text.push('\n');
        text.push_str(part);
    }
    text.push_str("\nmain() {\n  options \"$@\"\n  begin\n");
    for step in &setup.steps {
        if let Some(origin) = &step.asked {
            let _ = writeln!(text, "  # {}", shown(&origin.to_string()));
        }
        let arguments: String = step.arguments.iter().map(|argument| format!(" {}", quote(argument))).collect();
        let _ = writeln!(text, "  step {} {}{arguments}", quote(&step.title), step.kind.name());
    }
    // A script that was cut short on its way here does nothing.
    text.push_str("  finish\n}\n\nmain \"$@\"\n");
    text
}
