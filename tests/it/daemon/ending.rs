//! The daemon is told to end, in the middle of everything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::support::{Followed, carries, connection, is_trouble_of, lease_holder};
use crate::support::control_plane::{ControlPlane, NodeSpec, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::openb;

/// A cluster with the machines of the trace, and a state that labels them all.
struct Herd {
    plane: ControlPlane,
    followed: Followed,
    size: usize,
}

impl Herd {
    fn start() -> Option<Self> {
        let machines = openb::machines()?;
        let plane = ControlPlane::start_named("ending");
        plane.create_nodes(machines.iter().map(NodeSpec::from));
        let followed = Followed::of(&plane);
        let allow = "{guard: too-many-nodes, until: 2999-01-01, owner: ann@example.org, reason: first}";
        followed
            .state
            .cluster("prod", &format!("{}\n  allow: [{allow}]\n  timeout: 2s", connection(&plane, Role::Drover)));
        let nodes = machines.iter().map(|machine| {
            let name = &machine.name;
            format!("---\napiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: prod}}\nspec: {{group: ads}}\n")
        });
        followed.state.write("state/nodes/prod.yaml", nodes.collect::<String>()).commit("all");
        Some(Self { plane, followed, size: machines.len() })
    }

    fn labelled(&self, group: &str) -> usize {
        let list = self.plane.get(&format!("/api/v1/nodes?labelSelector=org%3D{group}"));
        list["items"].as_array().expect("nodes").len()
    }

    /// A daemon in the middle of its work.
    fn begin(&self) -> Daemon {
        let daemon = self.followed.run(&["--parallel", "1"]);
        soon("it is in the middle", || self.labelled("ads") > 50);
        daemon
    }
}

#[test]
fn an_end_in_the_middle_of_an_apply_is_quick_and_the_next_one_goes_on_at_once() {
    let Some(herd) = Herd::start() else { return };
    let daemon = herd.begin();
    let begun = Instant::now();
    daemon.stop().expect(0);
    let took = begun.elapsed();
    let done = herd.labelled("ads");
    eprintln!("it ended after {took:?}, with {done} of {} nodes", herd.size);
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    assert!(done < herd.size, "it was in the middle");
    assert_eq!(lease_holder(&herd.plane).as_deref(), Some(""), "its Lease was given back");

    let begun = Instant::now();
    let daemon = herd.followed.run(&["--lease", "60s"]);
    soon("the next one goes on", || herd.labelled("ads") > done);
    assert!(begun.elapsed() < Duration::from_secs(15), "nobody waits for a Lease that was given back");
    soon("it is done", || herd.labelled("ads") == herd.size);
    daemon.is_ready();
}

#[test]
fn a_second_signal_ends_it_at_once_and_another_state_ends_an_apply() {
    let Some(herd) = Herd::start() else { return };
    let daemon = herd.begin();
    // What is not wanted any more is not finished.
    herd.followed.state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  mode: observe\n").commit("observe");
    daemon.comes_to("it only observes", |status| {
        status["clusters"]["prod"]["tenure"]["role"] == "observer" && status["clusters"]["prod"]["mode"] == "observe"
    });
    let done = herd.labelled("ads");
    assert!(done < herd.size, "it was in the middle");
    assert_eq!(lease_holder(&herd.plane).as_deref(), Some(""));
    herd.followed.state.edit("state/clusters/prod.yaml", "mode: observe", "mode: enforce").commit("enforce");
    soon("it goes on", || herd.labelled("ads") > done);

    herd.plane.pause_api_server();
    is_trouble_of(&daemon, "prod");
    daemon.signal("TERM");
    soon("it is about to end", || daemon.said().contains("stopping"));
    let begun = Instant::now();
    daemon.signal("TERM");
    daemon.end().expect(130);
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
    herd.plane.resume_api_server();
}

#[test]
fn neither_a_hung_cluster_nor_a_client_that_never_finishes_keeps_it() {
    let plane = ControlPlane::start_named("kept");
    plane.create_nodes(["kept-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.cluster("prod", &format!("{}\n  timeout: 2s", connection(&plane, Role::Drover)));
    followed.state.node("prod", "kept-1", "{group: ads}").commit("one");
    let daemon = followed.run(&[]);
    carries(&plane, "kept-1", "org", Some("ads"));
    let mut client = TcpStream::connect(daemon.url().trim_start_matches("http://")).expect("it listens");
    client.write_all(b"POST /hooks/git HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").expect("it takes it");
    plane.pause_api_server();
    is_trouble_of(&daemon, "prod");
    let begun = Instant::now();
    daemon.stop().expect(0);
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    let _ = client.read(&mut [0; 1]);
    plane.resume_api_server();
}
