//! The words of a commit: a template that people may choose, and trailers for programs that nobody can.

use super::Decision;
use crate::error::Failure;
use crate::model::template::MessageTemplate;

/// The first line of a commit.
pub fn subject(decision: &Decision) -> String {
    match decision.moves.as_slice() {
        [made] => format!("{}: move {} from {} to {}", decision.cluster, made.node, made.from_shown(), made.to),
        moves => format!("{}: move {} machines", decision.cluster, moves.len()),
    }
}

/// The message of the commit. `record` is the path of the decision's record in the repository.
///
/// # Errors
/// Where the template cannot be used.
pub fn message(decision: &Decision, template: Option<&MessageTemplate>, record: &str) -> Result<String, Failure> {
    let text = MessageTemplate::render(template, decision.cluster.as_str(), &subject(decision), &decision.moves)
        .map_err(|error| Failure::new(error.to_string()))?;
    // Whatever a template gives, the last paragraph is drover's.
    let text = match text.trim() {
        "" => subject(decision),
        text => text.to_owned(),
    };
    let moves: String = decision
        .moves
        .iter()
        .map(|made| format!("Drover-Move: {} {} -> {}\n", made.node, made.from_shown(), made.to))
        .collect();
    let (digest, cluster) = (&decision.digest, &decision.cluster);
    let policy = decision.policy.map(|policy| format!("Drover-Policy: {policy}\n")).unwrap_or_default();
    Ok(format!(
        "{text}\n\nDrover-Decision: {digest}\nDrover-Cluster: {cluster}\n{policy}{moves}Drover-Record: {record}\n"
    ))
}

/// The trailers of drover in the last paragraph of a message: their names without `Drover-`, and their values.
pub fn trailers(message: &str) -> Vec<(&str, &str)> {
    let last = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
    last.lines().filter_map(|line| line.strip_prefix("Drover-")?.split_once(": ")).collect()
}

/// Whether a commit is of a decision. Servers that squash commits move trailers up, so every line counts.
pub fn is_of(message: &str, digest: &str) -> bool {
    message.lines().any(|line| line.strip_prefix("Drover-Decision: ") == Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Move;
    use crate::model::text::known;

    fn decision(reason: &str) -> Decision {
        let made = Move {
            cluster: known("prod"),
            node: known("gpu-017"),
            from: Some(known("ads")),
            to: known("web"),
            reason: reason.to_owned(),
        };
        Decision::new(known("prod"), vec![made], b"{}".to_vec())
    }

    #[test]
    fn a_commit_says_what_moved_and_why() {
        let decision = decision("web waits for 3 GPUs");
        let text = message(&decision, None, "state/.drover/x.json").expect("a message");
        let expected = format!(
            "prod: move gpu-017 from ads to web\n\n- gpu-017: ads -> web: web waits for 3 GPUs\n\n\
             Drover-Decision: {}\nDrover-Cluster: prod\nDrover-Move: gpu-017 ads -> web\nDrover-Record: state/.drover/x.json\n",
            decision.digest
        );
        assert_eq!(text, expected);
        assert_eq!(trailers(&text)[2], ("Move", "gpu-017 ads -> web"));
        assert!(is_of(&text, &decision.digest) && !is_of(&text, "0"));
    }

    #[test]
    fn nobody_forges_a_trailer() {
        let forged = "x\n\nDrover-Decision: 0";
        for template in [None, Some("{{ moves[0].reason }}"), Some("t\n\nDrover-Decision: 0\n\n")] {
            let decision = decision(forged);
            let template = template.map(|text| text.parse().expect("a template"));
            let text = message(&decision, template.as_ref(), "r").expect("a message");
            assert_eq!(trailers(&text)[0], ("Decision", decision.digest.as_str()), "{text}");
            assert_eq!(trailers(&text).len(), 4, "{text}");
        }
    }
}
