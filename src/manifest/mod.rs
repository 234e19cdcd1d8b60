//! YAML text to model and back: parsing with positions, problems for people, cross-checks, schemas and writing.
//!
//! `yaml` reads text into values that remember their place, `decode` turns those into documents and collects every
//! problem on the way, `link` joins the documents of a repository into the desired state.

pub mod adopt;
mod binds;
pub mod crd;
pub mod decode;
pub mod edit;
mod hints;
pub mod link;
pub mod problem;
pub mod rke;
pub mod schema;
pub mod write;
pub mod yaml;

pub use decode::{Document, Parsed, parse};
pub use link::{Linked, link};
pub use problem::{Problem, Severity};
