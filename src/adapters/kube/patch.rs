//! Labels written to one node, each only while it still has the value that the plan expects to replace.
//!
//! A write is a JSON Patch whose `test` operations the API server checks in the same transaction as the change, so
//! that a field which somebody changed after the plan was made is never overwritten, and a heartbeat never matters.

use std::sync::atomic::AtomicBool;

use http::{Request, header};
use serde_json::{Value, json};

use super::{CallError, KubeCluster};
use crate::adapters::objects::NodeObject;
use crate::error::Failure;
use crate::model::observed::FIELD_MANAGER;
use crate::plan::{Change, NodePlan};

/// How often a patch is made anew after somebody changed the node in between.
const ATTEMPTS: usize = 5;

/// What became of a node's changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patched {
    /// How many labels were written, or already had their value.
    pub written: usize,
    /// How many agents were asked for another storage, or already were.
    pub asked: usize,
    /// Labels that somebody else changed since the plan was made; they were left alone.
    pub stale: Vec<Stale>,
    /// What somebody else asked the agent for since the plan was made; it was left alone.
    pub stale_storage: Vec<Stale>,
}

/// A label that no longer has the value that the plan expects to replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The label.
    pub key: String,
    /// What the plan expected.
    pub expected: Option<String>,
    /// What is live now; none also where the node itself is gone.
    pub found: Option<String>,
    /// Whether the node is gone.
    pub gone: bool,
}

/// Why a node could not be written.
#[derive(Debug, Clone)]
pub struct PatchError {
    /// What went wrong.
    pub failure: Failure,
    /// Whether every other node of the cluster would fail alike.
    pub fatal: bool,
}

impl KubeCluster {
    /// Makes the changes of one node. Safe to repeat, and safe to be interrupted. Once `stop` is set, a server that is
    /// away is waited for no longer.
    pub async fn patch(&self, plan: &NodePlan, stop: &AtomicBool) -> Result<Patched, PatchError> {
        let mut outcome = Patched::default();
        let mut changes: Vec<&Change> = plan.changes.iter().collect();
        let mut has_labels = true;
        for _ in 0..ATTEMPTS {
            let body = Value::Array(operations(&changes, has_labels));
            match self.send(&plan.node, &body, stop).await {
                Ok(()) => {
                    outcome.written += changes.len();
                    return Ok(outcome);
                }
                Err(CallError::Refused { code: 404, .. }) => {
                    outcome.stale.extend(changes.iter().map(|change| stale(change, None, true)));
                    return Ok(outcome);
                }
                // A test failed: read the node, and go on with what still holds.
                Err(error @ CallError::Refused { code: 409 | 422, .. }) => {
                    let labels = match self.node(&plan.node, stop).await {
                        Ok(live) => live.metadata.labels,
                        // It went just now: the next attempt says so.
                        Err(CallError::Refused { code: 404, .. }) => continue,
                        Err(error) => return Err(self.patch_error(&error)),
                    };
                    let before = (changes.len(), has_labels);
                    has_labels = !labels.is_empty();
                    changes.retain(|change| {
                        let found = labels.get(&change.key);
                        if found == change.to.as_ref() {
                            outcome.written += 1;
                        } else if found != change.from.as_ref() {
                            outcome.stale.push(stale(change, found.cloned(), false));
                        }
                        found != change.to.as_ref() && found == change.from.as_ref()
                    });
                    if changes.is_empty() {
                        return Ok(outcome);
                    }
                    // No test can have failed: the server means the change itself, and would say so every time.
                    if matches!(error, CallError::Refused { code: 422, .. }) && before == (changes.len(), has_labels) {
                        return Err(self.patch_error(&error));
                    }
                }
                Err(error) => return Err(self.patch_error(&error)),
            }
        }
        let failure = Failure::new(format!("the node changed under every one of {ATTEMPTS} attempts to write it"));
        Err(PatchError { failure, fatal: false })
    }

    async fn send(&self, node: &str, operations: &Value, stop: &AtomicBool) -> Result<(), CallError> {
        let body =
            serde_json::to_vec(operations).map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        let request = Request::patch(format!("/api/v1/nodes/{node}?fieldManager={FIELD_MANAGER}"))
            .header(header::CONTENT_TYPE, "application/json-patch+json")
            .header(header::ACCEPT, ACCEPT_METADATA)
            .body(body)
            .map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        self.write(request, stop).await.map(drop)
    }

    async fn node(&self, name: &str, stop: &AtomicBool) -> Result<NodeObject, CallError> {
        let request = Request::get(format!("/api/v1/nodes/{name}")).body(Vec::new());
        let request = request.map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        let body = self.write(request, stop).await?;
        serde_json::from_slice(&body).map_err(|error| CallError::Unreachable { cause: error.to_string() })
    }

    fn patch_error(&self, error: &CallError) -> PatchError {
        let fatal = error.is_lost() || error.is_denied() || *error == CallError::Fenced;
        PatchError { failure: self.explain("patch", "nodes", error), fatal }
    }
}

/// The answer to a write is not read: its metadata alone is the least that the server can send.
pub(super) const ACCEPT_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

fn stale(change: &Change, found: Option<String>, gone: bool) -> Stale {
    Stale { key: change.key.clone(), expected: change.from.clone(), found, gone }
}

fn operations(changes: &[&Change], has_labels: bool) -> Vec<Value> {
    if !has_labels {
        let added: serde_json::Map<String, Value> =
            changes.iter().filter_map(|change| Some((change.key.clone(), json!(change.to.as_ref()?)))).collect();
        return vec![
            json!({"op": "test", "path": "/metadata/labels", "value": null}),
            json!({"op": "add", "path": "/metadata/labels", "value": added}),
        ];
    }
    changes
        .iter()
        .flat_map(|change| {
            let path = format!("/metadata/labels/{}", change.key.replace('~', "~0").replace('/', "~1"));
            let write = match &change.to {
                Some(value) => json!({"op": "add", "path": path, "value": value}),
                None => json!({"op": "remove", "path": path}),
            };
            [json!({"op": "test", "path": path, "value": change.from}), write]
        })
        .collect()
}
