//! Changes the group of one Node document in the text of a state file, and not a byte beside it.
//!
//! Places come from the parser that reads states, so that the edit and the reading cannot disagree. What was edited is
//! read again: exactly one value may differ from before.

use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser, Span};

use super::decode::{Document, Manifest, Parsed, parse};
use crate::model::{ClusterName, GroupName, NodeManifest, NodeName};

/// Why a file was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// People moved or removed the document.
    #[error("{file} has no document of node {node} in cluster {cluster}")]
    NotHere {
        /// The file.
        file: Arc<str>,
        /// The node.
        node: NodeName,
        /// Its cluster.
        cluster: ClusterName,
    },
    /// The file has problems of its own.
    #[error("{file} does not validate, so drover does not edit it: {problem}")]
    Invalid {
        /// The file.
        file: Arc<str>,
        /// The first problem.
        problem: String,
    },
    /// The value is tied to other values, or written in a way that cannot be edited safely.
    #[error("{file}: the group of node {node} cannot be changed by itself: {why}")]
    Tied {
        /// The file.
        file: Arc<str>,
        /// The node.
        node: NodeName,
        /// What stands in the way.
        why: &'static str,
    },
}

/// Where the parts of a Node document stand that matter here, in bytes.
#[derive(Default)]
struct Layout {
    root: Opening,
    spec: Option<Opening>,
    /// The key `group` of the spec, and its value.
    group: Option<(Range<usize>, Range<usize>)>,
    /// Whether `metadata` is written in braces.
    flows: bool,
    /// The end of the last thing that is written in the document.
    end: usize,
}

/// Where a mapping begins, and its first key, if it has one.
#[derive(Default)]
struct Opening {
    at: usize,
    first: Option<usize>,
}

/// The text with this node in another group.
///
/// # Errors
/// Where that would change anything else, or the document is not in this file.
pub fn set_group(
    file: &Arc<str>,
    text: &str,
    (cluster, node): (&ClusterName, &NodeName),
    to: &GroupName,
) -> Result<String, EditError> {
    let before = parse(file, text.as_bytes());
    if let Some(problem) = before.problems.iter().find(|problem| problem.is_error()) {
        return Err(EditError::Invalid { file: file.clone(), problem: problem.message.clone() });
    }
    let tied = |why| EditError::Tied { file: file.clone(), node: node.clone(), why };
    let is_it = |manifest: &NodeManifest| manifest.metadata.name == *node && manifest.metadata.cluster == *cluster;
    let mut found = before.documents.iter().filter_map(|document| match &document.manifest {
        Manifest::Node(manifest) if is_it(manifest) => Some((document, manifest)),
        _ => None,
    });
    let Some((document, manifest)) = found.next() else {
        return Err(EditError::NotHere { file: file.clone(), node: node.clone(), cluster: cluster.clone() });
    };
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let layout = layout(bare, document).ok_or_else(|| tied("its place in the file cannot be found"))?;
    let (range, new) = replacement(bare, &layout, manifest.spec.group.as_ref(), to)
        .ok_or_else(|| tied("its spec is an alias or written in an unusual way"))?;
    let shift = text.len() - bare.len();
    let edited = [&text[..range.start + shift], &new, &text[range.end + shift..]].concat();
    let mut expected = NodeManifest::clone(manifest);
    expected.spec.group = Some(to.clone());
    match is_exactly(&before, &parse(file, edited.as_bytes()), manifest, &expected) {
        true => Ok(edited),
        false => Err(tied("other values depend on it, through an anchor, an alias or a merge key")),
    }
}

/// Whether one document became what was expected and every other stayed what it was.
fn is_exactly(before: &Parsed, after: &Parsed, old: &Arc<NodeManifest>, new: &NodeManifest) -> bool {
    let is_right = |(before, after): (&Document, &Document)| match (&before.manifest, &after.manifest) {
        (Manifest::Node(before), Manifest::Node(after)) if Arc::ptr_eq(before, old) => **after == *new,
        (before, after) => before == after,
    };
    before.documents.len() == after.documents.len()
        && before.problems.len() == after.problems.len()
        && before.documents.iter().zip(&after.documents).all(is_right)
}

/// A collection on the way to a value: of a mapping the key that its next value has.
struct Frame<'t> {
    is_mapping: bool,
    key: Option<(String, &'t Span)>,
}

