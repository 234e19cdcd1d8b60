//! Amounts of resources, as the API writes them.

use serde::{Deserialize, Serialize};

/// A quantity: the API writes text, people write numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Quantity {
    Text(String),
    Number(f64),
}

impl Quantity {
    /// In thousandths; 0 where the text is no quantity.
    pub(super) fn milli(&self) -> u64 {
        let text = match self {
            Self::Number(number) => return (number * 1000.0) as u64,
            Self::Text(text) => text,
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
        let unit = match &text[digits.len()..] {
            "n" => 1e-6,
            "u" => 1e-3,
            "m" => 1.0,
            "" => 1e3,
            "k" => 1e6,
            "Ki" => 1024e3,
            "M" => 1e9,
            "Mi" => 1024.0 * 1024e3,
            "G" => 1e12,
            "Gi" => 1024.0 * 1024.0 * 1024e3,
            "T" => 1e15,
            "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024e3,
            _ => return 0,
        };
        digits.parse::<f64>().map_or(0, |number| (number * unit).round() as u64)
    }

    /// In the unit in which a resource is counted; a part of a piece is a whole one, as it is for the scheduler.
    pub(super) fn amount(&self, resource: &str) -> u64 {
        if resource == "cpu" { self.milli() } else { self.milli().div_ceil(1000) }
    }
}
