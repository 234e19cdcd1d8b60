//! Runs that must end: a safety net of time and memory around the binary, and what no run may ever come to.

use std::path::Path;
use std::process::{Command, Stdio};

use super::run::{self, Ran};

/// Memory that no run may exceed, in bytes of address space.
const MEMORY: u64 = 6 << 30;

/// Runs drover in a folder; it must end by itself within this many seconds, without a panic and not by a signal.
#[track_caller]
pub(crate) fn drover_within(seconds: u32, folder: &Path, arguments: &[&str]) -> Ran {
    within(seconds, run::command(folder).args(arguments))
}

/// Runs a prepared command like [`drover_within`].
#[track_caller]
pub(crate) fn within(seconds: u32, command: &Command) -> Ran {
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--as={MEMORY}"))
        .args(["timeout", "--signal=KILL", &seconds.to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap_or(Path::new(".")))
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    let ran = run::finish(&mut limited);
    assert!((0..=3).contains(&ran.code), "{command:?} did not end by itself within {seconds} s:\n{ran:?}");
    assert!(!ran.err.contains("panicked"), "{command:?} panicked:\n{}", ran.err);
    ran
}
