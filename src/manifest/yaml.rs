//! YAML text to values that remember their place.
//!
//! The values are serde_yaml's. Beside each stands a [`Mark`] of the same shape with the line and column of every key
//! and value, which serde_yaml itself does not keep. Size, depth and the expansion of aliases are bounded, so that no
//! file can make drover hang or fill the memory.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_yaml::{Mapping, Number, Value};

use super::problem::{Problem, SourceText};

/// Nesting beyond this is refused; no document of drover needs a tenth of it.
const MAX_DEPTH: usize = 64;
/// Keys and values of one file; ten thousand documents have a tenth of it.
const MAX_VALUES: usize = 1_000_000;
/// Values that the aliases of one file may expand to, and values that its anchors may keep; a long text counts as several.
const MAX_ALIASED: usize = 100_000;
/// Problems of one file after which the rest is left unsaid.
pub(super) const MAX_FILE_PROBLEMS: usize = 1000;
/// Keys given twice after which a document is given up.
const MAX_DUPLICATES: usize = 100;

/// A place in a text: line and column count from 1, the length is in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Length on that line.
    pub length: u32,
}

/// The places of a value and of everything inside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mark {
    /// The place of the value itself.
    pub place: Place,
    /// The places of its parts.
    pub parts: Parts,
}

/// The places of the parts of a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Parts {
    /// A scalar has none.
    #[default]
    None,
    /// The elements of a sequence.
    Sequence(Vec<Mark>),
    /// The entries of a mapping: key, place of the key, value.
    Mapping(Vec<(Box<str>, Place, Mark)>),
}

/// A step from a value to one of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// The value of a key.
    Key(&'a str),
    /// An element, counted from 0.
    Index(usize),
}

impl Mark {
    /// The mark of a part, if there is one.
    pub fn get(&self, path: &[Step<'_>]) -> Option<&Mark> {
        path.iter().try_fold(self, |mark, step| match (step, &mark.parts) {
            (Step::Key(key), Parts::Mapping(entries)) => {
                entries.iter().find(|(k, _, _)| **k == **key).map(|(_, _, m)| m)
            }
            (Step::Index(index), Parts::Sequence(elements)) => elements.get(*index),
            _ => None,
        })
    }

    /// The place of a part, or of the closest thing around it that exists.
    pub fn place(&self, path: &[Step<'_>]) -> Place {
        (0..=path.len()).rev().find_map(|end| self.get(&path[..end])).unwrap_or(self).place
    }

    /// The place of the key of a part, or of the closest thing around it that exists.
    pub fn key_place(&self, path: &[Step<'_>]) -> Place {
        if let Some((Step::Key(key), parent)) = path.split_last()
            && let Some(Parts::Mapping(entries)) = self.get(parent).map(|mark| &mark.parts)
            && let Some((_, place, _)) = entries.iter().find(|(k, _, _)| **k == **key)
        {
            return *place;
        }
        self.place(path)
    }

    fn depth(&self) -> usize {
        1 + match &self.parts {
            Parts::None => 0,
            Parts::Sequence(elements) => elements.iter().map(Mark::depth).max().unwrap_or(0),
            Parts::Mapping(entries) => entries.iter().map(|(_, _, mark)| mark.depth()).max().unwrap_or(0),
        }
    }
}

/// A value and its places.
#[derive(Debug, Clone)]
pub struct Marked {
    /// The value.
    pub value: Value,
    /// Where it and its parts stand.
    pub mark: Mark,
}

/// How much room a value takes, in short values.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 64,
        Value::Sequence(values) => 1 + values.iter().map(weight).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(key, value)| weight(key) + weight(value)).sum::<usize>(),
        _ => 1,
    }
}

/// A collection that is not closed yet.
enum Open {
    Sequence {
        anchor: usize,
        place: Place,
        values: Vec<Value>,
        marks: Vec<Mark>,
    },
    Mapping {
        anchor: usize,
        place: Place,
        entries: Mapping,
        marks: Vec<(Box<str>, Place, Mark)>,
        key: Option<(Box<str>, Place)>,
        merges: Vec<Marked>,
    },
}

