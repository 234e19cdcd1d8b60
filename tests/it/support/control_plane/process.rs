//! Child processes that never outlive the test process, and the ports and folders that they use.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Below Linux's ephemeral range (32768 and up), so that no outgoing connection ever takes one of these.
const FIRST_PORT: u16 = 21_000;
const SLOTS: u16 = 2_000;

/// Two loopback ports and a folder that no other control plane on this machine uses while the slot lives.
pub(super) struct Slot {
    pub(super) api_port: u16,
    pub(super) etcd_port: u16,
    pub(super) dir: PathBuf,
    /// Held, not read: the system releases it however this process ends.
    _lock: File,
}

impl Slot {
    pub(super) fn claim() -> Self {
        let root = std::env::temp_dir().join("drover-control-planes");
        fs::create_dir_all(&root).unwrap_or_else(|e| panic!("create {}: {e}", root.display()));
        for api_port in (FIRST_PORT..).step_by(2).take(usize::from(SLOTS)) {
            // A lock rather than "bind port 0, close, hope": the API server's port must stay ours while it is stopped.
            let path = root.join(format!("{api_port}.lock"));
            let lock = File::create(&path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
            if lock.try_lock().is_err() || !is_free(api_port) || !is_free(api_port + 1) {
                continue;
            }
            // What a killed test process could not remove.
            let dir = root.join(api_port.to_string());
            remove_dir(&dir);
            fs::create_dir(&dir).unwrap_or_else(|e| panic!("create {}: {e}", dir.display()));
            return Self { api_port, etcd_port: api_port + 1, dir, _lock: lock };
        }
        panic!("no free pair of ports among {SLOTS} from {FIRST_PORT}");
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        remove_dir(&self.dir);
    }
}

fn remove_dir(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => eprintln!("cannot remove {}: {e}", dir.display()),
        _ => {}
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A running server; dropping it kills it.
pub(super) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(super) fn spawn(program: &Path, args: &[String], log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|e| panic!("open {}: {e}", log.display()));
        let errors = file.try_clone().unwrap_or_else(|e| panic!("duplicate {}: {e}", log.display()));
        let mut command = dying_with_parent(program);
        command.args(args).stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = spawn_from_lasting_thread(command);
        let child = child.unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
        Self { child, log }
    }

    /// An error, with the end of the log, once the server has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("ended with {status}; its log ends:\n{}", self.log_tail())),
            Err(e) => Err(format!("cannot be waited for: {e}")),
        }
    }

    pub(super) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_else(|e| format!("{}: {e}", self.log.display()));
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(super) fn signal(&self, name: &str) {
        // The shell's own `kill`: slim images have no /bin/kill, and a system call would need unsafe code.
        let script = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &script]).status();
        let status = status.unwrap_or_else(|e| panic!("run sh -c '{script}': {e}"));
        assert!(status.success(), "`{script}` failed: {status}");
    }
}

impl Drop for Server {
    /// SIGKILL, because a graceful stop waits for open watches; it ends a paused process too.
    fn drop(&mut self) {
        if let Err(e) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("cannot end process {}: {e}", self.child.id());
        }
    }
}

/// util-linux's `setpriv` asks the kernel to kill the program with its parent, then becomes it: a killed test run leaves no servers.
#[cfg(target_os = "linux")]
fn dying_with_parent(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(not(target_os = "linux"))]
fn dying_with_parent(program: &Path) -> Command {
    Command::new(program)
}

/// For the kernel, a child's parent is the *thread* that started it. A test's thread ends with the test, which would
/// kill a control plane that several tests share, so one thread that lives as long as the process starts them all.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                reply.send(command.spawn()).expect("the thread that asked for a process waits for it");
            }
        });
        jobs
    });
    let (reply, answer) = mpsc::channel();
    starter.send((command, reply)).expect("the thread that starts processes never ends");
    answer.recv().expect("the thread that starts processes answers every request")
}

/// Asks again until `probe` gives a value; panics with its last answer after `limit`.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(e) if Instant::now() >= deadline => panic!("{what}: not within {limit:?}: {e}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
