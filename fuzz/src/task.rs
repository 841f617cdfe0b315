//! Arbitrary event sequences against a task in local DNSSEC mode, in a small signed world.
//!
//! The driver can answer any question as the world would, damage such an answer, answer with arbitrary octets,
//! fail, wait, and play a web server. Invariants: the task ends by its deadline with everything closed; a lookup
//! that did not fail has a validation with status secure or insecure; what is secure is true of the world, and
//! insecure is only what lies in its unsigned zone, however the answers were damaged.

use std::collections::HashSet;

use parallax_validation::{
    base::{Entropy as _, Micros, address::AddressFilter},
    lookup::{
        Dnssec,
        dnssec::{anchor::TrustAnchors, chain::ZoneCache},
        task::{Command, Site, Stream, Task, TaskSettings},
        tls::{TlsSettings, rustls},
    },
    observation::{DnsLookup, DnsOutcome, NetworkError, Observation, RecordSet, RecordType, SecurityStatus},
    plan::{ControlPlan, Hint, HintKind, Host, Plan, PlanLimits, inquiry::Inquiry},
};

use crate::{
    dnssec_denial::now,
    feed::{Bits, Feed},
    wire::{self, Record, rtype},
    zone::{Nsec3Style, Path, Truth, Types, Zone, wire_name},
};

const PTR: u16 = 12;
const MX: u16 = 15;

/// The root and `a`, signed; `b`, not signed.
struct World {
    zones: [Zone; 3],
}

impl World {
    fn new() -> Self {
        let zone = |apex: &[u8], nodes: &[(&[u8], &[u16])]| {
            let nodes: Vec<(Path, Types)> =
                nodes.iter().map(|(path, types)| (path.to_vec(), Types::of(types))).collect();
            Zone::new(apex.to_vec(), &nodes, false)
        };
        use rtype::{A, CAA, CNAME, DS, NS, TXT};
        Self {
            zones: [
                zone(b"", &[(b"a", &[NS, DS]), (b"b", &[NS])]),
                zone(
                    b"a",
                    &[(b"ab", &[A, TXT]), (b"abt", &[TXT]), (b"ac*", &[TXT, CAA]), (b"aac", &[CNAME]), (b"ad", &[A])],
                ),
                zone(b"b", &[(b"ba", &[A, CAA]), (b"bat", &[CNAME])]),
            ],
        }
    }

    fn zone_of(&self, path: &[u8], asked: u16) -> &Zone {
        let above = if asked == rtype::DS { &path[..path.len().saturating_sub(1)] } else { path };
        let deepest = self.zones.iter().filter(|zone| above.starts_with(&zone.apex)).max_by_key(|zone| zone.apex.len());
        deepest.unwrap_or(&self.zones[0])
    }

    /// The types at a name, if it or a wildcard for it exists.
    fn types_at(&self, path: &[u8], asked: u16) -> Option<(Types, Path)> {
        let zone = self.zone_of(path, asked);
        match zone.truth(path) {
            Truth::Exists(types) | Truth::Delegation(types) => Some((types, path.to_vec())),
            Truth::Wildcard(types) => Some((types, [zone.closest_encloser(path), b"*"].concat())),
            Truth::Nothing | Truth::Below(_) => None,
        }
    }

    fn holds(&self, path: &[u8], asked: u16) -> Option<Vec<Record>> {
        // In the unsigned zone no proof lists the types of a name.
        if path == b"ba" && (asked == MX || asked == PTR) {
            let preference: &[u8] = if asked == MX { &[0, 10] } else { &[] };
            let rdata = [preference, &wire_name(b"ab")].concat();
            return Some(vec![Record { owner: wire_name(path), rtype: asked, rdata }]);
        }
        let (types, source) = self.types_at(path, asked)?;
        let zone = self.zone_of(path, asked);
        let signed_apex = asked == rtype::DNSKEY && path == zone.apex && path != b"b";
        (types.has(asked) || signed_apex).then(|| zone.set(&source, &wire_name(&source), asked))
    }

