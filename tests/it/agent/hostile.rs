//! Paths that lead elsewhere, names that are no text, lists that are long: nothing is ever made outside of the root.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{RenameFlags, renameat_with};
use serde_json::json;

use super::{spec, why};
use crate::support::machine::Machine;

#[test]
fn no_link_and_no_mount_below_the_root_is_followed() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    machine.sh(
        "mkdir $F/data $F/outside; mount -t tmpfs volume $F/data; cd $F/data
         ln -s $F/outside absolute; ln -s ../outside climbing; ln -s absolute chain; ln -s real inside; ln -s nowhere dangling
         mkdir real other; mount -t tmpfs another other; mkdir -p real/deep; ln -s /proc/self/root real/magic; touch file",
    );
    for (path, reason) in [
        ("absolute", "UnsafePath"),
        ("absolute/a", "UnsafePath"),
        ("climbing/a", "UnsafePath"),
        ("chain/a", "UnsafePath"),
        ("inside", "UnsafePath"),
        ("inside/deep", "UnsafePath"),
        ("dangling", "UnsafePath"),
        ("dangling/a", "UnsafePath"),
        ("other", "UnsafePath"),
        ("other/a", "UnsafePath"),
        ("real/magic/tmp", "UnsafePath"),
        ("file", "WrongDirectory"),
        ("file/a", "WrongDirectory"),
        ("real/deep", "StorageVerified"),
    ] {
        let report =
            machine.report(&spec(&root, json!({"directories": {path: {"mode": "0700", "owner": "7:7"}}})), true);
        assert_eq!(report["reason"], reason, "{path}: {report}");
    }
    assert_eq!(
        machine.sh("find $F/outside $F/data/other -mindepth 1; ls $F/data/nowhere 2>&1 || true").lines().count(),
        1
    );
    let ran = machine.once(&spec(&root, json!({"directories": {"a/../../outside/b": {}}})), true).expect(1);
    assert!(ran.err.contains("has a \"..\" part"), "{}", ran.err);
}

#[test]
fn links_on_the_way_to_the_root_stay_on_the_machine() {
    let Some(machine) = Machine::start() else { return };
    machine.sh("mkdir -p $F/host/mnt $F/host/data $F/mnt; mount -t tmpfs volume $F/host/mnt
         ln -s /mnt $F/host/data/k8s; ln -s ../../../../../../../../mnt $F/host/data/climbing");
    // Below another root directory, as a person would debug it: absolute links are those of that root.
    let once = |root: &str| {
        let path = machine.path("spec.json");
        fs::write(&path, spec(root, json!({"directories": {"made": {}}})).to_string()).expect("a file");
        let mut command = machine.command(env!("CARGO_BIN_EXE_drover"));
        command.args(["agent", "--once", "--make", "--host-root"]).arg(machine.path("host")).arg("--spec").arg(path);
        crate::support::run::finish(&mut command).json()
    };
    for root in ["/data/k8s", "/data/climbing", "/mnt"] {
        let report = once(root);
        assert_eq!(why(&report).0, "StorageVerified", "{report}");
        assert_eq!(report["mount"]["mountPoint"], "/mnt", "as the machine calls it");
    }
    assert_eq!(machine.sh("ls $F/host/mnt; echo; ls $F/mnt"), "made\n\n");
}

#[test]
fn a_directory_swapped_for_a_link_in_mid_step_leads_nowhere() {
    let Some(machine) = Machine::start() else { return };
    let root = machine.text("data");
    machine.sh("mkdir $F/data $F/outside; mount -t tmpfs volume $F/data; mkdir -p $F/data/a/b");
    // At each moment `a` is the directory, or the link that leads out.
    let (folder, stop) = (machine.seen_outside("data"), Arc::new(AtomicBool::new(false)));
    std::os::unix::fs::symlink(machine.path("outside"), folder.join("link")).expect("a link");
    let stopped = stop.clone();
    let swapping = std::thread::spawn(move || {
        let folder = fs::File::open(folder).expect("it is there");
        let mut swaps = 0_u64;
        while !stopped.load(Relaxed) {
            renameat_with(&folder, "a", &folder, "link", RenameFlags::EXCHANGE).expect("both are there");
            swaps += 1;
        }
        swaps
    });
    let mut reasons = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..60 {
        let name = format!("new{round}");
        let more = json!({"directories": {format!("a/b/{name}/deep"): {"mode": "0700", "owner": "7:7"}, format!("a/{name}"): {}}});
        let report = machine.report(&spec(&root, more), true);
        *reasons.entry(why(&report).0.to_owned()).or_default() += 1;
    }
    stop.store(true, Relaxed);
    assert!(swapping.join().expect("it swaps to the end") > 1000);
    assert_eq!(machine.sh("find $F/outside -mindepth 1"), "", "nothing is made outside: {reasons:?}");
    assert!(reasons.contains_key("UnsafePath"), "the race was never lost, so nothing was tried: {reasons:?}");
    assert!(machine.sh("find $F/data/ -name 'new*' | wc -l").trim() != "0", "the race was never won: {reasons:?}");
}

#[test]
fn ten_thousand_mounts_and_names_that_are_no_text() {
    let Some(machine) = Machine::start() else { return };
    let made = machine.sh(r#"mkdir $F/many; mount -t tmpfs many $F/many; mount --make-private $F/many
           perl -e 'my $mount = `uname -m` =~ /x86_64/ ? 165 : 40; chdir "$ENV{F}/many" or die; for my $n (1..10000) {
             my $name = "m $n\\\t\n\xff"; mkdir $name or die; my ($what, $kind) = ("none", "ramfs");
             syscall($mount, $what, $name, $kind, 0, 0) == 0 or die "$n: $!" }'
           wc -l < /proc/self/mountinfo"#);
    assert!(made.trim().parse::<usize>().expect("a number") > 10_000, "{made}");
    let strange = machine.path("many").join(std::ffi::OsStr::from_bytes(b"m 7\\\t\n\xff"));
    let mut link = machine.command("ln");
    assert!(link.arg("-s").arg(strange).arg(machine.path("data")).status().expect("ln runs").success());
    let spec = spec(&machine.text("data"), json!({"fileSystems": ["ramfs"], "directories": {"a": {}}}));
    let begun = std::time::Instant::now();
    let report = machine.once(&spec, true).expect(0).json();
    let took = begun.elapsed();
    let point = report["mount"]["mountPoint"].as_str().expect("a place");
    assert!(point.ends_with("/many/m 7\\\t\n\u{fffd}"), "{point:?}");
    assert!(!why(&report).1.contains(char::is_control), "{report}");
    assert!(took.as_secs() < 5, "{took:?}");
}
