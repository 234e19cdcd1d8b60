use std::collections::BTreeSet;

use super::*;
use crate::model::path::StoragePath;
use crate::model::storage::Verdict;
use crate::storage::facts::{DirectoryFault, KubeletFact, WriteFault};

fn wanted(more: serde_json::Value) -> StorageWanted {
    let mut wanted = serde_json::json!({
        "root": "/data/k8s", "fileSystems": ["nfs4", "fuse.glusterfs"], "kubelet": true, "timeoutSeconds": 10,
    });
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(wanted).unwrap()
}

fn mount(kind: &str, source: &str) -> MountFact {
    MountFact { mount_point: "/data".into(), file_system: kind.into(), source: source.into(), read_only: false }
}

fn found(mount: MountFact) -> Facts {
    let kubelet = KubeletFact { view: KubeletView::Same, read_only: false, instead: None };
    Facts { kubelet, ..Facts::of_root(RootFact::Found { path: b"/data/k8s".to_vec(), mount }) }
}

fn fine() -> Facts {
    found(mount("nfs4", "10.0.0.5:/k8s"))
}

fn kubelet(view: KubeletView) -> Facts {
    Facts { kubelet: KubeletFact { view, read_only: false, instead: None }, ..fine() }
}

fn space(free: u64) -> Facts {
    Facts { space: Some(Space { total: 1000, free, no_files: false }), ..fine() }
}

fn directories(faults: &[(&str, Fault)]) -> Facts {
    let fault = |fault| DirectoryFault { fault, why: "is not as it should be".into() };
    let faults = faults.iter().map(|(path, kind)| (path.parse::<StoragePath>().unwrap(), fault(*kind)));
    Facts { directories: faults.collect(), ..fine() }
}

fn look() -> Look {
    Look { generation: 3, checked: Timestamp::UNIX_EPOCH, boot_id: "boot".into(), agent: "0.1.0".into() }
}

#[test]
fn every_reason_is_reached() {
    let plain = wanted(serde_json::json!({}));
    let with = |more| wanted(more);
    let missing = |target: Option<&str>, on: MountFact| {
        Facts::of_root(RootFact::Missing { leads_to: target.map(str::to_owned), lies_on: Some(on) })
    };
    let read_only = MountFact { read_only: true, ..mount("nfs4", "10.0.0.5:/k8s") };
    let written = |no_space| Facts { write_test: Some(WriteFault { no_space, why: "no".into() }), ..fine() };
    let bound = KubeletFact { view: KubeletView::Same, read_only: true, instead: None };
    let linked = with(serde_json::json!({"link": "/mnt/k8s"}));
    let sources = with(serde_json::json!({"sources": ["10.0.0.6:/k8s", "10.0.1.*"]}));
    let local = with(serde_json::json!({"local": true}));
    let cases: Vec<(StorageReason, &StorageWanted, Facts)> = vec![
        (StorageReason::StorageVerified, &plain, fine()),
        (StorageReason::StorageVerified, &local, found(mount("ext4", "/dev/sda1"))),
        (StorageReason::StorageVerified, &sources, found(mount("nfs4", "10.0.1.7:/k8s"))),
        (StorageReason::RootMissing, &plain, missing(None, mount("ext4", "/dev/sda1"))),
        (StorageReason::RootMissing, &linked, missing(Some("/mnt/k8s"), mount("nfs4", "10.0.0.5:/k8s"))),
        (StorageReason::RootMissing, &plain, Facts::of_root(RootFact::NoDirectory)),
        (StorageReason::NotMounted, &linked, missing(Some("/mnt/k8s"), mount("ext4", "/dev/sda1"))),
        (StorageReason::NotMounted, &plain, found(mount("ext4", "/dev/sda1"))),
        (StorageReason::NotMounted, &plain, found(mount("tmpfs", "tmpfs"))),
        (StorageReason::NotMounted, &plain, found(mount("fuseblk", "/dev/sdb1"))),
        (StorageReason::WrongFileSystem, &plain, found(mount("ceph", "mon:/"))),
        (StorageReason::WrongSource, &sources, fine()),
        (StorageReason::WrongLink, &linked, Facts::of_root(RootFact::OtherLink { leads_to: None })),
        (StorageReason::NotWritable, &plain, found(read_only)),
        (StorageReason::NotWritable, &plain, written(false)),
        (StorageReason::NotWritable, &plain, Facts { kubelet: bound, ..fine() }),
        (StorageReason::NoSpace, &plain, written(true)),
        (StorageReason::NoSpace, &plain, space(0)),
        (StorageReason::DirectoryMissing, &plain, directories(&[("a", Fault::Wrong), ("b", Fault::Missing)])),
        (StorageReason::WrongDirectory, &plain, directories(&[("a", Fault::Wrong)])),
        (StorageReason::UnsafePath, &plain, directories(&[("a", Fault::Missing), ("b", Fault::Unsafe)])),
        (StorageReason::UnsafePath, &plain, Facts::of_root(RootFact::Unsafe { why: "it turns in a circle".into() })),
        (StorageReason::KubeletBindMissing, &plain, kubelet(KubeletView::Missing)),
        (StorageReason::KubeletViewStale, &plain, kubelet(KubeletView::Stale)),
        (StorageReason::KubeletNotFound, &plain, kubelet(KubeletView::NotFound)),
        (StorageReason::ProbeFailed, &plain, Facts::of_root(RootFact::Failed { why: "Input/output error".into() })),
    ];
    let mut reached = BTreeSet::from([
        look().timed_out(&plain, None, Duration::from_secs(10)).reason,
        look().failed("no right").reason,
    ]);
    for (expected, wanted, facts) in cases {
        let (reason, message) = judge(wanted, &facts);
        assert_eq!(reason, expected, "{message}");
        assert!(!message.is_empty() && !message.ends_with('.'), "{message}");
        reached.insert(reason);
    }
    assert_eq!(reached.len(), 17, "{reached:?}");
}

