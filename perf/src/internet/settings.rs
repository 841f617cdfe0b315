//! Settings of our own programs: the nodes, each at its site, and the engine at the CA.
//!
//! Bounds are small, so that a run that waits for something ends soon; the quorum rules are those in force today, and the
//! ports are the real ones. There are two engines, which ask their perspectives each in its way: see [`FanOut`].

use std::{fmt::Write as _, net::Ipv4Addr, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    topology::{AUTHORITY, address, site, site_id},
    zones::Actor,
};
use crate::lab::world::{ISSUER_DOMAIN, Perspective};

/// Where nodes and the engine that asks all at once listen.
pub const PORT: u16 = 9443;
/// Where the engine that asks the primary first listens.
const PORT_PRIMARY_FIRST: u16 = 9444;
/// Figures and health, on each one's own loopback address.
pub const METRICS: SocketAddr = loopback(9463);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
/// Who calls the engine.
pub const CALLER: &str = "ra";
/// The engine's name in its certificate.
pub const ENGINE: &str = "engine";
/// Everything of the laboratory is in the range for benchmarks of networks (RFC 2544), which is reserved.
const ALLOWED: &str = "198.18.0.0/15";

/// How an engine asks its perspectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FanOut {
    /// All at once, and all are awaited, so that a run shows what every one of them saw.
    Parallel,
    /// As an engine does whose settings say nothing of it: remotes are asked once the primary has confirmed, a refusal
    /// awaits all of them, and a permission no more than it needs.
    PrimaryFirst,
}

impl FanOut {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Parallel, Self::PrimaryFirst];

    /// What its engine's files and process are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parallel => "engine",
            Self::PrimaryFirst => "engine-primary-first",
        }
    }

    /// Where its engine listens.
    #[must_use]
    pub fn listen(self) -> SocketAddr {
        let port = match self {
            Self::Parallel => PORT,
            Self::PrimaryFirst => PORT_PRIMARY_FIRST,
        };
        (engine_address(), port).into()
    }

    /// Where its engine's figures are.
    #[must_use]
    pub fn metrics(self) -> SocketAddr {
        match self {
            Self::Parallel => METRICS,
            Self::PrimaryFirst => loopback(9464),
        }
    }

    /// What its settings say of it.
    fn settings(self) -> &'static str {
        match self {
            Self::Parallel => "fan_out = \"parallel\"\nawait_all_on_permission = true\n",
            Self::PrimaryFirst => "",
        }
    }
}

/// RIR as settings write it, latitude, longitude; the primary's first.
const PLACES: [(&str, f64, f64); 6] = [
    ("RIPE NCC", 52.37, 4.90),
    ("ARIN", 39.04, -77.49),
    ("RIPE NCC", 52.23, 21.01),
    ("APNIC", -33.87, 151.21),
    ("LACNIC", -23.55, -46.63),
    ("AFRINIC", -26.20, 28.05),
];

/// The RIR region of a perspective, as settings write it.
#[must_use]
pub fn rir(perspective: Perspective) -> &'static str {
    PLACES[perspective.index()].0
}

/// Where a perspective's node and resolver are.
#[must_use]
pub fn node_address(perspective: Perspective) -> Ipv4Addr {
    address(site(perspective), 1)
}

/// Where the engine is.
#[must_use]
pub fn engine_address() -> Ipv4Addr {
    address(AUTHORITY, 1)
}

/// Every name that needs a certificate.
#[must_use]
pub fn names() -> Vec<String> {
    Perspective::ALL.map(site_id).into_iter().chain([ENGINE, CALLER]).map(str::to_owned).collect()
}

/// The settings of one node.
#[must_use]
pub fn node(perspective: Perspective) -> String {
    let (id, at) = (site_id(perspective), node_address(perspective));
    format!(
        "perspective = \"{id}\"\nrir = \"{}\"\nresolver = \"{at}:53\"\ndnssec = \"local\"\n\
         trust_anchor_file = \"zones/root.ds\"\nsource_ipv4 = \"{at}\"\nsource_ports = 16\n\
         [serve]\nlisten = \"{at}:{PORT}\"\n{}[clients]\nlink = [\"{ENGINE}\"]\n[metrics]\nlisten = \"{METRICS}\"\n\
         [laboratory]\nallow_addresses = [\"{ALLOWED}\"]\n",
        rir(perspective),
        tls(id),
    )
}

