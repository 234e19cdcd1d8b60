//! One file to documents: every problem of the file is reported, not only the first.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use serde_yaml::Value;

use super::hints::{self, Misfit};
use super::problem::{Problem, SourceText};
use super::yaml::{self, MAX_FILE_PROBLEMS, Mark, Marked, Parts, Place, Step};
use crate::model::text::closest;
use crate::model::{API_VERSION, ClusterManifest, FleetManifest, GroupManifest, NodeManifest};

/// The largest file that drover reads, in bytes.
pub const MAX_FILE: usize = 16 << 20;
/// Problems of one document after which the rest is left unsaid.
const MAX_PROBLEMS: usize = 100;
/// Labels of one node beyond which something is wrong with the file.
const MAX_LABELS: usize = 1000;

/// The documents and problems of one file.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// Documents that are right in themselves.
    pub documents: Vec<Document>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
    /// The kind and name of documents that are wrong, so that what refers to them is not reported as well.
    pub broken: Vec<(&'static str, String)>,
}

/// A document that is right in itself, and where its parts stand.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it says.
    pub manifest: Manifest,
    /// Where its parts stand.
    pub mark: Mark,
    /// The file it stands in.
    pub source: SourceText,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq)]
pub enum Manifest {
    /// `kind: Fleet`
    Fleet(Arc<FleetManifest>),
    /// `kind: Cluster`
    Cluster(Arc<ClusterManifest>),
    /// `kind: Group`
    Group(Arc<GroupManifest>),
    /// `kind: Node`
    Node(Arc<NodeManifest>),
}

impl Manifest {
    /// The document as YAML.
    pub fn write(&self) -> Result<String, super::write::WriteError> {
        match self {
            Self::Fleet(manifest) => super::write::document(manifest.as_ref()),
            Self::Cluster(manifest) => super::write::document(manifest.as_ref()),
            Self::Group(manifest) => super::write::document(manifest.as_ref()),
            Self::Node(manifest) => super::write::document(manifest.as_ref()),
        }
    }
}

/// The kinds that a state repository may hold.
pub const KINDS: [&str; 4] = ["Fleet", "Cluster", "Group", "Node"];

/// Reads one file. `file` is its name relative to the root of the state.
pub fn parse(file: &Arc<str>, bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed { documents: Vec::new(), problems: Vec::new(), broken: Vec::new() };
    if bytes.len() > MAX_FILE {
        let message = format!("the file has {} MiB; drover reads at most {} MiB", bytes.len() >> 20, MAX_FILE >> 20);
        parsed.problems.push(Problem::of_file("file-size", file.clone(), message).help("split it into several files"));
        return parsed;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            parsed.problems.push(not_utf8(file, bytes, error.valid_up_to()));
            return parsed;
        }
    };
    let source = SourceText::new(file.clone(), text);
    for marked in yaml::read(&source, &mut parsed.problems) {
        if parsed.problems.len() >= MAX_FILE_PROBLEMS {
            break;
        }
        let (kind, name) = match header(&source, &marked.value, &marked.mark) {
            Ok(kind) => (kind, at(&marked.value, &[Step::Key("metadata"), Step::Key("name")]).and_then(Value::as_str)),
            Err(problem) => {
                parsed.problems.push(problem);
                continue;
            }
        };
        let name = name.unwrap_or_default().to_owned();
        match decode(&source, kind, marked, &mut parsed.problems) {
            Some(document) => parsed.documents.push(document),
            None => parsed.broken.push((kind, name)),
        }
    }
    if parsed.problems.len() >= MAX_FILE_PROBLEMS {
        let message = format!("the file has {MAX_FILE_PROBLEMS} problems or more; the rest of it was not read");
        parsed.problems.push(Problem::of_file("too-many-problems", file.clone(), message).help("mend the first ones"));
    }
    parsed.problems.sort_by_key(|problem| (problem.line, problem.column));
    parsed
}

