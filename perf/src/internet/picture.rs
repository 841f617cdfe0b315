//! The topology drawn as SVG, with the way of every site's packets to the victim, coloured by where it ends.
//!
//! No scripts, no fonts from elsewhere; readable on light and on dark ground. The same input gives the same octets.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    attack::{Routing, Target},
    routes::Way,
    settings::rir,
    topology::{ATTACKER, FAR, Link, Role, System, links, site, site_id, systems},
};
use crate::lab::world::Perspective;

const WIDTH: i32 = 1120;
const HEIGHT: i32 = 640;
const BOX_WIDTH: i32 = 124;
const BOX_HEIGHT: i32 = 44;
/// Ways that share a wire lie side by side.
const LANE: i32 = 4;

const STYLE: &str = "\
.ground{fill:#ffffff}.box{fill:#f4f6f8;stroke:#4a5560;stroke-width:1.2}.victim{fill:#e2f3e6;stroke:#1f7a3d}\
.attacker{fill:#fde4e1;stroke:#b3261e;stroke-width:2}.site{fill:#e6eefb;stroke:#2b5fb3}\
.wire{stroke:#b8c0c8;stroke-width:1.4;fill:none}.session{stroke:#b3261e;stroke-width:1.4;stroke-dasharray:5 4;fill:none}\
.good{stroke:#1f7a3d;stroke-width:2.4;fill:none}.bad{stroke:#c5221f;stroke-width:2.8;fill:none}\
text{font-family:system-ui,sans-serif;font-size:13px;fill:#1c2228}.small{font-size:11px;fill:#55606a}\
.title{font-size:17px;font-weight:600}.row{font-size:11px;fill:#8a949d;letter-spacing:1px}\
.badtext{fill:#c5221f;font-weight:600}.goodtext{fill:#1f7a3d}\
@media (prefers-color-scheme:dark){.ground{fill:#14181c}.box{fill:#20262c;stroke:#8a949d}\
.victim{fill:#16321f;stroke:#6fcf8b}.attacker{fill:#3d1715;stroke:#ff8a80}.site{fill:#1a2840;stroke:#8ab4f8}\
.wire{stroke:#4a5560}.session{stroke:#ff8a80}.good{stroke:#6fcf8b}.bad{stroke:#ff6e63}text{fill:#e6eaee}\
.small{fill:#a3adb6}.row{fill:#6c7680}.badtext{fill:#ff8a80}.goodtext{fill:#6fcf8b}}";

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The heading.
    pub title: &'a str,
    /// One sentence below it.
    pub subtitle: &'a str,
    /// What is announced: the attacker's sessions are drawn from it.
    pub routing: &'a Routing,
    /// To which of the two ways lead.
    pub target: Target,
    /// The ways of the sites, the primary's first.
    pub ways: &'a [Way],
    /// What is to be said at a site besides, such as that its node is down.
    pub notes: &'a BTreeMap<String, String>,
}

/// Draws it.
#[must_use]
pub fn draw(scene: &Scene<'_>) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"title\" x=\"24\" y=\"32\">{title}</text>\n<text x=\"24\" y=\"54\">{}</text>\n",
        escape(scene.subtitle),
        title = escape(scene.title),
    );
    for (y, name) in [(110, "VICTIM AND CA"), (220, "TIER 1"), (340, "TRANSIT"), (500, "SITES")] {
        let _ = writeln!(text, "<text class=\"row\" x=\"24\" y=\"{}\">{name}</text>", y - BOX_HEIGHT / 2 - 6);
    }
    for link in links() {
        text += &wire(&link, scene.routing);
    }
    for (lane, way) in (0..).zip(scene.ways) {
        text += &path(way, lane);
    }
    for system in systems() {
        text += &node(&system);
    }
    for (perspective, way) in Perspective::ALL.into_iter().zip(scene.ways) {
        text += &foot(perspective, way, scene);
    }
    text + &legend(scene) + "</svg>\n"
}

