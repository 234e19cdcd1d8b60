//! What is seen, and what is made: `drover agent --once` on file systems of the kernel.

use std::fs;

use serde_json::json;

use super::{spec, why};
use crate::support::machine::{Machine, listing};
use crate::support::run::drover;

#[test]
fn directories_are_made_in_a_verified_mount_and_nowhere_else() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    let directories = json!({
        "kubeflow/minio": {}, "infra/mysql": {"mode": "0750", "owner": "999:998"}, "monitoring/grafana": {"mode": "2777"},
    });
    let spec = spec(&root, json!({"directories": directories, "writeTest": true}));
    machine.sh("mkdir $F/data");
    let report = machine.report(&spec, true);
    assert_eq!(report["reason"], "NotMounted", "{report}");
    assert_eq!(machine.sh("ls -A $F/data"), "", "nothing is written to the machine's own disk");

    machine.sh("mount -t tmpfs volume $F/data");
    let report = machine.report(&spec, false);
    assert_eq!(report["reason"], "DirectoryMissing", "{report}");
    assert_eq!(machine.sh("ls -A $F/data"), "", "nothing is made where that was not asked for");
    assert_eq!(machine.once(&spec, false).code, 1);

    let report = machine.once(&spec, true).expect(0).json();
    assert_eq!(why(&report), ("StorageVerified", format!("{root} lies on volume (tmpfs), mounted at {root}").as_str()));
    assert_eq!((&report["verdict"], &report["mount"]["source"]), (&json!("Verified"), &json!("volume")));
    assert!(report["totalBytes"].as_u64().is_some_and(|total| total > 0), "{report}");
    let made = machine.sh("cd $F/data; find . -mindepth 1 -printf '%P %m %U:%G\\n' | sort");
    assert_eq!(
        made.lines().collect::<Vec<_>>(),
        [
            ".drover 700 0:0",
            "infra 755 0:0",
            "infra/mysql 750 999:998",
            "kubeflow 755 0:0",
            "kubeflow/minio 755 0:0",
            "monitoring 755 0:0",
            "monitoring/grafana 2777 0:0",
        ]
    );
    // What is right is left alone, down to its time of change.
    let before = listing(&machine, &machine.path("data/infra"));
    machine.once(&spec, true).expect(0);
    assert_eq!(listing(&machine, &machine.path("data/infra")), before);

    machine
        .sh("chmod 0700 $F/data/infra/mysql; chown 5:5 $F/data/monitoring/grafana; chmod 0777 $F/data/kubeflow/minio");
    let report = machine.report(&spec, false);
    assert_eq!(report["reason"], "WrongDirectory", "{report}");
    assert_eq!(report["directories"].as_object().map(|faults| faults.len()), Some(1), "{report}");
    machine.once(&spec, true).expect(0);
    let modes = machine.sh("cd $F/data; stat -c '%n %a %u:%g' infra/mysql monitoring/grafana kubeflow/minio");
    assert_eq!(
        modes, "infra/mysql 750 999:998\nmonitoring/grafana 2777 5:5\nkubeflow/minio 777 0:0\n",
        "only what was asked"
    );
}

#[test]
fn a_local_root_needs_no_mount() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    machine.sh("mkdir $F/data");
    let spec = spec(&root, json!({"local": true, "fileSystems": ["nfs4"], "directories": {"a/b": {"mode": "0700"}}}));
    let report = machine.once(&spec, true).expect(0).json();
    assert_eq!(report["reason"], "StorageVerified", "{report}");
    assert_eq!(machine.sh("stat -c %a $F/data/a/b"), "700\n");
}

