//! Kubernetes Events on nodes, so that `kubectl describe node` tells what drover did.
//!
//! Written as kubelets write theirs. The recorder of kube's runtime speaks events.k8s.io, where API servers before 1.21
//! take no Event on a node that kubectl would find.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::call::call_error;
use super::{CallError, KubeCluster};
use crate::adapters::clock;

/// The namespace of Events on what has no namespace.
const NAMESPACE: &str = "default";
/// The API server takes at most 1 kB.
const LONGEST: usize = 1000;

impl KubeCluster {
    /// Tells something about a node. `reason` is one word in CamelCase; a warning is for a person to look into.
    pub async fn event(&self, node: &str, reason: &str, note: &str, warning: bool) -> Result<(), CallError> {
        let now = clock::now();
        let short = note.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST).last();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{node}.{:x}", now.as_nanosecond())),
                namespace: Some(NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            // Of nodes, kubelets and kubectl take the name for the uid.
            involved_object: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                uid: Some(node.to_owned()),
                ..ObjectReference::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(note[..short.unwrap_or(0)].to_owned()),
            type_: Some(if warning { "Warning" } else { "Normal" }.into()),
            source: Some(EventSource { component: Some("drover".into()), host: None }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        let api = Api::<Event>::namespaced(self.client.clone(), NAMESPACE);
        let params = PostParams::default();
        let created = tokio::time::timeout(self.timeout, api.create(&params, &event)).await;
        created.map_err(|_| CallError::TimedOut)?.map(drop).map_err(|error| call_error(&error))
    }
}
