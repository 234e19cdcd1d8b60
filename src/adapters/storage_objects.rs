//! NodeStorage objects in the form of the Kubernetes API: what drover asks of a machine's storage, and what its agent saw.

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kube::Watched;
use super::objects::Metadata;
use crate::model::{ObservedStorage, StorageReport, StorageWanted};

/// The storage of one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStorageObject {
    /// Its metadata: the name is that of the node, and the generation moves with the spec alone.
    #[serde(default)]
    pub metadata: Metadata,
    /// What drover asks for.
    #[serde(default, skip_serializing_if = "Part::is_absent")]
    pub spec: Part<StorageWanted>,
    /// What the agent saw.
    #[serde(default, skip_serializing_if = "Part::is_absent")]
    pub status: Part<StorageReport>,
}

/// A part of an object. One that cannot be read, as another version of drover may have written it, spoils neither the
/// rest of its object nor the list that it came in.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Part<T> {
    /// There is none.
    #[default]
    Absent,
    /// As it was written.
    Read(T),
    /// It is there and cannot be read, and why.
    Unreadable(String),
}

impl<T> Part<T> {
    /// What was read, if anything was.
    pub fn read(&self) -> Option<&T> {
        match self {
            Self::Read(part) => Some(part),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// What was read, if anything was.
    pub fn into_read(self) -> Option<T> {
        match self {
            Self::Read(part) => Some(part),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(Self::Absent) };
        Ok(serde_json::from_value(value).map_or_else(|error| Self::Unreadable(error.to_string()), Self::Read))
    }
}

impl<T: Serialize> Serialize for Part<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.read().serialize(serializer)
    }
}

impl NodeStorageObject {
    /// The node that it is about.
    pub fn node(&self) -> &str {
        &self.metadata.name
    }

    /// Drops what the dump of an object does not need.
    pub fn compact(mut self) -> Self {
        self.metadata = self.metadata.named();
        self
    }

    /// What drover decides by.
    pub fn observed(self) -> ObservedStorage {
        ObservedStorage {
            wanted: self.spec.into_read(),
            generation: self.metadata.generation,
            report: self.status.into_read(),
        }
    }

    /// What the agent saw, where it has looked at what is asked for now.
    pub fn current_report(&self) -> Option<&StorageReport> {
        self.status.read().filter(|report| report.observed_generation == self.metadata.generation)
    }
}

impl Watched for NodeStorageObject {
    const WHAT: &'static str = "nodestorages";
    const PATH: &'static str = "/apis/drover.dev/v1/nodestorages?";

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::objects::List;

    #[test]
    fn one_bad_object_spoils_no_list() {
        let text = r#"{"metadata": {"resourceVersion": "9"}, "items": [
            {"metadata": {"name": "a", "generation": 2, "resourceVersion": "7"},
             "spec": {"root": "/data/k8s", "fileSystems": ["nfs4"], "timeoutSeconds": 10},
             "status": {"observedGeneration": 1, "checked": "2026-01-01T00:00:00Z", "verdict": "Verified",
                        "reason": "StorageVerified", "message": "fine"}},
            {"metadata": {"name": "b"}, "spec": {"root": "data"}, "status": {"verdict": "Splendid"}},
            {"metadata": {"name": "c"}, "spec": null}
        ]}"#;
        let list: List<NodeStorageObject> = serde_json::from_str(text).unwrap();
        let [a, b, c] = list.items.as_slice() else { panic!("three objects") };
        assert_eq!((a.node(), a.metadata.generation, a.metadata.resource_version.as_str()), ("a", 2, "7"));
        assert_eq!(a.spec.read().unwrap().root.as_str(), "/data/k8s");
        assert!(a.status.read().is_some() && a.current_report().is_none(), "it looked at what was asked before");
        assert!(matches!((&b.spec, &b.status), (Part::Unreadable(_), Part::Unreadable(_))));
        assert_eq!((&c.spec, &c.status), (&Part::Absent, &Part::Absent));
    }
}
