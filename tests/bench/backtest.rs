//! The backtest's figures on a real trace, held against their goals, and what each parameter does to them: the tables of
//! BENCHMARKS.md.
//!
//!     cargo bench --bench backtest                      # figures and goals
//!     SENSITIVITY=1 cargo bench --bench backtest        # and each parameter, one at a time
//!     JOBS=philly-dev-matched MACHINES=groups-dev-matched cargo bench --bench backtest   # others below TRACES

#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::process::ExitCode;
use std::time::Instant;

use drover::backtest::{Contender, Gap, Metrics, Outcome, PolicyFigures, Settings, Trace, run};

/// What a run comes to, in the terms of the goals.
struct Figures {
    cube_to_pool: f64,
    static_to_pool: f64,
    moves: f64,
    flaps: f64,
    violations: (f64, f64),
    /// The group whose mean delay grew most against no moves, and by how many seconds.
    worst: (String, f64),
    p99_to_pool: f64,
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn trace(jobs: &str, groups: &str) -> Option<Trace> {
    let folder = variable("TRACES", concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/traces"));
    let read = |name: &str| std::fs::read(format!("{folder}/{name}.csv")).ok();
    let (jobs, groups) = ((jobs, read(jobs)?), (groups, read(groups)?));
    Some(Trace::read((jobs.0, &jobs.1), (groups.0, &groups.1)).expect("a trace"))
}

fn of(outcome: &Outcome, policy: Contender) -> &PolicyFigures {
    &outcome.policies.iter().find(|(other, _)| *other == policy).expect("it was replayed").1
}

/// `bounds` holds `static`, `cube` and `pool`, which no parameter changes.
fn figures(outcome: &Outcome, bounds: &Outcome) -> Figures {
    let metrics = |policy: Contender| -> &Metrics { &of(bounds, policy).metrics };
    let demand = of(outcome, Contender::Demand);
    let closed = |from| Gap::closed(&demand.metrics, metrics(from), metrics(Contender::Pool)).pending_gpu_h;
    let fixed = &of(bounds, Contender::Static).groups;
    let grew = demand.groups.iter().map(|(name, group)| (name.clone(), group.mean_s.mean - fixed[name].mean_s.mean));
    Figures {
        cube_to_pool: closed(Contender::Cube).expect("a gap") * 100.0,
        static_to_pool: closed(Contender::Static).expect("a gap") * 100.0,
        moves: demand.metrics.moves_per_day.mean,
        flaps: demand.metrics.flaps.mean,
        violations: (demand.metrics.violation_min.mean, demand.metrics.effective_violation_min.mean),
        worst: grew.max_by(|a, b| a.1.total_cmp(&b.1)).expect("a group"),
        p99_to_pool: demand.metrics.p99_s.mean / metrics(Contender::Pool).p99_s.mean,
    }
}

/// Tells the figures of a run beside their goals; whether all were reached.
fn goals(figures: &Figures, backfill: bool) -> bool {
    let (cube, fixed) = if backfill { (55.0, 97.0) } else { (85.0, 97.5) };
    let minutes = figures.worst.1 / 60.0;
    let mut rows = vec![
        (
            "CUBE→POOL closed, pending GPU-h",
            format!("{:.1} %", figures.cube_to_pool),
            format!("≥ {cube} %"),
            figures.cube_to_pool >= cube,
        ),
        (
            "STATIC→POOL closed",
            format!("{:.2} %", figures.static_to_pool),
            format!("≥ {fixed} %"),
            figures.static_to_pool >= fixed,
        ),
        ("moves a day", format!("{:.1}", figures.moves), "≤ 65".into(), figures.moves <= 65.0),
        ("flaps", format!("{}", figures.flaps), "0".into(), figures.flaps == 0.0),
        (
            "violations by label and effective, min",
            format!("{}; {}", figures.violations.0, figures.violations.1),
            "0; 0".into(),
            figures.violations == (0.0, 0.0),
        ),
        (
            "largest growth of a group's mean delay",
            format!("{minutes:.0} min ({})", figures.worst.0),
            "≤ 45 min".into(),
            minutes <= 45.0,
        ),
    ];
    if !backfill {
        let goal = figures.p99_to_pool <= 1.05;
        rows.push(("p99 delay, of POOL's", format!("{:.3}", figures.p99_to_pool), "≤ 1.05".into(), goal));
    }
    println!("| | reached | goal | |\n|---|--:|--:|---|");
    for (what, reached, goal, is_reached) in &rows {
        println!("| {what} | {reached} | {goal} | {} |", if *is_reached { "yes" } else { "**no**" });
    }
    rows.iter().all(|(.., is_reached)| *is_reached)
}

/// The figures of all policies, as the reference has them.
fn table(outcome: &Outcome) {
    println!(
        "| policy | mean s | p50 | p95 | p99 | pending GPU-h | moves/day | flaps | violations | non-idle | util |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (policy, figures) in &outcome.policies {
        let m = &figures.metrics;
        let with = |measure: drover::backtest::Measure| match measure.deviation > 0.0 {
            true => format!("{:.0} ± {:.0}", measure.mean, measure.deviation),
            false => format!("{:.0}", measure.mean),
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0}/{:.0} | {} | {:.3} |",
            policy.name(),
            with(m.mean_s),
            with(m.p50_s),
            with(m.p95_s),
            with(m.p99_s),
            with(m.pending_gpu_h),
            m.moves_per_day.mean,
            m.flaps.mean,
            m.violation_min.mean,
            m.effective_violation_min.mean,
            m.moves_nonidle_share.map_or("–".into(), |share| format!("{:.2}", share.mean)),
            m.utilisation.mean,
        );
    }
    println!();
}

type Change = (&'static str, Vec<(&'static str, fn(&mut Settings))>);

