//! What people read: problems, plans, apply reports and status, as text, Markdown and HTML; notices as messages.
//!
//! Text carries ANSI styles; whoever prints it strips them where they are not wanted.

mod audit;
mod backtest;
mod backtest_html;
mod binds;
mod bootstrap;
mod daemon;
mod explain;
mod group;
mod html;
mod markdown;
mod moves;
mod notice;
mod outcome;
mod plan;
mod problems;
mod rebalance;
mod status;
mod style;

pub use audit::audit_text;
pub use backtest::{BacktestReport, backtest_text};
pub use backtest_html::backtest_html;
pub use bootstrap::setup_text;
pub use daemon::{
    Check, ClusterReport, DaemonStatus, Freshness, NodeCounts, RefusedReport, SyncStatus, TenureReport, daemon_html,
    daemon_text,
};
pub use explain::{BindExplanation, Explanation, LabelExplanation, explain, explain_binds, explain_text};
pub use html::html;
pub use markdown::{MARKDOWN_LIMIT, markdown};
pub use moves::{MoveOutcome, MoveReport, move_text};
pub use notice::notice_body;
pub use outcome::{outcome_text, summary_line};
pub use plan::{PlanView, plan_text};
pub use problems::{github, problems_text, verdict};
pub use rebalance::{ClusterRebalance, RebalanceReport, rebalance_text};
pub use status::{ClusterStatus, NodeState, NodeStatus, Status, StorageStatus, status, status_text};
pub use style::{STYLES, clean, count};
