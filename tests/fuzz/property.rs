//! What must hold of any bytes as a state file. The fuzz target and the short deterministic run of the tests share it.

use drover::manifest::{link, parse};
use drover::report::problems_text;

/// No panic and no hang; every problem says what to do; what was read can be written and read again. Returns how many
/// documents were read, and whether there was anything wrong.
pub(crate) fn holds(bytes: &[u8]) -> (usize, bool) {
    let parsed = parse(&"state.yaml".into(), bytes);
    let linked = link(&parsed.documents, &parsed.broken, jiff::Timestamp::UNIX_EPOCH, None);
    for problem in parsed.problems.iter().chain(&linked.problems) {
        let says = problem.help.as_ref().is_some_and(|help| !help.is_empty());
        assert!(says && !problem.message.is_empty(), "{problem:?}");
    }
    problems_text(&parsed.problems, "state");
    problems_text(&linked.problems, "state");
    for document in &parsed.documents {
        let text = document.manifest.write().expect("what was read can be written");
        let again = parse(&"state.yaml".into(), text.as_bytes());
        assert!(again.problems.is_empty(), "{text}\n{:?}", again.problems);
        assert_eq!(again.documents[0].manifest, document.manifest, "{text}");
    }
    (parsed.documents.len(), !parsed.problems.is_empty())
}
