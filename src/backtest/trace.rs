//! A recorded load: which jobs were submitted when, and which machines each group had.

use std::str;

use csv::{ByteRecord, ReaderBuilder};

use crate::error::Failure;

/// Jobs and the groups that submitted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The groups, ordered by name.
    pub groups: Vec<TraceGroup>,
    /// The jobs, ordered by submission; within one second as in the file.
    pub jobs: Vec<Job>,
    /// Rows that were passed over because they ask for no GPU.
    pub without_gpus: usize,
}

/// A group and the machines that it begins with.
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
    /// When it was submitted, in seconds from the begin of the trace.
    pub submit: i64,
    /// How long it ran, in seconds. No policy sees this.
    pub duration: i64,
    /// GPUs that it asks for.
    pub gpus: u32,
    /// Its group, as an index into the groups of the trace.
    pub group: u32,
}

const JOB_COLUMNS: [&str; 4] = ["submit_s", "duration_s", "gpus", "group"];
const GROUP_COLUMNS: [&str; 3] = ["group", "nodes", "gpus_per_node"];
const JOB_HINT: &str = "a job file begins with the line submit_s,duration_s,gpus,group; the first three are whole numbers, \
                        the times in seconds from the begin of the trace";
const GROUP_HINT: &str =
    "a group file begins with the line group,nodes,gpus_per_node; the last two are whole numbers above 0";

/// More machines than this are a slip of the pen, and would only fill memory.
const MOST_NODES: u64 = 100_000;
/// More GPUs than this are in no machine.
const MOST_GPUS: u32 = 10_000;
/// A job asks for no more than all machines could have.
const MOST_OF_JOB: u32 = 1_000_000_000;

impl Trace {
    /// Reads a job file and a group file, given as their names and contents.
    pub fn read(jobs: (&str, &[u8]), groups: (&str, &[u8])) -> Result<Self, Failure> {
        let groups_file = groups.0;
        let groups = read_groups(groups)?;
        let mut table = Table::open(jobs, JOB_COLUMNS, JOB_HINT)?;
        let (mut jobs, mut without_gpus) = (Vec::new(), 0);
        while let Some(row) = table.next_row()? {
            let (submit, duration) = (row.number(0, 0, u32::MAX)?, row.number(1, 0, u32::MAX)?);
            let (gpus, name) = (row.number(2, 0, MOST_OF_JOB)?, row.text(3)?);
            let Ok(group) = groups.binary_search_by(|group| group.name.as_str().cmp(name)) else {
                let why = format!("is no group of {groups_file}");
                let hint = format!("give it a line in {groups_file}, or leave its jobs out");
                return Err(row.wrong(3, &why).hint(hint));
            };
            match gpus {
                0 => without_gpus += 1,
                gpus => jobs.push(Job { submit: submit.into(), duration: duration.into(), gpus, group: group as u32 }),
            }
        }
        if jobs.is_empty() {
            let text = match without_gpus {
                0 => format!("{} holds no jobs", table.file),
                _ => format!("{} holds no jobs that ask for GPUs", table.file),
            };
            return Err(Failure::new(text).hint(JOB_HINT));
        }
        jobs.sort_by_key(|job| job.submit);
        Ok(Self { groups, jobs, without_gpus })
    }

    /// All machines together.
    pub fn nodes(&self) -> usize {
        self.groups.iter().map(|group| group.nodes as usize).sum()
    }

    /// GPUs of all machines together.
    pub fn gpus(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.nodes) * u64::from(group.size)).sum()
    }
}

