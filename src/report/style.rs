//! The colours of drover's text, and the one place where foreign text is made safe to show.

use anstyle::{AnsiColor, Style};

/// The styles of a report.
pub struct Styles {
    /// Headings and names.
    pub bold: Style,
    /// What matters less.
    pub dim: Style,
    /// Additions, and what is well.
    pub add: Style,
    /// Changes, and what needs a look.
    pub change: Style,
    /// Removals, and what is wrong.
    pub remove: Style,
}

/// The styles that every report uses.
pub const STYLES: Styles = Styles {
    bold: Style::new().bold(),
    dim: Style::new().dimmed(),
    add: AnsiColor::Green.on_default(),
    change: AnsiColor::Yellow.on_default(),
    remove: AnsiColor::Red.on_default(),
};

/// Text from elsewhere without anything that a terminal would obey.
pub fn clean(text: &str) -> String {
    // Bidirectional marks would show a text in another order than it has.
    let reorders = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || reorders(c) { '\u{fffd}' } else { c }).collect()
}

/// Text in a style.
pub(super) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// "1 node", "2 nodes".
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
