//! A small fleet under git, and what its plans say.

use serde_json::Value;

use crate::support::run::Ran;
use crate::support::state::State;

/// A state of one cluster `prod` whose live nodes `n1` and `n2` lie in a dump beside it; nothing is committed.
pub(super) fn fleet() -> State {
    let state = State::new();
    state.cluster("prod", "{file: live.yaml}").write("state/live.yaml", live(&["n1", "n2"]));
    state.node("prod", "n1", "{devices: {gpu: A100}}").node("prod", "n2", "{devices: {cpu: true}}");
    state
}

/// A dump of bare nodes.
pub(super) fn live(nodes: &[&str]) -> String {
    let items = nodes.iter().map(|node| format!("- metadata: {{name: {node}}}\n"));
    format!("kind: NodeList\nitems:\n{}", items.collect::<String>())
}

/// The plan that a run printed as JSON.
#[derive(Debug)]
pub(super) struct Plan(pub Value);

impl Plan {
    /// Plans with `--format json` and these arguments.
    #[track_caller]
    pub(super) fn of(state: &State, arguments: &[&str]) -> Self {
        Self::read(state.drover(&[&["plan", "--format", "json"], arguments].concat()))
    }

    /// The plan of a run that went well.
    #[track_caller]
    pub(super) fn read(ran: Ran) -> Self {
        Self(ran.expect(0).json())
    }

    pub(super) fn commit(&self) -> Option<&str> {
        self.0["state"]["commit"].as_str()
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.0["state"]["dirty"].as_bool().expect("a plan says whether it is dirty")
    }

    pub(super) fn digest(&self) -> &str {
        self.0["state"]["digest"].as_str().expect("a plan has a digest")
    }

    /// The value that a label of a node gets, in any cluster.
    pub(super) fn to(&self, node: &str, key: &str) -> Option<&str> {
        self.change(node, key)?["to"].as_str()
    }

    /// The change of a label.
    pub(super) fn change(&self, node: &str, key: &str) -> Option<&Value> {
        let clusters = self.0["clusters"].as_array().expect("clusters");
        let mut nodes = clusters.iter().flat_map(|cluster| cluster["nodes"].as_array().expect("nodes"));
        let changes = nodes.find(|found| found["node"] == node)?["changes"].as_array()?;
        changes.iter().find(|change| change["key"] == key)
    }
}

/// Checks an error: its exit code, that it says each of these, and that it is one that a person can read.
#[track_caller]
pub(super) fn fails(ran: Ran, says: &[&str]) -> Ran {
    let ran = ran.expect(1);
    for part in says {
        assert!(ran.err.contains(part), "the error does not say {part:?}:\n{}", ran.err);
    }
    assert!(!ran.err.contains('\u{fffd}'), "control characters in the error:\n{}", ran.err);
    ran
}
