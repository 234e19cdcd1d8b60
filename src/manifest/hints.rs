//! What to do about a value that does not fit its field: serde's messages, turned into advice.

use serde_yaml::Value;

use crate::model::text::{Invalid, closest};

/// A message of serde, sorted.
pub(crate) enum Misfit<'m> {
    /// A field that the type does not have.
    UnknownField(&'m str),
    /// A field that the type needs.
    MissingField(&'m str),
    /// A value that is not of the right type or form.
    BadValue,
}

impl<'m> Misfit<'m> {
    pub(crate) fn of(message: &'m str) -> Self {
        if let Some(rest) = message.strip_prefix("unknown field `") {
            Self::UnknownField(rest.split('`').next().unwrap_or(rest))
        } else if let Some(rest) = message.strip_prefix("missing field `") {
            Self::MissingField(rest.split('`').next().unwrap_or(rest))
        } else {
            Self::BadValue
        }
    }
}

/// The names that serde lists after "expected".
pub(crate) fn expected_names(message: &str) -> Vec<&str> {
    let Some((_, list)) = message.split_once(", expected ") else { return Vec::new() };
    list.split('`').skip(1).step_by(2).collect()
}

/// Advice on a name that is not among the known ones.
pub(crate) fn choose(written: &str, known: &[&str]) -> Option<String> {
    /// Longer than any name; comparing texts takes time that grows with their length.
    const LONGEST: usize = 256;
    if known.is_empty() {
        return None;
    }
    let near = (written.len() <= LONGEST).then(|| closest(written, known.iter().copied())).flatten();
    Some(match near {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// Serde's message in the words of YAML, and advice where there is any. `written` is the value as it stands in the file.
pub(crate) fn explain(message: &str, value: Option<&Value>, written: &str) -> (&'static str, String, Option<String>) {
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let written = rest.split('`').next().unwrap_or(rest);
        return ("unknown-value", format!("`{written}` is not known here"), choose(written, &expected_names(message)));
    }
    let mismatch = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some(rest) = mismatch.filter(|rest| rest.contains(", expected ")) else {
        let (message, help) = match Invalid::apart(message) {
            Some((message, help)) => (message, Some(help.to_owned())),
            None => (message, None),
        };
        return ("bad-value", message.to_owned(), help);
    };
    let expected = rest.rsplit_once(", expected ").map_or(rest, |(_, expected)| expected);
    let wanted = in_words(expected);
    let help = match value {
        Some(Value::Number(_)) if wanted.contains("length of time") => Some("add a unit, as in 5m".to_owned()),
        Some(Value::Number(_) | Value::Bool(_)) if wanted.contains("text") => {
            Some("put it in quotes, so that YAML reads it as text".to_owned())
        }
        Some(Value::String(text)) if wanted == "true or false" && is_yes_or_no(text) => {
            Some("write true or false, without quotes".to_owned())
        }
        Some(Value::String(text)) if wanted == "a list" => Some(format!("write it as a list: [{text}]")),
        Some(Value::String(text)) if wanted.contains("number") && text.parse::<f64>().is_ok() => {
            Some("write it without quotes".to_owned())
        }
        Some(Value::Null) => Some("remove the field, or give it a value".to_owned()),
        _ => None,
    };
    let help = help.unwrap_or_else(|| match wanted {
        "a mapping" => "write it as a mapping: {field: value}".to_owned(),
        "a list" => "write it as a list: [one, two]".to_owned(),
        _ => format!("give {wanted}"),
    });
    ("wrong-type", format!("expected {wanted}, found {}", kind_of(value, written)), Some(help))
}

fn is_yes_or_no(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "true" | "false" | "y" | "n")
}

fn in_words(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "u32" | "u64" => "a whole number",
        "f64" => "a number",
        _ if expected.starts_with("struct ") => "a mapping",
        _ if expected.contains("enum ") => "text",
        other => other,
    }
}

fn kind_of(value: Option<&Value>, written: &str) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::Bool(value)) => format!("the truth value {value}"),
        Some(Value::Number(_)) => format!("the number {written}"),
        Some(Value::String(text)) => {
            let shown: String = text.chars().take(40).collect();
            format!("the text {shown:?}")
        }
        Some(Value::Sequence(_)) => "a list".to_owned(),
        Some(Value::Mapping(_)) => "a mapping".to_owned(),
        Some(Value::Tagged(_)) => "a tagged value".to_owned(),
    }
}
