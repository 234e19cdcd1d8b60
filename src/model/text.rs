//! Validated strings: names, label keys and label values that can be nothing else once parsed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not what its type asks for, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// One line naming the text and the broken rule.
    message: String,
    /// What to do.
    help: String,
}

impl Invalid {
    /// Stands between the message and what to do, also in errors of serde, which have room for one text only.
    const THEN: &str = "; ";

    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    /// The same, said of a part of something else.
    pub(super) fn within(self, context: impl fmt::Display) -> Self {
        Self { message: format!("{context} {}", self.message), help: self.help }
    }

    /// The message and the help in a text that is made of both.
    pub(crate) fn apart(text: &str) -> Option<(&str, &str)> {
        text.rsplit_once(Self::THEN)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.message, Self::THEN, self.help)
    }
}

impl std::error::Error for Invalid {}

/// Defines a string newtype that is checked when it is made, is cheap to clone, and knows its own JSON Schema.
macro_rules! validated_string {
    ($(#[$doc:meta])* $name:ident, $noun:literal, check = $check:path, pattern = $pattern:literal, max = $max:literal, about = $about:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::model::text::Invalid;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("text (", $noun, ")"))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.as_str().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $about, "type": "string", "pattern": $pattern, "maxLength": $max
                })
            }
        }
    };
}
pub(crate) use validated_string;

validated_string! {
    /// A label key, `[prefix/]name`, by the rules of the Kubernetes API server.
    LabelKey, "a label key", check = check_label_key,
    pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$", max = 317,
    about = "A Kubernetes label key: an optional DNS prefix and a slash, then up to 63 letters, digits, '-', '_' and '.'"
}

validated_string! {
    /// A label value by the rules of the Kubernetes API server; it may be empty.
    LabelValue, "a label value", check = check_label_value,
    pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$", max = 63,
    about = "A Kubernetes label value: up to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
}

validated_string! {
    /// The name of a machine: what `kubectl get nodes` shows.
    NodeName, "a node name", check = check_node_name,
    pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max = 253,
    about = "A Kubernetes object name: lower-case letters, digits, '-' and '.'"
}

validated_string! {
    /// The name of a cluster in the state repository.
    ClusterName, "a name", check = check_short_name,
    pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max = 63,
    about = "A name of at most 63 lower-case letters, digits and '-'"
}

validated_string! {
    /// The id that Rancher gave a cluster.
    RancherId, "a cluster id of Rancher", check = check_short_name,
    pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max = 63,
    about = "The id that Rancher gave the cluster, such as c-x7k2p"
}

validated_string! {
    /// The name of a resource group in the state repository.
    GroupName, "a name", check = check_short_name,
    pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max = 63,
    about = "A name of at most 63 lower-case letters, digits and '-'"
}

impl LabelKey {
    /// The DNS prefix before the slash, if there is one.
    pub fn prefix(&self) -> Option<&str> {
        self.as_str().split_once('/').map(|(prefix, _)| prefix)
    }
}

impl LabelValue {
    /// The value that switches a vocabulary label on.
    pub fn yes() -> Self {
        static YES: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "true".into());
        Self(YES.clone())
    }
}

/// A label value made from a name: every group name is a valid label value.
impl From<&GroupName> for LabelValue {
    fn from(name: &GroupName) -> Self {
        Self(name.0.clone())
    }
}

fn quoted(text: &str) -> impl fmt::Display {
    const SHOWN: usize = 80;
    let cut: String = text.chars().take(SHOWN).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

fn check_length(what: &str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        let message = format!("{} is too long for {what}: it has {} characters", quoted(text), text.len());
        return Err(Invalid::new(message, format!("use at most {max} characters")));
    }
    Ok(())
}

fn check_characters(
    what: &str,
    text: &str,
    inner: impl Fn(char) -> bool,
    edge: impl Fn(char) -> bool,
    allowed: &str,
) -> Result<(), Invalid> {
    if let Some(bad) = text.chars().find(|c| !inner(*c) && !edge(*c)) {
        let message = format!("{} is not {what}: {bad:?} is not allowed", quoted(text));
        return Err(Invalid::new(message, format!("use only {allowed}")));
    }
    let ends_well = |c: Option<char>| c.is_some_and(&edge);
    if !ends_well(text.chars().next()) || !ends_well(text.chars().next_back()) {
        let message = format!("{} is not {what}: it does not begin and end as one", quoted(text));
        return Err(Invalid::new(message, "begin and end it with a letter or digit"));
    }
    Ok(())
}

