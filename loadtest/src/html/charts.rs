//! Curves and bars, drawn by plotters. The colours are names: the page's style sheet says what they are by day and by
//! night.

use maud::{Markup, PreEscaped};
use plotters::{
    coord::{
        Shift,
        combinators::IntoLogRange as _,
        ranged1d::{Ranged, ValueFormatter},
    },
    prelude::*,
};

/// A colour of the style sheet: `#0000NN` stands for `--cNN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(pub(super) u8);

pub(super) const INK: Paint = Paint(1);
pub(super) const GRID: Paint = Paint(2);
/// Of the series, from here on.
pub(super) const SERIES: u8 = 16;
pub(super) const SERIES_COUNT: u8 = 4;

const WIDTH: u32 = 720;
const HEIGHT: u32 = 260;
const LEFT: u32 = 72;
/// For the end of the last label.
const RIGHT: u32 = 36;
const BOTTOM: u32 = 34;
const FONT: &str = "sans-serif";
const FONT_SIZE: u32 = 17;
/// Of what is not counted.
const FAINT: f64 = 0.35;
/// A curve's points; more are thinned out.
const POINTS_MAX: usize = 400;

impl Paint {
    pub(super) fn series(number: usize) -> Self {
        Self(SERIES + (number % usize::from(SERIES_COUNT)) as u8)
    }

    fn color(self) -> RGBColor {
        RGBColor(0, 0, self.0)
    }
}

/// One curve. Points that are not counted are drawn faintly.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub(super) paint: Paint,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) counted_from: f64,
}

/// One bar, or a dot with its range.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) paint: Paint,
    pub(super) value: f64,
    pub(super) range: (f64, f64),
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Microseconds by percentile: the further to the right, the rarer.
pub(super) fn percentiles(curves: &[Curve]) -> anyhow::Result<Markup> {
    let (low, high) = bounds(curves);
    drawn(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area);
        let chart = chart.margin(12).margin_right(RIGHT).set_label_area_size(LabelAreaPosition::Left, LEFT);
        let mut chart = chart
            .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM)
            .build_cartesian_2d(0.0..4.0, ((low * 0.8)..(high * 1.2)).log_scale())?;
        let percentile = |nines: &f64| match nines {
            n if *n < 0.1 => "least".to_owned(),
            n => format!("P{}", 100.0 - 100.0 / 10_f64.powf(*n)),
        };
        mesh(&mut chart, (5, &percentile), &duration)?;
        for curve in curves {
            chart.draw_series(LineSeries::new(curve.points.clone(), curve.paint.color().stroke_width(2)))?;
        }
        Ok(())
    })
}

/// Something over seconds, from 0 up.
pub(super) fn over_time(curves: &[Curve], value: fn(&f64) -> String) -> anyhow::Result<Markup> {
    let last = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).fold(1.0, f64::max);
    let (_, high) = bounds(curves);
    drawn(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area);
        let chart = chart.margin(12).margin_right(RIGHT).set_label_area_size(LabelAreaPosition::Left, LEFT);
        let mut chart = chart
            .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM)
            .build_cartesian_2d(0.0..last, 0.0..(high * 1.1))?;
        mesh(&mut chart, (8, &|seconds| format!("{} s", short(*seconds))), &value)?;
        for curve in curves {
            let thinned = thinned(&curve.points);
            let style = curve.paint.color().stroke_width(2);
            let faint = curve.paint.color().mix(FAINT).stroke_width(2);
            // The two parts share the point where they meet.
            let counted = thinned.partition_point(|point| point.0 < curve.counted_from);
            let warm_up = thinned.iter().take(counted + 1).copied();
            chart.draw_series(LineSeries::new(warm_up, faint))?;
            chart.draw_series(LineSeries::new(thinned.iter().skip(counted).copied(), style))?;
        }
        Ok(())
    })
}

/// Lying bars from 0, each with its label and its range.
pub(super) fn bars(bars: &[Bar]) -> anyhow::Result<Markup> {
    lying(bars, None, |chart, bar, y| {
        let body = Rectangle::new([(0.0, y - 0.3), (bar.value, y + 0.3)], bar.paint.color().filled());
        chart.draw_series([body])?;
        Ok(())
    })
}

/// Lying ranges with a dot at the median, and a line at 1.
pub(super) fn ratios(bars: &[Bar]) -> anyhow::Result<Markup> {
    lying(bars, Some(1.0), |chart, bar, y| {
        chart.draw_series([Circle::new((bar.value, y), 5, bar.paint.color().filled())])?;
        Ok(())
    })
}

type Lying<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn lying(
    bars: &[Bar],
    line: Option<f64>,
    body: impl Fn(&mut Lying<'_, '_>, &Bar, f64) -> anyhow::Result<()>,
) -> anyhow::Result<Markup> {
    let most = bars.iter().map(|bar| bar.range.1.max(bar.value)).fold(line.unwrap_or(1e-3), f64::max) * 1.15;
    let rows = bars.len().max(1);
    let height = u32::try_from(rows)? * 24 + BOTTOM + 24;
    drawn(height, |area| {
        let mut chart = ChartBuilder::on(area);
        let chart = chart.margin(12).set_label_area_size(LabelAreaPosition::Left, LEFT * 3);
        let mut chart = chart
            .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM)
            .build_cartesian_2d(0.0..most, 0.0..rows as f64)?;
        let text = (FONT, FONT_SIZE).into_font().color(&INK.color());
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.color())
            .axis_style(GRID.color())
            .label_style(text.clone())
            .x_label_formatter(&|value| short(*value))
            .draw()?;
        if let Some(line) = line {
            chart.draw_series(LineSeries::new([(line, 0.0), (line, rows as f64)], INK.color()))?;
        }
        for (number, bar) in bars.iter().enumerate() {
            let y = (rows - number) as f64 - 0.5;
            body(&mut chart, bar, y)?;
            let (low, high) = bar.range;
            chart.draw_series(LineSeries::new([(low, y), (high, y)], INK.color().stroke_width(2)))?;
            let (x, at) = chart.backend_coord(&(0.0, y));
            let right = text.pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Center,
            ));
            area.draw(&Text::new(bar.label.clone(), (x - 8, at), right))?;
        }
        Ok(())
    })
}

fn mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    (x_labels, x): (usize, &dyn Fn(&f64) -> String),
    y: &dyn Fn(&f64) -> String,
) -> anyhow::Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.color())
        .axis_style(GRID.color())
        .label_style((FONT, FONT_SIZE).into_font().color(&INK.color()))
        .x_labels(x_labels)
        .y_labels(6)
        .x_label_formatter(&x)
        .y_label_formatter(&y)
        .draw()?;
    Ok(())
}

fn drawn(height: u32, draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<Markup> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    draw(&area)?;
    area.present()?;
    drop(area);
    // plotters escapes every text. Within a page an SVG needs no namespace.
    Ok(PreEscaped(svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)))
}

/// The least and the most, never nothing between them.
fn bounds(curves: &[Curve]) -> (f64, f64) {
    let values = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    let high = values().fold(1e-3, f64::max);
    (values().filter(|value| *value > 0.0).fold(high, f64::min), high)
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().step_by(points.len() / POINTS_MAX + 1).copied().collect()
}

/// Microseconds, as people say them.
pub(super) fn duration(micros: &f64) -> String {
    match *micros {
        us if us < 1e3 => format!("{} µs", short(us)),
        us if us < 1e6 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// With as many digits as it takes to tell one from another.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.1} M", value / 1e6),
        v if v >= 1e4 => format!("{:.0} k", value / 1e3),
        v if v >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
