//! From the state to the steps that set up a machine, in their order.

use super::images::{Lists, images_of, names};
use super::quote::{fstab, shown};
use crate::model::bootstrap::{Bootstrap, Engine, ImageSet, Join, Mount, NODE, PackageName, Runtime};
use crate::model::cluster::{Directory, Storage};
use crate::model::path::HostPath;
use crate::model::storage::DISTRIBUTED;
use crate::model::{ClusterName, DesiredCluster, DesiredNode, NodeName, Origin, Places};

/// How long the kubelet may take after the join command, in seconds.
const WAIT: u64 = 600;
/// Files that machines have that joined a cluster of kubeadm, RKE2, K3s or RKE1.
const JOINED: [&str; 4] = [
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/etc/kubernetes/ssl/kubecfg-kube-node.yaml",
];

/// How a machine is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Its cluster.
    pub cluster: ClusterName,
    /// The machine.
    pub node: NodeName,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What the storage steps go by.
    pub(super) storage: Option<StorageFacts>,
    /// What the join step goes by.
    pub(super) join: Option<JoinFacts>,
}

/// One step: looked at first, done where it is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What holds after it.
    pub title: String,
    /// Why it is needed.
    pub why: &'static str,
    /// How it is seen that it holds.
    pub check: &'static str,
    /// What is done where it does not.
    pub action: String,
    /// The line of the state that asks for it.
    pub asked: Option<Origin>,
    pub(super) kind: Kind,
    pub(super) arguments: Vec<String>,
}

/// What the storage steps go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageFacts {
    pub(super) root: String,
    pub(super) local: bool,
    pub(super) types: Vec<String>,
    pub(super) sources: Vec<String>,
}

/// What the join step goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JoinFacts {
    pub(super) from: &'static str,
    pub(super) source: String,
    pub(super) joined: Vec<String>,
}

/// The functions of the script that look at a step and do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Packages,
    DockerConfig,
    DockerRunning,
    ContainerdConfig,
    ContainerdRunning,
    Firewall,
    Swap,
    Fstab,
    Mount,
    Verified,
    Root,
    Link,
    Directory,
    /// With the runtime that keeps them.
    Images(Engine),
    Join,
}

/// How a machine of a cluster is set up.
pub fn setup(name: &ClusterName, cluster: &DesiredCluster, node: &DesiredNode, lists: &Lists) -> Setup {
    let nothing = Bootstrap::default();
    let bootstrap = cluster.spec.bootstrap.as_ref().unwrap_or(&nothing);
    let mut maker = Maker { places: &cluster.places, steps: Vec::new() };
    maker.packages("packages", &bootstrap.packages, "bootstrap.packages", "What the state lists for every machine.");
    if let Some(runtime) = &bootstrap.runtime {
        maker.runtime(runtime);
    }
    maker.switches(bootstrap);
    let exception = node.document.spec.storage.as_ref();
    let storage = cluster.spec.storage.as_ref().map(|storage| {
        let local = exception.map_or(storage.local, |exception| exception.local);
        let link = exception.and_then(|exception| exception.link.as_ref()).or(storage.link.as_ref());
        // The link is asked for by the machine's own document.
        let own = exception.filter(|exception| exception.link.is_some()).map(|_| &node.origin);
        if !local && let Some(mount) = &bootstrap.mount {
            maker.mount(storage, mount);
        }
        if !local {
            maker.verified(link.unwrap_or(&storage.root));
        }
        match link {
            Some(link) => maker.link(&storage.root, link, own),
            // A mount point is a directory by itself.
            None if !local && bootstrap.mount.as_ref().is_some_and(|mount| is_at(mount, &storage.root)) => {}
            None => maker.root(&storage.root),
        }
        maker.directories(storage, node);
        let names = |names: &[String]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let types = match storage.file_systems.as_slice() {
            [] => DISTRIBUTED.map(str::to_owned).to_vec(),
            named => names(named),
        };
        StorageFacts { root: storage.root.to_string(), local, types, sources: names(&storage.sources) }
    });
    let engine = bootstrap.runtime.as_ref().map_or(Engine::Docker, |runtime| runtime.engine);
    for (index, set) in bootstrap.images.iter().enumerate() {
        maker.images(index, set, lists, engine);
    }
    let join = bootstrap.join.as_ref().map(|join| {
        maker.join(join, &node.name);
        facts_of(join)
    });
    Setup { cluster: name.clone(), node: node.name.clone(), steps: maker.steps, storage, join }
}

fn is_at(mount: &Mount, root: &HostPath) -> bool {
    mount.mount_point.as_ref().is_none_or(|point| point == root)
}

fn facts_of(join: &Join) -> JoinFacts {
    let token = join.token.clone().unwrap_or_default();
    let (from, source) = match (token.file, token.command) {
        (Some(file), _) => ("file", file.to_string()),
        (None, Some(command)) => ("command", command.to_string()),
        (None, None) => ("none", String::new()),
    };
    let joined = JOINED.into_iter().map(str::to_owned).chain(join.joined.iter().map(ToString::to_string));
    JoinFacts { from, source, joined: joined.collect() }
}

