//! Small pictures: lines that step from date to date, and bars. Text is escaped; colours are the page's (CSS), so that a
//! picture is readable on light and dark ground; no fonts and no scripts are needed.

use std::fmt::Write as _;

use super::figures::number;

const WIDTH: f64 = 640.0;
const LINES_HEIGHT: f64 = 240.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
/// Labels nearer to one another than this stand in two rows.
const LABEL_WIDTH: f64 = 72.0;
const LABEL_ROW: f64 = 14.0;
const BAR_HEIGHT: f64 = 20.0;
const BAR_LABEL: f64 = 250.0;
const BAR_VALUE: f64 = 90.0;
const TICKS: u32 = 4;
/// Room for a line above a picture.
const ABOVE: f64 = 20.0;

/// What is said of a picture in it.
pub(super) struct Caption<'a> {
    /// What it shows, for those who do not see it.
    pub(super) title: &'a str,
    /// A line above it, to be read first.
    pub(super) above: Option<&'a str>,
}

/// Text within XML.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // XML 1.0 has no place for other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// One line: at each x a value that holds until the next.
pub(super) fn steps(caption: &Caption<'_>, unit: &str, points: &[(f64, String, f64)]) -> String {
    let (first, last) = (points.first().map_or(0.0, |p| p.0), points.last().map_or(1.0, |p| p.0));
    // The last value holds on: room to show it.
    let end = last + ((last - first) / 5.0).max(1.0);
    let top = nice(points.iter().map(|point| point.2).fold(0.0, f64::max));
    let x = |at: f64| LEFT + (at - first) / (end - first) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (1.0 - value / top) * (LINES_HEIGHT - TOP - BOTTOM);
    let mut svg = head(caption, LINES_HEIGHT);
    // Writing to a string cannot fail.
    for tick in 0..=TICKS {
        let value = top * f64::from(tick) / f64::from(TICKS);
        let at = y(value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            escape(&number(value))
        );
    }
    let mut path = String::new();
    let mut label_row = 0.0;
    for (place, (at, label, value)) in points.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|before| points.get(before));
        let is_near = before.is_some_and(|before| x(*at) - x(before.0) < LABEL_WIDTH);
        label_row = if is_near && label_row == 0.0 { LABEL_ROW } else { 0.0 };
        let until = points.get(place + 1).map_or(end, |next| next.0);
        let command = if place == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1} L{:.1} {:.1} ", x(*at), y(*value), x(until), y(*value));
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text><circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
            x(*at),
            LINES_HEIGHT - BOTTOM + LABEL_ROW + label_row + 4.0,
            escape(label),
            x(*at),
            y(*value)
        );
    }
    let _ = write!(
        svg,
        "<path class=\"line\" d=\"{}\"/><text x=\"4\" y=\"11\">{}</text></svg>",
        path.trim_end(),
        escape(unit)
    );
    svg
}

/// Bars with a label and a value each.
pub(super) fn bars(caption: &Caption<'_>, rows: &[(String, f64)]) -> String {
    let height = BAR_HEIGHT * rows.len() as f64 + 8.0;
    let most = rows.iter().map(|row| row.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = head(caption, height);
    for (place, (label, value)) in rows.iter().enumerate() {
        let top = BAR_HEIGHT * place as f64 + 4.0;
        let width = (value / most).clamp(0.0, 1.0) * (WIDTH - BAR_LABEL - BAR_VALUE);
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect class=\"bar\" x=\"{BAR_LABEL}\" y=\"{top:.1}\" \
             width=\"{width:.1}\" height=\"{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            BAR_LABEL - 8.0,
            top + 13.0,
            escape(label),
            BAR_HEIGHT - 5.0,
            BAR_LABEL + width + 6.0,
            top + 13.0,
            escape(&number(*value))
        );
    }
    svg + "</svg>"
}

fn head(caption: &Caption<'_>, height: f64) -> String {
    let title = escape(caption.title);
    let (top, line) = match caption.above {
        Some(above) => (-ABOVE, format!("<text x=\"4\" y=\"-6\" font-weight=\"bold\">{}</text>", escape(above))),
        None => (0.0, String::new()),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{title}\" \
         viewBox=\"0 {top} {WIDTH} {}\"><title>{title}</title>{line}",
        height - top
    )
}

/// The least of 1, 2, 4 and 8 times a power of ten that is not below `value`; 1 if that is 0.
fn nice(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].map(|factor| factor * power).into_iter().find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(title: &str) -> Caption<'_> {
        Caption { title, above: None }
    }

    #[test]
    fn ok_a_line_to_be_read_first_stands_above_all_else() {
        let bare = bars(&caption("t"), &[("x".to_owned(), 2.0)]);
        let said = bars(&Caption { title: "t", above: Some("not <yours>") }, &[("x".to_owned(), 2.0)]);
        assert!(bare.contains("viewBox=\"0 0 640 28\"") && !bare.contains("bold"), "{bare}");
        assert!(said.contains("viewBox=\"0 -20 640 48\"") && said.contains(">not &lt;yours&gt;</text>"), "{said}");
        assert_eq!(said.find("<text"), said.find("<text x=\"4\" y=\"-6\""));
    }

    #[test]
    fn ok_the_axis_ends_at_a_round_figure_above_all() {
        for (value, top) in [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (7.0, 8.0), (9.0, 10.0), (450.0, 800.0)] {
            assert!((nice(value) - top).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }

    #[test]
    fn ok_text_is_escaped_and_every_value_is_drawn() {
        let svg = bars(&caption("a<b"), &[("x & \"y\"".to_owned(), 2.0), ("\u{1b}".to_owned(), 4.0)]);
        for part in ["a&lt;b", "x &amp; &quot;y&quot;", "\u{fffd}", "width=\"150.0\"", "width=\"300.0\""] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let points = [(0.0, "2026-11-27".to_owned(), 10.0), (100.0, "2027-03-15".to_owned(), 20.0)];
        let svg = steps(&caption("growth"), "per day", &points);
        assert_eq!(svg.matches("<circle").count(), 2);
        // The first value holds until the second begins, five sixths of the way.
        assert!(svg.contains("d=\"M84.0 104.0 L534.0 104.0 L534.0 14.0 L624.0 14.0\""), "{svg}");
        let labels =
            |points: &[(f64, String, f64)]| steps(&caption("growth"), "", points).matches("y=\"226.0\"").count();
        assert_eq!(labels(&points), 0, "labels far from one another stand in one row");
        let near = [points[0].clone(), (1.0, "2026-11-28".to_owned(), 15.0), points[1].clone()];
        assert_eq!(labels(&near), 1);
    }
}
