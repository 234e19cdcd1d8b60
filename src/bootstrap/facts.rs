//! What a cluster's API can see of how its machines were set up.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::images::{Lists, images_of};
use crate::model::observed::SeenImages;
use crate::model::{DesiredCluster, DesiredNode, ObservedNode};

/// A kubelet names at most so many images, the largest first: of a list this long, what is not in it may be there.
const IMAGES_SHOWN: usize = 50;
/// How many names are listed before the rest is a number.
const NAMED: usize = 3;

/// Something that a machine must have by the `bootstrap` section of its cluster, and has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Lack {
    /// It runs another container runtime.
    Runtime {
        /// The one that the state names.
        wanted: String,
        /// What it runs.
        runs: String,
    },
    /// Images are not there.
    Images {
        /// Their names.
        images: Vec<String>,
    },
    /// Labels of platform roles are not there.
    Roles {
        /// The roles.
        roles: Vec<String>,
    },
}

/// What a live machine lacks. `images` are what its kubelet tells of, where it was asked.
pub fn lacks(
    cluster: &DesiredCluster,
    node: &DesiredNode,
    live: &ObservedNode,
    images: Option<&SeenImages>,
    lists: &Lists,
) -> Vec<Lack> {
    let Some(bootstrap) = &cluster.spec.bootstrap else { return Vec::new() };
    let mut lacks = Vec::new();
    if let Some(runtime) = &bootstrap.runtime {
        let runs = live.runtime.split("://").next().unwrap_or_default();
        if !runs.is_empty() && runs != runtime.engine.name() {
            lacks.push(Lack::Runtime { wanted: runtime.engine.name().to_owned(), runs: live.runtime.to_string() });
        }
    }
    // An empty list is that of a kubelet that has not looked yet, or of a recording without images.
    if let Some(seen) = images.filter(|seen| seen.images > 0 && seen.images < IMAGES_SHOWN) {
        let wanted = bootstrap.images.iter().flat_map(|set| images_of(set, lists));
        let missing = wanted.filter(|image| !seen.names.contains(image.canonical().as_str()));
        let missing: std::collections::BTreeSet<String> = missing.map(ToString::to_string).collect();
        if !missing.is_empty() {
            lacks.push(Lack::Images { images: missing.into_iter().collect() });
        }
    }
    let is_set = |role: &str| live.labels.get(role).is_some_and(|value| value == "true");
    let roles = node.document.spec.platform.iter().filter(|role| !is_set(role.as_str()));
    let roles: Vec<String> = roles.map(ToString::to_string).collect();
    if !roles.is_empty() {
        lacks.push(Lack::Roles { roles });
    }
    lacks
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |f: &mut fmt::Formatter<'_>, what: &str, names: &[String]| {
            let rest = names.len().saturating_sub(NAMED);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            write!(f, "{what} {}{more}", names[..names.len() - rest].join(", "))
        };
        match self {
            Self::Runtime { wanted, runs } => write!(f, "runs {runs}, not {wanted}"),
            Self::Images { images } => some(f, "no image", images),
            Self::Roles { roles } => some(f, "no role", roles),
        }
    }
}