fn not_utf8(file: &Arc<str>, bytes: &[u8], valid: usize) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..valid]).into_owned();
    let line = before.matches('\n').count() as u32 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
    let message = format!("the file is not UTF-8: byte 0x{:02x} is not text", bytes[valid]);
    let rest = bytes[valid..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let shown = SourceText::new(file.clone(), before + &String::from_utf8_lossy(&rest[..rest.len().min(80)]));
    shown.error("file-encoding", Place { line, column, length: 1 }, message).help("save the file as UTF-8")
}

fn decode(source: &SourceText, kind: &str, marked: Marked, problems: &mut Vec<Problem>) -> Option<Document> {
    let Marked { value, mark } = marked;
    let mut decoder = Decoder { source, problems, value, mark };
    let manifest = match kind {
        "Fleet" => Manifest::Fleet(Arc::new(decoder.decode()?)),
        "Cluster" => Manifest::Cluster(Arc::new(decoder.decode()?)),
        "Group" => Manifest::Group(Arc::new(decoder.decode()?)),
        _ => Manifest::Node(Arc::new(decoder.decode::<NodeManifest>()?)),
    };
    let Decoder { mark, .. } = decoder;
    if let Manifest::Node(node) = &manifest
        && node.spec.labels.len() > MAX_LABELS
    {
        let place = mark.key_place(&[Step::Key("spec"), Step::Key("labels")]);
        let message = format!("a node has more than {MAX_LABELS} labels");
        problems.push(source.error("too-many-labels", place, message).help("keep those that something reads"));
        return None;
    }
    Some(Document { manifest, mark, source: source.clone() })
}

/// The kind of a document, or why it is none of drover's.
fn header(source: &SourceText, value: &Value, mark: &Mark) -> Result<&'static str, Problem> {
    let Value::Mapping(fields) = value else {
        return Err(source
            .error("wrong-type", mark.place, "a document must be a mapping with apiVersion, kind, metadata and spec")
            .help(format!("begin with `apiVersion: {API_VERSION}`")));
    };
    let text = |key| match fields.get(key) {
        None => Err(source
            .error("missing-field", mark.place, format!("the document has no `{key}`"))
            .help(format!("every document begins with `apiVersion: {API_VERSION}` and a `kind`"))),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(source
            .error("wrong-type", mark.place(&[Step::Key(key)]), format!("`{key}` must be text"))
            .help(format!("every document begins with `apiVersion: {API_VERSION}` and a `kind`"))),
    };
    let version = text("apiVersion")?;
    if version != API_VERSION {
        return Err(source
            .error("unknown-version", mark.place(&[Step::Key("apiVersion")]), format!("unknown apiVersion {version:?}"))
            .help(format!("write `apiVersion: {API_VERSION}`, or move what is not drover's out of the state folder")));
    }
    let kind = text("kind")?;
    KINDS.into_iter().find(|known| *known == kind).ok_or_else(|| {
        let problem = source.error("unknown-kind", mark.place(&[Step::Key("kind")]), format!("unknown kind {kind:?}"));
        let exact = KINDS.iter().find(|known| known.eq_ignore_ascii_case(kind));
        let help = exact.map(|known| format!("did you mean `{known}`?")).or_else(|| hints::choose(kind, &KINDS));
        problem.help(help.unwrap_or_default())
    })
}

/// Deserializes a value; what does not fit is reported and taken out, and the rest is tried again.
struct Decoder<'s, 'p> {
    source: &'s SourceText,
    problems: &'p mut Vec<Problem>,
    value: Value,
    mark: Mark,
}

