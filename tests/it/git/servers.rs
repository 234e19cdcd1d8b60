//! Real git servers on free ports of this machine: sshd, an ssh agent, and https in front of git's own http-backend.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use tempfile::TempDir;

use super::support::fleet;
use crate::support::limit;
use crate::support::run::{self, Ran};
use crate::support::state::State;

/// What every secret of these tests holds, so that one look finds any of them in an output.
pub(super) const SECRET: &str = "s3cret";

/// What the key `locked` is locked with.
const PASSPHRASE: &str = "a s3cret";

/// Seconds that no run against a server may exceed.
pub(super) const LIMIT: u32 = 20;

/// A fleet that is committed, and its bare copy that servers serve.
pub(super) struct Served {
    /// Where the fleet is worked on.
    pub work: State,
    folder: TempDir,
}

impl Served {
    pub(super) fn new() -> Self {
        let (work, folder) = (fleet(), TempDir::new().expect("a temporary folder"));
        work.commit("one");
        work.git(&["clone", "--quiet", "--bare", ".", folder.path().join("fleet.git").to_str().expect("UTF-8")]);
        Self { work, folder }
    }

    /// The folder that the bare repository `fleet.git` lies in.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs git in the bare repository.
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let folder = self.folder.path().join("fleet.git").display().to_string();
        self.work.git(&[&["--git-dir", folder.as_str()], arguments].concat())
    }

    /// Makes the bare repository equal to the working one: branches, tags, and nothing else.
    pub(super) fn push(&self) {
        let folder = self.folder.path().join("fleet.git").display().to_string();
        self.work.git(&["push", "--quiet", "--mirror", &folder]);
    }

    /// Commits what is there, and pushes it.
    pub(super) fn publish(&self, message: &str) -> String {
        let commit = self.work.commit(message);
        self.push();
        commit
    }

    /// A folder to run drover in, which is its home and holds its copies.
    pub(super) fn elsewhere() -> TempDir {
        TempDir::new().expect("a temporary folder")
    }
}

/// Runs drover with more environment; no run may show a secret.
#[track_caller]
pub(super) fn drover(home: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = run::command(home);
    command.args(arguments).envs(environment.iter().copied());
    let ran = limit::within(LIMIT, &command);
    assert!(!ran.out.contains(SECRET) && !ran.err.contains(SECRET), "a secret is shown: {ran:?}");
    ran
}

/// A server that ends when it is dropped, or with the thread of the test.
struct Server {
    child: Child,
    reader: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts a server, and waits for the line that says it is ready; none where it ended without.
    fn start(command: &[&str], ready: impl Fn(&str) -> bool) -> Option<(Self, String)> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "sh", "-c", r#"exec "$@" 2>&1"#, "sh"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let line = lines.by_ref().inspect(|line| eprintln!("{}: {line}", command[0])).find(|line| ready(line));
        let reader = Some(thread::spawn(move || lines.for_each(|line| eprintln!("server: {line}"))));
        let server = Self { child, reader };
        line.map(|line| (server, line))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What sshd started for a connection ends with the client; waiting for it here would wait for the test itself.
        drop(self.reader.take());
    }
}

/// Installs what the servers need, once.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/install.sh");
        let status = Command::new("bash").arg(script).status().expect("bash runs");
        assert!(status.success(), "{script} failed");
    });
}

pub(super) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A port that nothing listens on.
pub(super) fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}

/// The https server of `tests/git-servers/https.py`.
pub(super) struct Https {
    port: u16,
    folder: TempDir,
    _server: Server,
}

impl Https {
    /// The token that it wants.
    pub(super) const TOKEN: &str = "the-s3cret-token";

