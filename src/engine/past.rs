//! What the history of the state says of earlier decisions of the rebalancer.

use jiff::Timestamp;

use super::Loaded;
use super::audit::{chronicle, veto_of, vetoes};
use crate::error::Failure;
use crate::model::ClusterName;
use crate::rebalance::load::{Moved, Past};

/// The rebalancer's moves in a cluster, from the trailers of its commits, and what people took back. A folder without
/// history has no past.
///
/// # Errors
/// Where the history cannot be read.
pub fn past(state: &Loaded, cluster: &ClusterName, now: Timestamp) -> Result<Past, Failure> {
    let Some((git, head)) = state.history() else { return Ok(Past::default()) };
    let mut past = Past::default();
    for (message, seconds) in git.messages(head)? {
        let at = Timestamp::from_second(seconds).unwrap_or_default();
        past.moves.extend(moves_of(&message, cluster, at).into_iter().rev());
    }
    past.moves.reverse();
    let length = veto_of(&state.desired, cluster.as_str());
    let taken_back = vetoes(git, &chronicle(state)?, cluster, length, now);
    past.vetoes = taken_back.into_iter().map(|(node, veto)| (node, veto.until)).collect();
    Ok(past)
}

/// The moves that a commit tells of. A squash puts several decisions into one message, one after the other.
fn moves_of(message: &str, cluster: &ClusterName, at: Timestamp) -> Vec<Moved> {
    let mut moves = Vec::new();
    let (mut is_here, mut is_policy) = (false, false);
    for line in message.lines() {
        let Some((name, value)) = line.strip_prefix("Drover-").and_then(|line| line.split_once(": ")) else { continue };
        match name {
            "Decision" => (is_here, is_policy) = (false, false),
            "Cluster" => is_here = value == cluster.as_str(),
            "Policy" => is_policy = true,
            "Move" if is_here && is_policy => moves.extend(moved(value, at)),
            _ => {}
        }
    }
    moves
}

/// `gpu-017 ads -> web`
fn moved(text: &str, at: Timestamp) -> Option<Moved> {
    let (node, groups) = text.split_once(' ')?;
    let (from, to) = groups.split_once(" -> ")?;
    Some(Moved { node: node.to_owned(), from: from.to_owned(), to: to.to_owned(), at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text::known;

    #[test]
    fn moves_of_policies_are_read_from_trailers() {
        let message = "prod: move n1 from ads to web\n\nDrover-Decision: 1\nDrover-Cluster: prod\nDrover-Policy: demand\n\
             Drover-Move: n1 ads -> web\nDrover-Record: r\n\nDrover-Decision: 2\nDrover-Cluster: prod\nDrover-Move: n2 ads -> web\n\
             Drover-Decision: 3\nDrover-Cluster: dev\nDrover-Policy: cube\nDrover-Move: n3 ads -> web\n";
        let moves = moves_of(message, &known("prod"), Timestamp::UNIX_EPOCH);
        assert_eq!(moves, [moved("n1 ads -> web", Timestamp::UNIX_EPOCH).expect("a move")]);
    }
}
