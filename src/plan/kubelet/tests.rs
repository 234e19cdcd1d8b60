use proptest::prelude::*;

use super::*;
use crate::manifest::{link, parse};

fn cluster(kubelet: &str) -> DesiredCluster {
    let text = format!(
        "apiVersion: drover.dev/v1\nkind: Cluster\nmetadata: {{name: prod}}\nspec:\n  connection: {{context: prod}}\n  kubelet:\n{kubelet}"
    );
    let parsed = parse(&"prod.yaml".into(), text.as_bytes());
    let linked = link(&parsed.documents, &[], "2026-01-01T00:00:00Z".parse().expect("a time"), None);
    let problems: Vec<_> = parsed.problems.iter().chain(&linked.problems).filter(|p| p.is_error()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    linked.desired.clusters["prod"].clone()
}

fn rancher(binds: &[&str], removed: &[&str]) -> DesiredCluster {
    cluster(&format!(
        "    manager: rancher\n    rancher: {{connection: {{context: local}}, cluster: c-x7k2p}}\n    extraBinds: {binds:?}\n    removeBinds: {removed:?}\n"
    ))
}

fn rke(binds: &[&str], removed: &[&str]) -> DesiredCluster {
    cluster(&format!(
        "    manager: rke\n    rke: {{config: cluster.yml}}\n    extraBinds: {binds:?}\n    removeBinds: {removed:?}\n"
    ))
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn nodes(list: &[(&str, &str, bool)]) -> ObservedCluster {
    let node = |(name, role, ready): &(&str, &str, bool)| {
        let labels = [(format!("node-role.kubernetes.io/{role}"), "true".to_owned())].into();
        let node = ObservedNode { name: (*name).to_owned(), labels, ready: Some(*ready), ..ObservedNode::default() };
        ((*name).to_owned(), node)
    };
    ObservedCluster { nodes: list.iter().map(node).collect(), ..ObservedCluster::default() }
}

fn planned(cluster: &DesiredCluster, live: &[&str]) -> Option<KubeletPlan> {
    let manager = cluster.spec.kubelet.as_ref().expect("a kubelet").manager;
    let seen = ObservedKubelet::new(manager, texts(live));
    kubelet(cluster, &ObservedCluster::default(), Ok(&seen))
}

#[test]
fn missing_binds_are_appended_and_the_rest_keeps_its_order() {
    let cluster = rancher(&["/data/k8s:/data/k8s:rslave", "/a:/a"], &[]);
    let plan = planned(&cluster, &["/z:/z", "/a:/a:rw", "/b:/b"]).expect("a plan");
    assert_eq!(plan.to, texts(&["/z:/z", "/a:/a:rw", "/b:/b", "/data/k8s:/data/k8s:rslave"]));
    assert_eq!(plan.changes.len(), 1);
    assert_eq!((plan.changes[0].source.origin.line, plan.changes[0].source.origin.column), (9, 18));
    assert_eq!(planned(&cluster, &["/a:/a", "/data:/data:rshared"]), None, "an ancestor covers it");
}

#[test]
fn options_change_in_place_and_only_state_removes() {
    let cluster = rancher(&["/data:/data:rslave"], &["/old"]);
    let plan = planned(&cluster, &["/data:/data", "/other:/other", "/mnt/old:/old"]).expect("a plan");
    assert_eq!(plan.to, texts(&["/data:/data:rslave", "/other:/other"]));
    let told: Vec<_> =
        plan.changes.iter().map(|change| (change.reason, change.from.as_deref(), change.to.as_deref())).collect();
    let expected = [
        (BindReason::Removed, Some("/mnt/old:/old"), None),
        (BindReason::Asked, Some("/data:/data"), Some("/data:/data:rslave")),
    ];
    assert_eq!(told, expected);
    assert!(plan.takes_away());
    assert_eq!(planned(&rancher(&[], &[]), &["/other:/other"]), None, "what nobody asks for is left alone");
}

#[test]
fn rke_makes_live_what_its_file_says() {
    let cluster = rke(&["/data:/data:rslave"], &[]);
    let seen = |live: &[&str], config: &[&str]| ObservedKubelet {
        config: Some(texts(config)),
        ..ObservedKubelet::new(KubeletManager::Rke, texts(live))
    };
    let plan = |live: &[&str], config: &[&str]| kubelet(&cluster, &ObservedCluster::default(), Ok(&seen(live, config)));
    let both = plan(&["/x:/x"], &["/y:/y"]).expect("a plan");
    let config = both.config.as_ref().expect("an edit");
    assert_eq!((&config.from, &config.to), (&texts(&["/y:/y"]), &texts(&["/y:/y", "/data:/data:rslave"])));
    let reasons: Vec<_> = both.changes.iter().map(|change| change.reason).collect();
    assert_eq!(
        reasons,
        [BindReason::Configured, BindReason::Configured, BindReason::Asked],
        "x goes, y comes, data comes"
    );
    let edit = plan(&["/data:/data:rslave"], &[]).expect("a plan");
    assert!(edit.edits() && edit.changes.is_empty(), "live already: nothing restarts");
    let run = plan(&[], &["/data:/data:rslave"]).expect("a plan");
    assert!(!run.edits() && run.changes.len() == 1 && run.config.is_some(), "the file has it: RKE must run");
    let quiet = plan(&["/data:/data:rslave"], &["/data:/data:rslave", "/y:/y"]).expect("a note");
    assert!(!quiet.changes_anything() && quiet.notes[0].contains("/y:/y"), "{quiet:?}");
    assert_eq!(plan(&["/data:/data:rslave"], &["/data:/data:rslave"]), None);
}

#[test]
fn kubelets_restart_in_waves() {
    let mut list: Vec<(String, &str, bool)> = (0..25).map(|n| (format!("w-{n:02}"), "worker", n != 3)).collect();
    list.push(("cp-1".to_owned(), "controlplane", true));
    list.push(("cp-2".to_owned(), "etcd", false));
    let list: Vec<_> = list.iter().map(|(name, role, ready)| (name.as_str(), *role, *ready)).collect();
    let waves = waves(&nodes(&list), None);
    let told: Vec<_> = waves.iter().map(|wave| (wave.kind, wave.at_once, wave.nodes.len(), wave.batches())).collect();
    let expected = [(WaveKind::ControlPlane, 1, 2, 2), (WaveKind::NotReady, 1, 1, 1), (WaveKind::Workers, 2, 24, 12)];
    assert_eq!(told, expected);
    let of = |text, workers| at_once(Some(text), workers);
    assert_eq!(
        [of("10%", 5), of("10%", 1213), of("50%", 11), of("3", 100), of("x", 100), of("0", 9)],
        [1, 50, 5, 3, 10, 1]
    );
}

#[test]
fn what_is_not_known_is_said() {
    let cluster = rancher(&["/data:/data"], &[]);
    let plan = kubelet(&cluster, &ObservedCluster::default(), Err("it is away".to_owned())).expect("a plan");
    assert!(!plan.changes_anything() && plan.unknown.as_deref() == Some("it is away"));
    let none = self::cluster("    manager: none\n");
    assert_eq!(kubelet(&none, &ObservedCluster::default(), Err("it is away".to_owned())), None);
}

#[test]
fn a_saved_plan_is_outdated_when_state_asks_for_something_else() {
    let plan = planned(&rancher(&["/data:/data"], &[]), &["/x:/x"]).expect("a plan");
    assert!(is_still_asked(&plan, Some(&rancher(&["/data:/data"], &[]))));
    assert!(!is_still_asked(&plan, Some(&rancher(&["/data:/data:ro"], &[]))));
    assert!(!is_still_asked(&plan, Some(&rancher(&["/data:/data"], &["/x"]))));
    assert!(!is_still_asked(&plan, Some(&rke(&["/data:/data"], &[]))) && !is_still_asked(&plan, None));
}

fn bind() -> impl Strategy<Value = String> {
    let path = prop_oneof![Just("/a"), Just("/a/b"), Just("/a/b/c"), Just("/d"), Just("/e")];
    let options = prop_oneof![Just(""), Just(":ro"), Just(":rslave"), Just(":rw,z"), Just(":rshared")];
    (path.clone(), path, options).prop_map(|(source, destination, options)| format!("{source}:{destination}{options}"))
}

fn list() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(bind(), 0..6).prop_map(|mut binds| {
        let mut seen = std::collections::BTreeSet::new();
        binds.retain(|bind| seen.insert(BindParts::of(bind).destination.to_owned()));
        binds
    })
}

proptest! {
    #[test]
    fn a_list_is_never_reordered_and_is_right_afterwards(live in list(), asked in list(), removed in "/(x|d)") {
        let asked: Vec<&str> = asked.iter().map(String::as_str).filter(|bind| BindParts::of(bind).destination != removed).collect();
        let cluster = rancher(&asked, &[&removed]);
        let asked_for = Asked::of(&cluster).expect("binds");
        let (to, changes) = asked_for.list(&live);
        let destinations = |list: &[String]| list.iter().map(|bind| BindParts::of(bind).destination.to_owned()).collect::<Vec<_>>();
        let (before, after) = (destinations(&live), destinations(&to));
        let kept: Vec<_> = before.iter().filter(|path| after.contains(path)).cloned().collect();
        prop_assert_eq!(&after[..kept.len()], &kept[..], "what is kept stands first, in its order");
        prop_assert_eq!(changes.is_empty(), to == live);
        let (again, none) = asked_for.list(&to);
        prop_assert!(none.is_empty() && again == to, "{:?}", again);
        for bind in &asked {
            let asked = BindParts::of(bind);
            let decides = deciding(to.iter().map(String::as_str), asked.destination).expect("a bind");
            prop_assert!(decides.is_same(&asked) || decides.covers(&asked), "{} in {:?}", bind, to);
        }
        for bind in live.iter().filter(|bind| !to.contains(bind)) {
            let destination = BindParts::of(bind).destination;
            prop_assert!(destination == removed || asked.iter().any(|asked| BindParts::of(asked).destination == destination));
        }
    }
}

fn state(text: &str) -> crate::model::Desired {
    let parsed = parse(&"prod.yaml".into(), text.as_bytes());
    let linked = link(&parsed.documents, &[], "2026-01-01T00:00:00Z".parse().expect("a time"), None);
    let problems: Vec<_> = parsed.problems.iter().chain(&linked.problems).filter(|p| p.is_error()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    linked.desired
}

fn storing(binds: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1\nkind: Cluster\nmetadata: {{name: prod}}\nspec:\n  connection: {{context: prod}}\n  storage: {{root: /data/k8s}}\n  kubelet:\n    manager: rke\n    rke: {{config: c.yml}}\n{binds}---\napiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: w-1, cluster: prod}}\nspec: {{}}\n"
    )
}

