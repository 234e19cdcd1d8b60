//! Runs the real binary in an environment that holds nothing of this machine but PATH.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::control_plane::{TOKEN_MARK, eventually};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: i32,
    /// What it wrote to stdout.
    pub(crate) out: String,
    /// What it wrote to stderr.
    pub(crate) err: String,
}

impl Ran {
    /// The run, which must have ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{}\n{}", self.out, self.err))
    }
}

/// A command that runs drover in a folder.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("DROVER_CACHE", folder.join(".cache"))
        .env("COLUMNS", "110")
        .stdin(Stdio::null());
    command
}

/// A prepared command as the last arguments of another one, such as `setpriv`, in the environment of the first.
pub(crate) fn within(mut around: Command, command: &Command) -> Command {
    around.arg(command.get_program()).args(command.get_args());
    around.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    around.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    around.stdin(Stdio::null());
    around
}

/// Runs drover in a folder and waits for it.
pub(crate) fn drover<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Ran {
    finish(command(folder).args(arguments))
}

/// Runs a prepared command and waits for it.
pub(crate) fn finish(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    ran(output.status, &output.stdout, &output.stderr)
}

/// What a run came to. No run of any test may show a token.
fn ran(status: ExitStatus, out: &[u8], err: &[u8]) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ran = Ran { code: status.code().unwrap_or(-1), out: text(out), err: text(err) };
    assert!(!ran.out.contains(TOKEN_MARK) && !ran.err.contains(TOKEN_MARK), "a token was shown: {ran:?}");
    ran
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that waited for the end has nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A drover that runs while the test does something else.
pub(crate) struct Running {
    child: Child,
    readers: Option<(JoinHandle<Vec<u8>>, JoinHandle<()>)>,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// Starts a prepared command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let (mut stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let out = thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).expect("stdout can be read");
            bytes
        });
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let err = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                *heard.lock().expect("nobody panics with it") += &(line.expect("stderr is text") + "\n");
            }
        });
        Self { child, readers: Some((out, err)), said }
    }

    /// Waits until it has said this on stderr.
    pub(crate) fn says(&self, text: &str) {
        eventually(&format!("drover says {text:?}"), Duration::from_secs(60), || {
            let said = self.said.lock().expect("nobody panics with it");
            if said.contains(text) { Ok(()) } else { Err(said.clone()) }
        });
    }

    /// What it has said on stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.id())]).status();
        assert!(status.expect("sh runs").success(), "drover has ended");
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let status = self.child.wait().expect("it can be waited for");
        let (out, err) = self.readers.take().expect("it ends once");
        let out = out.join().expect("stdout was read");
        err.join().expect("stderr was read");
        ran(status, &out, self.said.lock().expect("nobody panics with it").as_bytes())
    }
}
