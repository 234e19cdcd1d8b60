//! The binds of kubelets: RKE's record and Rancher's objects on real API servers. Only the programs `rke` and Rancher itself
//! are played, by a script and by a thread.

mod daemon;
mod rancher;
mod rke;
mod support;
