//! One fetch with its hops.
//!
//! Each hop is resolved afresh by the same perspective; forbidden addresses are left out before a
//! connection is made; one IPv6 address is tried first and one IPv4 address after it, each with its
//! share of the time left, so that a silent one never eats the other's; then a further one of each family. The
//! first octet of a response is final: there is no fallback after an answer (`cases.md` D06). A loop is a
//! redirect back to a URL at an address that has redirected from it before; a second visit to the same URL over
//! another address is none (D08). A response that has begun must go on at a pace.
//!
//! On https a server that was connected to is final: what goes wrong with TLS ends the fetch. Its
//! certificate is written down and never judged (D09).
//!
//! Invariant: a fetch holds at most one connection at a time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::ClientConfig;

use super::{
    redirect::Target,
    response::{Progress, Response},
};
use crate::{
    base::{Entropy, Micros, address::AddressFilter, limits::HTTP_REDIRECTS_MAX, octets::Octets},
    lookup::{
        addresses::{self, Candidates, Unresolved},
        pace::Pace,
        tls::{
            certificate,
            client::{Client, broken_off},
            server_name,
        },
    },
    observation::{
        DnsLookup, HttpFailure, HttpHop, HttpObservation, HttpOutcome, HttpTry, NetworkError, RedirectReason,
        RedirectRefusal, TlsFacts, TlsFailure, TryEnd, UnusedReason,
    },
    plan::{Host, PlanLimits},
};

/// What a fetch wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchStep {
    /// Nothing; wait.
    Wait,
    /// A and AAAA of this name: answer with [`Fetch::handle_resolution`].
    Resolve(String),
    /// A connection; an earlier one is to be closed.
    Connect(SocketAddr),
    /// These octets on the connection, then whatever comes back.
    Send(Vec<u8>),
    /// It has ended: send these last octets, leave the connection to itself (see [`Command::Part`]), and call
    /// [`Fetch::finish`].
    ///
    /// [`Command::Part`]: crate::lookup::task::Command::Part
    Part(Vec<u8>),
    /// It has ended: close any connection and call [`Fetch::finish`].
    Done,
}

#[derive(Debug)]
enum State {
    Resolving,
    Connecting {
        since: Micros,
        ends: Micros,
    },
    Handshaking {
        since: Micros,
        connected_us: u64,
        ends: Micros,
        pace: Pace,
        client: Box<Client>,
    },
    Awaiting {
        since: Micros,
        connected_us: u64,
        ends: Micros,
        pace: Pace,
        /// None before its first octet; many servers never send one.
        response: Option<Box<Response>>,
        client: Option<Box<Client>>,
    },
    Ended,
}

/// A fetch on its way.
#[derive(Debug)]
pub struct Fetch {
    target: Target,
    tls: Arc<ClientConfig>,
    limits: PlanLimits,
    body_bytes_max: usize,
    deadline: Micros,
    hops: Vec<HttpHop>,
    /// URLs that redirected, and at which address.
    left: Vec<(String, SocketAddr)>,
    /// Addresses of this hop still to be tried.
    candidates: Candidates,
    current: Option<SocketAddr>,
    state: State,
    outcome: Option<HttpOutcome>,
}

impl Fetch {
    /// A fetch that begins at `target`, of whose body `body_bytes_max` octets are kept at most; `tls` is how it speaks
    /// TLS.
    #[must_use]
    pub fn new(
        target: Target,
        body_bytes_max: usize,
        tls: Arc<ClientConfig>,
        limits: PlanLimits,
        deadline: Micros,
    ) -> Self {
        Self {
            target,
            tls,
            limits,
            body_bytes_max,
            deadline,
            hops: Vec::new(),
            left: Vec::new(),
            candidates: Candidates::none(),
            current: None,
            state: State::Resolving,
            outcome: None,
        }
    }