fn read_groups(file: (&str, &[u8])) -> Result<Vec<TraceGroup>, Failure> {
    let mut table = Table::open(file, GROUP_COLUMNS, GROUP_HINT)?;
    let mut found: Vec<TraceGroup> = Vec::new();
    let mut nodes = 0;
    while let Some(row) = table.next_row()? {
        let name = row.text(0)?;
        if name.is_empty() {
            return Err(row.wrong(0, "is no name"));
        }
        if found.iter().any(|group| group.name == name) {
            return Err(row.wrong(0, "has a line already").hint("give each group one line"));
        }
        let group = TraceGroup {
            name: name.to_owned(),
            nodes: row.number(1, 1, MOST_NODES as u32)?,
            size: row.number(2, 1, MOST_GPUS)?,
        };
        nodes += u64::from(group.nodes);
        if nodes > MOST_NODES {
            return Err(row.wrong(1, &format!("makes {nodes} machines in all; {MOST_NODES} can be replayed")));
        }
        found.push(group);
    }
    if found.is_empty() {
        return Err(Failure::new(format!("{} holds no groups", file.0)).hint(GROUP_HINT));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A CSV file with known columns, which may stand in any order and among others.
struct Table<'t, const N: usize> {
    file: &'t str,
    hint: &'static str,
    columns: [&'static str; N],
    places: [usize; N],
    reader: csv::Reader<&'t [u8]>,
    record: ByteRecord,
}

impl<'t, const N: usize> Table<'t, N> {
    fn open(
        (file, bytes): (&'t str, &'t [u8]),
        columns: [&'static str; N],
        hint: &'static str,
    ) -> Result<Self, Failure> {
        let failed = |text: String| Err(Failure::new(text).hint(hint));
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return failed(format!("{file} is empty"));
        }
        let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return failed(format!("{file}: line 1: {}", plain(&error))),
        };
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            match header.iter().position(|title| title == column.as_bytes()) {
                Some(found) => *place = found,
                None => {
                    let titles: Vec<String> = header.iter().map(shown).collect();
                    return failed(format!("{file}: line 1: there is no column {column}, only {}", titles.join(", ")));
                }
            }
        }
        Ok(Self { file, hint, columns, places, reader, record: ByteRecord::new() })
    }

    fn next_row(&mut self) -> Result<Option<Row<'_, 't, N>>, Failure> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Ok(Some(Row { table: self })),
            Ok(false) => Ok(None),
            Err(error) => {
                let line = error.position().map_or(1, csv::Position::line);
                Err(Failure::new(format!("{}: line {line}: {}", self.file, plain(&error))).hint(self.hint))
            }
        }
    }
}

/// One line of a table.
struct Row<'r, 't, const N: usize> {
    table: &'r Table<'t, N>,
}

impl<const N: usize> Row<'_, '_, N> {
    fn bytes(&self, column: usize) -> &[u8] {
        self.table.record.get(self.table.places[column]).unwrap_or_default()
    }

    fn text(&self, column: usize) -> Result<&str, Failure> {
        str::from_utf8(self.bytes(column)).map_err(|_| self.wrong(column, "is not UTF-8"))
    }

    fn number(&self, column: usize, least: u32, most: u32) -> Result<u32, Failure> {
        let number = str::from_utf8(self.bytes(column)).ok().and_then(|text| text.parse().ok());
        let number = number.filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.wrong(column, &format!("is no whole number from {least} to {most}")))
    }

    fn wrong(&self, column: usize, why: &str) -> Failure {
        let Table { file, hint, columns, record, .. } = self.table;
        let line = record.position().map_or(1, csv::Position::line);
        let text = shown(self.bytes(column));
        Failure::new(format!("{file}: line {line}, column {}: {text} {why}", columns[column])).hint(*hint)
    }
}

