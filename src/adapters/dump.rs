//! A dump of live objects: what `drover snapshot` or `kubectl get nodes,pods -A -o yaml` writes.

use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use super::objects::{NodeObject, PodObject};
use crate::error::Failure;
use crate::model::work::PodLife;
use crate::model::{ObservedCluster, ObservedPod, PodWork};

/// The live objects of a cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dump {
    /// Its nodes.
    pub nodes: ObservedCluster,
    /// Its pods that are bound to a node.
    pub pods: Vec<ObservedPod>,
    /// Its pods that have not ended, as work.
    pub work: Vec<PodWork>,
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
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    object: T,
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
    Ok(dump)
}

fn take(dump: &mut Dump, value: Value) -> Result<(), serde_yaml::Error> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (kind.as_str(), value) {
        ("Node", value) => {
            let node = serde_yaml::from_value::<NodeObject>(value)?.observed();
            dump.nodes.nodes.insert(node.name.clone(), node);
        }
        ("Pod", value) => {
            let pod = serde_yaml::from_value::<PodObject>(value)?;
            dump.work.extend(pod.clone().work());
            dump.lives.push(pod.clone().life());
            dump.pods.extend(pod.observed());
        }
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
pub fn write(nodes: Vec<NodeObject>, pods: Vec<PodObject>) -> Result<String, serde_yaml::Error> {
    let nodes =
        nodes.into_iter().map(|node| Item::Node(Typed { api_version: "v1", kind: "Node", object: node.compact() }));
    let pods = pods.into_iter().map(|pod| Item::Pod(Typed { api_version: "v1", kind: "Pod", object: pod.compact() }));
    serde_yaml::to_string(&Written { api_version: "v1", kind: "List", items: nodes.chain(pods).collect() })
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
