//! How a new machine is set up before it joins: the state to ordered steps, steps to a script, and what a cluster's API can
//! see of it afterwards.
//!
//! The script is bash that is kept in `script/`, as it is run; what comes from the state goes into it as quoted words, and
//! nowhere else.

mod facts;
mod images;
mod quote;
mod script;
mod steps;

pub use facts::{Lack, lacks};
pub use images::{BadLine, Listed, Lists, images_of, read_list};
pub use quote::quote;
pub use script::script;
pub use steps::{Setup, Step, setup};
