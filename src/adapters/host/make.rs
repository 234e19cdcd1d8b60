//! Directories below the root: looked at, and made where they are missing.
//!
//! Each step of a path is opened from the directory before it, and refuses links and other mounts. The first one is the
//! root, whose mount was verified after it was opened. So nobody who swaps a directory for a link between two steps
//! makes the agent write anywhere else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags, Stat};
use rustix::io::{self, Errno};
use rustix::process::{Gid, Uid};

use super::look::words;
use super::tree::Tree;
use crate::model::path::StoragePath;
use crate::model::storage::WantedDirectory;
use crate::storage::{DirectoryFault, Fault};

/// The mode of a directory that nobody gave one.
const PLAIN: u32 = 0o755;
/// How often a step is tried that somebody else keeps undoing.
const ATTEMPTS: usize = 8;
/// The bits that a directory inherits from the one above it, and keeps when a mode does not name them.
const INHERITED: u32 = 0o6000;

/// Makes directories below a root that was verified.
pub(super) struct Maker<'a> {
    pub(super) tree: &'a Tree,
    pub(super) root: BorrowedFd<'a>,
    /// Nothing is changed otherwise.
    pub(super) make: bool,
}

impl Maker<'_> {
    /// The directories that are not as asked for, once those that could be made were.
    pub(super) fn directories(
        &self,
        wanted: &BTreeMap<StoragePath, WantedDirectory>,
        made: &mut Vec<String>,
    ) -> BTreeMap<StoragePath, DirectoryFault> {
        let faults = wanted.iter().filter_map(|(path, wanted)| {
            let fault = self.directory(path.as_str(), wanted, made).err()?;
            Some((path.clone(), fault))
        });
        faults.collect()
    }

    /// A directory below the root, made where it is missing.
    pub(super) fn directory(
        &self,
        path: &str,
        wanted: &WantedDirectory,
        made: &mut Vec<String>,
    ) -> Result<OwnedFd, DirectoryFault> {
        let mut at: Option<OwnedFd> = None;
        let steps = path.split('/').count();
        for (index, name) in path.split('/').enumerate() {
            let parent = at.as_ref().map_or(self.root, AsFd::as_fd);
            let is_last = index + 1 == steps;
            let here: Vec<&str> = path.split('/').take(index + 1).collect();
            let here = here.join("/");
            let about = |why: &str| if is_last { why.to_owned() } else { format!("is not to be had: {here} {why}") };
            let mode = wanted.mode.as_ref().filter(|_| is_last).map_or(PLAIN, |mode| mode.bits());
            let (next, is_new) = self
                .step(parent, OsStr::new(name), mode)
                .map_err(|(fault, why)| DirectoryFault { fault, why: about(&why) })?;
            if is_new {
                made.push(format!("the directory {here}"));
            }
            if is_last {
                self.attributes(parent, OsStr::new(name), &next, wanted, made)
                    .map_err(|why| DirectoryFault { fault: Fault::Wrong, why })?;
            }
            at = Some(next);
        }
        at.ok_or_else(|| DirectoryFault { fault: Fault::Unsafe, why: "has no name".into() })
    }

    /// The directory of this name, and whether it was made just now.
    fn step(&self, parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<(OwnedFd, bool), (Fault, String)> {
        let mut is_new = false;
        for _ in 0..ATTEMPTS {
            match self.tree.child(parent, name, OFlags::PATH) {
                Ok(open) => return Ok((open, is_new)),
                Err(Errno::NOENT) if !self.make => return Err((Fault::Missing, "is not there".into())),
                Err(Errno::NOENT) => match fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
                    Ok(()) => is_new = true,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err((Fault::Missing, format!("cannot be made: {}", words(error)))),
                },
                Err(Errno::STALE | Errno::AGAIN) => {}
                Err(Errno::LOOP) => return Err((Fault::Unsafe, "is a symbolic link".into())),
                Err(Errno::XDEV) => return Err((Fault::Unsafe, "lies on another mount".into())),
                Err(Errno::NOTDIR) => return Err((Fault::Wrong, "is no directory".into())),
                Err(error) => return Err((Fault::Missing, format!("cannot be looked at: {}", words(error)))),
            }
        }
        Err((Fault::Missing, "changes with every look".into()))
    }

    /// Sees to the mode and the owner of a directory; both are left alone where they are right.
    fn attributes(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        found: &OwnedFd,
        wanted: &WantedDirectory,
        made: &mut Vec<String>,
    ) -> Result<(), String> {
        let stat = |open: &OwnedFd| fs::fstat(open).map_err(|error| format!("cannot be looked at: {}", words(error)));
        let before = stat(found)?;
        let Some(wrong) = difference(&before, wanted) else { return Ok(()) };
        if !self.make {
            return Err(wrong);
        }
        let cannot = |error: Errno| format!("{wrong}, and that cannot be set: {}", words(error));
        // Looking needs no right to the directory, setting does.
        let open = self.tree.child(parent, name, OFlags::RDONLY | OFlags::NONBLOCK).map_err(cannot)?;
        let now = stat(&open)?;
        if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino) {
            return Err("was swapped for another one while it was looked at".into());
        }
        set(&open, &now, wanted).map_err(cannot)?;
        match difference(&stat(&open)?, wanted) {
            None => {
                made.push(format!("{}: it {wrong}", name.display()));
                Ok(())
            }
            Some(still) => Err(format!("{still}, and its file system does not let that be set")),
        }
    }
}

fn set(open: &OwnedFd, now: &Stat, wanted: &WantedDirectory) -> io::Result<()> {
    if let Some((user, group)) = wanted.owner.as_ref().map(|owner| owner.ids())
        && (now.st_uid, now.st_gid) != (user, group)
    {
        fs::fchown(open, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    // A new owner takes some bits away, so this comes after it.
    let now = fs::fstat(open)?;
    match &wanted.mode {
        Some(mode) if !has_mode(&now, mode.bits()) => {
            let inherited = if mode.bits() & INHERITED == 0 { now.st_mode & INHERITED } else { 0 };
            fs::fchmod(open, Mode::from_raw_mode(mode.bits() | inherited))
        }
        _ => Ok(()),
    }
}

/// Whether a directory has a mode. As chmod has it, the bits that it inherited count only where the mode names them.
fn has_mode(stat: &Stat, mode: u32) -> bool {
    let counts = if mode & INHERITED == 0 { 0o7777 & !INHERITED } else { 0o7777 };
    stat.st_mode & counts == mode
}

fn difference(stat: &Stat, wanted: &WantedDirectory) -> Option<String> {
    let mut wrong = Vec::new();
    if let Some(mode) = wanted.mode.as_ref().filter(|mode| !has_mode(stat, mode.bits())) {
        wrong.push(format!("has the mode {:04o}, and should have {:04o}", stat.st_mode & 0o7777, mode.bits()));
    }
    if let Some(owner) = wanted.owner.as_ref().filter(|owner| owner.ids() != (stat.st_uid, stat.st_gid)) {
        wrong.push(format!("belongs to {}:{}, and should to {owner}", stat.st_uid, stat.st_gid));
    }
    (!wrong.is_empty()).then(|| wrong.join("; it "))
}
