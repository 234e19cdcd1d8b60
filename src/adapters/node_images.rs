//! The images that kubelets tell of, apart from nodes: their names are most of what a node says, and few ask for them.

use serde::{Deserialize, Serialize};

use crate::model::bootstrap::canonical;
use crate::model::observed::SeenImages;

/// A node, reduced to its images.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NodeImagesObject {
    #[serde(default)]
    metadata: Name,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Name {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    #[serde(default)]
    images: Option<Vec<ImageObject>>,
}

/// An image, by all its names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageObject {
    #[serde(default)]
    names: Option<Vec<String>>,
}

impl NodeImagesObject {
    /// The node's name and its images.
    pub fn seen(self) -> (String, SeenImages) {
        let images = self.status.images.unwrap_or_default();
        let count = images.len();
        let names = images.into_iter().filter_map(|image| image.names).flatten();
        // Names with a digest belong to an image that has another name as well, or none that anybody asks for.
        let names = names.filter(|name| !name.contains('@')).map(|name| canonical(&name));
        (self.metadata.name, SeenImages { images: count, names: names.collect() })
    }

    /// The node's name and its images, as they were told.
    pub fn images(self) -> (String, Vec<ImageObject>) {
        (self.metadata.name, self.status.images.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_one_name_whatever_the_runtime_calls_them() {
        let text = r#"{"metadata": {"name": "n"}, "status": {"images": [
            {"names": ["docker.io/rancher/pause@sha256:00", "docker.io/rancher/pause:3.7"]},
            {"names": ["busybox:1"]}, {"names": null}]}}"#;
        let (name, seen) = serde_json::from_str::<NodeImagesObject>(text).expect("a node").seen();
        assert_eq!((name.as_str(), seen.images), ("n", 3));
        let names: Vec<&str> = seen.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["docker.io/library/busybox:1", "docker.io/rancher/pause:3.7"]);
        let none: NodeImagesObject = serde_json::from_str(r#"{"status": {"images": null}}"#).expect("a node");
        assert_eq!(none.seen().1, SeenImages::default());
    }
}
