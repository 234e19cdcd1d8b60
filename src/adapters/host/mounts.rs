//! Lists of mounts. Reading one asks the kernel alone, so it never blocks, whatever the file systems do.

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::Failure;

/// Where the mounts are listed that a root directory is part of: those of the process whose root it is, else one's own.
pub fn mountinfo_of(host_root: &Path) -> PathBuf {
    let process =
        host_root.parent().filter(|parent| host_root.ends_with("root") && parent.parent() == Some(Path::new("/proc")));
    process.unwrap_or(Path::new("/proc/self")).join("mountinfo")
}

/// A list of mounts, as bytes.
pub fn mounts(mountinfo: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(mountinfo).map_err(|error| {
        Failure::caused(format!("{} cannot be read", mountinfo.display()), &error)
            .hint("the agent must run in the process namespace of its machine (hostPID: true)")
    })
}

/// Tells one start of the machine from another; empty where the kernel does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Wakes whoever waits when a list of mounts changes.
#[derive(Debug)]
pub struct MountWatch(AsyncFd<File>);

impl MountWatch {
    /// Watches a list from now on.
    pub fn open(mountinfo: &Path) -> Result<Self, Failure> {
        #[expect(deprecated, reason = "its successor is unsafe, for files that can be swapped; this one is owned")]
        let watched = File::open(mountinfo).and_then(|file| AsyncFd::with_interest(file, Interest::PRIORITY));
        watched.map(Self).map_err(|error| Failure::caused(format!("{} cannot be watched", mountinfo.display()), &error))
    }

    /// Waits for a change. It can be stopped at its await, and no change is lost.
    pub async fn changed(&self) {
        match self.0.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_mounts() {
        for (root, list) in [
            ("/proc/1/root", "/proc/1/mountinfo"),
            ("/", "/proc/self/mountinfo"),
            ("/srv/root", "/proc/self/mountinfo"),
            ("/proc/1", "/proc/self/mountinfo"),
        ] {
            assert_eq!(mountinfo_of(Path::new(root)), Path::new(list), "{root}");
        }
    }
}
