//! The curves of a run as one HTML file that needs nothing else: a small chart for each measure, a line a process.
//!
//! Names come from settings and are escaped all the same.

use std::fmt::Write as _;

use super::{
    sample::{Curves, Measure},
    summary::Summary,
    trend::{Point, Verdict},
};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;
/// Room for the numbers on the left and below.
const MARGIN: f64 = 70.0;
/// Told apart on white by most eyes.
const COLORS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888"];

/// The page.
#[must_use]
pub fn page(curves: &Curves, summary: &Summary) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Soak</title>\
         <style>body{font:14px sans-serif;margin:2em}pre{background:#f4f4f4;padding:1em}\
         svg{display:block}</style><h1>Soak</h1>\n",
    );
    let _ = writeln!(page, "<pre>{}</pre>", escaped(&summary.text()));
    for measure in Measure::ALL {
        let of_measure: Vec<_> = curves.iter().filter(|(_, of, _)| *of == measure).collect();
        if !of_measure.is_empty() {
            let lines: Vec<_> = of_measure.iter().map(|(process, _, points)| (*process, *points)).collect();
            let grows = |finding: &&super::sample::Finding| finding.trend.verdict == Verdict::Grows;
            let growing = summary.findings.iter().filter(|finding| finding.measure == measure).filter(grows).count();
            let note = if growing == 0 { String::new() } else { format!(" ({growing} grow)") };
            let _ = writeln!(page, "<h2>{}{note}</h2>{}", measure.title(), chart(&lines));
        }
    }
    page + "</html>\n"
}

/// One chart. The value axis begins at zero, so that growth looks as large as it is.
fn chart(lines: &[(&str, &[Point])]) -> String {
    let all = || lines.iter().flat_map(|(_, points)| points.iter());
    let seconds_max = all().map(|point| point.seconds).fold(1.0, f64::max);
    let value_max = all().map(|point| point.value).fold(0.0, f64::max).max(1e-9) * 1.05;
    let x = |seconds: f64| MARGIN + seconds / seconds_max * (WIDTH - MARGIN);
    let y = |value: f64| HEIGHT - value.max(0.0) / value_max * HEIGHT + 5.0;
    let (full_width, full_height) = (WIDTH + 120.0, HEIGHT + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{full_width}\" height=\"{full_height}\" \
         font-size=\"11\" role=\"img\">"
    );
    for part in 0..=4 {
        let value = value_max * f64::from(part) / 4.0;
        let _ = write!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.0}</text>\
             <text x=\"{3:.1}\" y=\"{4}\" text-anchor=\"middle\">{5:.0} s</text>",
            y(value),
            MARGIN - 6.0,
            y(value) + 4.0,
            x(seconds_max * f64::from(part) / 4.0),
            HEIGHT + 22.0,
            seconds_max * f64::from(part) / 4.0,
        );
    }
    for ((place, (process, points)), color) in lines.iter().enumerate().zip(COLORS.iter().cycle()) {
        let path: String =
            points.iter().map(|point| format!("{:.1},{:.1} ", x(point.seconds), y(point.value))).collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{color}\">{}</text>",
            path.trim_end(),
            WIDTH + 10.0,
            15 + 16 * place,
            escaped(process)
        );
    }
    svg + "</svg>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_every_curve_is_a_line_within_the_chart_and_names_are_escaped() {
        let mut curves = Curves::default();
        for seconds in 0..10 {
            curves.add("<engine>", Measure::ResidentKib, f64::from(seconds), 1000.0 * f64::from(seconds));
            curves.add("ams1", Measure::ResidentKib, f64::from(seconds), 10.0);
            curves.add("ams1", Measure::Threads, f64::from(seconds), 3.0);
        }
        let page = page(&curves, &Summary::of(&curves));
        assert_eq!((page.matches("<polyline").count(), page.matches("<svg").count()), (3, 2));
        assert!(page.contains("&lt;engine&gt;") && !page.contains("<engine>"));
        assert!(!page.contains("http://www") || page.matches("http").count() == 2, "nothing is fetched");
        let points = page.split("points=\"").nth(2).and_then(|rest| rest.split('"').next()).expect("the second line");
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((MARGIN..=WIDTH).contains(&x) && (0.0..=HEIGHT + 5.0).contains(&y), "{point}");
        }
    }

    #[test]
    fn ok_nothing_at_all_is_a_page_too() {
        let curves = Curves::default();
        assert!(page(&curves, &Summary::of(&curves)).ends_with("</html>\n"));
    }
}
