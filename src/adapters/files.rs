//! State files in a working directory.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use walkdir::{DirEntry, FilterEntry, WalkDir};

use crate::error::Failure;
use crate::manifest::Problem;
use crate::manifest::decode::MAX_FILE;

/// A file of a state, whatever it was read from.
#[derive(Debug, Clone)]
pub struct StateFile {
    /// Its name, relative to the root of the state, with `/` between its parts.
    pub name: Arc<str>,
    /// The id that git gives this content.
    pub id: git2::Oid,
    /// Its content; none where it could not be read, which then is a problem of the listing.
    pub bytes: Vec<u8>,
}

/// The state files of a folder, and what could not be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files, ordered by name.
    pub files: Vec<StateFile>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Whether a name is that of a state file: YAML, and not below a hidden folder.
pub fn is_state_file(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    !hidden && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// Folders within folders beyond which a state is refused.
pub const MAX_DEPTH: usize = 64;
/// Files and folders beyond which a state is refused: in git, a few objects can stand for any number of them.
pub const MAX_ENTRIES: usize = 250_000;
/// Bytes of all files together beyond which a state is refused.
pub const MAX_STATE: usize = 256 << 20;

/// A problem of a link, which is never followed: it could leave the state.
pub fn link_problem(name: &str, target: &str) -> Problem {
    Problem::of_file("link-outside", name, format!("the symbolic link leads out of the state, to {target}"))
        .help("copy the file into the state instead")
}

/// A problem of a link that leads to nothing, or to itself.
pub fn link_nowhere(name: &str, target: &str) -> Problem {
    Problem::of_file("link-nowhere", name, format!("the symbolic link leads nowhere: there is no {target}"))
        .help("remove it, or name what it should lead to")
}

/// Whether someone could take a link for a part of the state: a state file, or a folder of them.
pub fn link_matters(name: &str) -> bool {
    is_state_file(name) || Path::new(name).extension().is_none()
}

pub(super) fn submodule(name: String) -> Problem {
    Problem::of_file("submodule", name, "the state holds another repository, which drover does not read")
        .help("move the files into the repository itself")
}

fn unreadable(name: String, cause: &str) -> Problem {
    Problem::of_file("unreadable", name, format!("cannot be read: {cause}"))
        .help("let drover's user read it, or move it out of the folder")
}

pub(super) fn bad_name(shown: String) -> Problem {
    Problem::of_file("file-name", shown, "the name of the file is not UTF-8").help("rename it")
}

pub(super) fn too_deep(name: String) -> Problem {
    Problem::of_file("state-size", name, format!("folders are nested more than {MAX_DEPTH} deep"))
        .help("move the files up")
}

pub(super) fn too_many() -> Problem {
    Problem::of_file("state-size", "", format!("the state has more than {MAX_ENTRIES} files and folders"))
        .help("put several documents into one file, or move what is not drover's out of the folder")
}

pub(super) fn too_large() -> Problem {
    Problem::of_file("state-size", "", format!("the files of the state have more than {} MiB", MAX_STATE >> 20))
        .help("move what is not drover's out of the folder")
}

/// Reads the state files below a folder. Links inside the state are passed over, since what they name is read anyway.
pub fn read(root: &Path) -> Result<Listing, Failure> {
    let shown = root.display();
    let real = root
        .canonicalize()
        .map_err(|error| Failure::caused(format!("cannot read the state folder {shown}"), &error))?;
    let (mut listing, mut found) = (Listing::default(), Vec::new());
    let (mut entries, mut size) = (0, 0);
    let mut walk =
        WalkDir::new(&real).sort_by_file_name().into_iter().filter_entry(|e| e.depth() == 0 || !is_hidden(e));
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().map(|path| relative(&real, path)).unwrap_or_default();
                let cause = error.io_error().map(ToString::to_string).unwrap_or_else(|| error.to_string());
                listing.problems.push(unreadable(path, &cause));
                continue;
            }
        };
        let name = relative(&real, entry.path());
        entries += 1;
        if entries > MAX_ENTRIES + 1 {
            return Ok(Listing { files: Vec::new(), problems: vec![too_many()] });
        }
        if entry.file_name().to_str().is_none() && entry.depth() > 0 {
            listing.problems.push(bad_name(name));
            skip(&mut walk, &entry);
        } else if entry.path_is_symlink() {
            listing.problems.extend(misleading(&real, entry.path(), &name));
        } else if entry.file_type().is_dir() {
            if entry.depth() > MAX_DEPTH {
                listing.problems.push(too_deep(name));
                walk.skip_current_dir();
            } else if entry.depth() > 0 && entry.path().join(".git").symlink_metadata().is_ok() {
                listing.problems.push(submodule(name));
                walk.skip_current_dir();
            }
        } else if !is_state_file(&name) {
            continue;
        } else if !entry.file_type().is_file() {
            listing.problems.push(Problem::of_file("unreadable", name, "this is not a regular file").help("remove it"));
        } else {
            let length = entry.metadata().map(|data| data.len()).unwrap_or(0) as usize;
            size += if length > MAX_FILE { 0 } else { length };
            found.push((entry.into_path(), name));
        }
    }
    if size > MAX_STATE {
        listing.problems.push(too_large());
        found.clear();
    }
    let read: Vec<_> = found.into_par_iter().with_min_len(64).map(|(path, name)| read_file(&path, name)).collect();
    for file in read {
        match file {
            Ok(file) => listing.files.push(file),
            Err(problem) => listing.problems.push(problem),
        }
    }
    Ok(listing)
}