/// Each parameter, at its default and at others around it.
fn changes() -> Vec<Change> {
    let share = |share: &'static str, of: fn(&mut Settings)| (share, of);
    vec![
        ("(defaults)", vec![share("", |_| ())]),
        (
            "patience, s",
            vec![
                ("0", |s| s.rules.patience = 0),
                ("60", |s| s.rules.patience = 60),
                ("90", |s| s.rules.patience = 90),
                ("150", |s| s.rules.patience = 150),
                ("200", |s| s.rules.patience = 200),
                ("300", |s| s.rules.patience = 300),
            ],
        ),
        ("pendingAfter, s", vec![("60", |s| s.rules.pending_after = 60), ("300", |s| s.rules.pending_after = 300)]),
        (
            "cooldown, s",
            vec![
                ("900", |s| s.rules.cooldown = 900),
                ("1800", |s| s.rules.cooldown = 1800),
                ("7200", |s| s.rules.cooldown = 7200),
            ],
        ),
        (
            "maxMoves",
            vec![
                ("1", |s| s.rules.max_moves = 1),
                ("3", |s| s.rules.max_moves = 3),
                ("5", |s| s.rules.max_moves = 5),
                ("30", |s| s.rules.max_moves = 30),
            ],
        ),
        ("dailyMoves", vec![("30", |s| s.rules.daily_moves = Some(30)), ("60", |s| s.rules.daily_moves = Some(60))]),
        ("idleOnly", vec![("true", |s| s.rules.idle_only = true)]),
        (
            "tick, s",
            vec![
                ("60", |s| s.tick = 60),
                ("150", |s| s.tick = 150),
                ("450", |s| s.tick = 450),
                ("600", |s| s.tick = 600),
            ],
        ),
        (
            "guarantee",
            vec![
                ("0 %", |s| s.min_share = 0.0),
                ("15 %", |s| s.min_share = 0.15),
                ("35 %", |s| s.min_share = 0.35),
                ("50 %", |s| s.min_share = 0.5),
            ],
        ),
        (
            "weights.served",
            vec![
                ("0", |s| s.rules.weights.served = 0),
                ("1", |s| s.rules.weights.served = 1),
                ("2", |s| s.rules.weights.served = 2),
                ("5", |s| s.rules.weights.served = 5),
            ],
        ),
        (
            "weights.leftBehind",
            vec![
                ("0", |s| s.rules.weights.left_behind = 0),
                ("1", |s| s.rules.weights.left_behind = 1),
                ("2", |s| s.rules.weights.left_behind = 2),
                ("5", |s| s.rules.weights.left_behind = 5),
            ],
        ),
        (
            "weights.regained",
            vec![
                ("0", |s| s.rules.weights.regained = 0),
                ("2", |s| s.rules.weights.regained = 2),
                ("3", |s| s.rules.weights.regained = 3),
            ],
        ),
        (
            "weights.home",
            vec![
                ("0", |s| s.rules.weights.home = 0),
                ("2", |s| s.rules.weights.home = 2),
                ("3", |s| s.rules.weights.home = 3),
            ],
        ),
        (
            "weights.belowHome",
            vec![
                ("1", |s| s.rules.weights.below_home = 1),
                ("2", |s| s.rules.weights.below_home = 2),
                ("4", |s| s.rules.weights.below_home = 4),
            ],
        ),
        (
            "weights.ageOffset, s",
            vec![
                ("0", |s| s.rules.weights.age_offset = 0),
                ("1200", |s| s.rules.weights.age_offset = 1200),
                ("3600", |s| s.rules.weights.age_offset = 3600),
            ],
        ),
        (
            "weights.exchangeGain, %",
            vec![
                ("0", |s| s.rules.weights.exchange_gain = 0),
                ("20", |s| s.rules.weights.exchange_gain = 20),
                ("30", |s| s.rules.weights.exchange_gain = 30),
                ("60", |s| s.rules.weights.exchange_gain = 60),
                ("no exchanges", |s| s.rules.weights.exchange_gain = 101),
            ],
        ),
    ]
}

