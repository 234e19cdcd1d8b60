//! What went wrong, in words for a person: the message, its causes, and what to do.

use std::error::Error as StdError;
use std::fmt;

/// An error that a person meets. It names the object, keeps causes apart from advice, and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure without a cause of its own.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None }
    }

    /// A failure with the chain of errors that led to it.
    pub fn caused(message: impl Into<String>, cause: &(dyn StdError + 'static)) -> Self {
        let mut failure = Self::new(message);
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Libraries repeat their source in their own message; once is enough.
            if !failure.causes.iter().any(|known| known.contains(&text)) {
                failure.causes.push(text);
            }
            next = error.source();
        }
        failure
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was being done when it happened.
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What to do, where there is advice.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in self.causes.iter().filter(|cause| !self.message.contains(cause.as_str())) {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Failure {}
