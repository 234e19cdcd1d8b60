//! Kubernetes Events on nodes, so that `kubectl describe node` tells what drover did.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::call::call_error;
use super::{CallError, KubeCluster};

/// Writes Events about the nodes of a cluster.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events that name this process as their reporter.
    pub fn new(cluster: &KubeCluster, identity: &str) -> Self {
        let reporter = Reporter { controller: "drover".into(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(cluster.client.clone(), reporter) }
    }

    /// Tells something about a node. `reason` is one word in CamelCase; a warning is for a person to look into.
    pub async fn tell(&self, node: &str, reason: &str, note: String, warning: bool) -> Result<(), CallError> {
        /// The API server takes at most 1 kB.
        const LONGEST: usize = 1000;
        let note = note.chars().scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= LONGEST).then_some(c)
        });
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note.collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        // Of nodes, kubelets and kubectl take the name for the uid.
        let regarding = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        };
        self.recorder.publish(&event, &regarding).await.map_err(|error| call_error(&error))
    }
}