fn read_file(path: &Path, name: String) -> Result<StateFile, Problem> {
    // What is above the limit is not worth reading.
    let size = path.metadata().map(|data| data.len()).unwrap_or(0);
    if size > MAX_FILE as u64 {
        let message = format!("the file has {} MiB; drover reads at most {} MiB", size >> 20, MAX_FILE >> 20);
        return Err(Problem::of_file("file-size", name, message).help("split it into several files"));
    }
    let unreadable = |cause: String| unreadable(name.clone(), &cause);
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let id = git2::Oid::hash_object(git2::ObjectType::Blob, &bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok(StateFile { name: name.into(), id, bytes })
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Leaves out what lies in a folder.
fn skip(walk: &mut FilterEntry<walkdir::IntoIter, impl FnMut(&DirEntry) -> bool>, entry: &DirEntry) {
    if entry.file_type().is_dir() {
        walk.skip_current_dir();
    }
}

/// What is wrong with a link. As in git, where it leads is judged by its own text.
fn misleading(root: &Path, link: &Path, name: &str) -> Option<Problem> {
    if !link_matters(name) {
        return None;
    }
    let target = link.read_link().unwrap_or_default();
    let shown = target.to_string_lossy();
    let from = Path::new(name).parent().unwrap_or(Path::new(""));
    match link.canonicalize() {
        _ if target.is_absolute() || normalized(&from.join(&target)).is_none() => Some(link_problem(name, &shown)),
        Ok(real) if !real.starts_with(root) => Some(link_problem(name, &shown)),
        Ok(_) => None,
        Err(_) => Some(link_nowhere(name, &shown)),
    }
}

/// The bytes of a regular file; a pipe or a device could give bytes for ever, or never.
pub fn read_regular(path: &Path) -> Result<Vec<u8>, Failure> {
    match path.metadata() {
        Ok(data) if !data.is_file() => {
            Err(Failure::new(format!("cannot read {}: it is not a regular file", path.display())))
        }
        _ => read_bytes(path),
    }
}

/// What lies directly in a folder, ordered by name.
pub fn list_folder(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::caused(format!("cannot read the folder {}", path.display()), &error);
    let mut found = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
        .map_err(failed)?;
    found.sort();
    Ok(found)
}

/// The bytes of a file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::caused(format!("cannot read {}", path.display()), &error))
}

/// The text of a file.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read_bytes(path)?).map_err(|_| Failure::new(format!("{} is not UTF-8", path.display())))
}

/// Creates a folder and those around it.
pub fn create_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::caused(format!("cannot create {}", path.display()), &error))
}

/// Writes a file whole or not at all, in place of the one that is there. What is no plain file, such as `/dev/stdout` or a
/// pipe, is written to, and a link stays a link.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::caused(format!("cannot write {}", path.display()), &error);
    let before = path.metadata().ok();
    if path.starts_with("/dev") || before.as_ref().is_some_and(|data| !data.is_file()) {
        let opened = std::fs::OpenOptions::new().write(true).open(path);
        return opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed);
    }
    let target = if path.is_symlink() { path.canonicalize().map_err(failed)? } else { path.to_path_buf() };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::new(format!("cannot write {}: there is no folder {}", path.display(), folder.display())));
    }
    // As any new file has them; the umask takes away what it should not have.
    let permissions = before.map_or_else(|| Permissions::from_mode(0o666), |data| data.permissions());
    let written = tempfile::Builder::new().permissions(permissions).tempfile_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)
    });
    written.map(drop).map_err(failed)
}

/// The same for a file that people own: where it is a link, what it leads to is replaced, and its permissions stay.
pub fn replace_alike(path: &Path, text: &str) -> Result<(), Failure> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let permissions = real.metadata().map(|data| data.permissions());
    replace(&real, text)?;
    match permissions {
        Ok(permissions) => std::fs::set_permissions(&real, permissions)
            .map_err(|error| Failure::caused(format!("cannot write {}", real.display()), &error)),
        Err(_) => Ok(()),
    }
}

/// Writes new files below a folder, all or none: what was written before a failure is taken away again.
pub fn create_all(folder: &Path, files: &BTreeMap<String, String>) -> Result<(), Failure> {
    if let Some(taken) = files.keys().map(|name| folder.join(name)).find(|path| path.exists()) {
        return Err(Failure::new(format!("{} exists already, so nothing was written", taken.display()))
            .hint("move it away, or choose another folder"));
    }
    let mut written: Vec<PathBuf> = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        let around = path.parent().unwrap_or(folder);
        let result =
            std::fs::create_dir_all(around).and_then(|()| std::fs::File::create_new(&path)).and_then(|mut file| {
                written.push(path.clone());
                file.write_all(text.as_bytes())
            });
        if let Err(error) = result {
            written.iter().for_each(|path| drop(std::fs::remove_file(path)));
            return Err(Failure::caused(format!("cannot write {}; nothing was kept", path.display()), &error));
        }
    }
    Ok(())
}

/// A path inside a tree, with `.` and `..` resolved by name alone; none where it would leave the tree.
pub fn normalized(path: &Path) -> Option<PathBuf> {
    path.components().try_fold(PathBuf::new(), |mut whole, part| match part {
        Component::Normal(part) => {
            whole.push(part);
            Some(whole)
        }
        Component::CurDir => Some(whole),
        Component::ParentDir => whole.pop().then_some(whole),
        Component::RootDir | Component::Prefix(_) => None,
    })
}
