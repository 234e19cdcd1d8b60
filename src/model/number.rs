//! Numbers that are checked when they are read.

use super::text::Invalid;

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

impl Percent {
    /// The default limit of `too-many-nodes`.
    pub const THIRTY: Self = Self(30);
}
