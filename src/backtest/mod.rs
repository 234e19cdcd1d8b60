mod cube;
mod demand;
mod fleet;
mod pool;
pub mod replay;
pub mod trace;
