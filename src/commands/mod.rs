//! The command line: one file per subcommand, help beside behaviour.

mod agent;
mod apply;
mod audit;
mod backtest;
mod bootstrap;
mod common;
mod completions;
mod diff;
mod explain;
mod import;
mod move_node;
mod plan;
mod rebalance;
mod run;
mod schema;
mod snapshot;
mod status;
mod validate;

use std::io;
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use tokio::runtime::Runtime;

use crate::error::Failure;
use crate::ui::Ui;

/// What a command came to. The numbers are the exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or no difference.
    Done = 0,
    /// Something could not be done.
    Error = 1,
    /// There is a difference, and `--detailed-exitcode` asked to tell.
    Difference = 2,
    /// A guard holds the plan back.
    Refused = 3,
}

/// Keeps the machines of Kubernetes clusters as a git repository says.
///
/// drover reads a repository of YAML files that say which cluster has which machines, which group each machine belongs
/// to and which labels it carries; compares it with the live clusters; shows the difference as a plan; and applies it.
#[derive(Debug, Parser)]
#[command(name = "drover", version, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done or no difference, 1 error, 2 difference found (with --detailed-exitcode), 3 refused by a guard.

Begin with:
  drover import --kubeconfig ~/.kube/config --cluster prod   adopt a live cluster
  drover plan                                                see what would change
  drover apply                                               change it, after asking"
)]
pub struct Cli {
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Diff(diff::DiffArgs),
    Apply(apply::ApplyArgs),
    Run(Box<run::RunArgs>),
    Status(status::StatusArgs),
    Explain(explain::ExplainArgs),
    Audit(audit::AuditArgs),
    Bootstrap(bootstrap::BootstrapArgs),
    Import(import::ImportArgs),
    Move(move_node::MoveArgs),
    Rebalance(rebalance::RebalanceArgs),
    Snapshot(snapshot::SnapshotArgs),
    Backtest(backtest::BacktestArgs),
    Agent(agent::AgentArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// How output is written.
    pub fn ui(&self) -> Ui {
        Ui::new(match self.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        })
    }

    /// Whether it runs on every machine, where one thread and little memory have to do.
    pub fn is_frugal(&self) -> bool {
        matches!(self.command, Command::Agent(_))
    }

    /// Runs the command. `now` is the one time that everything in this run is judged by.
    pub async fn run(self, ui: Ui, now: Timestamp) -> Result<Outcome, Failure> {
        match self.command {
            Command::Validate(args) => validate::run(&args, ui, now),
            Command::Plan(args) => plan::run(&args, ui, now).await,
            Command::Diff(args) => diff::run(&args, ui, now),
            Command::Apply(args) => apply::run(&args, ui, now).await,
            Command::Run(args) => run::run(&args, ui, now).await,
            Command::Status(args) => status::run(&args, ui, now).await,
            Command::Explain(args) => explain::run(&args, ui, now).await,
            Command::Audit(args) => audit::run(&args, ui, now),
            Command::Bootstrap(args) => bootstrap::run(&args, ui, now),
            Command::Import(args) => import::run(&args, ui, now).await,
            Command::Move(args) => move_node::run(&args, ui, now),
            Command::Rebalance(args) => rebalance::run(&args, ui, now).await,
            Command::Snapshot(args) => snapshot::run(&args, ui, now).await,
            Command::Backtest(args) => backtest::run(&args, ui),
            Command::Agent(args) => agent::run(&args, &["agent", "--probe"], ui).await,
            Command::Schema(args) => schema::run(&args, ui),
            Command::Completions(args) => completions::run(&args, ui),
        }
    }
}

/// Looks after the storage of the machine that this runs on: one for each machine, as a DaemonSet
///
/// This is `drover agent` as a program of its own, on which a machine spends half the memory. It reads what drover asks
/// for in the machine's NodeStorage object, and reports in its status and as the condition StorageReady of the Node.
#[derive(Debug, Parser)]
#[command(name = "drover-agent", version, max_term_width = 110)]
pub struct AgentCli {
    #[command(flatten)]
    agent: agent::AgentArgs,
}

impl AgentCli {
    /// Runs the agent.
    pub async fn run(self, ui: Ui) -> Result<Outcome, Failure> {
        agent::run(&self.agent, &["--probe"], ui).await
    }
}

/// Runs a command to its end, tells what went wrong, and returns the exit code of the program.
pub fn conclude(
    runtime: io::Result<Runtime>,
    command: impl Future<Output = Result<Outcome, Failure>>,
    ui: Ui,
) -> ExitCode {
    let outcome = runtime.map_err(|error| Failure::caused("cannot start", &error)).and_then(|runtime| {
        let outcome = runtime.block_on(command);
        // A command of a kubeconfig that hangs was reported, and keeps nobody waiting.
        runtime.shutdown_background();
        outcome
    });
    let outcome = outcome.unwrap_or_else(|failure| {
        ui.failure(&failure);
        Outcome::Error
    });
    ExitCode::from(outcome as u8)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
        super::AgentCli::command().debug_assert();
    }
}
