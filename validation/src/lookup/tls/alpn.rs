//! One tls-alpn-01 probe (RFC 8737 §3, RFC 8738 §6; req D20).
//!
//! The host is resolved by the same perspective, forbidden addresses are left out, and one IPv6 address is
//! tried before one IPv4 address, each with its share of the time left; then a further one of each family. A
//! whole handshake is final, whatever it shows; anything less lets the next address have its turn. Nothing is
//! said within TLS.
//!
//! Invariant: a probe holds at most one connection at a time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::{
    ClientConfig,
    pki_types::{DnsName, ServerName},
};

use super::client::{Client, broken_off};
use crate::{
    base::{Entropy, Micros, address::AddressFilter, limits::TLS_CERTIFICATE_KEPT_BYTES_MAX},
    lookup::{
        addresses::{self, Candidates, Unresolved},
        http::fetch::FetchStep,
        pace::Pace,
    },
    observation::{
        CertificateDer, DnsLookup, NetworkError, TlsFailure, TlsHandshake, TlsObservation, TlsOutcome, TlsProbeFailure,
        TlsTry, TlsTryEnd, UnusedReason,
    },
    plan::{Host, PlanLimits},
};

/// The one port of this method (RFC 8737 §3).
const PORT: u16 = 443;

/// The server name sent for a host: the name, or the reverse name of an address (RFC 8738 §6).
#[must_use]
pub fn server_name(host: &Host) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Host::Ip(IpAddr::V6(address)) => {
            let octets = address.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[derive(Debug)]
enum State {
    Resolving,
    Connecting { since: Micros, ends: Micros },
    Handshaking { since: Micros, connected_us: u64, ends: Micros, pace: Pace, client: Box<Client> },
    Ended,
}

/// A probe on its way.
#[derive(Debug)]
pub struct Probe {
    host: Host,
    config: Arc<ClientConfig>,
    limits: PlanLimits,
    deadline: Micros,
    candidates: Candidates,
    current: Option<SocketAddr>,
    state: State,
    seen: TlsObservation,
    ended: bool,
}

impl Probe {
    /// A probe of `host`.
    #[must_use]
    pub fn new(host: Host, config: Arc<ClientConfig>, limits: PlanLimits, deadline: Micros) -> Self {
        let seen = TlsObservation {
            server_name: server_name(&host),
            resolution: Vec::new(),
            unused: Vec::new(),
            tries: Vec::new(),
            outcome: TlsOutcome::Failed(TlsProbeFailure::DeadlineOfTask),
        };
        let (candidates, current) = (Candidates::none(), None);
        Self { host, config, limits, deadline, candidates, current, state: State::Resolving, seen, ended: false }
    }

    /// Begins.
    pub fn start(&mut self, now: Micros, filter: &AddressFilter, entropy: &mut dyn Entropy) -> FetchStep {
        match &self.host {
            Host::Name(name) => FetchStep::Resolve(name.clone()),
            Host::Ip(address) => self.choose(now, vec![*address], filter, entropy),
        }
    }

    /// When it must be woken.
    #[must_use]
    pub fn timeout(&self) -> Micros {
        match &self.state {
            State::Connecting { ends, .. } => *ends,
            State::Handshaking { ends, pace, .. } => pace.ends(*ends),
            State::Resolving | State::Ended => self.deadline,
        }
    }

    /// The lookups of the host.
    pub fn handle_resolution(
        &mut self,
        now: Micros,
        mut lookups: Vec<DnsLookup>,
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let found = addresses::resolved(&mut lookups, entropy);
        self.seen.resolution = lookups;
        match found {
            Ok(found) => self.choose(now, found, filter, entropy),
            Err(Unresolved::Failed) => self.fail(TlsProbeFailure::LookupFailed),
            Err(Unresolved::None) => self.fail(TlsProbeFailure::NoAddress),
        }
    }

    fn choose(
        &mut self,
        now: Micros,
        found: Vec<IpAddr>,
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let (candidates, unused) = Candidates::draw(found, PORT, filter, entropy);
        self.seen.unused.extend(unused);
        self.candidates = candidates;
        if self.candidates.is_empty() {
            return self.fail(TlsProbeFailure::OnlySpecialAddresses);
        }
        self.connect_next(now)
    }

    fn connect_next(&mut self, now: Micros) -> FetchStep {
        if now >= self.deadline {
            return self.fail(TlsProbeFailure::NotAnswered);
        }
        let Some(address) = self.candidates.take_next() else { return self.fail(TlsProbeFailure::NotAnswered) };
        self.current = Some(address);
        let share = self.candidates.share(now, self.deadline);
        let ends = now.plus_ms(u64::from(self.limits.http_connect_ms)).min(share);
        self.state = State::Connecting { since: now, ends };
        FetchStep::Connect(address)
    }

    /// Whether it speaks TLS just now.
    #[must_use]
    pub fn has_tls_session(&self) -> bool {
        matches!(self.state, State::Handshaking { .. })
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Micros) -> FetchStep {
        let State::Connecting { since, .. } = self.state else { return FetchStep::Wait };
        let Ok(name) = DnsName::try_from(self.seen.server_name.clone()) else {
            return self.fail(TlsProbeFailure::Local("TLS cannot name this host".to_owned()));
        };
        let (client, hello) = match Client::new(self.config.clone(), ServerName::DnsName(name)) {
            Ok(begun) => begun,
            Err(TlsFailure::Local(problem)) => return self.fail(TlsProbeFailure::Local(problem)),
            Err(_) => return self.fail(TlsProbeFailure::Local("no handshake could be begun".to_owned())),
        };
        let share = self.candidates.share(now, self.deadline);
        let ends = now.plus_ms(u64::from(self.limits.http_response_ms)).min(share);
        let connected_us = now.since(since);
        let (pace, client) = (Pace::default(), Box::new(client));
        self.state = State::Handshaking { since, connected_us, ends, pace, client };
        FetchStep::Send(hello)
    }

    /// Octets on the connection; none means the server closed its side.
    pub fn handle_stream(&mut self, now: Micros, bytes: &[u8]) -> FetchStep {
        let client = match &mut self.state {
            State::Handshaking { client, pace, .. } => {
                pace.count(now, bytes.len());
                client
            }
            State::Resolving | State::Connecting { .. } | State::Ended => return FetchStep::Wait,
        };
        if bytes.is_empty() {
            return self.end_try(now, TlsTryEnd::Failed(TlsFailure::Network(NetworkError::ClosedEarly)));
        }
        let mut moved = client.handle(bytes);
        if !moved.established {
            return match moved.failure {
                Some(failure) => self.end_try(now, TlsTryEnd::Failed(failure)),
                None if moved.closed => {
                    self.end_try(now, TlsTryEnd::Failed(TlsFailure::Network(NetworkError::ClosedEarly)))
                }
                None if moved.send.is_empty() => FetchStep::Wait,
                None => FetchStep::Send(moved.send),
            };
        }
        let Some(session) = client.session() else {
            return self.end_try(now, TlsTryEnd::Failed(TlsFailure::NoCertificate));
        };
        let (leaf, kept) = (session.leaf, TLS_CERTIFICATE_KEPT_BYTES_MAX);
        let handshake = TlsHandshake {
            version: session.version,
            cipher_suite: session.cipher_suite,
            protocol: session.protocol,
            certificate: CertificateDer(leaf[..leaf.len().min(kept)].to_vec()),
        };
        moved.send.extend(client.close());
        self.note_try(now, TlsTryEnd::Handshake);
        self.seen.outcome = TlsOutcome::Handshake(handshake);
        // All is seen, and the server is to see the end of the handshake too, not a reset.
        self.end();
        FetchStep::Part(moved.send)
    }

    /// The connection failed.
    pub fn handle_stream_failed(&mut self, now: Micros, error: NetworkError) -> FetchStep {
        match &self.state {
            State::Connecting { .. } => {
                self.note_try(now, TlsTryEnd::NotConnected(error));
                // A host without IPv6 says so as if it were our fault; the other family may do.
                if let (NetworkError::Local, Some(current)) = (error, self.current) {
                    self.seen.unused.extend(self.candidates.pass_over_family(current));
                    if self.candidates.is_empty() {
                        return self.fail(TlsProbeFailure::Local("no connection could be opened".to_owned()));
                    }
                }
                self.connect_next(now)
            }
            State::Handshaking { .. } => self.end_try(now, TlsTryEnd::Failed(broken_off(error))),
            State::Resolving | State::Ended => FetchStep::Wait,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Micros) -> FetchStep {
        if now < self.timeout() {
            return FetchStep::Wait;
        }
        match &self.state {
            State::Resolving => self.fail(TlsProbeFailure::DeadlineOfTask),
            State::Handshaking { ends, pace, .. } if pace.is_too_slow(now, *ends) => {
                self.end_try(now, TlsTryEnd::Failed(TlsFailure::TooSlow))
            }
            State::Connecting { .. } | State::Handshaking { .. } => {
                self.handle_stream_failed(now, NetworkError::Timeout)
            }
            State::Ended => FetchStep::Wait,
        }
    }

    /// Not a whole handshake: the next address has its turn.
    fn end_try(&mut self, now: Micros, end: TlsTryEnd) -> FetchStep {
        self.note_try(now, end);
        self.connect_next(now)
    }

    fn note_try(&mut self, now: Micros, end: TlsTryEnd) {
        let Some(address) = self.current else { return };
        let (since, connected_us, received_bytes) = match &self.state {
            State::Connecting { since, .. } => (*since, None, 0),
            State::Handshaking { since, connected_us, client, .. } => (*since, Some(*connected_us), client.received()),
            State::Resolving | State::Ended => return,
        };
        if end == TlsTryEnd::Handshake {
            self.seen.unused.extend(self.candidates.pass_over(&UnusedReason::OtherAnswered));
        }
        let elapsed_us = now.since(since);
        self.seen.tries.push(TlsTry { address, connected_us, elapsed_us, received_bytes, end });
    }

    fn fail(&mut self, failure: TlsProbeFailure) -> FetchStep {
        self.seen.unused.extend(self.candidates.pass_over(&UnusedReason::NoTurn));
        self.seen.outcome = TlsOutcome::Failed(failure);
        self.end()
    }

    fn end(&mut self) -> FetchStep {
        self.state = State::Ended;
        self.ended = true;
        FetchStep::Done
    }

    /// The evidence. Before its end, a probe is cut off by the task's deadline.
    #[must_use]
    pub fn finish(mut self, now: Micros) -> TlsObservation {
        if !self.ended {
            let silence = NetworkError::Timeout;
            let end = match self.state {
                State::Handshaking { .. } => TlsTryEnd::Failed(TlsFailure::Network(silence)),
                _ => TlsTryEnd::NotConnected(silence),
            };
            self.note_try(now, end);
            self.seen.unused.extend(self.candidates.pass_over(&UnusedReason::NoTurn));
        }
        self.seen
    }
}
