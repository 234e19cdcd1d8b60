//! The real scheduler finds no room, drover commits the move to a real remote, the label follows, and the scheduler places
//! the pods on hollow kubelets: with GPU models, gangs, guarantees, holds and vetoes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::support::{carries, connection, label};
use crate::support::control_plane::{ControlPlane, JSON, Kubelet, Role};
use crate::support::daemon::{Daemon, soon};
use crate::support::state::State;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Machines by name, group, model of GPU, and what else their documents say.
const MACHINES: [(&str, &str, &str, &str); 6] = [
    ("sch-held", "ads", "A100", ", hold: {until: 2999-01-01, owner: ops, reason: RMA}"),
    ("sch-a1", "ads", "A100", ""),
    ("sch-a2", "ads", "A100", ""),
    ("sch-a3", "ads", "A100", ""),
    ("sch-t4", "ads", "T4", ""),
    ("sch-web", "web", "A100", ""),
];

struct Scene {
    plane: ControlPlane,
    state: State,
    daemon: Daemon,
    _processes: Vec<Kubelet>,
}

impl Scene {
    fn start() -> Self {
        let plane = ControlPlane::start_named("scheduled");
        let mut processes: Vec<Kubelet> = MACHINES.iter().map(|(name, ..)| plane.hollow_gpu_kubelet(name, 8)).collect();
        processes.push(plane.scheduler());
        let state = State::new();
        state.cluster("prod", &connection(&plane, Role::Drover)).group("web");
        state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  rebalance: {every: 1s, patience: 1s}\n");
        state.write(
            "state/groups/ads.yaml",
            "apiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: ads}\nspec: {guarantee: {prod: {nodes: 2}}}\n",
        );
        state.write(
            "state/fleet.yaml",
            "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  writeBack: {name: drover, email: drover@example.org}\n",
        );
        for (name, group, model, more) in MACHINES {
            state.node("prod", name, &format!("{{group: {group}, shareable: true, devices: {{gpu: {model}}}{more}}}"));
        }
        state.write(".gitignore", ".cache/\nfleet.git/\n").commit("six machines");
        state.git(&["clone", "--quiet", "--bare", ".", "fleet.git"]);
        let repository = state.path("fleet.git").display().to_string();
        let daemon = Daemon::start(state.root(), &["--repo", &repository, "--rev", "main"]);
        for (name, group, ..) in MACHINES {
            carries(&plane, name, "org", Some(group));
        }
        Self { plane, state, daemon, _processes: processes }
    }

    /// Submits a pod of `web` that wants a whole machine of a model.
    fn submit(&self, name: &str, model: &str, gang: Option<&str>) {
        let annotations = gang.map(|gang| json!({"scheduling.k8s.io/group-name": gang})).unwrap_or(json!({}));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
            "spec": {"nodeSelector": {"org": "web", "gpu-type": model}, "containers": [{"name": "c", "image": "c",
                "resources": {"requests": {"nvidia.com/gpu": "8"}, "limits": {"nvidia.com/gpu": "8"}}}]}});
        self.plane.request(Role::Admin, "POST", PODS, Some((JSON, &pod))).accepted(PODS);
    }

    fn delete(&self, name: &str) {
        let path = format!("{PODS}/{name}");
        let now = json!({"gracePeriodSeconds": 0});
        self.plane.request(Role::Admin, "DELETE", &path, Some((JSON, &now))).accepted(&path);
        soon(&format!("{name} is gone"), || self.plane.request(Role::Admin, "GET", &path, None).status == 404);
    }

    /// Where a pod runs; none while it does not.
    fn runs_on(&self, name: &str) -> Option<String> {
        let pod = self.plane.get(&format!("{PODS}/{name}"));
        let runs = pod["status"]["phase"] == "Running";
        runs.then(|| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a pod runs, on one of these machines.
    fn runs(&self, name: &str, machines: &[&str]) {
        soon(&format!("{name} runs"), || self.runs_on(name).is_some());
        let node = self.runs_on(name).expect("it runs");
        assert!(machines.contains(&node.as_str()), "{name} runs on {node}");
    }

    /// Waits until the real scheduler has found no room for a pod.
    fn waits(&self, name: &str) {
        soon(&format!("{name} waits"), || {
            let pod = self.plane.get(&format!("{PODS}/{name}"));
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["reason"] == "Unschedulable" && one["message"] != "")
        });
    }

    fn passes(&self, kind: &str) -> f64 {
        let sample = format!("drover_rebalance_passes_total{{cluster=\"prod\",kind=\"{kind}\"}}");
        self.daemon.metric(&sample).unwrap_or_default()
    }

    /// Waits until the rebalancer has looked this often again with such an outcome.
    fn looks(&self, kind: &str, times: f64) {
        let before = self.passes(kind);
        soon(&format!("{times} passes end as {kind}"), || self.passes(kind) >= before + times);
    }

    fn remote(&self, arguments: &[&str]) -> String {
        self.state.git(&[&["--git-dir", "fleet.git"], arguments].concat())
    }

    fn moves(&self) -> Vec<String> {
        let log = self.remote(&["log", "--reverse", "--format=%B", "main"]);
        log.lines().filter_map(|line| line.strip_prefix("Drover-Move: ").map(str::to_owned)).collect()
    }

    fn org(&self, node: &str) -> Option<String> {
        label(&self.plane, node, "org")
    }
}

