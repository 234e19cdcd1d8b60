//! How `drover run` is told what to do, and what it says of settings that cannot be.

use std::net::TcpListener;

use crate::support::control_plane::ControlPlane;
use crate::support::run::{Ran, command, finish};
use crate::support::state::State;

const FILE: &str = "source: {repo: 'https://ann:hunter2@git.example.org/fleet.git', gitTokenFile: token}\n\
                    daemon:\n  poll: 5m\n  followRewinds: true\n  fightTimes: 7\n";

/// Runs it with settings that it must refuse or only print.
fn run(state: &State, environment: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = command(state.root());
    command.envs(environment.iter().copied()).args(["run"]).args(arguments);
    finish(&mut command)
}

fn printed(state: &State, environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let all: Vec<&str> =
        ["--config", "run.yaml", "--print-config"].into_iter().chain(arguments.iter().copied()).collect();
    run(state, environment, &all).expect(0).out
}

#[test]
fn a_flag_comes_before_the_environment_and_that_before_the_file() {
    let state = State::new();
    state.write("run.yaml", FILE).write("token", "s3cret-token");
    let poll = |environment: &[(&str, &str)], arguments: &[&str]| {
        let text = printed(&state, environment, arguments);
        text.lines().find_map(|line| line.trim().strip_prefix("poll: ").map(str::to_owned)).expect("a poll")
    };
    let environment = [("DROVER_POLL", "3m")];
    assert_eq!(poll(&environment, &["--poll", "2m"]), "2m");
    assert_eq!(poll(&environment, &[]), "3m");
    assert_eq!(poll(&[], &[]), "5m");

    // A switch can be turned off again where the file turns it on.
    let rewinds = |arguments: &[&str]| printed(&state, &[], arguments).contains("followRewinds: true");
    assert!(rewinds(&[]) && rewinds(&["--follow-rewinds"]) && !rewinds(&["--follow-rewinds=false"]));
}

#[test]
fn what_is_printed_is_a_file_of_settings_without_secrets() {
    let state = State::new();
    state.write("run.yaml", FILE).write("token", "s3cret-token");
    let first = printed(&state, &[("DROVER_GIT_TOKEN", "s3cret-token")], &["--listen", "127.0.0.1:1"]);
    assert!(!first.contains("hunter2") && !first.contains("s3cret-token"), "{first}");
    assert!(first.contains("fightTimes: 7") && first.contains("listen: 127.0.0.1:1"), "{first}");
    state.write("run.yaml", &first);
    assert_eq!(printed(&state, &[], &[]), first);
}

#[test]
fn settings_that_cannot_be_are_named() {
    let state = State::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    state.write("state/fleet.yaml", "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: fleet}\n");
    let says = |arguments: &[&str], wanted: &[&str]| {
        let ran = run(&state, &[], arguments);
        assert!([1, 2].contains(&ran.code), "{arguments:?}: {}", ran.err);
        for wanted in wanted {
            assert!(ran.err.contains(wanted), "{arguments:?} does not say {wanted:?}: {}", ran.err);
        }
    };
    state.write("run.yaml", "daemon:\n  polll: 1m\n");
    says(&["--config", "run.yaml"], &["run.yaml", "unknown field `polll`", "line 2 column 3", "drover schema run"]);
    state.write("run.yaml", "daemon:\n  parallel: 0\n");
    says(&["--config", "run.yaml"], &["run.yaml", "nonzero", "line 2"]);
    says(&["--config", "nowhere.yaml"], &["nowhere.yaml"]);
    says(&["--poll", "0s"], &["0s", "longer than 0"]);
    says(&["--parallel", "0"], &["--parallel"]);
    says(&["--log", "nonsense"], &["nonsense", "drover=debug"]);
    says(&["--listen", &taken], &[&taken, "--listen"]);
    says(&["--listen", "everywhere"], &["everywhere", "--listen"]);
}

#[test]
fn what_is_deployed_is_accepted_by_an_api_server_and_by_drover() {
    let plane = ControlPlane::start_named("deployed");
    // In Rancher's cluster, each cluster that it looks after is a namespace.
    plane.kubectl(["create", "namespace", "c-x7k2p"]);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    let said = plane.kubectl(["apply", "--dry-run=server", "--filename", folder]);
    for object in ["deployment.apps/drover", "service/drover", "configmap/drover", "serviceaccount/drover"] {
        assert!(said.contains(&format!("{object} created (server dry run)")), "{said}");
    }
    let text = std::fs::read_to_string(format!("{folder}/drover.yaml")).expect("the manifest");
    let settings: String = text
        .lines()
        .skip_while(|line| !line.contains("run.yaml: |"))
        .skip(1)
        .take_while(|line| line.starts_with("    "))
        .map(|line| format!("{}\n", &line[4..]))
        .collect();
    let state = State::new();
    state.write("run.yaml", settings);
    let printed = printed(&state, &[], &[]);
    assert!(printed.contains("hookSecretFile: /etc/drover/secrets/hook-secret"), "{printed}");
}
