//! Journals made without a network: records of attempts that nobody carried out.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{net::IpAddr, path::Path, process::Command};

use jiff::{SignedDuration, Timestamp};
use parallax_engine::{
    config::{Config, SAMPLE},
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    journal::{JournalOptions, Writer},
};
use parallax_validation::{
    base::{address::AddressFilter, attempt::AttemptId, octets::Octets},
    observation::{
        ControlObservation, DnsLookup, DnsOutcome, DnsTransport, DnssecMode, HttpHop, HttpObservation, HttpOutcome,
        HttpTry, Observation, RecordSet, RecordType, TryEnd,
    },
    record::{Record, Reply, Rules, Setup, Terms},
    request::{CheckRequest, RawRequest},
    verdict::PerspectiveState,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// When the engine of these tests came to be.
pub(crate) const NOW: &str = "2026-11-25T12:00:00Z";

/// Makes records that are much alike, so that what is looked for is in some of them.
pub(crate) struct Maker {
    pub(crate) random: StdRng,
    number: u128,
    /// When the next attempt begins.
    pub(crate) clock: Timestamp,
}

impl Maker {
    pub(crate) fn new(seed: u64, clock: &str) -> Self {
        Self { random: StdRng::seed_from_u64(seed), number: 0, clock: clock.parse().unwrap() }
    }

    pub(crate) fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.random.random_range(0..of.len())]
    }

    pub(crate) fn address(&mut self) -> IpAddr {
        let last = self.random.random_range(1..20_u8);
        if self.random.random_bool(0.5) {
            IpAddr::from([8, 8, 4, last])
        } else {
            format!("2600::{last}").parse().unwrap()
        }
    }

    pub(crate) fn domain(&mut self) -> String {
        let depth = self.random.random_range(0..3);
        let labels: Vec<&str> = (0..depth).map(|_| self.one_of(&["a", "b", "www", "aa"])).collect();
        let base = self.one_of(&["one.com", "two.com", "three.org", "xone.com"]);
        labels.into_iter().chain([base]).collect::<Vec<_>>().join(".")
    }

    fn request(&mut self) -> CheckRequest {
        self.number += 1;
        let method = self.one_of(&["http-01", "dns-01", "caa"]);
        let mut identifier = self.domain();
        if method == "http-01" && self.random.random_bool(0.2) {
            identifier = self.address().to_string();
        }
        const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
        const KEY: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";
        let keyed = method != "caa";
        let raw = RawRequest {
            identifier,
            method: method.to_owned(),
            token: keyed.then(|| TOKEN.to_owned()),
            key_authorization: keyed.then(|| KEY.to_owned()),
            ..RawRequest::default()
        };
        let id = format!("r{:06}", self.number);
        CheckRequest::parse(raw, &id, &AddressFilter::default().into(), NOW.parse().unwrap()).unwrap()
    }

    fn lookup(&mut self, name: &str, rtype: RecordType, rdata: Vec<Octets>) -> DnsLookup {
        let resolver = self.random.random_range(1..5_u8);
        let set = RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata };
        DnsLookup {
            name: name.to_owned(),
            rtype,
            resolver: ([10, 0, 0, resolver], 53).into(),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome: DnsOutcome::Answer(set),
        }
    }

    fn fetch(&mut self, name: &str) -> HttpObservation {
        let address = self.address();
        let (rtype, octets) = match address {
            IpAddr::V4(address) => (RecordType::A, address.octets().to_vec()),
            IpAddr::V6(address) => (RecordType::Aaaa, address.octets().to_vec()),
        };
        let connection = HttpTry {
            address: (self.address(), 80).into(),
            connected_us: None,
            elapsed_us: 1,
            received_bytes: 0,
            end: TryEnd::Answered,
        };
        let hop = HttpHop {
            url: format!("http://{name}/"),
            resolution: vec![self.lookup(name, rtype, vec![Octets(octets)])],
            unused: Vec::new(),
            tries: vec![connection],
            tls: None,
            response: None,
        };
        let outcome = HttpOutcome::Response { status: 404, body: Octets(Vec::new()), truncated: false };
        HttpObservation { hops: vec![hop], outcome }
    }

    fn reply(&mut self, request: &CheckRequest) -> Reply {
        if self.random.random_bool(0.3) {
            return Reply::None(PerspectiveState::TimedOut);
        }
        let name = request.identifier.domain().map_or("one.com", |name| name.as_str()).to_owned();
        let control = self.random.random_bool(0.6).then(|| ControlObservation::Http(self.fetch(&name)));
        let caa = vec![self.lookup(&name, RecordType::Caa, Vec::new())];
        Reply::Observed(Observation {
            started: self.clock,
            elapsed_us: 1,
            control,
            derivation: Vec::new(),
            caa,
            hints: Vec::new(),
            budget: None,
            dnssec: DnssecMode::Resolver,
            links: Vec::new(),
            diagnosis: None,
            survey: None,
        })
    }

    pub(crate) fn record(&mut self, rules: &Rules) -> Record {
        let request = self.request();
        let replies = rules.setup().perspectives.iter().map(|_| self.reply(&request)).collect();
        let (started, decided) = (self.clock, self.clock + SignedDuration::from_millis(700));
        self.clock += SignedDuration::from_secs(self.random.random_range(0..20));
        let members = rules.members(started, None).unwrap();
        let attempt = AttemptId(self.number);
        let terms = Terms { attempt, request: &request, started, members: &members, seed: None, restart: None };
        Record::new(rules, &terms, decided, replies)
    }
}

/// The rules of the sample.
pub(crate) fn rules() -> Rules {
    Config::parse(SAMPLE, Path::new("sample"), NOW.parse().unwrap()).unwrap().rules
}

/// Those of another version, with the perspectives in other networks.
pub(crate) fn other_rules() -> Rules {
    let mut setup: Setup = rules().setup().clone();
    setup.software = "parallax 9.9.9".to_owned();
    setup.perspectives.iter_mut().for_each(|perspective| perspective.as_number += 1);
    setup.rules().unwrap()
}

pub(crate) fn open(directory: &Path, segment_bytes_max: u64) -> Writer {
    Writer::open(directory, JournalOptions { segment_bytes_max }).unwrap().0
}

/// A run: the setup, and records after it.
pub(crate) fn run(writer: &mut Writer, maker: &mut Maker, rules: &Rules, records: usize) {
    writer.set_head(ENTRY_SETUP, &serde_json::to_vec(rules.setup()).unwrap()).unwrap();
    more(writer, maker, rules, records);
}

/// Records of a run that has begun.
pub(crate) fn more(writer: &mut Writer, maker: &mut Maker, rules: &Rules, records: usize) {
    for number in 1..=records {
        writer.append(ENTRY_RECORD, &serde_json::to_vec(&maker.record(rules)).unwrap()).unwrap();
        if number % 4 == 0 {
            writer.commit().unwrap();
        }
    }
    writer.commit().unwrap();
}

/// Runs the program: status, standard output, standard error.
pub(crate) fn parallax(arguments: &[&str], in_directory: &Path) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_parallax")).args(arguments).current_dir(in_directory).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
