//! Hostile repositories: each gets a clear error or works, in bounded time, and the same verdict from files and from git.

mod dumps;
mod numbers;
mod text;
mod tree;
mod trees;
mod yaml;

use serde_json::Value;

use crate::support::limit::drover_within;
use crate::support::run::Ran;
use crate::support::state::State;

/// Seconds that no run may take; a safety net far above what any of them needs.
const LIMIT: u32 = 60;

/// A colour that no output of drover uses, for states that try to bring it there.
const MARK: &str = "[13;37m";

/// The beginning of every Node document of these tests.
const NODE: &str = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n1, cluster: prod}\n";

/// A valid state of one cluster and its node `n0`.
fn sound() -> State {
    let state = State::new();
    state.cluster("prod", "{file: ../live.yaml}").node("prod", "n0", "{devices: {cpu: true}}");
    state.write("live.yaml", "kind: NodeList\nitems:\n- metadata: {name: n0}\n- metadata: {name: n1}\n");
    state
}

/// A valid state, and a file `state/x.yaml`.
fn with(content: impl AsRef<[u8]>) -> State {
    let state = sound();
    state.write("state/x.yaml", content);
    state
}

/// What drover says of a state.
#[derive(Debug)]
struct Verdict {
    valid: bool,
    documents: u64,
    problems: Vec<Value>,
}

impl Verdict {
    #[track_caller]
    fn read(ran: &Ran) -> Self {
        let json = ran.json();
        let valid = json["valid"].as_bool().expect("a verdict");
        assert_eq!(ran.code, i32::from(!valid), "the exit code tells the verdict:\n{ran:?}");
        let problems = json["problems"].as_array().expect("problems").clone();
        Self { valid, documents: json["documents"].as_u64().expect("a number"), problems }
    }

    /// The state is valid, and has so many documents beside the two that it began with.
    #[track_caller]
    fn accepted(&self, documents: u64) {
        assert!(self.valid, "{self:#?}");
        assert_eq!(self.documents, documents + 2, "{self:#?}");
    }

    /// The state is refused for one reason: a rule, a file, a line (0 where there is none), and words of the message.
    #[track_caller]
    fn refused(&self, rule: &str, file: &str, line: u64, says: &str) {
        assert!(!self.valid && self.problems.len() == 1, "{self:#?}");
        let problem = &self.problems[0];
        assert_eq!(
            (&problem["rule"], &problem["file"], &problem["line"]),
            (&rule.into(), &file.into(), &line.into()),
            "{problem:#}"
        );
        let message = format!("{} {}", problem["message"], problem["help"]);
        assert!(message.contains(says), "{says:?} is not said:\n{problem:#}");
    }
}

/// Validates and plans a state; both must come to the same verdict.
#[track_caller]
fn judged(state: &State, arguments: &[&str]) -> Verdict {
    let json = drover_within(LIMIT, state.root(), &[&["validate", "--format", "json"], arguments].concat());
    let verdict = Verdict::read(&json);
    let plan = drover_within(LIMIT, state.root(), &[&["--color", "always", "plan"], arguments].concat());
    let plan = plan.expect(json.code);
    for problem in &verdict.problems {
        let rule = problem["rule"].as_str().expect("a rule");
        assert!(plan.err.contains(rule), "{rule} is not shown:\n{}", plan.err);
    }
    is_fit_for_a_terminal(&json, &verdict);
    is_fit_for_a_terminal(&plan, &verdict);
    verdict
}

/// An output is no longer than a person can stand, and holds nothing for a terminal to obey but drover's own colours.
#[track_caller]
fn is_fit_for_a_terminal(ran: &Ran, verdict: &Verdict) {
    for shown in [&ran.out, &ran.err] {
        assert!(shown.len() < 30_000 + 1_000 * verdict.problems.len(), "{} bytes: {shown:.2000}", shown.len());
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\u{1b}';
        assert!(!shown.contains(obeyed), "a terminal would obey this: {shown:?}");
        let is_colour = |rest: &str| {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '[' | ';'))).unwrap_or(0);
            rest.starts_with('[') && rest[end..].starts_with('m') && !rest.starts_with(MARK)
        };
        assert!(shown.split('\u{1b}').skip(1).all(is_colour), "escape sequences that are not drover's: {shown:?}");
    }
}

/// Judges a state as files and as a commit; the verdict must be the same.
#[track_caller]
fn judge(state: &State) -> Verdict {
    let folder = judged(state, &[]);
    if !state.path(".git").exists() {
        state.commit("hostile");
    }
    let git = judged(state, &["--rev", "HEAD"]);
    assert_eq!((git.valid, git.documents), (folder.valid, folder.documents), "git: {git:#?}\nfolder: {folder:#?}");
    assert_eq!(git.problems, folder.problems, "git and folder differ");
    folder
}
