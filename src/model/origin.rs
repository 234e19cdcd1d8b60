//! Where in the state repository something was asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place in a file of the state repository.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Origin {
    /// The file, relative to the root of the state, with `/` between its parts.
    #[schemars(with = "String")]
    pub file: Arc<str>,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Where the fields of a part of a document stand, by their path, such as `storage.directories[0].mode`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<Box<str>, Origin>);

impl Places {
    /// The place of a field, or of the closest thing around it that is known.
    pub fn of(&self, path: &str) -> Option<&Origin> {
        let mut path = path;
        loop {
            if let Some(origin) = self.0.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

impl FromIterator<(Box<str>, Origin)> for Places {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Origin)>>(places: I) -> Self {
        Self(places.into_iter().collect())
    }
}
