//! The write test: a file that is created, written out and removed, in a directory of its own.

use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::{self, Errno};

use super::look::words;
use super::make::Maker;
use crate::model::storage::WantedDirectory;
use crate::storage::WriteFault;

/// The directory of the test, below the root.
const FOLDER: &str = ".drover";

/// Creates, writes and removes a file that no other machine has.
pub(super) fn test(maker: &Maker<'_>, node: &str) -> Result<(), WriteFault> {
    let wanted = WantedDirectory { mode: "0700".parse().ok(), owner: None };
    let folder = maker
        .directory(FOLDER, &wanted, &mut Vec::new())
        .map_err(|fault| WriteFault { no_space: false, why: format!("{FOLDER} {}", fault.why) })?;
    let name = format!("write-test.{node}");
    write(&folder, &name)
        .map_err(|error| WriteFault { no_space: matches!(error, Errno::NOSPC | Errno::DQUOT), why: words(error) })
}

fn write(folder: impl AsFd, name: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600));
    let file = match create() {
        // An agent was killed in its test. Its own file is all that is ever removed.
        Err(Errno::EXIST) if is_file(&folder, name) => {
            fs::unlinkat(&folder, name, AtFlags::empty())?;
            create()?
        }
        created => created?,
    };
    let written = io::write(&file, b"drover was here\n").and_then(|_| fs::fsync(&file));
    let removed = match fs::unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    };
    written.and(removed)
}

fn is_file(folder: impl AsFd, name: &str) -> bool {
    let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}
