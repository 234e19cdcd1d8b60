//! Whole runs: twice, interrupted, with failures, without root.

use super::machine::Machine;
use super::states::{MOUNT, REST, STORAGE, TOKEN, script, state, whole};

fn ready(node: &str) -> Option<Machine> {
    let machine = Machine::new()?;
    machine.give(&script(&whole(), node)).does(&format!("echo {TOKEN} >/root/join-token"));
    Some(machine)
}

#[test]
fn a_second_run_changes_nothing() {
    let Some(machine) = ready("cp-1") else { return };
    let before = machine.listing();
    let dry = machine.set_up("--dry-run").expect(0);
    assert!(dry.out.contains("would   packages: chrony (not installed: chrony)"), "{}", dry.out);
    assert!(dry.out.contains("0 of 17 steps are done already, 17 are not; nothing was changed"), "{}", dry.out);
    machine.is_as(&before, "a dry run changes nothing");

    let first = machine.set_up("").expect(0);
    assert!(first.out.contains("1 of 17 steps were done already, 16 were done now"), "{}", first.out);
    assert!(first.out.contains("labels are not set here"), "{}", first.out);
    let fstab = machine.does("cat /etc/fstab");
    assert!(fstab.contains("shared\\040fs /mnt/shared tmpfs size=8m,mode=0755 0 0\n"), "{fstab}");
    assert!(fstab.contains("# what the installer wrote\nUUID=1 / ext4 defaults 0 1\n# no swap"), "{fstab}");
    assert_eq!(machine.does("readlink /data/k8s"), "/mnt/shared/k8s\n");
    let folders = "stat -c '%n %a %u:%g' /mnt/shared/k8s/{kubeflow/minio,monitoring/grafana,infra/mysql}";
    assert_eq!(
        machine.does(folders),
        "/mnt/shared/k8s/kubeflow/minio 755 0:0\n/mnt/shared/k8s/monitoring/grafana 777 472:0\n/mnt/shared/k8s/infra/mysql 750 0:0\n"
    );
    let images = machine.does("cat /stand-ins/state/images");
    for name in [
        "hub.example.org/mirror/pause:3.7\nrancher/pause:3.7",
        "hub.example.org/platform-mirror/notebook:1\nregistry.example.org/platform/notebook:1",
    ] {
        assert!(images.contains(name), "{images}");
    }
    assert!(!machine.does("cat /stand-ins/state/enabled").contains("firewalld"));
    assert!(machine.asked().ends_with(&format!("join-cluster --token {TOKEN} --name cp-1\n")), "{}", machine.asked());

    let after = machine.listing();
    let second = machine.set_up("").expect(0);
    assert!(second.out.contains("17 of 17 steps were done already, 0 were done now"), "{}", second.out);
    assert!(!second.out.contains("doing"), "{}", second.out);
    machine.is_as(&after, "a second run changes nothing");
    let log = machine.log();
    assert_eq!(log.matches("doing").count(), 16, "{log}");
    for text in [&first.out, &first.err, &log] {
        assert!(!text.contains(TOKEN), "the token is shown: {text}");
    }
    assert!(log.contains("joining with --token *** --name cp-1"), "{log}");
}

#[test]
fn a_run_that_fails_in_the_middle_goes_on_from_there() {
    let Some(machine) = ready("gpu-1") else { return };
    machine.tell("broken", "nfs-common").tell("hiccups", "apt-update");
    let first = machine.set_up("").expect(1);
    assert!(
        first.out.contains("FAILED  packages of the file system: nfs-common: exit code 100 of: apt-get install"),
        "{}",
        first.out
    );
    assert!(first.out.contains("| E: Unable to locate package nfs-common"), "it says what was said: {}", first.out);
    assert!(first.out.contains("stopped in step 7 of 16"), "{}", first.out);
    assert_eq!(machine.run("test -e /mnt/shared").code, 1, "nothing behind it was begun");
    machine.does("rm /stand-ins/state/broken");
    let second = machine.set_up("").expect(0);
    assert!(second.out.contains("7 of 16 steps were done already, 9 were done now"), "{}", second.out);
    // A state that asks for less or more is reached from wherever the machine stands.
    let later = state(&[STORAGE, "  bootstrap:", &MOUNT.replace("size=8m", "size=9m"), REST]);
    let third = machine.give(&script(&later, "gpu-1")).set_up("").expect(0);
    assert!(third.out.contains("15 of 16 steps were done already, 1 were done now"), "{}", third.out);
    assert_eq!(machine.does("grep -c /mnt/shared /etc/fstab"), "1\n", "drover's own line is replaced");
}

