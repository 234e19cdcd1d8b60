//! Files that are not what their names say, and folders that lead elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{LIMIT, NODE, Verdict, judge, judged, sound, with};
use crate::support::limit::{drover_within, within};
use crate::support::run;
use crate::support::state::State;

/// A valid state with a link.
fn linked(name: &str, target: &str) -> State {
    let state = sound();
    link(&state, name, target);
    state
}

fn link(state: &State, name: &str, target: &str) {
    let path = state.path(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    symlink(target, path).expect("a link");
}

#[test]
fn links_out_of_the_state_are_refused() {
    for (name, target) in [
        ("state/x.yaml", "/etc/passwd"),
        ("state/x.yaml", "/nowhere.yaml"),
        ("state/x.yaml", "../live.yaml"),
        ("state/x.yaml", "../nowhere.yaml"),
        ("state/x.yaml", "nodes/../../live.yaml"),
        ("state/x.yaml", "../../../../../../../../etc/passwd"),
        ("state/folder", "/etc"),
        ("state/folder", ".."),
        ("state/folder", "../.."),
        ("state/folder", "/"),
        ("state/nodes/x.yaml", "../../live.yaml"),
        ("state/nodes/folder", "../.."),
        ("state/x.yaml", "../state/nodes/prod/n0.yaml"),
    ] {
        let state = linked(name, target);
        let file = name.trim_start_matches("state/");
        judge(&state).refused("link-outside", file, 0, &format!("leads out of the state, to {target}"));
    }
    let state = linked("state/hop", "nodes");
    link(&state, "state/nodes/out.yaml", "../../live.yaml");
    judge(&state).refused("link-outside", "nodes/out.yaml", 0, "leads out of the state");
    let absolute = State::new();
    absolute
        .cluster("prod", "{file: live.yaml}")
        .write("state/live.yaml", "kind: NodeList\nitems:\n- metadata: {name: a}\n");
    link(&absolute, "state/x.yaml", &absolute.path("state/clusters/prod.yaml").display().to_string());
    judge(&absolute).refused("link-outside", "x.yaml", 0, "leads out of the state");
}

#[test]
fn links_inside_the_state_are_passed_over() {
    let state = sound();
    for (name, target) in [
        ("state/again.yaml", "nodes/prod/n0.yaml"),
        ("state/again", "nodes"),
        ("state/nodes/up", "../clusters"),
        ("state/nodes/round", ".."),
        ("state/hop.yaml", "again/prod/../prod/n0.yaml"),
        ("state/hop2.yaml", "hop.yaml"),
        ("state/./dot.yaml", "./././again.yaml"),
        // What no one takes for a part of the state may lead anywhere.
        ("state/README.md", "../README.md"),
        ("state/LICENSE.txt", "/usr/share/common-licenses/GPL"),
        ("state/.hidden.yaml", "/etc/passwd"),
        ("state/.hidden/x.yaml", "/etc/passwd"),
    ] {
        link(&state, name, target);
    }
    judge(&state).accepted(0);
}

#[test]
fn links_that_lead_nowhere_or_in_circles_are_named() {
    judge(&linked("state/x.yaml", "y.yaml")).refused("link-nowhere", "x.yaml", 0, "there is no y.yaml");
    judge(&linked("state/x.yaml", "nodes/prod/n0.yaml/deeper.yaml")).refused("link-nowhere", "x.yaml", 0, "nowhere");
    judge(&linked("state/x.yaml", "x.yaml")).refused("link-nowhere", "x.yaml", 0, "nowhere");
    judge(&linked("state/folder", "folder/folder")).refused("link-nowhere", "folder", 0, "nowhere");
    let state = linked("state/a.yaml", "b.yaml");
    link(&state, "state/b.yaml", "a.yaml");
    let verdict = judge(&state);
    let rules: Vec<_> = verdict.problems.iter().map(|problem| (&problem["file"], &problem["rule"])).collect();
    assert_eq!(rules, [(&"a.yaml".into(), &"link-nowhere".into()), (&"b.yaml".into(), &"link-nowhere".into())]);
    let chain = sound();
    (0..60).for_each(|n| link(&chain, &format!("state/l{n}.yaml"), &format!("l{}.yaml", n + 1)));
    chain.write("state/l60.yaml", NODE);
    let verdict = judge(&chain);
    assert_eq!(verdict.problems.len(), 20, "the system gives up after 40 links: {verdict:#?}");
}

#[test]
fn pipes_sockets_and_devices_are_not_waited_for() {
    let state = sound();
    let make = |arguments: &[&str]| Command::new(arguments[0]).args(&arguments[1..]).current_dir(state.root()).status();
    assert!(make(&["mkfifo", "state/x.yaml"]).expect("mkfifo runs").success());
    judged(&state, &[]).refused("unreadable", "x.yaml", 0, "not a regular file");
    fs::remove_file(state.path("state/x.yaml")).expect("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(state.path("state/y.yaml")).expect("a socket");
    judged(&state, &[]).refused("unreadable", "y.yaml", 0, "not a regular file");
    fs::remove_file(state.path("state/y.yaml")).expect("a socket");
    if make(&["mknod", "state/z.yaml", "c", "1", "5"]).expect("mknod runs").success() {
        judged(&state, &[]).refused("unreadable", "z.yaml", 0, "not a regular file");
        fs::remove_file(state.path("state/z.yaml")).expect("a device");
    }
    assert!(make(&["mkfifo", "state/not-yaml"]).expect("mkfifo runs").success());
    judged(&state, &[]).accepted(0);
}

#[test]
fn files_and_folders_that_cannot_be_read_are_named() {
    for locked in ["nodes/prod/n0.yaml", "nodes/prod"] {
        let state = sound();
        let path = state.path("state").join(locked);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("it is ours");
        let ran = within(LIMIT, &without_privileges(state.root(), &["validate", "--format", "json"]));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Verdict::read(&ran).refused("unreadable", locked, 0, "Permission denied");
    }
}

/// Root reads everything, unless it gives that up.
fn without_privileges(folder: &Path, arguments: &[&str]) -> Command {
    let mut drover = run::command(folder);
    drover.args(arguments);
    if fs::metadata("/proc/self").expect("this process").uid() != 0 {
        return drover;
    }
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--bounding-set", "-dac_override,-dac_read_search", "--"]);
    run::within(setpriv, &drover)
}

#[test]
fn names_that_are_not_text_are_named() {
    let state = sound();
    for name in [&b"bad-\xff.yaml"[..], b"folder-\xfe/x.yaml", b".hidden-\xff.yaml"] {
        let path = state.path("state").join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, NODE).expect("a file");
    }
    let verdict = judge(&state);
    let found: Vec<_> = verdict.problems.iter().map(|problem| (&problem["file"], &problem["rule"])).collect();
    let rule = "file-name".into();
    assert_eq!(found, [(&"bad-\u{fffd}.yaml".into(), &rule), (&"folder-\u{fffd}".into(), &rule)]);
}

#[test]
fn odd_names_are_names() {
    let state = sound();
    let names = [
        "a b",
        "ä-日本",
        "new\nline",
        "esc\u{1b}[13;37mred",
        "c1\u{9b}2J",
        "per%cent",
        "co:lon,comma",
        "-dash",
        "quo\"te'",
        "bidi\u{202e}",
    ];
    for (index, name) in names.iter().enumerate() {
        state.write(&format!("state/{name}.yaml"), NODE.replace("n1", &format!("odd{index}")));
        state.write(&format!("state/{name}/{name}.yml"), NODE.replace("n1", &format!("odder{index}")));
    }
    judge(&state).accepted(2 * names.len() as u64);
    for name in names {
        state.write(&format!("state/{name}.yaml"), "a: b\n");
    }
    state.commit("broken");
    assert_eq!(judge(&state).problems.len(), names.len());
    for command in [
        &["validate"][..],
        &["validate", "--format", "github"],
        &["plan", "--format", "markdown"],
        &["plan", "--format", "html"],
    ] {
        let ran = drover_within(LIMIT, state.root(), &[&["--color", "always"], command].concat()).expect(1);
        let shown = ran.out + &ran.err;
        assert!(!shown.contains("\u{1b}[13") && !shown.contains(['\u{9b}', '\u{202e}']), "{command:?}: {shown:?}");
    }
}

#[test]
fn a_folder_may_be_called_like_a_file() {
    let state = sound();
    state.write("state/x.yaml/y.yaml", NODE).write("state/z.yml/readme", "text").write("state/empty.yaml/.keep", "");
    judge(&state).accepted(1);
}

#[test]
fn a_repository_inside_the_state_is_not_read() {
    let state = sound();
    state.commit("sound");
    let inner = State::new();
    inner.write("x.yaml", NODE).commit("inner");
    let address = inner.root().display().to_string();
    state.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &address, "state/nodes/inner"]);
    state.commit("with a submodule");
    judge(&state).refused("submodule", "nodes/inner", 0, "another repository");
}