/// Reads every document of a file. A document that cannot be read is reported and left out; the others are kept.
pub fn read(source: &SourceText, problems: &mut Vec<Problem>) -> Vec<Marked> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(&source.text, options);
    let mut documents = Vec::new();
    let mut reader = Reader::new(source);
    loop {
        let failure = match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => match reader.accept(event, span) {
                Ok(Progress::Open) => continue,
                Ok(Progress::Document(document)) => {
                    documents.extend(document);
                    continue;
                }
                Ok(Progress::End) => break,
                Err(problem) => *problem,
            },
            Some(Err(error)) => reader.syntax_error(&error),
        };
        problems.push(failure);
        problems.append(&mut reader.problems);
        let (values, anchored, aliased) = (reader.values, reader.anchored, reader.aliased);
        if values > MAX_VALUES || problems.len() >= MAX_FILE_PROBLEMS {
            return documents;
        }
        reader = Reader { values, anchored, aliased, ..Reader::new(source) };
        match parser.proceed_next_document() {
            Ok(true) => {}
            Ok(false) | Err(_) => return documents,
        }
    }
    problems.append(&mut reader.problems);
    documents
}

/// What an event led to.
enum Progress {
    Open,
    Document(Option<Marked>),
    End,
}

struct Reader<'s> {
    source: &'s SourceText,
    open: Vec<Open>,
    root: Option<Marked>,
    anchors: HashMap<usize, Marked>,
    values: usize,
    anchored: usize,
    aliased: usize,
    problems: Vec<Problem>,
}

impl<'s> Reader<'s> {
    fn new(source: &'s SourceText) -> Self {
        let (open, anchors, problems) = (Vec::new(), HashMap::new(), Vec::new());
        Self { source, open, root: None, anchors, values: 0, anchored: 0, aliased: 0, problems }
    }

    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<Progress, Box<Problem>> {
        let place = place_of(&span);
        self.values += 1;
        if self.values > MAX_VALUES {
            let message = format!("the file has more than {MAX_VALUES} keys and values");
            return Err(self.error("file-size", place, message).help("split it into several files").into());
        }
        match event {
            Event::DocumentStart(..) => {
                self.root = None;
                self.anchors.clear();
            }
            Event::DocumentEnd => {
                return Ok(Progress::Document(self.root.take().filter(|document| !document.value.is_null())));
            }
            Event::StreamEnd => return Ok(Progress::End),
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Open::Mapping { key: key @ None, .. }) = self.open.last_mut() {
                    *key = Some((text.as_ref().into(), place));
                    self.remember(anchor, &scalar_at(Value::String(text.into_owned()), place))?;
                    return Ok(Progress::Open);
                }
                let value = self.scalar(&text, style, tag.as_deref(), place)?;
                self.place_value(scalar_at(value, place), anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_collection(tag.as_deref(), place)?;
                self.open.push(Open::Sequence { anchor, place, values: Vec::new(), marks: Vec::new() });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_collection(tag.as_deref(), place)?;
                let (entries, marks, merges) = (Mapping::new(), Vec::new(), Vec::new());
                self.open.push(Open::Mapping { anchor, place, entries, marks, key: None, merges });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => {
                let target = self.expand(anchor, place)?;
                if let Some(Open::Mapping { key: key @ None, .. }) = self.open.last_mut() {
                    let Value::String(text) = &target.value else {
                        return Err(self
                            .error("yaml-key", place, "an alias of a collection is used as a key")
                            .help("keys must be plain text")
                            .into());
                    };
                    *key = Some((text.as_str().into(), place));
                    return Ok(Progress::Open);
                }
                self.place_value(target, 0)?;
            }
            _ => {}
        }
        Ok(Progress::Open)
    }

    fn error(&self, rule: &'static str, place: Place, message: impl Into<String>) -> Problem {
        self.source.error(rule, place, message)
    }

