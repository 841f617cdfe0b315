//! A zone's own name servers, asked after a lookup of theirs has failed for good.
//!
//! Our resolver says SERVFAIL or nothing; what its servers say is learnt by asking them (`cases.md` D24, D25,
//! D26, D33, D34). The resolver is asked for the servers and their addresses; a zone whose servers are all dead
//! is found through its parent's. Each server then gets the failed question, A of the same name for contrast, and
//! SOA of the zone, side by side.
//!
//! An attacker chooses these addresses: they pass the address filter, their number is bounded, and each is sent
//! one datagram a question and one connection in all. Nothing here is part of a judgement.
//!
//! Invariant: it ends by its deadline, with what came until then.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::{
    dnssec::set::Section,
    nameserver::{self, PORT, Reading, allowed, answer, glue, lies_in, outcome},
};
use crate::{
    base::{
        Micros,
        address::AddressFilter,
        limits::{DIAGNOSED_SERVERS_MAX, DIAGNOSIS_PARENTS_MAX},
        octets::Octets,
    },
    observation::{
        Denial, Diagnosis, DnsFailure, DnsLookup, DnsOutcome, RecordType, ServerAnswer, ServerOutcome, ServerView,
    },
};

/// What a query of a diagnosis is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// NS of the zone, of the resolver.
    Servers,
    /// NS of the zone above, of the resolver.
    Parents,
    /// Address of a server of the zone above, of the resolver.
    ParentAddress,
    /// NS of the zone, of a server of the zone above.
    Delegation,
    /// Address of a server, of the resolver.
    Address(usize),
    /// The failed question, of a server.
    Question(usize),
    /// The same over TCP.
    QuestionOverTcp(usize),
    /// A of the same name, of a server.
    Contrast(usize),
    /// SOA of the zone, of a server.
    Version(usize),
}

impl Aim {
    /// Whether it may go to TCP if UDP does not do.
    pub(super) fn may_use_tcp(self) -> bool {
        !matches!(self, Self::Contrast(_) | Self::Version(_) | Self::Delegation)
    }
}

/// A query to make.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) aim: Aim,
    pub(super) name: String,
    pub(super) rtype: RecordType,
    /// The name server; none for the resolver.
    pub(super) peer: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Servers,
    Addresses,
    Delegation,
    Asking,
    Ended,
}

#[derive(Debug, Default)]
struct Server {
    name: String,
    /// Usable ones, IPv4 first.
    addresses: Vec<IpAddr>,
    answer: Option<ServerAnswer>,
    contrast: Option<ServerAnswer>,
    serial: Option<u32>,
    nsid: Option<Octets>,
    signatures_expired: Option<Timestamp>,
    tcp_tried: bool,
}

/// A diagnosis on its way.
#[derive(Debug)]
pub(super) struct Diagnosing {
    zone: String,
    name: String,
    rtype: RecordType,
    deadline: Micros,
    began: Timestamp,
    stage: Stage,
    wanted: Vec<Ask>,
    open: Vec<Aim>,
    asked: usize,
    /// The zone was corrected by a denial's SOA.
    corrected: bool,
    parents: Vec<IpAddr>,
    /// The parent's servers were asked.
    referred: bool,
    /// A server of the zone or of the zone above must be seen to reply: it decides whether a failure may be excused.
    must_reach: bool,
    /// One did.
    reached: bool,
    servers: Vec<Server>,
}

impl Diagnosing {
    /// A diagnosis of a failed lookup, or of one that succeeded at the second asking; none if the fault does not
    /// lie with a registered domain, or lies with us. `began` is the task's time.
    pub(super) fn of(lookup: &DnsLookup, began: Timestamp, deadline: Micros, must_reach: bool) -> Option<Self> {
        let (name, zone) = subject(lookup)?;
        let mut diagnosing = Self {
            zone,
            name,
            rtype: lookup.rtype,
            deadline,
            began,
            stage: Stage::Servers,
            wanted: Vec::new(),
            open: Vec::new(),
            asked: 0,
            corrected: false,
            parents: Vec::new(),
            referred: false,
            must_reach,
            reached: false,
            servers: Vec::new(),
        };
        diagnosing.want(Aim::Servers, diagnosing.zone.clone(), RecordType::Ns, None);
        if let Some((_, parent)) = diagnosing.zone.split_once('.') {
            let parent = parent.to_owned();
            diagnosing.want(Aim::Parents, parent, RecordType::Ns, None);
        }
        Some(diagnosing)
    }