#[test]
fn a_run_that_was_killed_goes_on_from_there() {
    let Some(machine) = ready("gpu-1") else { return };
    machine.tell("slow", "yes");
    machine.does(
        "bash /tmp/bootstrap.sh >/dev/null & until grep -qs pull /stand-ins/state/asked; do sleep 0.1; done; kill -KILL $!; wait || true",
    );
    machine.does("rm /stand-ins/state/slow");
    // What the killed run had started still runs, and keeps no lock.
    let ran = machine.set_up("").expect(0);
    assert!(ran.out.contains("13 of 16 steps were done already, 3 were done now"), "{}", ran.out);
}

#[test]
fn an_image_that_cannot_be_had_keeps_no_other_back() {
    let Some(machine) = ready("gpu-1") else { return };
    machine.tell("broken", "hub.example.org/mirror/pause:3.7").tell("hiccups", "hub.example.org/mirror/agent:v1");
    let ran = machine.set_up("").expect(1);
    assert!(ran.out.contains("1 of 2 FAILED: rancher/pause:3.7, as hub.example.org/mirror/pause:3.7"), "{}", ran.out);
    assert!(ran.out.contains("2 of 2: rancher/agent:v1"), "a second try: {}", ran.out);
    assert!(ran.out.contains("1 of 1: registry.example.org/platform/notebook:1"), "{}", ran.out);
    assert!(ran.out.contains("FAILED  the machine has joined: images are missing"), "{}", ran.out);
    assert!(
        ran.out.contains("LEFT    2 images, from hub.example.org/mirror/: not pulled: rancher/pause:3.7"),
        "{}",
        ran.out
    );
    assert_eq!(machine.asked().matches("pull --quiet hub.example.org/mirror/pause:3.7").count(), 4);
    let joined = machine.set_up("--join-without-images").expect(1);
    assert!(joined.out.contains("1 left something undone"), "{}", joined.out);
    assert!(machine.asked().contains("join-cluster"), "{}", machine.asked());
    machine.does("rm /stand-ins/state/broken");
    machine.set_up("").expect(0);
}

#[test]
fn the_token_is_fetched_when_it_is_needed_and_shown_nowhere() {
    let Some(machine) = ready("gpu-1") else { return };
    machine.does("rm /root/join-token");
    let ran = machine.set_up("").expect(1);
    assert!(ran.out.contains("the token cannot be had from the command that the state names"), "{}", ran.out);
    for bad in ["two words", "$(touch /pwned)", "a;b", "line\\nline"] {
        machine.does(&format!("printf '{bad}' >/root/join-token"));
        let ran = machine.set_up("").expect(1);
        assert!(ran.out.contains("what the command gave is no token"), "{bad}: {}", ran.out);
        assert!(!ran.out.contains(bad), "{}", ran.out);
    }
    assert_eq!(machine.run("test -e /pwned").code, 1);
    machine.does(&format!("echo {TOKEN} >/root/join-token"));
    machine.tell("hiccups", "join");
    let ran = machine.set_up("").expect(1);
    assert!(ran.out.contains("FAILED  the machine has joined: the join command failed"), "{}", ran.out);
    machine.set_up("").expect(0);
    assert!(!machine.log().contains(TOKEN));
}