/// The middle of a system's box.
fn place(system: u32) -> (i32, i32) {
    let all = systems();
    let column = |of: &dyn Fn(&System) -> bool| all.iter().filter(|s| of(s)).position(|s| s.number == system);
    let at = |column: Option<usize>, first: i32, step: i32| first + step * column.unwrap_or_default() as i32;
    match all.iter().find(|s| s.number == system).map(|s| s.role) {
        Some(Role::Tier1) => (at(column(&|s| s.role == Role::Tier1), 410, 300), 220),
        Some(Role::Transit) => (at(column(&|s| s.role == Role::Transit), 110, 150), 340),
        Some(Role::Site(perspective)) => (110 + 150 * perspective.index() as i32, 500),
        Some(Role::Attacker) => (1010, 430),
        _ => {
            let is_above = |s: &System| matches!(s.role, Role::Web | Role::Dns | Role::Registry | Role::Authority);
            (at(column(&is_above), 185, 250), 110)
        }
    }
}

/// Where a line from one system to another begins. Those between the attacker and the sites' transits keep clear of the
/// boxes between them.
fn end(from: u32, to: u32) -> (i32, i32) {
    let (x, y) = place(from);
    match (from, to) {
        (ATTACKER, FAR) | (FAR, ATTACKER) => (x, y),
        (ATTACKER, _) => (x - BOX_WIDTH / 2, y),
        (_, ATTACKER) => (x, y + BOX_HEIGHT / 2),
        _ => (x, y),
    }
}

/// A wire; the attacker's are drawn where it has a session.
fn wire(link: &Link, routing: &Routing) -> String {
    let is_attackers = link.touches(ATTACKER);
    let told = routing.hijack.as_ref().map(|hijack| hijack.told()).unwrap_or_default();
    let other = link.other(ATTACKER);
    if is_attackers && other != FAR && !told.contains(&other) {
        return String::new();
    }
    let class = if is_attackers && told.contains(&other) { "session" } else { "wire" };
    let ((x1, y1), (x2, y2)) = (end(link.a, link.b), end(link.b, link.a));
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>\n")
}

/// One site's way, in a lane of its own.
fn path(way: &Way, lane: i32) -> String {
    let aside = (2 * lane - 5) * LANE / 2;
    let hops = &way.systems;
    let points = hops.iter().enumerate().map(|(at, system)| {
        // The attacker is only ever at an end; who stands beside it turns there.
        let beside = hops.get(at + 1).filter(|next| **next == ATTACKER || at == 0);
        let before = at.checked_sub(1).map(|before| &hops[before]);
        let next = *beside.or(before).unwrap_or(system);
        let (x, y) = end(*system, next);
        match (*system, next) {
            (ATTACKER, FAR) | (FAR, ATTACKER) => format!("{},{}", x + aside, y + aside),
            (ATTACKER, _) => format!("{x},{}", y + aside),
            // Below the boxes of the row.
            (_, ATTACKER) => format!("{},{}", x + aside, y + LANE),
            _ => format!("{},{}", x + aside, y + aside),
        }
    });
    let points = points.collect::<Vec<_>>().join(" ");
    let class = if way.ends_at_attacker() { "bad" } else { "good" };
    format!("<polyline class=\"{class}\" points=\"{points}\"/>\n")
}

fn node(system: &System) -> String {
    let (x, y) = place(system.number);
    let class = match system.role {
        Role::Web | Role::Dns => "box victim",
        Role::Attacker => "box attacker",
        Role::Site(_) => "box site",
        Role::Tier1 | Role::Transit | Role::Registry | Role::Authority => "box",
    };
    let (left, top) = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2);
    format!(
        "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\"/>\n\
         <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
         <text class=\"small\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">AS {}</text>\n",
        y - 3,
        escape(&system.title()),
        y + 13,
        system.number,
    )
}

/// What is said below a site.
fn foot(perspective: Perspective, way: &Way, scene: &Scene<'_>) -> String {
    let (x, y) = place(site(perspective));
    let role = if perspective == Perspective::PRIMARY { "primary" } else { "remote" };
    let (class, end) = match (way.ends_at_attacker(), way.arrives) {
        (true, _) => ("badtext", "sees the attacker"),
        (false, true) => ("goodtext", "sees the owner"),
        (false, false) => ("small", "has no route"),
    };
    let note = scene.notes.get(site_id(perspective)).map(|note| escape(note)).unwrap_or_default();
    format!(
        "<text class=\"small\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{role}, {}</text>\n\
         <text class=\"{class}\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{end}</text>\n\
         <text class=\"small\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{note}</text>\n",
        y + 40,
        escape(rir(perspective)),
        y + 58,
        y + 75,
    )
}

