//! The label vocabulary: which keys drover owns on managed nodes, and which labels a Node document asks for.

use std::collections::BTreeMap;

use super::fleet::VocabularySpec;
use super::node::{Gpu, NodeSpec, Workload};
use super::{LabelKey, LabelValue};

/// A field of a Node document that asks for a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `spec.group`
    Group,
    /// `spec.shareable`
    Shareable,
    /// `spec.devices.NAME`
    Device(&'static str),
    /// `spec.workloads[N]`
    Workload(usize),
    /// `spec.platform[N]`
    Platform(usize),
    /// `spec.labels.KEY`
    Label(LabelKey),
}

/// The keys that drover owns on managed nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    spec: VocabularySpec,
    keys: BTreeMap<LabelKey, &'static str>,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::new(VocabularySpec::default())
    }
}

impl Vocabulary {
    /// The vocabulary that a Fleet configures. A key named twice counts once; validation reports it.
    pub fn new(spec: VocabularySpec) -> Self {
        let mut keys = BTreeMap::new();
        for role in &spec.platform {
            keys.insert(role.clone(), "spec.platform");
        }
        for (key, field) in fixed(&spec) {
            keys.insert(key.clone(), field);
        }
        Self { spec, keys }
    }

    /// The configured keys.
    pub fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    /// The field of a Node document that says this key, if it belongs to the vocabulary.
    pub fn field_of(&self, key: &str) -> Option<&'static str> {
        self.keys.get(key).copied()
    }

    /// Whether the key belongs to drover on every managed node.
    pub fn owns(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The key of the resource group.
    pub fn group(&self) -> &LabelKey {
        &self.spec.group
    }

    /// The keys that attract work to a machine.
    pub fn attracts_work(&self) -> [&LabelKey; 4] {
        [&self.spec.group, &self.spec.train, &self.spec.notebook, &self.spec.service]
    }

    /// The control-plane roles.
    pub fn platform(&self) -> &[LabelKey] {
        &self.spec.platform
    }

    /// The labels that a Node document asks for, with the field that asks. `org` is the value of its group.
    pub fn labels_of(&self, node: &NodeSpec, org: Option<&LabelValue>) -> Vec<(LabelKey, LabelValue, Field)> {
        let spec = &self.spec;
        let mut labels = Vec::with_capacity(8 + node.labels.len());
        let mut yes = |key: &LabelKey, field| labels.push((key.clone(), LabelValue::yes(), field));
        if node.shareable {
            yes(&spec.share, Field::Shareable);
        }
        for (on, key, name) in [
            (node.devices.cpu, &spec.cpu, "cpu"),
            (node.devices.vgpu, &spec.vgpu, "vgpu"),
            (node.devices.rdma, &spec.rdma, "rdma"),
        ] {
            if on {
                yes(key, Field::Device(name));
            }
        }
        if !node.devices.gpu.is_none() {
            yes(&spec.gpu, Field::Device("gpu"));
        }
        for (index, workload) in node.workloads.iter().enumerate() {
            yes(self.workload_key(*workload), Field::Workload(index));
        }
        for (index, role) in node.platform.iter().enumerate() {
            yes(role, Field::Platform(index));
        }
        if let Some(org) = org {
            labels.push((spec.group.clone(), org.clone(), Field::Group));
        }
        if let Gpu::Model(model) = &node.devices.gpu {
            labels.push((spec.gpu_type.clone(), model.clone(), Field::Device("gpu")));
        }
        labels.extend(node.labels.iter().map(|(key, value)| (key.clone(), value.clone(), Field::Label(key.clone()))));
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|a, b| a.0 == b.0);
        labels
    }

    /// The key of a kind of work.
    pub fn workload_key(&self, workload: Workload) -> &LabelKey {
        match workload {
            Workload::Train => &self.spec.train,
            Workload::Notebook => &self.spec.notebook,
            Workload::Service => &self.spec.service,
        }
    }
}

/// Every key with its field in a Fleet, and its place in that where the field is a list.
pub fn meanings(spec: &VocabularySpec) -> impl Iterator<Item = (&LabelKey, &'static str, Option<usize>)> {
    let single = [
        (&spec.cpu, "cpu"),
        (&spec.gpu, "gpu"),
        (&spec.gpu_type, "gpuType"),
        (&spec.vgpu, "vgpu"),
        (&spec.rdma, "rdma"),
        (&spec.train, "train"),
        (&spec.notebook, "notebook"),
        (&spec.service, "service"),
        (&spec.group, "group"),
        (&spec.share, "share"),
    ];
    let platform = spec.platform.iter().enumerate().map(|(index, key)| (key, "platform", Some(index)));
    single.into_iter().map(|(key, field)| (key, field, None)).chain(platform)
}

/// The keys that have a field of their own.
pub fn fixed(spec: &VocabularySpec) -> [(&LabelKey, &'static str); 10] {
    [
        (&spec.cpu, "spec.devices.cpu"),
        (&spec.gpu, "spec.devices.gpu"),
        (&spec.gpu_type, "spec.devices.gpu"),
        (&spec.vgpu, "spec.devices.vgpu"),
        (&spec.rdma, "spec.devices.rdma"),
        (&spec.train, "spec.workloads"),
        (&spec.notebook, "spec.workloads"),
        (&spec.service, "spec.workloads"),
        (&spec.group, "spec.group"),
        (&spec.share, "spec.shareable"),
    ]
}

/// Whether a key lies in a domain that belongs to Kubernetes or to drover itself, never to a state repository.
pub fn is_reserved(key: &LabelKey) -> bool {
    const DOMAINS: [&str; 3] = ["kubernetes.io", "k8s.io", "drover.dev"];
    key.prefix().is_some_and(|prefix| {
        DOMAINS
            .iter()
            .any(|domain| prefix == *domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::known;

    #[test]
    fn a_node_asks_for_the_labels_of_the_platform() {
        let node: NodeSpec = serde_yaml::from_str(
            "{shareable: true, devices: {cpu: true, gpu: A100, vgpu: false, rdma: true},
              workloads: [train, notebook], platform: [mysql], labels: {rack: r12}}",
        )
        .expect("a spec");
        let labels = Vocabulary::default().labels_of(&node, Some(&known("ads")));
        let text: Vec<String> = labels.iter().map(|(key, value, _)| format!("{key}={value}")).collect();
        assert_eq!(
            text.join(" "),
            "cpu=true gpu=true gpu-type=A100 mysql=true notebook=true org=ads rack=r12 rdma=true share=true train=true"
        );
    }

    #[test]
    fn reserved_domains() {
        for key in [
            "kubernetes.io/os",
            "node-role.kubernetes.io/worker",
            "beta.kubernetes.io/arch",
            "x.k8s.io/y",
            "drover.dev/x",
        ] {
            assert!(is_reserved(&known(key)), "{key}");
        }
        for key in ["rack", "example.org/rack", "notkubernetes.io/x", "nvidia.com/gpu.product"] {
            assert!(!is_reserved(&known(key)), "{key}");
        }
    }
}