#[test]
fn the_link_is_made_only_into_a_verified_mount() {
    let Some(machine) = Machine::start() else { return };
    let (root, link) = (machine.text("k8s"), machine.text("mnt/k8s"));
    let spec = spec(&root, json!({"link": link, "directories": {"a": {}}}));
    machine.sh("mkdir $F/mnt");
    let report = machine.report(&spec, true);
    assert_eq!(report["reason"], "NotMounted", "{report}");
    machine.sh("mkdir $F/mnt/k8s");
    let report = machine.report(&spec, true);
    assert_eq!(report["reason"], "NotMounted", "{report}");
    assert_eq!(machine.sh("ls $F"), "mnt\nspec.json\n", "no link leads to the machine's own disk");

    machine.sh("mount -t tmpfs volume $F/mnt; mkdir $F/mnt/k8s");
    assert_eq!(machine.report(&spec, false)["reason"], "RootMissing");
    machine.once(&spec, true).expect(0);
    assert_eq!(machine.sh("readlink $F/k8s; ls $F/mnt/k8s"), format!("{link}\na\n"));
    machine.once(&spec, false).expect(0);

    // Another way to write the same place is as good.
    machine.sh("rm $F/k8s; ln -s mnt/../mnt/k8s $F/k8s");
    machine.once(&spec, true).expect(0);
    for (made, said) in
        [("ln -s /etc $F/k8s", "leads to /etc"), ("mkdir $F/k8s", "is no link"), ("touch $F/k8s", "is no link")]
    {
        machine.sh(&format!("rm -r $F/k8s; {made}"));
        let report = machine.report(&spec, true);
        assert!(why(&report).0 == "WrongLink" && why(&report).1.contains(said), "{report}");
    }
    assert_eq!(machine.sh("stat -c %F $F/k8s").trim(), "regular empty file", "what is there is left alone");

    machine.sh("rm $F/k8s; ln -s $F/mnt/k8s $F/k8s; umount $F/mnt; rmdir $F/mnt/k8s");
    let report = machine.report(&spec, true);
    assert!(why(&report).0 == "NotMounted" && why(&report).1.contains("which is not there"), "{report}");
}

#[test]
fn a_root_that_is_not_there_is_not_made() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data/k8s");
    let spec = spec(&root, json!({"directories": {"a": {}}}));
    for (made, reason) in [
        ("true", "RootMissing"),
        ("mkdir $F/data; mount -t tmpfs volume $F/data", "RootMissing"),
        ("touch $F/data/k8s", "RootMissing"),
        ("rm $F/data/k8s; ln -s k8s $F/data/k8s", "UnsafePath"),
    ] {
        machine.sh(made);
        let report = machine.report(&spec, true);
        assert_eq!(report["reason"], reason, "{report}");
    }
    assert_eq!(machine.sh("ls $F/data"), "k8s\n");
}

#[test]
fn sources_and_types_are_held_against_what_is_mounted() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    machine.sh("mkdir $F/data; mount -t tmpfs 10.0.0.5:/k8s $F/data");
    for (more, reason) in [
        (json!({"sources": ["10.0.0.5:/k8s"]}), "StorageVerified"),
        (json!({"sources": ["10.0.0.6:/k8s", "10.0.0.5:*"]}), "StorageVerified"),
        (json!({"sources": ["10.0.0.5:/k"]}), "WrongSource"),
        (json!({"fileSystems": ["nfs4"]}), "NotMounted"),
    ] {
        let report = machine.report(&spec(&root, more), false);
        assert_eq!(report["reason"], reason, "{report}");
    }
    machine.sh("umount $F/data; mount -t proc 10.0.0.5:/k8s $F/data");
    let report = machine.report(&spec(&root, json!({})), false);
    assert_eq!(report["reason"], "WrongFileSystem", "{report}");
}

