//! The cluster.yml of RKE: its kubelet binds are read, and changed without a byte beside them.
//!
//! The file can hold passwords and keys, so that no error quotes it: problems name places alone.

use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser};
use serde_yaml::Value;

use super::decode::MAX_FILE;
use super::problem::SourceText;
use super::yaml;
use crate::model::kubelet::BindParts;

/// The way to the binds.
const PATH: [&str; 3] = ["services", "kubelet", "extra_binds"];
/// By how much RKE's own files indent.
const STEP: &str = "  ";

/// What drover reads of a cluster.yml.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RkeConfig {
    /// The binds.
    pub binds: Vec<String>,
    /// How many workers restart at the same time.
    pub max_unavailable_worker: Option<String>,
    /// What RKE passes over in silence.
    pub notes: Vec<String>,
}

/// Why a cluster.yml cannot be used, without a word of what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RkeError {
    /// It is no YAML that drover reads.
    #[error("{file}:{line}:{column} cannot be read ({rule})")]
    Syntax {
        /// The file.
        file: Arc<str>,
        /// The line.
        line: u32,
        /// The column.
        column: u32,
        /// What is wrong.
        rule: &'static str,
    },
    /// It is something else.
    #[error("{file} is not the cluster.yml of RKE: {why}")]
    Other {
        /// The file.
        file: Arc<str>,
        /// What is missing.
        why: &'static str,
    },
    /// The list is written in a way that cannot be edited safely.
    #[error("the binds in {file} cannot be changed by themselves: {why}")]
    Tied {
        /// The file.
        file: Arc<str>,
        /// What stands in the way.
        why: &'static str,
    },
}

/// Reads a cluster.yml.
///
/// # Errors
/// Where it is none.
pub fn read(file: &Arc<str>, text: &str) -> Result<RkeConfig, RkeError> {
    let value = value(file, text)?;
    let kubelet = value.get(PATH[0]).and_then(|services| services.get(PATH[1]));
    let binds = match kubelet.and_then(|kubelet| kubelet.get(PATH[2])) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Sequence(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| other(file, "an item of services.kubelet.extra_binds is not text"))?
        }
        Some(_) => return Err(other(file, "services.kubelet.extra_binds is not a list")),
    };
    let unavailable = value.get("upgrade_strategy").and_then(|strategy| strategy.get("max_unavailable_worker"));
    let max_unavailable_worker = match unavailable {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let ignored = kubelet.is_some_and(|kubelet| kubelet.get("extraBinds").is_some());
    let note = format!("{file}: RKE ignores `extraBinds` below services.kubelet; it is written `extra_binds`");
    Ok(RkeConfig { binds, max_unavailable_worker, notes: if ignored { vec![note] } else { Vec::new() } })
}

/// The text with another list of binds. What both lists hold keeps its place, its quotes and its comments.
///
/// # Errors
/// Where that would change anything else.
pub fn set_binds(file: &Arc<str>, text: &str, to: &[String]) -> Result<String, RkeError> {
    let before = value(file, text)?;
    let from = read(file, text)?.binds;
    if from == to {
        return Ok(text.to_owned());
    }
    let tied = |why| RkeError::Tied { file: file.clone(), why };
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = tree(bare).ok_or_else(|| tied("their place cannot be found"))?;
    let edits = edits(bare, &root, &from, to).map_err(tied)?;
    let mut edited = bare.to_owned();
    for (range, new) in edits.into_iter().rev() {
        edited.replace_range(range, &new);
    }
    let edited = text[..text.len() - bare.len()].to_owned() + &edited;
    // What was edited is read again: exactly this list may differ from before.
    let mut expected = before;
    put(&mut expected, &PATH, to);
    match value(file, &edited) {
        Ok(after) if after == expected => Ok(edited),
        _ => Err(tied("other values depend on them, or they are written in an unusual way")),
    }
}

