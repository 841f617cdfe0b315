//! Routers: BIRD's settings for one autonomous system, and questions to a BIRD that runs.
//!
//! The policies are those of [`super::predict`], in BIRD's words: local preference 200 for customers' routes, 150 for
//! peers', 100 for providers', and only own and customers' routes go to peers and providers. Customers are believed
//! whatever they announce, as careless transits do, unless the system drops what RPKI calls invalid.
//!
//! Timers are short, so that a lost session is noticed within nine seconds.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{
    attack::{Routing, authorizations},
    error::InternetError,
    predict::Announcement,
    topology::{FAR, Link, Relation, Role, System, links},
};

/// How long a router may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of one answer.
const ANSWER_LINES_MAX: usize = 10_000;

const FILTERS: &str = "\
function is_dropped() { return drops_invalid && roa_check(authorizations, net, bgp_path.last) = ROA_INVALID; }
filter from_customer { if is_dropped() then reject; bgp_local_pref = 200; accept; }
filter from_peer { if is_dropped() then reject; bgp_local_pref = 150; accept; }
filter from_provider { if is_dropped() then reject; bgp_local_pref = 100; accept; }
filter up_or_across { if source = RTS_BGP && bgp_local_pref != 200 then reject; accept; }
";
const TIMERS: &str = "hold time 9; keepalive time 3; connect delay time 1; connect retry time 1; \
                      error wait time 1, 2; error forget time 1;";

/// The settings of one system's router under this routing.
#[must_use]
pub fn settings(system: &System, routing: &Routing) -> String {
    let address = system.main_address();
    let mut text = format!("log stderr all;\nrouter id {address};\nprotocol device {{ scan time 60; }}\n");
    let _ = writeln!(text, "define drops_invalid = {};", routing.filtering.contains(&system.number));
    text += "roa4 table authorizations;\nprotocol static roas {\n  roa4 { table authorizations; };\n";
    for roa in authorizations() {
        let _ = writeln!(text, "  route {} max {} as {};", roa.prefix, roa.longest, roa.origin);
    }
    text += "}\n";
    text += FILTERS;
    let stolen = routing.hijack.as_ref().filter(|_| system.role == Role::Attacker);
    let announcements = stolen.map(|hijack| hijack.announcements()).unwrap_or_default();
    let _ = writeln!(text, "protocol static own {{\n  ipv4;\n  route {} unreachable;", system.prefix());
    for announcement in &announcements {
        let _ = writeln!(text, "  route {} unreachable;", announcement.prefix);
    }
    // What is announced is served from addresses on the loopback device, which the kernel looks up before these routes.
    let _ = writeln!(
        text,
        "}}\nprotocol kernel {{\n  scan time 60;\n  ipv4 {{ import none; export filter {{ if source != RTS_BGP then \
         reject; krt_prefsrc = {address}; accept; }}; }};\n}}"
    );
    for link in links().iter().filter(|link| link.touches(system.number)) {
        text += &session(system, link, &announcements);
    }
    text
}

/// One session. The attacker has those it uses, its neighbors have them all, waiting.
fn session(system: &System, link: &Link, announcements: &[Announcement]) -> String {
    let other = link.other(system.number);
    let told = || announcements.iter().filter(|announcement| announcement.to.contains(&other));
    if system.role == Role::Attacker && other != FAR && told().next().is_none() {
        return String::new();
    }
    let (import, export) = match link.neighbor_is(system.number) {
        Relation::Customer => ("filter from_customer", "all".to_owned()),
        Relation::Peer => ("filter from_peer", "filter up_or_across".to_owned()),
        Relation::Provider if system.role == Role::Attacker => ("filter from_provider", lies(system, told())),
        Relation::Provider => ("filter from_provider", "filter up_or_across".to_owned()),
    };
    format!(
        "protocol bgp as{other} {{\n  local {} as {};\n  neighbor {} as {other};\n  {}{TIMERS}\n  \
         ipv4 {{ import {import}; export {export}; }};\n}}\n",
        link.address_of(system.number),
        system.number,
        link.address_of(other),
        if link.b == system.number { "passive; " } else { "" },
    )
}

/// What the attacker tells one neighbor: its own prefix, and what is stolen for this one.
fn lies<'a>(system: &System, told: impl Iterator<Item = &'a Announcement>) -> String {
    let mut text = format!("filter {{ if net = {} then accept;", system.prefix());
    for announcement in told {
        let forged = announcement.behind.map(|owner| format!("bgp_path.prepend({owner}); "));
        let _ = write!(text, " if net = {} then {{ {}accept; }}", announcement.prefix, forged.unwrap_or_default());
    }
    text + " reject; }"
}

/// Asks a router over its control socket; the text of the answer, without codes.
///
/// # Errors
/// It does not answer, or says no.
pub fn ask(system: u32, socket: &Path, command: &str) -> Result<String, InternetError> {
    let fault = |said: String| InternetError::Router { system, command: command.to_owned(), said };
    let stream = UnixStream::connect(socket).map_err(|error| fault(error.to_string()))?;
    let converse = || -> std::io::Result<Result<String, String>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(&stream).lines().take(ANSWER_LINES_MAX);
        // It greets first.
        let _ = answer(&mut lines)?;
        (&stream).write_all(format!("{command}\n").as_bytes())?;
        answer(&mut lines)
    };
    converse().map_err(|error| fault(error.to_string()))?.map_err(fault)
}