/// The settings of an engine.
#[must_use]
pub fn engine(fan_out: FanOut) -> String {
    let mut text = format!(
        "issuer_domains = [\"{ISSUER_DOMAIN}\"]\ntrust_anchor_file = \"zones/root.ds\"\n\
         [engine]\nattempts_in_flight = 400\n{}\
         reply_grace_ms = 1000\nrestarts_max = 1\nrestart_cool_down_ms = 300\n\
         [limits]\nin_flight_per_target_max = 400\nfailures_before_cool_down = 50\ncool_down_ms = 1\n\
         cool_down_max_ms = 10\n\
         [lookup]\ntask_deadline_ms = 8000\ndns_try_ms = 2000\ndns_transmissions = 2\nhttp_connect_ms = 1500\n\
         http_response_ms = 2500\n\
         [serve]\nlisten = \"{}\"\nmetrics = \"{}\"\n\
         [[serve.caller]]\nname = \"{CALLER}\"\nmay = [\"corroborate\", \"check\", \"explain-all\"]\n\
         in_flight_max = 2000\n{}[laboratory]\nallow_addresses = [\"{ALLOWED}\"]\n",
        fan_out.settings(),
        fan_out.listen(),
        fan_out.metrics(),
        tls(ENGINE),
    );
    for perspective in Perspective::ALL {
        let (id, at) = (site_id(perspective), node_address(perspective));
        let (rir, latitude, longitude) = PLACES[perspective.index()];
        let role = if perspective == Perspective::PRIMARY { "primary" } else { "remote" };
        let _ = write!(
            text,
            "[[perspective]]\nid = \"{id}\"\nrole = \"{role}\"\nrir = \"{rir}\"\nlatitude = {latitude:.2}\n\
             longitude = {longitude:.2}\nas_number = {}\nprovider = \"site-{id}\"\nresolver = \"{at}:53\"\n\
             dnssec = \"local\"\nnode = \"{at}:{PORT}\"\n",
            site(perspective),
        );
    }
    text
}

fn tls(name: &str) -> String {
    format!("[tls]\ncertificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\nauthorities = \"pki/ca.pem\"\n")
}

/// One request, as a line of a bulk file; `host` is the domain's own or another below it that the same token is for.
#[must_use]
pub fn request(id: &str, host: &str, asks: super::verdict::Asks) -> String {
    let super::verdict::Asks { actor, method, domain } = asks;
    let line = serde_json::json!({
        "id": id,
        "identifier": host,
        "method": method.name(),
        "token": Actor::token(actor, domain),
        "key_authorization": actor.key_authorization(domain),
        "account_uri": actor.account_uri(),
        "caa": true,
    });
    line.to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_loopback_laboratory() {
        let loopback = crate::lab::generate::settings(&crate::lab::world::World::new(1, 1));
        for perspective in Perspective::ALL {
            let (rir, latitude, longitude) = PLACES[perspective.index()];
            let id = site_id(perspective);
            let role = if perspective == Perspective::PRIMARY { "primary" } else { "remote" };
            let same = format!(
                "id = \"{id}\"\nrole = \"{role}\"\nrir = \"{rir}\"\nlatitude = {latitude:.2}\nlongitude = {longitude:.2}\n"
            );
            assert!(loopback.contains(&same), "{same}");
            assert!(engine(FanOut::Parallel).contains(&same));
        }
    }

    #[test]
    fn ports_are_the_real_ones() {
        for text in FanOut::ALL.map(engine).into_iter().chain([node(Perspective::PRIMARY)]) {
            assert!(!text.contains("http_port") && !text.contains("https_port"));
        }
    }

    #[test]
    fn the_engine_that_asks_the_primary_first_has_the_default_way_of_asking() {
        let text = engine(FanOut::PrimaryFirst);
        assert!(!text.contains("fan_out") && !text.contains("await_all"));
        let other = engine(FanOut::Parallel);
        assert!(other.contains("\nfan_out = \"parallel\"\nawait_all_on_permission = true\n"));
        // Nothing else tells the two apart but where they listen.
        let differing = |(one, two): (&str, &str)| (one != two).then(|| one.to_owned());
        let rest = other.lines().filter(|line| !line.starts_with("fan_out") && !line.starts_with("await_all"));
        let differ: Vec<String> = rest.zip(text.lines()).filter_map(differing).collect();
        assert_eq!(differ, ["listen = \"198.18.40.1:9443\"", "metrics = \"127.0.0.1:9463\""]);
    }
}
