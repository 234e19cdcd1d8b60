//! Tokens, certificates and kubeconfigs that change, expire or vanish while the daemon runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Followed, carries, is_trouble_of, label, lease_holder, tamper};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::pod::{in_a_pod, write_account};
use crate::support::run;

/// Beside the state, and no part of it.
const CONFIG: &str = ".cache/config";

/// The kubeconfig of drover, with other credentials.
fn kubeconfig(plane: &ControlPlane, user: &Value) -> String {
    let text = fs::read_to_string(plane.kubeconfig(Role::Drover)).expect("a kubeconfig");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["users"][0]["user"] = user.clone();
    config.to_string()
}

/// A cluster with one node, and a state that reaches it through the file `config`.
fn reached(plane: &ControlPlane, user: &Value) -> Followed {
    plane.create_nodes(["cred-1"].map(NodeSpec::new));
    let followed = Followed::of(plane);
    let config = followed.state.write(CONFIG, kubeconfig(plane, user)).path(CONFIG);
    followed.state.cluster("prod", &format!("{{kubeconfig: {}}}\n  timeout: 2s", config.display()));
    followed.state.node("prod", "cred-1", "{group: ads}").commit("one");
    followed
}

fn heals(plane: &ControlPlane) {
    tamper(plane, "cred-1", "org", &json!("rec"));
    carries(plane, "cred-1", "org", Some("ads"));
}

/// Writes a file as an operator's tools do: whole, or not at all.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("the same folder");
}

#[test]
fn a_token_that_was_revoked_is_followed_by_the_next_one() {
    let plane = ControlPlane::start_named("rotated");
    let followed = reached(&plane, &json!({ "token": "a-wrong-token-of-rotated" }));
    let daemon = followed.run(&["--watch-lifetime", "2s"]);
    is_trouble_of(&daemon, "prod");
    let failures = daemon.status()["clusters"]["prod"]["failures"].to_string();
    assert!(failures.contains("does not accept drover's credentials"), "{failures}");

    let config = followed.state.path(CONFIG);
    replace(&config, &kubeconfig(&plane, &json!({ "token": plane.token(Role::Drover) })));
    carries(&plane, "cred-1", "org", Some("ads"));
    daemon.is_ready();

    plane.rotate_token(Role::Drover, "another-token-of-rotated");
    plane.stop_api_server();
    plane.start_api_server();
    is_trouble_of(&daemon, "prod");
    let token = followed.state.path(".cache/token");
    fs::write(&token, "another-token-of-rotated").expect("a file");
    replace(&config, &kubeconfig(&plane, &json!({ "tokenFile": token })));
    heals(&plane);
    daemon.is_ready();

    plane.rotate_token(Role::Drover, "unused-token-of-rotated"); // the token in force is another one by now
    replace(&token, "a-stale-token-of-rotated");
    is_trouble_of(&daemon, "prod");
    replace(&token, "another-token-of-rotated");
    heals(&plane);
    daemon.is_ready();
}

#[test]
fn a_certificate_that_expires_is_followed_by_the_next_one() {
    let plane = ControlPlane::start_named("expiring");
    let (certificate, key) = plane.client_certificate(Role::Drover, 20);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mine, my_key) = (folder.path().join("certificate"), folder.path().join("key"));
    let take = |certificate: &Path, key: &Path| {
        fs::copy(key, &my_key).expect("a key");
        replace(&mine, &fs::read_to_string(certificate).expect("a certificate"));
    };
    take(&certificate, &key);
    let followed = reached(&plane, &json!({ "client-certificate": mine, "client-key": my_key }));
    let daemon = followed.run(&["--watch-lifetime", "2s"]);
    carries(&plane, "cred-1", "org", Some("ads"));
    is_trouble_of(&daemon, "prod");
    let (certificate, key) = plane.client_certificate(Role::Drover, 3600);
    take(&certificate, &key);
    heals(&plane);
    daemon.is_ready();
}

#[test]
fn a_kubeconfig_that_vanishes_or_hangs_is_told_of_and_the_connection_goes_on() {
    let plane = ControlPlane::start_named("vanished");
    let followed = reached(&plane, &json!({ "token": plane.token(Role::Drover) }));
    let config = followed.state.path(CONFIG);
    let daemon = followed.run(&[]);
    carries(&plane, "cred-1", "org", Some("ads"));
    let away = config.with_extension("away");
    for broken in [None, Some("{not a kubeconfig")] {
        fs::rename(&config, &away).expect("it is there");
        broken.inspect(|text| replace(&config, text));
        is_trouble_of(&daemon, "prod");
        let failures = &daemon.status()["clusters"]["prod"]["failures"];
        assert!(failures["connection"].as_str().is_some_and(|why| why.contains("kubeconfig")), "{failures}");
        heals(&plane);
        is_trouble_of(&daemon, "prod");
        fs::rename(&away, &config).expect("it was there");
        daemon.is_ready();
    }
}

