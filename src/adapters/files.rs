//! State files in a working directory.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use walkdir::WalkDir;

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

/// A problem of a link, which is never followed: it could leave the state.
pub fn link_problem(name: &str, target: &str) -> Problem {
    Problem::of_file("link-outside", name, format!("the symbolic link leads out of the state, to {target}"))
        .help("copy the file into the state instead")
}

/// Reads the state files below a folder. Links inside the state are passed over, since what they name is read anyway.
pub fn read(root: &Path) -> Result<Listing, Failure> {
    let shown = root.display();
    let real = root
        .canonicalize()
        .map_err(|error| Failure::caused(format!("cannot read the state folder {shown}"), &error))?;
    let mut listing = Listing::default();
    for entry in WalkDir::new(&real).sort_by_file_name().into_iter().filter_entry(|e| e.depth() == 0 || !is_hidden(e)) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().map(|path| relative(&real, path)).unwrap_or_default();
                let cause = error.io_error().map(ToString::to_string).unwrap_or_else(|| error.to_string());
                listing.problems.push(Problem::of_file("unreadable", path, format!("cannot be read: {cause}")));
                continue;
            }
        };
        let name = relative(&real, entry.path());
        if entry.path_is_symlink() {
            listing.problems.extend(outside(&real, entry.path(), &name));
        } else if entry.file_type().is_dir() || !is_state_file(&name) {
            continue;
        } else if !entry.file_type().is_file() {
            listing.problems.push(Problem::of_file("unreadable", name, "this is not a regular file").help("remove it"));
        } else {
            read_file(&mut listing, entry.path(), name);
        }
    }
    Ok(listing)
}

fn read_file(listing: &mut Listing, path: &Path, name: String) {
    // A size above the limit is reported by the parser; the content is not worth reading.
    let size = path.metadata().map(|data| data.len()).unwrap_or(0);
    if size > MAX_FILE as u64 {
        let message = format!("the file has {} MiB; drover reads at most {} MiB", size >> 20, MAX_FILE >> 20);
        listing.problems.push(Problem::of_file("file-size", name, message).help("split it into several files"));
        return;
    }
    let read = std::fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| {
        let id = git2::Oid::hash_object(git2::ObjectType::Blob, &bytes).map_err(|error| error.to_string())?;
        Ok((id, bytes))
    });
    match read {
        Ok((id, bytes)) => listing.files.push(StateFile { name: name.into(), id, bytes }),
        Err(cause) => listing.problems.push(Problem::of_file("unreadable", name, format!("cannot be read: {cause}"))),
    }
}

fn is_hidden(entry: &walkdir::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn outside(root: &Path, link: &Path, name: &str) -> Option<Problem> {
    let target = link.read_link().unwrap_or_default();
    match link.canonicalize() {
        Ok(real) if real.starts_with(root) => None,
        Ok(real) if !is_state_file(name) && !real.is_dir() => None,
        Ok(_) => Some(link_problem(name, &target.display().to_string())),
        Err(error) => Some(Problem::of_file("unreadable", name, format!("the symbolic link leads nowhere: {error}"))),
    }
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

/// Writes a file whole or not at all, in place of the one that is there.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).map_err(|error| Failure::caused(format!("cannot write {}", path.display()), &error))
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
