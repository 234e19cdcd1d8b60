//! What people read: the script itself, its explanation, problems of states, and what is missing afterwards.

use std::path::Path;
use std::process::Command;

use super::states::{MOUNT, REST, STORAGE, script, state, whole};
use crate::support::run::drover;

const EXAMPLE: &str = "examples/bootstrap/state";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_example_gives_a_script_and_explains_it() {
    for node in ["gpu-017", "nfs-01"] {
        let explained = drover(root(), ["bootstrap", node, "--explain", "--state", EXAMPLE]).expect(0).out;
        insta::assert_snapshot!(format!("explain-{node}"), explained);
    }
    let ran = drover(root(), ["bootstrap", "gpu-017", "--state", EXAMPLE]).expect(0);
    insta::assert_snapshot!("script-gpu-017", ran.out);
    let readme = std::fs::read_to_string(root().join("examples/bootstrap/README.md")).expect("a README");
    assert!(readme.contains(&format!("--state {EXAMPLE}")));
}

#[test]
fn scripts_have_nothing_that_shellcheck_would_mend() {
    let containerd = REST.replace("type: docker", "type: containerd");
    let states = [
        (whole(), "cp-1"),
        (whole(), "nfs-1"),
        (state(&[STORAGE, "  bootstrap:", MOUNT, &containerd]), "gpu-1"),
        (state(&[STORAGE]), "gpu-1"),
        (state(&["  bootstrap: {disableSwap: true}\n"]), "gpu-1"),
        (state(&["  bootstrap: {packages: [chrony]}\n"]), "gpu-1"),
        (state(&["  bootstrap: {join: {command: 'true', joined: [/x]}}\n"]), "gpu-1"),
    ];
    if Command::new("shellcheck").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has shellcheck");
        eprintln!("skipped: shellcheck is not installed");
        return;
    }
    for (state, node) in &states {
        state.write("bootstrap.sh", script(state, node));
        let checked = Command::new("shellcheck").arg(state.path("bootstrap.sh")).output().expect("shellcheck runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn what_a_state_gets_wrong_is_told_with_its_line() {
    let join = "  bootstrap:\n    join:\n";
    for (sections, says) in [
        (vec!["  bootstrap:", MOUNT], "the cluster has no `storage` that this mount could be for"),
        (
            vec![STORAGE, "  bootstrap:", "\n    mount: {source: x, type: ext4, mountPoint: /mnt/shared}\n"],
            "`storage.fileSystems` does not count the type `ext4`",
        ),
        (
            vec![STORAGE, "  bootstrap:", "\n    mount: {source: other, type: tmpfs, mountPoint: /mnt/shared}\n"],
            "`storage.sources` does not allow other",
        ),
        (
            vec![STORAGE, "  bootstrap:", "\n    mount: {source: shared, type: tmpfs, mountPoint: /mnt/other}\n"],
            "`storage.link` is /mnt/shared/k8s, which lies outside of /mnt/other",
        ),
        (
            vec![STORAGE, "  bootstrap:", "\n    mount: {source: shared, type: tmpfs}\n"],
            "the storage is reached by a link",
        ),
        (
            vec![STORAGE, "  bootstrap: {runtime: {type: docker, dataRoot: /data/k8s/docker}}\n"],
            "the runtime would keep its images on the distributed file system",
        ),
        (
            vec!["  kubelet: {manager: rke, rke: {config: cluster.yml}}\n  bootstrap: {runtime: {type: containerd}}\n"],
            "RKE1 runs the kubelet in Docker",
        ),
        (
            vec!["  bootstrap: {images: [{mirror: a.b/, naming: rancher, images: [a:1]}]}\n"],
            "nothing says which runtime keeps the images",
        ),
        (
            vec!["  bootstrap: {runtime: {type: docker}, images: [{mirror: a.b/, naming: platform, images: [a:1]}]}\n"],
            "nothing says which prefix `platform` takes off",
        ),
        (
            vec![
                "  bootstrap: {runtime: {type: docker}, images: [{mirror: a.b/, naming: rancher, images: [a/b:1, a-b:1]}]}\n",
            ],
            "have the same name in the mirror: a.b/a-b:1",
        ),
        (
            vec![
                "  bootstrap: {runtime: {type: docker}, images: [{mirror: a.b/, naming: rancher, files: [no.txt]}]}\n",
            ],
            "the list of images cannot be read",
        ),
        (vec![join, "      command: join {token}\n"], "nothing says where {token} comes from"),
        (vec![join, "      command: join {tokn}\n"], "{tokn} stands for nothing"),
        (vec![join, "      command: join\n      token: {file: /root/t}\n"], "the command has no {token}"),
        (
            vec![join, "      command: join {token}\n      token: {file: /root/t, command: cat}\n"],
            "either from a command or from a file",
        ),
    ] {
        let state = state(&sections);
        let ran = state.drover(&["validate"]).expect(1);
        assert!(ran.out.contains(says), "{says}\n{}", ran.out);
        assert!(ran.out.contains("clusters/prod.yaml:"), "{}", ran.out);
        assert!(ran.out.contains("help"), "{says} comes with advice: {}", ran.out);
        state.drover(&["bootstrap", "gpu-1"]).expect(1);
    }
}

#[test]
fn a_secret_in_the_state_is_refused_and_not_shown() {
    let token = "q7f3kd.9x0m2c4v6b8n1a3s";
    for section in [
        format!("    join: {{command: 'kubeadm join 10.0.0.1:6443 --token {token}'}}\n"),
        format!("    join: {{command: 'x {{token}}', token: {{command: 'echo {token}'}}}}\n"),
    ] {
        let ran = state(&["  bootstrap:\n", &section]).drover(&["validate"]).expect(1);
        assert!(ran.out.contains("this looks like a token or password"), "{}", ran.out);
        assert!(ran.out.contains("revoke it"), "{}", ran.out);
        assert!(!ran.out.contains(token) && ran.out.contains("*****"), "{}", ran.out);
    }
    let mount = MOUNT.replace("mode=0755", "secret=AQB3xyz==");
    let ran = state(&[STORAGE, "  bootstrap:", &mount]).drover(&["validate"]).expect(1);
    assert!(ran.out.contains("secretfile=") && !ran.out.contains("AQB3xyz"), "{}", ran.out);
}

#[test]
fn nodes_and_clusters_are_named_as_elsewhere() {
    let state = whole();
    let ran = state.drover(&["bootstrap", "gpu-2"]).expect(1);
    assert!(
        ran.err.contains("the state has no node \"gpu-2\"") && ran.err.contains("did you mean gpu-1?"),
        "{}",
        ran.err
    );
    state.cluster("dev", "{file: ../live.yaml}").node("dev", "gpu-1", "{}");
    let ran = state.drover(&["bootstrap", "gpu-1"]).expect(1);
    assert!(ran.err.contains("choose with --cluster dev, or choose with --cluster prod"), "{}", ran.err);
    let ran = state.drover(&["bootstrap", "gpu-1", "--cluster", "dev"]).expect(1);
    assert!(ran.err.contains("the cluster dev does not say how its machines are set up"), "{}", ran.err);
    state.drover(&["bootstrap", "gpu-1", "--cluster", "prod", "--out", "x.sh"]).expect(0);
    assert!(state.read("x.sh").starts_with("#!/usr/bin/env bash\n"));
}

#[test]
fn the_status_tells_what_a_machine_lacks() {
    let state = whole();
    let image = |name: &str| format!("{{names: [\"{name}\"]}}");
    let enough = ["docker.io/rancher/pause:3.7", "rancher/agent:v1", "registry.example.org/platform/notebook:1"]
        .map(image)
        .join(", ");
    let many = (0..50).map(|n| image(&format!("a/b:{n}"))).collect::<Vec<_>>().join(", ");
    let node = |name: &str, runtime: &str, labels: &str, images: &str| {
        format!(
            "- {{kind: Node, metadata: {{name: {name}, labels: {{{labels}}}}}, status: {{nodeInfo: {{containerRuntimeVersion: \"{runtime}\", kernelVersion: 6.1.0}}, images: [{images}]}}}}\n"
        )
    };
    let live = |nodes: &[String]| state.write("live.yaml", format!("kind: List\nitems:\n{}", nodes.concat()));
    let lacks = || {
        let status = state.drover(&["status", "--format", "json"]).json();
        let nodes = status["clusters"][0]["nodes"].as_array().expect("nodes").clone();
        nodes
            .into_iter()
            .map(|node| (node["node"].as_str().expect("a name").to_owned(), node["lacks"].clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    live(&[
        node("cp-1", "docker://24", "mysql: 'true'", &enough),
        node("gpu-1", "docker://24", "", &many),
        node("nfs-1", "docker://24", "", ""),
    ]);
    assert!(
        lacks().values().all(serde_json::Value::is_null),
        "a full list and an empty one prove nothing: {:?}",
        lacks()
    );
    live(&[
        node("cp-1", "containerd://1.7", "", &enough),
        node("gpu-1", "docker://24", "", &image("rancher/pause:3.7")),
    ]);
    let json = serde_json::json!([{"what": "runtime", "wanted": "docker", "runs": "containerd://1.7"}, {"what": "roles", "roles": ["mysql"]}]);
    assert_eq!(lacks()["cp-1"], json);
    let json = serde_json::json!([{"what": "images", "images": ["rancher/agent:v1", "registry.example.org/platform/notebook:1"]}]);
    assert_eq!(lacks()["gpu-1"], json);
    let text = state.drover(&["status"]).out;
    assert!(text.contains("lacks      cp-1: runs containerd://1.7, not docker; no role mysql"), "{text}");
    assert!(text.contains("runs       containerd://1.7 (1), docker://24 (1); kernel 6.1.0 (2)"), "{text}");
}