#[test]
fn folders_are_nested_only_so_deep() {
    let deep = |levels: usize| format!("state/{}x.yaml", "d/".repeat(levels));
    let state = sound();
    state.write(&deep(64), NODE);
    judge(&state).accepted(1);
    let state = sound();
    state.write(&deep(65), NODE).write(&deep(200), NODE);
    judge(&state).refused("state-size", "d/".repeat(65).trim_end_matches('/'), 0, "nested more than 64 deep");
}

#[test]
fn a_state_that_is_too_large_as_a_whole_is_refused() {
    let state = with("# a comment of 64 characters, to be repeated as often as it takes\n".repeat(15 << 14));
    (0..18).for_each(|n| {
        fs::hard_link(state.path("state/x.yaml"), state.path(&format!("state/y{n}.yaml"))).expect("a link")
    });
    judge(&state).refused("state-size", "", 0, "more than 256 MiB");
}

#[test]
fn a_state_that_is_no_folder_or_is_empty_is_said_so() {
    let state = State::new();
    state.write("state", "a file\n");
    for command in ["validate", "plan"] {
        let ran = drover_within(LIMIT, state.root(), &[command, "--state", "state"]).expect(1);
        assert!(ran.err.contains("there is no folder state"), "{}", ran.err);
        let ran = drover_within(LIMIT, state.root(), &[command]).expect(1);
        assert!(ran.err.contains("there is no state here"), "{}", ran.err);
    }
    state.commit("a file");
    let ran = drover_within(LIMIT, state.root(), &["validate", "--repo", ".", "--state", "state"]).expect(1);
    assert!(ran.err.contains("has no folder state"), "{}", ran.err);

    for (name, content) in [
        ("state/.keep", ""),
        ("state/README.md", "text"),
        ("state/only.yaml", "# a comment\n"),
        ("state/.hidden/n.yaml", NODE),
    ] {
        let state = State::new();
        state.write(name, content);
        let verdict = judge(&state);
        verdict.refused("empty-state", "", 0, "the state holds no document at all");
    }
    let empty = State::new();
    fs::create_dir(empty.path("state")).expect("a folder");
    judged(&empty, &[]).refused("empty-state", "", 0, "drover import");
}
