//! A dump of live objects: what `drover snapshot` or `kubectl get nodes,pods -A -o yaml` writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use super::node_images::NodeImagesObject;
use super::objects::{NodeObject, PodObject};
use super::storage_objects::NodeStorageObject;
use crate::error::Failure;
use crate::model::observed::SeenImages;
use crate::model::work::PodLife;
use crate::model::{API_VERSION, ObservedCluster, ObservedKubelet, ObservedPod, PodWork, storage};

/// The live objects of a cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dump {
    /// Its nodes.
    pub nodes: ObservedCluster,
    /// The binds of its kubelets, where they were recorded.
    pub kubelet: Option<ObservedKubelet>,
    /// Its pods that are bound to a node.
    pub pods: Vec<ObservedPod>,
    /// Its pods that have not ended, as work.
    pub work: Vec<PodWork>,
    /// The images of its nodes.
    pub images: BTreeMap<String, SeenImages>,
    /// All its pods, also those that have ended.
    pub lives: Vec<PodLife>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Item>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Node(Typed<NodeObject>),
    Pod(Typed<PodObject>),
    Storage(Typed<NodeStorageObject>),
    Kubelet(Typed<KubeletBinds>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    object: T,
}

/// The kind of the document that records the binds of kubelets: of what holds them, nothing else is written down.
const KUBELET_BINDS: &str = "KubeletBinds";

#[derive(Serialize, Deserialize)]
struct KubeletBinds {
    spec: ObservedKubelet,
}

/// Reads a dump, in YAML or JSON. `name` is what errors call it.
pub fn read(name: &str, text: &str) -> Result<Dump, Failure> {
    let broken = |error: &(dyn std::error::Error + 'static)| {
        Failure::caused(format!("{name} is not a dump of Kubernetes objects"), error)
            .hint("write one with `drover snapshot` or `kubectl get nodes,pods -A -o yaml`")
    };
    let mut dump = Dump::default();
    if text.trim_start().starts_with('{') {
        let value: Value = serde_json::from_str(text).map_err(|error| broken(&error))?;
        take(&mut dump, value).map_err(|error| broken(&error))?;
    } else {
        for document in serde_yaml::Deserializer::from_str(text) {
            let value = Value::deserialize(document).map_err(|error| broken(&error))?;
            take(&mut dump, value).map_err(|error| broken(&error))?;
        }
    }
    if dump.nodes.nodes.is_empty() {
        return Err(Failure::new(format!("{name} holds no nodes"))
            .hint("write a dump with `drover snapshot` or `kubectl get nodes,pods -A -o yaml`"));
    }
    let reports = dump.nodes.storage.values().filter_map(|seen| seen.report.as_ref());
    dump.nodes.recorded = reports.map(|report| report.checked).max();
    Ok(dump)
}

fn take(dump: &mut Dump, value: Value) -> Result<(), serde_yaml::Error> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (kind.as_str(), value) {
        ("Node", value) => {
            let (name, images) = NodeImagesObject::deserialize(&value)?.seen();
            dump.images.insert(name, images);
            let node = serde_yaml::from_value::<NodeObject>(value)?.observed();
            dump.nodes.nodes.insert(node.name.clone(), node);
        }
        ("Pod", value) => {
            let pod = serde_yaml::from_value::<PodObject>(value)?;
            dump.work.extend(pod.clone().work());
            dump.lives.push(pod.clone().life());
            dump.pods.extend(pod.observed());
        }
        (storage::KIND, value) => {
            let object = serde_yaml::from_value::<NodeStorageObject>(value)?;
            dump.nodes.storage.insert(object.node().to_owned(), object.observed());
        }
        (KUBELET_BINDS, value) => dump.kubelet = Some(serde_yaml::from_value::<KubeletBinds>(value)?.spec),
        (_, Value::Mapping(mut list)) => {
            let item_kind = kind.strip_suffix("List").unwrap_or_default();
            if let Some(Value::Sequence(items)) = list.remove("items") {
                for mut item in items {
                    // The items of a NodeList do not repeat their kind.
                    if let Value::Mapping(map) = &mut item
                        && !map.contains_key("kind")
                    {
                        map.insert("kind".into(), item_kind.into());
                    }
                    take(dump, item)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Writes a dump.
pub fn write(
    nodes: Vec<NodeObject>,
    pods: Vec<PodObject>,
    storages: Vec<NodeStorageObject>,
    kubelet: Option<ObservedKubelet>,
) -> Result<String, serde_yaml::Error> {
    let nodes =
        nodes.into_iter().map(|node| Item::Node(Typed { api_version: "v1", kind: "Node", object: node.compact() }));
    let pods = pods.into_iter().map(|pod| Item::Pod(Typed { api_version: "v1", kind: "Pod", object: pod.compact() }));
    let storages = storages
        .into_iter()
        .map(|object| Item::Storage(Typed { api_version: API_VERSION, kind: storage::KIND, object: object.compact() }));
    let kubelet = kubelet.map(|spec| {
        Item::Kubelet(Typed { api_version: API_VERSION, kind: KUBELET_BINDS, object: KubeletBinds { spec } })
    });
    serde_yaml::to_string(&Written {
        api_version: "v1",
        kind: "List",
        items: nodes.chain(pods).chain(storages).chain(kubelet).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_single_objects_and_json_are_read() {
        let yaml = "apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: a, labels: {cpu: 'true'}}\n---\nkind: Node\nmetadata: {name: b}\n---\nkind: ConfigMap\nmetadata: {name: c}\n";
        let dump = read("x", yaml).expect("a dump");
        assert_eq!(dump.nodes.nodes.keys().collect::<Vec<_>>(), ["a", "b"]);
        let json = r#"{"kind": "List", "items": [{"kind": "Node", "metadata": {"name": "a"}},
            {"kind": "Pod", "metadata": {"name": "p", "namespace": "x"}, "spec": {"nodeName": "a"}}]}"#;
        let dump = read("x", json).expect("a dump");
        assert_eq!((dump.nodes.nodes.len(), dump.pods.len()), (1, 1));
    }

    #[test]
    fn what_is_no_dump_is_said_so() {
        for text in ["", "a: b", "[1]", "{", "kind: Node\nmetadata: 5"] {
            let error = read("live.yaml", text).expect_err(text).to_string();
            assert!(error.starts_with("live.yaml "), "{error}");
        }
    }
}
