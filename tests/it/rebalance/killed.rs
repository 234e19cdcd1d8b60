//! The rebalancer is killed at any point, and people push while it decides: no decision twice, none applied without a
//! commit, each valid in the commit below its own.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::SHORT;
use crate::git::many;
use crate::support::control_plane::{ControlPlane, JSON, MERGE_PATCH, NodeSpec, Role};
use crate::support::run;
use crate::support::state::State;

const GROUPS: [&str; 3] = ["ads", "web", "lab"];
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A repository on a server, whose cluster has one machine that follows the work from group to group.
struct Roving {
    state: State,
    round: usize,
}

impl Roving {
    fn new(connection: &str) -> Self {
        let state = State::new();
        state.cluster("prod", connection);
        for group in GROUPS {
            state.group(group);
        }
        // A machine does not go back at once where it came from; with three groups it never has to.
        state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  rebalance: {patience: 1ms}\n");
        state.write(
            "state/fleet.yaml",
            "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  writeBack: {name: drover, email: drover@example.org}\n",
        );
        state.node("prod", "roving", "{group: ads, shareable: true, devices: {gpu: A100}}");
        state.write(".gitignore", ".cache/\nfleet.git/\nlive.yaml\n").commit("one machine");
        state.git(&["clone", "--quiet", "--bare", ".", "fleet.git"]);
        Self { state, round: 0 }
    }

    fn group(&self) -> &'static str {
        GROUPS[self.round % GROUPS.len()]
    }

    fn remote(&self, arguments: &[&str]) -> String {
        self.state.git(&[&["--git-dir", "fleet.git"], arguments].concat())
    }

    /// The commands of a pass: a decision into the repository, and where `apply` is asked for the repository into the
    /// cluster. Both read nothing but the server.
    fn command(&self, apply: bool) -> Command {
        let script = match apply {
            false => "exec \"$0\" rebalance --push --repo fleet.git --rev main",
            true => {
                "\"$0\" rebalance --push --repo fleet.git --rev main && exec \"$0\" apply --yes --repo fleet.git --rev main"
            }
        };
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", script, env!("CARGO_BIN_EXE_drover")]).current_dir(self.state.root()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.state.root());
        command.env("DROVER_CACHE", self.state.path(".cache")).stdin(Stdio::null());
        command
    }

    /// The groups that the machine ever had in a commit of the branch, the newest first.
    fn committed(&self) -> Vec<String> {
        let log = self.remote(&["log", "--format=", "-p", "-U0", "main", "--", "state/nodes/prod/roving.yaml"]);
        let groups = log.lines().filter_map(|line| line.strip_prefix("+spec: {group: "));
        groups.map(|rest| rest.split(',').next().unwrap_or_default().to_owned()).collect()
    }

    /// Kills passes at points that spread over all of one, and asks again for what was asked for.
    fn killed(
        &mut self,
        kills: usize,
        apply: bool,
        mut wait_in: impl FnMut(&str, &str),
        live: impl Fn() -> Option<String>,
    ) {
        let begun = Instant::now();
        self.round = 1;
        wait_in("ads", "web");
        let ran = run::finish(&mut self.command(apply));
        assert_eq!(ran.code, 0, "{ran:?}");
        let whole = begun.elapsed();
        for kill in 0..kills {
            let before = self.group();
            self.round += 1;
            wait_in(before, self.group());
            let mut running =
                self.command(apply).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("drover runs");
            // Spread over the run by a step that has no common part with it.
            thread::sleep(whole.mul_f64((kill as f64 * 0.618).fract() * 1.1).min(Duration::from_secs(20)));
            let script = format!("kill -KILL -- -{}", running.id());
            let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
            let _ = running.kill();
            let _ = running.wait();
            // What git leaves too when it is killed, and a person removes.
            let _ = std::fs::remove_file(self.state.path("fleet.git/refs/heads/main.lock"));
            // Nothing is true in the cluster that no commit asks for.
            let committed = self.committed();
            if let Some(live) = live() {
                assert!(committed[..2].contains(&live), "kill {kill}: {live} of {:?}", &committed[..2]);
            }
            assert!(committed.len() == self.round || committed.len() == self.round + 1, "kill {kill}: {committed:?}");
            let ran = run::finish(&mut self.command(apply));
            assert_eq!(ran.code, 0, "kill {kill}: {ran:?}");
            let committed = self.committed();
            assert_eq!(
                (committed.len(), committed[0].as_str()),
                (self.round + 1, self.group()),
                "kill {kill}: {ran:?}"
            );
            assert!(live().is_none_or(|live| !apply || live == self.group()), "kill {kill}: {ran:?}");
        }
        self.remote(&["fsck", "--full", "--strict", "--no-dangling"]);
        let log = self.remote(&["log", "--format=%B", "main"]);
        let decisions: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("Drover-Decision: ")).collect();
        assert_eq!(decisions.len(), kills + 1, "each need was served once");
        assert_eq!(decisions.iter().collect::<BTreeSet<_>>().len(), kills + 1, "no decision twice");
        self.state.drover(&["audit", "--verify", "--repo", "fleet.git", "--rev", "main"]).expect(0);
    }
}

