//! Charts as SVG text: lines and points over two axes, and stacked bars.
//!
//! An SVG of this module stands alone and within an HTML page. It needs no script and no font but the reader's own.
//! Colors are CSS variables with a fallback; a page that has [`STYLE`] gets others in the dark.
//!
//! Left out: everything that would need the width of a text exactly. Widths are estimated, generously.
//!
//! Invariant: every text that comes in is escaped, so that no name can end an element.

mod axis;
mod bars;

use std::fmt::Write as _;

use self::axis::Span;
pub use self::{
    axis::{Axis, Scale, Unit, written},
    bars::Bars,
};

/// Width of every chart; a page scales it.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 56.0;
/// Above the plot, without the legend.
const TOP: f64 = 16.0;
const LEGEND_ROW: f64 = 20.0;
/// About as wide as a letter is at the size of a legend.
const LETTER: f64 = 6.9;
/// Colors that can be told apart with any eyes; a further series begins again.
const COLORS: [&str; 8] = ["#2364aa", "#c8553d", "#2a9d5c", "#8e5ba6", "#b8860b", "#3aa6b9", "#d16ba5", "#6b7280"];

/// What a page gives charts: their colors by light and by dark.
pub const STYLE: &str = "\
:root{--plot-ink:#1f2933;--plot-soft:#66727f;--plot-grid:#e3e7ec;--plot-back:#ffffff;--plot-alarm:#c0262d;\
--plot-0:#2364aa;--plot-1:#c8553d;--plot-2:#2a9d5c;--plot-3:#8e5ba6;--plot-4:#b8860b;--plot-5:#3aa6b9;--plot-6:#d16ba5;--plot-7:#6b7280}\
@media (prefers-color-scheme:dark){:root{--plot-ink:#e6e9ed;--plot-soft:#9aa5b1;--plot-grid:#2f3742;--plot-back:#161b22;--plot-alarm:#ff7b72;\
--plot-0:#6cb0ff;--plot-1:#ff9a7a;--plot-2:#5fd394;--plot-3:#c9a0e6;--plot-4:#e6c04c;--plot-5:#6fd6e8;--plot-6:#f29ecb;--plot-7:#aab2bd}}";

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A line with a dot at each point.
    Dotted,
    /// Dots alone.
    Dots,
    /// A broken line.
    Dashed,
    /// Crosses in the color of alarm, for what ought to be looked at.
    Crosses,
}

/// Points of one meaning.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// How it is drawn.
    pub mark: Mark,
    /// x and y, in the order of the line. A point without a place on the axes is left out.
    pub points: Vec<(f64, f64)>,
    /// Which color; that of its place among the series, if none.
    pub color: Option<usize>,
}

impl Series {
    /// A series with the color of its place.
    #[must_use]
    pub fn new(name: impl Into<String>, mark: Mark, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), mark, points, color: None }
    }

    /// The same in a color of choice, counted from 0.
    #[must_use]
    pub fn in_color(self, color: usize) -> Self {
        Self { color: Some(color), ..self }
    }
}

/// Lines and points over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn, the first at the back.
    pub series: Vec<Series>,
    /// Vertical lines with a word each, such as a bound.
    pub marks: Vec<(f64, String)>,
}

impl Chart {
    /// A chart without series.
    #[must_use]
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, series: Vec::new(), marks: Vec::new() }
    }

    /// With one more series.
    #[must_use]
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// With one more vertical line.
    #[must_use]
    pub fn marked(mut self, x: f64, word: impl Into<String>) -> Self {
        self.marks.push((x, word.into()));
        self
    }

    /// As an `<svg>` element.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let marks = self.marks.iter().map(|(x, _)| *x);
        let x = Span::around(&self.x, points().map(|(x, _)| *x).chain(marks));
        let y = Span::around(&self.y, points().map(|(_, y)| *y));
        let entries: Vec<Entry<'_>> = self
            .series
            .iter()
            .enumerate()
            .map(|(index, series)| Entry { name: &series.name, color: color_of(series, index), mark: series.mark })
            .collect();
        let legend = legend(&entries);
        let frame = Frame { top: TOP + legend.height };
        let mut svg = opening(&self.title);
        svg += &legend.svg;
        svg += &horizontal_lines(frame, &y, &self.y);
        for tick in x.ticks() {
            let at = frame.x(&x, tick).unwrap_or(LEFT);
            svg += &line_of(at, frame.bottom(), at, frame.bottom() + 5.0, SOFT);
            svg += &text(at, frame.bottom() + 20.0, "middle", SOFT, &written(self.x.unit, tick));
        }
        svg += &text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0, "middle", INK, &self.x.label);
        for (value, word) in &self.marks {
            if let Some(at) = frame.x(&x, *value) {
                svg += &line_of(at, frame.top, at, frame.bottom(), ALARM);
                svg += &text(at - 5.0, frame.top + 12.0, "end", ALARM, word);
            }
        }
        for (series, entry) in self.series.iter().zip(&entries) {
            svg += &self.drawn(series, &entry.color, &|point| Some((frame.x(&x, point.0)?, frame.y(&y, point.1)?)));
        }
        svg + "</svg>\n"
    }

    fn drawn(&self, series: &Series, color: &str, place: &dyn Fn((f64, f64)) -> Option<(f64, f64)>) -> String {
        let placed: Vec<((f64, f64), (f64, f64))> =
            series.points.iter().filter_map(|point| Some((*point, place(*point)?))).collect();
        let mut svg = String::new();
        if !matches!(series.mark, Mark::Dots | Mark::Crosses) && placed.len() > 1 {
            let dashes = if series.mark == Mark::Dashed { " stroke-dasharray=\"6 4\"" } else { "" };
            let path: String = placed.iter().map(|(_, (x, y))| format!("{x:.1},{y:.1} ")).collect();
            let _ = write!(
                svg,
                "<polyline points=\"{}\"{dashes} style=\"fill:none;stroke:{color};stroke-width:2;stroke-linejoin:round\"/>",
                path.trim_end()
            );
        }
        if matches!(series.mark, Mark::Line | Mark::Dashed) {
            return svg;
        }
        for (value, (x, y)) in placed {
            let told =
                format!("{}: {} at {}", series.name, written(self.y.unit, value.1), written(self.x.unit, value.0));
            svg += &symbol(series.mark, color, x, y, Some(&told));
        }
        svg
    }
}

