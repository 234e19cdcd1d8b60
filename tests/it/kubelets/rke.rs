//! RKE: binds from its record in the cluster, edits of its cluster.yml, runs of its program.

use serde_json::json;

use super::support::{
    BIND, CLUSTER_YML, KEY, clean, create, full_cluster_state, machines, makes_live, record, rke_state, stand_in,
};
use crate::support::control_plane::{ControlPlane, Role};
use crate::support::run;
use crate::support::state::State;

const ALLOW: [&str; 4] = ["apply", "--yes", "--allow", "kubelet-restart"];

fn apply(state: &State, more: &[&str], code: i32) -> run::Ran {
    let arguments: Vec<&str> = ALLOW.iter().chain(more).copied().collect();
    clean(state.drover(&arguments).expect(code))
}

#[test]
fn a_bind_is_planned_edited_made_live_by_rke_and_then_nothing_differs() {
    let plane = ControlPlane::start_named("rke");
    machines(&plane);
    record(&plane, &["/x:/x"]);
    let state = rke_state(&plane);

    let plan = clean(state.drover(&["plan"]).expect(3));
    for said in [
        "prod: 0 nodes, 0 labels: +0 ~0 -0; 1 kubelet bind, 3 restarts",
        "kubelet binds (rke)",
        "+ /data/k8s:/data/k8s:rslave",
        "clusters/prod.yaml:10",
        "rke/cluster.yml gets /x:/x, /data/k8s:/data/k8s:rslave",
        "restarts control plane, 1 at a time (1): cp-1",
        "refused by kubelet-restart: 3 kubelets would restart for 1 bind",
    ] {
        assert!(plan.out.contains(said), "{said:?} in {}", plan.out);
    }
    for format in ["markdown", "html", "json"] {
        let ran = clean(state.drover(&["plan", "--format", format]).expect(3));
        assert!(ran.out.contains(BIND) && ran.out.contains("cp-1"), "{}", ran.out);
    }
    clean(state.drover(&["explain", "w-1"]).expect(0));
    assert!(clean(state.drover(&["status"]).expect(0)).out.contains(BIND));

    // Without a program, the file is edited and the next step is told.
    let ran = apply(&state, &[], 0);
    assert!(ran.out.contains("cluster.yml: commit it") && ran.out.contains("run `rke up --config"), "{}", ran.out);
    let expected = CLUSTER_YML.replace("# the old disk\n", "# the old disk\n      - \"/data/k8s:/data/k8s:rslave\"\n");
    assert_eq!(state.read("state/rke/cluster.yml"), expected);

    // RKE makes new certificates where its state is missing, so it is not run without.
    let lines = makes_live(&state, &plane, &["/x:/x", BIND]);
    let left_running = format!("(sleep 60; touch {}) &", state.path("late").display());
    let script = stand_in(&state, &format!("{lines}\n{left_running}")).display().to_string();
    let ran = apply(&state, &["--rke", &script], 1);
    assert!(ran.out.contains("cluster.rkestate is not there"), "{}", ran.out);
    assert!(!state.path("rke.log").exists());

    state.write("state/rke/cluster.rkestate", "{}");
    let ran = apply(&state, &["--rke", &script, "--rke-arg", "--ignore-docker-version"], 0);
    assert!(!state.path("late").exists(), "what RKE leaves running is not waited for");
    assert!(
        ran.err.contains("prod: INFO building the cluster") && ran.err.contains("prod: INFO on stderr"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("kubelet binds are as they must be"), "{}", ran.out);
    let config = state.path("state/rke/cluster.yml").canonicalize().expect("a file");
    assert_eq!(state.read("rke.log"), format!("up --config {} --ignore-docker-version\n", config.display()));
    clean(state.drover(&["plan", "--detailed-exitcode"]).expect(0));
    let explained = clean(state.drover(&["explain", "w-1"]).expect(0));
    assert!(
        explained.out.contains(&format!("bind      {BIND}  asked for by clusters/prod.yaml:10")),
        "{}",
        explained.out
    );

    // A recorded cluster says the same, and holds nothing but the binds.
    clean(state.drover(&["snapshot", "--out", "live.yaml"]).expect(0));
    assert!(!state.read("live.yaml").contains(KEY) && state.read("live.yaml").contains("kind: KubeletBinds"));
    let adopted = State::new();
    let kubeconfig = plane.kubeconfig(Role::Drover).display().to_string();
    adopted.write("prod.cluster.yml", state.read("state/rke/cluster.yml"));
    let import = ["import", "--cluster", "prod", "--kubeconfig", &kubeconfig, "--rke-config", "../prod.cluster.yml"];
    clean(adopted.drover(&import).expect(0));
    assert!(adopted.read("state/clusters/prod.yaml").contains(BIND), "{}", adopted.read("state/clusters/prod.yaml"));
    clean(adopted.drover(&["plan", "--detailed-exitcode"]).expect(0));

    // So does the recorded one, once somebody says what configures its kubelets.
    adopted.write("live.yaml", state.read("live.yaml"));
    let import = |state: &str, options: &[&str], code: i32| {
        let arguments = ["import", "--cluster", "prod", "--dump", "live.yaml", "--state", state];
        clean(adopted.drover(&[&arguments, options].concat()).expect(code))
    };
    let ran = import("without", &[], 0);
    assert!(ran.err.contains("the dump holds the binds of kubelets: --rke-config PATH adopts them"), "{}", ran.err);
    assert!(!adopted.read("without/clusters/prod.yaml").contains(BIND));
    let ran = import("other", &["--rancher-cluster", "c-abcde"], 1);
    assert!(ran.err.contains("live.yaml: the dump was made when rke configured the kubelets"), "{}", ran.err);
    assert!(!adopted.path("other").exists(), "nothing is half adopted");
    let ran = import("blocked", &["--rke-config", "../nowhere.yml"], 0);
    assert!(ran.err.contains("no bind can be changed yet: ") && ran.err.contains("nowhere.yml"), "{}", ran.err);
    let ran = import("recorded", &["--rke-config", "../prod.cluster.yml"], 0);
    assert!(!ran.err.contains("bind"), "nothing is to be said of them: {}", ran.err);
    assert!(adopted.read("recorded/clusters/prod.yaml").contains(BIND));
    let ran = clean(adopted.drover(&["plan", "--state", "recorded", "--detailed-exitcode"]).expect(0));
    assert!(!ran.out.contains("not known"), "{}", ran.out);
}

#[test]
fn an_older_rke_kept_a_config_map_and_a_missing_right_is_named() {
    let plane = ControlPlane::start_named("older");
    machines(&plane);
    let state = rke_state(&plane);
    let ran = clean(state.drover(&["plan"]).expect(1));
    assert!(ran.out.contains("the binds are not known") && ran.out.contains("not made by RKE"), "{}", ran.out);

    let map = json!({"metadata": {"name": "full-cluster-state"}, "data": {"full-cluster-state": full_cluster_state(&["/x:/x", BIND])}});
    create(&plane, "/api/v1/namespaces/kube-system/configmaps", &map);
    let ran = clean(state.drover(&["plan"]).expect(0));
    assert!(ran.out.contains("rke/cluster.yml gets"), "live has it, the file has not: {}", ran.out);
    assert!(!ran.out.contains("restarts"), "{}", ran.out);

    plane.kubectl(["delete", "role", "drover-kubelet", "-n", "kube-system"]);
    state.node("prod", "w-1", "{workloads: [train]}");
    crate::support::daemon::soon("the right is gone", || state.drover(&["plan"]).code == 1);
    let ran = clean(state.drover(&["apply", "--yes"]).expect(1));
    let said = "drover may not get the Secret full-cluster-state in kube-system";
    assert!(ran.out.contains(said) && ran.out.contains("deploy/rbac.yaml"), "{}", ran.out);
    assert!(ran.out.contains("applied 1 label on 1 node"), "labels go on: {}", ran.out);
}

#[test]
fn what_somebody_changed_since_the_plan_is_left_alone() {
    let plane = ControlPlane::start_named("stale-rke");
    machines(&plane);
    record(&plane, &["/x:/x"]);
    let state = rke_state(&plane);
    state.drover(&["plan", "--allow", "kubelet-restart", "--out", "plan.json"]).expect(0);
    assert!(!state.read("plan.json").contains(KEY));

    record(&plane, &["/x:/x", "/y:/y"]);
    let ran = apply(&state, &["plan.json"], 1);
    assert!(ran.out.contains("kubelet binds are stale, left alone") && ran.out.contains("/y:/y"), "{}", ran.out);
    assert_eq!(state.read("state/rke/cluster.yml"), CLUSTER_YML);

    record(&plane, &["/x:/x"]);
    state.edit("state/rke/cluster.yml", "\"/x:/x\"", "\"/x:/x:ro\"");
    let ran = apply(&state, &["plan.json"], 1);
    assert!(ran.out.contains("rke/cluster.yml was changed since the plan was made"), "{}", ran.out);

    state.edit("state/clusters/prod.yaml", "rslave", "rshared");
    let ran = clean(state.drover(&["apply", "plan.json", "--yes", "--allow", "kubelet-restart"]).expect(1));
    assert!(ran.err.contains("the plan is stale") && ran.err.contains("rshared"), "{}", ran.err);
}

#[test]
fn a_failing_rke_is_told_and_an_interrupt_asks_it_to_end() {
    let plane = ControlPlane::start_named("failing");
    machines(&plane);
    record(&plane, &["/x:/x"]);
    let state = rke_state(&plane);
    state.write("state/rke/cluster.rkestate", "{}");
    let script = stand_in(&state, "exit 3").display().to_string();
    let ran = apply(&state, &["--rke", &script], 1);
    assert!(ran.out.contains("kubelet binds failed") && ran.out.contains("exit status: 3"), "{}", ran.out);

    stand_in(&state, "true");
    let ran = apply(&state, &["--rke", &script], 1);
    assert!(ran.out.contains("RKE ended well, and yet /x:/x is live"), "{}", ran.out);

    let ended = state.path("ended").display().to_string();
    stand_in(&state, &format!("trap 'echo told > {ended}; exit 1' TERM\necho waiting\nwhile true; do sleep 0.1; done"));
    let mut command = run::command(state.root());
    command.args(ALLOW).args(["--rke", &script]);
    let running = run::Running::start(&mut command);
    running.says("prod: waiting");
    running.interrupt();
    let ran = clean(running.end());
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("RKE was stopped before its end"), "{}{}", ran.out, ran.err);
    assert_eq!(state.read("ended"), "told\n");
}

