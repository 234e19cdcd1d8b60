//! What the kubelet sees, in real mount namespaces: each way to start one before and after the mount.

use serde_json::json;

use super::{spec, why};
use crate::support::machine::Machine;

/// What drover says of a kubelet with these binds, with the mount made before it starts, or after.
fn verdicts(machine: &Machine, binds: &[&str]) -> [String; 2] {
    let binds: Vec<String> =
        binds.iter().map(|bind| bind.replace("$F", machine.folder().to_str().expect("text"))).collect();
    [true, false].map(|before| {
        machine.sh("umount -l $F/data/k8s 2>/dev/null || true");
        let mount = "mount -t tmpfs volume $F/data/k8s";
        if before {
            machine.sh(mount);
        }
        let kubelet = machine.kubelet_in_container(&binds);
        if !before {
            machine.sh(mount);
        }
        let report = machine.report(&spec(&machine.text("data/k8s"), json!({"kubelet": true})), false);
        kubelet.end();
        format!("{} {}", why(&report).0, report["kubelet"].as_str().expect("a view"))
    })
}

#[test]
fn a_kubelet_in_a_container() {
    let Some(machine) = Machine::start() else { return };
    machine.sh("mkdir -p $F/data/k8s");
    let same = "StorageVerified Same";
    let stale = "KubeletViewStale Stale";
    for (binds, expected) in [
        (&[][..], ["KubeletBindMissing Missing"; 2]),
        (&["$F/data/k8s:$F/data/k8s:rprivate"], [same, stale]),
        (&["$F/data/k8s:$F/data/k8s:rslave"], [same, same]),
        (&["$F/data:$F/data:rslave"], [same, same]),
        (&["$F/data:$F/data:rprivate"], [same, stale]),
        (&["$F/data/k8s:$F/data/k8s:ro"], ["NotWritable Same", same]),
    ] {
        assert_eq!(verdicts(&machine, binds), expected, "{binds:?}");
    }
}

#[test]
fn a_kubelet_on_the_host() {
    let Some(machine) = Machine::start() else { return };
    let spec = spec(&machine.text("data"), json!({"kubelet": true}));
    machine.sh("mkdir $F/data; mount -t tmpfs volume $F/data");
    let report = machine.report(&spec, false);
    assert_eq!((why(&report).0, &report["verdict"]), ("KubeletNotFound", &json!("Unknown")), "{report}");

    // As a namespace of its own keeps what was mounted before.
    let kubelet = machine.kubelet_on_host("private");
    assert_eq!(machine.report(&spec, false)["reason"], "StorageVerified");
    machine.sh("umount -l $F/data; mount -t tmpfs volume $F/data");
    let report = machine.report(&spec, false);
    assert_eq!((why(&report).0, &report["kubelet"]), ("KubeletViewStale", &json!("Stale")), "mounted anew: {report}");
    kubelet.end();
    let kubelet = machine.kubelet_on_host("slave");
    machine.sh("umount -l $F/data; mount -t tmpfs volume $F/data");
    assert_eq!(machine.report(&spec, false)["reason"], "StorageVerified", "what follows sees it");
    kubelet.end();
}

#[test]
fn the_root_is_a_link_that_the_container_engine_resolved() {
    let Some(machine) = Machine::start() else { return };
    machine.sh("mkdir -p $F/nfs $F/data; mount -t tmpfs volume $F/nfs; mkdir $F/nfs/k8s; ln -s $F/nfs/k8s $F/data/k8s");
    let (root, folder) = (machine.text("data/k8s"), machine.folder().display().to_string());
    let kubelet = machine.kubelet_in_container(&[format!("{folder}/nfs/k8s:{root}:rslave")]);
    let spec = spec(&root, json!({"link": machine.text("nfs/k8s"), "kubelet": true}));
    let report = machine.report(&spec, false);
    assert_eq!(why(&report).0, "StorageVerified", "{report}");
    machine.sh("mkdir $F/nfs/other; rm $F/data/k8s; ln -s $F/nfs/other $F/data/k8s");
    kubelet.end();
    let kubelet = machine.kubelet_in_container(&[format!("{folder}/data:{folder}/data:rslave")]);
    let report = machine.report(&super::spec(&root, json!({"kubelet": true})), false);
    assert_eq!(why(&report).0, "KubeletBindMissing", "the link leads nowhere in the container: {report}");
    kubelet.end();
}