const INK: &str = "var(--plot-ink,#1f2933)";
const SOFT: &str = "var(--plot-soft,#66727f)";
const GRID: &str = "var(--plot-grid,#e3e7ec)";
const ALARM: &str = "var(--plot-alarm,#c0262d)";
const BACK: &str = "var(--plot-back,#ffffff)";

/// The part of a chart within its axes.
#[derive(Clone, Copy)]
struct Frame {
    top: f64,
}

impl Frame {
    fn bottom(self) -> f64 {
        HEIGHT - BOTTOM
    }

    fn x(self, span: &Span, value: f64) -> Option<f64> {
        Some(LEFT + span.place(value)? * (WIDTH - LEFT - RIGHT))
    }

    fn y(self, span: &Span, value: f64) -> Option<f64> {
        Some(self.bottom() - span.place(value)? * (self.bottom() - self.top))
    }
}

/// An `<svg>` element as a file of its own, with the colors that a page would give it.
#[must_use]
pub fn standing_alone(svg: &str) -> String {
    match svg.split_once('>') {
        Some((opening, rest)) => format!("{opening}><style>{STYLE}</style>{rest}\n"),
        None => svg.to_owned(),
    }
}

fn opening(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" \
         style=\"font:12px system-ui,sans-serif;background:{BACK}\"><title>{title}</title>"
    )
}

fn horizontal_lines(frame: Frame, span: &Span, axis: &Axis) -> String {
    let mut svg = String::new();
    for tick in span.ticks() {
        let at = frame.y(span, tick).unwrap_or(frame.top);
        svg += &line_of(LEFT, at, WIDTH - RIGHT, at, GRID);
        svg += &text(LEFT - 8.0, at + 4.0, "end", SOFT, &written(axis.unit, tick));
    }
    let middle = (frame.top + frame.bottom()) / 2.0;
    let _ = write!(
        svg,
        "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\" style=\"fill:{INK}\">{}</text>",
        escaped(&axis.label)
    );
    svg + &line_of(LEFT, frame.bottom(), WIDTH - RIGHT, frame.bottom(), SOFT)
}

fn line_of(x1: f64, y1: f64, x2: f64, y2: f64, color: &str) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" style=\"stroke:{color};stroke-width:1\"/>"
    )
}

fn text(x: f64, y: f64, anchor: &str, color: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" style=\"fill:{color}\">{}</text>", escaped(words))
}

fn symbol(mark: Mark, color: &str, x: f64, y: f64, told: Option<&str>) -> String {
    let told = told.map_or_else(String::new, |told| format!("<title>{}</title>", escaped(told)));
    if mark == Mark::Crosses {
        let (left, right, top, bottom) = (x - 5.0, x + 5.0, y - 5.0, y + 5.0);
        return format!(
            "<path d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{left:.1} {bottom:.1}L{right:.1} {top:.1}\" \
             style=\"stroke:{color};stroke-width:2.5;fill:none\">{told}</path>"
        );
    }
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" style=\"fill:{color}\">{told}</circle>")
}

/// The color of a place.
fn color_at(index: usize) -> String {
    let index = index % COLORS.len();
    format!("var(--plot-{index},{})", COLORS[index])
}

fn color_of(series: &Series, index: usize) -> String {
    if series.mark == Mark::Crosses { ALARM.to_owned() } else { color_at(series.color.unwrap_or(index)) }
}

/// What a legend says of a series.
struct Entry<'a> {
    name: &'a str,
    color: String,
    mark: Mark,
}

struct Legend {
    svg: String,
    height: f64,
}

