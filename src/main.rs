//! Parses the command line, runs the command, and turns what it came to into an exit code.

use std::process::ExitCode;

use clap::Parser;
use drover::commands::{Cli, conclude};
use drover::error::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = cli.ui();
    #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
    let now = jiff::Timestamp::now();
    let runtime = match cli.is_frugal() {
        true => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        false => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    let outcome = runtime.map_err(|error| Failure::caused("cannot start", &error)).and_then(|runtime| {
        let outcome = runtime.block_on(cli.run(ui, now));
        // A command of a kubeconfig that hangs was reported, and keeps nobody waiting.
        runtime.shutdown_background();
        outcome
    });
    conclude(outcome, ui)
}
