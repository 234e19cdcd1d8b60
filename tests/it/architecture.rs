//! The architecture, held against the sources: which room may know which, and how long a file may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use of the others. `error` is for everyone.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("model", &[]),
    ("manifest", &["model", "plan"]),
    ("plan", &["model"]),
    ("rebalance", &["model"]),
    ("backtest", &["model", "rebalance"]),
    ("bootstrap", &["model"]),
    ("writeback", &["model", "manifest"]),
    ("storage", &["model"]),
    ("adapters", &["model", "manifest", "plan", "storage"]),
    ("agent", &["model", "storage", "adapters"]),
    ("engine", &["model", "manifest", "plan", "rebalance", "bootstrap", "writeback", "adapters"]),
    ("report", &["model", "manifest", "plan", "rebalance", "backtest", "bootstrap", "writeback", "engine"]),
    ("daemon", &["model", "manifest", "plan", "rebalance", "writeback", "adapters", "engine", "report"]),
    ("ui", &["plan", "engine", "report"]),
    ("web", &["model", "adapters", "engine", "report", "daemon"]),
    (
        "commands",
        &[
            "model",
            "manifest",
            "plan",
            "rebalance",
            "backtest",
            "bootstrap",
            "writeback",
            "storage",
            "adapters",
            "agent",
            "engine",
            "report",
            "ui",
            "daemon",
            "web",
        ],
    ),
    ("error", &[]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the sources").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a file without its tests and comments.
fn code_of(path: &Path) -> String {
    if path.file_name().is_some_and(|name| name == "tests.rs") {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a source");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn data_flows_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut wrong = Vec::new();
    for path in sources(&source_folder()) {
        let inside = path.strip_prefix(source_folder()).expect("below src").to_path_buf();
        let room = inside.iter().next().expect("a part").to_string_lossy().trim_end_matches(".rs").to_owned();
        let Some(may_use) = allowed.get(room.as_str()) else {
            assert!(
                ["lib", "main", "bin"].contains(&room.as_str()),
                "{room} has no place in the architecture: add it to MAY_USE"
            );
            continue;
        };
        for used in code_of(&path).split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if used != room && used != "error" && !used.is_empty() && !may_use.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "the arrow turned round:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_knows_no_runtime_and_no_cluster() {
    for room in ["model", "manifest", "plan", "rebalance", "backtest", "bootstrap", "writeback", "storage"] {
        for path in sources(&source_folder().join(room)) {
            let code = code_of(&path);
            for foreign in ["kube::", "tokio::", "k8s_openapi", "git2::", "std::fs", "std::env", "Timestamp::now"] {
                assert!(!code.contains(foreign), "{} uses {foreign}", path.display());
            }
        }
    }
}

#[test]
fn files_stay_short_enough_to_read() {
    let long: Vec<String> = sources(&source_folder())
        .into_iter()
        .map(|path| (fs::read_to_string(&path).expect("a source").lines().count(), path))
        .filter(|(lines, _)| *lines > 600)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}