    /// The sections of the right answer, with code NXDOMAIN or not.
    fn answer(&self, path: &[u8], asked: u16, nsec3: bool) -> (u16, Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut answer, mut authority) = (Vec::new(), Vec::new());
        let mut at = path.to_vec();
        for _ in 0..3 {
            let zone = self.zone_of(&at, asked);
            let owner = wire_name(&at);
            let found = self.types_at(&at, asked);
            let alias = || self.holds(&at, rtype::CNAME).map(|set| (set, true));
            let Some((set, is_alias)) = self.holds(&at, asked).map(|set| (set, false)).or_else(alias) else {
                self.push(zone, zone.set(&zone.apex, &wire_name(&zone.apex), rtype::SOA), None, &mut authority);
                self.push_chain(zone, nsec3, &mut authority);
                return (if found.is_some() { 0 } else { 3 }, answer, authority);
            };
            if set[0].owner != owner {
                self.push_chain(zone, nsec3, &mut authority);
            }
            self.push(zone, set, Some(&owner), &mut answer);
            if !is_alias {
                break;
            }
            at = b"ab".to_vec();
        }
        (0, answer, authority)
    }

    fn push(&self, zone: &Zone, set: Vec<Record>, owner: Option<&[u8]>, section: &mut Vec<Vec<u8>>) {
        let signature = (zone.apex != b"b").then(|| wire::sign(&wire_name(&zone.apex), &set));
        for mut record in set.into_iter().chain(signature) {
            if let Some(owner) = owner {
                record.owner = owner.to_vec();
            }
            section.push(record.wire());
        }
    }

    fn push_chain(&self, zone: &Zone, nsec3: bool, section: &mut Vec<Vec<u8>>) {
        if zone.apex == b"b" {
            return;
        }
        let style = Nsec3Style { salt: &[], iterations: 0, opt_out: 0 };
        let chain = if nsec3 { zone.nsec3(style) } else { zone.nsec() };
        chain.into_iter().for_each(|record| self.push(zone, vec![record], None, section));
    }

    fn check(&self, lookup: &DnsLookup) {
        let Some(validation) = &lookup.validation else {
            return assert!(matches!(lookup.outcome, DnsOutcome::Failed(_)), "without validation: {lookup:?}");
        };
        let aliases = match &lookup.outcome {
            DnsOutcome::Answer(RecordSet { aliases, .. }) => aliases,
            DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => &denial.aliases,
            DnsOutcome::Failed(_) => return,
        };
        let last = aliases.last().map_or(lookup.name.as_str(), |alias| alias.target.as_str());
        match validation.status {
            SecurityStatus::Secure => {
                let path = path_of(&wire::name(last));
                let truth = path.as_ref().and_then(|path| self.holds(path, lookup.rtype.number()));
                match (&lookup.outcome, truth) {
                    (DnsOutcome::Answer(set), Some(truth)) => {
                        assert!(set.rdata.iter().all(|rdata| truth.iter().any(|record| record.rdata == rdata.0)));
                    }
                    (DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_), None) => {}
                    (seen, truth) => panic!("secure and not true: {last} {seen:?}, but {truth:?}"),
                }
            }
            SecurityStatus::Insecure => {
                let below_b = |name: &str| name == "b" || name.ends_with(".b");
                let in_b = below_b(&lookup.name) || aliases.iter().any(|alias| below_b(&alias.target));
                assert!(in_b, "taken for unsigned: {lookup:?}");
            }
            status => panic!("{status} and not failed: {lookup:?}"),
        }
    }
}

/// A name of one-letter labels; none if it has others.
fn path_of(mut name: &[u8]) -> Option<Path> {
    let mut path = Vec::new();
    while let Some((&length, rest)) = name.split_first() {
        match length {
            0 => break,
            1 => path.insert(0, rest.first()?.to_ascii_lowercase()),
            _ => return None,
        }
        name = &rest[1..];
    }
    Some(path)
}

/// The world's reply to a query, with its id and question.
fn reply_to(world: &World, query: &[u8], nsec3: bool) -> Vec<u8> {
    let section = &query[12..query.len() - 11];
    let id = u16::from_be_bytes([query[0], query[1]]);
    let asked = u16::from_be_bytes([section[section.len() - 4], section[section.len() - 3]]);
    let (flags, answer, authority) = match path_of(section) {
        Some(path) => world.answer(&path, asked, nsec3),
        None => (2, Vec::new(), Vec::new()),
    };
    wire::message(id, flags, section, &answer, &authority)
}

