//! New machines: the script that follows from the state really runs, in a tree with mounts and processes of its own.

mod hostile;
mod machine;
mod runs;
mod states;
mod storage;
mod words;