#[test]
fn the_worst_comes_first() {
    let plain = wanted(serde_json::json!({"minFreeBytes": 500}));
    let mut facts = found(mount("nfs4", "10.0.0.5:/k8s"));
    facts.kubelet.view = KubeletView::NotFound;
    assert_eq!(judge(&plain, &facts).0, StorageReason::KubeletNotFound);
    facts.directories = directories(&[("a", Fault::Missing)]).directories;
    assert_eq!(judge(&plain, &facts).0, StorageReason::DirectoryMissing);
    facts.space = Some(Space { total: 1000, free: 400, no_files: false });
    assert_eq!(judge(&plain, &facts).0, StorageReason::NoSpace, "for want of space they cannot be made");
    facts.kubelet.view = KubeletView::Stale;
    assert_eq!(judge(&plain, &facts).0, StorageReason::KubeletViewStale, "that loses data");
    let unasked = wanted(serde_json::json!({"kubelet": false}));
    assert_eq!(
        judge(&unasked, &Facts { directories: Default::default(), space: None, ..facts }).0,
        StorageReason::StorageVerified
    );
}

#[test]
fn space_goes_in_steps_and_is_no_news() {
    let plain = wanted(serde_json::json!({}));
    let report = |free| look().report(&plain, &space(free));
    assert_eq!((report(657).free_bytes, report(657).total_bytes), (Some(650), Some(1000)));
    assert!(!is_news(&report(657), &report(111)));
    assert!(is_news(&report(0), &report(111)), "but that it is full is");
    let later = Look { checked: Timestamp::MAX, ..look() };
    assert!(!is_news(&later.report(&plain, &space(5)), &report(5)));
    assert!(is_news(&Look { generation: 4, ..look() }.report(&plain, &space(5)), &report(5)));
}

#[test]
fn a_verdict_lasts() {
    let plain = wanted(serde_json::json!({}));
    let first = look().report(&plain, &fine());
    let later = Look { checked: "2026-01-01T00:00:00Z".parse().unwrap(), ..look() };
    assert_eq!(following(later.report(&plain, &fine()), Some(&first)).since, first.since);
    let failed = following(later.report(&plain, &space(0)), Some(&first));
    assert_eq!((failed.verdict, failed.since), (Verdict::Failed, Some(later.checked)));
    assert_eq!(following(later.report(&plain, &fine()), None).since, Some(later.checked));
}

#[test]
fn messages_fit_into_a_node() {
    let faults: Vec<(String, Fault)> =
        (0..200).map(|n| (format!("d{n:03}/{}", "ö".repeat(200)), Fault::Missing)).collect();
    let faults: Vec<(&str, Fault)> = faults.iter().map(|(path, fault)| (path.as_str(), *fault)).collect();
    let message = judge(&wanted(serde_json::json!({})), &directories(&faults)).1;
    assert!(message.len() <= LONGEST + 3 && message.ends_with('…'), "{message}");
    let few = judge(
        &wanted(serde_json::json!({})),
        &directories(&[("a", Fault::Wrong), ("b", Fault::Wrong), ("c", Fault::Wrong), ("d", Fault::Wrong)]),
    )
    .1;
    assert!(few.ends_with("; and 1 more"), "{few}");
    let strange = judge(&wanted(serde_json::json!({})), &found(mount("ceph", "a\nb\u{1b}[31m"))).1;
    assert!(!strange.chars().any(char::is_control), "{strange:?}");
    assert_eq!((amount(10 << 30), amount(1536), amount(7)), ("10 GiB".into(), "1.5 KiB".into(), "7 B".into()));
}
