//! The agent as a program of its own, for the machines.

use std::process::ExitCode;

use anstream::ColorChoice;
use clap::Parser;
use drover::commands::{AgentCli, conclude};
use drover::ui::Ui;

fn main() -> ExitCode {
    let cli = AgentCli::parse();
    let ui = Ui::new(ColorChoice::Auto);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    conclude(runtime, cli.run(ui), ui)
}
