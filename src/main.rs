//! Parses the command line, runs the command, and turns what it came to into an exit code.

use std::process::ExitCode;

use clap::Parser;
use drover::commands::{Cli, conclude};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = cli.ui();
    #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
    let now = jiff::Timestamp::now();
    let runtime = match cli.is_frugal() {
        true => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        false => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    conclude(runtime, cli.run(ui, now), ui)
}