/// Names beside their colors, row by row.
fn legend(entries: &[Entry<'_>]) -> Legend {
    let (mut x, mut y) = (LEFT, TOP);
    let mut svg = String::new();
    for entry in entries {
        let width = 40.0 + LETTER * entry.name.chars().count() as f64;
        if x > LEFT && x + width > WIDTH - RIGHT {
            (x, y) = (LEFT, y + LEGEND_ROW);
        }
        if !matches!(entry.mark, Mark::Crosses | Mark::Dots) {
            svg += &format!(
                "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"{} style=\"stroke:{};stroke-width:3\"/>",
                x + 16.0,
                if entry.mark == Mark::Dashed { " stroke-dasharray=\"5 3\"" } else { "" },
                entry.color
            );
        }
        if !matches!(entry.mark, Mark::Line | Mark::Dashed) {
            svg += &symbol(entry.mark, &entry.color, x + 8.0, y, None);
        }
        svg += &text(x + 22.0, y + 4.0, "start", INK, entry.name);
        x += width;
    }
    Legend { svg, height: if entries.is_empty() { 0.0 } else { y - TOP + LEGEND_ROW } }
}

/// Text that can stand in an element or in an attribute with double quotes. Characters that XML does not allow are
/// replaced.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            character if character.is_control() => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whether elements are closed in their order, attributes quoted, and nothing unescaped stands between. Enough of
    /// XML for what is written here.
    pub(crate) fn is_well_formed(text: &str) -> Result<(), String> {
        let mut open: Vec<String> = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let between = &rest[..at];
            if between.contains('>') {
                return Err(format!("'>' within text: {between}"));
            }
            if between.split('&').skip(1).any(|entity| !entity.contains(';')) {
                return Err(format!("'&' within text: {between}"));
            }
            let end = rest[at..].find('>').ok_or("an element without an end")? + at;
            let element = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if element.matches('"').count() % 2 == 1 {
                return Err(format!("an attribute without an end: {element}"));
            }
            if element.starts_with('!') || element.ends_with('/') {
                continue;
            }
            match element.strip_prefix('/') {
                Some(name) if open.last().is_some_and(|last| last == name) => _ = open.pop(),
                Some(name) => return Err(format!("</{name}> while {open:?} are open")),
                None => open.push(element.split_whitespace().next().unwrap_or_default().to_owned()),
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?} are never closed")) }
    }

    fn chart() -> Chart {
        Chart::new("rate & <latency>", Axis::linear("per second", Unit::Number), Axis::log("latency", Unit::Micros))
            .with(Series::new("p50 \"of\" <all>", Mark::Dotted, vec![(100.0, 900.0), (200.0, 1_500.0)]))
            .with(Series::new("p99", Mark::Line, vec![(100.0, 2_000.0), (200.0, 90_000.0), (300.0, 0.0)]))
            .with(Series::new("overloaded", Mark::Crosses, vec![(200.0, 90_000.0)]))
            .marked(150.0, "knee")
    }

    #[test]
    fn ok_a_chart_is_well_formed_and_has_every_series_and_axis() {
        let svg = chart().to_svg();
        is_well_formed(&svg).expect("XML");
        for word in
            ["p50 &quot;of&quot; &lt;all&gt;", "p99", "overloaded", "per second", "latency", "knee", "rate &amp;"]
        {
            assert!(svg.contains(word), "{word}: {svg}");
        }
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(&format!("<title>{}</title>", "overloaded: 90 ms at 200")));
    }

    #[test]
    fn ok_a_point_without_a_place_is_left_out() {
        let series = Series::new("a", Mark::Dots, vec![(1.0, 0.0), (f64::NAN, 3.0), (2.0, 5.0)]);
        let chart = Chart::new("", Axis::linear("x", Unit::Number), Axis::log("y", Unit::Number)).with(series);
        let svg = chart.to_svg();
        // One in the legend, one in the plot.
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn ok_a_chart_without_points_is_a_chart() {
        let chart = Chart::new("nothing", Axis::linear("x", Unit::Number), Axis::log("y", Unit::Number));
        is_well_formed(&chart.to_svg()).expect("XML");
    }

    #[test]
    fn ok_a_long_legend_has_more_rows() {
        let names: Vec<String> = (0..9).map(|n| format!("a series with a long name {n}")).collect();
        let entry = |name| Entry { name, color: color_at(0), mark: Mark::Line };
        let entries: Vec<Entry<'_>> = names.iter().map(|name| entry(name)).collect();
        assert!(legend(&entries).height > 2.0 * LEGEND_ROW);
        assert_eq!(legend(&entries[..1]).height, LEGEND_ROW);
    }

    #[test]
    fn ok_nothing_that_is_escaped_can_end_an_element() {
        assert_eq!(escaped("<a b=\"c\">&'\u{0}\u{1b}\n"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\u{fffd}\u{fffd} ");
    }

    #[test]
    fn err_what_is_not_well_formed_is_found() {
        for text in ["<a>", "<a></b>", "<a>1 > 0</a>", "<a>&</a>", "<a b=\"></a>"] {
            assert!(is_well_formed(text).is_err(), "{text}");
        }
    }
}
