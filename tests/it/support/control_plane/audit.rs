//! What the API server itself says was written, by whom and in which order.

use std::fs;

use serde_json::Value;

use super::ControlPlane;

/// Whole answers, because the resource version in them is the order in which etcd took the writes.
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: RequestResponse
    verbs: [create, update, patch]
    resources: [{group: '', resources: [nodes]}, {group: coordination.k8s.io, resources: [leases]}]
  - level: None
";
pub(super) const POLICY_FILE: &str = "audit-policy.yaml";
pub(super) const LOG_FILE: &str = "audit.log";

/// A write that the API server carried out.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// Its place in the history of the whole cluster.
    pub(crate) version: u64,
    /// `nodes` or `leases`.
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) agent: String,
    /// When the request came in.
    pub(crate) at: jiff::Timestamp,
    /// The object after it, as far as the client asked to see it.
    pub(crate) object: Value,
}

impl ControlPlane {
    /// What was written since the server started, in order; only for one that is audited.
    pub(crate) fn writes(&self) -> Vec<Write> {
        let path = self.path(LOG_FILE);
        let log = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("an audit event"));
        let mut writes: Vec<Write> = events
            .filter(|event| event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300))
            .map(write)
            .collect();
        writes.sort_by_key(|write| (write.version, write.at));
        // A write that changes nothing answers with the version of the one before.
        writes.dedup_by_key(|write| write.version);
        writes
    }
}

fn write(event: Value) -> Write {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version =
        event["responseObject"]["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
    Write {
        version: version.unwrap_or_else(|| panic!("no version in {event}")),
        resource: text(&event["objectRef"]["resource"]),
        name: text(&event["objectRef"]["name"]),
        agent: text(&event["userAgent"]),
        at: text(&event["requestReceivedTimestamp"]).parse().expect("a time"),
        object: event["responseObject"].clone(),
    }
}
