//! The whole way of a machine, with nobody touching its labels: set up, joined, verified, labelled; its mount is lost, and
//! comes back.

use serde_json::{Value, json};

use super::cluster::condition;
use crate::support::control_plane::{ControlPlane, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::machine::Machine;
use crate::support::state::State;

const NODE: &str = "whole-way-1";

/// A cluster whose machines keep their storage on a volume that the set-up mounts.
fn state_of(plane: &ControlPlane, machine: &Machine) -> State {
    let state = State::new();
    let spec = json!({
        "connection": {"kubeconfig": plane.kubeconfig(Role::Drover)},
        "storage": {
            "root": machine.text("mnt"), "fileSystems": ["fuse.glusterfs"],
            "directories": [{"path": "kubeflow/minio"}, {"path": "infra/mysql", "mode": "0777", "owner": "999:999"}],
            "probeTimeout": "3s",
        },
        "bootstrap": {
            "mount": {"source": machine.text("client.vol"), "type": "glusterfs", "mountPoint": machine.text("mnt")},
            // The kubelet that it starts is one by name; the hollow one that joins runs beside the machine.
            "join": {"command": format!(
                "echo {{node}} >{0}/joined; cp /bin/sleep {0}/kubelet; {0}/kubelet infinity >{0}/log 2>&1 &",
                machine.folder().display()
            )},
        },
    });
    let cluster = json!({
        "apiVersion": "drover.dev/v1", "kind": "Cluster", "metadata": {"name": "prod"}, "spec": spec,
    });
    state.write("state/clusters/prod.yaml", cluster.to_string());
    state.group("ads");
    state.node("prod", NODE, "{group: ads, devices: {cpu: true}, workloads: [train]}");
    state.commit("a new machine");
    state
}

fn labels(plane: &ControlPlane) -> Value {
    let mut labels = plane.get(&format!("/api/v1/nodes/{NODE}"))["metadata"]["labels"].clone();
    labels.as_object_mut().into_iter().for_each(|labels| labels.retain(|key, _| !key.contains('/')));
    labels
}

fn come_to(plane: &ControlPlane, wanted: &Value) {
    soon(&format!("{NODE} carries {wanted}"), || labels(plane) == *wanted);
}

#[test]
fn a_machine_is_set_up_verified_labelled_and_loses_and_gets_back_its_mount() {
    let Some(machine) = Machine::start() else { return };
    machine.sh("for own in etc var/log; do mkdir -p $F/own/$own; cp -a /$own/. $F/own/$own; mount --bind $F/own/$own /$own; done");
    let volume = machine.gluster(&machine.text("mnt"));
    volume.unmount();
    let plane = ControlPlane::start_named("whole-way");
    let state = state_of(&plane, &machine);
    let repository = state.root().display().to_string();
    let daemon = Daemon::start(state.root(), &["--repo", &repository, "--rev", "main"]);

    // Set up twice: the second time there is nothing to do.
    let script = machine.text("set-up.sh");
    state.drover(&["bootstrap", NODE, "--out", &script]).expect(0);
    machine.sh("bash $F/set-up.sh >&2");
    assert_eq!(machine.sh("cat $F/joined; cd $F/mnt; ls -d */*"), format!("{NODE}\ninfra/mysql\nkubeflow/minio\n"));
    let before = machine.sh("cat /etc/fstab; find $F/mnt -printf '%p %m %U:%G %C@\\n' | sort");
    machine.sh("bash $F/set-up.sh >&2");
    assert_eq!(machine.sh("cat /etc/fstab; find $F/mnt -printf '%p %m %U:%G %C@\\n' | sort"), before);

    // It joins, and takes no work before its agent has looked.
    let _kubelet = plane.hollow_kubelet(NODE);
    soon("it has joined", || plane.request(Role::Admin, "GET", &format!("/api/v1/nodes/{NODE}"), None).status == 200);
    come_to(&plane, &json!({"cpu": "true"}));
    daemon.comes_to("it waits", |status| status["clusters"]["prod"]["nodes"]["waiting"] == 1);
    let _agent = machine.agent(&plane, NODE, &["--interval", "1s"]);
    let labelled = json!({"cpu": "true", "org": "ads", "train": "true"});
    come_to(&plane, &labelled);
    assert_eq!(condition(&plane, NODE)["status"], "True");

    // Its mount is lost.
    volume.unmount();
    come_to(&plane, &json!({"cpu": "true"}));
    soon("the condition is false", || condition(&plane, NODE)["status"] == "False");
    assert_eq!(condition(&plane, NODE)["reason"], "NotMounted");
    let plan = state.drover(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains(&format!("{NODE}  waits for storage: org=ads train=true  NotMounted: ")), "{}", plan.out);
    assert_eq!(machine.sh("ls $F/mnt"), "", "nothing is created on the local disk");

    // And comes back.
    volume.mount();
    come_to(&plane, &labelled);
    assert_eq!(condition(&plane, NODE)["status"], "True");

    // A server that hangs is no reason to move work.
    volume.server("STOP");
    soon("the condition is unknown", || condition(&plane, NODE)["status"] == "Unknown");
    let status = state.drover(&["status"]).expect(0);
    assert!(status.out.contains("ProbeTimeout"), "{}", status.out);
    assert_eq!(labels(&plane), labelled);
    volume.server("CONT");
    soon("the condition is true", || condition(&plane, NODE)["status"] == "True");
    assert_eq!(labels(&plane), labelled);
    daemon.stop().expect(0);
}
