//! What the bootstrap of machines needs beside the documents: the image lists that a state names, and the images that
//! kubelets tell of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pass::{Live, Pass};
use super::state::Loaded;
use crate::adapters::node_images::NodeImagesObject;
use crate::bootstrap::{BadLine, Lists, read_list};
use crate::error::Failure;
use crate::manifest::Problem;
use crate::manifest::problem::SourceText;
use crate::manifest::yaml::Place;
use crate::model::bootstrap::{ImageName, Naming};
use crate::model::observed::SeenImages;
use crate::model::{ClusterName, DesiredCluster, Origin};

/// The images that kubelets tell of, by cluster and node.
pub type Images = BTreeMap<ClusterName, BTreeMap<String, SeenImages>>;

/// The image lists that a cluster names, and what is wrong with them.
pub fn lists(loaded: &Loaded, cluster: &DesiredCluster) -> (Lists, Vec<Problem>) {
    let (mut lists, mut problems) = (Lists::new(), Vec::new());
    let mut in_mirror: BTreeMap<String, ImageName> = BTreeMap::new();
    let sets = cluster.spec.bootstrap.iter().flat_map(|bootstrap| &bootstrap.images);
    for (index, set) in sets.enumerate().filter(|(_, set)| set.naming != Naming::Platform || set.registry.is_some()) {
        in_mirror.extend(set.images.iter().map(|image| (set.in_mirror(image), image.clone())));
        for (item, file) in set.files.iter().enumerate() {
            let text = match loaded.file(file.as_str()) {
                Ok(text) => text,
                Err(failure) => {
                    let asked = cluster.places.of(&format!("bootstrap.images[{index}].files[{item}]"));
                    problems.push(unreadable(asked.unwrap_or(&cluster.origin), &failure));
                    continue;
                }
            };
            let source = SourceText::new(Arc::from(file.as_str()), text.as_str());
            let at = |line: u32| Place {
                line,
                column: 1,
                length: source.line(line as usize).trim_end().chars().count().max(1) as u32,
            };
            let (images, bad) = read_list(&text);
            problems.extend(bad.into_iter().map(|BadLine { line, message }| {
                source.error("bad-value", at(line), message).help("write one image a line, and comments behind #")
            }));
            for listed in &images {
                let name = set.in_mirror(&listed.image);
                let other = in_mirror.insert(name.clone(), listed.image.clone());
                if let Some(other) = other.filter(|other| *other != listed.image) {
                    let message = format!("`{}` and `{other}` have the same name in the mirror: {name}", listed.image);
                    let problem = source.error("bad-bootstrap", at(listed.line), message);
                    problems.push(problem.help("pull one of them from another mirror"));
                }
            }
            lists.insert(file.to_string(), images);
        }
    }
    (lists, problems)
}

fn unreadable(asked: &Origin, failure: &Failure) -> Problem {
    let mut problem =
        Problem::of_file("unreadable", asked.file.clone(), format!("the list of images cannot be read: {failure}"));
    (problem.line, problem.column, problem.length) = (asked.line, asked.column, 1);
    problem.help("paths of lists start from the root of the state")
}

/// The problems of the image lists of all clusters.
pub fn list_problems(loaded: &Loaded) -> Vec<Problem> {
    loaded.desired.clusters.values().flat_map(|cluster| lists(loaded, cluster).1).collect()
}

/// The images that the kubelets of a pass tell of, where the state asks for images at all; and the clusters that did not
/// tell.
pub async fn images(loaded: &Loaded, pass: &Pass) -> (Images, Vec<Failure>) {
    let (mut images, mut failures) = (Images::new(), Vec::new());
    for (name, observed) in &pass.observed {
        let asks = |cluster: &DesiredCluster| cluster.spec.bootstrap.as_ref().is_some_and(|b| !b.images.is_empty());
        if !loaded.desired.clusters.get(name).is_some_and(asks) {
            continue;
        }
        let seen = match &observed.live {
            Live::Dump(dump) => dump.images.clone(),
            Live::Kube(kube) => match kube.node_images().await {
                Ok(nodes) => nodes.into_iter().map(NodeImagesObject::seen).collect(),
                Err(failure) => {
                    failures.push(failure.within(format!("the images of {name} are not known")));
                    continue;
                }
            },
        };
        images.insert(name.clone(), seen);
    }
    (images, failures)
}