    fn check_collection(&self, tag: Option<&Tag>, place: Place) -> Result<(), Box<Problem>> {
        if matches!(self.open.last(), Some(Open::Mapping { key: None, .. })) {
            return Err(self
                .error("yaml-key", place, "a key is a list or a mapping")
                .help("keys must be plain text")
                .into());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_deep(place).into());
        }
        match tag {
            Some(tag) if !matches!(tag.core_suffix(), Some("map" | "seq")) => Err(self.bad_tag(tag, place).into()),
            _ => Ok(()),
        }
    }

    fn bad_tag(&self, tag: &Tag, place: Place) -> Problem {
        self.error("yaml-tag", place, format!("the tag {} is not supported", tag.original())).help("remove the tag")
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<Value, Box<Problem>> {
        match tag.map(|tag| (tag, tag.core_suffix())) {
            Some((_, Some("str"))) => Ok(Value::String(text.to_owned())),
            Some((_, Some("null" | "bool" | "int" | "float"))) => Ok(plain(text)),
            Some((tag, _)) => Err(self.bad_tag(tag, place).into()),
            None if style == ScalarStyle::Plain => Ok(plain(text)),
            None => Ok(Value::String(text.to_owned())),
        }
    }

    fn expand(&mut self, anchor: usize, place: Place) -> Result<Marked, Box<Problem>> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(self
                .error("yaml-alias", place, "the alias stands inside the value that it names")
                .help("write the value out")
                .into());
        };
        if self.open.len() + target.mark.depth() > MAX_DEPTH {
            return Err(self.too_deep(place).into());
        }
        let target = target.clone();
        self.aliased += weight(&target.value);
        if self.aliased > MAX_ALIASED {
            let message = format!("the aliases of this file expand to more than {MAX_ALIASED} values");
            return Err(self
                .error("yaml-alias", place, message)
                .help("write the values out, or use fewer aliases")
                .into());
        }
        Ok(target)
    }

    /// Keeps a value for the aliases of its anchor; 0 is none.
    fn remember(&mut self, anchor: usize, marked: &Marked) -> Result<(), Box<Problem>> {
        if anchor == 0 {
            return Ok(());
        }
        // Anchors inside anchors keep the same values several times.
        self.anchored += weight(&marked.value);
        if self.anchored > MAX_ALIASED {
            let message = format!("the anchors of this file keep more than {MAX_ALIASED} values");
            return Err(self.error("yaml-alias", marked.mark.place, message).help("use fewer anchors").into());
        }
        self.anchors.insert(anchor, marked.clone());
        Ok(())
    }

    fn too_deep(&self, place: Place) -> Problem {
        self.error("yaml-depth", place, format!("values are nested more than {MAX_DEPTH} deep"))
            .help("no document of drover is nested a tenth as deep: remove what is not drover's")
    }

    fn close(&mut self) -> Result<(), Box<Problem>> {
        match self.open.pop() {
            Some(Open::Sequence { anchor, place, values, marks }) => {
                let mark = Mark { place, parts: Parts::Sequence(marks) };
                self.place_value(Marked { value: Value::Sequence(values), mark }, anchor)
            }
            Some(Open::Mapping { anchor, place, mut entries, mut marks, merges, .. }) => {
                for merge in merges {
                    merge_into(&mut entries, &mut marks, merge);
                }
                let mark = Mark { place, parts: Parts::Mapping(marks) };
                self.place_value(Marked { value: Value::Mapping(entries), mark }, anchor)
            }
            None => Ok(()),
        }
    }

    fn place_value(&mut self, marked: Marked, anchor: usize) -> Result<(), Box<Problem>> {
        self.remember(anchor, &marked)?;
        match self.open.last_mut() {
            None => self.root = Some(marked),
            Some(Open::Sequence { values, marks, .. }) => {
                values.push(marked.value);
                marks.push(marked.mark);
            }
            Some(Open::Mapping { entries, marks, key, merges, .. }) => {
                let Some((name, place)) = key.take() else { return Ok(()) };
                if &*name == "<<" {
                    merges.extend(merged(self.source, marked, place)?);
                } else if entries.contains_key(&*name) {
                    if self.problems.len() >= MAX_DUPLICATES {
                        return Err(self
                            .source
                            .error("duplicate-key", place, "too many keys are given twice")
                            .help("remove one of each two")
                            .into());
                    }
                    let first = marks.iter().find(|(known, _, _)| *known == name).map_or(0, |(_, first, _)| first.line);
                    let message = format!("the key `{name}` is given twice; first in line {first}");
                    self.problems
                        .push(self.source.error("duplicate-key", place, message).help("remove one of the two"));
                } else {
                    entries.insert(Value::String(name.to_string()), marked.value);
                    marks.push((name, place, marked.mark));
                }
            }
        }
        Ok(())
    }

    fn syntax_error(&self, error: &granit_parser::ScanError) -> Problem {
        let at = error.marker();
        let place = Place { line: at.line() as u32, column: at.col() as u32 + 1, length: 1 };
        if error.info() == "recursion limit exceeded" {
            return self.too_deep(place);
        }
        let line = self.source.line(at.line());
        let problem = self.error("yaml-syntax", place, format!("this is not YAML: {}", error.info()));
        problem.help(if ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|mark| line.starts_with(mark)) {
            "git left a merge conflict here: resolve it"
        } else if line.trim_start_matches(' ').starts_with('\t') {
            "YAML is indented with spaces; replace the tab"
        } else {
            "check the brackets, quotes, colons and the indentation here and just before"
        })
    }
}

