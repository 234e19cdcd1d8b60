//! What an agent writes: the status of its NodeStorage, and one condition of its Node.

use std::sync::atomic::AtomicBool;

use http::{Request, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::patch::ACCEPT_METADATA;
use super::{CallError, KubeCluster};
use crate::adapters::objects::Metadata;
use crate::error::Failure;
use crate::model::storage::{CONDITION, PLURAL, StorageReport, Verdict};

/// Who the API server says wrote it.
const FIELD_MANAGER: &str = "drover-agent";

/// The condition of a Node as the agent sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageCondition {
    verdict: Verdict,
    reason: &'static str,
    message: String,
    since: Timestamp,
    /// When it was said first; it is not moved, so that saying it again writes nothing.
    said: Timestamp,
}

impl StorageCondition {
    /// What a report comes to.
    pub fn of(report: &StorageReport) -> Self {
        Self {
            verdict: report.verdict,
            reason: report.reason.name(),
            message: report.message.clone(),
            since: report.since.unwrap_or(report.checked),
            said: report.checked,
        }
    }

    /// Whether it says the same, whenever it did.
    pub fn says_what(&self, other: &Self) -> bool {
        let words =
            |condition: &Self| (condition.verdict, condition.reason, condition.message.clone(), condition.since);
        words(self) == words(other)
    }

    fn object(&self) -> Value {
        let status = match self.verdict {
            Verdict::Verified => "True",
            Verdict::Failed => "False",
            Verdict::Unknown => "Unknown",
        };
        json!({
            "type": CONDITION, "status": status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": seconds(self.since), "lastHeartbeatTime": seconds(self.said),
        })
    }
}

/// The API server keeps whole seconds; with more, the same time would look like another one.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl KubeCluster {
    /// Replaces the status of a NodeStorage, as long as it is the object that was looked at and not a later one of the
    /// same name. Safe to repeat.
    pub async fn report_storage(
        &self,
        object: &Metadata,
        report: &StorageReport,
        stop: &AtomicBool,
    ) -> Result<(), CallError> {
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": object.uid},
            {"op": "add", "path": "/status", "value": report},
        ]);
        let path = format!("/apis/drover.dev/v1/{PLURAL}/{}/status", object.name);
        self.patch_status(&path, "application/json-patch+json", &operations, stop).await
    }

    /// Sets the condition of a Node, and leaves all others alone.
    pub async fn set_storage_condition(
        &self,
        node: &str,
        condition: &StorageCondition,
        stop: &AtomicBool,
    ) -> Result<(), CallError> {
        self.patch_condition(node, condition.object(), stop).await
    }

    /// Takes the condition of a Node away, where it has it.
    pub async fn drop_storage_condition(&self, node: &str, stop: &AtomicBool) -> Result<(), CallError> {
        self.patch_condition(node, json!({"type": CONDITION, "$patch": "delete"}), stop).await
    }

    async fn patch_condition(&self, node: &str, condition: Value, stop: &AtomicBool) -> Result<(), CallError> {
        let body = json!({"status": {"conditions": [condition]}});
        let path = format!("/api/v1/nodes/{node}/status");
        self.patch_status(&path, "application/strategic-merge-patch+json", &body, stop).await
    }

    async fn patch_status(&self, path: &str, kind: &str, body: &Value, stop: &AtomicBool) -> Result<(), CallError> {
        let unsent = |error: &dyn std::fmt::Display| CallError::Unreachable { cause: error.to_string() };
        let body = serde_json::to_vec(body).map_err(|error| unsent(&error))?;
        let request = Request::patch(format!("{path}?fieldManager={FIELD_MANAGER}"))
            .header(header::CONTENT_TYPE, kind)
            .header(header::ACCEPT, ACCEPT_METADATA)
            .body(body)
            .map_err(|error| unsent(&error))?;
        self.write(request, stop).await.map(drop)
    }

    /// Why something could not be written, in words.
    pub fn unwritten(&self, what: &str, error: &CallError) -> Failure {
        self.explain("patch", what, error)
    }
}
