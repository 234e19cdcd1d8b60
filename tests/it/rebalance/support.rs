//! A fleet with two groups of GPU machines, whose live objects lie in a dump.

use std::fmt::Write;

use crate::support::state::State;

/// `ads` has three idle machines, `web` one that is full, and a pod of `web` waits.
pub(super) struct Fleet {
    pub(super) state: State,
    nodes: Vec<(String, String, String)>,
    pods: String,
}

/// What the scheduler says of a pod that only lacks a machine.
pub(super) const SHORT: &str =
    "0/4 nodes are available: 1 Insufficient nvidia.com/gpu, 3 node(s) didn't match Pod's node affinity/selector.";

/// Twenty minutes ago, and some seconds so that the age in minutes is sure.
fn created() -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(20 * 60 + 20)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Fleet {
    /// With these settings of the rebalancer (YAML flow text).
    pub(super) fn new(rebalance: &str) -> Self {
        let state = State::new();
        state.write(
            "state/fleet.yaml",
            "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  writeBack: {name: drover, email: drover@example.org}\n",
        );
        state.cluster("prod", "{file: live.yaml}").group("ads").group("web");
        state.edit("state/clusters/prod.yaml", "spec:\n", &format!("spec:\n  rebalance: {rebalance}\n"));
        let mut fleet = Self { state, nodes: Vec::new(), pods: String::new() };
        for name in ["a1", "a2", "a3"] {
            fleet.node(name, "ads", "A100");
        }
        fleet.node("w1", "web", "A100");
        fleet.running("busy", "w1", "web", 8);
        fleet
    }

    /// A machine with eight GPUs of a model.
    pub(super) fn node(&mut self, name: &str, group: &str, model: &str) -> &mut Self {
        let text = format!(
            "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: prod}}\nspec:\n  group: {group}  # for now\n  shareable: true\n  devices: {{gpu: {model}}}\n"
        );
        self.state.write(&format!("state/nodes/prod/{name}.yaml"), text);
        self.nodes.push((name.to_owned(), group.to_owned(), model.to_owned()));
        self
    }

    /// Writes to the document of a machine.
    pub(super) fn edit(&mut self, name: &str, from: &str, to: &str) -> &mut Self {
        self.state.edit(&format!("state/nodes/prod/{name}.yaml"), from, to);
        self
    }

    fn pod(&mut self, name: &str, group: &str, selector: &str, gpus: u64, rest: &str) {
        let created = created();
        let _ = write!(
            self.pods,
            "- kind: Pod\n  metadata: {{name: {name}, namespace: jobs, creationTimestamp: \"{created}\"}}\n  spec:\n    nodeSelector: {{org: {group}{selector}}}\n    containers: [{{name: c, resources: {{requests: {{cpu: \"1\", nvidia.com/gpu: \"{gpus}\"}}}}}}]\n{rest}"
        );
    }

    pub(super) fn running(&mut self, name: &str, node: &str, group: &str, gpus: u64) -> &mut Self {
        self.pod(name, group, "", gpus, &format!("    nodeName: {node}\n  status: {{phase: Running}}\n"));
        self
    }

    /// A pod that waits, and what the scheduler says of it.
    pub(super) fn waiting(&mut self, name: &str, group: &str, selector: &str, says: &str) -> &mut Self {
        let status = format!(
            "  status:\n    phase: Pending\n    conditions:\n    - {{type: PodScheduled, status: \"False\", reason: Unschedulable, message: \"{says}\"}}\n"
        );
        self.pod(name, group, selector, 8, &status);
        self
    }

    /// Writes the dump and commits everything.
    pub(super) fn commit(&self) -> &Self {
        let mut text = "kind: List\nitems:\n".to_owned();
        for (name, group, model) in &self.nodes {
            let _ = write!(
                text,
                "- kind: Node\n  metadata: {{name: {name}, labels: {{org: {group}, gpu: \"true\", gpu-type: {model}, share: \"true\"}}}}\n  status:\n    allocatable: {{cpu: \"64\", memory: 512Gi, nvidia.com/gpu: \"8\"}}\n    conditions: [{{type: Ready, status: \"True\"}}]\n"
            );
        }
        self.state.write("state/live.yaml", text + &self.pods);
        self.state.commit("the fleet");
        self
    }

    /// The decision of a dry run.
    #[track_caller]
    pub(super) fn decision(&self) -> serde_json::Value {
        let ran = self.state.drover(&["rebalance", "--format", "json"]).expect(0);
        ran.json()["clusters"][0].clone()
    }

    /// The machines that a dry run moves.
    #[track_caller]
    pub(super) fn moves(&self) -> Vec<String> {
        let decision = self.decision();
        let moves = decision["decision"]["moves"].as_array().cloned().unwrap_or_default();
        moves.iter().map(|made| format!("{} -> {}", made["node"], made["to"]).replace('"', "")).collect()
    }

    /// Why machines were not taken for the first need that is not served.
    #[track_caller]
    pub(super) fn rejected(&self) -> Vec<String> {
        let decision = self.decision();
        let rejected = decision["decision"]["unserved"][0]["rejected"].as_array().cloned().unwrap_or_default();
        rejected.iter().map(|rejected| rejected["why"].as_str().unwrap_or_default().to_owned()).collect()
    }
}
