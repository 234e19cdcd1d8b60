//! Documents to YAML text.

use serde::Serialize;

/// Why a document cannot be written.
pub type WriteError = serde_yaml::Error;

/// A document as YAML.
pub fn document<T: Serialize>(manifest: &T) -> Result<String, WriteError> {
    serde_yaml::to_string(manifest)
}