/// Lines up to one that begins with four digits and a blank; codes from 8000 on are refusals.
fn answer(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> std::io::Result<Result<String, String>> {
    let mut text = String::new();
    for line in lines {
        let line = line?;
        let code = line.get(..4).and_then(|code| code.parse::<u16>().ok());
        let content = if code.is_some() { line.get(5..).unwrap_or_default() } else { line.trim_start() };
        text += content;
        text.push('\n');
        if let Some(code) = code.filter(|_| line.as_bytes().get(4) == Some(&b' ')) {
            return Ok(if code < 8000 { Ok(text) } else { Err(text.trim().to_owned()) });
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

/// The path that a router's best route to an address claims, its neighbor first; `None` without a route, and empty for
/// what is its own.
///
/// # Errors
/// It does not answer.
pub fn claimed_path(system: u32, socket: &Path, to: Ipv4Addr) -> Result<Option<Vec<u32>>, InternetError> {
    match ask(system, socket, &format!("show route for {to} primary all")) {
        Ok(text) => Ok(Some(read_path(&text))),
        Err(InternetError::Router { said, .. }) if said.contains("Network not found") => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_path(text: &str) -> Vec<u32> {
    let path = text.lines().find_map(|line| line.trim().strip_prefix("BGP.as_path:"));
    path.unwrap_or_default().split_whitespace().map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::internet::{
        attack::{Form, Hijack, Target},
        topology::{ATTACKER, WEB, system, systems},
    };

    fn of(number: u32, routing: &Routing) -> String {
        settings(&system(number).unwrap(), routing)
    }

    fn hijack(form: Form, near: &[&str]) -> Routing {
        let near = near.iter().map(|id| (*id).to_owned()).collect();
        Routing { hijack: Some(Hijack { target: Target::Web, form, near }), filtering: BTreeSet::new() }
    }

    #[test]
    fn a_stub_has_one_session_and_a_tier_1_one_for_each_wire() {
        let routing = Routing::default();
        let count = |number| of(number, &routing).matches("protocol bgp ").count();
        assert_eq!(count(64_521), 1);
        assert_eq!(count(WEB), 2);
        for number in [64_501, 64_502, 64_512] {
            assert_eq!(count(number), links().iter().filter(|link| link.touches(number)).count());
        }
        assert_eq!(count(ATTACKER), 1, "in peace it has its far transit alone");
    }

    #[test]
    fn both_ends_of_a_session_name_each_other_and_one_waits() {
        for link in links().iter().filter(|link| !link.touches(ATTACKER)) {
            let [a, b] = [link.a, link.b].map(|number| of(number, &Routing::default()));
            let (at_a, at_b) = (link.address_of(link.a), link.address_of(link.b));
            assert!(a.contains(&format!("local {at_a} as {};\n  neighbor {at_b} as {};\n  hold", link.a, link.b)));
            assert!(b.contains(&format!("local {at_b} as {};\n  neighbor {at_a} as {};\n  passive;", link.b, link.a)));
        }
    }

    #[test]
    fn only_own_and_customers_routes_go_up_or_across() {
        for system in systems().iter().filter(|system| system.role != Role::Attacker) {
            let text = settings(system, &Routing::default());
            for line in text.lines().filter(|line| line.contains("import filter from_") && !line.contains("customer")) {
                assert!(line.contains("export filter up_or_across;"), "{line}");
            }
        }
    }

    #[test]
    fn the_attacker_tells_each_neighbor_what_the_attack_says() {
        let text = of(ATTACKER, &hijack(Form::ForgedOrigin, &["iad1"]));
        assert_eq!(text.matches("protocol bgp ").count(), 2);
        let (near, far) = (text.find("as64512 {").unwrap(), text.find("as64517 {").unwrap());
        let forged = text.find("if net = 198.18.31.0/24 then { bgp_path.prepend(64531); accept; }").unwrap();
        assert!(near < forged || far > forged, "to the near one");
        assert_eq!(text.matches("prepend").count(), 1, "and to no other");
        assert!(text.contains("route 198.18.31.0/24 unreachable;"));
        let text = of(ATTACKER, &hijack(Form::SubPrefix, &[]));
        assert!(text.contains("if net = 198.18.31.128/25 then { accept; }"), "{text}");
        assert!(!of(WEB, &hijack(Form::SubPrefix, &[])).contains("/25"));
    }

    #[test]
    fn only_who_filters_drops_invalid_routes() {
        let routing = Routing { hijack: None, filtering: BTreeSet::from([64_512]) };
        assert!(of(64_512, &routing).contains("define drops_invalid = true;"));
        assert!(of(64_511, &routing).contains("define drops_invalid = false;"));
        assert!(of(64_511, &routing).contains("route 198.18.31.0/24 max 24 as 64531;"));
    }

    #[test]
    fn answers_of_a_router_are_read_to_their_end() {
        let read = |text: &str| answer(&mut text.lines().map(|line| Ok(line.to_owned())));
        let text = "1007-198.18.31.0/24 unicast [as64501 07:00:00] * (100) [AS64531i]\n 1012-\n\
                    \tBGP.as_path: 64501 64531\n0000 \n";
        assert_eq!(read_path(&read(text).unwrap().unwrap()), [64_501, 64_531]);
        assert_eq!(read("8001 Network not found\n").unwrap(), Err("Network not found".to_owned()));
        assert!(read("1007-half").is_err());
        assert_eq!(read_path("nothing of the kind"), [0_u32; 0]);
    }
}
