//! drover keeps the machines of Kubernetes clusters as a git repository says.
//!
//! Data flows one way, and each room knows only the rooms before it:
//!
//! ```text
//! model      nouns: what a state can say, what a cluster can be seen to be
//!   ├─ manifest   YAML text to model and back, problems with line and column, schemas
//!   ├─ plan       desired against observed: changes, guards; pure, nothing rendered
//!   ├─ rebalance  a recorded input to a decision, pure
//!   ├─ backtest   a job trace replayed under policies, pure
//!   ├─ bootstrap  a machine of the state to the script that sets it up, and what can be seen of it; pure
//!   ├─ storage    what was seen of a machine's storage to a verdict, pure
//!   └─ writeback  a decision to edits of the state and the words of a commit
//!        └─ adapters   the only I/O: files, git, kube, the machine of an agent, dumps, messages to webhooks
//!             ├─ agent      on each machine: looks at its storage, makes what is missing, reports
//!             └─ engine     one pass: load, observe, plan, guard, apply
//!                  └─ report     what people read: text, Markdown, HTML, notices
//!                       ├─ daemon     follows the state, watches the clusters, heals
//!                       ├─ web        what others ask of the daemon: how it stands, and webhooks of git servers
//!                       └─ commands   one file per subcommand; ui is the only writer to the terminal
//! ```
//!
//! ARCHITECTURE.md tells the reasons.

pub mod adapters;
pub mod agent;
pub mod backtest;
pub mod bootstrap;
pub mod commands;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod rebalance;
pub mod report;
pub mod storage;
pub mod ui;
pub mod web;
pub mod writeback;
