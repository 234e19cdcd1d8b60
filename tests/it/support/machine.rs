//! A machine for an agent: mounts and processes of its own, in namespaces of this machine. What runs in it ends with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::control_plane::{ControlPlane, Role, eventually};
use super::pod::{environment, write_account};
use super::run::{Ran, Running, finish};

const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Machine {
    whole: Child,
    /// Its first process, as the machine that the tests run on counts.
    first: u32,
    folder: tempfile::TempDir,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.whole.kill(); // and all that is in it
        let _ = self.whole.wait();
    }
}

impl Machine {
    /// None where this may not be done, which is said; in CI it must be possible.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "sh",
            "-c",
        ]);
        // As systemd has it: what is mounted shows up wherever somebody follows.
        unshare.arg("mount --make-rshared / && echo up && exec sleep infinity");
        unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut whole = unshare.spawn().expect("unshare is there");
        let mut line = String::new();
        BufReader::new(whole.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        if line != "up\n" {
            assert!(std::env::var_os("CI").is_none(), "in CI, tests of the agent run as root");
            eprintln!("skipped: only root may make the namespaces that this test needs");
            let _ = whole.wait();
            return None;
        }
        let first = child_of(whole.id());
        Some(Self { whole, first, folder })
    }

    /// A folder of the machine's own.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("it is there")
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The same path from outside, with the mounts that only the machine has.
    pub(crate) fn seen_outside(&self, name: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.first)).join(self.path(name).strip_prefix("/").expect("absolute"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    /// A command that runs in the machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first)).args(["--mount", "--pid", "--", program]);
        command.env("F", self.folder()).env("COLUMNS", "110").stdin(Stdio::null());
        command
    }

    /// Runs a script, in which $F is the machine's folder, and returns what it wrote.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let ran = finish(self.command("sh").args(["-ec", script])).expect(0);
        ran.out
    }

    /// What `drover agent --once` says of a spec; it makes what is missing if it is let.
    pub(crate) fn once(&self, spec: &Value, make: bool) -> Ran {
        let path = self.path("spec.json");
        fs::write(&path, spec.to_string()).expect("a file");
        let mut command = self.command(env!("CARGO_BIN_EXE_drover"));
        command.args(["agent", "--once", "--node", "m1", "--spec"]).arg(path);
        if make {
            command.arg("--make");
        }
        finish(&mut command)
    }

    /// The same as a report.
    #[track_caller]
    pub(crate) fn report(&self, spec: &Value, make: bool) -> Value {
        self.once(spec, make).json()
    }

    /// An agent in it that reports to a cluster.
    pub(crate) fn agent(&self, plane: &ControlPlane, node: &str, more: &[&str]) -> Running {
        let mut command = self.command(env!("CARGO_BIN_EXE_drover"));
        command.args(["agent", "--node", node, "--kubeconfig"]).arg(plane.kubeconfig(Role::Agent)).args(more);
        Running::start(&mut command)
    }

    /// An agent in a container as its DaemonSet describes it: a root of its own that nobody writes to, the processes of the
    /// machine, a service account, and these capabilities alone.
    pub(crate) fn agent_in_pod(&self, plane: &ControlPlane, node: &str, capabilities: &[String]) -> Running {
        let script = r#"
            R=$(mktemp -d -p "$F"); mount -t tmpfs pod "$R"; cd "$R"; mkdir usr proc old; touch drover-agent
            mount --bind /usr usr; mount --bind "$AGENT" drover-agent
            for link in bin lib lib64 sbin; do ln -s usr/$link $link; done
            account=var/run/secrets/kubernetes.io/serviceaccount; mkdir -p $account; cp "$F"/account/* $account
            mount -t proc proc proc; pivot_root . old; umount -l /old; mount -o remount,ro /
            exec setpriv --no-new-privs --inh-caps=-all --bounding-set="$CAPABILITIES" /drover-agent
        "#;
        write_account(plane, &self.path("account"), &plane.service_account("drover-agent"));
        let kept: String = capabilities.iter().map(|name| format!(",+{}", name.to_lowercase())).collect();
        let mut command = self.command("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-ec", script]);
        command.envs(environment(plane)).env("NODE_NAME", node);
        command.env("AGENT", env!("CARGO_BIN_EXE_drover-agent")).env("CAPABILITIES", format!("-all{kept}"));
        Running::start(&mut command)
    }

    /// Signals what was started in the machine, not the command that went in.
    pub(crate) fn signal(running: &Running, signal: &str) {
        let process = child_of(running.id());
        let status = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// The process that was started in the machine.
    #[allow(dead_code, reason = "a benchmark measures it")]
    pub(crate) fn process(running: &Running) -> u32 {
        child_of(running.id())
    }

    /// A kubelet in a mount namespace of its own, as one that is no container has it; `private` or `slave`.
    pub(crate) fn kubelet_on_host(&self, propagation: &str) -> Kubelet<'_> {
        let script = "cp /bin/sleep $F/kubelet; exec $F/kubelet infinity";
        let mut command = self.command("unshare");
        command.args(["--mount", "--propagation", propagation, "sh", "-ec", script]);
        Kubelet::start(self, &mut command)
    }

    /// A kubelet in a container, with binds as `source:destination:propagation`, the way runc makes them.
    pub(crate) fn kubelet_in_container(&self, binds: &[String]) -> Kubelet<'_> {
        let script = r#"
            R=$(mktemp -d -p "$F"); mount -t tmpfs container "$R"; mkdir "$R/usr" "$R/proc"
            mount --bind /usr "$R/usr"
            for link in bin lib lib64 sbin; do ln -s usr/$link "$R/$link"; done
            cp /bin/sleep "$R/kubelet"
            for bind; do
              source=${bind%%:*}; rest=${bind#*:}; destination=${rest%%:*}; how=${rest#*:}
              mkdir -p "$R$destination"; mount --rbind "$source" "$R$destination"
              case $how in
                ro) mount -o remount,bind,ro "$R$destination";;
                *) mount "--make-$how" "$R$destination";;
              esac
            done
            mount -t proc proc "$R/proc"; mkdir "$R/old"; cd "$R"; pivot_root . old; umount -l /old; exec /kubelet infinity
        "#;
        let mut command = self.command("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-ec", script, "sh"]).args(binds);
        Kubelet::start(self, &mut command)
    }

    /// A GlusterFS volume that is mounted at a path, through FUSE.
    pub(crate) fn gluster(&self, at: &str) -> Gluster<'_> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let brick = self.text("brick");
        let server = format!(
            "volume posix\n type storage/posix\n option directory {brick}\nend-volume\n\
             volume locks\n type features/locks\n subvolumes posix\nend-volume\n\
             volume server\n type protocol/server\n option transport-type tcp\n\
             option transport.socket.listen-port {port}\n option transport.socket.bind-address 127.0.0.1\n\
             option auth.addr.locks.allow 127.0.0.1\n subvolumes locks\nend-volume\n"
        );
        let client = format!(
            "volume client\n type protocol/client\n option transport-type tcp\n option remote-host 127.0.0.1\n\
             option remote-port {port}\n option remote-subvolume locks\nend-volume\n"
        );
        fs::write(self.path("brick.vol"), server).expect("a file");
        fs::write(self.path("client.vol"), client).expect("a file");
        self.sh("mkdir -p $F/brick; glusterfsd -f $F/brick.vol -l $F/brick.log -p $F/brick.pid");
        let gluster = Gluster { machine: self, at: at.to_owned() };
        gluster.mount();
        gluster
    }
}

/// The only child of a process.
fn child_of(parent: u32) -> u32 {
    eventually("it has a child", LIMIT, || {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).map_err(|e| e.to_string())?;
        children.split_whitespace().next().and_then(|child| child.parse().ok()).ok_or_else(|| "none".to_owned())
    })
}

/// A process called `kubelet`.
pub(crate) struct Kubelet<'m> {
    machine: &'m Machine,
    child: Child,
}

impl<'m> Kubelet<'m> {
    fn start(machine: &'m Machine, command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).spawn().expect("it starts");
        let kubelet = Self { machine, child };
        eventually("the kubelet runs", LIMIT, || kubelet.runs().then_some(()).ok_or_else(|| "it does not".into()));
        kubelet
    }

    fn runs(&self) -> bool {
        self.machine.sh("cat /proc/[0-9]*/comm 2>/dev/null | grep -cx kubelet || true").trim() != "0"
    }

    pub(crate) fn end(self) {}
}

