//! The schemas: up to date, and in agreement with what drover itself accepts and writes. They are checked with a
//! validator that knows nothing of drover.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::Value;

use crate::support::run::drover;
use crate::support::state::State;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn validator(name: &str) -> Validator {
    let path = root().join("schemas").join(format!("{name}.schema.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a schema")).expect("JSON");
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{} is no schema: {error}", path.display()))
}

pub(crate) fn errors(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}

#[test]
fn schemas_are_up_to_date() {
    let fresh = tempfile::tempdir().expect("a folder");
    drover(fresh.path(), ["schema", "--out", "."]).expect(0);
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).expect("schemas").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&root().join("schemas")), names(fresh.path()), "run: cargo run -- schema --out schemas");
    for name in names(fresh.path()) {
        let read = |folder: &Path| fs::read_to_string(folder.join(&name)).expect("a schema");
        assert!(
            read(&root().join("schemas")) == read(fresh.path()),
            "{name:?} is out of date; run: cargo run -- schema --out schemas"
        );
    }
}

#[test]
fn every_example_names_its_schema_and_fits_it() {
    let state = validator("state");
    let mut states = vec![root().join("state")];
    let examples =
        fs::read_dir(root().join("examples")).expect("examples").map(|entry| entry.expect("an entry").path());
    states.extend(examples.map(|path| path.join("state")).filter(|path| path.is_dir()));
    assert!(states.len() >= 6, "{states:?}");
    for path in states.iter().flat_map(|state| yaml_files(state)) {
        let text = fs::read_to_string(&path).expect("a file");
        let line = text.lines().next().unwrap_or_default();
        let schema = line
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap_or_else(|| panic!("{} names no schema", path.display()));
        let named = path.parent().expect("a folder").join(schema);
        assert!(named.is_file(), "{} names {schema}, which is not there", path.display());
        let whole = documents(&path);
        assert!(!whole.is_empty(), "{} is empty", path.display());
        for document in whole {
            assert_eq!(errors(&state, &document), [] as [String; 0], "{}", path.display());
            let kind = document["kind"].as_str().expect("a kind").to_lowercase();
            assert_eq!(errors(&validator(&kind), &document), [] as [String; 0], "{}", path.display());
        }
    }
}

#[test]
fn schemas_refuse_what_drover_refuses() {
    let state = validator("state");
    for name in ["unknown-field", "wrong-type", "unknown-kind", "bad-label", "bad-path"] {
        let folder = root().join("examples/invalid").join(name);
        let bad = yaml_files(&folder)
            .iter()
            .flat_map(|path| documents(path))
            .filter(|document| !state.is_valid(document))
            .count();
        assert!(bad > 0, "the schema accepts every document of {name}");
    }
}

#[test]
fn what_a_move_says_fits_its_schema() {
    let state = State::new();
    state.cluster("prod", "{file: live.yaml}").group("ads").node("prod", "n1", "{}");
    let head = "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\n";
    state.write("state/fleet.yaml", format!("{head}spec: {{writeBack: {{name: drover, email: d@example.org}}}}\n"));
    state.commit("one");
    for (more, code) in [(None, 0), (Some("--commit"), 0), (Some("--commit"), 3)] {
        let arguments = ["move", "n1", "--to", "ads", "--reason", "a test", "--format", "json"];
        let arguments: Vec<&str> = arguments.into_iter().chain(more).collect();
        let written = state.drover(&arguments).expect(code).json();
        assert_eq!(errors(&validator("move"), &written), [] as [String; 0], "{written}");
    }
}

#[test]
fn what_drover_writes_fits_its_schemas() {
    let outputs: [(&str, &[&str], i32); 5] = [
        ("plan", &["plan", "--format", "json"], 0),
        ("plan", &["plan", "--state", "examples/guarded/state", "--format", "json"], 3),
        ("status", &["status", "--format", "json"], 0),
        ("explain", &["explain", "v100-02", "--format", "json"], 0),
        ("validation", &["validate", "--state", "examples/invalid/several", "--format", "json"], 1),
    ];
    for (schema, arguments, code) in outputs {
        let written = drover(root(), arguments).expect(code).json();
        assert_eq!(errors(&validator(schema), &written), [] as [String; 0], "{arguments:?}");
    }
    let applied = drover(root(), ["apply", "--yes", "--format", "json"]).expect(1).json();
    assert_eq!(
        errors(&validator("apply"), &applied),
        [] as [String; 0],
        "a dump cannot be applied to, and the report says so"
    );
}