fn other(file: &Arc<str>, why: &'static str) -> RkeError {
    RkeError::Other { file: file.clone(), why }
}

fn value(file: &Arc<str>, text: &str) -> Result<Value, RkeError> {
    if text.len() > MAX_FILE {
        return Err(other(file, "it is far too large"));
    }
    let source = SourceText::new(file.clone(), text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut problems = Vec::new();
    let mut documents = yaml::read(&source, &mut problems);
    if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
        let (line, column, rule) = (problem.line, problem.column, problem.rule);
        return Err(RkeError::Syntax { file: file.clone(), line, column, rule });
    }
    let Some(document) = documents.pop().filter(|_| documents.is_empty()) else {
        return Err(other(file, "it does not hold exactly one document"));
    };
    // Whatever a state names, drover writes to nothing but a cluster.yml.
    match document.value.get("nodes").is_some_and(Value::is_sequence) {
        true => Ok(document.value),
        false => Err(other(file, "it has no list of nodes")),
    }
}

/// Sets the list in a value, with the mappings around it.
fn put(value: &mut Value, path: &[&str], to: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        *value = Value::Sequence(to.iter().map(|bind| Value::String(bind.clone())).collect());
        return;
    };
    if !value.is_mapping() {
        *value = Value::Mapping(Default::default());
    }
    if let Value::Mapping(fields) = value {
        put(fields.entry((*first).into()).or_insert(Value::Null), rest, to);
    }
}

/// A value in the text, with its place in bytes.
enum Part {
    Scalar(Range<usize>),
    Alias,
    List { range: Range<usize>, flows: bool, items: Vec<Part> },
    Map { range: Range<usize>, flows: bool, entries: Vec<(Option<Key>, Part)> },
}

/// A key that is text, and its place.
type Key = (String, Range<usize>);

impl Part {
    fn range(&self) -> Range<usize> {
        match self {
            Self::Scalar(range) | Self::List { range, .. } | Self::Map { range, .. } => range.clone(),
            Self::Alias => 0..0,
        }
    }
}