impl Drop for Kubelet<'_> {
    fn drop(&mut self) {
        let script = "for comm in /proc/[0-9]*/comm; do grep -qx kubelet $comm 2>/dev/null && kill -9 $(echo $comm | cut -d/ -f3); done; true";
        let _ = self.machine.command("sh").args(["-c", script]).status();
        let _ = self.child.wait();
    }
}

/// A volume and its client.
pub(crate) struct Gluster<'m> {
    machine: &'m Machine,
    at: String,
}

impl Gluster<'_> {
    pub(crate) const SOURCE: &'static str = "127.0.0.1:/volume";

    pub(crate) fn mount(&self) {
        let at = &self.at;
        self.machine.sh(&format!(
            "mkdir -p {at}; glusterfs -f $F/client.vol --fs-display-name={} -l $F/client.log -p $F/client.pid {at}",
            Self::SOURCE
        ));
        eventually("the volume is mounted", LIMIT, || {
            let script = format!("grep -q ' {at} .*fuse.glusterfs' /proc/self/mountinfo && timeout 5 stat -f {at}");
            let ran = finish(self.machine.command("sh").args(["-c", &script]));
            if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}{}", self.log())) }
        });
    }

    pub(crate) fn unmount(&self) {
        self.machine.sh(&format!("umount -l {}", self.at));
    }

    /// To the client: STOP hangs whoever asks it, KILL leaves a mount that answers nobody.
    pub(crate) fn client(&self, signal: &str) {
        self.machine.sh(&format!("kill -{signal} $(cat $F/client.pid)"));
    }

    /// To the server: STOP leaves what the client has asked without an answer, so that nothing ends who waits for it.
    pub(crate) fn server(&self, signal: &str) {
        self.machine.sh(&format!("kill -{signal} $(cat $F/brick.pid)"));
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.machine.path("client.log")).unwrap_or_default();
        log.lines().rev().take(10).collect::<Vec<_>>().join("\n")
    }
}

/// Everything below a folder with its kind, mode, owner and time of change: whether it was touched shows there.
pub(crate) fn listing(machine: &Machine, folder: &Path) -> String {
    machine.sh(&format!("find {} -printf '%P %y %m %U:%G %C@\\n' | sort", folder.display()))
}
