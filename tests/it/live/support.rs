//! What the live tests share: control planes, and how a test asks what became of them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::openb::{self, Machine};
use crate::support::run::{self, Running};
use crate::support::state::State;

/// The cluster of all tests that leave its API server running and alone. Each test keeps to nodes, groups and custom
/// labels with a prefix of its own.
pub(super) fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<ControlPlane> = OnceLock::new();
    SHARED.get_or_init(|| ControlPlane::start_named("shared"))
}

/// A state with one cluster, `prod`, reached as drover.
pub(super) fn state_of(plane: &ControlPlane) -> State {
    let state = State::new();
    state.cluster("prod", &connection(plane, Role::Drover));
    state
}

/// The connection of a Cluster document.
pub(super) fn connection(plane: &ControlPlane, role: Role) -> String {
    format!("{{kubeconfig: {}}}", plane.kubeconfig(role).display())
}

/// A node as the API server has it.
pub(super) fn node(plane: &ControlPlane, name: &str) -> Value {
    plane.get(&format!("/api/v1/nodes/{name}"))
}

/// The labels of a node but for those of its kubelet, as `cpu=true org=ads`.
pub(super) fn labels(plane: &ControlPlane, name: &str) -> String {
    labels_of(&node(plane, name))
}

fn labels_of(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let others = labels.filter(|(key, _)| !key.starts_with("kubernetes.io/"));
    others.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(" ")
}

/// The resource versions of nodes: the same as before, when nothing was written.
pub(super) fn versions<'n>(
    plane: &ControlPlane,
    names: impl IntoIterator<Item = &'n str>,
) -> BTreeMap<&'n str, String> {
    let version = |name| (name, text(&node(plane, name)["metadata"]["resourceVersion"]).to_owned());
    names.into_iter().map(version).collect()
}

/// The labels and the resource version of every node.
pub(super) fn all_nodes(plane: &ControlPlane) -> BTreeMap<String, (String, String)> {
    let list: Value = serde_json::from_str(&plane.raw_list()).expect("a list");
    let nodes = list["items"].as_array().expect("a list").iter().map(|node| {
        let metadata = &node["metadata"];
        (text(&metadata["name"]).to_owned(), (labels_of(node), text(&metadata["resourceVersion"]).to_owned()))
    });
    nodes.collect()
}

/// The changes of a plan in JSON, as `gpu-1 org: ads -> rec`; `none` stands for no label.
pub(super) fn changes(plan: &Value) -> Vec<String> {
    let clusters = plan["clusters"].as_array().expect("clusters").iter();
    let nodes = clusters.flat_map(|cluster| cluster["nodes"].as_array().expect("nodes"));
    let changes = nodes.flat_map(|node| {
        let value = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        node["changes"].as_array().expect("changes").iter().map(move |change| {
            let (from, to) = (value(&change["from"]), value(&change["to"]));
            format!("{} {}: {from} -> {to}", text(&node["node"]), text(&change["key"]))
        })
    });
    changes.collect()
}

/// The guards that a cluster's plan runs into, as `name: message | detail | detail`.
pub(super) fn refusals(cluster: &Value) -> Vec<String> {
    let refusals = cluster["refusals"].as_array().expect("refusals").iter().map(|refusal| {
        let details = refusal["details"].as_array().into_iter().flatten().map(|detail| format!(" | {}", text(detail)));
        format!("{}: {}{}", text(&refusal["guard"]), text(&refusal["message"]), details.collect::<String>())
    });
    refusals.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}

/// A cluster of its own with the GPU machines of the trace, and a state that asks for labels of each.
pub(super) struct Herd {
    pub(super) plane: ControlPlane,
    pub(super) state: State,
    pub(super) machines: Vec<Machine>,
}

impl Herd {
    /// None where the trace is not there.
    pub(super) fn start() -> Option<Self> {
        let machines = openb::machines()?;
        let plane = ControlPlane::start_named("herd");
        plane.create_nodes(machines.iter().map(NodeSpec::from));
        let state = state_of(&plane);
        let documents = machines.iter().map(|Machine { name, model, .. }| {
            format!(
                "---\napiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: prod}}\nspec: {{devices: {{gpu: {model}}}}}\n"
            )
        });
        state.write("state/nodes/prod.yaml", documents.collect::<String>());
        Some(Self { plane, state, machines })
    }

    /// Begins to label all machines, and waits until a quarter of them is done.
    pub(super) fn begin_apply(&self, arguments: &[&str]) -> Running {
        let mut command = run::command(self.state.root());
        command.args(["apply", "--yes", "--allow", "too-many-nodes"]).args(arguments);
        let running = Running::start(&mut command);
        running.says(&format!("/{} nodes", self.machines.len()));
        running
    }

    /// How many machines carry the labels that state asks for.
    pub(super) fn labelled(&self) -> usize {
        let nodes = all_nodes(&self.plane);
        let is_done = |machine: &&Machine| nodes[&machine.name].0 == format!("gpu=true gpu-type={}", machine.model);
        self.machines.iter().filter(is_done).count()
    }
}
