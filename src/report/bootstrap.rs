//! How a machine is set up, in words.

use std::fmt::Write;

use super::style::{STYLES, clean, count, paint};
use crate::bootstrap::{Setup, Step};

/// The steps as text.
pub fn setup_text(setup: &Setup) -> String {
    let mut text = String::new();
    let title = paint(STYLES.bold, format!("{} in {}", setup.node, setup.cluster));
    let _ = writeln!(text, "{title}: {}, each looked at before and after it is done", count(setup.steps.len(), "step"));
    for (number, step) in (1..).zip(&setup.steps) {
        let Step { title, why, check, action, asked, .. } = step;
        let _ = writeln!(text, "\n{number:>2}. {}", paint(STYLES.bold, clean(title)));
        let place = asked.as_ref().map(|origin| clean(&origin.to_string()));
        for (name, words) in [
            ("why", Some(why.to_string())),
            ("done when", Some(check.to_string())),
            ("otherwise", Some(action.clone())),
            ("asked by", place),
        ] {
            if let Some(words) = words {
                let _ = writeln!(text, "    {} {}", paint(STYLES.dim, format!("{name:<9}")), clean(&words));
            }
        }
    }
    text.push_str(
        "\nLabels are not set by the script: drover sets those of the Node document once the machine has joined.\n",
    );
    text
}