    /// When it ends at the latest.
    pub(super) fn deadline(&self) -> Micros {
        self.deadline
    }

    pub(super) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Queries made so far.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Nothing more is waited for.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Ended;
        self.wanted.clear();
        self.open.clear();
    }

    fn want(&mut self, aim: Aim, name: String, rtype: RecordType, peer: Option<IpAddr>) {
        let peer = peer.map(|address| SocketAddr::new(address, PORT));
        self.wanted.push(Ask { aim, name, rtype, peer });
    }

    /// The queries to make now.
    pub(super) fn take_asks(&mut self, now: Micros) -> Vec<Ask> {
        if now >= self.deadline {
            self.wanted.clear();
        }
        let asks = std::mem::take(&mut self.wanted);
        self.asked += asks.len();
        self.open.extend(asks.iter().map(|ask| ask.aim));
        if asks.is_empty() && self.open.is_empty() {
            self.end();
        }
        asks
    }

    /// A query has ended; its reply is empty if none came.
    pub(super) fn handle(&mut self, aim: Aim, lookup: &DnsLookup, packet: &[u8], filter: &AddressFilter) {
        let Some(at) = self.open.iter().position(|open| *open == aim) else { return };
        self.open.swap_remove(at);
        let is_direct = !matches!(aim, Aim::Servers | Aim::Parents | Aim::ParentAddress | Aim::Address(_));
        let is_reply = !packet.is_empty() || matches!(lookup.outcome, DnsOutcome::Failed(DnsFailure::Rcode(_)));
        self.reached |= is_direct && is_reply;
        match aim {
            Aim::Servers if self.stage == Stage::Servers => self.found_servers(lookup, packet),
            Aim::Servers => {}
            Aim::Parents => self.found_parents(packet),
            Aim::ParentAddress => {
                let parent = allowed(lookup, filter);
                self.parents.extend(parent);
                if let Some(parent) = parent.filter(|_| self.must_reach && !self.referred) {
                    self.want(Aim::Delegation, self.zone.clone(), RecordType::Ns, Some(parent));
                }
            }
            Aim::Delegation if self.stage == Stage::Delegation => self.found_delegation(packet, filter),
            Aim::Delegation => {}
            Aim::Address(server) => {
                if let Some(server) = self.servers.get_mut(server) {
                    server.addresses.extend(allowed(lookup, filter));
                    server.addresses.sort_by_key(IpAddr::is_ipv6);
                }
            }
            Aim::Question(server) => self.answered(server, lookup, packet),
            Aim::QuestionOverTcp(server) => self.answered_over_tcp(server, lookup, packet),
            Aim::Contrast(server) => {
                if let Some(server) = self.servers.get_mut(server) {
                    server.contrast = answer(lookup, &Reading::of(packet, self.began));
                }
                self.try_tcp(server);
            }
            Aim::Version(server) => {
                let reading = Reading::of(packet, self.began);
                if let Some(server) = self.servers.get_mut(server) {
                    server.serial = reading.serial;
                    server.nsid = server.nsid.take().or(reading.nsid);
                }
            }
        }
        self.advance();
    }

    fn is_open(&self, like: impl Fn(Aim) -> bool) -> bool {
        self.open.iter().copied().any(&like) || self.wanted.iter().any(|ask| like(ask.aim))
    }

    /// Goes on to the next stage once this one is over.
    fn advance(&mut self) {
        match self.stage {
            Stage::Servers if self.is_open(|aim| aim == Aim::Servers) => {}
            Stage::Servers if self.servers.is_empty() => self.go_to_parent(),
            Stage::Servers => self.ask_addresses(),
            Stage::Addresses if self.is_open(|aim| matches!(aim, Aim::Address(_))) => {}
            Stage::Addresses if self.servers.iter().any(|server| !server.addresses.is_empty()) => self.ask_servers(),
            Stage::Addresses if self.referred => self.end(),
            Stage::Addresses => self.go_to_parent(),
            Stage::Delegation if self.referred => {
                if !self.is_open(|aim| aim == Aim::Delegation) {
                    self.end();
                }
            }
            Stage::Delegation => self.go_to_parent(),
            Stage::Asking => {
                let about_servers = |aim| {
                    use Aim::{Contrast, Question, QuestionOverTcp, Version};
                    matches!(aim, Question(_) | QuestionOverTcp(_) | Contrast(_) | Version(_))
                };
                let to_parent = |aim| matches!(aim, Aim::Parents | Aim::ParentAddress | Aim::Delegation);
                let awaits_parent = self.must_reach && !self.reached && self.is_open(to_parent);
                if !self.is_open(about_servers) && !awaits_parent {
                    self.end();
                }
            }
            Stage::Ended => {}
        }
    }

    fn found_servers(&mut self, lookup: &DnsLookup, packet: &[u8]) {
        self.servers = servers_in(packet, &self.zone, Section::Answer);
        // The zone was a guess; a denial tells in which zone the name lies.
        if let DnsOutcome::Nodata(Denial { soa: Some(soa), .. }) | DnsOutcome::Nxdomain(Denial { soa: Some(soa), .. }) =
            &lookup.outcome
            && !self.corrected
            && self.servers.is_empty()
            && soa.zone != self.zone
            && is_diagnosed(&soa.zone)
        {
            self.corrected = true;
            self.zone.clone_from(&soa.zone);
            self.want(Aim::Servers, soa.zone.clone(), RecordType::Ns, None);
        }
    }

    fn found_parents(&mut self, packet: &[u8]) {
        let Some((_, parent)) = self.zone.split_once('.') else { return };
        for server in servers_in(packet, parent, Section::Answer).into_iter().take(DIAGNOSIS_PARENTS_MAX) {
            self.want(Aim::ParentAddress, server.name, RecordType::A, None);
        }
    }

    /// Asks the parent's servers for the delegation once their addresses are known.
    fn go_to_parent(&mut self) {
        self.stage = Stage::Delegation;
        if self.is_open(|aim| matches!(aim, Aim::Parents | Aim::ParentAddress)) {
            return;
        }
        self.referred = true;
        if self.parents.is_empty() {
            return self.end();
        }
        for parent in self.parents.clone() {
            self.want(Aim::Delegation, self.zone.clone(), RecordType::Ns, Some(parent));
        }
    }

    fn found_delegation(&mut self, packet: &[u8], filter: &AddressFilter) {
        let mut servers = servers_in(packet, &self.zone, Section::Authority);
        if servers.is_empty() {
            // The parent's server may serve the zone too.
            servers = servers_in(packet, &self.zone, Section::Answer);
        }
        if servers.is_empty() {
            return;
        }
        for (name, address) in glue(packet, DIAGNOSED_SERVERS_MAX) {
            if let Some(server) = servers.iter_mut().find(|server| server.name == name)
                && filter.forbids(address).is_none()
            {
                server.addresses.push(address);
                server.addresses.sort_by_key(IpAddr::is_ipv6);
            }
        }
        self.servers = servers;
        self.ask_addresses();
    }

    fn ask_addresses(&mut self) {
        self.stage = Stage::Addresses;
        let unknown: Vec<(usize, String)> = self
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| server.addresses.is_empty())
            .map(|(at, server)| (at, server.name.clone()))
            .collect();
        for (at, name) in unknown {
            for rtype in [RecordType::A, RecordType::Aaaa] {
                self.want(Aim::Address(at), name.clone(), rtype, None);
            }
        }
        if !self.is_open(|aim| matches!(aim, Aim::Address(_))) {
            self.advance();
        }
    }

    fn ask_servers(&mut self) {
        self.stage = Stage::Asking;
        // One machine under many names is asked once.
        let mut seen: Vec<IpAddr> = Vec::new();
        self.servers.retain(|server| {
            let Some(&address) = server.addresses.first() else { return true };
            let is_new = !seen.contains(&address);
            seen.push(address);
            is_new
        });
        let known: Vec<(usize, IpAddr)> = self
            .servers
            .iter()
            .enumerate()
            .filter_map(|(at, server)| server.addresses.first().map(|address| (at, *address)))
            .collect();
        for (at, address) in known {
            let (name, zone, peer) = (self.name.clone(), self.zone.clone(), Some(address));
            self.want(Aim::Question(at), name.clone(), self.rtype, peer);
            self.want(Aim::Contrast(at), name, RecordType::A, peer);
            self.want(Aim::Version(at), zone, RecordType::Soa, peer);
        }
    }

    fn answered(&mut self, at: usize, lookup: &DnsLookup, packet: &[u8]) {
        let reading = Reading::of(packet, self.began);
        if let Some(server) = self.servers.get_mut(at) {
            server.answer = answer(lookup, &reading);
            server.tcp_tried |= server.answer.as_ref().is_some_and(|answer| answer.over_tcp.is_some());
            server.signatures_expired = reading.signatures_expired;
            server.nsid = reading.nsid.or(server.nsid.take());
        }
        self.try_tcp(at);
    }

    /// A question that was not answered although A was is asked once more over TCP.
    fn try_tcp(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let silent = server.answer.as_ref().is_some_and(|answer| answer.outcome == ServerOutcome::Silent);
        let speaks = server.contrast.as_ref().is_some_and(ServerAnswer::is_reply);
        let Some(address) = server.addresses.first().copied() else { return };
        if silent && speaks && !server.tcp_tried {
            server.tcp_tried = true;
            self.want(Aim::QuestionOverTcp(at), self.name.clone(), self.rtype, Some(address));
        }
    }

    fn answered_over_tcp(&mut self, at: usize, lookup: &DnsLookup, packet: &[u8]) {
        let reading = Reading::of(packet, self.began);
        let Some(server) = self.servers.get_mut(at) else { return };
        let (Some(answer), Some(outcome)) = (&mut server.answer, outcome(lookup, &reading)) else { return };
        answer.over_tcp = Some(outcome);
        answer.authoritative = reading.authoritative;
        answer.soa = reading.soa;
        server.signatures_expired = reading.signatures_expired;
    }

    /// The evidence; none if no server was found.
    pub(super) fn finish(self) -> Option<Diagnosis> {
        let servers: Vec<ServerView> = self
            .servers
            .into_iter()
            .map(|server| ServerView {
                name: server.name,
                address: server.addresses.first().copied(),
                answer: server.answer,
                contrast: server.contrast,
                serial: server.serial,
                nsid: server.nsid,
                signatures_expired: server.signatures_expired,
            })
            .collect();
        let Self { zone, name, rtype, reached, .. } = self;
        (reached || !servers.is_empty()).then_some(Diagnosis { zone, name, rtype, reached, servers })
    }
}