#[test]
fn a_kubeconfig_that_hangs_delays_no_other_cluster() {
    let plane = ControlPlane::start_named("beside");
    let followed = reached(&plane, &json!({ "token": plane.token(Role::Drover) }));
    let pipe = |name: &str| {
        let pipe = followed.state.path(&format!(".cache/{name}"));
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        format!("{{kubeconfig: {}}}", pipe.display())
    };
    // More of them than the runtime has threads.
    for name in ["stuck-1", "stuck-2", "stuck-3", "stuck-4"] {
        followed.state.cluster(name, &pipe(name));
    }
    followed.state.commit("stuck");
    let daemon = followed.run(&[]);
    carries(&plane, "cred-1", "org", Some("ads"));
    heals(&plane);
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(daemon.get("/readyz").0, 503);
    daemon.stop().expect(0);
}

#[test]
fn a_kubeconfig_of_another_cluster_mixes_nothing() {
    let (one, two) = (ControlPlane::start_named("one"), ControlPlane::start_named("two"));
    let user = |plane: &ControlPlane| json!({ "token": plane.token(Role::Drover) });
    let followed = reached(&one, &user(&one));
    two.create_nodes(["cred-1", "cred-2"].map(NodeSpec::new));
    let daemon = followed.run(&[]);
    carries(&one, "cred-1", "org", Some("ads"));
    daemon.comes_to("one node", |status| status["clusters"]["prod"]["nodes"]["unmanaged"] == 0);
    soon("the Lease is held", || lease_holder(&one).is_some_and(|holder| !holder.is_empty()));

    replace(&followed.state.path(CONFIG), &kubeconfig(&two, &user(&two)));
    carries(&two, "cred-1", "org", Some("ads"));
    daemon.comes_to("the other one's nodes", |status| status["clusters"]["prod"]["nodes"]["unmanaged"] == 1);
    daemon.is_ready();
    assert_eq!(lease_holder(&one).as_deref(), Some(""), "its Lease was given back");
    assert!(lease_holder(&two).is_some_and(|holder| !holder.is_empty()));
    // Nobody looks after the first one any more.
    tamper(&one, "cred-1", "org", &json!("rec"));
    tamper(&two, "cred-1", "org", &json!("rec"));
    carries(&two, "cred-1", "org", Some("ads"));
    assert_eq!(label(&one, "cred-1", "org").as_deref(), Some("rec"));

    // The other way round by a commit, with other labels: they are never written to the cluster that is left.
    let back = format!("{{kubeconfig: {}}}", one.kubeconfig(Role::Drover).display());
    followed.state.cluster("prod", &back).node("prod", "cred-1", "{group: rec, labels: {rack: r1}}").commit("back");
    carries(&one, "cred-1", "rack", Some("r1"));
    assert_eq!(label(&two, "cred-1", "rack"), None);
    assert_eq!(label(&two, "cred-1", "org").as_deref(), Some("ads"));
}

#[test]
fn inside_its_cluster_it_is_its_service_account_and_takes_up_the_next_token() {
    let plane = ControlPlane::start_named("inside");
    plane.create_nodes(["cred-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.cluster("prod", "{inCluster: true}").node("prod", "cred-1", "{group: ads}").commit("inside");
    let first = plane.service_account("drover");
    let account = followed.state.path(".cache/account");
    write_account(&plane, &account, &first);
    let Some(mut pod) = in_a_pod(&plane, followed.state.root(), &account) else { return };
    let plan = run::finish(pod.args(["plan", "--detailed-exitcode"])).expect(2);
    assert!(plan.out.contains("prod: 1 node, 1 label: +1 ~0 -0"), "{}", plan.out);
    let outside = followed.state.drover(&["plan"]).expect(1);
    assert!(outside.out.contains("drover does not run inside a cluster"), "{}", outside.out);

    let repository = followed.state.root().display().to_string();
    let pod = in_a_pod(&plane, followed.state.root(), &account).expect("as before");
    let daemon = Daemon::start_command(pod, &["--repo", &repository, "--rev", "main", "--watch-lifetime", "2s"]);
    carries(&plane, "cred-1", "org", Some("ads"));
    daemon.is_ready();
    soon("its Events are taken", || plane.kubectl(["get", "events", "-A", "-o", "wide"]).contains("Labelled"));

    let second = plane.service_account("drover");
    is_trouble_of(&daemon, "prod");
    replace(&account.join("token"), &second);
    heals(&plane);
    daemon.is_ready();
    let said = daemon.stop().expect(0).err;
    assert!(!said.contains(&first) && !said.contains(&second), "a token was shown");
}
