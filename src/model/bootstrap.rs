//! What a new machine needs before it joins: the `bootstrap` section of a Cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::HostPath;
use super::secret;
use super::text::{Invalid, validated_string};
use super::time::Interval;

/// What a new machine needs before it joins. What is not asked for is not done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bootstrap {
    /// Packages of the distribution.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageName>,
    /// The container runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// The firewall (firewalld, ufw) is turned off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_firewall: bool,
    /// Swap is turned off, and does not come back from /etc/fstab.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_swap: bool,
    /// How the file system of `spec.storage` is mounted; without it, it must be mounted already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
    /// Images that are pulled from a mirror and given their own names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageSet>,
    /// How the machine joins the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
}

/// The container runtime of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    /// Which one.
    #[serde(rename = "type")]
    pub engine: Engine,
    /// The packages that it comes in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageName>,
    /// Where it keeps images and containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_root: Option<HostPath>,
    /// Mirrors of Docker Hub, by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_mirrors: Vec<MirrorUrl>,
}

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker.
    Docker,
    /// containerd as a service of its own.
    Containerd,
}

impl Engine {
    /// Its name, as the kubelet reports it and as its service is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
        }
    }
}

/// A line of /etc/fstab for the file system of `spec.storage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// What is mounted, such as `10.0.0.5:/k8s`.
    pub source: MountSource,
    /// The file-system type as `mount` takes it, such as `nfs4` or `glusterfs`.
    #[serde(rename = "type")]
    pub file_system: FileSystemType,
    /// Options of the mount (default: `defaults`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<MountOption>,
    /// Where (default: the root of the storage, where that is no link).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<HostPath>,
    /// The packages of the file system's client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageName>,
}

/// Images that are pulled from a mirror and given their own names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSet {
    /// What the names in the mirror begin with, such as `registry.example.org/mirror/`.
    pub mirror: RegistryPrefix,
    /// How images are called in the mirror.
    pub naming: Naming,
    /// Of `platform`: the registry whose prefix is taken off, such as `registry.example.org/platform/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryPrefix>,
    /// The images, by their own names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageName>,
    /// Files with one image a line, relative to the root of the state; `#` begins a comment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<StateFile>,
}

/// How images are called in a mirror: without a part, and with `-` for each `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// Without `rancher/`: `rancher/pause:3.7` is `pause:3.7`.
    Rancher,
    /// Without the prefix of the platform's registry.
    Platform,
}

/// How a machine joins its cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Join {
    /// The command, as Rancher or kubeadm shows it, run by bash; `{token}` stands for the token and `{node}` for the name of
    /// the machine.
    pub command: ShellCommand,
    /// Where the machine gets the token when it runs the script: it never stands in the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSource>,
    /// Files that exist on a machine that has joined, beside those that RKE, RKE2, K3s and kubeadm write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<HostPath>,
    /// How long the script waits for the kubelet after the command (default 10m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Interval>,
}

/// Where a machine gets the token: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenSource {
    /// A command that prints it, run by bash on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<ShellCommand>,
    /// A file on the machine that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<HostPath>,
}

/// What stands for the token in a join command.
pub const TOKEN: &str = "{token}";
/// What stands for the machine's name in a join command.
pub const NODE: &str = "{node}";

validated_string! {
    /// The name of a package, with `=version` where that matters.
    PackageName, "a package", check = check_package, pattern = r"^[A-Za-z0-9][A-Za-z0-9.+_~:-]*(=[A-Za-z0-9.+_~:-]+)?$", max = 200,
    about = "A package of the distribution, such as nfs-common, or with its version: docker-ce=5:24.0.9-1"
}

validated_string! {
    /// The address of a registry mirror.
    MirrorUrl, "the address of a registry mirror", check = check_mirror_url, pattern = r"^https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._/-]*)?$", max = 500,
    about = "The address of a registry mirror, without user and password: https://mirror.example.org"
}

validated_string! {
    /// What `mount` takes as the source of a file system.
    MountSource, "the source of a mount", check = check_source, pattern = r"^[^\s#\x00-\x1f][^\x00-\x1f]*$", max = 2000,
    about = "What is mounted, such as 10.0.0.5:/k8s, without a password"
}

validated_string! {
    /// A file-system type as `mount` takes it.
    FileSystemType, "a file-system type", check = check_type, pattern = r"^[a-z0-9][a-z0-9._-]*$", max = 60,
    about = "A file-system type as mount takes it, such as nfs4, ceph or glusterfs"
}

validated_string! {
    /// A mount option.
    MountOption, "a mount option", check = check_option, pattern = r"^[^\s,#\x00-\x1f]+$", max = 1000,
    about = "One mount option such as noatime or secretfile=/etc/ceph/secret; never a secret itself"
}

validated_string! {
    /// What the names of images in a registry begin with.
    RegistryPrefix, "a registry prefix", check = check_prefix, pattern = r"^[a-z0-9][a-z0-9.:_-]*(/[a-z0-9._-]+)*/$", max = 255,
    about = "A registry and perhaps a folder in it, ending with a slash: registry.example.org/mirror/"
}