/// The mappings that a `<<` key merges.
fn merged(source: &SourceText, marked: Marked, place: Place) -> Result<Vec<Marked>, Box<Problem>> {
    let refuse = || {
        let problem = source.error("yaml-merge", place, "`<<` merges a mapping or a list of mappings, not this");
        Box::new(problem.help("name an anchor of a mapping, as in `<<: *common`"))
    };
    match (marked.value, marked.mark) {
        (value @ Value::Mapping(_), mark) => Ok(vec![Marked { value, mark }]),
        (Value::Sequence(values), Mark { parts: Parts::Sequence(marks), .. })
            if values.iter().all(Value::is_mapping) =>
        {
            Ok(values.into_iter().zip(marks).map(|(value, mark)| Marked { value, mark }).collect())
        }
        _ => Err(refuse()),
    }
}

fn merge_into(entries: &mut Mapping, marks: &mut Vec<(Box<str>, Place, Mark)>, merge: Marked) {
    let (Value::Mapping(values), Parts::Mapping(places)) = (merge.value, merge.mark.parts) else { return };
    for ((key, value), place) in values.into_iter().zip(places) {
        if !entries.contains_key(&key) {
            entries.insert(key, value);
            marks.push(place);
        }
    }
}

fn scalar_at(value: Value, place: Place) -> Marked {
    Marked { value, mark: Mark { place, parts: Parts::None } }
}

fn place_of(span: &Span) -> Place {
    let (start, end) = (span.start, span.end);
    let length = if end.line() == start.line() { end.col().saturating_sub(start.col()) } else { 1 };
    Place { line: start.line() as u32, column: start.col() as u32 + 1, length: length.max(1) as u32 }
}