struct Maker<'p> {
    places: &'p Places,
    steps: Vec<Step>,
}

impl Maker<'_> {
    fn step(
        &mut self,
        title: impl AsRef<str>,
        words: [&'static str; 2],
        action: impl AsRef<str>,
        at: &str,
        (kind, arguments): (Kind, Vec<String>),
    ) {
        let [why, check] = words;
        let (title, action) = (shown(title.as_ref()), shown(action.as_ref()));
        self.steps.push(Step { title, why, check, action, asked: self.places.of(at).cloned(), kind, arguments });
    }

    fn packages(&mut self, what: &str, packages: &[PackageName], at: &str, why: &'static str) {
        if packages.is_empty() {
            return;
        }
        let names: Vec<String> = packages.iter().map(ToString::to_string).collect();
        self.step(
            format!("{what}: {}", names.join(", ")),
            [why, "dpkg or rpm says that each is installed, in the version that is asked for"],
            "installs what is missing with apt-get, dnf, yum or zypper, in up to three tries",
            at,
            (Kind::Packages, names),
        );
    }

    fn runtime(&mut self, runtime: &Runtime) {
        let name = runtime.engine.name();
        self.packages(
            &format!("packages of {name}"),
            &runtime.packages,
            "bootstrap.runtime.packages",
            "The container runtime that the kubelet drives.",
        );
        let root = runtime.data_root.as_ref().map(ToString::to_string);
        let mirrors: Vec<String> = runtime.registry_mirrors.iter().map(ToString::to_string).collect();
        let (config, running, file, arguments) = match runtime.engine {
            Engine::Docker => {
                let running = root.clone().unwrap_or_default();
                let running = std::iter::once(running).chain(mirrors.iter().cloned()).collect();
                let config = vec![daemon_json(root.as_deref(), &mirrors)];
                (
                    (Kind::DockerConfig, config),
                    (Kind::DockerRunning, running),
                    "/etc/docker/daemon.json",
                    "other settings in it stay",
                )
            }
            Engine::Containerd => {
                // A string of JSON is one of TOML.
                let toml = root.as_ref().map(|root| serde_json::Value::from(root.as_str()).to_string());
                let config = vec![toml.unwrap_or_default(), hosts_toml(&mirrors)];
                (
                    (Kind::ContainerdConfig, config),
                    (Kind::ContainerdRunning, Vec::new()),
                    "/etc/containerd/config.toml",
                    "other settings in it stay",
                )
            }
        };
        if root.is_some() || !mirrors.is_empty() {
            let said: Vec<String> = root
                .iter()
                .map(|root| format!("data in {root}"))
                .chain(mirrors.iter().map(|mirror| format!("mirror {mirror}")))
                .collect();
            self.step(
                format!("{name} is configured: {}", said.join(", ")),
                [
                    "Images fill the disk that they are kept on, and are pulled faster from near by.",
                    "its configuration says so",
                ],
                format!("writes {file}; {arguments}"),
                "bootstrap.runtime",
                config,
            );
        }
        self.step(
            format!("{name} runs"),
            ["Nothing of Kubernetes starts without it.", "its service is enabled, and runs with this configuration"],
            "enables and starts it; where it must be restarted while containers run, it stops and says so",
            "bootstrap.runtime.type",
            running,
        );
    }

    fn switches(&mut self, bootstrap: &Bootstrap) {
        if bootstrap.disable_firewall {
            self.step(
                "the firewall is off",
                [
                    "Overlay networks and NodePorts are cut off by a firewall that does not know them.",
                    "neither firewalld nor ufw is active or enabled",
                ],
                "disables and stops firewalld and ufw",
                "bootstrap.disableFirewall",
                (Kind::Firewall, Vec::new()),
            );
        }
        if bootstrap.disable_swap {
            self.step(
                "swap is off",
                ["The kubelet does not start with swap, unless it is told to.", "/proc/swaps and /etc/fstab have none"],
                "turns it off, and makes its lines of /etc/fstab comments",
                "bootstrap.disableSwap",
                (Kind::Swap, Vec::new()),
            );
        }
    }

    fn mount(&mut self, storage: &Storage, mount: &Mount) {
        self.packages(
            "packages of the file system",
            &mount.packages,
            "bootstrap.mount.packages",
            "The client that mounts it.",
        );
        let point = mount.mount_point.as_ref().unwrap_or(&storage.root).to_string();
        let line = [
            fstab(mount.source.as_str()),
            fstab(&point),
            mount.file_system.to_string(),
            fstab(&mount.options()),
            "0 0".to_owned(),
        ]
        .join(" ");
        let at = "bootstrap.mount";
        self.step(
            format!("/etc/fstab mounts {} at {point}", mount.source),
            ["The file system comes back after a restart.", "the line is there, and no other for this path"],
            "writes the line, marked as drover's; a line of somebody else for the same path stops it",
            at,
            (Kind::Fstab, vec![line, fstab(&point)]),
        );
        self.step(
            format!("{point} is mounted"),
            [
                "The storage of the platform is shared by all machines.",
                "the kernel's list of mounts has it, with an allowed type and source",
            ],
            "mounts it, in up to three tries; a directory with data is never hidden by a mount",
            at,
            (Kind::Mount, vec![point]),
        );
    }

    fn verified(&mut self, path: &HostPath) {
        self.step(
            format!("{path} lies on the distributed file system"),
            [
                "Whatever is created without the mount lands on the local disk, where no other machine sees it.",
                "the mount around it has a type and a source that `storage` allows",
            ],
            "nothing: it stops here until the file system is mounted",
            "storage.root",
            (Kind::Verified, vec![path.to_string()]),
        );
    }

    fn root(&mut self, root: &HostPath) {
        self.step(
            format!("{root} is there"),
            ["Pods look for their storage there.", "it is a directory in the storage, and no link"],
            "creates it",
            "storage.root",
            (Kind::Root, vec![root.to_string()]),
        );
    }

    fn link(&mut self, root: &HostPath, link: &HostPath, own: Option<&Origin>) {
        self.step(
            format!("{root} leads to {link}"),
            ["Pods look for their storage at one path on every machine.", "it is a symbolic link to that directory"],
            "creates the directory and the link; only an empty directory gives way to it, a link to elsewhere stays and stops the script",
            "storage.link",
            (Kind::Link, vec![root.to_string(), link.to_string()]),
        );
        if let (Some(step), Some(own)) = (self.steps.last_mut(), own) {
            step.asked = Some(own.clone());
        }
    }

    fn directories(&mut self, storage: &Storage, node: &DesiredNode) {
        let platform = &node.document.spec.platform;
        let needed = |directory: &Directory| {
            directory.roles.is_empty() || directory.roles.iter().any(|role| platform.contains(role))
        };
        for (index, directory) in storage.directories.iter().enumerate().filter(|(_, directory)| needed(directory)) {
            let [mode, owner] =
                [directory.mode.as_ref().map(ToString::to_string), directory.owner.as_ref().map(ToString::to_string)]
                    .map(Option::unwrap_or_default);
            let said = [("mode", &mode), ("owner", &owner)].into_iter().filter(|(_, value)| !value.is_empty());
            let said: String = said.map(|(name, value)| format!(", {name} {value}")).collect();
            self.step(
                format!("directory {}/{}{said}", storage.root, directory.path),
                [
                    "A component of the platform keeps its data there, and does not create it.",
                    "it is a directory inside of the storage, with this mode and owner where they are named",
                ],
                "creates what is missing of it, and sets mode and owner of the last one",
                &format!("storage.directories[{index}]"),
                (Kind::Directory, vec![directory.path.to_string(), mode, owner]),
            );
        }
    }

    fn images(&mut self, index: usize, set: &ImageSet, lists: &Lists, engine: Engine) {
        let images = images_of(set, lists);
        if images.is_empty() {
            return;
        }
        let title = match images.as_slice() {
            [image] => format!("the image {image}, from {}", set.mirror),
            images => format!("{} images, from {}", images.len(), set.mirror),
        };
        self.step(
            title,
            ["The machine is ready as soon as it has joined, and the registries of others are not needed.", "the runtime has each by its own name"],
            "pulls what is missing by its name in the mirror, in up to four tries each, and gives it its own name; one that cannot be had is told at the end, and the others go on",
            &format!("bootstrap.images[{index}]"),
            (Kind::Images(engine), images.into_iter().flat_map(|image| names(set, image, engine)).collect()),
        );
    }

    fn join(&mut self, join: &Join, node: &NodeName) {
        let command = join.command.as_str().replace(NODE, node.as_str());
        let patience = join.wait.as_ref().map_or(WAIT, |wait| wait.duration().as_secs().max(1));
        self.step(
            "the machine has joined",
            ["From here on Kubernetes runs it, and drover sets the labels of its Node document.", "a kubelet runs, or a file is there that joining leaves behind"],
            format!("fetches the token, runs the join command, and waits up to {patience} s for the kubelet; the token is shown and logged nowhere"),
            "bootstrap.join",
            (Kind::Join, vec![command, patience.to_string()]),
        );
    }
}

fn daemon_json(root: Option<&str>, mirrors: &[String]) -> String {
    let mut settings = serde_json::Map::new();
    if let Some(root) = root {
        settings.insert("data-root".to_owned(), root.into());
    }
    if !mirrors.is_empty() {
        settings.insert("registry-mirrors".to_owned(), mirrors.into());
    }
    format!("{:#}", serde_json::Value::Object(settings))
}

/// What containerd goes by for Docker Hub: the mirrors first. Their addresses hold nothing that TOML would take apart.
fn hosts_toml(mirrors: &[String]) -> String {
    if mirrors.is_empty() {
        return String::new();
    }
    let hosts = mirrors.iter().map(|mirror| format!("\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]"));
    format!("server = \"https://registry-1.docker.io\"\n{}", hosts.collect::<Vec<_>>().join("\n"))
}
