//! What the agents of machines are asked for, and what they saw: NodeStorage objects.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use http::{Request, header};
use serde_json::{Value, json};

use super::patch::{PatchError, Patched, Stale};
use super::{CallError, JSON, KubeCluster, Watched};
use crate::adapters::storage_objects::NodeStorageObject;
use crate::error::Failure;
use crate::model::observed::FIELD_MANAGER;
use crate::model::storage::{KIND, PLURAL, differences};
use crate::model::{API_VERSION, ObservedStorage, StorageWanted};
use crate::plan::StorageChange;

/// How often a change is tried anew after somebody changed the object in between.
const ATTEMPTS: usize = 5;

/// The storage of the machines of a cluster, by node, or why it could not be looked at.
pub type Storages = Result<BTreeMap<String, ObservedStorage>, String>;

impl KubeCluster {
    /// The storage of all machines.
    pub async fn storages(&self) -> Storages {
        match self.pages::<NodeStorageObject>(PLURAL, NodeStorageObject::PATH).await {
            Ok(objects) => {
                Ok(objects.into_iter().map(|object| (object.node().to_owned(), object.observed())).collect())
            }
            Err(error) => {
                let failure = self.explain("list", PLURAL, &error);
                let advice = failure.advice().map(|advice| format!(" ({advice})")).unwrap_or_default();
                Err(format!("{failure}{advice}"))
            }
        }
    }

    /// The objects themselves; none where the cluster does not know such objects.
    pub async fn storage_objects(&self) -> Result<Vec<NodeStorageObject>, Failure> {
        match self.pages(PLURAL, NodeStorageObject::PATH).await {
            Ok(objects) => Ok(objects),
            Err(CallError::Refused { code: 404, .. }) => Ok(Vec::new()),
            Err(error) => Err(self.explain("list", PLURAL, &error)),
        }
    }

    /// Asks the agent of a node for another storage, if it still is asked for what the plan expects. Safe to repeat.
    pub async fn ask_storage(
        &self,
        node: &str,
        change: &StorageChange,
        stop: &AtomicBool,
    ) -> Result<Patched, PatchError> {
        let mut generation = change.generation;
        for _ in 0..ATTEMPTS {
            let error = match self.send_storage(node, change.to.as_ref(), generation, stop).await {
                Ok(()) => return Ok(Patched { asked: 1, ..Patched::default() }),
                Err(error @ CallError::Refused { code: 404 | 409 | 422, .. }) => error,
                Err(error) => return Err(self.storage_error(change, &error)),
            };
            // It is not what was expected: see what it is.
            let found = match self.storage(node, stop).await {
                Ok(found) => Some(found),
                Err(CallError::Refused { code: 404, .. }) => None,
                Err(error) => return Err(self.storage_error(change, &error)),
            };
            let asked = found.as_ref().and_then(|found| found.wanted.as_ref());
            if asked == change.to.as_ref() {
                return Ok(Patched { asked: 1, ..Patched::default() });
            }
            if asked != change.from.as_ref() {
                return Ok(Patched { stale_storage: stale(change, asked), ..Patched::default() });
            }
            let now = found.map(|found| found.generation);
            if now == generation {
                return Err(self.storage_error(change, &error)); // it was not the precondition
            }
            generation = now;
        }
        let failure = Failure::new(format!("{KIND} {node} changed under every one of {ATTEMPTS} attempts to write it"));
        Err(PatchError { failure, fatal: false })
    }

    async fn send_storage(
        &self,
        node: &str,
        to: Option<&StorageWanted>,
        generation: Option<i64>,
        stop: &AtomicBool,
    ) -> Result<(), CallError> {
        let path = format!("/apis/{API_VERSION}/{PLURAL}");
        let manager = format!("fieldManager={FIELD_MANAGER}");
        let request = match (to, generation) {
            (None, None) => return Ok(()),
            (None, Some(_)) => body(Request::delete(format!("{path}/{node}")), JSON, &json!({})),
            (Some(wanted), None) => {
                let object =
                    json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": node}, "spec": wanted});
                body(Request::post(format!("{path}?{manager}")), JSON, &object)
            }
            (Some(wanted), Some(generation)) => {
                let operations = json!([
                    {"op": "test", "path": "/metadata/generation", "value": generation},
                    {"op": "add", "path": "/spec", "value": wanted},
                ]);
                body(Request::patch(format!("{path}/{node}?{manager}")), "application/json-patch+json", &operations)
            }
        };
        self.write(request?, stop).await.map(drop)
    }

    async fn storage(&self, node: &str, stop: &AtomicBool) -> Result<ObservedStorage, CallError> {
        let request = Request::get(format!("/apis/{API_VERSION}/{PLURAL}/{node}")).body(Vec::new());
        let request = request.map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        let answer = self.write(request, stop).await?;
        let object: NodeStorageObject =
            serde_json::from_slice(&answer).map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        Ok(object.observed())
    }

    fn storage_error(&self, change: &StorageChange, error: &CallError) -> PatchError {
        let verb = match (&change.to, change.generation) {
            (None, _) => "delete",
            (Some(_), None) => "create",
            (Some(_), Some(_)) => "patch",
        };
        let fatal = error.is_lost() || error.is_denied() || *error == CallError::Fenced;
        PatchError { failure: self.explain(verb, PLURAL, error), fatal }
    }
}

fn body(builder: http::request::Builder, media: &str, value: &Value) -> Result<Request<Vec<u8>>, CallError> {
    let unformed = |error: &dyn std::fmt::Display| CallError::Unreachable { cause: error.to_string() };
    let bytes = serde_json::to_vec(value).map_err(|error| unformed(&error))?;
    let request = builder.header(header::CONTENT_TYPE, media).header(header::ACCEPT, JSON).body(bytes);
    request.map_err(|error| unformed(&error))
}

/// What somebody else asks the agent for, where the plan expects something else.
fn stale(change: &StorageChange, found: Option<&StorageWanted>) -> Vec<Stale> {
    let stale = |(key, expected, found)| Stale { key, expected, found, gone: false };
    differences(change.from.as_ref(), found).into_iter().map(stale).collect()
}