/// The values of the only document.
fn tree(text: &str) -> Option<Part> {
    let options = granit_parser::options! { emit_comments: false };
    let events: Vec<(Event<'_>, Range<usize>)> = Parser::new_from_str_with_options(text, options)
        .map_while(Result::ok)
        .filter_map(|(event, span)| Some((event, span.byte_range()?)))
        .collect();
    let begins = |(event, _): &(Event<'_>, _)| {
        matches!(event, Event::MappingStart(..) | Event::SequenceStart(..) | Event::Scalar(..))
    };
    let mut at = events.iter().position(begins)?;
    part(text, &events, &mut at)
}

/// The value that begins at an event; moves behind its last one.
fn part(text: &str, events: &[(Event<'_>, Range<usize>)], at: &mut usize) -> Option<Part> {
    let (event, range) = events.get(*at)?;
    *at += 1;
    let flows = |sign| text[range.start..].starts_with(sign);
    match event {
        Event::Scalar(..) => Some(Part::Scalar(range.clone())),
        Event::Alias(_) => Some(Part::Alias),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            while !matches!(events.get(*at)?.0, Event::SequenceEnd) {
                items.push(part(text, events, at)?);
            }
            *at += 1;
            Some(Part::List { range: range.start..events[*at - 1].1.end, flows: flows('['), items })
        }
        Event::MappingStart(..) => {
            let mut entries = Vec::new();
            while !matches!(events.get(*at)?.0, Event::MappingEnd) {
                let name = match &events.get(*at)?.0 {
                    Event::Scalar(name, ..) => Some(name.to_string()),
                    _ => None,
                };
                let key = part(text, events, at)?;
                entries.push((name.map(|name| (name, key.range())), part(text, events, at)?));
            }
            *at += 1;
            Some(Part::Map { range: range.start..events[*at - 1].1.end, flows: flows('{'), entries })
        }
        _ => None,
    }
}

type Edits = Vec<(Range<usize>, String)>;

/// What to write in place of which bytes, in the order of the text.
fn edits(text: &str, root: &Part, from: &[String], to: &[String]) -> Result<Edits, &'static str> {
    let (mut here, mut key, mut depth) = (root, 0..0, 0);
    while depth < PATH.len() {
        let Part::Map { entries, .. } = here else { break };
        let entry = entries.iter().find(|(name, _)| name.as_ref().is_some_and(|(name, _)| name == PATH[depth]));
        let Some((Some((_, place)), value)) = entry else { break };
        (here, key) = (value, place.clone());
        depth += 1;
    }
    match here {
        Part::Alias => Err("they are an alias"),
        Part::List { flows: true, range, items } if depth == PATH.len() => flowing(text, range, items, from, to),
        Part::List { items, .. } if depth == PATH.len() => listed(text, &key, items, from, to),
        Part::Map { flows, range, entries } if depth < PATH.len() => {
            let first = entries.first().and_then(|(key, _)| key.as_ref()).map(|(_, range)| range.clone());
            added(text, (range, *flows), first, &PATH[depth..], to)
        }
        Part::Scalar(range) => filled(text, &key, range, &PATH[depth..], to),
        _ => Err("they are written in an unusual way"),
    }
    .map(|mut edits| {
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        edits
    })
}

/// For each item what it becomes, and what comes behind them all.
fn paired<'t>(from: &[String], to: &'t [String]) -> Result<(Vec<Option<&'t String>>, &'t [String]), &'static str> {
    let mut rest = to;
    let mut pairs = Vec::with_capacity(from.len());
    for item in from {
        let same_place =
            |new: &&String| *new == item || BindParts::of(new).destination == BindParts::of(item).destination;
        match rest.split_first().filter(|(new, _)| same_place(new)) {
            Some((new, others)) => {
                pairs.push(Some(new));
                rest = others;
            }
            None => pairs.push(None),
        }
    }
    // What stands behind must be new: what is kept keeps its order.
    let is_new = |bind: &String| !from.contains(bind);
    if rest.iter().all(is_new) { Ok((pairs, rest)) } else { Err("their order would change") }
}

/// A list of lines.
fn listed(
    text: &str,
    key: &Range<usize>,
    items: &[Part],
    from: &[String],
    to: &[String],
) -> Result<Edits, &'static str> {
    let (pairs, new) = paired(from, to)?;
    let mut edits = Edits::new();
    let (mut dash, mut last) = (None, None);
    for ((item, old), pair) in items.iter().zip(from).zip(pairs) {
        let Part::Scalar(range) = item else { return Err("one of them is an alias") };
        let line = line_start(text, range.start);
        let before = &text[line..range.start];
        let indentation = before.len() - before.trim_start_matches(' ').len();
        let is_plain = before.trim_start_matches(' ').strip_prefix('-').is_some_and(|rest| rest.trim().is_empty());
        match pair {
            _ if !is_plain => return Err("one of them does not stand on a line of its own"),
            Some(bind) if bind == old => {}
            Some(bind) => edits.push((range.clone(), like(text, range, bind, false))),
            None => edits.push((line..line_end(text, range.end), String::new())),
        }
        dash.get_or_insert(indentation);
        last = Some(range.clone());
    }
    let (Some(dash), Some(last)) = (dash, last) else { return Err("they are written in an unusual way") };
    let ending = ending(text);
    if to.is_empty() {
        // A key without a value would be no list.
        let colon = key.end + text[key.end..].find(':').ok_or("they are written in an unusual way")? + 1;
        edits.push((colon..colon, " []".to_owned()));
    }
    if !new.is_empty() {
        let at = line_end(text, last.end);
        let gap = if text[..at].ends_with('\n') { "" } else { ending };
        let lines: String = new
            .iter()
            .map(|bind| format!("{}- {}{ending}", " ".repeat(dash), like(text, &last, bind, false)))
            .collect();
        let lines = if gap.is_empty() { lines } else { format!("{gap}{}", lines.trim_end()) };
        edits.push((at..at, lines));
    }
    Ok(edits)
}

