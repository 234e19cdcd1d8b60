//! What a person is told when the API server does not let drover in. That no run of any test shows a token is checked
//! where tests run drover.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{connection, labels, shared, state_of, versions};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role, TOKEN_MARK};
use crate::support::state::State;

/// A state whose cluster is reached by `config`, a kubeconfig of the role that `change` has edited.
fn state_with(plane: &ControlPlane, node: &str, change: impl Fn(String) -> String) -> State {
    let config = std::fs::read_to_string(plane.kubeconfig(Role::Drover)).expect("a kubeconfig");
    let state = State::new();
    state.write("config", change(config));
    state.cluster("prod", "{kubeconfig: ../config}").node("prod", node, "{workloads: [train]}");
    state
}

#[test]
fn a_token_without_the_right_to_patch_is_told_which_right_is_missing() {
    let plane = shared();
    plane.create_nodes(["read-1", "read-2"].map(NodeSpec::new));
    let before = versions(plane, ["read-1", "read-2"]);
    let state = State::new();
    state.cluster("prod", &connection(plane, Role::Reader));
    state.node("prod", "read-1", "{workloads: [train]}").node("prod", "read-2", "{workloads: [train]}");
    state.drover(&["plan", "--detailed-exitcode"]).expect(2);

    let ran = state.drover(&["apply", "--yes", "--parallel", "1"]).expect(1);
    let (_, report) = ran.out.rsplit_once("\nprod: ").expect("a report after the plan");
    assert!(
        report.starts_with("applied 0 labels on 0 nodes\n  failed read-1: drover may not patch nodes: "),
        "{report}"
    );
    assert!(report.contains("User \"reader\" cannot patch resource \"nodes\""), "{report}");
    assert!(report.contains("a ClusterRole with the verb \"patch\" on the resource \"nodes\""), "{report}");
    assert!(report.contains("not done, 1 node: read-2"), "the others would fail alike: {report}");
    assert_eq!(versions(plane, ["read-1", "read-2"]), before);
}

#[test]
fn who_may_not_see_pods_gets_no_change_past_the_guard_of_pods() {
    let plane = shared();
    plane.create_nodes([NodeSpec::new("blind-1").label("org", "blind-old")]);
    let state = State::new();
    state.cluster("prod", &connection(plane, Role::Blind)).node("prod", "blind-1", "{}");
    let ran = state.drover(&["apply", "--yes"]).expect(3);
    assert!(ran.out.contains("! refused by running-pods: the pods on the changed nodes are not known"), "{}", ran.out);
    assert!(ran.out.contains("drover may not list pods"), "{}", ran.out);
    state.drover(&["apply", "--yes", "--allow", "running-pods"]).expect(0);
}

#[test]
fn a_wrong_token_is_said_to_be_wrong_and_not_shown() {
    let state = state_with(shared(), "token-1", |config| config.replace("drover-token-of-", "wrong-token-of-"));
    for command in [&["plan"][..], &["status"], &["apply", "--yes"]] {
        let ran = state.drover(command).expect(1);
        assert!(ran.out.contains("prod: unreachable: the API server does not accept drover's credentials"), "{ran:?}");
        assert!(ran.out.contains("the token or certificate of the kubeconfig is wrong or has expired"), "{ran:?}");
    }
}

#[test]
fn an_unknown_context_lists_the_known_ones() {
    let state = state_with(shared(), "context-1", |config| config);
    state.cluster("prod", "{kubeconfig: ../config, context: production}");
    let ran = state.drover(&["plan"]).expect(1);
    assert!(ran.out.contains("has no context \"production\" (it has: shared)"), "{}", ran.out);

    let arguments = ["import", "--kubeconfig", "config", "--context", "nope", "--cluster", "x", "--state", "new"];
    let ran = state.drover(&arguments).expect(1);
    assert!(ran.err.contains("has no context \"nope\"") && ran.err.contains("it has: shared"), "{}", ran.err);
    assert!(!state.path("new").exists(), "nothing is written");
}

#[test]
fn a_broken_kubeconfig_is_named_and_shows_no_secret() {
    let secret = format!("secret{TOKEN_MARK}nobody");
    let plane = shared();
    plane.create_nodes([NodeSpec::new("broken-1")]);
    let valid = std::fs::read_to_string(plane.kubeconfig(Role::Drover)).expect("a kubeconfig");
    let drovers = plane.token(Role::Drover);
    for (broken, cause) in [
        (format!("users: [{{name: a, user: {secret}}}]"), "is not a kubeconfig (line 1, column 25)"),
        (format!("users: {secret}"), "is not a kubeconfig (line 1, column 8)"),
        (format!("{secret}: [\n"), "is not a kubeconfig"),
        (format!("users:\n- name: a\n  user: {{token: {secret}}}\n - oops"), "is not a kubeconfig"),
        (valid.replace(&format!("\"{drovers}\""), &format!("[\"{secret}\"]")), "is not a kubeconfig (line "),
        (valid.replace(&drovers, &format!("{secret}\\nand more")), "cannot be used: it holds a line break"),
        (valid.replace(&plane.url(), &format!("https://user:{secret}@127.0.0.1:1")), "cannot be reached: "),
    ] {
        let state = State::new();
        state.write("config", &broken);
        state.cluster("prod", "{kubeconfig: ../config}").node("prod", "broken-1", "{workloads: [train]}");
        let ran = state.drover(&["plan"]).expect(1);
        assert!(ran.out.contains("prod: unreachable: ") && ran.out.contains(cause), "{cause}\n{ran:?}\n{broken}");
    }
    let state = state_of(plane);
    state.cluster("prod", "{kubeconfig: ../missing}").node("prod", "broken-1", "{}");
    let ran = state.drover(&["plan"]).expect(1);
    assert!(ran.out.contains("missing cannot be read: "), "{}", ran.out);
}

#[test]
fn credentials_can_come_from_a_command_whose_trouble_is_told_without_what_it_said() {
    let plane = shared();
    let token = plane.token(Role::Drover);
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token},
    });
    let fetched_by = |node: &str, script: String| {
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
            "env": [{"name": "PASSWORD", "value": token}], "interactiveMode": "Never",
        });
        let state = state_with(plane, node, |config| {
            let mut config: Value = serde_json::from_str(&config).expect("JSON");
            config["users"][0]["user"] = json!({ "exec": exec });
            config.to_string()
        });
        state.cluster("prod", "{kubeconfig: ../config}\n  timeout: 2s");
        state
    };
    plane.create_nodes([NodeSpec::new("exec-1")]);
    fetched_by("exec-1", format!("echo '{credential}'")).drover(&["apply", "--yes"]).expect(0);
    assert_eq!(labels(plane, "exec-1"), "train=true");

    for (script, cause) in [
        (format!("echo {token}; echo {token} >&2; exit 3"), "gave no credentials: exit status: 3"),
        (format!("echo 'kind: [{token}'"), "answered with something that is no ExecCredential"),
        ("sleep 60".to_owned(), "gave no credentials within 2 s"),
    ] {
        let began = Instant::now();
        let ran = fetched_by("exec-2", script).drover(&["plan"]).expect(1);
        let said = format!("prod: unreachable: the command of the kubeconfig {cause}");
        assert!(ran.out.contains(&said), "{ran:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "it waited {:?}", began.elapsed());
    }
}
