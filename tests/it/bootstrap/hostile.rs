//! Nothing that a state says is run: every value is one word of the script, whatever stands in it.

use std::path::Path;
use std::process::Command;

use drover::bootstrap::quote;
use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};

use super::states::{script, state};

/// Texts that a shell would like to run.
const HOSTILE: [&str; 8] = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "'; touch CANARY; '",
    "\"; touch CANARY; \"",
    "\\'; touch CANARY #",
    "a && touch CANARY",
    "${IFS}touch${IFS}CANARY",
    "* ? ~ {a,b} <(touch CANARY) !x",
];

fn bash(script: &str, folder: &Path) -> Vec<u8> {
    let output = Command::new("bash").current_dir(folder).arg("-c").arg(script).output().expect("bash runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many words in one process: starting one is what takes time.
    #[test]
    fn a_quoted_word_is_what_it_was(texts in prop::collection::vec("[^\0]{0,40}|['\"\\\\$`\n ;&|<>(){}*?!#~-]{0,20}", 1..40)) {
        let words: Vec<String> = texts.iter().map(|text| quote(text)).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let out = bash(&format!("printf '%s\\0' {}", words.join(" ")), folder.path());
        let back: Vec<&str> = std::str::from_utf8(&out).expect("UTF-8").split_terminator('\0').collect();
        prop_assert_eq!(back, texts);
    }
}

/// A state with this text wherever any text may stand.
fn hostile_state(text: &str) -> String {
    let yaml = serde_json::to_string(text).expect("JSON");
    let path = serde_json::to_string(&format!("/mnt/{}", text.replace(['/', ':'], "_"))).expect("JSON");
    let inside = serde_json::to_string(&text.replace(['/', ':'], "_")).expect("JSON");
    let command = serde_json::to_string(&format!("true --token {{token}} # {text}")).expect("JSON");
    format!(
        "  storage:
    root: {path}
    fileSystems: [tmpfs, {yaml}]
    sources: [{yaml}]
    directories: [{{path: {inside}}}]
  bootstrap:
    runtime: {{type: docker, dataRoot: \"/var/docker\"}}
    mount: {{source: {yaml}, type: tmpfs, options: [noatime]}}
    images: [{{mirror: hub.example.org/m/, naming: rancher, images: [a:1]}}]
    join:
      command: {command}
      token: {{file: {path}}}
      joined: [{path}]
"
    )
}

#[test]
fn a_hostile_state_runs_nothing_of_its_own() {
    let random = ["\u{1b}]0;x\u{7}", "\u{202e}txt", "é 漢字 🐑", "-rf", "--", "a\tb"];
    for text in HOSTILE.into_iter().chain(random) {
        let state = state(&[&hostile_state(text)]);
        let ran = state.drover(&["bootstrap", "gpu-1"]);
        if text.contains(char::is_control) {
            assert_eq!(ran.code, 1, "{text:?} is no path");
            continue;
        }
        let script = ran.expect(0).out;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bootstrap.sh");
        std::fs::write(&path, &script).expect("a script");
        let dry =
            Command::new("bash").current_dir(folder.path()).arg(&path).arg("--dry-run").output().expect("bash runs");
        let said = String::from_utf8_lossy(&dry.stdout);
        assert!(dry.status.success() && said.contains("nothing was changed"), "{text}: {dry:?}");
        let files: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(files.len(), 1, "{text} was run: {files:?}");
        // Whatever text it is, bash reads it, and as words alone.
        bash(&format!("bash -n {}", quote(&path.to_string_lossy())), folder.path());
    }
}

#[test]
fn names_of_files_and_lists_are_no_code_either() {
    let state = state(&[
        "  bootstrap: {images: [{mirror: hub.example.org/m/, naming: rancher, files: [images.txt]}], runtime: {type: docker}}\n",
    ]);
    state.write("state/images.txt", "rancher/pause:3.7\n$(touch CANARY)\n");
    let ran = state.drover(&["bootstrap", "gpu-1"]).expect(1);
    assert!(ran.err.contains("images.txt:2:1") && ran.err.contains("is not an image"), "{}", ran.err);
    state.write("state/images.txt", "rancher/pause:3.7\n");
    let hostile = "state/nodes/prod/a\n touch CANARY\n.yaml";
    state.write(hostile, state.read("state/nodes/prod/gpu-1.yaml"));
    std::fs::remove_file(state.path("state/nodes/prod/gpu-1.yaml")).expect("it was there");
    let text = script(&state, "gpu-1");
    assert!(!text.contains("\n touch"), "{text}");
}