/// A list in brackets.
fn flowing(
    text: &str,
    range: &Range<usize>,
    items: &[Part],
    from: &[String],
    to: &[String],
) -> Result<Edits, &'static str> {
    let (pairs, new) = paired(from, to)?;
    let places: Option<Vec<Range<usize>>> =
        items.iter().map(|item| matches!(item, Part::Scalar(_)).then(|| item.range())).collect();
    let places = places.ok_or("one of them is an alias")?;
    if places.is_empty() {
        let quote = if text[..range.start].trim_end().ends_with("\":") { '"' } else { ' ' };
        let items: Vec<String> = new.iter().map(|bind| scalar(bind, quote, true)).collect();
        return Ok(vec![(range.start + 1..range.start + 1, items.join(", "))]);
    }
    if pairs.iter().any(Option::is_none) {
        // With an item goes a comma; where there are comments it is not clear whose they are.
        if text[range.clone()].contains('#') {
            return Err("there are comments between them");
        }
        let kept = pairs.iter().zip(&places).filter_map(|(pair, place)| pair.map(|bind| like(text, place, bind, true)));
        let last = &places[places.len() - 1];
        let all: Vec<String> = kept.chain(new.iter().map(|bind| like(text, last, bind, true))).collect();
        let gap = places.get(1).map_or(", ", |second| &text[places[0].end..second.start]);
        return Ok(vec![(range.start + 1..last.end, leading(text, range, &places[0]) + &all.join(gap))]);
    }
    let mut edits: Edits = Vec::new();
    for ((place, old), pair) in places.iter().zip(from).zip(&pairs) {
        if let Some(bind) = pair.filter(|bind| *bind != old) {
            edits.push((place.clone(), like(text, place, bind, true)));
        }
    }
    let last = &places[places.len() - 1];
    let own_line = text[line_start(text, last.start)..last.start].trim().is_empty();
    let gap = match own_line {
        true => format!("{}{}", ending(text), &text[line_start(text, last.start)..last.start]),
        false => " ".to_owned(),
    };
    let more: String = new.iter().map(|bind| format!(",{gap}{}", like(text, last, bind, true))).collect();
    if !more.is_empty() {
        edits.push((last.end..last.end, more));
    }
    Ok(edits)
}

/// What stands between the bracket and the first item.
fn leading(text: &str, range: &Range<usize>, first: &Range<usize>) -> String {
    text[range.start + 1..first.start].to_owned()
}

/// A mapping that lacks the keys of a path.
fn added(
    text: &str,
    (range, flows): (&Range<usize>, bool),
    first: Option<Range<usize>>,
    path: &[&str],
    to: &[String],
) -> Result<Edits, &'static str> {
    let quotes = first.as_ref().is_some_and(|first| text[first.start..].starts_with('"'));
    if flows {
        let at = range.start + 1;
        let entry = in_braces(path, to, quotes);
        let gap = match &first {
            None => String::new(),
            Some(first) => match &text[at..first.start] {
                gap if gap.contains('#') => return Err("there are comments between them"),
                "" => ", ".to_owned(),
                gap => format!(",{gap}"),
            },
        };
        let at = first.map_or(at, |first| first.start);
        return Ok(vec![(at..at, entry + &gap)]);
    }
    let first = first.ok_or("they are written in an unusual way")?;
    let line = line_start(text, first.start);
    let indentation = &text[line..first.start];
    if !indentation.trim_matches(' ').is_empty() {
        return Err("they would stand in the middle of a line");
    }
    let lines = in_lines(path, to, indentation, ending(text));
    if indentation.is_empty() && path.len() == PATH.len() {
        // A new section comes last.
        if text.lines().any(|line| line.trim_end() == "...") {
            return Err("the document ends before the file does");
        }
        let gap = if text.ends_with('\n') { "" } else { ending(text) };
        return Ok(vec![(text.len()..text.len(), format!("{gap}{lines}"))]);
    }
    Ok(vec![(line..line, lines)])
}

