//! The operator's `rke`, run as a process of its own.
//!
//! Which program that is, and with which arguments, comes from the settings of this process alone: a state could
//! otherwise run programs on the machine that reads it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::error::Failure;

/// How long the program may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often somebody is looked for who asks to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// How long output is read after the end of the program.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The longest line that is passed on.
const LONGEST: usize = 4096;

/// How `rke up` is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RkeCommand {
    /// The program.
    pub program: PathBuf,
    /// Further arguments, behind `up --config FILE`.
    pub args: Vec<String>,
    /// A folder with one folder for each cluster, where its cluster.yml is put beside its cluster.rkestate when the state
    /// lies in a repository; none where that is not done.
    pub folder: Option<PathBuf>,
}

/// How a run of it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RkeRun {
    /// Well.
    Done,
    /// It was stopped before its end, because somebody asked to.
    Stopped,
    /// It ended with an error.
    Failed(String),
}

impl RkeCommand {
    /// Runs `rke up` on a cluster.yml, and passes its output on line by line.
    pub async fn up(&self, config: &Path, stop: &AtomicBool, tell: &(dyn Fn(&str) + Sync)) -> Result<RkeRun, Failure> {
        let config = config
            .canonicalize()
            .map_err(|error| Failure::caused(format!("cannot read {}", config.display()), &error))?;
        let state = config.with_extension("rkestate");
        if !state.is_file() {
            return Err(Failure::new(format!("{} is not there, so RKE was not run", state.display())).hint(
                "RKE keeps the certificates of the cluster in it and would make new ones: put it beside the cluster.yml (`rke util get-state-file`)",
            ));
        }
        let program = self.program.display();
        let mut command = Command::new(&self.program);
        command.arg("up").arg("--config").arg(&config).args(&self.args);
        command.current_dir(config.parent().unwrap_or(Path::new("/")));
        // A group of its own: an interrupt of the terminal reaches drover, which then asks the program to end.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
        let mut child = command.spawn().map_err(|error| Failure::caused(format!("cannot run {program}"), &error))?;
        tell(&format!("{program} up --config {}", config.display()));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let told = async { tokio::join!(pass_on(out, tell), pass_on(err, tell)) }.fuse();
        let waiting = wait(&mut child, stop);
        tokio::pin!(told, waiting);
        let ended = tokio::select! {
            ended = &mut waiting => ended,
            _ = &mut told => waiting.await,
        };
        if !told.is_terminated() {
            let _ = tokio::time::timeout(LAST_WORDS, told).await; // what it left running keeps the pipes open
        }
        let (status, stopped) = ended.map_err(|error| Failure::caused(format!("cannot wait for {program}"), &error))?;
        Ok(match status.success() {
            true => RkeRun::Done,
            false if stopped => RkeRun::Stopped,
            false => RkeRun::Failed(format!("{program} ended with {status}")),
        })
    }
}

/// Waits for the end, and asks for it once somebody wants to stop. Tells whether that was so.
async fn wait(child: &mut Child, stop: &AtomicBool) -> std::io::Result<(std::process::ExitStatus, bool)> {
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            status = child.wait() => return Ok((status?, asked.is_some())),
            () = tokio::time::sleep(GLANCE) => {}
        }
        match asked {
            None if stop.load(Ordering::Relaxed) => {
                terminate(child);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > PATIENCE => child.start_kill()?,
            _ => {}
        }
    }
}

/// Asks a process to end, as a person at a terminal would.
fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
    // It has ended by itself where there is no such process any more.
    let _ = pid.map(|pid| rustix::process::kill_process_group(pid, rustix::process::Signal::TERM));
}

async fn pass_on(pipe: Option<impl AsyncRead + Unpin>, tell: &(dyn Fn(&str) + Sync)) {
    let Some(pipe) = pipe else { return };
    let mut lines = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line: String = String::from_utf8_lossy(&line).trim_end().chars().take(LONGEST).collect();
        if !line.is_empty() {
            tell(&line);
        }
    }
}
