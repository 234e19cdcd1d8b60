//! A machine to set up: its own tree, mounts and processes, in which everything is real but what needs a network or an
//! init system.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::run::Ran;

/// Makes the tree, and keeps its namespaces as long as it runs.
const MAKE: &str = r#"
set -euo pipefail
root=$1 stand_in=$2
mount -t tmpfs machine "$root"
cd "$root"
mkdir -p usr proc dev etc tmp root var/log var/lib run stand-ins/state
mount --rbind /usr usr && mount -o remount,ro,bind usr
for folder in bin sbin lib lib64; do
  if [ -L "/$folder" ]; then cp -P "/$folder" .; elif [ -d "/$folder" ]; then mkdir "$folder" && mount --rbind "/$folder" "$folder"; fi
done
cp /etc/passwd /etc/group etc/
cp /etc/ld.so.cache etc/ 2>/dev/null || true
if [ -d /etc/alternatives ]; then cp -a /etc/alternatives etc/; fi
printf '# what the installer wrote\nUUID=1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n' >etc/fstab
mount -t proc proc proc
mount --rbind /dev dev
cp "$stand_in" stand-ins/stand-in
for name in apt-get dpkg-query systemctl docker ctr join-cluster; do ln -s stand-in "stand-ins/$name"; done
printf 'firewalld\n' >stand-ins/state/enabled
printf 'firewalld\n' >stand-ins/state/active
echo ready
exec sleep infinity
"#;

/// Everything in the tree that a script could change, with what a rewritten file would show.
const LIST: &str = r#"
find / \( -path /proc -o -path /dev -o -path /usr -o -path /tmp -o -path /var/log -o -path /etc/alternatives \) -prune -o \
  -printf '%p %y %m %U:%G %l %T@\n' | sort
cat /stand-ins/state/* 2>/dev/null
cut -d ' ' -f 5- /proc/self/mountinfo
"#;

/// A machine.
pub(crate) struct Machine {
    holder: Child,
    process: u32,
    root: tempfile::TempDir,
}

/// Says why there is no machine. CI has one.
fn skipped(why: &str) -> Option<Machine> {
    assert!(std::env::var_os("CI").is_none(), "CI sets up machines: {why}");
    eprintln!("skipped: {why}");
    None
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process ends with it, and with that its mounts.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Machine {
    /// A machine; none, said on stderr, where this user cannot make one. CI always can.
    pub(crate) fn new() -> Option<Self> {
        let id = Command::new("id").arg("-u").output().expect("id runs");
        if id.stdout != b"0\n" {
            return skipped("only root can make a machine to set up");
        }
        let root = tempfile::tempdir().expect("a folder");
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/bootstrap/stand-in.sh");
        let holder = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--propagation",
                "private",
                "bash",
                "-c",
                MAKE,
                "make",
            ])
            .args([root.path(), &stand_in])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut machine = Self { holder, process: 0, root };
        let mut line = String::new();
        let said = machine.holder.stdout.as_mut().expect("piped");
        BufReader::new(said).read_line(&mut line).expect("it says that it is ready");
        if line != "ready\n" {
            return skipped("mount namespaces are not allowed here");
        }
        let holder = machine.holder.id();
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).expect("its children");
        machine.process = children.trim().parse().expect("one child");
        Some(machine)
    }

    /// Runs a command on it.
    pub(crate) fn run(&self, command: &str) -> Ran {
        let output = Command::new("nsenter")
            .args(["--target", &self.process.to_string(), "--mount", "--pid", "chroot"])
            .arg(self.root.path())
            .args(["env", "-i", "PATH=/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "bash", "-c", command])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// A command that must succeed, and what it says.
    #[track_caller]
    pub(crate) fn does(&self, command: &str) -> String {
        self.run(command).expect(0).out
    }

    /// Puts a script on it.
    pub(crate) fn give(&self, script: &str) -> &Self {
        fs::write(self.inside("tmp/bootstrap.sh"), script).expect("the machine has a disk");
        self
    }

    /// Runs that script. Second tries come at once.
    pub(crate) fn set_up(&self, arguments: &str) -> Ran {
        self.run(&format!("bash /tmp/bootstrap.sh --retry-wait 0 {arguments}"))
    }

    /// Everything on it that a script could change.
    pub(crate) fn listing(&self) -> String {
        self.does(LIST)
    }

    /// Nothing on it may be other than it was.
    #[track_caller]
    pub(crate) fn is_as(&self, before: &str, what: &str) {
        let now = self.listing();
        let (was, is): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), now.lines().collect());
        let changed: Vec<_> = was.symmetric_difference(&is).collect();
        assert!(changed.is_empty(), "{what}: {changed:#?}");
    }

    /// What was logged.
    pub(crate) fn log(&self) -> String {
        self.does("cat /var/log/drover-bootstrap.log")
    }

    /// Tells the stand-ins something.
    pub(crate) fn tell(&self, file: &str, line: &str) -> &Self {
        self.does(&format!("printf '%s\\n' '{line}' >>/stand-ins/state/{file}"));
        self
    }

    /// What the stand-ins were asked.
    pub(crate) fn asked(&self) -> String {
        self.does("cat /stand-ins/state/asked 2>/dev/null || true")
    }

    /// A path on it as its makers see it: files of its disk, not of what is mounted there.
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.process, self.root.path().display())).join(path)
    }
}
