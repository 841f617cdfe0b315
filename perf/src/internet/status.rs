//! How the laboratory stands: for every site where its packets to the victim go, what its router believes, and whether
//! resolver, node and link are up.

use std::{fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    attack::{Form, Routing, Target},
    bird,
    error::InternetError,
    rise::links_up,
    routes::{Walker, Way, address_of},
    state::State,
    topology::{ATTACKER, site, site_id},
};
use crate::{lab::world::Perspective, netns::Namespace};

/// What marks a path whose origin is not the attacker's though packets end there.
const FORGED: &str = "*";

/// Everything that `status` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What routing was asked for.
    pub routing: Routing,
    /// Sites, the primary's first.
    pub sites: Vec<SiteStatus>,
    /// Programs that have ended though nobody told them to.
    pub ended: Vec<String>,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The perspective's id.
    pub id: String,
    /// Whether its node runs.
    pub node: bool,
    /// Whether the engine's link to it stands.
    pub link: bool,
    /// To the web server.
    pub web: TargetStatus,
    /// To the name servers.
    pub name_servers: TargetStatus,
}

/// One way of one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Where packets go, by the kernels' routes.
    pub way: Way,
    /// What the site's router was told; none if it has no route.
    pub claimed: Option<Vec<u32>>,
}

/// Looks.
///
/// # Errors
/// A namespace or a router is gone.
pub fn look(state: &State) -> Result<Status, InternetError> {
    let engine = Namespace::open(state.namespace(state.engine.system))?;
    let linked = links_up(&engine, &state.engine);
    let mut walkers = [Target::Web, Target::NameServers].map(|target| (target, Walker::to(state, address_of(target))));
    let mut sites = Vec::new();
    for perspective in Perspective::ALL {
        let (id, number) = (site_id(perspective), site(perspective));
        let mut one = |at: usize| -> Result<TargetStatus, InternetError> {
            let (target, walker) = &mut walkers[at];
            let claimed = bird::claimed_path(number, &state.router(number), address_of(*target))?;
            Ok(TargetStatus { way: walker.from(number)?, claimed })
        };
        let (web, name_servers) = (one(0)?, one(1)?);
        let node = state.program(&format!("node-{id}")).is_some_and(|program| runs(program.pid));
        let link = linked.iter().any(|linked| linked == id);
        sites.push(SiteStatus { id: id.to_owned(), node, link, web, name_servers });
    }
    let ended = state.programs.iter().filter(|program| !runs(program.pid)).map(|program| program.name.clone());
    Ok(Status { routing: state.routing.clone(), sites, ended: ended.collect() })
}

/// Whether a process is there that has not ended.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A routing in words.
#[must_use]
pub fn routing_in_words(routing: &Routing) -> String {
    let mut text = match &routing.hijack {
        None => "no attack".to_owned(),
        Some(hijack) => {
            let prefix = hijack.target.prefix();
            let what = match hijack.form {
                Form::Equal => format!("{prefix}"),
                Form::SubPrefix => format!("both halves of {prefix}"),
                Form::ForgedOrigin => format!("{prefix} with AS {} as its origin", hijack.target.owner()),
            };
            let whose = match hijack.target {
                Target::Web => "web server",
                Target::NameServers => "name servers",
            };
            let near = if hijack.near.is_empty() { "far from all sites".into() } else { hijack.near.join(", ") };
            format!("the attacker announces {what} ({whose}), near: {near}")
        }
    };
    if !routing.filtering.is_empty() {
        let _ = write!(text, "; routes that RPKI calls invalid are dropped by AS ");
        text += &routing.filtering.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    }
    text
}