    pub(super) fn start(served: &Served) -> Self {
        install();
        let folder = TempDir::new().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (certificate, key) = (path("certificate.pem"), path("key.pem"));
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        let curve = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let rest = ["-keyout", &key, "-out", &certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", names];
        tool("openssl", &[&curve[..], &rest].concat());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/git-servers/https.py");
        let root = served.folder().display().to_string();
        let command = ["/usr/bin/python3", script, &root, &certificate, &key, Self::TOKEN, &path("log")];
        let (server, line) = Server::start(&command, |line| line.parse::<u16>().is_ok()).expect("the server starts");
        Self { port: line.parse().expect("a port"), folder, _server: server }
    }

    /// The address of a repository; see the script for what the behaviours are.
    pub(super) fn url(&self, behaviour: &str, repository: &str) -> String {
        format!("https://{}/{behaviour}/{repository}", self.host())
    }

    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file that makes its certificate trusted.
    pub(super) fn certificate(&self) -> String {
        self.folder.path().join("certificate.pem").display().to_string()
    }

    /// The requests it got: method, path and password (- without one).
    pub(super) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Runs drover with its certificate trusted, and this token where it is not empty.
    #[track_caller]
    pub(super) fn drover(&self, home: &Path, token: &str, arguments: &[&str]) -> Ran {
        drover(home, &[("SSL_CERT_FILE", &self.certificate()), ("DROVER_GIT_TOKEN", token)], arguments)
    }
}

/// A port that takes no connection: its queue is full, so that the system leaves a client's first word unanswered.
pub(super) struct Full {
    pub port: u16,
    _server: Server,
}

impl Full {
    pub(super) fn start() -> Self {
        install();
        let script = "import socket, time\n\
            server = socket.create_server(('127.0.0.1', 0), backlog=0)\n\
            clients = [socket.socket() for _ in range(4)]\n\
            for client in clients:\n    client.setblocking(False)\n    client.connect_ex(server.getsockname())\n\
            print(server.getsockname()[1], flush=True)\n\
            time.sleep(600)\n";
        let is_port = |line: &str| line.parse::<u16>().is_ok();
        let (server, line) = Server::start(&["/usr/bin/python3", "-c", script], is_port).expect("the server starts");
        Self { port: line.parse().expect("a port"), _server: server }
    }
}

/// sshd with a host key and keys of its own, for the current user.
pub(super) struct Ssh {
    port: u16,
    user: String,
    folder: TempDir,
    _server: Server,
}

impl Ssh {
    /// Keys: `good` and `locked` (with a passphrase) may come in, `stuck` gets a program that never answers, and
    /// `stranger` may not come in.
    pub(super) fn start() -> Self {
        install();
        let folder = TempDir::new().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (name, passphrase) in [("host", ""), ("good", ""), ("stranger", ""), ("stuck", ""), ("locked", PASSPHRASE)]
        {
            tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", &path(name)]);
        }
        let public = |name: &str| fs::read_to_string(path(&format!("{name}.pub"))).expect("a public key");
        let authorized =
            format!("{}{}command=\"cat >/dev/null\" {}", public("good"), public("locked"), public("stuck"));
        fs::write(path("authorized"), authorized).expect("a file");
        let search = std::env::var("PATH").expect("PATH is set");
        let (server, port) = (0..20)
            .find_map(|_| {
                let port = free_port();
                let settings = format!(
                    "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
                     UsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nSetEnv PATH={search}\n",
                    path("host"),
                    path("authorized")
                );
                fs::write(path("config"), settings).expect("a file");
                let listens = |line: &str| line.starts_with("Server listening");
                Server::start(&["/usr/sbin/sshd", "-D", "-e", "-f", &path("config")], listens).map(|(server, _)| (server, port))
            })
            .expect("sshd finds a free port");
        Self { port, user: tool("id", &["-un"]).trim().to_owned(), folder, _server: server }
    }

    /// The address of a repository on this machine.
    pub(super) fn url(&self, repository: &Path) -> String {
        format!("ssh://{}@{}{}", self.user, self.host(), repository.display())
    }

    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The path of a private key.
    pub(super) fn key(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A folder whose `~/.ssh/known_hosts` gives this server the public key of `name`.
    pub(super) fn home(&self, name: &str) -> TempDir {
        let home = TempDir::new().expect("a temporary folder");
        let key = fs::read_to_string(self.key(&format!("{name}.pub"))).expect("a public key");
        fs::create_dir(home.path().join(".ssh")).expect("a folder");
        fs::write(home.path().join(".ssh/known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).expect("a file");
        home
    }
}

/// An ssh agent that holds some keys.
pub(super) struct Agent {
    folder: TempDir,
    _server: Server,
}

impl Agent {
    pub(super) fn start(keys: &[&str]) -> Self {
        install();
        let folder = TempDir::new().expect("a temporary folder");
        let socket = folder.path().join("socket").display().to_string();
        let ready = |line: &str| line.contains("SSH_AUTH_SOCK");
        let (server, _) = Server::start(&["ssh-agent", "-D", "-a", &socket], ready).expect("the agent starts");
        // ssh-add asks this program for the passphrase of a key that has one.
        let asker = folder.path().join("asker");
        fs::write(&asker, format!("#!/bin/sh\necho '{PASSPHRASE}'\n")).expect("a file");
        fs::set_permissions(&asker, fs::Permissions::from_mode(0o700)).expect("it is ours");
        let (socket, asker) = (format!("SSH_AUTH_SOCK={socket}"), format!("SSH_ASKPASS={}", asker.display()));
        for key in keys {
            tool("env", &[&socket, &asker, "SSH_ASKPASS_REQUIRE=force", "ssh-add", "-q", key]);
        }
        Self { folder, _server: server }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> String {
        PathBuf::from(self.folder.path()).join("socket").display().to_string()
    }
}
