//! Revisions that do not come into force, and why.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::adapters::git::Distrust;
use crate::manifest::Problem;
use crate::plan::Commit;

/// Problems of one refused revision that are kept; more would help nobody.
const MOST_PROBLEMS: usize = 50;

/// A revision that does not come into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRevision {
    /// The whole id of the commit, or the folder.
    pub revision: String,
    /// Who wrote the commit; none of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Why it is refused.
    pub reason: RefusalReason,
}

/// Why a revision does not come into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RefusalReason {
    /// The state does not validate.
    Invalid {
        /// The first of its problems, ordered by file and line.
        problems: Vec<Problem>,
        /// How many errors there are in all.
        errors: usize,
    },
    /// Signatures are asked for, and it has none.
    Unsigned,
    /// It is signed by a key that is not allowed to.
    ForeignSignature {
        /// The key.
        signer: String,
    },
    /// Its signature proves nothing.
    BadSignature {
        /// What is wrong with it, and whose it was.
        why: String,
    },
    /// It does not lead on from the revision in force: the branch was rewound or forced.
    Rewound {
        /// The commit that stays in force.
        in_force: String,
    },
    /// None of so many newer revisions can be used, and neither this one nor any before it was looked at.
    TooFar {
        /// How many were looked at.
        looked_at: usize,
    },
}

impl RefusalReason {
    /// The state has these problems, errors among them.
    pub(super) fn invalid(mut problems: Vec<Problem>) -> Self {
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        // Warnings refuse nothing.
        problems.retain(Problem::is_error);
        problems.truncate(MOST_PROBLEMS);
        Self::Invalid { problems, errors }
    }

    /// Every word that [`Self::category`] has.
    pub const CATEGORIES: [&str; 6] =
        ["invalid", "unsigned", "foreign-signature", "bad-signature", "rewound", "too-far"];

    /// A word for it that never changes, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Unsigned => "unsigned",
            Self::ForeignSignature { .. } => "foreign-signature",
            Self::BadSignature { .. } => "bad-signature",
            Self::Rewound { .. } => "rewound",
            Self::TooFar { .. } => "too-far",
        }
    }
}

impl RefusedRevision {
    /// The problems of its state, a line each, as far as they are kept.
    pub fn problems(&self) -> Vec<String> {
        let RefusalReason::Invalid { problems, .. } = &self.reason else { return Vec::new() };
        problems.iter().map(line).collect()
    }
}

/// A problem in one line.
fn line(problem: &Problem) -> String {
    match problem {
        Problem { file, line: 0, message, .. } if file.is_empty() => message.clone(),
        Problem { file, line: 0, message, .. } => format!("{file}: {message}"),
        Problem { file, line, message, .. } => format!("{file}:{line}: {message}"),
    }
}

impl From<Distrust> for RefusalReason {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::Unsigned => Self::Unsigned,
            Distrust::Foreign { signer } => Self::ForeignSignature { signer },
            Distrust::Bad { why } => Self::BadSignature { why },
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { problems, errors } => {
                let s = if *errors == 1 { "" } else { "s" };
                write!(f, "it does not validate ({errors} error{s})")?;
                problems.first().map_or(Ok(()), |first| write!(f, ": {}", line(first)))
            }
            Self::Unsigned => f.write_str("it is not signed"),
            Self::ForeignSignature { signer } => write!(f, "it is signed by {signer}, which is not an allowed signer"),
            Self::BadSignature { why } => f.write_str(why),
            Self::Rewound { in_force } => {
                let short: String = in_force.chars().take(10).collect();
                write!(f, "it does not lead on from {short}, which stays in force: the branch was rewound or forced")
            }
            Self::TooFar { looked_at } => {
                write!(f, "none of the {looked_at} commits after it can be used, and no older one was looked at")
            }
        }
    }
}

impl fmt::Display for RefusedRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.commit {
            Some(Commit { id, author, date, summary }) => {
                write!(f, "commit {id} by {author} on {date} ({summary:?}) is refused: {}", self.reason)
            }
            None => write!(f, "the state in {} is refused: {}", self.revision, self.reason),
        }
    }
}
