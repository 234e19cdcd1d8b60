//! One look at the storage of a machine, with what is missing made on the way; in a process of its own, since a file
//! system may never answer.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{self, AtFlags, Mode, StatxFlags};
use rustix::io::{self, Errno};
use rustix::process::{Signal, set_parent_process_death_signal, umask};
use serde::{Deserialize, Serialize};

use super::mounts::{mountinfo_of, mounts};
use super::tree::{Leaf, Tree, mount_id, path_of};
use super::{kubelet, make, write};
use crate::error::Failure;
use crate::model::storage::{MountFact, StorageWanted};
use crate::storage::mounts::{Mount, entries};
use crate::storage::{Facts, RootFact, Space, acceptable};

/// How often it is looked again where the mounts change meanwhile.
const ATTEMPTS: usize = 4;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The root directory of the machine.
    pub host_root: PathBuf,
    /// What its storage must be.
    pub wanted: StorageWanted,
    /// The machine's name, for the file of the write test.
    pub node: String,
    /// Whether what is missing is made; nothing is changed otherwise.
    pub make: bool,
}

/// A directory that was found, and what it lies on. It is held open: what is done through it is done on this mount and
/// no other, whatever is mounted or unmounted meanwhile.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) open: OwnedFd,
    /// Its path, as this process sees it.
    pub(super) path: Vec<u8>,
    pub(super) mount: Mount<'static>,
    /// The list that the mount stands in.
    pub(super) mountinfo: PathBuf,
}

/// Answers the one request that comes in with what was seen.
pub fn serve(mut from: impl Read, mut to: impl Write) -> Result<(), Failure> {
    // Whoever asked is gone: nobody reads the answer.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let cannot = |what: &str, error: &dyn std::fmt::Display| Failure::new(format!("cannot {what}: {error}"));
    let mut text = Vec::new();
    from.read_to_end(&mut text).map_err(|error| cannot("read what is asked", &error))?;
    let request: Request = serde_json::from_slice(&text).map_err(|error| cannot("read what is asked", &error))?;
    let facts = look(&request)?;
    let answer = serde_json::to_vec(&facts).map_err(|error| cannot("answer", &error))?;
    to.write_all(&answer).and_then(|()| to.flush()).map_err(|error| cannot("answer", &error))
}

/// Looks, and makes what is missing where that is asked for. It may block for ever.
pub fn look(request: &Request) -> Result<Facts, Failure> {
    umask(Mode::empty()); // modes are as asked for
    let tree = Tree::open(&request.host_root).map_err(|error| {
        Failure::new(format!("the agent cannot see {}: {}", request.host_root.display(), words(error))).hint(
            "it must run in the process namespace of its machine (hostPID: true), as root with the capability SYS_PTRACE, and without an AppArmor profile that forbids it",
        )
    })?;
    let looking =
        Looking { request, wanted: &request.wanted, tree: &tree, mountinfo: mountinfo_of(&request.host_root) };
    looking.look()
}

struct Looking<'r> {
    request: &'r Request,
    wanted: &'r StorageWanted,
    tree: &'r Tree,
    mountinfo: PathBuf,
}

