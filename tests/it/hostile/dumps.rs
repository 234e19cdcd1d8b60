//! Dumps of live objects that a connection names: inside the state, outside of it, and hostile themselves.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{LIMIT, judge};
use crate::support::limit::drover_within;
use crate::support::run::Ran;
use crate::support::state::State;

/// A state whose cluster is read from a dump.
fn dumped(path: &str, content: impl AsRef<[u8]>) -> State {
    let state = State::new();
    state.cluster("prod", &format!("{{file: {path}}}")).node("prod", "n0", "{}");
    state.write(&format!("state/{path}"), content);
    state
}

const LIVE: &str = "kind: NodeList\nitems:\n- metadata: {name: n0}\n";

#[track_caller]
fn plan(state: &State, arguments: &[&str]) -> Ran {
    drover_within(LIMIT, state.root(), &[&["plan"], arguments].concat())
}

/// A plan says that the cluster cannot be looked at, and why; from files, and from git.
#[track_caller]
fn unreachable(state: &State, says: &str) {
    state.commit("all");
    for arguments in [&[][..], &["--rev", "HEAD"]] {
        let ran = plan(state, arguments).expect(1);
        assert!(ran.out.contains("unreachable") && ran.out.contains(says), "{says:?} is not said:\n{}", ran.out);
        assert!(ran.out.len() < 4_000, "{} bytes", ran.out.len());
    }
}

#[test]
fn a_dump_inside_the_state_is_no_document_of_it() {
    for path in ["live.yaml", "live/prod.yaml", "./live.yaml", "clusters/../live.yaml", "live.yml", "live.json"] {
        let content = if path.ends_with("json") {
            r#"{"kind": "NodeList", "items": [{"metadata": {"name": "n0"}}]}"#
        } else {
            LIVE
        };
        let state = dumped(path, content);
        let verdict = judge(&state);
        assert!(verdict.valid && verdict.documents == 2, "{path}: {verdict:#?}");
    }
    let state = dumped("live.yaml", LIVE);
    state.write("state/other.yaml", LIVE);
    judge(&state).refused("missing-field", "other.yaml", 1, "no `apiVersion`");
}

#[test]
fn a_dump_may_be_larger_than_any_document() {
    let state = dumped("live.yaml", format!("{LIVE}{}", "# live objects are many\n".repeat(1 << 20)));
    let verdict = judge(&state);
    assert!(verdict.valid && verdict.documents == 2, "{verdict:#?}");
}

#[test]
fn a_dump_that_is_none_is_said_so() {
    for content in [
        "",
        "# nothing\n",
        "a: b\n",
        "[1, 2]\n",
        "kind: NodeList\nitems: 5\n",
        "kind: Node\nmetadata: 5\n",
        "{\n",
        "\u{1}",
        "kind: NodeList\nitems: []\n",
    ] {
        unreachable(&dumped("live.yaml", content), "live.yaml");
    }
    unreachable(&dumped("live.yaml", b"kind: \xff\n"), "live.yaml is not UTF-8");
    unreachable(&dumped("live.yaml", "[".repeat(100_000)), "live.yaml is not a dump");
    unreachable(&dumped("live.yaml", "{\"a\": ".repeat(100_000)), "live.yaml is not a dump");
    unreachable(&dumped("live.yaml", "- ".repeat(100_000)), "live.yaml is not a dump");
    let bomb: String =
        (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))).collect();
    unreachable(&dumped("live.yaml", format!("a0: &a0 [x, x]\n{bomb}")), "live.yaml is not a dump");
}

#[test]
fn live_names_and_values_reach_no_terminal_unfiltered() {
    let state = dumped(
        "live.yaml",
        format!(
            "{LIVE}- metadata: {{name: \"esc\\e[13;37m\\u009b2J\", labels: {{org: \"\\e[13;37m\\u009b\\a\\u202e\"}}}}\n"
        ),
    );
    state.write(
        "state/live.yaml",
        state.read("state/live.yaml").replace("{name: n0}", "{name: n0, labels: {org: \"\\e[13;37m\\u009b\\a\"}}"),
    );
    for format in ["text", "json", "markdown", "html"] {
        let ran =
            drover_within(LIMIT, state.root(), &["--color", "always", "plan", "--full", "--format", format]).expect(0);
        assert!(!ran.out.contains(['\u{9b}', '\u{7}']) && !ran.out.contains("\u{1b}[13"), "{format}: {:?}", ran.out);
    }
    for command in [&["status"][..], &["explain", "n0"], &["status", "--format", "json"]] {
        let ran = drover_within(LIMIT, state.root(), &[&["--color", "always"], command].concat());
        assert!(!ran.out.contains(['\u{9b}', '\u{7}']) && !ran.out.contains("\u{1b}[13"), "{command:?}: {:?}", ran.out);
    }
}

#[test]
fn a_dump_that_never_ends_or_is_not_there_is_not_waited_for() {
    let state = dumped("live.yaml", "");
    let path = state.path("state/live.yaml");
    fs::remove_file(&path).expect("a file");
    assert!(plan(&state, &[]).expect(1).out.contains("live.yaml"));
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    let ran = plan(&state, &[]).expect(1);
    assert!(ran.out.contains("not a regular file"), "{}", ran.out);
    fs::remove_file(&path).expect("a pipe");
    fs::create_dir(&path).expect("a folder");
    assert!(plan(&state, &[]).expect(1).out.contains("not a regular file"));
    for endless in ["/dev/zero", "/dev/stdin", "/proc/self/fd/0"] {
        state.cluster("prod", &format!("{{file: {endless}}}"));
        let ran = plan(&state, &[]).expect(1);
        assert!(ran.out.contains("not a regular file") && ran.out.contains(endless), "{}", ran.out);
    }
}

#[test]
fn from_git_a_dump_is_only_read_from_the_repository() {
    let state = dumped("live.yaml", LIVE);
    fs::rename(state.path("state/live.yaml"), state.path("live.yaml")).expect("a file");
    state.cluster("prod", "{file: ../live.yaml}");
    state.commit("beside the state");
    plan(&state, &["--rev", "HEAD"]).expect(0);
    for outside in ["../../live.yaml", "../../../../../../etc/hostname"] {
        state.cluster("prod", &format!("{{file: {outside}}}")).commit(outside);
        let ran = plan(&state, &["--rev", "HEAD"]).expect(1);
        assert!(ran.out.contains("leads out of the repository"), "{}", ran.out);
    }
    state.cluster("prod", "{file: ../link.yaml}");
    symlink("/etc/hostname", state.path("link.yaml")).expect("a link");
    state.commit("a link");
    let ran = plan(&state, &["--rev", "HEAD"]).expect(1);
    assert!(ran.out.contains("link.yaml"), "{}", ran.out);
    state.cluster("prod", "{file: ../missing.yaml}").commit("missing");
    let ran = plan(&state, &["--rev", "HEAD"]).expect(1);
    assert!(ran.out.contains("has no file missing.yaml"), "{}", ran.out);
}
