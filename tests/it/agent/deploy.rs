//! What clusters need for agents: generated where it can be, and taken by a real API server.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::{ask, condition, reported};
use super::{shared, spec, why};
use crate::support::control_plane::{JSON, NodeSpec, Role};
use crate::support::machine::Machine;
use crate::support::run::{drover, finish};

fn deploy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"))
}

fn documents(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(deploy().join(name)).expect("a file");
    serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect("YAML")).collect()
}

#[test]
fn what_is_generated_is_up_to_date() {
    let fresh = tempfile::tempdir().expect("a folder");
    drover(fresh.path(), ["schema", "--deploy", "."]).expect(0);
    let mut names: Vec<_> =
        fs::read_dir(fresh.path()).expect("files").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["agent-rbac.yaml", "nodestorages.yaml"]);
    for name in names {
        let read = |folder: &Path| fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            read(fresh.path()) == read(deploy()),
            "deploy/{name:?} is out of date; run: cargo run -- schema --deploy deploy"
        );
    }
}

#[test]
fn the_daemon_set_is_this_version_and_reaches_the_machine_through_proc_alone() {
    let set = &documents("agent.yaml")[0];
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], concat!("drover:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["command"], json!(["drover-agent"]));
    assert_eq!((&pod["hostPID"], pod.get("volumes"), container.get("volumeMounts")), (&json!(true), None, None));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"].get("privileged"), None);
    assert_eq!(pod["serviceAccountName"], documents("agent-rbac.yaml")[0]["metadata"]["name"]);
}

/// What the image is made from has the libraries that both programs ask for.
#[test]
fn the_programs_need_nothing_that_the_image_lacks() {
    for program in [env!("CARGO_BIN_EXE_drover"), env!("CARGO_BIN_EXE_drover-agent")] {
        let ran = finish(Command::new("ldd").arg(program)).expect(0);
        for line in ran.out.lines() {
            let library = line.split_whitespace().next().unwrap_or_default();
            let base = ["linux-vdso.", "libc.", "libm.", "libgcc_s.", "libz.", "/lib64/ld-linux-"];
            assert!(base.iter().any(|known| library.starts_with(known)), "{program} needs {library}");
        }
    }
    let image = fs::read_to_string(deploy().join("Dockerfile")).expect("a file");
    assert!(image.contains("/target/release/drover /src/target/release/drover-agent "), "both are in it");
}

