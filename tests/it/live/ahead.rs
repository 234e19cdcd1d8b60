//! Clusters are looked at while the rest of the state is still being read: once each, and only those that are wanted.

use super::support::{labels, shared};
use crate::support::control_plane::{NodeSpec, Role};
use crate::support::proxy::Proxy;
use crate::support::state::State;

/// Two clusters, `one` and `two`, each behind a proxy of its own; really they are the same.
fn two_clusters(node: &str) -> (State, [Proxy; 2]) {
    shared().create_nodes([NodeSpec::new(node)]);
    let state = State::new();
    let proxies = ["one", "two"].map(|name| {
        let proxy = Proxy::start(shared(), |_| None);
        state.write(name, proxy.kubeconfig(Role::Drover));
        state.cluster(name, &format!("{{kubeconfig: ../{name}}}")).node(name, node, "{devices: {gpu: T4}}");
        proxy
    });
    (state, proxies)
}

fn lists(proxies: &[Proxy; 2]) -> [usize; 2] {
    [0, 1].map(|index| proxies[index].asked("GET", "/api/v1/nodes").len())
}

#[test]
fn each_wanted_cluster_is_asked_once() {
    let (state, proxies) = two_clusters("ahead-1");
    state.drover(&["plan"]).expect(0);
    assert_eq!(lists(&proxies), [1, 1]);
    state.drover(&["plan", "--cluster", "two"]).expect(0);
    assert_eq!(lists(&proxies), [1, 2]);
    state.drover(&["status", "--cluster", "one"]).expect(0);
    assert_eq!(lists(&proxies), [2, 2]);
}

#[test]
fn a_state_that_is_wrong_elsewhere_is_planned_and_never_applied() {
    let (state, proxies) = two_clusters("ahead-2");
    state.write("state/nodes/two/broken.yaml", "kind: [");
    let ran = state.drover(&["plan", "--format", "json"]).expect(1);
    assert_eq!(ran.json()["clusters"].as_array().map(Vec::len), Some(2));
    state.drover(&["apply", "--yes"]).expect(1);
    assert_eq!(lists(&proxies), [1, 1], "apply looks at no cluster before it knows that the state is right");
    assert_eq!(labels(shared(), "ahead-2"), "");
}
