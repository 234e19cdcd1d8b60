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
        assert_eq!((&problem["rule"], &problem["file"], &problem["line"]), (&rule.into(), &file.into(), &line.into()), "{problem:#}");
        let message = format!("{} {}", problem["message"], problem["help"]);
        assert!(message.contains(says), "{says:?} is not said:\n{problem:#}");
    }
}

/// Judges a state in its folder: as JSON, as text, as annotations, and by planning it.
#[track_caller]
fn judged(state: &State, arguments: &[&str]) -> Verdict {
    let run = |command: &[&str]| drover_within(LIMIT, state.root(), &[command, arguments].concat());
    let json = run(&["validate", "--format", "json"]);
    let verdict = Verdict::read(&json);
    let plan = run(&["--color", "always", "plan"]).expect(json.code);
    let text = run(&["--color", "always", "validate"]).expect(json.code);
    let github = run(&["validate", "--format", "github"]).expect(json.code);
    for problem in &verdict.problems {
        let rule = problem["rule"].as_str().expect("a rule");
        assert!(text.out.contains(rule) && plan.err.contains(rule), "{rule} is not shown:\n{}", text.out);
    }
    for (ran, most) in [(&json, 60_000), (&text, 60_000), (&github, 60_000), (&plan, 60_000)] {
        for shown in [&ran.out, &ran.err] {
            assert!(shown.len() < most, "{} bytes are too many to read: {:.2000}", shown.len(), shown);
            let obeyed = |c: char| c.is_control() && c != '\n' && c != '\u{1b}';
            assert!(!shown.contains(obeyed), "a terminal would obey this: {shown:?}");
            let ours = |rest: &str| rest.starts_with('[') && rest.trim_start_matches(['[', ';']).starts_with(|c: char| c.is_ascii_digit());
            assert!(shown.split('\u{1b}').skip(1).all(ours), "escape sequences that are not drover's: {shown:?}");
            assert!(!shown.contains("\u{1b}[13;37m"), "a colour from the state: {shown:?}");
        }
    }
    verdict
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