/// What each parameter does, with the others at their defaults.
fn sensitivity(trace: &Trace, bounds: [&Outcome; 2]) {
    println!(
        "| parameter | | CUBE→POOL | STATIC→POOL | moves/day | lender, min | p99/POOL | backfill: CUBE→POOL | STATIC→POOL | moves/day | lender, min | flaps |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (name, values) in changes() {
        for (value, change) in values {
            let of = |backfill: bool| {
                let mut settings = Settings { backfill, ..Settings::default() };
                change(&mut settings);
                let outcome = run(trace, &settings, &[Contender::Demand], || ());
                figures(&outcome, bounds[usize::from(backfill)])
            };
            let (fifo, back) = (of(false), of(true));
            let broken = [fifo.violations, back.violations].iter().map(|(label, real)| label + real).sum::<f64>();
            assert_eq!(broken, 0.0, "{name} {value}: a guarantee was broken");
            println!(
                "| {name} | {value} | {:.1} % | {:.2} % | {:.1} | {:.0} | {:.3} | {:.1} % | {:.2} % | {:.1} | {:.0} | {:.0} |",
                fifo.cube_to_pool,
                fifo.static_to_pool,
                fifo.moves,
                fifo.worst.1 / 60.0,
                fifo.p99_to_pool,
                back.cube_to_pool,
                back.static_to_pool,
                back.moves,
                back.worst.1 / 60.0,
                fifo.flaps + back.flaps,
            );
        }
    }
}

fn main() -> ExitCode {
    let (jobs, groups) = (variable("JOBS", "philly-dev"), variable("MACHINES", "groups-dev"));
    let Some(trace) = trace(&jobs, &groups) else {
        println!("skipped: there is no trace {jobs} with {groups}");
        return ExitCode::SUCCESS;
    };
    let mut all = true;
    let bounds = [false, true].map(|backfill| {
        let settings = Settings { backfill, ..Settings::default() };
        let begun = Instant::now();
        let outcome = run(&trace, &settings, &Contender::ALL, || ());
        let took = begun.elapsed();
        println!("\n{jobs}, {groups}, {}: {:.1} s\n", if backfill { "backfill" } else { "FIFO" }, took.as_secs_f64());
        table(&outcome);
        all &= goals(&figures(&outcome, &outcome), backfill);
        outcome
    });
    if std::env::var_os("SENSITIVITY").is_some() {
        println!();
        sensitivity(&trace, [&bounds[0], &bounds[1]]);
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