validated_string! {
    /// An image by its name and tag.
    ImageName, "an image", check = check_image, pattern = r"^[a-z0-9][a-zA-Z0-9.:_/-]*$", max = 384,
    about = "An image by name and tag, such as rancher/pause:3.7"
}

validated_string! {
    /// A file of the state.
    StateFile, "a file of the state", check = check_file, pattern = r"^[^/\x00-\x1f][^\x00-\x1f]*$", max = 4096,
    about = "A file relative to the root of the state, such as images/rancher.txt"
}

validated_string! {
    /// A command that bash runs.
    ShellCommand, "a command", check = check_command, pattern = r"\S", max = 8192,
    about = "A command that bash runs; it holds no token and no password"
}

fn check_package(text: &str) -> Result<(), Invalid> {
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+_~:-".contains(c))
    };
    let (name, version) = text.split_once('=').unwrap_or((text, "1"));
    if word(name) && word(version) && text.len() <= 200 {
        return Ok(());
    }
    Err(Invalid::new(format!("{text:?} is not a package"), "write its name, or name=version"))
}

fn check_mirror_url(text: &str) -> Result<(), Invalid> {
    if secret::literal(text).is_some() {
        return Err(Invalid::new(
            "the address of the registry mirror holds a password",
            "a mirror needs none, and git keeps it",
        ));
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = |c: char| c.is_ascii_alphanumeric() || ".[]:_/-".contains(c);
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(good) && text.len() <= 500 => {
            Ok(())
        }
        _ => Err(Invalid::new(
            format!("{text:?} is not the address of a registry mirror"),
            "write https://mirror.example.org",
        )),
    }
}

fn check_source(text: &str) -> Result<(), Invalid> {
    if text.is_empty()
        || text.len() > 2000
        || text.starts_with('#')
        || text.trim() != text
        || text.contains(char::is_control)
    {
        return Err(Invalid::new(format!("{text:?} is not the source of a mount"), "write for example 10.0.0.5:/k8s"));
    }
    Ok(())
}

fn check_type(text: &str) -> Result<(), Invalid> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(good) && text.len() <= 60 {
        return Ok(());
    }
    Err(Invalid::new(format!("{text:?} is not a file-system type"), "write it as mount takes it, such as nfs4"))
}

fn check_option(text: &str) -> Result<(), Invalid> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == ',' || c == '#';
    if text.is_empty() || text.len() > 1000 || text.contains(bad) {
        return Err(Invalid::new(format!("{text:?} is not one mount option"), "write each as an element of its own"));
    }
    Ok(())
}

fn check_prefix(text: &str) -> Result<(), Invalid> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:_-".contains(c);
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(good);
    match text.strip_suffix('/') {
        Some(path) if path.split('/').all(part) && text.len() <= 255 => Ok(()),
        Some(_) => {
            Err(Invalid::new(format!("{text:?} is not a registry prefix"), "write registry.example.org/folder/"))
        }
        None => Err(Invalid::new(
            format!("{text:?} does not end with '/'"),
            "add it: names of images are put right behind it",
        )),
    }
}

fn check_image(text: &str) -> Result<(), Invalid> {
    if text.contains('@') {
        return Err(Invalid::new(
            format!("{text:?} has a digest, which an image that is renamed cannot keep"),
            "write its tag",
        ));
    }
    let name = repository(text);
    let tag = text[name.len()..].strip_prefix(':');
    let host = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:_-".contains(c))
    };
    let part = |part: &str| host(part) && !part.contains(':') && part.ends_with(|c: char| c.is_ascii_alphanumeric());
    let mut parts = name.split('/');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let named = if rest.is_empty() { part(first) } else { host(first) && rest.into_iter().all(part) };
    let tagged = tag.is_none_or(|tag| {
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    });
    if named && tagged && text.len() <= 384 {
        return Ok(());
    }
    Err(Invalid::new(format!("{text:?} is not an image"), "write its name and tag, such as rancher/pause:3.7"))
}

/// The name of an image without its tag.
fn repository(image: &str) -> &str {
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    image[last..].find(':').map_or(image, |colon| &image[..last + colon])
}

fn check_file(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > 4096 || text.starts_with('/') || text.contains(char::is_control) {
        return Err(Invalid::new(
            format!("{text:?} is not a file of the state"),
            "write its path from the root of the state",
        ));
    }
    Ok(())
}

fn check_command(text: &str) -> Result<(), Invalid> {
    if text.trim().is_empty() || text.len() > 8192 {
        return Err(Invalid::new("the command is empty or too long", "give it between 1 and 8192 characters"));
    }
    match text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        Some(bad) => Err(Invalid::new(format!("a command cannot hold the character {bad:?}"), "remove it")),
        None => Ok(()),
    }
}

impl ImageName {
    /// The name with its registry and tag, as containerd keeps it: `pause` is `docker.io/library/pause:latest`.
    pub fn canonical(&self) -> String {
        canonical(self.as_str())
    }
}

