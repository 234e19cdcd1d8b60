//! What was seen of a machine's storage, as the process that looks tells the agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::path::StoragePath;
use crate::model::storage::{KubeletView, MountFact};

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The root.
    pub root: RootFact,
    /// The kubelet.
    pub kubelet: KubeletFact,
    /// How full the file system is, where it tells.
    pub space: Option<Space>,
    /// Directories that are not as asked for.
    pub directories: BTreeMap<StoragePath, DirectoryFault>,
    /// Why the write test failed, if it was made and did.
    pub write_test: Option<WriteFault>,
    /// What was made or set, for the log.
    pub made: Vec<String>,
}

/// What was seen of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFact {
    /// Nothing is there, or it is a link that leads nowhere.
    Missing {
        /// Where the link leads, if it is one.
        leads_to: Option<String>,
        /// The mount on which it would be.
        lies_on: Option<MountFact>,
    },
    /// Something else than a directory is there.
    NoDirectory,
    /// It cannot be followed safely.
    Unsafe {
        /// Why.
        why: String,
    },
    /// It should be a link, and is none or another one.
    OtherLink {
        /// Where it leads; none where it is no link.
        leads_to: Option<String>,
    },
    /// The file system answered with an error.
    Failed {
        /// Which.
        why: String,
    },
    /// It is there.
    Found {
        /// Its path with links resolved, as bytes.
        path: Vec<u8>,
        /// What it lies on.
        mount: MountFact,
    },
}

/// What was seen of the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeletFact {
    /// What it sees.
    pub view: KubeletView,
    /// Whether it sees the same mount, but cannot write to it.
    pub read_only: bool,
    /// What it sees instead, where there is more to say.
    pub instead: Option<String>,
}

/// How full a file system is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// The whole.
    pub total: u64,
    /// What is free for anyone.
    pub free: u64,
    /// Whether it takes no further file, though bytes are free.
    pub no_files: bool,
}

/// What is wrong with a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryFault {
    /// Which kind of fault.
    pub fault: Fault,
    /// For a person.
    pub why: String,
}

/// A kind of fault of a directory; the worst one comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// Its path leads out of the root.
    Unsafe,
    /// It is missing, and was not or could not be made.
    Missing,
    /// Its mode or owner is another one, or it is no directory.
    Wrong,
}

/// Why the write test failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFault {
    /// Whether it was for want of space.
    pub no_space: bool,
    /// For a person.
    pub why: String,
}

impl Facts {
    /// Only something about the root.
    pub fn of_root(root: RootFact) -> Self {
        Self {
            root,
            kubelet: KubeletFact::default(),
            space: None,
            directories: BTreeMap::new(),
            write_test: None,
            made: Vec::new(),
        }
    }
}