impl Looking<'_> {
    fn look(&self) -> Result<Facts, Failure> {
        let (wanted, mut made) = (self.wanted, Vec::new());
        if let Some(link) = &wanted.link
            && let Err(fact) = self.link(link.as_str().as_bytes(), &mut made)
        {
            return Ok(Facts::of_root(fact));
        }
        let root = match self.find(wanted.root.as_str().as_bytes()) {
            Ok(root) => root,
            Err(error) => return Ok(Facts::of_root(self.absent(error))),
        };
        let mount = self.fact(&root.mount);
        let mut facts = Facts::of_root(RootFact::Found { path: self.tree.inside(&root.path), mount: mount.clone() });
        facts.made = made;
        if acceptable(wanted, &mount).is_err() {
            return Ok(facts);
        }
        // What is there may come from the kernel's memory of a server that is gone; these two ask the server.
        match fresh(&root.open).and_then(|()| space(&root.open)) {
            Ok(space) => facts.space = space,
            Err(error) => return Ok(Facts::of_root(RootFact::Failed { why: words(error) })),
        }
        if wanted.kubelet {
            facts.kubelet = kubelet::view(wanted.root.as_str().as_bytes(), &root, self.tree)?;
        }
        let make = self.request.make && !mount.read_only;
        let maker = make::Maker { tree: self.tree, root: root.open.as_fd(), make };
        facts.directories = maker.directories(&wanted.directories, &mut facts.made);
        if make && wanted.write_test {
            facts.write_test = write::test(&maker, &self.request.node).err();
        }
        Ok(facts)
    }

    /// The directory at a path, and the mount that it was found on.
    fn find(&self, path: &[u8]) -> io::Result<Found> {
        for _ in 0..ATTEMPTS {
            let open = self.tree.directory(path)?;
            // Read after the directory was opened, so that its mount stands in it, unless that is gone again.
            let list = mounts(&self.mountinfo).map_err(|_| Errno::ACCESS)?;
            if let Ok(mount) = found_mount(open.as_fd(), &list) {
                let (mount, path) = (mount.into_owned(), path_of(open.as_fd())?);
                return Ok(Found { open, path, mount, mountinfo: self.mountinfo.clone() });
            }
        }
        Err(Errno::BUSY)
    }

    /// What a report tells of a mount: its place as the machine sees it.
    fn fact(&self, mount: &Mount<'_>) -> MountFact {
        let point = self.tree.inside(&mount.point);
        MountFact { mount_point: String::from_utf8_lossy(&point).into_owned(), ..mount.fact() }
    }

    /// Why the root cannot be looked at.
    fn absent(&self, error: Errno) -> RootFact {
        match error {
            Errno::NOENT => {
                let root = self.wanted.root.as_str().as_bytes();
                let target = match self.tree.leaf(root) {
                    Ok((_, _, Leaf::Link(target))) => Some(target),
                    _ => None,
                };
                let place = target.as_ref().filter(|target| target.starts_with(b"/")).map_or(root, Vec::as_slice);
                RootFact::Missing { lies_on: self.nearest(place), leads_to: target.map(text) }
            }
            Errno::NOTDIR => RootFact::NoDirectory,
            Errno::LOOP => RootFact::Unsafe { why: "its links turn in a circle, or one is no link to a path".into() },
            Errno::XDEV => RootFact::Unsafe { why: "it leads out of the machine's root".into() },
            Errno::BUSY => RootFact::Failed { why: "its mounts changed with every look".into() },
            error => RootFact::Failed { why: words(error) },
        }
    }

    /// The mount on which a missing path would be.
    fn nearest(&self, path: &[u8]) -> Option<MountFact> {
        let mut path = path;
        while let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            path = &path[..slash];
            let above = if path.is_empty() { b"/" } else { path };
            match self.find(above) {
                Ok(found) => return Some(self.fact(&found.mount)),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Sees to it that the root is a link to this directory. Made only where nothing is, and where it leads into a mount
    /// that state allows.
    fn link(&self, target: &[u8], made: &mut Vec<String>) -> Result<(), RootFact> {
        let root = self.wanted.root.as_str().as_bytes();
        let (above, name, leaf) = self.tree.leaf(root).map_err(|error| self.absent(error))?;
        let missing = || RootFact::Missing { leads_to: Some(text(target.to_vec())), lies_on: self.nearest(target) };
        let found = match self.find(target) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(self.absent(error)),
        };
        match (leaf, found) {
            (Leaf::Link(there), None) if there == target => Err(missing()),
            (Leaf::Link(there), found) => {
                let leads = self.find(root).ok();
                let same = matches!((&leads, &found), (Some(leads), Some(found)) if is_same(&leads.open, &found.open));
                if there == target || same { Ok(()) } else { Err(RootFact::OtherLink { leads_to: Some(text(there)) }) }
            }
            (Leaf::Directory | Leaf::Other, _) => Err(RootFact::OtherLink { leads_to: None }),
            (Leaf::Nothing, None) => Err(missing()),
            (Leaf::Nothing, Some(found)) => {
                let mount = self.fact(&found.mount);
                if acceptable(self.wanted, &mount).is_err() {
                    return Err(RootFact::Found { path: self.tree.inside(&found.path), mount });
                }
                if !self.request.make {
                    return Err(RootFact::Missing { leads_to: None, lies_on: None });
                }
                let target = OsStr::from_bytes(target);
                match fs::symlinkat(target, &above, &*name) {
                    Ok(()) => made.push(format!("the link {} to {}", self.wanted.root, target.display())),
                    // Somebody else made something there just now: the next look tells what.
                    Err(Errno::EXIST) => {}
                    Err(error) => {
                        return Err(RootFact::Failed { why: format!("the link cannot be made: {}", words(error)) });
                    }
                }
                Ok(())
            }
        }
    }
}

/// The entry of the mount that something open lies on.
pub(super) fn found_mount<'t>(open: BorrowedFd<'_>, list: &'t [u8]) -> io::Result<Mount<'t>> {
    let id = mount_id(open)?;
    entries(list).find(|mount| mount.id == id).ok_or(Errno::NOENT)
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let identity = |open: &OwnedFd| fs::fstat(open).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether the file system answers for a directory just now.
fn fresh(open: &OwnedFd) -> io::Result<()> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    match fs::statx(open, "", flags, StatxFlags::BASIC_STATS) {
        Err(Errno::NOSYS | Errno::PERM) => fs::fstat(open).map(drop),
        asked => asked.map(drop),
    }
}

fn space(root: &OwnedFd) -> io::Result<Option<Space>> {
    let stat = fs::fstatfs(root)?;
    let block = if stat.f_frsize > 0 { stat.f_frsize } else { stat.f_bsize };
    let block = u64::try_from(block).unwrap_or(1);
    let space = Space {
        total: stat.f_blocks.saturating_mul(block),
        free: stat.f_bavail.saturating_mul(block),
        no_files: stat.f_files > 0 && stat.f_ffree == 0,
    };
    Ok((space.total > 0).then_some(space))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the kernel says, without its number.
pub(super) fn words(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