#[test]
fn a_bind_of_the_storage_root_waits_until_it_is_known_to_be_mounted() {
    let desired = state(&storing("    extraBinds: [\"/data:/data:rslave\"]\n"));
    let cluster = &desired.clusters["prod"];
    let mut live = nodes(&[("w-1", "worker", true), ("unmanaged", "worker", true)]);
    let unmounted = |live: &ObservedCluster, binds: &[&str]| {
        let seen =
            ObservedKubelet { config: Some(Vec::new()), ..ObservedKubelet::new(KubeletManager::Rke, texts(binds)) };
        kubelet(cluster, live, Ok(&seen)).expect("a plan").unmounted
    };
    assert_eq!(unmounted(&live, &[]), ["w-1: its agent has not told"]);
    let mut report = |reason: &str| {
        let status = format!(
            "{{observedGeneration: 1, checked: \"2026-01-01T00:00:00Z\", verdict: Failed, reason: {reason}, message: x}}"
        );
        let report = Some(serde_yaml::from_str(&status).expect("a report"));
        let seen = crate::model::ObservedStorage { wanted: None, generation: 1, report };
        live.storage.insert("w-1".to_owned(), seen);
        unmounted(&live, &[])
    };
    assert_eq!(report("NotMounted"), ["w-1: NotMounted"]);
    assert_eq!(report("ProbeTimeout"), ["w-1: ProbeTimeout"]);
    assert!(report("KubeletBindMissing").is_empty(), "what is missing is what is added");
}

#[test]
fn two_states_are_compared_by_their_binds() {
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let compared = |base: &str, head: &str| {
        let plans = crate::plan::compare(&state(&storing(base)), &state(&storing(head)), now);
        plans.into_iter().next().and_then(|plan| Some((plan.kubelet?, plan.refusals)))
    };
    let one = "    extraBinds: [\"/data:/data:rslave\"]\n";
    let two = "    extraBinds: [\"/data:/data:rslave\", \"/opt:/opt\"]\n";
    let (added, refusals) = compared(one, two).expect("a difference");
    assert_eq!((added.changes.len(), added.changes[0].to.as_deref()), (1, Some("/opt:/opt")));
    assert!(refusals.iter().any(|refusal| refusal.guard == crate::model::Guard::KubeletRestart), "{refusals:?}");
    let (dropped, refusals) = compared(two, one).expect("a note");
    assert!(!dropped.changes_anything() && dropped.notes[0].contains("stays where it is live") && refusals.is_empty());
    let (removed, _) = compared(two, &format!("{one}    removeBinds: [/opt]\n")).expect("a removal");
    assert_eq!(removed.changes[0].from.as_deref(), Some("/opt:/opt"));
    assert!(compared(one, one).is_none());
}