#[test]
fn in_a_repository_the_edit_is_a_commit_and_rke_runs_where_its_state_lies() {
    let plane = ControlPlane::start_named("repo");
    machines(&plane);
    record(&plane, &["/x:/x"]);
    let state = rke_state(&plane);
    let write_back = "writeBack: {name: drover, email: drover@example.org, mode: push}";
    state.write(
        "state/fleet.yaml",
        format!("apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {{name: fleet}}\nspec:\n  {write_back}\n"),
    );
    state.commit("prod");
    std::fs::create_dir_all(state.path(".cache")).expect("a folder");
    state.git(&["clone", "--quiet", "--bare", ".", ".cache/bare.git"]);
    let repo = state.path(".cache/bare.git").display().to_string();
    let script = stand_in(&state, &makes_live(&state, &plane, &["/x:/x", BIND])).display().to_string();
    state.write("rke/prod/cluster.rkestate", "{}");
    let folder = state.path("rke").display().to_string();
    let ran = apply(&state, &["--repo", &repo, "--rke", &script, "--rke-folder", &folder], 0);
    assert!(ran.out.contains("committed rke/cluster.yml as"), "{}", ran.out);
    let told = state.git(&["--git-dir", ".cache/bare.git", "log", "-1", "--format=%an%n%B", "main"]);
    assert!(told.starts_with(&format!("drover\nprod: bind {BIND} into the kubelets\n")), "{told}");
    let shown = state.git(&["--git-dir", ".cache/bare.git", "show", "--format=", "--stat", "main"]);
    assert!(shown.contains("state/rke/cluster.yml | 1 +") && shown.contains("1 file changed"), "{shown}");
    assert!(state.read("rke/prod/cluster.yml").contains(BIND));
    clean(state.drover(&["plan", "--repo", &repo, "--detailed-exitcode"]).expect(0));

    // A proposal is not in force: RKE waits for its merge.
    record(&plane, &["/x:/x"]);
    state.edit("state/fleet.yaml", "mode: push", "mode: pull-request").commit("propose");
    state.git(&["push", "--quiet", "--force", ".cache/bare.git", "HEAD:refs/heads/main"]);
    std::fs::remove_file(state.path("rke.log")).expect("it ran");
    let ran = apply(&state, &["--repo", &repo, "--rke", &script, "--rke-folder", &folder], 0);
    assert!(ran.out.contains("kubelet binds wait: merge the branch drover/prod"), "{}", ran.out);
    assert!(!state.path("rke.log").exists());
    let ran = apply(&state, &["--repo", &repo], 0);
    assert!(ran.out.contains("merge the branch drover/prod") && !ran.out.contains("committed"), "{}", ran.out);
}
