//! What the steps of the storage never do: create on the local disk, hide or replace data, follow a link out.

use super::machine::Machine;
use super::states::{MOUNT, STORAGE, script, state};

fn mounting(node: &str) -> Option<Machine> {
    let machine = Machine::new()?;
    machine.give(&script(&state(&[STORAGE, "  bootstrap:", MOUNT]), node));
    Some(machine)
}

/// A machine on which the file system is mounted by something else.
fn mounted_elsewhere() -> Option<Machine> {
    let machine = Machine::new()?;
    machine.give(&script(&state(&[STORAGE]), "gpu-1"));
    Some(machine)
}

const BY_HAND: &str = "mkdir -p /mnt/shared && mount -t tmpfs 'shared fs' /mnt/shared";

#[test]
fn nothing_is_created_before_the_mount_is_there() {
    let Some(machine) = mounted_elsewhere() else { return };
    let before = machine.listing();
    let ran = machine.set_up("").expect(1);
    let said = "FAILED  /mnt/shared/k8s lies on the distributed file system: /mnt/shared/k8s lies on the machine's own disk, and not on tmpfs";
    // The disk of this machine is a tmpfs too, so that only the source tells them apart.
    let other = "FAILED  /mnt/shared/k8s lies on the distributed file system: /mnt/shared/k8s lies on machine, and not on shared*";
    assert!(ran.out.contains(said) || ran.out.contains(other), "{}", ran.out);
    assert!(ran.out.contains("it would land on the local disk"), "{}", ran.out);
    machine.is_as(&before, "nothing landed on the local disk");
    machine.does(BY_HAND);
    machine.set_up("").expect(0);
    assert_eq!(machine.does("cd /data/k8s/kubeflow/minio && pwd -P"), "/mnt/shared/k8s/kubeflow/minio\n");
    // It is looked for again each time, also where links and directories are there.
    machine.does("umount /mnt/shared");
    let before = machine.listing();
    machine.set_up("").expect(1);
    machine.is_as(&before, "nothing changes");
}

#[test]
fn another_file_system_and_data_in_the_way_stop_it() {
    for (before, says) in [
        ("mkdir -p /mnt/shared && mount -t tmpfs other /mnt/shared", "lies on other, and not on shared*"),
        (
            "mkdir -p /mnt/shared && mount -t proc proc /mnt/shared",
            "lies on proc of type proc at /mnt/shared, and not on tmpfs",
        ),
        ("mkdir -p /mnt/shared && touch /mnt/shared/data", "it has data on the local disk that a mount would hide"),
        ("mkdir -p /mnt && touch /mnt/shared", "/mnt/shared is no directory"),
        (
            "echo 'server:/x /mnt/shared nfs4 rw 0 0' >>/etc/fstab",
            "/etc/fstab has a line of somebody else for it: server:/x",
        ),
    ] {
        let Some(machine) = mounting("gpu-1") else { return };
        machine.does(before);
        let ran = machine.set_up("").expect(1);
        assert!(ran.out.contains(says), "{before}: {}", ran.out);
        assert_eq!(machine.run("test -e /data").code, 1, "{before}: nothing was created");
        assert_eq!(machine.run("test -e /mnt/shared/k8s").code, 1, "{before}: nothing was created");
    }
}

#[test]
fn a_line_of_somebody_else_that_says_the_same_will_do() {
    let Some(machine) = mounting("gpu-1") else { return };
    machine.does("printf 'shared\\\\040fs\\t/mnt/shared tmpfs  size=8m,mode=0755\\t0 0\\n' >>/etc/fstab");
    machine.set_up("").expect(0);
    assert_eq!(machine.does("grep -c /mnt/shared /etc/fstab"), "1\n");
}

#[test]
fn a_link_takes_the_place_of_nothing_but_an_empty_directory() {
    for (before, says) in [
        ("mkdir /data; ln -s /somewhere /data/k8s", "/data/k8s leads to /somewhere, and not to /mnt/shared/k8s"),
        ("mkdir -p /data/k8s; touch /data/k8s/precious", "/data/k8s is a directory with data"),
        ("mkdir -p /data/k8s/empty", "/data/k8s is a directory with data"),
        ("mkdir -p /data; touch /data/k8s", "/data/k8s is no directory and no link"),
        ("mkdir -p /data/k8s; mount -t tmpfs x /data/k8s", "x is mounted at /data/k8s"),
    ] {
        let Some(machine) = mounted_elsewhere() else { return };
        machine.does(&format!("{BY_HAND}; {before}"));
        let listing = machine.listing();
        let ran = machine.set_up("").expect(1);
        assert!(ran.out.contains("FAILED  /data/k8s leads to /mnt/shared/k8s: "), "{before}: {}", ran.out);
        assert!(ran.out.contains(says), "{before}: {}", ran.out);
        machine.is_as(&listing, "{before}: everything is as it was");
    }
    for before in [
        "true",
        "mkdir -p /data/k8s",
        "mkdir /data && ln -s /mnt/shared/k8s /data/k8s",
        "mkdir -p /data /mnt/shared/k8s && ln -s /mnt/shared/k8s /data/k8s",
    ] {
        let Some(machine) = mounted_elsewhere() else { return };
        machine.does(&format!("{BY_HAND}; {before}"));
        machine.set_up("").expect(0);
        assert_eq!(machine.does("readlink /data/k8s"), "/mnt/shared/k8s\n", "{before}");
        assert_eq!(machine.does("cd /data/k8s/kubeflow/minio && pwd -P"), "/mnt/shared/k8s/kubeflow/minio\n");
    }
}

