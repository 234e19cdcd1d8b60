//! The definition of the custom resource NodeStorage, made from the very types that read and write it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::model::storage::{KIND, PLURAL, StorageReport, StorageWanted};

/// The API group of drover's custom resources.
const GROUP: &str = "drover.dev";
/// What API servers take for granted, or do not know.
const DROPPED: [&str; 6] = ["$schema", "title", "default", "propertyNames", "patternProperties", "oneOf"];
/// Formats that API servers know.
const FORMATS: [&str; 5] = ["int32", "int64", "float", "double", "date-time"];

/// The CustomResourceDefinition, as API servers from 1.16 on take it.
pub fn node_storage() -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let mut message = column("Message", "string", ".status.message");
    message["priority"] = json!(1); // with -o wide
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL,
                "singular": KIND.to_lowercase(), "shortNames": ["nst"],
            },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                // What is asked and what was seen are written by different hands, and only the first moves the generation.
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    column("Root", "string", ".spec.root"),
                    column("Verdict", "string", ".status.verdict"),
                    column("Reason", "string", ".status.reason"),
                    column("Since", "date", ".status.since"),
                    column("Checked", "date", ".status.checked"),
                    message,
                    column("Age", "date", ".metadata.creationTimestamp"),
                ],
                "schema": {"openAPIV3Schema": {
                    "description": "The storage of one machine, named like its node: what drover asks for, and what the agent on it saw.",
                    "type": "object",
                    "required": ["spec"],
                    "properties": {"spec": structural::<StorageWanted>(), "status": structural::<StorageReport>()},
                }},
            }],
        },
    })
}

/// The schema of a type in the form that API servers demand of custom resources ("structural").
fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    restructure(&mut schema);
    schema
}

fn restructure(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    one_of_texts(schema);
    or_null(schema);
    // Keys that follow a pattern: API servers cannot check them, drover and its agent do.
    if let Some(Value::Object(patterns)) = schema.remove("patternProperties")
        && let Some((_, values)) = patterns.into_iter().next()
    {
        schema.insert("additionalProperties".into(), values);
    }
    if schema.get("additionalProperties").is_some_and(|more| more.is_boolean()) {
        schema.remove("additionalProperties");
    }
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
        schema.remove("format");
    }
    DROPPED.iter().for_each(|key| drop(schema.shift_remove(*key)));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(restructure);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(part) = schema.get_mut(key) {
            restructure(part);
        }
    }
}

/// Words that are described one by one become a plain list of them.
fn one_of_texts(schema: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let words = choices.iter().flat_map(|choice| match (choice.get("const"), choice.get("enum")) {
        (Some(word), _) => vec![word.clone()],
        (None, Some(Value::Array(words))) => words.clone(),
        _ => Vec::new(),
    });
    let words: Vec<Value> = words.collect();
    schema.insert("type".into(), json!("string"));
    schema.insert("enum".into(), Value::Array(words));
}

/// What may be missing may be null too, which API servers write in a way of their own.
fn or_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned();
        schema.insert("type".into(), kind.unwrap_or_else(|| json!("object")));
        schema.insert("nullable".into(), json!(true));
    }
    let Some(Value::Array(choices)) = schema.shift_remove("anyOf") else { return };
    if let Some(Value::Object(inner)) = choices.into_iter().find(|choice| choice["type"] != "null") {
        for (key, value) in inner {
            schema.entry(key).or_insert(value); // the field's own description says more than that of its type
        }
        schema.insert("nullable".into(), json!(true));
    }
    one_of_texts(schema);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_structural() {
        let text = node_storage().to_string();
        for foreign in [
            "$ref",
            "oneOf",
            "anyOf",
            "patternProperties",
            "\"null\"",
            "\"const\"",
            "uint",
            "additionalProperties\":false",
        ] {
            assert!(!text.contains(foreign), "{foreign} in {text}");
        }
        let schema = &node_storage()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        assert_eq!(schema["spec"]["properties"]["link"]["nullable"], true);
        assert_eq!(
            schema["spec"]["properties"]["directories"]["additionalProperties"]["properties"]["mode"]["type"],
            "string"
        );
        assert_eq!(schema["status"]["properties"]["verdict"]["enum"], json!(["Verified", "Failed", "Unknown"]));
        assert_eq!(schema["status"]["properties"]["mount"]["properties"]["source"]["type"], "string");
    }
}
