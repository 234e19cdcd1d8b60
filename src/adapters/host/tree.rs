//! Paths below a root directory that may be that of another process, and how nothing leads out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{self, Errno};

/// How often the kernel is asked again while somebody renames directories along the way.
const ATTEMPTS: usize = 32;
/// How many links a path may lead through, as the kernel has it.
const MOST_LINKS: usize = 40;

/// A directory that is the root of all paths below it: links that are absolute, or climb above it, stay inside.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// Where the root itself lies, as this process sees it; empty where it is the root of everything.
    base: Vec<u8>,
    /// The kernel cannot resolve paths in a root (before Linux 5.6), or may not: it is done step by step.
    stepwise: bool,
}

/// What lies at a path, links not followed.
#[derive(Debug)]
pub(super) enum Leaf {
    Nothing,
    Link(Vec<u8>),
    Directory,
    Other,
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let base = path_of(root.as_fd())?;
        let base = base.strip_suffix(b"/").unwrap_or(&base).to_vec();
        let tried = fs::openat2(&root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT);
        // Filters of system calls refuse what they do not know with EPERM.
        let stepwise = matches!(tried, Err(Errno::NOSYS | Errno::PERM));
        Ok(Self { root, base, stepwise })
    }

    /// The root itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A path that this process sees, as it is below the root.
    pub(super) fn inside(&self, path: &[u8]) -> Vec<u8> {
        match path.strip_prefix(self.base.as_slice()) {
            Some([]) => b"/".to_vec(),
            Some(rest) => rest.to_vec(),
            None => path.to_vec(),
        }
    }

    /// The directory at an absolute path, links followed.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = relative(path);
        if self.stepwise {
            return self.step_to(path);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        again(|| fs::openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve))
    }

    /// What lies at an absolute path, and the directory and the name that it has there.
    pub(super) fn leaf(&self, path: &[u8]) -> io::Result<(OwnedFd, OsString, Leaf)> {
        let path = relative(path);
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b"."[..], path),
        };
        let (above, name) = (self.directory(above)?, OsStr::from_bytes(name).to_owned());
        let leaf = match fs::statat(&above, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Leaf::Nothing,
            Err(error) => return Err(error),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => Leaf::Link(fs::readlinkat(&above, &*name, Vec::new())?.into_bytes()),
                FileType::Directory => Leaf::Directory,
                _ => Leaf::Other,
            },
        };
        Ok((above, name, leaf))
    }

    /// The directory of this name in another one: neither a link nor another mount.
    pub(super) fn child(&self, parent: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.stepwise && (name.as_bytes() == b".." || name.as_bytes().contains(&b'/')) {
            return Err(Errno::XDEV);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let opened = match self.stepwise {
            true => fs::openat(parent, name, flags, Mode::empty()),
            false => again(|| fs::openat2(parent, name, flags, Mode::empty(), resolve)),
        };
        // To the kernel a link that is not followed is no directory; to a person it is a link.
        let opened = opened.map_err(|error| {
            let is_link = error == Errno::NOTDIR
                && fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            if is_link { Errno::LOOP } else { error }
        })?;
        if mount_id(opened.as_fd())? != mount_id(parent)? {
            return Err(Errno::XDEV);
        }
        Ok(opened)
    }

    /// Walks a path name by name. Whatever somebody renames meanwhile, `..` goes back to where the walk came from.
    fn step_to(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (mut walked, mut links) = (Vec::<OwnedFd>::new(), 0);
        let mut left: VecDeque<Vec<u8>> = names(path).into();
        while let Some(name) = left.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    walked.pop();
                    continue;
                }
                _ => {}
            }
            let at = walked.last().map_or(self.root.as_fd(), AsFd::as_fd);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = fs::openat(at, OsStr::from_bytes(&name), flags, Mode::empty())?;
            match FileType::from_raw_mode(fs::fstat(&next)?.st_mode) {
                FileType::Directory => walked.push(next),
                FileType::Symlink => {
                    links += 1;
                    let target = fs::readlinkat(&next, "", Vec::new())?.into_bytes();
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with(b"/") {
                        walked.clear();
                    }
                    names(&target).into_iter().rev().for_each(|name| left.push_front(name));
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        walked.pop().map_or_else(|| io::dup(&self.root), Ok)
    }
}

