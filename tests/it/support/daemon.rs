//! A running `drover run`, and what a test asks of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::control_plane::eventually;
use super::run::{self, Ran, Running};

/// How long the daemon may take for what it does at once; CI runs many tests side by side on two cores.
const SOON: Duration = Duration::from_secs(120);

/// A daemon that serves on a port of its own.
pub(crate) struct Daemon {
    running: Option<Running>,
    address: String,
}

impl Daemon {
    /// Starts `drover run` with these arguments in a folder, and waits until it serves. It polls every second and has
    /// a short Lease, unless the arguments say otherwise.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_command(run::command(folder), arguments)
    }

    /// The same with a prepared command.
    pub(crate) fn start_command(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["run", "--listen", "127.0.0.1:0", "--color", "never"]).args(arguments);
        for (flag, value) in [("--poll", "1s"), ("--lease", "3s")] {
            if !arguments.contains(&flag) {
                command.args([flag, value]);
            }
        }
        let running = Running::start(&mut command);
        running.says("drover runs");
        let said = running.said();
        // As text and as JSON.
        let address = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
        let address = address.map(|port| format!("127.0.0.1:{port}"));
        let address = address.unwrap_or_else(|| panic!("no address in {said}"));
        Self { running: Some(running), address }
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The HTTP status and body at a path.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(SOON));
        let agent: ureq::Agent = config.build().into();
        let answer = agent.get(format!("{}{path}", self.url())).call();
        let mut answer = answer.unwrap_or_else(|error| panic!("GET {path}: {error}; it said:\n{}", self.said()));
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("a body"))
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> Value {
        let (code, body) = self.get("/status");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// The value of a metric's sample, given as in the text format: `drover_ready` or `drover_nodes{cluster="a",…}`.
    pub(crate) fn metric(&self, sample: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until its status fulfils something.
    pub(crate) fn comes_to(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the daemon's status: {what}"), SOON, || {
            let status = self.status();
            if is_so(&status) { Ok(status) } else { Err(format!("{status:#}\nit said:\n{}", self.said())) }
        })
    }

    /// Waits until it is ready.
    pub(crate) fn is_ready(&self) {
        eventually("the daemon is ready", SOON, || match self.get("/readyz") {
            (200, _) => Ok(()),
            (code, checks) => Err(format!("{code}: {checks}; it said:\n{}", self.said())),
        });
    }

    /// Its log so far.
    pub(crate) fn said(&self) -> String {
        self.running().said()
    }

    /// Sends a signal, such as `KILL`, `STOP`, `CONT` or `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        self.running().signal(signal);
    }

    /// Its process id.
    #[allow(dead_code, reason = "the benchmark asks for it")]
    pub(crate) fn id(&self) -> u32 {
        self.running().id()
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(self) -> Ran {
        self.signal("TERM");
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        self.running.take().expect("it ends once").end()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until it ends")
    }
}

/// Waits until something holds, with a word on what was waited for.
pub(crate) fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, SOON, || if is_so() { Ok(()) } else { Err("it never did".to_owned()) });
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() && self.running.is_some() {
            let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
            let status =
                agent.get(format!("{}/status", self.url())).call().map(|mut answer| answer.body_mut().read_to_string());
            eprintln!("the daemon said:\n{}\nits status: {status:?}", self.said());
        }
    }
}