#[test]
fn read_only_and_full_file_systems() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    let plain = spec(&root, json!({"directories": {"a": {}}, "writeTest": true}));
    machine.sh("mkdir $F/data; mount -t tmpfs -o size=1m,nr_inodes=64 volume $F/data; mkdir $F/data/a");
    machine.once(&plain, true).expect(0);
    let greedy = spec(&root, json!({"minFreeBytes": 2 << 20}));
    let report = machine.report(&greedy, true);
    assert_eq!(why(&report), ("NoSpace", "less than 2 MiB is free"));

    machine.sh("head -c 2m /dev/zero > $F/data/big 2>/dev/null || true");
    let report = machine.report(&plain, true);
    assert_eq!(why(&report).0, "NoSpace", "{report}");
    assert_eq!(report["freeBytes"], 0);
    machine.sh("rm $F/data/big; cd $F/data; for n in $(seq 80); do touch f$n 2>/dev/null || true; done");
    let report = machine.report(&plain, true);
    assert_eq!(why(&report), ("NoSpace", "the file system takes no further files"));
    machine.sh("rm $F/data/f*");
    machine.once(&plain, true).expect(0);

    machine.sh("mount -o remount,ro $F/data");
    let report = machine.report(&spec(&root, json!({"directories": {"new": {}}})), true);
    assert_eq!(why(&report).0, "NotWritable", "{report}");
    assert_eq!(report["mount"]["readOnly"], true);
    // The mount alone may be read-only, and the file system not.
    machine.sh(
        "mount -o remount,rw $F/data; mkdir $F/bound; mount --bind $F/data $F/bound; mount -o remount,bind,ro $F/bound",
    );
    let report = machine.report(&spec(&machine.text("bound"), json!({})), true);
    assert_eq!(why(&report).0, "NotWritable", "{report}");
}

#[test]
fn the_write_test_leaves_nothing_and_removes_nothing_else() {
    let Some(machine) = Machine::start() else { return };
    let spec = spec(&machine.text("data"), json!({"writeTest": true}));
    machine.sh(
        "mkdir $F/data; mount -t tmpfs volume $F/data; mkdir $F/data/.drover; echo x > $F/data/.drover/write-test.m2",
    );
    machine.sh("echo left behind > $F/data/.drover/write-test.m1");
    machine.once(&spec, true).expect(0);
    assert_eq!(machine.sh("ls $F/data/.drover"), "write-test.m2\n");
    for other in ["mkdir", "mkfifo", "ln -s /etc/passwd"] {
        machine.sh(&format!("{other} $F/data/.drover/write-test.m1"));
        let report = machine.report(&spec, true);
        assert_eq!(report["reason"], "NotWritable", "{other}: {report}");
        machine.sh("rm -r $F/data/.drover/write-test.m1");
    }
}

#[test]
fn a_file_asks_with_a_spec_or_the_whole_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let ask = |text: &str| {
        fs::write(folder.path().join("spec.yaml"), text).expect("a file");
        drover(folder.path(), ["agent", "--once", "--host-root", "/", "--spec", "spec.yaml"]).expect(1)
    };
    for (text, said) in [
        ("", "missing field `root`"),
        ("[]", "expected a mapping with `root`, `fileSystems` and `timeoutSeconds`"),
        ("kind: NodeStorage", "missing field `root`"),
        ("kind: NodeStorage\nspec: {root: data}", "spec.root: "),
        ("root: /a\nfileSystems: 5", "fileSystems: invalid type: integer `5`, expected a sequence at line 2"),
        ("root: [", "line 1"),
    ] {
        let err = ask(text).err;
        assert!(err.starts_with("error: spec.yaml is not what is asked of a machine: "), "{err}");
        assert!(err.contains(said) && err.contains("kubectl get nodestorage NODE -o yaml"), "{said:?} in {err}");
    }
    let spec = r#"{"root": "/nowhere/at/all", "fileSystems": ["tmpfs"], "timeoutSeconds": 10}"#;
    let whole = format!(r#"{{"kind": "NodeStorage", "metadata": {{"name": "n"}}, "spec": {spec}, "status": {{}}}}"#);
    for text in [spec, &whole] {
        assert_eq!(why(&ask(text).json()).0, "RootMissing");
    }
}