    /// Begins, or begins a hop.
    pub fn start(&mut self, now: Micros, filter: &AddressFilter, entropy: &mut dyn Entropy) -> FetchStep {
        // Most fetches have one hop, of one try.
        if self.hops.is_empty() {
            self.hops.reserve_exact(1);
        }
        self.hops.push(HttpHop {
            url: self.target.as_str().to_owned(),
            resolution: Vec::new(),
            unused: Vec::new(),
            tries: Vec::new(),
            tls: None,
            response: None,
        });
        match self.target.host().clone() {
            Host::Name(name) => {
                self.state = State::Resolving;
                FetchStep::Resolve(name)
            }
            Host::Ip(address) => self.choose(now, vec![address], filter, entropy),
        }
    }

    fn hop(&mut self) -> &mut HttpHop {
        self.hops.last_mut().expect("start pushes a hop before anything else happens")
    }

    /// When it must be woken.
    #[must_use]
    pub fn timeout(&self) -> Micros {
        match &self.state {
            State::Connecting { ends, .. } => *ends,
            State::Handshaking { ends, pace, .. } | State::Awaiting { ends, pace, .. } => pace.ends(*ends),
            State::Resolving | State::Ended => self.deadline,
        }
    }

    /// Whether it speaks TLS just now.
    #[must_use]
    pub fn has_tls_session(&self) -> bool {
        matches!(self.state, State::Handshaking { .. } | State::Awaiting { client: Some(_), .. })
    }

    /// The lookups of this hop's host.
    pub fn handle_resolution(
        &mut self,
        now: Micros,
        mut lookups: Vec<DnsLookup>,
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let addresses = addresses::resolved(&mut lookups, entropy);
        self.hop().resolution = lookups;
        match addresses {
            Ok(addresses) => self.choose(now, addresses, filter, entropy),
            Err(Unresolved::Failed) => self.fail(HttpFailure::LookupFailed),
            Err(Unresolved::None) => self.fail(HttpFailure::NoAddress),
        }
    }

    /// Draws the addresses to try.
    fn choose(
        &mut self,
        now: Micros,
        addresses: Vec<IpAddr>,
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let (candidates, unused) = Candidates::draw(addresses, self.target.port(), filter, entropy);
        self.hop().unused.extend(unused);
        self.candidates = candidates;
        if self.candidates.is_empty() {
            return self.fail(HttpFailure::OnlySpecialAddresses);
        }
        self.connect_next(now)
    }

    /// Connects to the next candidate with its share of the time left, or gives up.
    fn connect_next(&mut self, now: Micros) -> FetchStep {
        if now >= self.deadline {
            return self.fail(HttpFailure::NotAnswered);
        }
        let Some(address) = self.candidates.take_next() else { return self.fail(HttpFailure::NotAnswered) };
        if self.left.iter().any(|(url, at)| *at == address && url == self.target.as_str()) {
            return self.refuse((self.hops.len() - 1) as u8, RedirectReason::Loop);
        }
        self.current = Some(address);
        let share = self.candidates.share(now, self.deadline);
        let ends = now.plus_ms(u64::from(self.limits.http_connect_ms)).min(share);
        self.state = State::Connecting { since: now, ends };
        FetchStep::Connect(address)
    }

    fn refuse(&mut self, redirect: u8, reason: RedirectReason) -> FetchStep {
        let target = Octets(self.target.as_str().as_bytes().to_vec());
        self.fail(HttpFailure::RedirectRefused(RedirectRefusal { redirect, target, reason }))
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Micros) -> FetchStep {
        let State::Connecting { since, .. } = self.state else { return FetchStep::Wait };
        let connected_us = now.since(since);
        if self.target.is_https() {
            return self.begin_tls(now, since);
        }
        let share = self.candidates.share(now, self.deadline);
        let ends = now.plus_ms(u64::from(self.limits.http_response_ms)).min(share);
        self.state = State::Awaiting { since, connected_us, ends, pace: Pace::default(), response: None, client: None };
        FetchStep::Send(self.target.request())
    }

