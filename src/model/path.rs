//! Kubelet binds and storage paths: their syntax, and what makes one dangerous.

use super::text::{Invalid, validated_string};

validated_string! {
    /// An absolute path on a machine, without `.`, `..` or a trailing slash.
    HostPath, "an absolute path", check = check_host_path, pattern = r"^/[^:\x00]*$", max = 4096,
    about = "An absolute path such as /data/k8s, without '.' or '..' parts"
}

validated_string! {
    /// A path below the storage root, without `.`, `..`, or a slash at either end.
    StoragePath, "a path below the storage root", check = check_storage_path, pattern = r"^[^/:\x00][^:\x00]*$", max = 4096,
    about = "A path below the storage root such as kubeflow/minio, without '.' or '..' parts"
}

validated_string! {
    /// Permission bits of a directory, in octal.
    DirectoryMode, "a directory mode, as \"0755\"", check = check_mode, pattern = r"^[0-7]{3,4}$", max = 4,
    about = "Permission bits in octal, quoted: \"0755\""
}

validated_string! {
    /// The numbers of a user and a group, `user:group`.
    Owner, "an owner, as \"1000:1000\"", check = check_owner, pattern = r"^[0-9]{1,10}:[0-9]{1,10}$", max = 21,
    about = "The numbers of a user and a group, quoted: \"1000:1000\""
}

validated_string! {
    /// A kubelet bind mount, `source:destination[:option,…]`.
    Bind, "a bind, as /data:/data:rslave", check = check_bind, pattern = r"^/[^:]*:/[^:]*(:[a-zA-Z,]+)?$", max = 8300,
    about = "A kubelet bind mount: /source:/destination[:options], options among ro, rw, z, Z, [r]shared, [r]slave, [r]private"
}

/// Destinations that the kubelet container of RKE1 already has; a second bind there is refused by the container engine.
const DEFAULT_DESTINATIONS: [&str; 19] = [
    "/var/lib/cri-dockerd",
    "/etc/kubernetes",
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/calico",
    "/etc/resolv.conf",
    "/sys",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/run",
    "/run",
    "/etc/ceph",
    "/host/dev",
    "/var/log/containers",
    "/var/log/pods",
    "/host/usr",
    "/host/etc",
];

/// Trees whose submounts the kubelet container's entry point unmounts.
const UNMOUNTED_TREES: [&str; 3] = ["/run", "/var/run", "/var/lib/docker"];

const BIND_OPTIONS: [&str; 10] = ["ro", "rw", "z", "Z", "shared", "rshared", "slave", "rslave", "private", "rprivate"];

fn check_parts(text: &str, relative: &str) -> Result<(), Invalid> {
    if let Some(bad) = text.chars().find(|c| c.is_control() || *c == ':') {
        let message = format!("{text:?} is not a path that drover accepts: {bad:?} is not allowed");
        return Err(Invalid::new(message, "use a path without colons and control characters"));
    }
    match relative.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some("") => Err(Invalid::new(format!("{text:?} has an empty part"), "remove the extra '/'")),
        Some(part) => Err(Invalid::new(format!("{text:?} has a {part:?} part"), "write the path that it leads to")),
        None => Ok(()),
    }
}

fn check_host_path(text: &str) -> Result<(), Invalid> {
    match text.strip_prefix('/') {
        Some("") => Err(Invalid::new(
            format!("{text:?} is the whole machine"),
            "name the folder where the file system is mounted",
        )),
        Some(rest) => check_parts(text, rest),
        None => Err(Invalid::new(format!("{text:?} is not an absolute path"), "begin it with '/'")),
    }
}

fn check_storage_path(text: &str) -> Result<(), Invalid> {
    if text.starts_with('/') {
        return Err(Invalid::new(format!("{text:?} is not relative to the storage root"), "remove the leading '/'"));
    }
    check_parts(text, text)
}

fn check_mode(text: &str) -> Result<(), Invalid> {
    if (3..=4).contains(&text.len()) && text.chars().all(|c| ('0'..='7').contains(&c)) {
        return Ok(());
    }
    let help = "write three or four octal digits in quotes, as \"0755\"";
    Err(Invalid::new(format!("{text:?} is not a directory mode"), help))
}

fn check_owner(text: &str) -> Result<(), Invalid> {
    match parse_owner(text) {
        Some(_) => Ok(()),
        None => Err(Invalid::new(
            format!("{text:?} is not an owner"),
            "write the numbers of a user and a group in quotes, as \"1000:1000\"",
        )),
    }
}

