//! One question from first sending to outcome.
//!
//! Anything that does not match exactly (id, question with its case, and the peer, which the driver's
//! connected socket checks) is counted and ignored *without ending the wait*. A truncated reply goes to
//! TCP, and so does one that does not copy the case or cannot be read; no part of such a reply is used.
//! There is a bounded number of transmissions, over the same port and with the same id, so that a late
//! reply to an earlier one still counts.
//!
//! Invariant: a query ends exactly once, and always by its deadline.

use std::{net::SocketAddr, sync::Arc};

use super::message::{Match, Question, Reply, compose, match_reply, read_reply};
use crate::{
    base::{
        Entropy, Micros,
        limits::{DNS_IGNORED_REPLIES_MAX, DNS_MESSAGE_BYTES_MAX},
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, DnsTransport, NetworkError, TcpReason},
};

/// What a query wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryStep {
    /// Nothing; wait.
    Wait,
    /// A datagram out: call [`Query::compose`].
    Transmit,
    /// A TCP connection to the resolver.
    OpenStream,
    /// These octets on the connection.
    SendStream(Vec<u8>),
    /// It has ended: call [`Query::finish`].
    Done,
}

/// A kind of question: a server may answer one and drop another, whatever the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionKind {
    /// Number of the type asked.
    pub rtype: u16,
    /// Over TCP.
    pub over_tcp: bool,
    /// With letters in mixed case.
    pub mixed_case: bool,
    /// With EDNS.
    pub edns: bool,
}

/// Limits of a query.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// From sending to sending again or giving up, milliseconds. TCP has the same time once more.
    pub try_ms: u32,
    /// Times it is sent over UDP.
    pub transmissions: u8,
    /// It ends by then.
    pub deadline: Micros,
}

#[derive(Debug)]
enum State {
    Udp,
    TcpConnecting,
    TcpWaiting {
        received: Vec<u8>,
    },
    /// A box, since for nearly all of its life a query has nothing of it.
    Ended(Box<End>),
}

/// How a query ended.
#[derive(Debug)]
struct End {
    reply: Reply,
    /// If it is kept.
    packet: Arc<[u8]>,
}

impl End {
    fn failed(failure: DnsFailure) -> Self {
        let outcome = DnsOutcome::Failed(failure);
        Self { reply: Reply { outcome, authenticated: false, extended_errors: Vec::new() }, packet: Arc::default() }
    }
}

/// One question on its way.
#[derive(Debug)]
pub struct Query {
    question: Question,
    limits: QueryLimits,
    resolver: SocketAddr,
    state: State,
    id: u16,
    transmissions: u8,
    ignored: u16,
    tcp_because: Option<TcpReason>,
    started: Micros,
    try_ends: Micros,
    /// The deadline leaves the try under way less than its time.
    is_cut_short: bool,
    /// Others are asked first.
    waits_for_turn: bool,
    /// A datagram is asked for that has not been composed: no try is under way.
    is_unsent: bool,
    keeps_packet: bool,
}

impl Query {
    /// A query that has not been sent. The next step is [`QueryStep::Transmit`].
    #[must_use]
    pub fn new(question: Question, resolver: SocketAddr, limits: QueryLimits, now: Micros) -> Self {
        let mut query = Self {
            question,
            limits,
            resolver,
            state: State::Udp,
            id: 0,
            transmissions: 0,
            ignored: 0,
            tcp_because: None,
            started: now,
            try_ends: now,
            is_cut_short: false,
            waits_for_turn: false,
            is_unsent: true,
            keeps_packet: false,
        };
        query.begin_try(now);
        query
    }

    /// The same, whose reply is kept whole beside what was read from it.
    #[must_use]
    pub fn keeping_packet(mut self) -> Self {
        self.keeps_packet = true;
        self
    }

    /// A query over TCP from the first. The next step is [`QueryStep::OpenStream`].
    #[must_use]
    pub fn over_stream(question: Question, peer: SocketAddr, limits: QueryLimits, now: Micros) -> Self {
        let query = Self::new(question, peer, limits, now);
        Self { state: State::TcpConnecting, is_unsent: false, ..query }
    }

    /// Whether it asks a name server of a zone itself.
    #[must_use]
    pub fn is_to_name_server(&self) -> bool {
        self.question.is_to_name_server()
    }

