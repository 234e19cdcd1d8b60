//! The nouns: what a state repository can say, what clusters can be seen to be, and the label vocabulary between them.
//!
//! Nothing here reads a file, a clock or a network.

pub mod bootstrap;
pub mod cluster;
pub mod desired;
pub mod fleet;
pub mod group;
pub mod kubelet;
pub mod moves;
pub mod node;
pub mod notice;
pub mod number;
pub mod observed;
pub mod origin;
pub mod path;
pub mod secret;
pub mod selector;
pub mod storage;
pub mod template;
pub mod text;
pub mod time;
pub mod vocabulary;
pub mod work;
pub mod write_back;

pub use bootstrap::Bootstrap;
pub use cluster::{ClusterManifest, ClusterSpec, Guard, Mode};
pub use desired::{Desired, DesiredCluster, DesiredLabel, DesiredNode, DesiredStorage};
pub use fleet::{FleetManifest, FleetSpec};
pub use group::{GroupManifest, GroupSpec};
pub use kubelet::ObservedKubelet;
pub use moves::Move;
pub use node::{NodeManifest, NodeSpec};
pub use notice::{Notice, NoticeKind, Severity};
pub use observed::{Manager, ObservedCluster, ObservedNode, ObservedPod};
pub use origin::{Origin, Places};
pub use storage::{ObservedStorage, StorageReport, StorageWanted};
pub use text::{ClusterName, GroupName, LabelKey, LabelValue, NodeName};
pub use vocabulary::Vocabulary;
pub use work::{PodWork, Taint, Toleration};
pub use write_back::WriteBack;

/// The one `apiVersion` of every document of a state repository.
pub const API_VERSION: &str = "drover.dev/v1";

/// `apiVersion: drover.dev/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum ApiVersion {
    /// The first, and so far only, version.
    #[serde(rename = "drover.dev/v1")]
    V1,
}

/// Whether a value says nothing, so that writing it can be spared.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Defines the one-value `kind` of a document, so that a document cannot be read as another kind.
macro_rules! kind {
    ($name:ident, $text:literal) => {
        #[doc = concat!("`kind: ", $text, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name {
            #[doc = concat!("`", $text, "`")]
            #[serde(rename = $text)]
            It,
        }
    };
}
pub(crate) use kind;