/// What is asked of a host over TLS, and records other than TXT.
fn another_control(choice: u8) -> Option<ControlPlan> {
    let named = |name: &str| Host::Name(name.to_owned());
    let records = |name: &str, rtype| Some(ControlPlan::Dns(Inquiry::Records { name: name.to_owned(), rtype }));
    let https = |host, body_bytes| Some(ControlPlan::Http { host, path: "/t".to_owned(), https: true, body_bytes });
    Some(match choice {
        0 => return None,
        1 => ControlPlan::TlsAlpn { host: named("b.a") },
        2 => ControlPlan::TlsAlpn { host: named("a.b") },
        3 => ControlPlan::TlsAlpn { host: Host::Ip([8, 8, 4, 4].into()) },
        4 => ControlPlan::TlsAlpn { host: named("x.y.z") },
        5 => return https(named("b.a"), 40),
        6 => return https(Host::Ip([8, 8, 4, 4].into()), 0),
        7 => return records("t.b.a", RecordType::Txt),
        8 => return records("c.a.a", RecordType::Cname),
        9 => return records("q.c.a", RecordType::Caa),
        10 => return records("a.b", RecordType::Ptr),
        11 => return records("..", RecordType::Cname),
        12 => ControlPlan::Dns(climb(&["z.x.c.a", "x.c.a", "c.a", "a"])),
        13 => ControlPlan::Dns(climb(&[])),
        choice => return derivation(choice - 10).map(ControlPlan::Dns),
    })
}

fn climb(levels: &[&str]) -> Inquiry {
    Inquiry::Climb { levels: levels.iter().map(|level| (*level).to_owned()).collect() }
}

/// What may lead to the name that control is shown for.
fn derivation(choice: u8) -> Option<Inquiry> {
    let aliases = |from: &str, to: &str| Inquiry::Aliases { from: from.to_owned(), to: to.to_owned() };
    let mail = |domain: &str, host: &str| Inquiry::Mail { domain: domain.to_owned(), host: host.to_owned() };
    match choice {
        0 => None,
        1 => Some(aliases("c.a.a", "b.a")),
        2 => Some(aliases("c.a.a", "x.y")),
        3 => Some(aliases("t.a.b", "x.y")),
        4 => Some(mail("a.b", "b.a")),
        5 => Some(mail("b.a", "b.a")),
        6 => Some(Inquiry::Records { name: "a.b".to_owned(), rtype: RecordType::Ptr }),
        _ => Some(climb(&["t.a.b", "a.b", "b"])),
    }
}

fn a_plan(feed: &mut Feed<'_>) -> Plan {
    let choices = feed.octet();
    // Only such a plan has a second octet of choices.
    let more = if choices & 7 == 7 { feed.octet() } else { 0 };
    let txt = |name: &str| Some(ControlPlan::txt(name.to_owned()));
    let http = |host| Some(ControlPlan::http(host, "/t".to_owned()));
    let named = |name: &str| http(Host::Name(name.to_owned()));
    let control = match choices & 7 {
        0 => txt("t.b.a"),
        1 => txt("x.c.a"),
        2 => txt("t.a.b"),
        3 => named("b.a"),
        4 => named("a.b"),
        5 => txt("c.a.a"),
        6 => http(Host::Ip([8, 8, 4, 4].into())),
        _ => another_control(more & 15),
    };
    let derivation = derivation(more >> 4 & 7);
    let levels: &[&str] = match choices >> 3 & 7 {
        0 => &["t.b.a", "b.a", "a"],
        1 => &["z.x.c.a", "x.c.a", "c.a", "a"],
        2 => &["t.a.b", "a.b", "b"],
        3 => &["c.a.a", "a.a", "a"],
        4 => &["e.d.a", "d.a", "a"],
        5 => &["x.y.z", "y.z", "z"],
        6 => &["..", "a"],
        _ => &[],
    };
    let hints = [(HintKind::DoubledName, "t.b.a.b.a"), (HintKind::WildcardSibling, "a..bad")];
    let hint = |(kind, name): (HintKind, &str)| Hint { kind, name: name.to_owned() };
    let limits = PlanLimits {
        task_deadline_ms: 1_000,
        dns_try_ms: 50 + u32::from(feed.octet()),
        dns_transmissions: 1 + feed.octet() % 3,
        http_connect_ms: 300,
        http_response_ms: 400,
        ..PlanLimits::default()
    };
    Plan {
        control,
        derivation,
        caa_levels: levels.iter().map(|level| (*level).to_owned()).collect(),
        hints: if choices & 64 != 0 { hints.map(hint).to_vec() } else { Vec::new() },
        keep_proof: choices & 128 != 0,
        diagnose: choices & 128 == 0,
        survey: None,
        limits,
    }
}

struct Driver {
    world: World,
    task: Task,
    settings: TaskSettings,
    zones: ZoneCache,
    entropy: Bits,
    now: Micros,
    held: HashSet<u16>,
    packets: Vec<(u16, Vec<u8>)>,
    open: Vec<Stream>,
    ever_opened: HashSet<Stream>,
    sent: Vec<(Stream, Vec<u8>)>,
}

