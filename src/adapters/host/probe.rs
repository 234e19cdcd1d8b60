//! Asks a process of its own to look, and waits for it no longer than it may.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::look::Request;
use crate::storage::Facts;

/// The program that runs now, also after it was replaced on disk.
const SELF: &str = "/proc/self/exe";
/// How long a process that was killed may take to end before it counts as hung.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// No answer is nearly as long.
const LONGEST_ANSWER: u64 = 16 << 20;
/// What is kept of an error.
const LONGEST_ERROR: u64 = 4 << 10;

/// What a look came to.
#[derive(Debug)]
pub enum Answer {
    /// What was seen.
    Seen(Box<Facts>),
    /// The file system did not answer in time, or an earlier look still waits for it.
    TimedOut,
    /// The process that looks could not be run, or failed.
    Failed(String),
}

/// Looks, one process at a time.
#[derive(Debug)]
pub struct Prober {
    arguments: &'static [&'static str],
    /// A process that was killed, and waits in the kernel for a file system that does not answer.
    hung: Option<Child>,
}

impl Prober {
    /// One that runs this program with these arguments, which answers one look so.
    pub fn new(arguments: &'static [&'static str]) -> Self {
        Self { arguments, hung: None }
    }

    /// Looks. No second process is started while one hangs. Stopped at its await, it leaves none behind.
    pub async fn look(&mut self, request: &Request, limit: Duration) -> Answer {
        if self.hangs() {
            return Answer::TimedOut;
        }
        let mut command = Command::new(SELF);
        command.args(self.arguments).current_dir("/").env_clear().kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Answer::Failed(format!("the process that looks cannot be started: {error}")),
        };
        match timeout(limit, ask(&mut child, request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let _ = child.start_kill();
                if timeout(LAST_BREATH, child.wait()).await.is_err() {
                    self.hung = Some(child);
                }
                Answer::TimedOut
            }
        }
    }

    /// Whether a look that was given up still waits for the file system.
    pub fn hangs(&mut self) -> bool {
        if let Some(child) = &mut self.hung
            && !matches!(child.try_wait(), Ok(None))
        {
            self.hung = None;
        }
        self.hung.is_some()
    }

    /// Waits until nothing hangs any more; for ever where nothing hangs.
    pub async fn freed(&mut self) {
        match &mut self.hung {
            Some(child) => {
                let _ = child.wait().await;
                self.hung = None;
            }
            None => std::future::pending().await,
        }
    }
}

async fn ask(child: &mut Child, request: &Request) -> Answer {
    let broken =
        |error: &dyn std::fmt::Display| Answer::Failed(format!("the process that looks cannot be spoken to: {error}"));
    let question = match serde_json::to_vec(request) {
        Ok(question) => question,
        Err(error) => return broken(&error),
    };
    let (Some(mut to), Some(from), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return broken(&"it has no pipes");
    };
    let (mut answer, mut said) = (Vec::new(), Vec::new());
    let asked = async {
        // One that ended before it read everything tells why on its other pipe.
        let _ = to.write_all(&question).await;
        drop(to);
    };
    let (mut from, mut errors) = (from.take(LONGEST_ANSWER), errors.take(LONGEST_ERROR));
    let ((), read, heard) = tokio::join!(asked, from.read_to_end(&mut answer), errors.read_to_end(&mut said));
    if let Err(error) = read.and(heard) {
        return broken(&error);
    }
    match child.wait().await {
        Ok(status) if status.success() => match serde_json::from_slice(&answer) {
            Ok(facts) => Answer::Seen(Box::new(facts)),
            Err(error) => broken(&error),
        },
        Ok(status) => {
            let said = String::from_utf8_lossy(&said);
            let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
            // Its error as this program writes errors, in one line.
            let lines = lines.map(|line| match line.strip_prefix("hint: ") {
                Some(hint) => format!("({hint})"),
                None => line.strip_prefix("error: ").unwrap_or(line).to_owned(),
            });
            let said = lines.collect::<Vec<_>>().join(" ");
            Answer::Failed(if said.is_empty() { format!("the process that looks failed: {status}") } else { said })
        }
        Err(error) => broken(&error),
    }
}
