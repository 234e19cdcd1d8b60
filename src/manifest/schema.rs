//! The JSON Schemas of the state files, made from the very types that read them.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::model::{ClusterManifest, FleetManifest, GroupManifest, NodeManifest};

/// The schema of a type, by the 2020-12 draft.
pub fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

/// The schema of a state file: any of the four kinds.
pub fn state() -> Schema {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds = [
        generator.subschema_for::<FleetManifest>(),
        generator.subschema_for::<ClusterManifest>(),
        generator.subschema_for::<GroupManifest>(),
        generator.subschema_for::<NodeManifest>(),
    ];
    let definitions = generator.take_definitions(true);
    schemars::json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drover state file",
        "description": "A document of a drover state repository: Fleet, Cluster, Group or Node.",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "oneOf": kinds,
        "$defs": definitions
    })
}