#[test]
fn a_runtime_with_containers_is_not_restarted_by_the_way_and_its_settings_stay() {
    let Some(machine) = ready("gpu-1") else { return };
    if machine.run("command -v jq || command -v python3").code != 0 {
        eprintln!("skipped: neither jq nor python3 is here");
        return;
    }
    machine.does("mkdir /etc/docker && echo '{\"default-runtime\": \"nvidia\", \"registry-mirrors\": []}' >/etc/docker/daemon.json");
    machine.does("systemctl enable docker && systemctl start docker && echo c1 >/stand-ins/state/containers");
    let ran = machine.set_up("").expect(1);
    assert!(ran.out.contains("FAILED  docker runs: docker must be restarted, and containers run"), "{}", ran.out);
    machine.set_up("--restart-runtime").expect(0);
    let settings = machine.does("cat /etc/docker/daemon.json");
    for part in ["\"default-runtime\": \"nvidia\"", "\"data-root\": \"/var/docker\"", "https://mirror.example.org"] {
        assert!(settings.contains(part), "{settings}");
    }
    assert!(machine.does("cat /etc/docker/daemon.json.before-drover").contains("nvidia"));
    // Another mirror needs no restart.
    let later = state(&[STORAGE, "  bootstrap:", MOUNT, &REST.replace("mirror.example.org", "near.example.org")]);
    machine.give(&script(&later, "gpu-1")).set_up("").expect(0);
    assert!(machine.asked().ends_with("systemctl enable docker\nsystemctl reload docker\n"), "{}", machine.asked());
}

#[test]
fn containerd_keeps_what_its_configuration_says_otherwise() {
    let sections = [
        "  bootstrap:\n    runtime: {type: containerd, dataRoot: /var/ctr, registryMirrors: [https://m.example.org]}\n",
        "    images: [{mirror: hub.example.org/m/, naming: rancher, images: [rancher/pause:3.7, busybox]}]\n",
    ];
    let script = script(&state(&sections), "gpu-1");
    for (before, after) in [
        (
            None,
            "root = \"/var/ctr\"\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n",
        ),
        (
            Some("version = 3\nroot = '/old'\n[plugins.'io.containerd.cri.v1.images']\n  a = 1\n"),
            "version = 3\nroot = \"/var/ctr\"\n[plugins.'io.containerd.cri.v1.images']\n  a = 1\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"/etc/containerd/certs.d\"\n",
        ),
        (
            Some(
                "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\".registry]\n    config_path = \"\"\n  [plugins.other]\n    root = \"x\"\n",
            ),
            "version = 2\nroot = \"/var/ctr\"\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n  [plugins.other]\n    root = \"x\"\n",
        ),
    ] {
        let Some(machine) = Machine::new() else { return };
        if let Some(before) = before {
            machine.does(&format!("mkdir /etc/containerd && cat >/etc/containerd/config.toml <<'END'\n{before}END"));
        }
        machine.give(&script).set_up("").expect(0);
        let config = machine.does("cat /etc/containerd/config.toml");
        assert_eq!(sorted(&config), sorted(after), "{config}");
        let root = config.find("root = ").expect("a root");
        assert!(root < config.find('[').expect("a table"), "a key of the top stands above all tables: {config}");
        assert!(
            machine
                .does("cat /etc/containerd/certs.d/docker.io/hosts.toml")
                .contains("[host.\"https://m.example.org\"]")
        );
        let images = machine.does("cat /stand-ins/state/images");
        assert!(images.contains("hub.example.org/m/busybox:latest\ndocker.io/library/busybox:latest\n"), "{images}");
        let listing = machine.listing();
        let again = machine.set_up("").expect(0);
        assert!(again.out.contains("3 of 3 steps were done already, 0 were done now"), "{}", again.out);
        machine.is_as(&listing, "nothing changes");
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn only_one_runs_at_a_time_and_only_as_root() {
    let Some(machine) = ready("gpu-1") else { return };
    let nobody = machine.run("setpriv --reuid 65534 --clear-groups bash /tmp/bootstrap.sh").expect(1);
    assert!(nobody.err.contains("run it as root, or with --dry-run"), "{nobody:?}");
    let ran = machine.run("exec 5>>/var/log/drover-bootstrap.log; flock 5; bash /tmp/bootstrap.sh").expect(1);
    assert!(ran.err.contains("runs on this machine already"), "{ran:?}");
    assert!(machine.run("bash /tmp/bootstrap.sh --fast").expect(1).err.contains("unknown option --fast"));
    assert!(machine.run("bash /tmp/bootstrap.sh --help").expect(0).out.contains("--dry-run"));
    // A script that was cut short on its way does nothing.
    let before = machine.listing();
    machine.does("head -c -20 /tmp/bootstrap.sh >/tmp/cut.sh");
    machine.run("bash /tmp/cut.sh");
    machine.is_as(&before, "nothing changes");
}