    fn begin_tls(&mut self, now: Micros, since: Micros) -> FetchStep {
        // No other address has a share: this one is final.
        let ends = now.plus_ms(u64::from(self.limits.http_response_ms)).min(self.deadline);
        let begun = server_name(self.target.host())
            .ok_or(TlsFailure::Local("TLS cannot name this host".to_owned()))
            .and_then(|name| Client::new(self.tls.clone(), name));
        match begun {
            Ok((client, hello)) => {
                let connected_us = now.since(since);
                let (pace, client) = (Pace::default(), Box::new(client));
                self.state = State::Handshaking { since, connected_us, ends, pace, client };
                FetchStep::Send(hello)
            }
            Err(failure) => self.fail(HttpFailure::Tls(failure)),
        }
    }

    /// Octets during a handshake. Once it ends, the request goes out with the last of it.
    fn shake_hands(
        &mut self,
        now: Micros,
        bytes: &[u8],
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let State::Handshaking { client, pace, .. } = &mut self.state else { return FetchStep::Wait };
        if bytes.is_empty() {
            return self.fail_tls(now, TlsFailure::Network(NetworkError::ClosedEarly));
        }
        pace.count(now, bytes.len());
        let mut moved = client.handle(bytes);
        if !moved.established {
            return match moved.failure {
                Some(failure) => self.fail_tls(now, failure),
                None if moved.closed => self.fail_tls(now, TlsFailure::Network(NetworkError::ClosedEarly)),
                None if moved.send.is_empty() => FetchStep::Wait,
                None => FetchStep::Send(moved.send),
            };
        }
        self.note_session();
        let State::Handshaking { since, connected_us, ends, mut client, .. } =
            std::mem::replace(&mut self.state, State::Ended)
        else {
            return FetchStep::Done;
        };
        moved.send.extend(client.encrypt(&self.target.request()));
        let (pace, client) = (Pace::default(), Some(client));
        self.state = State::Awaiting { since, connected_us, ends, pace, response: None, client };
        // A server may speak, or break off, before it was asked anything.
        let ended = moved.closed || moved.failure.is_some();
        let step = if moved.plaintext.is_empty() && !ended {
            FetchStep::Wait
        } else {
            self.take_plaintext(now, (&moved.plaintext, moved.closed, moved.failure), filter, entropy)
        };
        if step == FetchStep::Wait { FetchStep::Send(moved.send) } else { step }
    }

    fn note_session(&mut self) {
        let State::Handshaking { client, .. } = &self.state else { return };
        let facts = client.session().map(|session| TlsFacts {
            version: session.version,
            certificate: certificate::facts(session.leaf, self.target.host()),
            cipher_suite: session.cipher_suite,
            protocol: session.protocol,
        });
        self.hop().tls = facts;
    }

    fn fail_tls(&mut self, now: Micros, failure: TlsFailure) -> FetchStep {
        self.note_try(now, TryEnd::NoTls);
        self.fail(HttpFailure::Tls(failure))
    }

    /// Octets on the connection; none means the server closed its side.
    pub fn handle_stream(
        &mut self,
        now: Micros,
        bytes: &[u8],
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let client = match &mut self.state {
            State::Handshaking { .. } => return self.shake_hands(now, bytes, filter, entropy),
            State::Awaiting { client, .. } => client,
            State::Resolving | State::Connecting { .. } | State::Ended => return FetchStep::Wait,
        };
        let Some(client) = client.as_mut().filter(|_| !bytes.is_empty()) else {
            return self.take_response(now, bytes, filter, entropy);
        };
        let moved = client.handle(bytes);
        match self.take_plaintext(now, (&moved.plaintext, moved.closed, moved.failure), filter, entropy) {
            FetchStep::Wait if !moved.send.is_empty() => FetchStep::Send(moved.send),
            step => step,
        }
    }

