//! A backtest, for programs and as text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::style::{STYLES, clean, count, paint};
use crate::backtest::{Contender, Gap, Measure, Metrics, Outcome, PolicyFigures, Settings, Trace};

/// The version of the JSON form.
const VERSION: &str = "drover.dev/backtest/v1";

/// What replaying a trace under policies came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "drover backtest")]
pub struct BacktestReport {
    /// The version of this form: `drover.dev/backtest/v1`.
    pub version: String,
    /// What was replayed.
    pub trace: TraceReport,
    /// How it was replayed.
    pub settings: Settings,
    /// The figures by policy: means and deviations over the phases.
    pub policies: BTreeMap<Contender, PolicyFigures>,
    /// How much of the way to `pool` each policy went, where `pool` was replayed.
    pub gaps: BTreeMap<Contender, Gaps>,
    /// What a reader should know about these figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What was replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceReport {
    /// Jobs of the trace.
    pub jobs: usize,
    /// Those that are counted: submitted between the warm-up and the horizon.
    pub counted: usize,
    /// Rows that were passed over because they ask for no GPU.
    pub without_gpus: usize,
    /// Machines.
    pub nodes: usize,
    /// Their GPUs.
    pub gpus: u64,
    /// The groups at the begin.
    pub groups: BTreeMap<String, GroupReport>,
}

/// A group at the begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupReport {
    /// Its machines.
    pub nodes: u32,
    /// GPUs of each of them.
    pub gpus_per_node: u32,
    /// The fewest machines that it must keep.
    pub minimum: u32,
}

/// How much of the way to `pool` a policy went; 1 is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gaps {
    /// From `static`; none where that was not replayed.
    pub static_to_pool: Option<Gap>,
    /// From `cube`; none where that was not replayed.
    pub cube_to_pool: Option<Gap>,
}

impl BacktestReport {
    /// The report of a run.
    pub fn new(trace: &Trace, settings: &Settings, outcome: &Outcome) -> Self {
        let groups = trace.groups.iter().map(|group| {
            let minimum = settings.minimum(group.nodes);
            (group.name.clone(), GroupReport { nodes: group.nodes, gpus_per_node: group.size, minimum })
        });
        let counted = i64::from(settings.warmup)..i64::from(settings.horizon);
        let counted = trace.jobs.iter().filter(|job| counted.contains(&job.submit)).count();
        let policies: BTreeMap<Contender, PolicyFigures> = outcome.policies.iter().cloned().collect();
        Self {
            version: VERSION.to_owned(),
            trace: TraceReport {
                jobs: trace.jobs.len(),
                counted,
                without_gpus: trace.without_gpus,
                nodes: trace.nodes(),
                gpus: trace.gpus(),
                groups: groups.collect(),
            },
            settings: settings.clone(),
            gaps: gaps(&policies),
            policies,
            notes: notes(trace, settings, counted),
        }
    }
}

fn gaps(policies: &BTreeMap<Contender, PolicyFigures>) -> BTreeMap<Contender, Gaps> {
    let metrics = |policy| policies.get(&policy).map(|figures| &figures.metrics);
    let Some(pool) = metrics(Contender::Pool) else { return BTreeMap::new() };
    let between = policies.iter().filter(|(policy, _)| **policy != Contender::Pool);
    let gaps = between.map(|(&policy, figures)| {
        let from = |bound: Contender| {
            let worse = metrics(bound).filter(|_| bound < policy);
            worse.map(|worse| Gap::closed(&figures.metrics, worse, pool))
        };
        (policy, Gaps { static_to_pool: from(Contender::Static), cube_to_pool: from(Contender::Cube) })
    });
    gaps.filter(|(_, gaps)| gaps.static_to_pool.is_some() || gaps.cube_to_pool.is_some()).collect()
}

/// What would make the figures say something else than they seem to.
fn notes(trace: &Trace, settings: &Settings, counted: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if counted == 0 {
        notes.push("no job is submitted between the warm-up and the horizon, so there are no delays".to_owned());
    }
    if trace.without_gpus > 0 {
        notes.push(format!("{} without GPUs passed over", count(trace.without_gpus, "job")));
    }
    let horizon = i64::from(settings.horizon);
    let late = trace.jobs.iter().filter(|job| job.submit >= horizon).count();
    if late > 0 {
        notes.push(format!("{} submitted after the horizon left out; a later --horizon has them", count(late, "job")));
    }
    let last = trace.jobs.last().map_or(0, |job| job.submit);
    if last < horizon * 9 / 10 {
        let text = format!("the last job is submitted after {}, long before the horizon", length(last as f64));
        notes.push(format!("{text}; --horizon {} counts no idle time after it", last + 1));
    }
    for group in &trace.groups {
        let index = trace.groups.iter().position(|other| other == group);
        let most = u64::from(group.nodes) * u64::from(group.size);
        let of_group = trace.jobs.iter().filter(|job| Some(job.group as usize) == index);
        let large = of_group.filter(|job| u64::from(job.gpus) > most).count();
        if large > 0 {
            let ask = if large == 1 { "asks" } else { "ask" };
            let (jobs, name) = (count(large, "job"), clean(&group.name));
            notes.push(format!(
                "{jobs} of {name} {ask} for more GPUs than the group begins with, and hold up its queue"
            ));
        }
    }
    notes
}