/// The same for people.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut text = routing_in_words(&status.routing) + "\n\n";
    let _ = writeln!(text, "{:<6}{:<6}{:<6}{:<38}NAME SERVERS", "SITE", "NODE", "LINK", "WEB");
    let up = |is: bool| if is { "up" } else { "DOWN" };
    for site in &status.sites {
        let (node, link) = (up(site.node), up(site.link));
        let (web, dns) = (target(&site.web), target(&site.name_servers));
        let _ = writeln!(text, "{:<6}{node:<6}{link:<6}{web:<38}{dns}", site.id);
    }
    if status.sites.iter().any(|site| is_forged(&site.web) || is_forged(&site.name_servers)) {
        let _ = writeln!(text, "\n{FORGED} the path was told with another origin");
    }
    if !status.ended.is_empty() {
        let _ = writeln!(text, "\nended by themselves: {}", status.ended.join(", "));
    }
    text
}

/// Where it ends, and the path that the site's router was told.
fn target(target: &TargetStatus) -> String {
    let end = match (target.way.arrives, target.way.ends_at_attacker()) {
        (_, true) => "ATTACKER",
        (true, false) => "customer",
        (false, _) => "no route",
    };
    let path = target.claimed.iter().flatten().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let mark = if is_forged(target) { FORGED } else { "" };
    format!("{end} {path}{mark}")
}

/// Whether the path ends at another system than packets do.
fn is_forged(target: &TargetStatus) -> bool {
    target.way.ends_at_attacker() && target.claimed.as_ref().is_some_and(|path| path.last() != Some(&ATTACKER))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::internet::attack::Hijack;

    /// A status in which these sites are led to the attacker.
    pub(crate) fn example(routing: Routing) -> Status {
        let way = |perspective: Perspective, target: Target| {
            let is_fooled = routing.fooled(target).unwrap().contains(&perspective);
            let (regional, end) = (crate::internet::topology::regional(perspective), target.owner());
            let path = if is_fooled { vec![regional, ATTACKER] } else { vec![regional, 64_501, end] };
            let systems = [&[site(perspective)], path.as_slice()].concat();
            TargetStatus { way: Way { systems, arrives: true }, claimed: Some(path) }
        };
        let sites = Perspective::ALL.map(|perspective| SiteStatus {
            id: site_id(perspective).to_owned(),
            node: true,
            link: perspective.index() != 2,
            web: way(perspective, Target::Web),
            name_servers: way(perspective, Target::NameServers),
        });
        Status { sites: sites.into(), ended: Vec::new(), routing }
    }

    #[test]
    fn ok_text() {
        let hijack = Hijack { target: Target::Web, form: Form::Equal, near: vec!["iad1".to_owned()] };
        let status = example(Routing { hijack: Some(hijack), filtering: BTreeSet::from([64_511]) });
        let text = text(&status);
        let first = "the attacker announces 198.18.31.0/24 (web server), near: iad1; routes that RPKI calls invalid are \
                     dropped by AS 64511\n";
        assert!(text.starts_with(first), "{text}");
        let line = |id: &str| text.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
        assert_eq!(
            line("ams1"),
            format!(
                "{:<6}{:<6}{:<6}{:<38}customer 64511 64501 64532",
                "ams1", "up", "up", "customer 64511 64501 64531"
            )
        );
        assert!(line("iad1").contains("ATTACKER 64512 64666"));
        assert!(line("waw1").contains("up    DOWN"));
        assert!(!text.contains('*'));
    }

    #[test]
    fn a_forged_origin_is_marked() {
        let hijack = Hijack { target: Target::Web, form: Form::ForgedOrigin, near: vec!["iad1".to_owned()] };
        let mut status = example(Routing { hijack: Some(hijack), filtering: BTreeSet::new() });
        status.sites[1].web.claimed = Some(vec![64_512, ATTACKER, 64_531]);
        status.ended.push("node-iad1".to_owned());
        let text = text(&status);
        assert!(text.contains("ATTACKER 64512 64666 64531*") && text.contains("\n* the path"), "{text}");
        assert!(text.ends_with("ended by themselves: node-iad1\n"), "{text}");
    }
}