impl Driver {
    fn new(plan: Plan, seed: u64) -> Self {
        let ds = wire::ds(&[0]);
        let digest: String = ds[4..].iter().map(|octet| format!("{octet:02X}")).collect();
        let anchors = TrustAnchors::parse(&format!(". IN DS {} 15 2 {digest}", wire::key_tag())).expect("an anchor");
        let resolver = ([127, 0, 0, 53], 53).into();
        let dnssec = Dnssec::Local(anchors.into());
        let tls = TlsSettings::new(rustls::crypto::ring::default_provider()).expect("TLS 1.2 and 1.3 are built in");
        let settings = TaskSettings { resolver, filter: AddressFilter::default(), dnssec, tls };
        let (mut entropy, mut zones, start) = (Bits(seed), ZoneCache::default(), Micros(17));
        let mut site = Site { settings: &settings, zones: &mut zones, entropy: &mut entropy };
        let task = Task::new(plan, &mut site, start, now());
        let (packets, open, sent, held) = (Vec::new(), Vec::new(), Vec::new(), HashSet::new());
        let (world, ever_opened) = (World::new(), HashSet::new());
        Self { world, task, settings, zones, entropy, now: start, held, packets, open, ever_opened, sent }
    }

    fn compose(&mut self, slot: u16) {
        let mut packet = Vec::new();
        let id = self.entropy.next_u64() as u16;
        if self.task.compose(self.now, slot, id, &mut self.entropy, &mut packet) {
            assert!(self.held.contains(&slot), "query {slot} is sent without port and id");
            self.packets.push((slot, packet));
        }
    }

    /// Does what the task asks for; the observation if it has ended.
    fn settle(&mut self) -> Option<Observation> {
        for command in self.task.take_commands() {
            match command {
                Command::Transmit(slot) => {
                    self.held.insert(slot);
                    self.compose(slot);
                }
                Command::Release(slot) => {
                    self.held.remove(&slot);
                    self.packets.retain(|(of, _)| *of != slot);
                }
                Command::Connect(stream, peer) => {
                    assert!(self.ever_opened.insert(stream), "{stream:?} was opened twice");
                    self.open.push(stream);
                    if matches!(stream, Stream::Fetch(_)) {
                        assert_eq!(self.settings.filter.forbids(peer.ip()), None, "{peer}");
                    }
                }
                Command::Send(stream, bytes) => {
                    assert!(self.open.contains(&stream), "{stream:?} is not open");
                    self.sent.push((stream, bytes));
                }
                Command::Part(stream, _) => {
                    assert!(self.open.contains(&stream), "{stream:?} is not open");
                    self.open.retain(|open| *open != stream);
                }
                Command::Close(stream) => {
                    assert!(self.ever_opened.contains(&stream), "{stream:?} was never opened");
                    self.open.retain(|open| *open != stream);
                }
                Command::Pace(..) => {}
            }
        }
        self.task.poll_observation(self.now).map(|observation| *observation)
    }

    fn datagram(&mut self, slot: u16, packet: &[u8]) {
        let Self { task, settings, zones, entropy, now, .. } = self;
        task.handle_datagram(&mut Site { settings, zones, entropy }, *now, slot, packet);
    }

    fn answer_all(&mut self, nsec3: bool) {
        for (slot, query) in std::mem::take(&mut self.packets) {
            let packet = reply_to(&self.world, &query, nsec3);
            self.datagram(slot, &packet);
        }
    }

