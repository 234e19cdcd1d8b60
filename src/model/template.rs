//! The template of a commit message: checked when it is read, so that a state with one that cannot be used never comes
//! into force.

use minijinja::{Environment, Error, UndefinedBehavior, Value, context};

use super::Move;
use super::text::{Invalid, validated_string};

/// What a commit says where the state asks for nothing else.
const DEFAULT: &str = "\
{{ summary }}

{% for move in moves -%}
- {{ move.node }}: {{ move.from }} -> {{ move.to }}: {{ move.reason }}
{% endfor %}";

/// Steps of a template after which it is given up.
const FUEL: u64 = 100_000;
/// The longest text that one may give: about a hundred moves with a line each.
const LONGEST: usize = 64 << 10;

validated_string! {
    /// A Jinja template of a commit message.
    MessageTemplate, "a template", check = check, pattern = r"\S", max = 4096,
    about = "A Jinja template with `cluster`, `summary`, and `moves` that have `node`, `from`, `to` and `reason`"
}

fn check(text: &str) -> Result<(), Invalid> {
    let made = Move {
        cluster: super::text::known("cluster"),
        node: super::text::known("node"),
        from: None,
        to: super::text::known("group"),
        reason: "a reason".to_owned(),
    };
    match render(text, "cluster", "a summary", &[made]) {
        Ok(rendered) if rendered.trim().is_empty() => {
            Err(Invalid::new("the template of the commit message says nothing", "use at least {{ summary }}"))
        }
        Ok(_) if text.len() > 4096 => {
            Err(Invalid::new("the template of the commit message is longer than 4096 bytes", "shorten it"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(unusable(&error)),
    }
}

fn unusable(error: &Error) -> Invalid {
    Invalid::new(
        format!("the template of the commit message cannot be used: {error}"),
        "it knows cluster, summary, and moves with node, from, to and reason",
    )
}

impl MessageTemplate {
    /// The text that it gives for some moves; of `None`, that of drover's own template.
    ///
    /// # Errors
    /// Where it fails on these moves, such as by going on without an end.
    pub fn render(template: Option<&Self>, cluster: &str, summary: &str, moves: &[Move]) -> Result<String, Invalid> {
        let rendered = render(template.map_or(DEFAULT, Self::as_str), cluster, summary, moves);
        rendered.map_err(|error| unusable(&error))
    }
}

fn render(template: &str, cluster: &str, summary: &str, moves: &[Move]) -> Result<String, Error> {
    let moves: Vec<Value> = moves
        .iter()
        .map(|made| {
            let (node, from, to) = (made.node.as_str(), made.from_shown(), made.to.as_str());
            context! { node, from, to, reason => line(&made.reason) }
        })
        .collect();
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = environment.render_str(template, context! { cluster, summary, moves })?;
    Ok(text.chars().take(LONGEST).collect())
}

/// A text in one line, without what a terminal would obey.
fn line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_that_cannot_be_used_are_refused() {
        for (template, good) in [
            ("{{ cluster }}: {{ summary }}{% for m in moves %}\n{{ m.node }} {{ m.reason }}{% endfor %}", true),
            ("{{ summary", false),
            ("{{ sumary }}", false),
            ("{# nothing #}", false),
            ("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}", false),
        ] {
            assert_eq!(template.parse::<MessageTemplate>().is_ok(), good, "{template}");
        }
    }
}
