//! A recorded load: which jobs were submitted when, and which machines each group had.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;

/// Jobs and the groups that submitted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The groups, ordered by name.
    pub groups: Vec<TraceGroup>,
    /// The jobs, ordered by submission; the order within one second is that of the file.
    pub jobs: Vec<Job>,
}

/// A group and the machines that it starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceGroup {
    /// Its name.
    pub name: String,
    /// Its machines.
    pub nodes: u32,
    /// GPUs of each of them.
    pub size: u32,
}

/// A job of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// When it was submitted, in seconds from the trace's begin.
    pub submit: i64,
    /// How long it ran, in seconds. No policy sees this.
    pub duration: i64,
    /// GPUs that it asked for.
    pub gpus: u32,
    /// Its group, as an index into the groups of the trace.
    pub group: u32,
}

#[derive(Deserialize)]
struct JobRow {
    submit_s: u32,
    duration_s: u32,
    gpus: u32,
    group: String,
}

#[derive(Deserialize)]
struct GroupRow {
    group: String,
    nodes: u32,
    gpus_per_node: u32,
}

const JOBS: &str = "a job file has the columns submit_s,duration_s,gpus,group, the first three whole numbers of 0 or more";
const GROUPS: &str = "a group file has the columns group,nodes,gpus_per_node, the last two whole numbers above 0";

/// More GPUs than this in one machine or in all are a slip of the pen, and would only fill memory.
const MOST: u32 = 100_000;

impl Trace {
    /// Reads the texts of a job file and a group file; `jobs` and `groups` are their names and texts.
    pub fn read(jobs: (&str, &str), groups: (&str, &str)) -> Result<Self, Failure> {
        let mut found: Vec<TraceGroup> = Vec::new();
        for (row, place) in rows::<GroupRow>(groups, GROUPS)? {
            let wrong = |column: &str, text: &str, why: &str| {
                Err(Failure::new(format!("{}: {place}: column {column}: {text:?} {why}", groups.0)).hint(GROUPS))
            };
            if row.nodes == 0 || row.nodes > MOST {
                return wrong("nodes", &row.nodes.to_string(), "is no number of machines");
            }
            if row.gpus_per_node == 0 || row.gpus_per_node > MOST {
                return wrong("gpus_per_node", &row.gpus_per_node.to_string(), "is no number of GPUs");
            }
            if found.iter().any(|group| group.name == row.group) {
                return wrong("group", &row.group, "was given before");
            }
            found.push(TraceGroup { name: row.group, nodes: row.nodes, size: row.gpus_per_node });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let nodes: u64 = found.iter().map(|group| u64::from(group.nodes)).sum();
        if found.is_empty() || nodes > u64::from(MOST) {
            return Err(Failure::new(format!("{}: {nodes} machines cannot be simulated", groups.0)).hint(GROUPS));
        }
        let mut read = Vec::new();
        for (row, place) in rows::<JobRow>(jobs, JOBS)? {
            let Ok(group) = found.binary_search_by(|group| group.name.as_str().cmp(&row.group)) else {
                let text = format!("{}: {place}: column group: {:?} is not in {}", jobs.0, row.group, groups.0);
                return Err(Failure::new(text).hint("every group of the job file needs a line in the group file"));
            };
            if row.gpus == 0 || row.gpus > MOST {
                let text = format!("{}: {place}: column gpus: \"{}\" is no number of GPUs", jobs.0, row.gpus);
                return Err(Failure::new(text).hint("jobs without GPUs have no place in this model: leave them out"));
            }
            read.push(Job {
                submit: row.submit_s.into(),
                duration: row.duration_s.into(),
                gpus: row.gpus,
                group: group as u32,
            });
        }
        read.sort_by_key(|job| job.submit);
        Ok(Self { groups: found, jobs: read })
    }

    /// All machines together.
    pub fn nodes(&self) -> usize {
        self.groups.iter().map(|group| group.nodes as usize).sum()
    }
}

/// The rows of a CSV text with their places; an error names line, column and text.
fn rows<T: DeserializeOwned>((name, text): (&str, &str), advice: &str) -> Result<Vec<(T, String)>, Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let failed = |error: &csv::Error, line: u64| {
        Failure::new(format!("{name}: line {line}: {}", plain(error))).hint(advice)
    };
    let header = reader.headers().map_err(|error| failed(&error, 1))?.clone();
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| failed(&error, error.position().map_or(1, csv::Position::line)))?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = record.deserialize(Some(&header)).map_err(|error| {
            let csv::ErrorKind::Deserialize { err, .. } = error.kind() else { return failed(&error, line) };
            let Some(column) = err.field() else { return failed(&error, line) };
            let column = column as usize;
            let (title, text) = (header.get(column).unwrap_or("?"), record.get(column).unwrap_or_default());
            Failure::new(format!("{name}: line {line}: column {title}: {text:?}: {}", err.kind())).hint(advice)
        })?;
        found.push((row, format!("line {line}")));
    }
    Ok(found)
}

/// What a CSV error says, without the place that is told before it.
fn plain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} columns where the first line has {expected_len}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: (&str, &str) = ("g.csv", "group,nodes,gpus_per_node\nb,2,8\na,1,4\n");

    fn failure(jobs: &str, groups: &str) -> String {
        Trace::read(("j.csv", jobs), ("g.csv", groups)).expect_err("must fail").to_string()
    }

    #[test]
    fn groups_are_sorted_and_jobs_find_them() {
        let jobs = ("j.csv", "submit_s,duration_s,gpus,group\n5,60,8,b\n0,60,1,a\n");
        let trace = Trace::read(jobs, GROUPS).expect("a trace");
        assert_eq!(trace.groups[0].name, "a");
        assert_eq!(trace.jobs[0], Job { submit: 0, duration: 60, gpus: 1, group: 0 });
        assert_eq!(trace.nodes(), 3);
    }

    #[test]
    fn a_bad_row_is_named_by_file_line_column_and_text() {
        let head = "submit_s,duration_s,gpus,group\n0,1,1,a\n";
        for (jobs, expected) in [
            (format!("{head}x,60,8,b\n"), "j.csv: line 3: column submit_s: \"x\""),
            (format!("{head}1,60,0,b\n"), "j.csv: line 3: column gpus: \"0\""),
            (format!("{head}1,60,1,c\n"), "j.csv: line 3: column group: \"c\" is not in g.csv"),
            (format!("{head}1,60\n"), "j.csv: line 3: 2 columns where the first line has 4"),
            ("submit_s,gpus\n1,2\n".to_owned(), "j.csv: line 2: missing field `duration_s`"),
        ] {
            let found = failure(&jobs, GROUPS.1);
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
        assert!(failure(head, "group,nodes,gpus_per_node\na,0,8\n").starts_with("g.csv: line 2: column nodes: \"0\""));
        assert!(failure(head, "group,nodes,gpus_per_node\n").contains("0 machines"));
    }
}