/// A backtest as text: the figures of all jobs, the gaps closed, and the delays of each group.
pub fn backtest_text(report: &BacktestReport) -> String {
    let BacktestReport { trace, settings, policies, .. } = report;
    let queue = if settings.backfill { "backfill" } else { "first in, first out" };
    let mut text = format!(
        "{} of {} on {} with {} GPUs; {} counted from {} to {}\n{queue}, each group keeps {:.0} %, a decision every {} s, \
         mean ± deviation of {}\n\n",
        count(trace.jobs, "job"),
        count(trace.groups.len(), "group"),
        count(trace.nodes, "machine"),
        trace.gpus,
        trace.counted,
        length(settings.warmup.into()),
        length(settings.horizon.into()),
        settings.min_share * 100.0,
        settings.tick,
        count(settings.phases as usize, "phase"),
    );
    let mut table =
        Table::new(std::iter::once(String::new()).chain(policies.keys().map(|policy| policy.name().into())));
    for (name, digits, of) in ROWS {
        let cells = policies.values().map(|figures| of(&figures.metrics).map_or("–".into(), |m| measured(m, digits)));
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    for (name, of) in GAPS {
        if report.gaps.values().any(|gaps| of(gaps).is_some()) {
            let cells = policies.keys().map(|policy| percent(report.gaps.get(policy).and_then(of)));
            table.row(std::iter::once(name.to_owned()).chain(cells));
        }
    }
    text += &table.text();
    text += &format!("\n{}\n", paint(STYLES.bold, "mean delay of each group's jobs"));
    text + &groups_table(report).text()
}

/// The rows of the table: what they are called, the digits shown, and where they are.
pub(super) const ROWS: [Shown; 11] = [
    ("mean delay, s", 0, |m| Some(m.mean_s)),
    ("median delay, s", 0, |m| Some(m.p50_s)),
    ("95 % wait less than, s", 0, |m| Some(m.p95_s)),
    ("99 % wait less than, s", 0, |m| Some(m.p99_s)),
    ("pending GPU-hours", 0, |m| Some(m.pending_gpu_h)),
    ("moves a day", 1, |m| Some(m.moves_per_day)),
    ("flaps", 1, |m| Some(m.flaps)),
    ("under the minimum, min", 0, |m| Some(m.violation_min)),
    ("… effectively, min", 0, |m| Some(m.effective_violation_min)),
    ("moves of busy machines", 2, |m| m.moves_nonidle_share),
    ("utilisation", 3, |m| Some(m.utilisation)),
];

type ShownGap = (&'static str, fn(&Gaps) -> Option<f64>);
type Shown = (&'static str, usize, fn(&Metrics) -> Option<Measure>);

/// The gaps that are shown.
pub(super) const GAPS: [ShownGap; 4] = [
    ("STATIC→POOL closed, GPU-hours", |gaps| gaps.static_to_pool?.pending_gpu_h),
    ("STATIC→POOL closed, mean delay", |gaps| gaps.static_to_pool?.mean_s),
    ("CUBE→POOL closed, GPU-hours", |gaps| gaps.cube_to_pool?.pending_gpu_h),
    ("CUBE→POOL closed, mean delay", |gaps| gaps.cube_to_pool?.mean_s),
];

pub(super) fn measured(measure: Measure, digits: usize) -> String {
    let Measure { mean, deviation } = measure;
    match deviation > 0.0 {
        true => format!("{mean:.digits$} ± {deviation:.digits$}"),
        false => format!("{mean:.digits$}"),
    }
}

pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or("–".into(), |part| format!("{:.1} %", part * 100.0))
}

/// Each group's mean delay under each policy, and how `demand` differs from what the group had without it.
pub(super) fn groups_table(report: &BacktestReport) -> Table {
    let policies = &report.policies;
    let compares = policies.contains_key(&Contender::Static) && policies.contains_key(&Contender::Demand);
    let titles = ["group", "machines", "jobs"].map(String::from).into_iter();
    let titles = titles.chain(policies.keys().map(|policy| policy.name().into()));
    let mut table = Table::new(titles.chain(compares.then(|| "demand − static".into())));
    for (name, group) in &report.trace.groups {
        let mean = |policy: Contender| Some(policies.get(&policy)?.groups.get(name)?.mean_s.mean);
        let jobs = policies.values().next().and_then(|figures| figures.groups.get(name)).map_or(0, |group| group.jobs);
        let cells = [clean(name), group.nodes.to_string(), jobs.to_string()].into_iter();
        let cells = cells.chain(policies.keys().map(|&policy| mean(policy).map_or("–".into(), length)));
        let difference = mean(Contender::Demand).zip(mean(Contender::Static)).map(|(demand, fixed)| demand - fixed);
        let difference = difference.map(|more| format!("{}{}", if more < 0.0 { "−" } else { "+" }, length(more.abs())));
        table.row(cells.chain(difference));
    }
    table
}

/// A length of time for people.
pub(super) fn length(seconds: f64) -> String {
    let whole = seconds.round() as i64;
    match whole {
        ..=119 => format!("{whole} s"),
        120..=7199 => format!("{} min", whole / 60),
        7200..=172_799 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Cells in columns; the first column is aligned to the left, the others to the right.
pub(super) struct Table {
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    fn new(titles: impl Iterator<Item = String>) -> Self {
        Self { rows: vec![titles.collect()] }
    }

    fn row(&mut self, cells: impl Iterator<Item = String>) {
        self.rows.push(cells.collect());
    }

    fn text(&self) -> String {
        let wide = |text: &String| text.chars().count();
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(wide).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            text += &if index == 0 { paint(STYLES.bold, line) } else { line };
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_precise_as_they_need_to_be() {
        let shown = [0.4, 119.0, 120.0, 7199.0, 7260.0, 172_800.0, 478_936.0].map(length);
        assert_eq!(shown, ["0 s", "119 s", "2 min", "119 min", "2 h 01 min", "2 d 00 h", "5 d 13 h"]);
    }
}
