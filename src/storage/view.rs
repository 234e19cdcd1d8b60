//! Whether the kubelet, in a mount namespace of its own, sees the same directory as its machine.

use super::mounts::Mount;
use crate::model::storage::KubeletView;

/// A directory as somebody sees it: by its path there, and the mount that the path lies on.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a, 't> {
    /// The mount.
    pub mount: &'a Mount<'t>,
    /// The path, with links resolved.
    pub path: &'a [u8],
}

/// The kubelet's view of a directory of the machine. It is the same one where it is the same place on the same file
/// system, whatever binds lead there. Where it lies on the kubelet's own root file system, and that is not the machine's,
/// no bind leads there at all.
pub fn compare(machine: Seen<'_, '_>, machine_root: Option<&Mount<'_>>, kubelet: Seen<'_, '_>) -> KubeletView {
    let place = |seen: Seen<'_, '_>| (seen.mount.device, seen.mount.place(seen.path));
    if place(machine) == place(kubelet) {
        return KubeletView::Same;
    }
    let shares_root = machine_root
        .is_some_and(|root| (root.device, root.place(b"/")) == (kubelet.mount.device, kubelet.mount.place(b"/")));
    if *kubelet.mount.point == *b"/" && !shares_root { KubeletView::Missing } else { KubeletView::Stale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::mounts::{covering, entries};

    const MACHINE: &[u8] = b"1 0 8:1 / / rw - ext4 disk rw\n2 1 0:40 / /data/k8s rw - nfs4 a:/ rw\n";

    fn view(machine: &[u8], kubelet: &[u8], path: &[u8], inside: &[u8]) -> KubeletView {
        let on = |text, path| covering(entries(text), path).unwrap();
        let (mount, root, inner) = (on(machine, path), on(machine, b"/"), on(kubelet, inside));
        compare(Seen { mount: &mount, path }, Some(&root), Seen { mount: &inner, path: inside })
    }

    #[test]
    fn views() {
        let container = "10 0 0:90 / / rw - overlay overlay rw\n";
        for (more, expected) in [
            ("", KubeletView::Missing),
            // Bound before the machine mounted it: the directory of the disk that lies below.
            ("11 10 8:1 /data/k8s /data/k8s rw - ext4 disk rw\n", KubeletView::Stale),
            ("11 10 0:40 / /data/k8s rw - nfs4 a:/ rw\n", KubeletView::Same),
            // An ancestor was bound, and the mount came through with it.
            ("11 10 8:1 /data /data rw - ext4 disk rw\n12 11 0:40 / /data/k8s rw - nfs4 a:/ rw\n", KubeletView::Same),
            ("11 10 8:1 /data /data rw - ext4 disk rw\n", KubeletView::Stale),
            // Mounted anew on the machine since, or another directory of it.
            ("11 10 0:39 / /data/k8s rw - nfs4 a:/ rw\n", KubeletView::Stale),
            ("11 10 0:40 /other /data/k8s rw - nfs4 a:/ rw\n", KubeletView::Stale),
        ] {
            let kubelet = format!("{container}{more}");
            assert_eq!(view(MACHINE, kubelet.as_bytes(), b"/data/k8s", b"/data/k8s"), expected, "{more}");
        }
    }

    #[test]
    fn a_kubelet_without_a_container() {
        assert_eq!(view(MACHINE, MACHINE, b"/data/k8s", b"/data/k8s"), KubeletView::Same);
        let before = b"1 0 8:1 / / rw - ext4 disk rw\n";
        assert_eq!(view(MACHINE, before, b"/data/k8s", b"/data/k8s"), KubeletView::Stale);
    }

    #[test]
    fn links_lead_elsewhere_on_each_side() {
        // On the machine /data/k8s is a link to /mnt/nfs/k8s; the container engine bound what it leads to.
        let machine = b"1 0 8:1 / / rw - ext4 disk rw\n2 1 0:40 / /mnt/nfs rw - nfs4 a:/ rw\n";
        let kubelet = b"10 0 0:90 / / rw - overlay overlay rw\n11 10 0:40 /k8s /data/k8s rw - nfs4 a:/ rw\n";
        assert_eq!(view(machine, kubelet, b"/mnt/nfs/k8s", b"/data/k8s"), KubeletView::Same);
    }
}
