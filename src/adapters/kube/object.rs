//! Single objects of any kind, for the adapters that know what is in them.

use std::sync::atomic::AtomicBool;

use http::{Request, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CallError, JSON, KubeCluster};
use crate::error::Failure;
use crate::model::observed::FIELD_MANAGER;

impl KubeCluster {
    /// The text of an object; none where there is no such object.
    pub(in crate::adapters) async fn object(&self, path: &str) -> Result<Option<Vec<u8>>, CallError> {
        let request = Request::get(path).header(header::ACCEPT, JSON).body(Vec::new());
        let request = request.map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok(body)) => Ok(Some(body)),
            Ok(Err(CallError::Refused { code: 404, .. })) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    /// All objects of a kind below a path.
    pub(in crate::adapters) async fn objects<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<Vec<T>, Failure> {
        self.list(what, &format!("{path}?")).await
    }

    /// Changes an object by a merge patch. Where the patch names the version that it was made for, it is safe to repeat.
    pub(in crate::adapters) async fn merge_patch(
        &self,
        path: &str,
        patch: &Value,
        stop: &AtomicBool,
    ) -> Result<(), CallError> {
        let request = Request::patch(format!("{path}?fieldManager={FIELD_MANAGER}"))
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .header(header::ACCEPT, JSON)
            .body(patch.to_string().into_bytes())
            .map_err(|error| CallError::Unreachable { cause: error.to_string() })?;
        self.write(request, stop).await.map(drop)
    }

    /// An error of a call, in words.
    pub(in crate::adapters) fn failure(&self, verb: &str, what: &str, error: &CallError) -> Failure {
        self.explain(verb, what, error)
    }
}
