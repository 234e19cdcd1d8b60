//! Where the symbolic links of a revision lead, which git keeps as text.

use std::ffi::OsString;
use std::path::{Component, Path};

use git2::{ObjectType, Oid, Repository, Tree};

use super::LINK;
use crate::adapters::files::{link_nowhere, link_problem};
use crate::manifest::Problem;

/// Links on the way to a target after which it counts as a loop, as for the system itself.
const MAX_LINKS: usize = 40;

enum Led {
    Inside,
    Outside,
    Nowhere,
}

/// What is wrong with a link. What it leads to inside the state is read anyway.
pub(super) fn misleading(repository: &Repository, state: &Tree<'_>, name: &str, id: Oid) -> Option<Problem> {
    let target = text_of(repository, id)?;
    match follow(repository, state, Path::new(name), &target) {
        Led::Inside => None,
        Led::Outside => Some(link_problem(name, &target)),
        Led::Nowhere => Some(link_nowhere(name, &target)),
    }
}

fn text_of(repository: &Repository, id: Oid) -> Option<String> {
    Some(String::from_utf8_lossy(repository.find_blob(id).ok()?.content()).into_owned())
}

fn follow(repository: &Repository, state: &Tree<'_>, link: &Path, target: &str) -> Led {
    let mut at = link.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut ahead = parts(Path::new(target));
    let mut links = 1;
    if target.is_empty() {
        return Led::Nowhere;
    }
    while let Some(part) = ahead.pop() {
        match part.to_str() {
            Some("/") => return Led::Outside,
            Some("..") if !at.pop() => return Led::Outside,
            Some("..") => continue,
            _ => at.push(part),
        }
        let Ok(entry) = state.get_path(&at) else { return Led::Nowhere };
        if entry.filemode() == LINK {
            links += 1;
            let Some(next) = text_of(repository, entry.id()).filter(|_| links <= MAX_LINKS) else {
                return Led::Nowhere;
            };
            at.pop();
            ahead.extend(parts(Path::new(&next)));
        } else if entry.kind() != Some(ObjectType::Tree) && !ahead.is_empty() {
            return Led::Nowhere;
        }
    }
    Led::Inside
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).rev().collect()
}
