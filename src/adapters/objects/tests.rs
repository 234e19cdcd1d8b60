use super::*;

#[test]
fn a_node_is_reduced_to_what_counts() {
    let text = r#"{"metadata": {"name": "n", "labels": {"org": "ads"}, "managedFields": [
        {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}},
        {"manager": "drover", "operation": "Update", "time": "2026-01-01T00:00:00Z",
         "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:org": {}}}}}]},
        "status": {"allocatable": {"cpu": "31500m", "nvidia.com/gpu": "8"},
                   "nodeInfo": {"bootID": "6f0c", "kernelVersion": "5.15.0", "containerRuntimeVersion": "docker://20.10.24",
                                "architecture": "amd64"},
                   "conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["x"]}]}}"#;
    let node: NodeObject = serde_json::from_str(text).expect("a node");
    let observed = node.clone().observed();
    assert_eq!(observed.allocatable, Allocatable { cpu_milli: 31_500, gpus: 8 });
    assert_eq!((observed.ready, observed.set_by_drover("org"), observed.managers.len()), (Some(true), true, 1));
    assert_eq!((&*observed.boot_id, &*observed.kernel, &*observed.runtime), ("6f0c", "5.15.0", "docker://20.10.24"));
    let dumped = serde_yaml::to_string(&node.compact()).expect("yaml");
    let again: NodeObject = serde_yaml::from_str(&dumped).expect("a dumped node");
    assert_eq!(again.observed(), observed, "a dump keeps what counts:\n{dumped}");
}

#[test]
fn quantities() {
    for (text, milli) in [("4", 4000), ("500m", 500), ("1.5", 1500), ("2k", 2_000_000), ("", 0), ("x", 0)] {
        assert_eq!(Quantity::Text(text.into()).milli(), milli, "{text}");
    }
}

#[test]
fn a_pod_as_work() {
    let text = r#"{"metadata": {"name": "p", "namespace": "jobs", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"scheduling.k8s.io/group-name": "gang"}},
        "spec": {"tolerations": [{"key": "a", "operator": "Exists"}, {"operator": "Exists", "effect": "NoExecute"}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}],
            "containers": [{"resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": 2}}}, {}],
            "overhead": {"cpu": "100m"}},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}}"#;
    let pod: PodObject = serde_json::from_str(text).expect("a pod");
    let dumped = serde_yaml::to_string(&pod.clone().compact()).expect("yaml");
    let work = pod.work().expect("it waits");
    let requests = [("cpu", 4100), ("memory", 1 << 30), ("nvidia.com/gpu", 2)];
    assert_eq!(work.requests, requests.map(|(name, amount)| (name.to_owned(), amount)).into());
    assert_eq!((work.gang.as_deref(), work.node.as_deref(), work.of_daemon_set), (Some("jobs/gang"), None, false));
    assert!(work.says.as_deref().is_some_and(|says| says.contains("Insufficient")));
    assert_eq!((work.tolerations[0].value.as_deref(), work.tolerations[1].key.as_deref()), (None, None));
    let again: PodObject = serde_yaml::from_str(&dumped).expect("a dumped pod");
    assert_eq!(again.work(), Some(work), "a dump keeps what counts:\n{dumped}");
}

#[test]
fn ended_and_unbound_pods_do_not_count() {
    let pod = |text: &str| serde_json::from_str::<PodObject>(text).expect("a pod").observed();
    assert!(pod(r#"{"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}"#).is_some());
    assert!(
        pod(r#"{"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Succeeded"}}"#).is_none()
    );
    assert!(pod(r#"{"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}}"#).is_none());
}

#[test]
fn a_pod_that_is_deleted_waits_no_longer() {
    let pod = |node: &str| {
        let text = format!(
            r#"{{"metadata": {{"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, "spec": {{"nodeName": "{node}"}},
                "status": {{"phase": "Pending"}}}}"#
        );
        serde_json::from_str::<PodObject>(&text).expect("a pod").compact().work()
    };
    assert!(pod("").is_none(), "a finalizer may keep it for hours, and the scheduler passes it over");
    assert!(pod("n").is_some(), "it holds its machine until it is gone");
}