    /// Whom it asks.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.resolver
    }

    /// Its first try is put off until [`Self::take_turn`]. If the deadline comes first, it was not asked.
    pub fn wait_for_turn(&mut self) {
        self.waits_for_turn = true;
        self.try_ends = self.limits.deadline;
    }

    /// Its first try begins now, and so does its time. Gives whether one was put off.
    pub fn take_turn(&mut self, now: Micros) -> bool {
        let waited = std::mem::take(&mut self.waits_for_turn);
        if waited {
            self.started = now;
            self.begin_try(now);
        }
        waited
    }

    /// Whether it was sent at all over UDP.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.transmissions > 0
    }

    /// What was asked, in so far as servers treat it differently.
    #[must_use]
    pub fn kind(&self, over_tcp: bool) -> QuestionKind {
        let (mixed_case, edns) = self.question.form();
        QuestionKind { rtype: self.question.rtype().number(), over_tcp, mixed_case, edns }
    }

    /// Whether it ended since nothing came in time; none if it has not ended, or by our own or the network's fault.
    #[must_use]
    pub fn is_timed_out(&self) -> Option<bool> {
        let State::Ended(end) = &self.state else { return None };
        match &end.reply.outcome {
            DnsOutcome::Failed(DnsFailure::Timeout | DnsFailure::Tcp(NetworkError::Timeout)) => Some(true),
            DnsOutcome::Failed(
                DnsFailure::Tcp(_)
                | DnsFailure::ResolverUnreachable(_)
                | DnsFailure::DeadlineOfTask
                | DnsFailure::Local(_),
            ) => None,
            _ => Some(false),
        }
    }

    fn begin_try(&mut self, now: Micros) {
        let whole = now.plus_ms(u64::from(self.limits.try_ms));
        self.is_cut_short = whole > self.limits.deadline;
        self.try_ends = whole.min(self.limits.deadline);
    }

    /// Composes the datagram, which is sent now: its try begins. The first time, `id` is taken and the case of the name
    /// is drawn; a retransmission is the same packet again.
    pub fn compose(&mut self, now: Micros, id: u16, entropy: &mut dyn Entropy, buffer: &mut Vec<u8>) {
        if self.transmissions == 0 {
            self.id = id;
            self.question.mix_case(entropy);
            self.started = now;
        }
        self.is_unsent = false;
        self.begin_try(now);
        compose(&self.question, self.id, buffer);
        self.transmissions = self.transmissions.saturating_add(1);
    }

    /// The id it was sent with.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// When it must be woken.
    #[must_use]
    pub fn timeout(&self) -> Micros {
        if self.is_unsent { self.limits.deadline } else { self.try_ends }
    }

    /// A datagram from the resolver on the query's port with the query's id.
    pub fn handle_datagram(&mut self, now: Micros, packet: &[u8]) -> QueryStep {
        // Before the first transmission there is nothing to compare with.
        if !matches!(self.state, State::Udp) || self.transmissions == 0 {
            return QueryStep::Wait;
        }
        match match_reply(packet, self.id, self.question.section()) {
            Match::Reply => match read_reply(packet, &self.question) {
                Ok(reply) => self.end_with_reply(packet, reply),
                Err(_) => self.go_to_tcp(now, TcpReason::Malformed),
            },
            Match::Truncated => self.go_to_tcp(now, TcpReason::Truncated),
            Match::CaseDiffers => {
                self.ignored = self.ignored.saturating_add(1);
                self.go_to_tcp(now, TcpReason::CaseNotCopied)
            }
            Match::Stray => self.ignore(now),
        }
    }

    fn ignore(&mut self, now: Micros) -> QueryStep {
        self.ignored = self.ignored.saturating_add(1);
        if self.ignored > DNS_IGNORED_REPLIES_MAX {
            return self.go_to_tcp(now, TcpReason::TooManyStrayReplies);
        }
        QueryStep::Wait
    }

    fn go_to_tcp(&mut self, now: Micros, reason: TcpReason) -> QueryStep {
        self.tcp_because = Some(reason);
        self.state = State::TcpConnecting;
        self.is_unsent = false;
        self.begin_try(now);
        QueryStep::OpenStream
    }

    /// The connection stands: the query goes out with its name in plain case.
    pub fn handle_connected(&mut self, id: u16) -> QueryStep {
        if !matches!(self.state, State::TcpConnecting) {
            return QueryStep::Wait;
        }
        self.id = id;
        self.question.unmix_case();
        let mut message = Vec::new();
        compose(&self.question, id, &mut message);
        let mut framed = Vec::with_capacity(message.len() + 2);
        framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
        framed.extend_from_slice(&message);
        self.state = State::TcpWaiting { received: Vec::new() };
        QueryStep::SendStream(framed)
    }

    /// Octets on the connection; none means the resolver closed it.
    pub fn handle_stream(&mut self, bytes: &[u8]) -> QueryStep {
        let State::TcpWaiting { received } = &mut self.state else { return QueryStep::Wait };
        if bytes.is_empty() {
            let error = if received.is_empty() { NetworkError::ClosedEarly } else { NetworkError::Reset };
            return self.fail(DnsFailure::Tcp(error));
        }
        let room = DNS_MESSAGE_BYTES_MAX + 2 - received.len().min(DNS_MESSAGE_BYTES_MAX + 2);
        received.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some((&[high, low], rest)) = received.split_first_chunk::<2>() else { return QueryStep::Wait };
        let wanted = usize::from(u16::from_be_bytes([high, low]));
        if rest.len() < wanted {
            return QueryStep::Wait;
        }
        let packet = rest[..wanted].to_vec();
        self.read_stream_reply(&packet)
    }

    fn read_stream_reply(&mut self, packet: &[u8]) -> QueryStep {
        match match_reply(packet, self.id, self.question.section()) {
            // Over a connection a changed case is no sign of a forged packet.
            Match::Reply | Match::CaseDiffers => match read_reply(packet, &self.question) {
                Ok(reply) => self.end_with_reply(packet, reply),
                Err(problem) => self.fail(DnsFailure::Malformed(problem)),
            },
            Match::Truncated => self.fail(DnsFailure::Malformed("truncated although it came over TCP".to_owned())),
            Match::Stray => self.fail(DnsFailure::Malformed("the reply over TCP is about something else".to_owned())),
        }
    }

    /// The connection failed.
    pub fn handle_stream_failed(&mut self, error: NetworkError) -> QueryStep {
        match self.state {
            State::TcpConnecting | State::TcpWaiting { .. } => self.fail(DnsFailure::Tcp(error)),
            State::Udp | State::Ended(_) => QueryStep::Wait,
        }
    }

    /// The socket reported an error, such as a port unreachable. With transmissions left the wait goes
    /// on: an ICMP message is easily forged.
    pub fn handle_datagram_failed(&mut self, error: NetworkError) -> QueryStep {
        if matches!(self.state, State::Udp) && self.transmissions >= self.limits.transmissions {
            return self.fail(DnsFailure::ResolverUnreachable(error));
        }
        QueryStep::Wait
    }

    /// Our own side could not send.
    pub fn handle_local_failure(&mut self, reason: &str) -> QueryStep {
        if matches!(self.state, State::Ended(_)) {
            return QueryStep::Wait;
        }
        self.fail(DnsFailure::Local(reason.to_owned()))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Micros) -> QueryStep {
        if now < self.timeout() || matches!(self.state, State::Ended(_)) {
            return QueryStep::Wait;
        }
        // That nothing came in less than its time says nothing of whom was asked.
        if self.waits_for_turn || self.is_unsent || self.is_cut_short {
            return self.fail(DnsFailure::DeadlineOfTask);
        }
        let transmissions_left = self.transmissions < self.limits.transmissions;
        match self.state {
            State::Udp if transmissions_left && now >= self.limits.deadline => self.fail(DnsFailure::DeadlineOfTask),
            State::Udp if transmissions_left => {
                self.is_unsent = true;
                QueryStep::Transmit
            }
            State::Udp => self.fail(DnsFailure::Timeout),
            State::TcpConnecting | State::TcpWaiting { .. } => self.fail(DnsFailure::Tcp(NetworkError::Timeout)),
            State::Ended(_) => QueryStep::Wait,
        }
    }

    fn end_with_reply(&mut self, packet: &[u8], reply: Reply) -> QueryStep {
        // A reply with another code has no records that count; of a name server it still tells who sent it.
        let failed = matches!(reply.outcome, DnsOutcome::Failed(DnsFailure::Rcode(_)));
        let kept = self.keeps_packet && (!failed || self.question.is_to_name_server());
        let packet = if kept { packet.into() } else { Arc::default() };
        self.state = State::Ended(Box::new(End { reply, packet }));
        QueryStep::Done
    }

    fn fail(&mut self, failure: DnsFailure) -> QueryStep {
        self.state = State::Ended(Box::new(End::failed(failure)));
        QueryStep::Done
    }

    /// The evidence, and, if it is kept, the reply with code NOERROR or NXDOMAIN, or with any code of a name server,
    /// if one came. Before its end, a query is cut off by the task's deadline.
    #[must_use]
    pub fn finish(self, now: Micros) -> (DnsLookup, Arc<[u8]>) {
        let End { reply, packet } = match self.state {
            State::Ended(end) => *end,
            State::Udp | State::TcpConnecting | State::TcpWaiting { .. } => End::failed(DnsFailure::DeadlineOfTask),
        };
        let name = match &reply.outcome {
            // As it has been written already.
            DnsOutcome::Answer(set) if set.aliases.is_empty() => set.owner.clone(),
            _ => self.question.name_text(),
        };
        let lookup = DnsLookup {
            rtype: self.question.rtype(),
            name,
            resolver: self.resolver,
            transport: if self.tcp_because.is_some() { DnsTransport::Tcp } else { DnsTransport::Udp },
            transmissions: self.transmissions,
            tcp_because: self.tcp_because,
            ignored_replies: self.ignored,
            elapsed_us: now.since(self.started),
            authenticated: reply.authenticated,
            extended_errors: reply.extended_errors,
            validation: None,
            repeat: None,
            outcome: reply.outcome,
        };
        (lookup, packet)
    }
}
