//! States of machines that can be set up here: the file system is a tmpfs that counts as distributed.

use crate::support::state::State;

/// The token that nothing may show.
pub(crate) const TOKEN: &str = "abcdef.0123456789abcdef";

pub(crate) const STORAGE: &str = "
  storage:
    root: /data/k8s
    link: /mnt/shared/k8s
    fileSystems: [tmpfs]
    sources: [shared*]
    directories:
      - path: kubeflow/minio
      - {path: monitoring/grafana, mode: \"0777\", owner: \"472:0\"}
      - {path: infra/mysql, mode: \"0750\", roles: [mysql]}
";

pub(crate) const MOUNT: &str = "
    mount:
      packages: [nfs-common]
      source: shared fs
      type: tmpfs
      options: [size=8m, mode=0755]
      mountPoint: /mnt/shared
";

pub(crate) const REST: &str = "
    packages: [chrony]
    runtime:
      type: docker
      packages: [docker-ce]
      dataRoot: /var/docker
      registryMirrors: [https://mirror.example.org]
    disableFirewall: true
    disableSwap: true
    images:
      - mirror: hub.example.org/mirror/
        naming: rancher
        files: [images.txt]
      - mirror: hub.example.org/platform-mirror/
        naming: platform
        registry: registry.example.org/platform/
        images: [registry.example.org/platform/notebook:1]
    join:
      command: join-cluster --token \"{token}\" --name '{node}'
      token: {command: cat /root/join-token}
      wait: 3s
";

/// A cluster `prod` with these sections, and the nodes gpu-1, cp-1 (a role) and nfs-1 (an exception).
pub(crate) fn state(sections: &[&str]) -> State {
    let state = State::new();
    let text = format!(
        "apiVersion: drover.dev/v1\nkind: Cluster\nmetadata: {{name: prod}}\nspec:\n  connection: {{file: ../live.yaml}}\n{}",
        sections.concat()
    );
    state.write("state/clusters/prod.yaml", text);
    state.write("state/images.txt", "# two\nrancher/pause:3.7\nrancher/agent:v1 # and a comment\n");
    state.node("prod", "gpu-1", "{}").node("prod", "cp-1", "{platform: [mysql]}");
    if sections.concat().contains("storage:") {
        state.node("prod", "nfs-1", "{storage: {local: true, link: /export/k8s, reason: it serves the file system}}");
    }
    state
}

/// The whole of it.
pub(crate) fn whole() -> State {
    state(&[STORAGE, "  bootstrap:", MOUNT, REST])
}

/// The script for a node of a state.
#[track_caller]
pub(crate) fn script(state: &State, node: &str) -> String {
    state.drover(&["bootstrap", node]).expect(0).out
}