#[test]
fn killed_at_any_point_a_recorded_cluster_is_rebalanced_once() {
    let mut roving = Roving::new("{file: live.yaml}");
    // The dump lies beside the repository, as what an exporter writes anew: it is no part of the history.
    let dump = roving.state.path("live.yaml");
    roving.state.edit("state/clusters/prod.yaml", "live.yaml", &dump.display().to_string());
    roving.state.commit("where the dump lies");
    roving.state.git(&["push", "--quiet", "fleet.git", "main"]);
    let created =
        (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(20)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let kills = many("DROVER_KILLS", 40);
    let write = |group: &str, waits: &str| {
        let text = format!(
            "kind: List\nitems:\n- kind: Node\n  metadata: {{name: roving, labels: {{org: {group}, gpu: \"true\", gpu-type: A100}}}}\n  status: {{allocatable: {{cpu: \"64\", memory: 512Gi, nvidia.com/gpu: \"8\"}}, conditions: [{{type: Ready, status: \"True\"}}]}}\n\
             - kind: Pod\n  metadata: {{name: train, namespace: jobs, creationTimestamp: \"{created}\"}}\n  spec: {{nodeSelector: {{org: {waits}}}, containers: [{{resources: {{requests: {{nvidia.com/gpu: \"8\"}}}}}}]}}\n  status: {{phase: Pending, conditions: [{{type: PodScheduled, status: \"False\", reason: Unschedulable, message: \"{SHORT}\"}}]}}\n"
        );
        std::fs::write(&dump, text).expect("a dump");
    };
    roving.killed(kills, false, write, || None);
}

#[test]
fn killed_at_any_point_nothing_is_applied_without_a_commit() {
    let plane = ControlPlane::start_named("killed");
    plane.create_nodes([NodeSpec::new("roving").gpus(8)]);
    let body = json!({"spec": {"taints": null}});
    let path = "/api/v1/nodes/roving";
    plane.request(Role::Admin, "PATCH", path, Some((MERGE_PATCH, &body))).accepted(path);
    let mut roving = Roving::new(&format!("{{kubeconfig: {}}}", plane.kubeconfig(Role::Drover).display()));
    roving.state.drover(&["apply", "--yes", "--repo", "fleet.git", "--rev", "main"]).expect(0);
    let wait_in = |_: &str, group: &str| wait_in(&plane, group);
    let live = || plane.get(path)["metadata"]["labels"]["org"].as_str().map(str::to_owned);
    roving.killed(many("DROVER_KILLS", 40), true, wait_in, live);
}

/// The pod that waits is now one of this group.
fn wait_in(plane: &ControlPlane, group: &str) {
    let path = format!("{PODS}/train");
    let now = json!({"gracePeriodSeconds": 0});
    let _ = plane.request(Role::Admin, "DELETE", &path, Some((JSON, &now)));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train"}, "spec": {
        "nodeSelector": {"org": group}, "containers": [{"name": "c", "image": "c", "resources": {
            "requests": {"nvidia.com/gpu": "8"}, "limits": {"nvidia.com/gpu": "8"}}}]}});
    plane.request(Role::Admin, "POST", PODS, Some((JSON, &pod))).accepted(PODS);
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": SHORT});
    let body = json!({"status": {"conditions": [condition]}});
    let status = format!("{path}/status");
    plane.request(Role::Admin, "PATCH", &status, Some((MERGE_PATCH, &body))).accepted(&status);
}
