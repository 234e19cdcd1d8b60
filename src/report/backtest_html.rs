//! A backtest as one HTML page with plots that needs nothing else.

use std::fmt::Display;
use std::ops::Range;

use askama::Template;
use plotters::coord::Shift;
use plotters::prelude::{
    AreaSeries, ChartBuilder, ChartContext, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, RGBColor,
    SVGBackend,
};
use plotters::style::{Color, TextStyle};

use super::backtest::{BacktestReport, GAPS, ROWS, groups_table, length, measured, percent};
use crate::backtest::{Contender, Curve, Outcome, Series};
use crate::error::Failure;

/// The size of a plot; the page scales it.
const SIZE: (u32, u32) = (960, 320);
/// Text and axes: readable on light and dark ground.
const INK: RGBColor = RGBColor(128, 128, 128);
/// Colours that are told apart with every kind of colour vision (Okabe and Ito), darkened or lightened for both grounds.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(190, 180, 50),
    RGBColor(130, 130, 130),
];

#[derive(Template)]
#[template(path = "backtest.html")]
struct Page<'r> {
    report: &'r BacktestReport,
    policies: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<String>)>,
    groups: Vec<Vec<String>>,
    plots: Vec<Plot>,
    warmup: String,
    horizon: String,
    percent: String,
}

struct Plot {
    title: String,
    about: &'static str,
    legend: Vec<(String, String)>,
    svg: String,
}

/// A backtest as one HTML page, without anything loaded from elsewhere.
pub fn backtest_html(report: &BacktestReport, outcome: &Outcome) -> Result<String, Failure> {
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, digits, of) in ROWS {
        let cells = report.policies.values();
        let cells = cells.map(|figures| of(&figures.metrics).map_or("–".into(), |measure| measured(measure, digits)));
        rows.push((name, cells.collect()));
    }
    for (name, of) in GAPS {
        if report.gaps.values().any(|gaps| of(gaps).is_some()) {
            let cells = report.policies.keys().map(|policy| percent(report.gaps.get(policy).and_then(of)));
            rows.push((name, cells.collect()));
        }
    }
    let page = Page {
        policies: report.policies.keys().map(|policy| policy.name()).collect(),
        rows,
        groups: groups_table(report).rows,
        plots: plots(report, outcome).map_err(|text| Failure::new(format!("cannot draw a plot: {text}")))?,
        warmup: length(report.settings.warmup.into()),
        horizon: length(report.settings.horizon.into()),
        percent: format!("{:.0}", report.settings.min_share * 100.0),
        report,
    };
    let page = page.render().map_err(|error| Failure::caused("cannot write the page", &error))?;
    Ok(page.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"))
}

fn plots(report: &BacktestReport, outcome: &Outcome) -> Result<Vec<Plot>, String> {
    let series = &outcome.series;
    let of_policies = || series.iter().map(|(policy, _)| (policy.name().to_owned(), hex(colour_of(*policy)))).collect();
    let mut plots = vec![
        Plot {
            title: "Queue".into(),
            about: "GPUs that waiting jobs ask for, over the days of the first replay.",
            legend: of_policies(),
            svg: queue(series)?,
        },
        Plot {
            title: "Delays".into(),
            about: "The part of the jobs that started within a time. Higher and further left is better.",
            legend: of_policies(),
            svg: delays(series)?,
        },
    ];
    let names: Vec<&String> = report.trace.groups.keys().collect();
    for (policy, series) in series.iter().filter(|(policy, _)| matches!(policy, Contender::Cube | Contender::Demand)) {
        plots.push(Plot {
            title: format!("Machines of each group under {}", policy.name()),
            about: "Machines by label, over the days of the first replay.",
            legend: names.iter().zip(0..).map(|(name, at)| ((*name).clone(), hex(nth_colour(at)))).collect(),
            svg: machines(&series.nodes)?,
        });
    }
    Ok(plots)
}

fn queue(series: &[(Contender, Series)]) -> Result<String, String> {
    let curves: Vec<(RGBColor, Curve)> =
        series.iter().map(|(policy, series)| (colour_of(*policy), in_days(&series.queued))).collect();
    let most = curves.iter().flat_map(|(_, curve)| curve).map(|&(_, queued)| queued).fold(1.0, f64::max);
    draw(|area| {
        let mut chart = chart(area, days(curves.iter().map(|(_, curve)| curve)), 0.0..most * 1.05, "GPUs")?;
        for (colour, curve) in &curves {
            chart.draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2))).map_err(text)?;
        }
        Ok(())
    })
}