/// The kernel gives up where somebody renames along the way, and says so.
fn again(mut open: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 1..ATTEMPTS {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    open()
}

fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    if start == path.len() { b"." } else { &path[start..] }
}

/// The mount that something open lies on. The kernel answers from its own tables; the file system is not asked.
pub(super) fn mount_id(open: BorrowedFd<'_>) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", open.as_raw_fd()))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or(Errno::NOSYS)
}

/// Where something open lies, with all links resolved.
pub(super) fn path_of(open: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd()))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(path.into_os_string().into_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The same tree, as a kernel that knows openat2 sees it and as one that does not.
    fn trees(root: &Path) -> [Tree; 2] {
        let (quick, mut slow) = (Tree::open(root).unwrap(), Tree::open(root).unwrap());
        slow.stepwise = true;
        [quick, slow]
    }

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::create_dir_all(root.join("mnt/k8s")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        for (link, target) in [
            ("absolute", "/etc"),
            ("relative", "mnt/../etc/./deep"),
            ("climbing", "../../../../../etc"),
            ("chain", "/absolute/deep"),
            ("circle", "circle"),
            ("nowhere", "/not/there"),
            ("to-file", "file"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for tree in trees(&root) {
            let at = |path: &[u8]| {
                tree.directory(path)
                    .map(|open| String::from_utf8(tree.inside(&path_of(open.as_fd()).unwrap())).unwrap())
            };
            for (path, leads_to) in [
                (&b"/"[..], "/"),
                (b"/mnt/k8s", "/mnt/k8s"),
                (b"/absolute", "/etc"),
                (b"/absolute/deep", "/etc/deep"),
                (b"/relative", "/etc/deep"),
                (b"/climbing", "/etc"),
                (b"/chain", "/etc/deep"),
                (b"/mnt/k8s/../../..", "/"),
            ] {
                assert_eq!(at(path), Ok(leads_to.to_owned()), "{}", String::from_utf8_lossy(path));
            }
            for (path, error) in [
                (&b"/circle"[..], Errno::LOOP),
                (b"/nowhere", Errno::NOENT),
                (b"/file", Errno::NOTDIR),
                (b"/to-file", Errno::NOTDIR),
                (b"/file/x", Errno::NOTDIR),
            ] {
                assert_eq!(at(path), Err(error), "{}", String::from_utf8_lossy(path));
            }
        }
    }

    #[test]
    fn leaves_and_children() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("/a", root.join("a/link")).unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        for tree in trees(root) {
            let leaf = |path: &[u8]| tree.leaf(path).map(|(_, _, leaf)| leaf);
            assert!(matches!(leaf(b"/a"), Ok(Leaf::Directory)));
            assert!(matches!(leaf(b"/a/link"), Ok(Leaf::Link(target)) if target == b"/a"));
            assert!(matches!(leaf(b"/a/file"), Ok(Leaf::Other)));
            assert!(matches!(leaf(b"/a/none"), Ok(Leaf::Nothing)));
            assert_eq!(leaf(b"/none/none").unwrap_err(), Errno::NOENT);
            let a = tree.directory(b"/a").unwrap();
            let child = |name: &str| tree.child(a.as_fd(), OsStr::new(name), OFlags::PATH).map(drop);
            assert_eq!(child("b"), Ok(()));
            assert_eq!(child("link"), Err(Errno::LOOP));
            assert_eq!(child("file"), Err(Errno::NOTDIR));
            assert_eq!(child("none"), Err(Errno::NOENT));
            assert_eq!(child(".."), Err(Errno::XDEV));
            let top = Tree { root: tree.directory(b"/").unwrap(), base: Vec::new(), stepwise: tree.stepwise };
            let everything = fs::openat(CWD, "/", OFlags::PATH, Mode::empty()).unwrap();
            let other_mount = top.child(everything.as_fd(), OsStr::new("proc"), OFlags::PATH).map(drop);
            assert_eq!(other_mount, Err(Errno::XDEV));
        }
    }
}