fn layout(text: &str, document: &Document) -> Option<Layout> {
    let options = granit_parser::options! { emit_comments: false };
    let events: Vec<(Event<'_>, Span)> =
        Parser::new_from_str_with_options(text, options).map_while(Result::ok).collect();
    let begins = |(event, span): &(Event<'_>, Span)| {
        let place = document.mark.place;
        let at = (span.start.line() as u32, span.start.col() as u32 + 1);
        matches!(event, Event::MappingStart(..)) && at == (place.line, place.column)
    };
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut layout = Layout::default();
    for (event, span) in events.iter().skip_while(|event| !begins(event)) {
        let range = span.byte_range()?;
        let path: Vec<&str> =
            frames.iter().map(|frame| frame.key.as_ref().map_or("", |(key, _)| key.as_str())).collect();
        let is_key = frames.last().is_some_and(|frame| frame.is_mapping && frame.key.is_none());
        match event {
            Event::Scalar(..) | Event::Alias(_) if is_key => {
                let first = match path.as_slice() {
                    [""] => Some(&mut layout.root.first),
                    ["spec", ""] => layout.spec.as_mut().map(|spec| &mut spec.first),
                    _ => None,
                };
                first.map(|first| first.get_or_insert(range.start));
                let name = if let Event::Scalar(name, ..) = event { name.as_ref() } else { "*" };
                frames.last_mut()?.key = Some((name.to_owned(), span));
            }
            Event::Scalar(..) | Event::Alias(_) => {
                if path == ["spec", "group"] {
                    let (_, key) = frames.last()?.key.as_ref()?;
                    layout.group = Some((key.byte_range()?, range.clone()));
                }
                layout.end = layout.end.max(range.end);
                frames.last_mut()?.key = None;
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let is_mapping = matches!(event, Event::MappingStart(..));
                match path.as_slice() {
                    [] => layout.root.at = range.start,
                    ["spec"] if is_mapping => layout.spec = Some(Opening { at: range.start, first: None }),
                    ["metadata"] => layout.flows = text[range.start..].starts_with('{'),
                    _ => {}
                }
                frames.push(Frame { is_mapping, key: None });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                frames.pop();
                if !range.is_empty() {
                    layout.end = layout.end.max(range.end);
                }
                match frames.last_mut() {
                    Some(frame) => frame.key = None,
                    None => return Some(layout),
                }
            }
            _ => {}
        }
    }
    None
}

/// What to write in place of which bytes.
fn replacement(text: &str, layout: &Layout, old: Option<&GroupName>, to: &GroupName) -> Option<(Range<usize>, String)> {
    match (&layout.group, &layout.spec) {
        (Some((key, value)), _) => Some(in_place(text, key, value, old, to)),
        (None, Some(spec)) => {
            let quote = if quotes_keys(text, spec) { "\"" } else { "" };
            first_entry(text, spec, &format!("{quote}group{quote}: {}", scalar(to, quote == "\"")))
        }
        (None, None) if text[layout.root.at..].starts_with('{') => match quotes_keys(text, &layout.root) {
            true => first_entry(text, &layout.root, &format!("\"spec\": {{\"group\": \"{to}\"}}")),
            false => first_entry(text, &layout.root, &format!("spec: {{group: {}}}", scalar(to, false))),
        },
        // A document without a spec gets one behind everything else that it says.
        (None, None) => {
            let end = text[layout.end..].find('\n').map_or(text.len(), |end| layout.end + end + 1);
            let ending = line_end(text);
            let group = scalar(to, false);
            let spec = if layout.flows {
                format!("spec: {{group: {group}}}")
            } else {
                format!("spec:{ending}  group: {group}")
            };
            let is_whole = text[..end].ends_with('\n');
            Some((end..end, if is_whole { spec + ending } else { ending.to_owned() + &spec }))
        }
    }
}

/// The new value in the style of the old one.
fn in_place(
    text: &str,
    key: &Range<usize>,
    value: &Range<usize>,
    old: Option<&GroupName>,
    to: &GroupName,
) -> (Range<usize>, String) {
    let written = &text[value.clone()];
    let quoted = text[key.clone()].starts_with('"');
    if written.is_empty() {
        // Nothing stands for null, and its place is before the colon.
        let gap = text[value.end..].find(|c: char| !c.is_whitespace()).unwrap_or(0);
        let at = value.end + gap;
        return match text[at..].starts_with(':') {
            true => (at + 1..at + 1, format!(" {}", scalar(to, quoted))),
            false => (value.clone(), format!(": {}", scalar(to, quoted))),
        };
    }
    if let Some(quote) = written.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return (value.clone(), format!("{quote}{to}{quote}"));
    }
    // A block scalar reaches down to the next key; its text stands at the front.
    let shown = written.trim_end();
    let start = old.filter(|old| shown.ends_with(old.as_str())).map_or(0, |old| shown.len() - old.as_str().len());
    let is_block = shown.len() != written.len() || start > 0 || text[key.end..value.start].contains(['|', '>']);
    let new = if is_block { to.to_string() } else { scalar(to, quoted) };
    (value.start + start..value.start + shown.len(), new)
}

/// A new entry in front of the first one of a mapping.
fn first_entry(text: &str, mapping: &Opening, entry: &str) -> Option<(Range<usize>, String)> {
    if text[mapping.at..].starts_with('{') {
        let Some(first) = mapping.first else { return Some((mapping.at + 1..mapping.at + 1, entry.to_owned())) };
        let line = text[..first].rfind('\n').map_or(0, |end| end + 1);
        let is_own_line = text[line..first].chars().all(|c| matches!(c, ' ' | '\t')) && line > mapping.at;
        let gap = if is_own_line { format!("{}{}", line_end(text), &text[line..first]) } else { " ".to_owned() };
        return Some((first..first, format!("{entry},{gap}")));
    }
    let first = mapping.first?;
    let line = text[..first].rfind('\n').map_or(0, |end| end + 1);
    let indentation: String = text[line..].chars().take_while(|c| *c == ' ').collect();
    // Comments and blank lines above the first key belong to it.
    let is_above = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let above: usize = text[..line].split_inclusive('\n').rev().take_while(is_above).map(str::len).sum();
    Some((line - above..line - above, format!("{indentation}{entry}{}", line_end(text))))
}

fn quotes_keys(text: &str, mapping: &Opening) -> bool {
    mapping.first.is_some_and(|first| text[first..].starts_with('"'))
}

/// How the lines of a text end.
fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// A name as a value: in quotes where some reader of YAML would take it for something else than text.
fn scalar(name: &GroupName, quoted: bool) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let text = name.as_str();
    match quoted || WORDS.contains(&text) || text.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("\"{text}\""),
        false => text.to_owned(),
    }
}