#[test]
fn the_scheduler_places_the_pods_that_waited() {
    let scene = Scene::start();
    scene.submit("serve", "A100", None);
    scene.runs("serve", &["sch-web"]);

    // A gang of two waits, and the remote refuses: nothing moves.
    let hook = scene.state.path("fleet.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    fs::write(&hook, "#!/bin/sh\necho no; exit 1\n").expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is ours");
    scene.submit("train-0", "A100", Some("train"));
    scene.submit("train-1", "A100", Some("train"));
    scene.waits("train-0");
    scene.waits("train-1");
    scene.looks("failed", 2.0);
    for (name, group, ..) in MACHINES {
        assert_eq!(scene.org(name).as_deref(), Some(group), "the remote refused, and nothing moved");
    }
    assert_eq!(scene.moves(), [""; 0]);

    // It takes commits again: two machines of the model move, in one commit, and neither is the held one.
    fs::remove_file(&hook).expect("a hook");
    scene.runs("train-0", &["sch-a1", "sch-a2", "sch-a3"]);
    scene.runs("train-1", &["sch-a1", "sch-a2", "sch-a3"]);
    assert_eq!(scene.moves().len(), 2, "{:?}", scene.moves());
    assert_eq!(scene.remote(&["rev-list", "--count", "main"]), "2");
    let message = scene.remote(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("the first, default/train of 2 pods, for "), "{message}");
    assert!(message.contains("it is one of the machines that its pods need together"), "{message}");

    // `ads` keeps two machines in any case: the third A100 goes, and after it only machines of `ads` are left that are held,
    // of another model, or guaranteed.
    scene.submit("more-0", "A100", None);
    scene.runs("more-0", &["sch-a1", "sch-a2", "sch-a3"]);
    let third = scene.runs_on("more-0").expect("it runs");
    scene.submit("more-1", "A100", None);
    scene.waits("more-1");
    scene.looks("nothing", 3.0);
    assert_eq!((scene.moves().len(), scene.runs_on("more-1")), (3, None));

    // A person takes the third machine back. It is not moved again, though a pod waits for one like it.
    scene.delete("more-1");
    scene.delete("more-0");
    scene.take_back(&third);
    scene.submit("more-1", "A100", None);
    scene.waits("more-1");
    scene.looks("nothing", 3.0);
    assert_eq!(scene.org(&third).as_deref(), Some("ads"), "a person said so");
    assert_eq!(scene.moves().len(), 3, "{:?}", scene.moves());

    // Another model is what its pod gets: `web` has none, and `ads` can spare it now.
    scene.submit("infer", "T4", None);
    scene.runs("infer", &["sch-t4"]);
    assert_eq!(scene.moves().last().map(String::as_str), Some("sch-t4 ads -> web"));
    assert_eq!(scene.org("sch-held").as_deref(), Some("ads"));
    scene.state.git(&["pull", "--quiet", "fleet.git", "main"]);
    scene.state.drover(&["audit", "--verify"]).expect(0);
}

impl Scene {
    /// A person reverts the commit that moved a machine, and pushes.
    fn take_back(&self, node: &str) {
        self.state.git(&["pull", "--quiet", "fleet.git", "main"]);
        let commit = self.state.git(&["log", "-1", "--format=%H", &format!("--grep=Drover-Move: {node} ")]);
        self.state.git(&["revert", "--no-edit", &commit]);
        self.state.git(&["push", "--quiet", "fleet.git", "main"]);
        carries(&self.plane, node, "org", Some("ads"));
    }
}
