//! Notices: what receivers get, word for word, and how drover behaves when they are slow, broken or gone.

mod bodies;
pub(crate) mod receiver;
mod sending;