/// The name of an image with its registry and tag.
pub fn canonical(image: &str) -> String {
    let tag = if repository(image).len() == image.len() && !image.contains('@') { ":latest" } else { "" };
    let has_registry =
        image.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    let folder = match (has_registry, image.contains('/')) {
        (true, _) => "",
        (false, true) => "docker.io/",
        (false, false) => "docker.io/library/",
    };
    format!("{folder}{image}{tag}")
}

impl ImageSet {
    /// What an image is called in the mirror.
    pub fn in_mirror(&self, image: &ImageName) -> String {
        let short = match (self.naming, &self.registry) {
            // As the scripts do that filled these mirrors: wherever it stands.
            (Naming::Rancher, _) => image.as_str().replace("rancher/", ""),
            (Naming::Platform, Some(registry)) => image.as_str().replace(registry.as_str(), ""),
            (Naming::Platform, None) => image.to_string(),
        };
        format!("{}{}", self.mirror, short.replace('/', "-"))
    }
}

impl Mount {
    /// The options as /etc/fstab has them.
    pub fn options(&self) -> String {
        let options: Vec<&str> = self.options.iter().map(MountOption::as_str).collect();
        if options.is_empty() { "defaults".to_owned() } else { options.join(",") }
    }

    /// The types by which the mounted file system may show itself.
    pub fn shown_as(&self) -> Vec<String> {
        let name = self.file_system.as_str();
        let mut names = vec![name.to_owned(), format!("fuse.{name}")];
        match name {
            "nfs" => names.push("nfs4".to_owned()),
            "fuse.ceph" => names.push("fuse.ceph-fuse".to_owned()),
            "juicefs" | "fuse.juicefs" => names.push("fuse.juicefs".to_owned()),
            _ => {}
        }
        names
    }

    /// Whether the mounted file system shows itself with this source: some clients of FUSE give it a name of their own.
    pub fn keeps_source(&self) -> bool {
        matches!(self.file_system.as_str(), "nfs" | "nfs4" | "glusterfs" | "ceph" | "lustre" | "tmpfs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(naming: Naming, registry: Option<&str>) -> ImageSet {
        let prefix = |text: &str| text.parse().expect("a prefix");
        let (images, files) = (Vec::new(), Vec::new());
        ImageSet { mirror: prefix("hub.example.org/m/"), naming, registry: registry.map(prefix), images, files }
    }

    #[test]
    fn both_renaming_rules() {
        let name = |set: &ImageSet, image: &str| set.in_mirror(&image.parse().expect("an image"));
        let rancher = set(Naming::Rancher, None);
        for (image, mirrored) in [
            ("rancher/hyperkube:v1.25.16-rancher2", "hyperkube:v1.25.16-rancher2"),
            ("rancher/mirrored-coreos-etcd:v3.5.9", "mirrored-coreos-etcd:v3.5.9"),
            ("quay.io/rancher/agent:v1", "quay.io-agent:v1"),
            ("noiro/cnideploy:5.2", "noiro-cnideploy:5.2"),
            ("busybox", "busybox"),
        ] {
            assert_eq!(name(&rancher, image), format!("hub.example.org/m/{mirrored}"));
        }
        let platform = set(Naming::Platform, Some("ccr.ccs.tencentyun.com/cube-studio/"));
        for (image, mirrored) in [
            ("ccr.ccs.tencentyun.com/cube-studio/notebook:jupyter", "notebook:jupyter"),
            ("kubeflow/training-operator:v1", "kubeflow-training-operator:v1"),
            ("rancher/pause:3.7", "rancher-pause:3.7"),
        ] {
            assert_eq!(name(&platform, image), format!("hub.example.org/m/{mirrored}"));
        }
    }

    #[test]
    fn images_and_their_canonical_names() {
        for (image, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("rancher/pause:3.7", "docker.io/rancher/pause:3.7"),
            ("registry.example.org:5000/a/b", "registry.example.org:5000/a/b:latest"),
            ("localhost/a:1", "localhost/a:1"),
        ] {
            assert_eq!(image.parse::<ImageName>().expect(image).canonical(), whole);
        }
        for bad in ["", "-x", "a b", "a:", "A/b", "a/b:-t", "a@sha256:00", "a//b", "/a", "a/", "$(x)", "a;b", "a:b:c"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_that_would_be_options_or_more_than_a_word_are_refused() {
        for bad in ["", "-y", "a b", "a;b", "$(a)", "a=", "=1", "a=-1"] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad}");
        }
        for good in ["nfs-common", "docker-ce=5:24.0.9-1~debian.12~bookworm", "libstdc++6:amd64"] {
            assert!(good.parse::<PackageName>().is_ok(), "{good}");
        }
        for bad in ["", "rw,hard", "a b", "a#b", "a\nb"] {
            assert!(bad.parse::<MountOption>().is_err(), "{bad}");
        }
        for bad in ["", "hub.example.org", "https://hub/", "hub//", "/"] {
            assert!(bad.parse::<RegistryPrefix>().is_err(), "{bad}");
        }
        for bad in ["mirror.example.org", "https://", "https://user:pass@m.example.org", "https://m/'"] {
            assert!(bad.parse::<MirrorUrl>().is_err(), "{bad}");
        }
    }
}