impl Decoder<'_, '_> {
    fn decode<T: DeserializeOwned>(&mut self) -> Option<T> {
        if let Ok(manifest) = T::deserialize(&self.value) {
            return Some(manifest);
        }
        let (mut value, mut mark) = (self.value.clone(), self.mark.clone());
        let mut taken: Vec<String> = Vec::new();
        for _ in 0..MAX_PROBLEMS {
            let Err(error) = serde_path_to_error::deserialize::<_, T>(&value) else { return None };
            let (path, message) = (error.path().clone(), error.inner().to_string());
            let mut steps = steps_of(&path);
            match Misfit::of(&message) {
                Misfit::UnknownField(name) => {
                    if steps.last() != Some(&Step::Key(name)) {
                        steps.push(Step::Key(name));
                    }
                    self.unknown_field(&mark, &steps, name, &message);
                    // A misspelt field is not missing as well.
                    if let Some(meant) = closest(name, hints::expected_names(&message)) {
                        taken.push(format!("{}/{meant}", joined(&steps[..steps.len() - 1])));
                    }
                }
                // The field is missing because it was taken out: what holds it goes as well, silently.
                Misfit::MissingField(name) if taken.contains(&format!("{}/{name}", joined(&steps))) => {}
                Misfit::MissingField(name) => self.missing_field(&mark, &steps, name),
                Misfit::BadValue => self.bad_value(&mark, &value, &steps, &message),
            }
            if steps.is_empty() {
                return None;
            }
            taken.push(joined(&steps));
            take_out(&mut value, &mut mark, &steps);
        }
        None
    }

