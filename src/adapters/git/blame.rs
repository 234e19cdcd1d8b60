//! Which commit wrote a line of the state.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use git2::{BlameOptions, Oid, Repository};
use rayon::prelude::*;

use crate::plan::{Commit, Source};

/// Finds the commits behind lines of a state.
pub struct Blamer {
    repository: PathBuf,
    folder: PathBuf,
    newest: Option<Oid>,
}

/// The commit of each line that was asked for.
type Lines = HashMap<u32, Commit>;

impl Blamer {
    pub(super) fn new(repository: PathBuf, folder: PathBuf, newest: Option<Oid>) -> Self {
        Self { repository, folder, newest }
    }

    /// Gives every source the commit that last wrote its line. `uncommitted` gives the content of a file that differs
    /// from the commit; lines that are not committed, and files that git does not know, get none.
    pub fn fill<'s>(
        &self,
        sources: impl Iterator<Item = &'s mut Source>,
        uncommitted: impl Fn(&str) -> Option<Vec<u8>> + Sync,
    ) {
        let Some(newest) = self.newest else { return };
        let mut wanted: BTreeMap<String, Vec<&mut Source>> = BTreeMap::new();
        for source in sources {
            wanted.entry(source.origin.file.to_string()).or_default().push(source);
        }
        let wanted: Vec<(String, Vec<&mut Source>)> = wanted.into_iter().collect();
        wanted.into_par_iter().with_min_len(16).for_each_init(
            || Repository::open(&self.repository),
            |repository, (file, sources)| {
                let Ok(repository) = repository else { return };
                let mut lines: Vec<u32> = sources.iter().map(|source| source.origin.line).collect();
                lines.sort_unstable();
                lines.dedup();
                let Ok(found) = self.lines(repository, newest, &file, &lines, uncommitted(&file)) else { return };
                for source in sources {
                    source.commit = found.get(&source.origin.line).cloned();
                }
            },
        );
    }

    fn lines(
        &self,
        repository: &Repository,
        newest: Oid,
        file: &str,
        lines: &[u32],
        uncommitted: Option<Vec<u8>>,
    ) -> Result<Lines, git2::Error> {
        let mut options = BlameOptions::new();
        options.newest_commit(newest);
        let committed = repository.blame_file(&self.folder.join(file), Some(&mut options))?;
        let blame = match &uncommitted {
            Some(content) => committed.blame_buffer(content)?,
            None => committed,
        };
        let mut commits: HashMap<Oid, Commit> = HashMap::new();
        let mut found = Lines::new();
        for line in lines {
            let Some(id) = blame.get_line(*line as usize).map(|hunk| hunk.final_commit_id()) else { continue };
            if id.is_zero() {
                continue;
            }
            let commit = match commits.get(&id) {
                Some(commit) => commit.clone(),
                None => {
                    let commit = describe(repository, id)?;
                    commits.insert(id, commit.clone());
                    commit
                }
            };
            found.insert(*line, commit);
        }
        Ok(found)
    }
}

fn describe(repository: &Repository, id: Oid) -> Result<Commit, git2::Error> {
    let commit = repository.find_commit(id)?;
    let author = commit.author();
    let date = jiff::Timestamp::from_second(author.when().seconds()).map(|time| time.strftime("%Y-%m-%d").to_string());
    Ok(Commit {
        id: super::short(id),
        author: String::from_utf8_lossy(author.name_bytes()).into_owned(),
        date: date.unwrap_or_default(),
        summary: commit
            .summary_bytes()
            .map(|summary| String::from_utf8_lossy(summary).into_owned())
            .unwrap_or_default(),
    })
}