/// The machines of all groups on top of each other.
fn machines(nodes: &[Curve]) -> Result<String, String> {
    let mut total: Curve = nodes.first().map(in_days).unwrap_or_default();
    total.iter_mut().for_each(|point| point.1 = 0.0);
    let mut stack = Vec::new();
    for (at, curve) in nodes.iter().enumerate() {
        total.iter_mut().zip(curve).for_each(|(sum, point)| sum.1 += point.1);
        stack.push((nth_colour(at), total.clone()));
    }
    let most = total.iter().map(|&(_, machines)| machines).fold(1.0, f64::max);
    draw(|area| {
        let mut chart = chart(area, days(std::iter::once(&total)), 0.0..most, "machines")?;
        // The highest first, so that those below stay to be seen.
        for (colour, curve) in stack.iter().rev() {
            chart.draw_series(AreaSeries::new(curve.iter().copied(), 0.0, colour)).map_err(text)?;
        }
        Ok(())
    })
}

fn delays(series: &[(Contender, Series)]) -> Result<String, String> {
    const LEAST: f64 = 10.0;
    let longest = series.iter().filter_map(|(_, series)| series.delays.last()).max().map_or(LEAST, |&most| most as f64);
    draw(|area| {
        let mut builder = ChartBuilder::on(area);
        builder.margin(8).x_label_area_size(28).y_label_area_size(56);
        let range = (LEAST..longest.max(LEAST * 10.0)).log_scale();
        let mut chart = builder.build_cartesian_2d(range, 0.0..1.0).map_err(text)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(INK.mix(0.0)).bold_line_style(INK.mix(0.25)).axis_style(INK).label_style(label());
        mesh.x_label_formatter(&|seconds: &f64| length(*seconds))
            .y_label_formatter(&|part: &f64| format!("{:.0} %", part * 100.0));
        mesh.draw().map_err(text)?;
        for (policy, series) in series {
            let line = LineSeries::new(distribution(&series.delays, LEAST), colour_of(*policy).stroke_width(2));
            chart.draw_series(line).map_err(text)?;
        }
        Ok(())
    })
}

/// Points of the part of the jobs that had started after a time: a few hundred, whatever the number of jobs.
fn distribution(sorted: &[i64], least: f64) -> Curve {
    let number = sorted.len();
    let shown = (0..=400).map(|point| (number.saturating_sub(1)) * point / 400).filter(|&at| at < number);
    shown.map(|at| (least.max(sorted[at] as f64), (at + 1) as f64 / number as f64)).collect()
}

type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Axis = plotters::coord::types::RangedCoordf64;
type Days<'a, 's> = ChartContext<'a, SVGBackend<'s>, plotters::prelude::Cartesian2d<Axis, Axis>>;

/// Axes in days below and in a unit beside.
fn chart<'a, 's>(area: &'a Area<'s>, days: Range<f64>, height: Range<f64>, unit: &str) -> Result<Days<'a, 's>, String> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).x_label_area_size(40).y_label_area_size(64);
    let mut chart = builder.build_cartesian_2d(days, height).map_err(text)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(INK.mix(0.0)).bold_line_style(INK.mix(0.25)).axis_style(INK).label_style(label());
    mesh.axis_desc_style(label()).x_desc("days").y_desc(unit);
    mesh.x_label_formatter(&|day: &f64| format!("{day:.0}")).y_label_formatter(&|value: &f64| format!("{value:.0}"));
    mesh.draw().map_err(text)?;
    Ok(chart)
}

/// Draws into an SVG that stands in a page.
fn draw(with: impl FnOnce(&Area<'_>) -> Result<(), String>) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        with(&area)?;
        area.present().map_err(text)?;
    }
    // The page decides how wide it is.
    let fixed = format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1);
    Ok(svg.replacen(&fixed, "role=\"img\" ", 1))
}

fn days<'c>(mut curves: impl Iterator<Item = &'c Curve>) -> Range<f64> {
    let last = curves.find_map(|curve| curve.last()).map_or(0.0, |&(day, _)| day);
    0.0..last.max(0.01)
}

fn in_days(curve: &Curve) -> Curve {
    curve.iter().map(|&(hours, value)| (hours / 24.0, value)).collect()
}

fn label() -> TextStyle<'static> {
    ("system-ui, sans-serif", 13).into_font().color(&INK)
}

fn colour_of(policy: Contender) -> RGBColor {
    nth_colour(match policy {
        Contender::Static => 5,
        Contender::Cube => 1,
        Contender::Demand => 0,
        Contender::Pool => 2,
    })
}

/// Colours begin anew after the last one, and are darker then.
fn nth_colour(at: usize) -> RGBColor {
    let RGBColor(red, green, blue) = COLOURS[at % COLOURS.len()];
    let darker = |part: u8| (f64::from(part) * 0.62_f64.powi((at / COLOURS.len()).min(4) as i32)) as u8;
    RGBColor(darker(red), darker(green), darker(blue))
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn text(error: impl Display) -> String {
    error.to_string()
}
