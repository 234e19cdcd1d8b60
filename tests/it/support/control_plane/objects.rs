//! Nodes and pods as tests describe them, and as the API server wants them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

const GPU: &str = "nvidia.com/gpu";

#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) name: String,
    /// Further ones than the kubelet's own.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) cpu: String,
    pub(crate) memory: String,
    pub(crate) gpus: u32,
}

impl NodeSpec {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), labels: BTreeMap::new(), cpu: "32".into(), memory: "256Gi".into(), gpus: 0 }
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn resources(mut self, cpu: impl Into<String>, memory: impl Into<String>) -> Self {
        self.cpu = cpu.into();
        self.memory = memory.into();
        self
    }

    pub(crate) fn gpus(mut self, gpus: u32) -> Self {
        self.gpus = gpus;
        self
    }

    /// As a kubelet registers itself: its own labels, and a status that says ready.
    pub(super) fn object(&self) -> Value {
        let mut labels = self.labels.clone();
        for (key, value) in [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
        ] {
            labels.insert(key.into(), value.into());
        }
        let mut resources = json!({ "cpu": self.cpu, "memory": self.memory, "pods": "110" });
        if self.gpus > 0 {
            resources[GPU] = json!(self.gpus.to_string());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name, "labels": labels },
            "status": {
                "capacity": resources,
                "allocatable": resources,
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "" }],
            },
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PodSpec {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) node: String,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Option<Value>,
    pub(crate) phase: String,
}

impl PodSpec {
    /// A running pod in the namespace `default`, bound to the node.
    pub(crate) fn on_node(name: impl Into<String>, node: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: "default".into(),
            node: node.into(),
            node_selector: BTreeMap::new(),
            affinity: None,
            phase: "Running".into(),
        }
    }

    pub(crate) fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    pub(crate) fn selecting(mut self, key: &str, value: &str) -> Self {
        self.node_selector.insert(key.into(), value.into());
        self
    }

    /// `required` is the list of nodeSelectorTerms.
    pub(crate) fn node_affinity(mut self, required: &Value) -> Self {
        let terms = json!({ "nodeSelectorTerms": required });
        self.affinity = Some(json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } }));
        self
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.phase = phase.into();
        self
    }

    pub(super) fn object(&self) -> Value {
        let container = json!({ "name": "main", "image": "example.org/none" });
        let mut spec =
            Map::from_iter([("containers".into(), json!([container])), ("nodeName".into(), json!(self.node))]);
        if !self.node_selector.is_empty() {
            spec.insert("nodeSelector".into(), json!(self.node_selector));
        }
        if let Some(affinity) = &self.affinity {
            spec.insert("affinity".into(), affinity.clone());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": spec,
        })
    }

    pub(super) fn status(&self) -> Value {
        let ready = if self.phase == "Running" { "True" } else { "False" };
        let condition = json!({ "type": "Ready", "status": ready });
        json!({ "status": { "phase": self.phase, "conditions": [condition] } })
    }
}
