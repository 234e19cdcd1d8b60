//! A problem of a state repository: what is wrong, exactly where, and what to do.

use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::Serialize;

use super::yaml::Place;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The revision cannot be applied.
    Error,
    /// Worth knowing; nothing is refused.
    Warning,
}

/// A problem of a state repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The rule it breaks, for example `unknown-field`.
    pub rule: &'static str,
    /// The file, relative to the root of the state.
    #[schemars(with = "String")]
    pub file: Arc<str>,
    /// Line, counted from 1; 0 where the problem is the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1; 0 where the problem is the file as a whole.
    pub column: u32,
    /// How many characters the culprit has.
    pub length: u32,
    /// The line itself, where there is one; cut when very long.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: Box<str>,
    /// By how many characters the culprit stands further left in `text` than in the line.
    #[serde(skip)]
    pub shift: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<Box<str>>,
}

/// A file that problems can be found in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SourceText {
    /// Its name, relative to the root of the state.
    pub file: Arc<str>,
    /// Its text, without a byte-order mark.
    pub text: Arc<str>,
    /// Where each line begins; made when the first problem is found.
    lines: Arc<OnceLock<Vec<usize>>>,
}

impl SourceText {
    /// A text and its name.
    pub fn new(file: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), text: text.into(), lines: Arc::default() }
    }

    /// A line, counted from 1, without its end.
    pub fn line(&self, number: usize) -> &str {
        let starts = self.lines.get_or_init(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(index, _)| index + 1)).collect()
        });
        let Some(start) = number.checked_sub(1).and_then(|index| starts.get(index)) else { return "" };
        let end = starts.get(number).map_or(self.text.len(), |next| next - 1);
        self.text[*start..end].trim_end_matches('\r')
    }

    /// What stands at a place.
    pub fn written(&self, place: Place) -> String {
        self.line(place.line as usize)
            .chars()
            .skip(place.column.saturating_sub(1) as usize)
            .take(place.length as usize)
            .collect()
    }

    /// An error at a place of this file.
    pub fn error(&self, rule: &'static str, place: Place, message: impl Into<String>) -> Problem {
        self.problem(Severity::Error, rule, place, message.into())
    }

    /// A warning at a place of this file.
    pub fn warning(&self, rule: &'static str, place: Place, message: impl Into<String>) -> Problem {
        self.problem(Severity::Warning, rule, place, message.into())
    }

    fn problem(&self, severity: Severity, rule: &'static str, place: Place, message: String) -> Problem {
        let (text, shift) = self.excerpt(place);
        let rest = (text.chars().count() as u32).saturating_sub(place.column.max(1) - 1 - shift);
        Problem {
            severity,
            rule,
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            length: place.length.clamp(1, rest.max(1)),
            text: text.into(),
            shift,
            message: shown(message),
            help: None,
        }
    }

    /// The line of a place, cut to what a person can read, and by how much the place moved to the left with that.
    fn excerpt(&self, place: Place) -> (String, u32) {
        const WIDTH: u32 = 160;
        const BEFORE: u32 = 60;
        let column = place.column.max(1);
        let cut = if column > 10 * WIDTH { column - BEFORE } else { 0 };
        let visible = |c: char| match c {
            '\t' => '␉',
            c if c.is_control() => '·',
            c => c,
        };
        let line =
            self.line(place.line as usize).chars().skip(cut as usize).take((column - cut).max(WIDTH) as usize + 40);
        let dots = if cut > 0 { "…" } else { "" };
        (dots.chars().chain(line.map(visible)).collect(), cut.saturating_sub(1))
    }
}

/// A text that may quote the state: cut to what a person can read, and without what a terminal would obey.
fn shown(text: impl Into<String>) -> String {
    const LONGEST: usize = 500;
    let text = text.into();
    let whole = match text.char_indices().nth(LONGEST) {
        // What stands at the end says what is wrong with what is quoted before.
        Some((cut, _)) => {
            let rest: Vec<char> = text[cut..].chars().rev().take(LONGEST / 2).collect();
            format!("{} … {}", &text[..cut], rest.into_iter().rev().collect::<String>())
        }
        None => text,
    };
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    whole.replace(|c: char| c.is_control() || turns(c), "\u{fffd}")
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(rule: &'static str, file: impl Into<Arc<str>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule,
            file: file.into(),
            line: 0,
            column: 0,
            length: 0,
            text: Box::default(),
            shift: 0,
            message: shown(message),
            help: None,
        }
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shown(help).into());
        self
    }

    /// Whether it keeps the revision from being applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
