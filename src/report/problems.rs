//! Problems of a state: as rustc shows them, and as annotations on a pull request.

use std::fmt::Write;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use super::style::{STYLES, clean, count, paint};
use crate::manifest::{Problem, Severity};

/// Problems with the line they stand in and what to do. `folder` is put before each file's name.
pub fn problems_text(problems: &[Problem], folder: &str) -> String {
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for problem in problems {
        let path = path_of(problem, folder);
        let message = normalize_untrusted_str(&problem.message);
        let level = if problem.is_error() { Level::ERROR } else { Level::WARNING };
        let title = level.primary_title(message).id(problem.rule);
        let line = normalize_untrusted_str(&problem.text);
        let group = match problem.line {
            0 => Group::with_title(title).element(Origin::path(path)),
            _ => {
                let byte =
                    |column: u32| line.char_indices().nth(column as usize).map_or(line.len(), |(index, _)| index);
                let column = (problem.column - 1).saturating_sub(problem.shift);
                let span = byte(column)..byte(column + problem.length.max(1));
                let annotation = AnnotationKind::Primary.span(span);
                let snippet = Snippet::source(line.clone()).line_start(problem.line as usize).annotation(annotation);
                match problem.shift {
                    0 => Group::with_title(title).element(snippet.path(path)),
                    _ => {
                        let place = Origin::path(path).line(problem.line as usize);
                        Group::with_title(title).element(place.char_column(problem.column as usize)).element(snippet)
                    }
                }
            }
        };
        let group = match &problem.help {
            Some(help) => group.element(Level::HELP.message(normalize_untrusted_str(help))),
            None => group,
        };
        let _ = writeln!(text, "{}\n", renderer.render(&[group]));
    }
    text
}

fn path_of(problem: &Problem, folder: &str) -> String {
    let file = clean(&normalize_untrusted_str(&problem.file));
    match (folder.trim_end_matches('/'), file.as_str()) {
        ("" | ".", file) => file.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, file) => format!("{folder}/{file}"),
    }
}

/// One line that says how many problems there are.
pub fn verdict(problems: &[Problem], files: usize, documents: usize) -> String {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let size = format!("{}, {}", count(files, "file"), count(documents, "document"));
    let rest = if warnings > 0 { format!(", {}", count(warnings, "warning")) } else { String::new() };
    match errors {
        0 => paint(STYLES.add, format!("valid: {size}{rest}")),
        _ => paint(STYLES.remove, format!("invalid: {size}, {}{rest}", count(errors, "error"))),
    }
}

/// Problems as workflow commands, which GitHub shows as annotations on the lines of a pull request.
pub fn github(problems: &[Problem], folder: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for problem in problems {
        let command = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let help = problem.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
        let (line, column) = (problem.line.max(1), problem.column.max(1));
        let _ = writeln!(
            text,
            "::{command} file={},line={line},col={column},endColumn={},title={}::{}",
            property(&path_of(problem, folder)),
            column + problem.length,
            property(problem.rule),
            data(&format!("{}{help}", problem.message))
        );
    }
    text
}
