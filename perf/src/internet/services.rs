//! Settings of the servers of others: name servers, resolvers, web servers. Pure text.
//!
//! Each resolver's settings are those that `packaging/unbound` ships, with addresses, the private root and paths put in,
//! so that what is measured here is what is recommended there: nothing that was answered is used twice.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

use super::zones::{Actor, Domain, refusal_of};

const UNBOUND: &str = include_str!("../../../packaging/unbound/perspective.conf");
/// What the shipped settings have in the place of a perspective's address.
const UNBOUND_ADDRESS: &str = "198.51.100.10";
const UNBOUND_ANCHOR: &str = "auto-trust-anchor-file: \"/var/lib/unbound/root.key\"";
const UNBOUND_CONTROL: &str = "control-enable: no";

/// A zone with the file that holds it.
pub type Served = (String, String);

/// The root's zone.
#[must_use]
pub fn root_zone() -> Vec<Served> {
    vec![(".".to_owned(), "root".to_owned())]
}

/// The top-level domain's zone.
#[must_use]
pub fn tld_zone() -> Vec<Served> {
    vec![("example.".to_owned(), "tld".to_owned())]
}

/// The domains' zones as this actor serves them.
#[must_use]
pub fn domain_zones(by: Actor) -> Vec<Served> {
    Domain::ALL.iter().map(|domain| (format!("{domain}."), format!("{}.{}", by.name(), domain.label()))).collect()
}

/// NSD at one address.
#[must_use]
pub fn nsd(name: &str, at: Ipv4Addr, zones: &Path, own: &Path, served: &[Served]) -> String {
    let (zones, own) = (zones.display(), own.display());
    let mut text = format!(
        "server:\n ip-address: {at}\n username: \"\"\n zonesdir: \"{zones}\"\n database: \"\"\n \
         pidfile: \"{own}/{name}.pid\"\n xfrdfile: \"{own}/{name}.xfrd\"\n zonelistfile: \"{own}/{name}.list\"\n \
         xfrdir: \"{own}\"\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n server-count: 1\n verbosity: 1\n\
         remote-control:\n control-enable: no\n"
    );
    for (zone, file) in served {
        let _ = write!(text, "zone:\n name: \"{zone}\"\n zonefile: \"{file}\"\n");
    }
    text
}

/// The resolver of a perspective at `at`.
#[must_use]
pub fn unbound(at: Ipv4Addr, zones: &Path, own: &Path, control: &Path) -> String {
    let (zones, own) = (zones.display(), own.display());
    let text = UNBOUND.replace(UNBOUND_ADDRESS, &at.to_string());
    let text = text.replace(UNBOUND_ANCHOR, &format!("trust-anchor-file: \"{zones}/root.ds\""));
    let steered =
        format!("control-enable: yes\n    control-use-cert: no\n    control-interface: {}", control.display());
    text.replace(UNBOUND_CONTROL, &steered)
        + &format!(
            "\nserver:\n    interface: {at}\n    root-hints: \"{zones}/root.hints\"\n    chroot: \"\"\n    \
             username: \"\"\n    directory: \"{own}\"\n    pidfile: \"{own}/unbound.pid\"\n    use-syslog: no\n    \
             logfile: \"\"\n    num-threads: 1\n    outgoing-range: 900\n    num-queries-per-thread: 450\n"
        )
}

/// nginx with an actor's challenges at these addresses.
#[must_use]
pub fn nginx(by: Actor, at: &[Ipv4Addr], own: &Path) -> String {
    let own = own.display();
    let mut text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {own}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 512; }}\nhttp {{\n  access_log {own}/access.log;\n  \
         client_body_temp_path {own}/body;\n  default_type text/plain;\n  keepalive_timeout 0;\n  server {{\n"
    );
    for address in at {
        let _ = writeln!(text, "    listen {address}:80;");
    }
    for domain in Domain::ALL {
        let (token, body) = (by.token(domain), by.key_authorization(domain));
        let _ = writeln!(text, "    location = /.well-known/acme-challenge/{token} {{ return 200 \"{body}\"; }}");
    }
    let refusal = refusal_of(by).replace('\n', "\\n");
    let _ = write!(text, "    location / {{ return 404 \"{refusal}\"; }}\n  }}\n}}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_the_shipped_resolver_s_settings_has_its_place_there() {
        assert!(UNBOUND.contains(UNBOUND_ADDRESS) && UNBOUND.contains(UNBOUND_ANCHOR));
        assert!(UNBOUND.contains("    control-enable: no\n"));
        let text = unbound(Ipv4Addr::new(198, 18, 21, 1), Path::new("/z"), Path::new("/o"), Path::new("/o/ctl"));
        assert!(!text.contains(UNBOUND_ADDRESS) && !text.contains("/var/lib"));
        assert!(text.contains("outgoing-interface: 198.18.21.1 ") && text.contains("cache-max-ttl: 0"));
        assert!(text.contains("trust-anchor-file: \"/z/root.ds\""));
        assert!(text.contains("    control-enable: yes\n"));
    }

    #[test]
    fn a_web_server_has_its_own_actor_s_challenges_alone() {
        let text = nginx(Actor::Attacker, &[Ipv4Addr::LOCALHOST], Path::new("/o"));
        for domain in Domain::ALL {
            assert!(text.contains(&Actor::Attacker.key_authorization(domain)));
            assert!(!text.contains(&Actor::Owner.token(domain)));
        }
        assert!(text.contains("return 404 \"attacker's server: no such file\\n\";"));
    }

    #[test]
    fn zones_of_both_actors_have_files() {
        assert_eq!(domain_zones(Actor::Owner)[0], ("plain.example.".to_owned(), "owner.plain".to_owned()));
        let text = nsd("tld", Ipv4Addr::LOCALHOST, Path::new("/z"), Path::new("/o"), &tld_zone());
        assert!(text.ends_with("zone:\n name: \"example.\"\n zonefile: \"tld\"\n"));
    }
}