/// A key without a value, or with the value `null`.
fn filled(
    text: &str,
    key: &Range<usize>,
    value: &Range<usize>,
    path: &[&str],
    to: &[String],
) -> Result<Edits, &'static str> {
    let quotes = text[key.start..].starts_with('"');
    let in_flow = in_braces(path, to, quotes);
    let in_flow = if path.is_empty() { in_flow } else { format!("{{{in_flow}}}") };
    if !value.is_empty() {
        let is_null = matches!(&text[value.clone()], "~" | "null" | "Null" | "NULL");
        return if is_null { Ok(vec![(value.clone(), in_flow)]) } else { Err("something else stands in their place") };
    }
    let colon = key.end + text[key.end..].find(':').ok_or("they are written in an unusual way")? + 1;
    let line = line_start(text, key.start);
    let before = &text[line..key.start];
    let rest = text[colon..line_end(text, colon)].trim();
    if before.trim_matches(' ').is_empty() && (rest.is_empty() || rest.starts_with('#')) {
        let at = line_end(text, colon);
        let gap = if text[..at].ends_with('\n') { "" } else { ending(text) };
        let lines = in_lines(path, to, &format!("{before}{STEP}"), ending(text));
        return Ok(vec![(at..at, format!("{gap}{lines}"))]);
    }
    Ok(vec![(colon..colon, format!(" {in_flow}"))])
}

/// Keys within keys and the list in them, as lines.
fn in_lines(path: &[&str], to: &[String], indentation: &str, ending: &str) -> String {
    let mut text = String::new();
    let mut indentation = indentation.to_owned();
    for key in path {
        text += &format!("{indentation}{key}:{ending}");
        indentation += STEP;
    }
    to.iter().for_each(|bind| text += &format!("{indentation}- {}{ending}", scalar(bind, ' ', false)));
    text
}

/// The same in braces, without those around all of it.
fn in_braces(path: &[&str], to: &[String], quotes: bool) -> String {
    let quote = if quotes { "\"" } else { "" };
    let items: Vec<String> = to.iter().map(|bind| scalar(bind, if quotes { '"' } else { ' ' }, true)).collect();
    let list = format!("[{}]", items.join(", "));
    path.iter().rev().enumerate().fold(list, |inner, (depth, key)| match depth {
        0 => format!("{quote}{key}{quote}: {inner}"),
        _ => format!("{quote}{key}{quote}: {{{inner}}}"),
    })
}

/// A bind written like the one that stands at a place.
fn like(text: &str, place: &Range<usize>, bind: &str, flows: bool) -> String {
    scalar(bind, text[place.clone()].chars().next().unwrap_or(' '), flows)
}

/// A bind as a value: in these quotes, or in some where a reader of YAML would take it for something else.
fn scalar(bind: &str, quote: char, flows: bool) -> String {
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '_' | '.' | ':' | '-' | '+' | '@') || (c == ',' && !flows);
    let is_plain = bind.starts_with('/') && !bind.ends_with(':') && bind.chars().all(plain);
    match quote {
        '\'' => format!("'{}'", bind.replace('\'', "''")),
        quote if quote != '"' && is_plain => bind.to_owned(),
        _ => format!("\"{}\"", bind.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// Behind the end of the line of a place.
fn line_end(text: &str, at: usize) -> usize {
    // A value that reaches over the end of its line, such as a block, ends with it.
    if at > 0 && text[..at].ends_with('\n') {
        return at;
    }
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

/// How the lines of a text end.
fn ending(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

#[cfg(test)]
mod tests;