    /// What came within TLS: octets of the response, perhaps its end, perhaps a failure after it.
    fn take_plaintext(
        &mut self,
        now: Micros,
        (plaintext, closed, failure): (&[u8], bool, Option<TlsFailure>),
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let mut step = FetchStep::Wait;
        if !plaintext.is_empty() {
            step = self.take_response(now, plaintext, filter, entropy);
        }
        match failure {
            _ if step != FetchStep::Wait => step,
            Some(failure) => self.fail_tls(now, failure),
            None if closed => self.take_response(now, &[], filter, entropy),
            None => step,
        }
    }

    /// Octets of the response; none means that there will be no more.
    fn take_response(
        &mut self,
        now: Micros,
        bytes: &[u8],
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        let State::Awaiting { response, pace, .. } = &mut self.state else { return FetchStep::Wait };
        let response = response.get_or_insert_with(|| Box::new(Response::with_body_of(self.body_bytes_max)));
        let progress = if bytes.is_empty() {
            response.close()
        } else {
            pace.count(now, bytes.len());
            response.push(bytes)
        };
        let is_redirect = response.head().is_some_and(|head| is_followed(head.status) && head.location.is_some());
        match progress {
            // Also if what follows the head is bad: that must not depend on how the segments fell.
            _ if is_redirect => self.redirect(now, filter, entropy),
            Progress::Bad { problem, first } => {
                self.note_try(now, TryEnd::Answered);
                self.fail(HttpFailure::BadResponse { problem: problem.to_owned(), first })
            }
            Progress::Complete => self.complete(now),
            Progress::More if bytes.is_empty() => self.no_response(now, NetworkError::ClosedEarly),
            Progress::More | Progress::Head => FetchStep::Wait,
        }
    }

    fn complete(&mut self, now: Micros) -> FetchStep {
        self.note_try(now, TryEnd::Answered);
        let State::Awaiting { response: Some(response), .. } = std::mem::replace(&mut self.state, State::Ended) else {
            return FetchStep::Done;
        };
        let status = response.head().map_or(0, |head| head.status);
        let (body, truncated) = response.into_body();
        self.outcome = Some(HttpOutcome::Response { status, body, truncated });
        FetchStep::Done
    }

    /// Follows a redirect (req D16): the head is enough, its body is not read.
    fn redirect(&mut self, now: Micros, filter: &AddressFilter, entropy: &mut dyn Entropy) -> FetchStep {
        self.note_try(now, TryEnd::Answered);
        let location = self.hop().response.as_ref().and_then(|head| head.location.clone()).unwrap_or_default();
        let number = self.hops.len();
        self.left.extend(self.current.map(|address| (self.target.as_str().to_owned(), address)));
        if number > HTTP_REDIRECTS_MAX {
            return self.fail(HttpFailure::TooManyRedirects);
        }
        match self.target.redirected(location.as_slice(), number as u8) {
            Err(refusal) => self.fail(HttpFailure::RedirectRefused(refusal)),
            Ok(target) => {
                self.target = target;
                self.current = None;
                self.start(now, filter, entropy)
            }
        }
    }

    /// The connection failed.
    pub fn handle_stream_failed(&mut self, now: Micros, error: NetworkError) -> FetchStep {
        match &self.state {
            State::Connecting { .. } => {
                self.note_try(now, TryEnd::NotConnected(error));
                // A host without IPv6 says so as if it were our fault; the other family may do.
                if let (NetworkError::Local, Some(current)) = (error, self.current) {
                    let passed_over = self.candidates.pass_over_family(current);
                    self.hop().unused.extend(passed_over);
                    if self.candidates.is_empty() {
                        return self.fail(HttpFailure::Local("no connection could be opened".to_owned()));
                    }
                }
                self.connect_next(now)
            }
            State::Handshaking { .. } => self.fail_tls(now, broken_off(error)),
            State::Awaiting { .. } => self.no_response(now, error),
            State::Resolving | State::Ended => FetchStep::Wait,
        }
    }