/// Text of the file as an error shows it: quoted, and not at any length.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// What a CSV error says, without the place that is told before it.
fn plain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns where the first line has {expected_len}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "group,nodes,gpus_per_node\nb,2,8\na,1,4\n";

    fn read(jobs: &str, groups: &str) -> Result<Trace, Failure> {
        Trace::read(("j.csv", jobs.as_bytes()), ("g.csv", groups.as_bytes()))
    }

    #[test]
    fn groups_are_sorted_and_jobs_find_them() {
        let trace = read("submit_s,duration_s,gpus,group\n5,60,8,b\n0,60,1,a\n7,1,0,a\n", GROUPS).expect("a trace");
        assert_eq!(trace.groups[0].name, "a");
        assert_eq!(trace.jobs[0], Job { submit: 0, duration: 60, gpus: 1, group: 0 });
        assert_eq!((trace.jobs.len(), trace.without_gpus, trace.nodes(), trace.gpus()), (2, 1, 3, 20));
    }

    #[test]
    fn columns_stand_in_any_order_and_among_others() {
        let jobs = "\u{feff}group, gpus ,user,duration_s,submit_s\r\nb,2,me,60,5\r\n";
        let trace = read(jobs, GROUPS).expect("a trace");
        assert_eq!(trace.jobs, [Job { submit: 5, duration: 60, gpus: 2, group: 1 }]);
    }

    #[test]
    fn a_bad_row_is_named_by_file_line_column_and_text() {
        let head = "submit_s,duration_s,gpus,group\n0,1,1,a\n";
        for (jobs, expected) in [
            (format!("{head}x,60,8,b\n"), r#"j.csv: line 3, column submit_s: "x" is no whole number from 0"#),
            (format!("{head}-1,60,8,b\n"), r#"j.csv: line 3, column submit_s: "-1" is no whole"#),
            (format!("{head}1,NaN,8,b\n"), r#"j.csv: line 3, column duration_s: "NaN" is no whole"#),
            (format!("{head}1,1.5,8,b\n"), r#"j.csv: line 3, column duration_s: "1.5" is no whole"#),
            (format!("{head}1,99999999999999999999,8,b\n"), r#"j.csv: line 3, column duration_s: "9999"#),
            (format!("{head}1,60,4000000000,b\n"), r#"j.csv: line 3, column gpus: "4000000000" is no whole"#),
            (format!("{head}1,60,1,c\n"), r#"j.csv: line 3, column group: "c" is no group of g.csv"#),
            (format!("{head}1,60\n"), "j.csv: line 3: 2 columns where the first line has 4"),
            ("submit_s,gpus\n1,2\n".to_owned(), "j.csv: line 1: there is no column duration_s, only \"submit_s\""),
            (" \n".to_owned(), "j.csv is empty"),
            ("submit_s,duration_s,gpus,group\n".to_owned(), "j.csv holds no jobs"),
            ("submit_s,duration_s,gpus,group\n1,1,0,a\n".to_owned(), "j.csv holds no jobs that ask for GPUs"),
        ] {
            let found = read(&jobs, GROUPS).expect_err("must fail");
            assert!(found.to_string().starts_with(expected), "{found}\n{expected}");
            assert!(found.advice().is_some(), "{found}");
        }
        for (rows, expected) in [
            ("a,0,8", r#"g.csv: line 2, column nodes: "0" is no whole number from 1"#),
            ("a,1,0", r#"g.csv: line 2, column gpus_per_node: "0""#),
            ("a,1,8\na,1,8", r#"g.csv: line 3, column group: "a" has a line already"#),
            ("a,99999,8\nb,9,8", r#"g.csv: line 3, column nodes: "9" makes 100008 machines"#),
            (",1,8", r#"g.csv: line 2, column group: "" is no name"#),
            ("", "g.csv holds no groups"),
        ] {
            let found = read(head, &format!("group,nodes,gpus_per_node\n{rows}\n")).expect_err("must fail");
            assert!(found.to_string().starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn what_is_no_text_is_told_and_not_shown_at_length() {
        let bad = Trace::read(("j", b"submit_s,duration_s,gpus,group\n1,1,1,\xff\xfe\n"), ("g", GROUPS.as_bytes()));
        assert!(bad.expect_err("no UTF-8").to_string().ends_with("is not UTF-8"));
        let long = format!("submit_s,duration_s,gpus,group\n1,1,{},a\n", "9".repeat(5000));
        assert!(read(&long, GROUPS).expect_err("too much").to_string().len() < 200);
    }
}