fn parse_owner(text: &str) -> Option<(u32, u32)> {
    // The last number means "leave it" to the kernel.
    let number = |text: &str| {
        text.parse().ok().filter(|number| *number != u32::MAX && text.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (user, group) = text.split_once(':')?;
    Some((number(user)?, number(group)?))
}

fn check_bind(text: &str) -> Result<(), Invalid> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => {
            let help = "write /source:/destination or /source:/destination:options";
            return Err(Invalid::new(format!("{text:?} is not a bind"), help));
        }
    };
    for path in [source, destination] {
        check_host_path(path).map_err(|invalid| invalid.within(format!("{text:?} is not a bind:")))?;
    }
    if parts.len() == 3 {
        check_bind_options(text, options)?;
    }
    if DEFAULT_DESTINATIONS.contains(&destination) {
        let message = format!("{text:?} repeats {destination}, which the kubelet container already has");
        return Err(Invalid::new(message, "remove it, or choose another destination"));
    }
    let below = |tree: &&str| destination.strip_prefix(*tree).is_some_and(|rest| rest.starts_with('/'));
    if let Some(tree) = UNMOUNTED_TREES.iter().find(|tree| below(tree)) {
        let message = format!("{text:?} is unsafe: the kubelet unmounts what lies below {tree} when it starts");
        return Err(Invalid::new(message, "choose another destination"));
    }
    Ok(())
}

fn check_bind_options(text: &str, options: &str) -> Result<(), Invalid> {
    let options: Vec<&str> = options.split(',').collect();
    if let Some(bad) = options.iter().find(|option| !BIND_OPTIONS.contains(option)) {
        let help = format!("use {}", BIND_OPTIONS.join(", "));
        return Err(Invalid::new(format!("{text:?} has the unknown option {bad:?}"), help));
    }
    let clash = |choices: &[&str]| options.iter().filter(|option| choices.contains(option)).count() > 1;
    if clash(&BIND_OPTIONS[..2]) || clash(&BIND_OPTIONS[2..4]) || clash(&BIND_OPTIONS[4..]) {
        let message = format!("{text:?} has options that contradict each other");
        return Err(Invalid::new(message, "keep one of ro and rw, one of z and Z, and one way of propagation"));
    }
    Ok(())
}

impl DirectoryMode {
    /// The permission bits.
    pub fn bits(&self) -> u32 {
        u32::from_str_radix(self.as_str(), 8).unwrap_or_default()
    }
}

impl Owner {
    /// The numbers of the user and of the group.
    pub fn ids(&self) -> (u32, u32) {
        parse_owner(self.as_str()).unwrap_or_default()
    }
}

impl Bind {
    /// The path on the machine.
    pub fn source(&self) -> &str {
        self.as_str().split(':').next().unwrap_or_default()
    }

    /// Its options, such as `rslave`.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.as_str().splitn(3, ':').nth(2).into_iter().flat_map(|options| options.split(','))
    }

    /// The path inside the kubelet container.
    pub fn destination(&self) -> &str {
        self.as_str().split(':').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        for good in ["/data/k8s:/data/k8s", "/data:/data:rslave", "/a:/b:ro,rshared,z"] {
            assert!(good.parse::<Bind>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/data",
            "data:/data",
            "/data:data",
            "/a:/b:",
            "/a:/b:rw,ro",
            "/a:/b:fast",
            "/a:/b:ro:z",
            "/a:/../b",
            "/a:/",
            "/x:/var/lib/kubelet",
            "/x:/run/x",
            "/x:/var/lib/docker/x",
            "/a//b:/c",
            "/a:/b/",
        ] {
            assert!(bad.parse::<Bind>().is_err(), "{bad}");
        }
    }

    #[test]
    fn storage_paths_and_modes() {
        assert!("kubeflow/minio".parse::<StoragePath>().is_ok());
        for bad in ["", "/kubeflow", "a/../b", "a//b", "a/", ".", "a\u{0}b"] {
            assert!(bad.parse::<StoragePath>().is_err(), "{bad:?}");
        }
        assert!("0777".parse::<DirectoryMode>().is_ok());
        for bad in ["", "7", "0999", "rwx", "07777"] {
            assert!(bad.parse::<DirectoryMode>().is_err(), "{bad}");
        }
        assert_eq!("0750".parse::<DirectoryMode>().map(|mode| mode.bits()), Ok(0o750));
        assert_eq!("1000:0".parse::<Owner>().map(|owner| owner.ids()), Ok((1000, 0)));
        for bad in ["", "1000", "root:root", "-1:0", "+1:0", "4294967295:0", "1:2:3"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
    }
}
