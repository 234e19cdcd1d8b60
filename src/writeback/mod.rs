//! What is written back into the state repository: decisions, the edits that they ask for, and the words of a commit.
//!
//! Nothing here touches a repository; `engine::write_back` commits and pushes.

mod decision;
mod edits;
mod message;

pub use decision::{Decision, Standing};
pub use edits::{FileEdit, edits, only_moved};
pub use message::{Trailers, is_of, message, reason, subject, told, trailers};
