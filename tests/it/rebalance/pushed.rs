//! People push while machines move: nobody's commit is lost, and each decision is valid in the commit that it was made on.

use std::process::{Command, Stdio};
use std::thread;

use super::support::SHORT;
use crate::git::many;
use crate::support::run;
use crate::support::state::State;

const MACHINES: usize = 12;
/// What `ads` keeps.
const LEAST: usize = 3;

fn document(number: usize) -> String {
    format!(
        "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: m{number}, cluster: prod}}\nspec:\n  group: ads  # for now\n  # people\n  # write\n  # below\n  devices: {{gpu: A100}}\n  shareable: true\n"
    )
}

/// Twelve idle machines of `ads`, and as many pods of `web` that wait.
fn fleet() -> State {
    let state = State::new();
    let dump = state.path("live.yaml");
    state.cluster("prod", &format!("{{file: {}}}", dump.display())).group("web").group("lab");
    state.edit("state/clusters/prod.yaml", "spec:\n", "spec:\n  rebalance: {maxMoves: 1}\n");
    state.write(
        "state/groups/ads.yaml",
        format!("apiVersion: drover.dev/v1\nkind: Group\nmetadata: {{name: ads}}\nspec: {{guarantee: {{prod: {{nodes: {LEAST}}}}}}}\n"),
    );
    state.write(
        "state/fleet.yaml",
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  writeBack: {name: drover, email: drover@example.org}\n",
    );
    let mut text = "kind: List\nitems:\n".to_owned();
    for number in 0..MACHINES {
        state.write(&format!("state/nodes/prod/m{number}.yaml"), document(number));
        text += &format!(
            "- kind: Node\n  metadata: {{name: m{number}, labels: {{org: ads, gpu: \"true\", gpu-type: A100, share: \"true\"}}}}\n  status: {{allocatable: {{cpu: \"64\", memory: 512Gi, nvidia.com/gpu: \"8\"}}, conditions: [{{type: Ready, status: \"True\"}}]}}\n\
             - kind: Pod\n  metadata: {{name: p{number}, namespace: jobs, creationTimestamp: \"2026-01-01T00:00:00Z\"}}\n  spec: {{nodeSelector: {{org: web}}, containers: [{{resources: {{requests: {{nvidia.com/gpu: \"8\"}}}}}}]}}\n  status: {{phase: Pending, conditions: [{{type: PodScheduled, status: \"False\", reason: Unschedulable, message: \"{SHORT}\"}}]}}\n"
        );
    }
    state.write("live.yaml", text);
    state.write(".gitignore", ".cache/\nfleet.git/\nlive.yaml\n").commit("twelve machines");
    state.git(&["clone", "--quiet", "--bare", ".", "fleet.git"]);
    state
}

/// A person who holds a machine, moves it on by hand, puts its document elsewhere, or writes something of their own; and begins
/// anew for as long as others are faster.
fn person(number: usize, fleet: &State) {
    let machine = number % MACHINES;
    let edit = match number % 4 {
        0 => format!("sed -i '$a\\  hold: {{until: 2999-01-01, owner: ann, reason: r{number}}}' $file"),
        1 => "sed -i 's/group: web  # for now/group: lab  # for now/' $file".to_owned(),
        2 => format!("git mv $file state/nodes/prod/rack-{number}.yaml"),
        _ => String::new(),
    };
    let script = format!(
        "git clone --quiet \"$1\" . || exit 1
         i=0; while :; do
           file=$(grep -l 'name: m{machine},' state/nodes/prod/*.yaml)
           if ! grep -q 'hold:' $file; then {edit}
             :; fi
           echo {number} >person-{number} && git add --all && git commit --quiet -m 'person {number}' || exit 1
           git push --quiet origin HEAD:main && exit 0
           i=$((i+1)); [ $i -lt 400 ] || exit 1
           git fetch --quiet && git reset --quiet --hard origin/main || exit 1
         done"
    );
    let clone = State::new();
    let mut git = Command::new("sh");
    git.args(["-c", &script, "sh"]).arg(fleet.path("fleet.git")).current_dir(clone.root());
    git.env("HOME", clone.root()).env("GIT_CONFIG_NOSYSTEM", "1").stdin(Stdio::null()).stderr(Stdio::null());
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@example.org");
    }
    assert!(git.status().expect("sh runs").success(), "person {number} could not push");
}

#[test]
fn every_decision_is_valid_where_it_stands() {
    let people = many("DROVER_PUSHERS", 12);
    let fleet = fleet();
    let remote = |arguments: &[&str]| fleet.git(&[&["--git-dir", "fleet.git"], arguments].concat());
    thread::scope(|scope| {
        for number in 0..people {
            let fleet = &fleet;
            scope.spawn(move || person(number, fleet));
        }
        // Two rebalancers at once.
        for _ in 0..2 {
            scope.spawn(|| {
                let home = tempfile::tempdir().expect("a folder");
                let repository = fleet.path("fleet.git").display().to_string();
                for _ in 0..MACHINES {
                    let arguments = ["rebalance", "--push", "--repo", &repository, "--rev", "main"];
                    let ran = run::drover(home.path(), arguments);
                    // 3: somebody took the machine meanwhile, and there is no other.
                    assert!([0, 3].contains(&ran.code), "{ran:?}");
                }
            });
        }
    });
    let log = remote(&["log", "--reverse", "--format=%H", "main"]);
    let commits: Vec<&str> = log.lines().skip(1).collect();
    let moves = |commit: &str| -> Vec<String> {
        let message = remote(&["log", "-1", "--format=%B", commit]);
        message.lines().filter_map(|line| line.strip_prefix("Drover-Move: ").map(str::to_owned)).collect()
    };
    let decided: Vec<&str> = commits.iter().copied().filter(|commit| !moves(commit).is_empty()).collect();
    assert_eq!(commits.len(), people + decided.len(), "no commit is lost, and none is there twice");
    assert_eq!(remote(&["rev-list", "--merges", "main"]), "", "the history is linear");
    assert!(!decided.is_empty());
    for commit in decided {
        let [made] = moves(commit).try_into().unwrap_or_else(|moves| panic!("{moves:?}"));
        let machine = made.strip_suffix(" ads -> web").unwrap_or_else(|| panic!("{made}"));
        let documents = |at: &str| -> Vec<String> {
            let grep = remote(&["grep", "-l", "kind: Node", at, "--", "state/nodes"]);
            grep.lines().map(|file| remote(&["show", file])).collect()
        };
        let before = documents(&format!("{commit}^"));
        let own = before.iter().find(|text| text.contains(&format!("name: {machine},"))).expect("its document");
        assert!(own.contains("group: ads") && !own.contains("hold:"), "{made} on\n{own}");
        let left = documents(commit).iter().filter(|text| text.contains("group: ads")).count();
        assert!(left >= LEAST, "{made} leaves {left}");
    }
    remote(&["fsck", "--full", "--strict", "--no-dangling"]);
    fleet.drover(&["audit", "--verify", "--repo", "fleet.git", "--rev", "main"]).expect(0);
}
