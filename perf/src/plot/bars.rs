//! Stacked bars, one for each category.

use std::fmt::Write as _;

use super::{
    Axis, BOTTOM, Entry, Frame, HEIGHT, INK, LEFT, Mark, RIGHT, SOFT, Span, TOP, WIDTH, color_at, escaped,
    horizontal_lines, legend, opening, text, written,
};

/// How much of its place a bar fills.
const FILL: f64 = 0.64;
/// The widest bar.
const BAR_MAX: f64 = 72.0;

/// Stacked bars.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// What the bars are about, below them.
    pub label: String,
    /// A name for each bar.
    pub categories: Vec<String>,
    /// Upwards; always from 0.
    pub y: Axis,
    /// Names and values, one value for each category, the first at the bottom. What is missing, negative or no number
    /// counts as 0.
    pub parts: Vec<(String, Vec<f64>)>,
}

impl Bars {
    /// As an `<svg>` element.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let value = |part: &[f64], bar: usize| part.get(bar).copied().filter(|v| v.is_finite()).unwrap_or(0.0).max(0.0);
        let sums = (0..self.categories.len()).map(|bar| self.parts.iter().map(|(_, part)| value(part, bar)).sum());
        let y = Span::around(&self.y, sums.chain([0.0]));
        let entries: Vec<Entry<'_>> = self
            .parts
            .iter()
            .enumerate()
            .map(|(index, (name, _))| Entry { name, color: color_at(index), mark: Mark::Line })
            .collect();
        let legend = legend(&entries);
        let frame = Frame { top: TOP + legend.height };
        let mut svg = opening(&self.title) + &legend.svg + &horizontal_lines(frame, &y, &self.y);
        let place = (WIDTH - LEFT - RIGHT) / self.categories.len().max(1) as f64;
        let width = (place * FILL).min(BAR_MAX);
        for (bar, category) in self.categories.iter().enumerate() {
            let middle = LEFT + (bar as f64 + 0.5) * place;
            let mut below = 0.0;
            for ((name, part), entry) in self.parts.iter().zip(&entries) {
                let value = value(part, bar);
                let (bottom, top) = (frame.y(&y, below), frame.y(&y, below + value));
                below += value;
                let (Some(bottom), Some(top)) = (bottom, top) else { continue };
                let told = format!("{category}, {name}: {}", written(self.y.unit, value));
                let _ = write!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" style=\"fill:{}\"><title>{}</title></rect>",
                    middle - width / 2.0,
                    bottom - top,
                    entry.color,
                    escaped(&told)
                );
            }
            if let Some(top) = frame.y(&y, below) {
                svg += &text(middle, top - 5.0, "middle", INK, &written(self.y.unit, below));
            }
            svg += &text(middle, HEIGHT - BOTTOM + 18.0, "middle", SOFT, category);
        }
        svg += &text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0, "middle", INK, &self.label);
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Unit, *};

    #[test]
    fn ok_bars_are_stacked_and_every_part_is_there() {
        let bars = Bars {
            title: "CPU".to_owned(),
            label: "per second".to_owned(),
            categories: vec!["<100>".to_owned(), "200".to_owned()],
            y: Axis::linear("µs", Unit::Micros),
            parts: vec![("node".to_owned(), vec![60.0, 50.0]), ("collector".to_owned(), vec![40.0, f64::NAN])],
        };
        let svg = bars.to_svg();
        super::super::tests::is_well_formed(&svg).expect("XML");
        assert_eq!(svg.matches("<rect").count(), 4);
        for word in ["&lt;100&gt;", "node", "collector", "&lt;100&gt;, collector: 40 µs", "100 µs", "50 µs"] {
            assert!(svg.contains(word), "{word}: {svg}");
        }
        // The second part begins where the first ends: at 60 of 100.
        let edge = |name: &str| {
            let rect = svg.split("<rect").find(|rect| rect.contains(name)).expect("a bar");
            let of = |key: &str| -> f64 {
                let value = rect.split(key).nth(1).and_then(|rest| rest.split('"').next()).expect("an attribute");
                value.parse().expect("a number")
            };
            (of(" y=\""), of("height=\""))
        };
        let (below, above) = (edge("&lt;100&gt;, node"), edge("&lt;100&gt;, collector"));
        assert!((above.0 + above.1 - below.0).abs() < 0.2, "{below:?} {above:?}");
        assert!(below.1 > above.1);
    }

    #[test]
    fn ok_no_bars_are_a_chart_too() {
        let bars = Bars {
            title: String::new(),
            label: String::new(),
            categories: Vec::new(),
            y: Axis::linear("", Unit::Number),
            parts: vec![("a".to_owned(), Vec::new())],
        };
        super::super::tests::is_well_formed(&bars.to_svg()).expect("XML");
    }
}
