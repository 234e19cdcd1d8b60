//! The agent as a program of its own, for the machines.

use std::process::ExitCode;

use anstream::ColorChoice;
use clap::Parser;
use drover::commands::{AgentCli, conclude};
use drover::error::Failure;
use drover::ui::Ui;

fn main() -> ExitCode {
    let cli = AgentCli::parse();
    let ui = Ui::new(ColorChoice::Auto);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| Failure::caused("cannot start", &error)).and_then(|runtime| {
        let outcome = runtime.block_on(cli.run(ui));
        runtime.shutdown_background();
        outcome
    });
    conclude(outcome, ui)
}
