//! The figures of a load as a picture (SVG): bars with the medians, and lines from the lower to the upper quartile.

use std::fmt::Write as _;

use super::summary::{Spread, Summary};
use crate::{
    cores::Placement,
    load::Party,
    rounds::{Measured, Series},
};

/// Lengths in pixels.
const BAR: f64 = 36.0;
const SLOT: f64 = 58.0;
/// Between the placements.
const GAP: f64 = 22.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 240.0;
const BOTTOM: f64 = 48.0;
/// How many parts an axis has.
const PARTS: u32 = 5;

/// One figure of all targets.
struct Panel {
    title: &'static str,
    bar: fn(&Summary) -> Bar,
}

/// The parts of a bar, from the bottom, and the quartiles.
struct Bar {
    parts: Vec<(f64, &'static str)>,
    spread: Spread,
}

impl Bar {
    fn of(spread: Spread) -> Self {
        Self {
            parts: vec![(spread.median, "#4c78a8")],
            spread,
        }
    }

    /// The larger of its height and its upper quartile.
    fn top(&self) -> f64 {
        let height: f64 = self.parts.iter().map(|(height, _)| height).sum();
        height.max(self.spread.upper)
    }
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "CPU µs a call: user (dark), system (light)",
        bar: |summary| Bar {
            parts: vec![(summary.user, "#4c78a8"), (summary.system, "#9ecae9")],
            spread: summary.cpu,
        },
    },
    Panel {
        title: "calls a second",
        bar: |summary| Bar::of(summary.calls),
    },
    Panel {
        title: "median latency, µs",
        bar: |summary| Bar::of(summary.p50),
    },
];

/// The picture.
pub(crate) fn of(measured: &Measured) -> String {
    let panel = LEFT + width(&measured.series);
    let (width, height) = (panel * PANELS.len() as f64, TOP + HEIGHT + BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">{}</text>\n",
        measured.kind.title()
    );
    for (index, Panel { title, bar }) in PANELS.iter().enumerate() {
        let _ = write!(
            svg,
            "<g transform=\"translate({} {TOP})\">\n<text x=\"{LEFT}\" y=\"-12\">{title}</text>\n",
            panel * index as f64
        );
        draw(&mut svg, &measured.series, *bar);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where the bar of each series begins.
fn places(series: &[Series]) -> impl Iterator<Item = f64> {
    let mut place = 0.0;
    let mut before: Option<Placement> = None;
    series.iter().map(move |series| {
        if before.is_some_and(|before| before != series.placement) {
            place += GAP;
        }
        before = Some(series.placement);
        place += SLOT;
        place - SLOT
    })
}

fn width(series: &[Series]) -> f64 {
    places(series).last().unwrap_or_default() + SLOT
}

fn draw(svg: &mut String, series: &[Series], bar: fn(&Summary) -> Bar) {
    let bars: Vec<Bar> = series.iter().map(|series| bar(&Summary::of(&series.rounds))).collect();
    let step = step(bars.iter().map(Bar::top).fold(0.0, f64::max));
    let y = |value: f64| HEIGHT * (1.0 - value / (step * f64::from(PARTS)));
    let right = LEFT + width(series);
    for part in 0..=PARTS {
        let value = step * f64::from(part);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            y(value) + 4.0,
            y = y(value),
        );
    }
    let mut before = None;
    for ((series, bar), place) in series.iter().zip(&bars).zip(places(series)) {
        let left = LEFT + place + (SLOT - BAR) / 2.0;
        let middle = left + BAR / 2.0;
        let mut base = 0.0;
        for (height, colour) in &bar.parts {
            let top = y(base + height);
            let _ = writeln!(
                svg,
                "<rect x=\"{left}\" y=\"{top:.1}\" width=\"{BAR}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                y(base) - top,
            );
            base += height;
        }
        if base > 0.0 {
            let _ = writeln!(
                svg,
                "<path d=\"M{middle} {:.1}V{:.1}\" stroke=\"black\"/>",
                y(bar.spread.lower),
                y(bar.spread.upper),
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\"{}>{}</text>",
            HEIGHT + 16.0,
            if series.party == Party::Gateway {
                " font-weight=\"bold\""
            } else {
                ""
            },
            series.party.name(),
        );
        if before != Some(series.placement) {
            before = Some(series.placement);
            let _ = writeln!(
                svg,
                "<text x=\"{left}\" y=\"{}\" fill=\"#666\">{}</text>",
                HEIGHT + 34.0,
                series.placement
            );
        }
    }
}

/// The length of a part of an axis that reaches to `top`: 1, 2 or 5 times a power of ten.
fn step(top: f64) -> f64 {
    let least = (top / f64::from(PARTS)).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= least);
    times.unwrap_or(10.0) * power
}
