//! Notices when something in a folder changes.

use std::path::Path;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::error::Failure;

/// A folder that is watched for as long as this lives.
pub struct FolderWatch {
    _watcher: RecommendedWatcher,
}

/// Calls `changed` whenever something in a folder, or below it, is other than before.
pub fn watch_folder(folder: &Path, changed: impl Fn() + Send + 'static) -> Result<FolderWatch, Failure> {
    let failed =
        |error: notify::Error| Failure::caused(format!("cannot watch the folder {}", folder.display()), &error);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An event that was lost may have been any.
        if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
            changed();
        }
    })
    .map_err(failed)?;
    watcher.watch(folder, RecursiveMode::Recursive).map_err(failed)?;
    Ok(FolderWatch { _watcher: watcher })
}