    fn unknown_field(&mut self, mark: &Mark, steps: &[Step<'_>], name: &str, message: &str) {
        let holder = joined(&steps[..steps.len() - 1]);
        let holder = if holder.is_empty() {
            "a document".to_owned()
        } else {
            format!("`{}`", holder.trim_start_matches('/').replace('/', "."))
        };
        let problem =
            self.source.error("unknown-field", mark.key_place(steps), format!("unknown field `{name}` in {holder}"));
        self.report(problem, hints::choose(name, &hints::expected_names(message)));
    }

    fn missing_field(&mut self, mark: &Mark, steps: &[Step<'_>], name: &str) {
        let holder = joined(steps);
        let holder = if holder.is_empty() {
            "the document".to_owned()
        } else {
            format!("`{}`", holder.trim_start_matches('/').replace('/', "."))
        };
        let problem = self.source.error("missing-field", mark.key_place(steps), format!("{holder} has no `{name}`"));
        self.report(problem, Some(format!("add `{name}: …`")));
    }

    fn bad_value(&mut self, mark: &Mark, value: &Value, steps: &[Step<'_>], message: &str) {
        let found = at(value, steps);
        let (rule, text, help) = hints::explain(message, found, &self.source.written(mark.place(steps)));
        // A message about a key quotes that key first.
        let about_key = matches!(steps.last(), Some(Step::Key(key)) if message.starts_with(&format!("{key:?}")))
            && !matches!((found, steps.last()), (Some(Value::String(text)), Some(Step::Key(key))) if text == key);
        let place = if about_key { mark.key_place(steps) } else { mark.place(steps) };
        let problem = self.source.error(rule, place, text);
        self.report(problem, help);
    }

    fn report(&mut self, problem: Problem, help: Option<String>) {
        self.problems.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }
}

fn steps_of(path: &Path) -> Vec<Step<'_>> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key)),
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn joined(steps: &[Step<'_>]) -> String {
    steps.iter().fold(String::new(), |path, step| match step {
        Step::Key(key) => path + "/" + key,
        Step::Index(index) => format!("{path}/{index}"),
    })
}

fn at<'v>(value: &'v Value, steps: &[Step<'_>]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(*key),
        Step::Index(index) => value.get(*index),
    })
}

fn take_out(value: &mut Value, mark: &mut Mark, steps: &[Step<'_>]) {
    let Some((last, parents)) = steps.split_last() else { return };
    let (mut value, mut mark) = (value, mark);
    for step in parents {
        let next = match (step, value, &mut mark.parts) {
            (Step::Key(key), Value::Mapping(map), Parts::Mapping(entries)) => {
                map.get_mut(*key).zip(entries.iter_mut().find(|(k, _, _)| **k == **key).map(|(_, _, mark)| mark))
            }
            (Step::Index(index), Value::Sequence(list), Parts::Sequence(marks)) => {
                list.get_mut(*index).zip(marks.get_mut(*index))
            }
            _ => None,
        };
        let Some(next) = next else { return };
        (value, mark) = next;
    }
    match (last, value, &mut mark.parts) {
        (Step::Key(key), Value::Mapping(map), _) => {
            map.shift_remove(*key);
        }
        (Step::Index(index), Value::Sequence(list), Parts::Sequence(marks))
            if *index < list.len() && *index < marks.len() =>
        {
            list.remove(*index);
            marks.remove(*index);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let parsed = parse(&"a.yaml".into(), text.as_bytes());
        parsed
            .problems
            .iter()
            .map(|p| {
                format!(
                    "{}:{} {} {}{}",
                    p.line,
                    p.column,
                    p.rule,
                    p.message,
                    p.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default()
                )
            })
            .collect()
    }

    const HEAD: &str = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n1, cluster: prod}\n";

    #[test]
    fn every_problem_of_a_document_is_found_in_one_run() {
        let text = format!(
            "{HEAD}spec:\n  grup: ads\n  shareable: \"yes\"\n  devices: {{cpu: true, gpu: 4090}}\n  workloads: [train, trian]\n  labels:\n    \"bad key\": x\n    version: 1.10\n    ok: v\n"
        );
        assert_eq!(
            problems(&text),
            [
                "5:3 unknown-field unknown field `grup` in `spec` (did you mean `group`?)",
                "6:14 wrong-type expected true or false, found the text \"yes\" (write true or false, without quotes)",
                "7:29 wrong-type expected a GPU model in text, or true or false, found the number 4090 (put it in quotes, so that YAML reads it as text)",
                "8:22 unknown-value `trian` is not known here (did you mean `train`?)",
                "10:5 bad-value \"bad key\" is not a label key: ' ' is not allowed (use only letters, digits, '-', '_' and '.')",
                "11:14 wrong-type expected text (a label value), found the number 1.10 (put it in quotes, so that YAML reads it as text)",
            ]
        );
    }

    #[test]
    fn a_bad_required_field_is_reported_once() {
        let text = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: Bad_Name, cluster: prod}\nspec: {group: x, nope: 1}\n";
        assert_eq!(problems(text).len(), 2, "{:#?}", problems(text));
        let text = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {cluster: prod}\n";
        assert_eq!(problems(text), ["3:1 missing-field `metadata` has no `name` (add `name: …`)"]);
    }

    #[test]
    fn what_is_not_drovers_is_said_so() {
        assert_eq!(
            problems("apiVersion: v1\nkind: List\n")[0].split(" (").next(),
            Some("1:13 unknown-version unknown apiVersion \"v1\"")
        );
        assert_eq!(
            problems("apiVersion: drover.dev/v1\nkind: node\n"),
            ["2:7 unknown-kind unknown kind \"node\" (did you mean `Node`?)"]
        );
        assert_eq!(problems("[1, 2]").len(), 1);
        assert_eq!(
            problems("kind: Node")[0].split(" (").next(),
            Some("1:1 missing-field the document has no `apiVersion`")
        );
    }

    #[test]
    fn encodings_and_line_ends() {
        let good = format!("\u{feff}{HEAD}").replace('\n', "\r\n");
        let parsed = parse(&"a.yaml".into(), good.as_bytes());
        assert_eq!((parsed.documents.len(), parsed.problems.len()), (1, 0), "{:?}", parsed.problems);
        let parsed = parse(&"a.yaml".into(), b"a: x\nb: \xff\n");
        assert_eq!(
            (parsed.problems[0].line, parsed.problems[0].column, parsed.problems[0].rule),
            (2, 4, "file-encoding")
        );
    }
}
