//! Any bytes as a state file: no panic, no hang, and what was read can be written and read again.
#![no_main]

use drover::manifest::{link, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(&"state.yaml".into(), bytes);
    let linked = link(&parsed.documents, &parsed.broken, jiff::Timestamp::UNIX_EPOCH, None);
    for problem in parsed.problems.iter().chain(&linked.problems) {
        assert!(!problem.message.is_empty());
    }
    drover::report::problems_text(&parsed.problems, "state");
    for document in parsed.documents {
        let text = document.manifest.write().expect("what was read can be written");
        let again = parse(&"state.yaml".into(), text.as_bytes());
        assert!(again.problems.is_empty(), "{text}\n{:?}", again.problems);
        assert_eq!(again.documents[0].manifest, document.manifest);
    }
});
