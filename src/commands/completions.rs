use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Outcome};
use crate::error::Failure;
use crate::ui::Ui;

/// Write a completion script for a shell
///
/// For bash: drover completions bash > ~/.local/share/bash-completion/completions/drover
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, ui: Ui) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "drover", &mut script);
    ui.out(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