fn legend(scene: &Scene<'_>) -> String {
    let whose = match scene.target {
        Target::Web => "web server",
        Target::NameServers => "name servers",
    };
    let y = HEIGHT - 24;
    format!(
        "<line class=\"good\" x1=\"24\" y1=\"{y}\" x2=\"64\" y2=\"{y}\"/><text x=\"72\" y=\"{t}\">packets to the \
         {whose} that reach the owner</text>\n<line class=\"bad\" x1=\"400\" y1=\"{y}\" x2=\"440\" y2=\"{y}\"/>\
         <text x=\"448\" y=\"{t}\">that reach the attacker</text>\n<line class=\"session\" x1=\"640\" y1=\"{y}\" \
         x2=\"680\" y2=\"{y}\"/><text x=\"688\" y=\"{t}\">session over which it announces</text>\n",
        t = y + 4,
    )
}

/// Text that can stand in XML.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // XML knows no other control characters, escaped or not.
            '\n' | '\t' => out.push(letter),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;
    use crate::internet::attack::{Form, Hijack};

    fn example(title: &str) -> String {
        let hijack = Hijack { target: Target::Web, form: Form::Equal, near: vec!["iad1".to_owned()] };
        let routing = Routing { hijack: Some(hijack), filtering: BTreeSet::new() };
        let ways: Vec<Way> = Perspective::ALL
            .into_iter()
            .map(|p| {
                let end = if p.index() == 1 { vec![ATTACKER] } else { vec![64_501, 64_531] };
                let systems = [&[site(p), crate::internet::topology::regional(p)], end.as_slice()].concat();
                Way { systems, arrives: true }
            })
            .collect();
        let notes = BTreeMap::from([("waw1".to_owned(), "link <down>".to_owned())]);
        draw(&Scene { title, subtitle: "a & b", routing: &routing, target: Target::Web, ways: &ways, notes: &notes })
    }

    /// Elements are closed in order, and nothing stands bare that may not.
    fn assert_well_formed(text: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let between = &rest[..at];
            assert!(!between.contains('>'), "{between}");
            for part in between.split('&').skip(1) {
                assert!(["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|name| part.starts_with(name)), "{part}");
            }
            let end = at + rest[at..].find('>').unwrap();
            let tag = &rest[at + 1..end];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap());
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn well_formed_with_names_escaped() {
        let text = example("\"<title>\" & 'co' \u{1}");
        assert_well_formed(&text);
        assert!(text.contains("&quot;&lt;title&gt;&quot; &amp; &#39;co&#39; \u{fffd}"));
        assert!(text.contains("link &lt;down&gt;"));
        assert!(!text.contains("http://") || text.matches("http").count() == 1, "the name space alone");
    }

    #[test]
    fn the_same_input_gives_the_same_octets_and_all_systems_are_in_it() {
        assert_eq!(example("x"), example("x"));
        for system in systems() {
            assert!(example("x").contains(&format!(">AS {}<", system.number)));
        }
        assert_eq!(example("x").matches("class=\"bad\" points").count(), 1);
        assert_eq!(example("x").matches("class=\"good\" points").count(), 5);
        assert_eq!(example("x").matches("<line class=\"session\"").count(), 2, "one session, and the legend");
    }

    #[test]
    fn no_two_boxes_overlap_and_none_is_outside() {
        let mut places = HashSet::new();
        for system in systems() {
            let (x, y) = place(system.number);
            assert!(x > BOX_WIDTH / 2 && x < WIDTH - BOX_WIDTH / 2 + 1 && y > 60 && y < HEIGHT - 80, "{system:?}");
            for (other_x, other_y) in &places {
                let (dx, dy): (i32, i32) = (x - other_x, y - other_y);
                assert!(dx.abs() > BOX_WIDTH || dy.abs() > BOX_HEIGHT, "{system:?}");
            }
            places.insert((x, y));
        }
    }
}