    fn feed(&mut self, feed: &mut Feed<'_>) {
        let choice = feed.octet();
        let (kind, nsec3) = (choice & 15, choice & 16 != 0);
        let oldest = self.open.first().copied().unwrap_or(Stream::Fetch(1));
        let stream = if choice & 32 == 0 { oldest } else { Stream::Query(u16::from(choice >> 6)) };
        let chosen = |packets: &[(u16, Vec<u8>)], at: u8| packets.get(usize::from(at) % packets.len().max(1)).cloned();
        match kind {
            0 | 1 => return self.answer_all(nsec3),
            2..=5 => {
                let Some((slot, query)) = chosen(&self.packets, feed.octet()) else { return };
                let mut packet = reply_to(&self.world, &query, nsec3);
                match kind {
                    // Octets are changed, or the reply to one question goes to another.
                    2 => {
                        for _ in 0..1 + feed.octet() % 4 {
                            let at = usize::from(feed.pair()) % packet.len();
                            packet[at] ^= feed.octet();
                        }
                    }
                    3 => {
                        let Some((_, other)) = chosen(&self.packets, feed.octet()) else { return };
                        let body = reply_to(&self.world, &other, nsec3).split_off(12);
                        packet.truncate(12);
                        packet.extend_from_slice(&body);
                    }
                    4 => packet[2] |= 2,
                    _ => {
                        packet.truncate(12 + query.len() - 23);
                        let counts = [0, feed.octet() & 7, 0, feed.octet() & 7, 0, 0];
                        packet[6..12].copy_from_slice(&counts);
                        packet.extend_from_slice(feed.counted());
                    }
                }
                return self.datagram(slot, &packet);
            }
            6 => {
                let query = self.sent.iter().rev().find(|(stream, _)| matches!(stream, Stream::Query(_))).cloned();
                let Some((stream, query)) = query else { return };
                let reply = reply_to(&self.world, &query[2..], nsec3);
                let bytes = [&(reply.len() as u16).to_be_bytes()[..], &reply].concat();
                let Self { task, settings, zones, entropy, now, .. } = self;
                return task.handle_stream(&mut Site { settings, zones, entropy }, *now, stream, &bytes);
            }
            7 => return self.compose(u16::from(feed.octet() & 15)),
            _ => {}
        }
        let Self { task, settings, zones, entropy, now, .. } = self;
        let site = &mut Site { settings, zones, entropy };
        match kind {
            8 => task.handle_datagram_failed(site, *now, u16::from(feed.octet() & 15), NetworkError::Refused),
            9 => task.handle_local_failure(site, *now, u16::from(feed.octet() & 15), "no port"),
            10 | 11 => task.handle_connected(site, *now, stream),
            12 => task.handle_stream(site, *now, stream, feed.counted()),
            13 => task.handle_stream(site, *now, stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
            14 => task.handle_stream_failed(site, *now, stream, NetworkError::Reset),
            _ => {
                *now = now.plus_ms(feed.octet().into());
                task.handle_timeout(site, *now);
            }
        }
    }
}

/// Drives a task to its end.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let plan = a_plan(&mut feed);
    let deadline_ms = plan.limits.task_deadline_ms;
    let mut driver = Driver::new(plan, feed.octet().into());
    let deadline = driver.now.plus_ms(deadline_ms.into());
    let mut observation = driver.settle();
    let mut turns = 0;
    let observation = loop {
        if let Some(observation) = observation {
            break observation;
        }
        turns += 1;
        assert!(turns < 1_000, "a task that never ends");
        assert!(driver.now < deadline, "no end at the deadline");
        if feed.is_empty() || turns > 200 {
            let wakes = driver.task.timeout();
            assert!(wakes <= deadline && wakes > driver.now, "{wakes:?} after {:?}", driver.now);
            driver.now = wakes;
            let Driver { task, settings, zones, entropy, .. } = &mut driver;
            task.handle_timeout(&mut Site { settings, zones, entropy }, wakes);
        } else {
            driver.feed(&mut feed);
        }
        observation = driver.settle();
    };
    assert!(driver.open.is_empty(), "left open: {:?}", driver.open);
    assert!(driver.held.is_empty(), "never released: {:?}", driver.held);
    assert!(driver.task.take_commands().is_empty());
    observation.lookups().for_each(|lookup| driver.world.check(lookup));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every plan in a world that answers rightly, everything is proven.
    #[test]
    fn an_undamaged_world_is_proven() {
        for nsec3 in [false, true] {
            let plain = [0, 1, 2, 5, 0o10, 0o11, 0o31, 0o42, 0o20].map(|choices| [choices, 50, 1, 0]);
            // Of the second octet, each inquiry that is control and each that is a derivation; no hosts.
            let controls = [7, 8, 9, 10, 12, 14, 15].into_iter().map(|control| [0o77, control, 50, 1]);
            let derivations = (1..8).map(|derivation| [0o77, derivation << 4, 50, 1]);
            for choices in plain.into_iter().chain(controls).chain(derivations).chain([[0o57, 0, 50, 1]]) {
                let mut driver = Driver::new(a_plan(&mut Feed(&choices)), 1);
                let mut observation = driver.settle();
                for _ in 0..20 {
                    driver.answer_all(nsec3);
                    observation = observation.or(driver.settle());
                }
                let observation = observation.expect("all is answered");
                assert!(observation.lookups().count() > 0);
                for lookup in observation.lookups() {
                    driver.world.check(lookup);
                    assert!(!matches!(lookup.outcome, DnsOutcome::Failed(_)), "{choices:?} {nsec3} {lookup:?}");
                }
            }
        }
    }
}
