//! The kubelet of the machine, and what it sees.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use super::look::{Found, found_mount, words};
use super::mounts::mounts;
use super::tree::{Tree, path_of};
use crate::error::Failure;
use crate::model::storage::KubeletView;
use crate::storage::KubeletFact;
use crate::storage::view::{Seen, compare};

/// What processes are called that are a kubelet, or hold one; the first that is there counts.
const NAMES: [&str; 4] = ["kubelet", "kubelite", "k3s-server", "k3s-agent"];

/// What the kubelet sees at the root, which the machine was found to have there.
pub(super) fn view(root: &[u8], machine: &Found, tree: &Tree) -> Result<KubeletFact, Failure> {
    for process in kubelets() {
        let of = format!("/proc/{process}");
        match Tree::open(Path::new(&format!("{of}/root"))) {
            Ok(own) => return Ok(view_of(Path::new(&format!("{of}/mountinfo")), &own, root, machine, tree)),
            // It ended just now, or waits to be buried.
            Err(Errno::NOENT | Errno::SRCH) => {}
            Err(error) => {
                return Err(Failure::new(format!("the agent may not see what the kubelet sees: {}", words(error)))
                    .hint("it needs the capability SYS_PTRACE, and no AppArmor profile that forbids it"));
            }
        }
    }
    Ok(KubeletFact { view: KubeletView::NotFound, ..KubeletFact::default() })
}

fn view_of(mountinfo: &Path, own: &Tree, root: &[u8], machine: &Found, tree: &Tree) -> KubeletFact {
    let seen = |view, instead: Option<String>| KubeletFact { view, read_only: false, instead };
    let open = match own.directory(root) {
        Ok(open) => open,
        Err(Errno::NOENT | Errno::NOTDIR) => return seen(KubeletView::Missing, Some("nothing is there".into())),
        Err(error) => return seen(KubeletView::Stale, Some(words(error))),
    };
    let Ok(list) = mounts(mountinfo) else { return seen(KubeletView::NotFound, None) };
    let (Ok(path), Ok(mount)) = (path_of(open.as_fd()), found_mount(open.as_fd(), &list)) else {
        // Mounted anew while it was looked at, or lazily unmounted below a kubelet that keeps it.
        return seen(KubeletView::Stale, Some("its mount is not there any more".into()));
    };
    let machine_list = mounts(&machine.mountinfo).unwrap_or_default();
    let machine_root = found_mount(tree.root(), &machine_list).ok();
    let here = Seen { mount: &machine.mount, path: &machine.path };
    let view = compare(here, machine_root.as_ref(), Seen { mount: &mount, path: &path });
    let instead =
        (view != KubeletView::Same).then(|| format!("{} on {}", mount.fact().source, mount.fact().file_system));
    KubeletFact { view, read_only: view == KubeletView::Same && mount.read_only, instead }
}

/// The processes that may be it, the likeliest first. Those of clusters in containers are in process namespaces of
/// their own.
fn kubelets() -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::fs::read_link("/proc/self/ns/pid").ok();
    let mut found: Vec<(usize, u32)> = numbers
        .filter_map(|process| {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
            let rank = NAMES.iter().position(|known| *known == name.trim_end())?;
            let namespace = std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
            (namespace.is_none() || namespace == own).then_some((rank, process))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, process)| process).collect()
}