#[test]
fn a_link_inside_leads_nobody_out() {
    for (before, says) in [
        ("ln -s /tmp /mnt/shared/k8s/kubeflow", "leads out of /data/k8s, to /tmp"),
        ("mkdir /elsewhere; ln -s /elsewhere /mnt/shared/k8s/monitoring", "leads out of /data/k8s, to /elsewhere"),
        ("mkdir -p /mnt/shared/k8s/kubeflow; touch /mnt/shared/k8s/kubeflow/minio", "minio is no directory"),
    ] {
        let Some(machine) = mounted_elsewhere() else { return };
        machine.does(&format!("{BY_HAND}; mkdir /mnt/shared/k8s; {before}"));
        let ran = machine.set_up("").expect(1);
        assert!(ran.out.contains(says), "{before}: {}", ran.out);
        assert_eq!(machine.does("ls /tmp | grep -v bootstrap; ls /elsewhere 2>/dev/null || true"), "", "{before}");
    }
}

#[test]
fn a_mode_that_somebody_changed_is_set_again_with_all_its_bits() {
    let Some(machine) = mounted_elsewhere() else { return };
    machine.does(BY_HAND);
    machine.set_up("").expect(0);
    machine.does("chmod 2700 /data/k8s/monitoring/grafana; chown 1:1 /data/k8s/monitoring/grafana; chmod 2711 /data/k8s/kubeflow/minio");
    machine.set_up("").expect(0);
    let stat = machine.does("stat -c '%a %u:%g' /mnt/shared/k8s/monitoring/grafana /mnt/shared/k8s/kubeflow/minio");
    assert_eq!(stat, "777 472:0\n2711 0:0\n", "what the state does not name is left alone");
}

#[test]
fn the_server_of_the_file_system_mounts_nothing_and_roles_decide_on_directories() {
    let Some(machine) = mounting("nfs-1") else { return };
    machine.set_up("").expect(0);
    assert_eq!(machine.does("readlink /data/k8s"), "/export/k8s\n");
    assert_eq!(machine.does("ls /export/k8s"), "kubeflow\nmonitoring\n", "it has no role that needs infra/mysql");
    assert!(!machine.does("cat /etc/fstab /proc/self/mountinfo").contains("shared"));
    let Some(machine) = mounting("cp-1") else { return };
    machine.set_up("").expect(0);
    assert_eq!(machine.does("ls /mnt/shared/k8s"), "infra\nkubeflow\nmonitoring\n");
    // Volumes from elsewhere: the whole cluster needs only its directories.
    let local = STORAGE.replace("    link: /mnt/shared/k8s\n", "    local: true\n");
    let Some(machine) = Machine::new() else { return };
    machine.give(&script(&state(&[&local]), "gpu-1")).set_up("").expect(0);
    assert_eq!(machine.does("ls /data/k8s"), "kubeflow\nmonitoring\n");
}

#[test]
fn a_root_in_the_mount_itself_needs_no_link() {
    let storage = STORAGE.replace("    link: /mnt/shared/k8s\n", "");
    let mount = MOUNT.replace("/mnt/shared", "/data");
    let Some(machine) = Machine::new() else { return };
    machine.give(&script(&state(&[&storage, "  bootstrap:", &mount]), "gpu-1")).set_up("").expect(0);
    assert_eq!(machine.does("findmnt -n -o SOURCE -T /data/k8s/kubeflow"), "shared fs\n");
    machine.does("umount /data");
    machine.set_up("").expect(0);
    // A link that the state does not know of is not followed.
    machine.does("umount /data; mount /data; ln -s /tmp /data/k8s");
    let ran = machine.set_up("").expect(1);
    assert!(ran.out.contains("/data/k8s is a link to /tmp") || ran.out.contains("not on"), "{}", ran.out);
}
