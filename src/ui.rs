//! The only writer to the terminal: results to stdout, everything about the work itself to stderr.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Mutex;

use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::prelude::*;

use crate::engine::Progress;
use crate::error::Failure;
use crate::plan::Plan;
use crate::report::{STYLES, clean};

/// Where output goes, and whether in colour.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    color: ColorChoice,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Ui {
    /// Output in the chosen colours.
    pub fn new(color: ColorChoice) -> Self {
        Self { color }
    }

    /// Writes a result. A reader that closed the pipe early has read enough.
    pub fn out(&self, text: &str) -> Result<(), Failure> {
        let mut out = AutoStream::new(io::stdout().lock(), self.color);
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::caused("cannot write the output", &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a line about the work itself. There is nowhere to report that stderr is gone.
    pub fn note(&self, text: &str) {
        let mut err = AutoStream::new(io::stderr().lock(), self.color);
        let _ = writeln!(err, "{text}");
    }

    /// Writes an error and what to do.
    pub fn failure(&self, failure: &Failure) {
        let style = STYLES.remove.bold();
        self.note(&format!("{style}error{style:#}: {}", clean(&failure.to_string())));
        if let Some(hint) = failure.advice() {
            let style = STYLES.add;
            self.note(&format!(" {style}hint{style:#}: {}", clean(hint)));
        }
    }

    /// Writes what the daemon logs to stderr. `filter` is a level, or a filter of tracing's.
    pub fn log(&self, format: LogFormat, filter: &str) -> Result<(), Failure> {
        let unclear = format!("{filter:?} is no level and no filter of the log");
        // A filter of tracing's takes a word that is no level for the name of a module, and falls silent.
        let is_clear = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
        let parsed = filter.parse::<Targets>().ok().filter(|_| filter.split(',').all(is_clear));
        let filter =
            parsed.ok_or_else(|| Failure::new(unclear).hint("write for example info, or drover=debug,kube=warn"))?;
        // At its lowest level ureq logs addresses, and that of a notification is a secret.
        let keeps_secrets = filter_fn(|what| !what.target().starts_with("ureq") || *what.level() <= LevelFilter::INFO);
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let colours = self.color != ColorChoice::Never && io::stderr().is_terminal();
        let log = tracing_subscriber::registry().with(filter).with(keeps_secrets);
        let set = match format {
            LogFormat::Text => log.with(lines.with_ansi(colours).with_target(false)).try_init(),
            LogFormat::Json => log.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
        };
        set.map_err(|error| Failure::new(format!("cannot begin to log: {error}")))
    }

    /// Whether there is a person to ask.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a person. Only `yes` is a yes.
    pub fn ask(&self, question: &str) -> Result<bool, Failure> {
        let mut err = io::stderr().lock();
        let asked = write!(err, "{question} Only `yes` is accepted: ").and_then(|()| err.flush());
        let mut answer = String::new();
        asked
            .and_then(|()| io::stdin().lock().read_line(&mut answer))
            .map_err(|error| Failure::caused("cannot ask", &error))?;
        Ok(answer.trim() == "yes")
    }

    /// Shows how a number of steps is being worked through; `noun` is what they are.
    pub fn steps(&self, noun: &'static str, number: usize) -> Steps {
        let bar = if io::stderr().is_terminal() { ProgressBar::new(number as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(noun);
        bar.tick();
        Steps(bar)
    }

    /// Shows how the nodes of a plan are being worked through.
    pub fn progress(&self, plan: &Plan) -> Bars {
        Bars::new(plan, io::stderr().is_terminal())
    }
}

/// A bar of steps on a terminal; nothing elsewhere.
pub struct Steps(ProgressBar);

impl Steps {
    /// One step is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar per cluster on a terminal; elsewhere a line now and then.
pub struct Bars {
    bars: Vec<(String, ProgressBar)>,
    lines: Option<Mutex<Vec<usize>>>,
    area: MultiProgress,
}

impl Bars {
    fn new(plan: &Plan, terminal: bool) -> Self {
        let area = MultiProgress::new();
        let changing = plan.clusters.iter().filter(|cluster| !cluster.nodes.is_empty());
        let bars: Vec<(String, ProgressBar)> = changing
            .map(|cluster| {
                let length = cluster.nodes.len() as u64;
                let bar = if terminal { area.add(ProgressBar::new(length)) } else { ProgressBar::hidden() };
                bar.set_length(length);
                if let Ok(style) = ProgressStyle::with_template("{prefix:>12} {bar:30} {pos}/{len} nodes {eta}") {
                    bar.set_style(style);
                }
                bar.set_prefix(cluster.cluster.clone());
                (cluster.cluster.clone(), bar)
            })
            .collect();
        let lines = (!terminal).then(|| Mutex::new(vec![0; bars.len()]));
        Self { bars, lines, area }
    }
}

impl Progress for Bars {
    fn told(&self, cluster: &str, line: &str) {
        let line = format!("{cluster}: {}", clean(line));
        if self.lines.is_some() || self.area.println(&line).is_err() {
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    fn node_done(&self, cluster: &str) {
        let Some(index) = self.bars.iter().position(|(name, _)| name == cluster) else { return };
        let (name, bar) = &self.bars[index];
        bar.inc(1);
        let Some(Ok(mut said)) = self.lines.as_ref().map(Mutex::lock) else { return };
        let (done, all) = (bar.position() as usize, bar.length().unwrap_or(1) as usize);
        let quarter = done * 4 / all.max(1);
        if all >= 40 && quarter > said[index] {
            said[index] = quarter;
            let _ = writeln!(io::stderr().lock(), "{name}: {done}/{all} nodes");
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bars.iter().for_each(|(_, bar)| bar.finish_and_clear());
    }
}
