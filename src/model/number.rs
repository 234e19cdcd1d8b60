//! Numbers that are checked when they are read.

use super::text::{Invalid, validated_string};

/// Defines a number newtype that is checked when it is read, and knows its own JSON Schema.
macro_rules! checked_number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $kind:literal, $least:literal ..= $most:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "f64")]
        pub struct $name($inner);

        impl $name {
            /// The number.
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = Invalid;
            fn try_from(number: f64) -> Result<Self, Invalid> {
                let whole = $kind != "integer" || number.fract() == 0.0;
                if whole && ($least as f64..=$most as f64).contains(&number) {
                    return Ok(Self(number as $inner));
                }
                let kind = if $kind == "integer" { "whole number" } else { "number" };
                let help = format!("give a {kind} from {} to {}", $least, $most);
                Err(Invalid::new(format!("{number} is not {}", $what), help))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": $kind, "minimum": $least, "maximum": $most })
            }
        }
    };
}

checked_number! {
    /// A share in percent.
    Percent(u8), "a percentage", "integer", 0..=100
}

checked_number! {
    /// A share of one.
    Fraction(f64), "a fraction", "number", 0..=1
}

checked_number! {
    /// How much a group counts against others.
    Weight(u32), "a weight", "integer", 1..=1000
}

checked_number! {
    /// A number of things, at least one.
    Count(u32), "a number", "integer", 1..=100_000
}

validated_string! {
    /// An amount of bytes, such as `10Gi`.
    ByteSize, "an amount of bytes, as 10Gi", check = check_bytes, pattern = r"^[0-9]{1,12}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max = 14,
    about = "An amount of bytes such as 500M, 10Gi or 2Ti"
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (base, letter): (u64, _) = match text[digits.len()..].strip_suffix('i') {
        Some(letter) => (1024, Some(letter)),
        None => (1000, Some(&text[digits.len()..])),
    };
    let power = match letter? {
        "" if base == 1000 => 0,
        "k" if base == 1000 => 1,
        "K" if base == 1024 => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    let number = digits.parse::<u64>().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))?;
    number.checked_mul(base.pow(power))
}

fn check_bytes(text: &str) -> Result<(), Invalid> {
    match parse_bytes(text) {
        Some(_) => Ok(()),
        None => Err(Invalid::new(format!("{text:?} is not an amount of bytes"), "write for example 500M, 10Gi or 2Ti")),
    }
}

impl ByteSize {
    /// In bytes.
    pub fn bytes(&self) -> u64 {
        parse_bytes(self.as_str()).unwrap_or(u64::MAX)
    }
}

impl Percent {
    /// The default limit of `too-many-nodes`.
    pub const THIRTY: Self = Self(30);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        for (text, bytes) in
            [("0", 0), ("12", 12), ("5k", 5000), ("1Ki", 1024), ("10Gi", 10 << 30), ("2T", 2_000_000_000_000)]
        {
            assert_eq!(text.parse::<ByteSize>().map(|size| size.bytes()), Ok(bytes), "{text}");
        }
        for bad in ["", "Gi", "-1", "+1", "1.5Gi", "1K", "1ki", "10 Gi", "i", "99999999999P"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