    /// Before the first octet the next address gets its chance; after it, or after a handshake, there is none.
    fn no_response(&mut self, now: Micros, error: NetworkError) -> FetchStep {
        let State::Awaiting { response, client, .. } = &self.state else { return FetchStep::Wait };
        if response.as_ref().is_none_or(|response| response.received() == 0) {
            let is_final = client.is_some();
            self.note_try(now, TryEnd::NoResponse(error));
            return if is_final { self.fail(HttpFailure::NotAnswered) } else { self.connect_next(now) };
        }
        self.note_try(now, TryEnd::Answered);
        self.fail(HttpFailure::BrokenOff(error))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Micros) -> FetchStep {
        if now < self.timeout() {
            return FetchStep::Wait;
        }
        match &self.state {
            State::Handshaking { ends, pace, .. } if pace.is_too_slow(now, *ends) => {
                self.fail_tls(now, TlsFailure::TooSlow)
            }
            State::Awaiting { ends, pace, .. } if pace.is_too_slow(now, *ends) => {
                self.note_try(now, TryEnd::Answered);
                self.fail(HttpFailure::TooSlow)
            }
            State::Connecting { .. } | State::Handshaking { .. } | State::Awaiting { .. } => {
                self.handle_stream_failed(now, NetworkError::Timeout)
            }
            State::Resolving => self.fail(HttpFailure::DeadlineOfTask),
            State::Ended => FetchStep::Wait,
        }
    }

    /// Writes down how the current connection went, and the head if there is one.
    fn note_try(&mut self, now: Micros, end: TryEnd) {
        let Some(address) = self.current else { return };
        let (since, connected_us, received_bytes, head) = match &self.state {
            State::Connecting { since, .. } => (*since, None, 0, None),
            State::Handshaking { since, connected_us, client, .. } => {
                (*since, Some(*connected_us), client.received(), None)
            }
            State::Awaiting { since, connected_us, response, .. } => {
                let response = response.as_ref();
                let received = response.map_or(0, |response| response.received());
                (*since, Some(*connected_us), received, response.and_then(|response| response.head().cloned()))
            }
            State::Resolving | State::Ended => return,
        };
        // On https an established connection is final, whatever comes of it.
        if end == TryEnd::Answered || self.target.is_https() && connected_us.is_some() {
            self.pass_over(&UnusedReason::OtherAnswered);
        }
        let hop = self.hop();
        if hop.tries.is_empty() {
            hop.tries.reserve_exact(1);
        }
        let elapsed_us = now.since(since);
        hop.tries.push(HttpTry { address, connected_us, elapsed_us, received_bytes, end });
        hop.response = head;
    }

    /// Writes down the addresses that will not be tried any more.
    fn pass_over(&mut self, reason: &UnusedReason) {
        let passed_over = self.candidates.pass_over(reason);
        if let Some(hop) = self.hops.last_mut() {
            hop.unused.extend(passed_over);
        }
    }

    fn fail(&mut self, failure: HttpFailure) -> FetchStep {
        self.pass_over(&UnusedReason::NoTurn);
        self.state = State::Ended;
        self.outcome = Some(HttpOutcome::Failed(failure));
        FetchStep::Done
    }

    /// The evidence. Before its end, a fetch is cut off by the task's deadline.
    #[must_use]
    pub fn finish(mut self, now: Micros) -> HttpObservation {
        if self.outcome.is_none() {
            let end = match &self.state {
                State::Awaiting { response: Some(response), .. } if response.received() > 0 => TryEnd::Answered,
                State::Awaiting { .. } => TryEnd::NoResponse(NetworkError::Timeout),
                State::Handshaking { .. } => TryEnd::NoTls,
                State::Connecting { .. } | State::Resolving | State::Ended => {
                    TryEnd::NotConnected(NetworkError::Timeout)
                }
            };
            self.note_try(now, end);
            self.pass_over(&UnusedReason::NoTurn);
        }
        HttpObservation {
            hops: self.hops,
            outcome: self.outcome.unwrap_or(HttpOutcome::Failed(HttpFailure::DeadlineOfTask)),
        }
    }
}

/// Only these are followed (req D16).
#[must_use]
pub fn is_followed(status: u16) -> bool {
    matches!(status, 301 | 302 | 307 | 308)
}