/// The rights of the DaemonSet, and those without one of them.
#[test]
fn its_capabilities_are_enough_and_each_of_them_is_needed() {
    let Some(machine) = Machine::start() else { return };
    let (plane, node) = (shared(), "pod-1");
    machine.sh("mkdir $F/data; mount -t tmpfs volume $F/data");
    plane.create_nodes([NodeSpec::new(node)]);
    let kubelet = machine.kubelet_on_host("slave");
    let security = &documents("agent.yaml")[0]["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let capabilities: Vec<String> =
        serde_json::from_value(security["capabilities"]["add"].clone()).expect("capabilities");
    let asked = |directory: &str, owner: &str| {
        let directories = json!({directory: {"mode": "2775", "owner": owner}});
        spec(&machine.text("data"), json!({"kubelet": true, "writeTest": true, "directories": directories}))
    };
    let generation = ask(plane, node, &asked("all/of/it", "1000:2000"));
    let agent = machine.agent_in_pod(plane, node, &capabilities);
    let report = reported(plane, node, |report| report["observedGeneration"] == generation);
    assert_eq!((&report["verdict"], &report["kubelet"]), (&json!("Verified"), &json!("Same")), "{report}");
    assert_eq!(machine.sh("stat -c '%a %u:%g' $F/data/all/of/it"), "2775 1000:2000\n");
    assert_eq!(condition(plane, node)["status"], "True");
    Machine::signal(&agent, "TERM");
    agent.end().expect(0);

    // A folder of somebody else, in whose place nobody but root could write.
    machine.sh("mkdir $F/data/of-another; chown 3000 $F/data/of-another; chmod 0700 $F/data/of-another");
    for without in &capabilities {
        let fewer: Vec<String> = capabilities.iter().filter(|name| *name != without).cloned().collect();
        let directory = format!("of-another/without-{without}");
        let generation = ask(plane, node, &asked(&directory, "1000:2000"));
        let agent = machine.agent_in_pod(plane, node, &fewer);
        let report = reported(plane, node, |report| report["observedGeneration"] == generation);
        let (reason, says) = match without.as_str() {
            "SYS_PTRACE" => ("AgentFailed", "as root with the capability SYS_PTRACE"),
            "DAC_OVERRIDE" => ("DirectoryMissing", "cannot be looked at: Permission denied"),
            "FSETID" => ("WrongDirectory", "has the mode 0775, and should have 2775"),
            _ => ("WrongDirectory", "it belongs to 0:0, and should to 1000:2000"),
        };
        assert_eq!(why(&report).0, reason, "without {without}: {report}");
        assert!(why(&report).1.contains(says), "without {without}: {report}");
        Machine::signal(&agent, "TERM");
        agent.end().expect(0);
    }
    kubelet.end();
}

#[test]
fn an_api_server_takes_all_of_it_and_people_see_what_matters() {
    let plane = shared();
    // Twice: as somebody who upgrades would.
    for _ in 0..2 {
        for name in ["rbac.yaml", "nodestorages.yaml", "agent-rbac.yaml", "agent.yaml"] {
            plane.kubectl(["apply", "-f", deploy().join(name).to_str().expect("text")]);
        }
    }
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodestorages.drover.dev";
    let definition = plane.get(path);
    let conditions = definition["status"]["conditions"].as_array().expect("conditions");
    assert!(!conditions.iter().any(|c| c["type"] == "NonStructuralSchema" && c["status"] == "True"), "{conditions:?}");
    assert!(conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True"), "{conditions:?}");

    let create = |name: &str, spec: Value| {
        let object =
            json!({"apiVersion": "drover.dev/v1", "kind": "NodeStorage", "metadata": {"name": name}, "spec": spec});
        plane.request(Role::Drover, "POST", "/apis/drover.dev/v1/nodestorages", Some((JSON, &object)))
    };
    let good = json!({
        "root": "/data/k8s", "link": "/mnt/k8s", "local": true, "fileSystems": ["nfs4"], "sources": ["a:/b*"], "kubelet": true,
        "directories": {"a/b": {"mode": "0755", "owner": "1:2"}, "c": {}}, "minFreeBytes": 9_000_000_000_000_u64,
        "writeTest": true, "timeoutSeconds": 10,
    });
    let made = create("shown-1", good.clone()).accepted("create").json();
    assert_eq!(made["spec"], good, "nothing is dropped");
    for (field, bad) in [
        ("root", json!("data")),
        ("timeoutSeconds", json!("ten")),
        ("fileSystems", json!("nfs4")),
        ("directories", json!({"a": {"mode": "rwx"}})),
        ("root", Value::Null),
    ] {
        let mut spec = good.clone();
        spec[field] = bad;
        let reply = create("shown-2", spec);
        assert_eq!(reply.status, 422, "{field}: {}", reply.body);
    }
    let status = json!({"status": {
        "observedGeneration": 1, "checked": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z", "verdict": "Failed",
        "reason": "NotMounted", "message": "nothing is mounted there", "kubelet": "Stale", "freeBytes": 9_000_000_000_000_u64,
        "totalBytes": 90_000_000_000_000_u64, "bootId": "b", "agent": "0.1.0", "directories": {"a/b": "is not there"},
        "mount": {"mountPoint": "/", "fileSystem": "ext4", "source": "/dev/sda1", "readOnly": true},
    }});
    let path = "/apis/drover.dev/v1/nodestorages/shown-1/status";
    let body = ("application/merge-patch+json", &status);
    let told = plane.request(Role::Agent, "PATCH", path, Some(body)).accepted("report").json();
    assert_eq!(told["status"], status["status"], "nothing is dropped");
    let shown = plane.kubectl(["get", "nst", "shown-1"]);
    let words: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "ROOT", "VERDICT", "REASON", "SINCE", "CHECKED", "AGE"]);
    assert_eq!(words[1][..4], ["shown-1", "/data/k8s", "Failed", "NotMounted"]);
}