/// The name to ask about and the zone whose servers are asked.
fn subject(lookup: &DnsLookup) -> Option<(String, String)> {
    let validation = lookup.validation.as_deref();
    let fault = match &lookup.outcome {
        DnsOutcome::Failed(DnsFailure::Dnssec(fault)) => Some(fault),
        DnsOutcome::Failed(
            DnsFailure::Rcode(_)
            | DnsFailure::Timeout
            | DnsFailure::Tcp(_)
            | DnsFailure::Malformed(_)
            | DnsFailure::IncompleteChain(_),
        ) => validation.and_then(|v| v.fault.as_ref()),
        DnsOutcome::Failed(_) => return None,
        DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => {
            Some(validation?.first_fault.as_ref()?)
        }
    };
    let fault_zone = fault.and_then(|fault| fault.zone());
    // What fails above the registered domain is not its servers' fault (`cases.md` D27).
    if fault_zone.is_some_and(|zone| !is_diagnosed(zone)) {
        return None;
    }
    let name = match (&lookup.outcome, fault_zone, fault.and_then(|fault| fault.owner())) {
        (DnsOutcome::Failed(DnsFailure::IncompleteChain(target)), ..) => target,
        // The fault lies behind an alias.
        (_, Some(zone), Some(owner)) if !lies_in(&lookup.name, zone) => owner,
        _ => &lookup.name,
    };
    let proven = validation.and_then(|v| v.insecure.as_ref()).map(|proof| proof.name.as_str());
    let signers = validation.iter().flat_map(|v| &v.signers).map(String::as_str);
    let deepest = signers.filter(|zone| lies_in(name, zone)).max_by_key(|zone| zone.len());
    let zones = fault_zone.into_iter().chain(proven).chain(deepest);
    let zone = zones.filter(|zone| is_diagnosed(zone) && lies_in(name, zone)).map(str::to_owned).next();
    let zone = zone.or_else(|| psl::domain_str(name).map(str::to_owned))?;
    Some((name.to_owned(), zone))
}

/// Whether a zone is a registered domain or below one.
fn is_diagnosed(zone: &str) -> bool {
    psl::domain_str(zone).is_some()
}

/// The name servers of `zone` that a section names.
fn servers_in(packet: &[u8], zone: &str, section: Section) -> Vec<Server> {
    let (names, _) = nameserver::servers_in(packet, zone, section, DIAGNOSED_SERVERS_MAX);
    names.into_iter().map(|name| Server { name, ..Server::default() }).collect()
}