/// A plain scalar by the core schema of YAML 1.2.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return Value::String(text.to_owned());
    }
    let radix = |prefix, radix| text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok());
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Value::Number(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Value::Number(number.into());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Value::Number(number.into());
    }
    match text.parse::<f64>() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')) => {
            Value::Number(Number::from(number))
        }
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<Marked>, Vec<Problem>) {
        let mut problems = Vec::new();
        let documents = read(&SourceText::new("a.yaml", text), &mut problems);
        (documents, problems)
    }

    fn rules(text: &str) -> Vec<&'static str> {
        read_text(text).1.iter().map(|problem| problem.rule).collect()
    }

    #[test]
    fn values_agree_with_serde_yaml() {
        for text in [
            "a: 1\nb: [x, 'y', \"z\", true, ~, 1.5, -3, 0x1f]\nc: {d: |\n  text\n}",
            "- 2026-12-01\n- yes\n- 1.10\n- '1'\n- 1e3\n- .5\n- +7\n- -\n- 12:30\n- 1_000\n",
            "x: >-\n  folded\n  text\ny: |+\n  kept\n\n",
        ] {
            let (documents, problems) = read_text(text);
            let expected: Result<Value, _> = serde_yaml::from_str(text);
            if let Ok(expected) = expected {
                assert_eq!(problems, [], "{text}");
                assert_eq!(documents[0].value, expected, "{text}");
            }
        }
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let (documents, _) = read_text("# c\nä: {b: [x, yy]}\n");
        let mark = &documents[0].mark;
        let path = [Step::Key("ä"), Step::Key("b"), Step::Index(1)];
        assert_eq!(mark.place(&path), Place { line: 2, column: 12, length: 2 });
        assert_eq!(mark.key_place(&path[..2]), Place { line: 2, column: 5, length: 1 });
        let beyond = [Step::Key("ä"), Step::Key("zz")];
        assert_eq!(mark.place(&beyond), mark.place(&beyond[..1]), "the closest thing that exists");
    }

    #[test]
    fn a_broken_document_leaves_the_others() {
        let (documents, problems) = read_text("a: 1\n---\nb: [1\nc: }\n---\nd: 2\n");
        assert_eq!(documents.len(), 2);
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].rule, problems[0].severity), ("yaml-syntax", super::super::Severity::Error));
    }

    #[test]
    fn merge_keys_fill_what_is_missing() {
        let (documents, problems) = read_text("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nmany: {<<: [*b, {z: 4}]}\n");
        assert_eq!(problems, []);
        let expected: Value =
            serde_yaml::from_str("{base: {x: 1, y: 2}, use: {y: 3, x: 1}, many: {x: 1, y: 2, z: 4}}").expect("yaml");
        assert_eq!(documents[0].value, expected);
    }

    #[test]
    fn hostile_texts_are_refused_not_followed() {
        let bomb: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned())
            .chain((1..12).map(|n| {
                let previous = vec![format!("*a{}", n - 1); 10].join(",");
                format!("a{n}: &a{n} [{previous}]\n")
            }))
            .collect();
        assert_eq!(rules(&bomb), ["yaml-alias"]);
        let (long, nested) = ("x".repeat(1 << 20), |n| format!("{}&a{n} [", " ".repeat(n)));
        assert_eq!(rules(&format!("a: &a {long}\nb: [{}]", ["*a"; 9].join(", "))), ["yaml-alias"]);
        let anchors: String = (0..50).map(nested).collect();
        assert_eq!(rules(&format!("{anchors}{}{}", "x,".repeat(10_000), "]".repeat(50))), ["yaml-alias"]);
        assert_eq!(rules(&"[".repeat(100_000)), ["yaml-depth"]);
        assert_eq!(rules(&(0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>()), ["yaml-depth"]);
        assert_eq!(rules("a: &a [*a]"), ["yaml-alias"]);
        assert_eq!(rules("a: !!python/object:os.system x"), ["yaml-tag"]);
        assert_eq!(rules("a: 1\na: 2"), ["duplicate-key"]);
        assert_eq!(rules("? [a]\n: b"), ["yaml-key"]);
        assert_eq!(rules("<<: 5"), ["yaml-merge"]);
        assert_eq!(rules("a:\n\tb: 1"), ["yaml-syntax"]);
        assert_eq!(rules("a: *nowhere"), ["yaml-syntax"]);
        for nothing in ["", "\n", "# only a comment\n", "---\n---\n", "~"] {
            assert!(read_text(nothing).0.is_empty(), "{nothing:?}");
        }
    }
}