fn check_qualified(what: &str, text: &str) -> Result<(), Invalid> {
    check_length(what, text, 63)?;
    check_characters(
        what,
        text,
        |c| matches!(c, '-' | '_' | '.'),
        |c| c.is_ascii_alphanumeric(),
        "letters, digits, '-', '_' and '.'",
    )
}

fn check_label_value(text: &str) -> Result<(), Invalid> {
    if text.is_empty() { Ok(()) } else { check_qualified("a label value", text) }
}

fn check_label_key(text: &str) -> Result<(), Invalid> {
    const FORM: &str = "write it as name or prefix/name, as rack or example.org/rack";
    let is_no_key = || format!("{} is not a label key:", quoted(text));
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return Err(Invalid::new(format!("{} it has more than one '/'", is_no_key()), FORM));
        }
        Some((prefix, name)) => {
            check_dns("a DNS name", prefix, 253)
                .map_err(|invalid| invalid.within(format!("{} its prefix", is_no_key())))?;
            name
        }
    };
    if name.is_empty() {
        return Err(Invalid::new(format!("{} the name is empty", is_no_key()), FORM));
    }
    check_qualified("a label key", name)
}

fn check_dns(what: &str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(format!("{} is not {what}: it is empty", quoted(text)), "give it a name"));
    }
    check_length(what, text, max)?;
    check_characters(
        what,
        text,
        |c| matches!(c, '-' | '.'),
        |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
        "lower-case letters, digits, '-' and '.'",
    )?;
    if text.split('.').any(|part| part.is_empty() || part.starts_with('-') || part.ends_with('-')) {
        let message = format!("{} is not {what}: its parts between dots do not begin and end as such", quoted(text));
        return Err(Invalid::new(message, "begin and end each part with a letter or digit"));
    }
    Ok(())
}

fn check_node_name(text: &str) -> Result<(), Invalid> {
    check_dns("a node name", text, 253)
}

fn check_short_name(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("\"\" is not a name: it is empty", "give it a name"));
    }
    check_length("a name", text, 63)?;
    check_characters(
        "a name",
        text,
        |c| c == '-',
        |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
        "lower-case letters, digits and '-'",
    )
}

/// The closest of `known` to what a person wrote, where it is close enough to be meant.
pub fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f32 = 0.7;
    let known: Vec<&str> = known.into_iter().collect();
    similar::get_close_matches(written, &known, 1, ALIKE).first().copied()
}

/// Parses a text that the program itself wrote.
pub(crate) fn known<T: FromStr>(text: &'static str) -> T
where
    T::Err: fmt::Display,
{
    text.parse().unwrap_or_else(|error| panic!("built-in {text:?} is not valid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_follow_the_api_server() {
        for good in ["org", "gpu-type", "example.org/rack", "a.b/C_d.e-f", "A1"] {
            assert!(good.parse::<LabelKey>().is_ok(), "{good}");
        }
        for bad in ["", "/x", "x/", "a/b/c", "-x", "x-", "Ex.org/x", "x y", "ex..org/x", "-a.org/x", &"k".repeat(64)] {
            assert!(bad.parse::<LabelKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn label_values_follow_the_api_server() {
        for good in ["", "true", "V100-32G", "a_b.c", &"v".repeat(63)] {
            assert!(good.parse::<LabelValue>().is_ok(), "{good}");
        }
        for bad in [" ", "a b", "-a", "a.", "é", "a/b", &"v".repeat(64)] {
            assert!(bad.parse::<LabelValue>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_closest_name_is_offered_only_when_it_is_close() {
        assert_eq!(closest("istoi", ["istio", "mysql"]), Some("istio"));
        assert_eq!(closest("kubeflow-dashobard", ["kubeflow", "kubeflow-dashboard"]), Some("kubeflow-dashboard"));
        assert_eq!(closest("zebra", ["istio", "mysql"]), None);
    }
}
