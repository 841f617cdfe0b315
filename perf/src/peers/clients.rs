//! Who is compared, and with which options: a row of the table each, installed or not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Load, PeerError, Work,
    child::{Responder, find},
    foreign::Foreign,
    table::Side,
    wire::{Holder, INTERFACE, SOURCE},
};
use crate::node::work::{TOKEN, Values};

/// Names in a file of questions; a program reads the file as often as it takes.
const NAMES: u64 = 1_000;

/// hickory-resolver is asked for no more at a time: with more it has needed gigabytes, and failed most.
const HICKORY_IN_FLIGHT_MAX: u64 = 10_000;

/// How what a client prints is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// One line of JSON.
    Line,
    /// In a program's own way.
    Foreign(Foreign),
}

/// A client with its options.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) side: Side,
    /// None if it is not installed.
    pub(super) program: Option<PathBuf>,
    /// How to have it.
    pub(super) install: &'static str,
    /// Why it is not run all the same.
    pub(super) left_out: Option<&'static str>,
    /// What it does more or less than the others.
    pub(super) note: &'static str,
    pub(super) arguments: Vec<String>,
    pub(super) reading: Reading,
    /// Whose the address is, on a wire.
    pub(super) holder: Holder,
}

/// Where clients work.
pub(super) struct Place<'a> {
    pub(super) load: Load,
    /// Whether there is a wire between clients and responders.
    pub(super) is_wired: bool,
    pub(super) responders: &'a [Responder],
    /// Where programs of this repository may be.
    pub(super) directories: &'a [PathBuf],
    pub(super) bare: &'a Path,
    /// For files that programs read.
    pub(super) scratch: &'a Path,
}

/// Memory for frames where they are kept.
const KEPT_OCTETS: usize = 64 << 20;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Place<'_> {
    /// All of a work, in the order of the table.
    pub(super) fn contestants(&self, has_ours: bool) -> Result<Vec<Contestant>, PeerError> {
        if self.is_wired {
            return Ok(self.wired(has_ours));
        }
        let mut all = self.bare();
        if has_ours {
            let drivers = [("ours", "--driver io-uring"), ("ours, epoll", "--driver epoll")];
            all.splice(0..0, drivers.map(|(name, how)| self.ours(name, how, Holder::Kernel)));
            all.extend(match self.load.work {
                Work::Dns => self.others_of_dns()?,
                Work::Caa => Vec::new(),
                Work::Http => self.others_of_http(),
                Work::Tls => self.others_of_tls(),
            });
        }
        Ok(all)
    }

    /// Over a wire: a node in each way to reach it, and the cheapest client that does nothing else.
    fn wired(&self, has_ours: bool) -> Vec<Contestant> {
        let ways = [
            ("ours, io-uring", "--driver io-uring".to_owned(), Holder::Kernel),
            ("ours, raw-xdp", format!("--interface {INTERFACE} --method xdp"), Holder::Client),
            // Nothing fails, so nothing is written: this is what it costs to be able to.
            (
                "ours, frames kept (raw-xdp)",
                format!("--interface {INTERFACE} --method xdp --kept-octets {KEPT_OCTETS}"),
                Holder::Client,
            ),
            ("ours, raw-packet", format!("--interface {INTERFACE} --method packet"), Holder::Client),
        ];
        let ours = ways.map(|(name, how, holder)| self.ours(name, &format!("--source {SOURCE} {how}"), holder));
        let ours = ours.into_iter().filter(|_| has_ours);
        ours.chain(self.bare().into_iter().take(1)).collect()
    }

    fn address(&self, index: usize) -> &str {
        self.responders.get(index).map_or("", |one| &one.address)
    }

    fn port(&self, index: usize) -> &str {
        self.responders.get(index).map_or("", Responder::port)
    }

    fn url(&self) -> String {
        format!("http://{}/.well-known/acme-challenge/{TOKEN}", self.address(0))
    }

    /// What the certificate is for.
    fn tls_name<'s>(&'s self, usual: &'s str) -> &'s str {
        if self.is_wired { self.responders.first().map_or("", Responder::host) } else { usual }
    }

    /// What every client of this repository has, for so many times fewer items.
    fn amounts(&self, fewer: u64) -> String {
        let Load { items, in_flight, warm_up, .. } = self.load;
        format!("--items {} --in-flight {in_flight} --warm-up {} --limit 600", items / fewer, warm_up / fewer)
    }

    fn ours(&self, name: &str, how: &str, holder: Holder) -> Contestant {
        let host = self.responders.first().map_or("", Responder::host);
        let (what, note) = match self.load.work {
            Work::Dns => (
                format!("resolver --resolver {} --source-ports 64", self.address(0)),
                "dns-01 from task to report, judged; 64 source ports",
            ),
            Work::Caa => (
                format!("caa --resolver {} --source-ports 64", self.address(0)),
                "three questions, one label after another, judged; 64 source ports",
            ),
            Work::Http => (
                format!("http --by-address --web-address {host} --http-port {}", self.port(0)),
                "http-01 of an address from task to report, judged",
            ),
            Work::Tls if self.is_wired => (
                format!("tls --by-address --web-address {host} --tls-port {}", self.port(0)),
                "tls-alpn-01 of an address from task to report, judged",
            ),
            Work::Tls => (
                format!("tls --tls-port {} --resolver {}", self.port(0), self.address(1)),
                "tls-alpn-01 from task to report, judged; with lookups of A and AAAA",
            ),
        };
        Contestant {
            name: name.to_owned(),
            side: Side::Ours,
            program: std::env::current_exe().ok(),
            install: "",
            left_out: None,
            note,
            arguments: words(&format!("node {what} {how} {}", self.amounts(1))),
            reading: Reading::Line,
            holder,
        }
    }

    fn bare(&self) -> Vec<Contestant> {
        let values = Values::new();
        let of = |name: &str, what: &str, note: &'static str| Contestant {
            name: format!("bare {name}"),
            side: Side::Bare,
            program: Some(self.bare.to_owned()),
            install: "",
            left_out: None,
            note,
            arguments: words(&format!("{what} --peer {} {}", self.address(0), self.amounts(1))),
            reading: Reading::Line,
            holder: Holder::Kernel,
        };
        let text = &values.text;
        match self.load.work {
            Work::Dns => ["uring", "mmsg", "epoll"]
                .map(|way| {
                    of(way, &format!("udp {way} --sockets 64 --text {text}"), "a fixed query, id and text checked")
                })
                .into(),
            // There is no such client for three questions that follow from each other.
            Work::Caa => Vec::new(),
            Work::Http => vec![
                of("uring, RST", "http uring --close rst", "a fixed request, status and length checked"),
                of("uring, FIN", "http uring --close fin", "a fixed request, status and length checked"),
                of("epoll, RST", "http epoll --close rst", "a fixed request, status and length checked"),
            ],
            Work::Tls => vec![of(
                "tls",
                &format!("tls --name {}", self.tls_name(values.name)),
                "handshake and its signature alone",
            )],
        }
    }

    fn other(&self, program: Foreign, name: &str, install: &'static str, note: &'static str) -> Contestant {
        Contestant {
            name: name.to_owned(),
            side: Side::Other,
            program: find(program.program(), &[]),
            install,
            left_out: None,
            note,
            arguments: Vec::new(),
            reading: Reading::Foreign(program),
            holder: Holder::Kernel,
        }
    }

    fn own_peer(&self, program: &str, note: &'static str, arguments: &str, fewer: u64) -> Contestant {
        Contestant {
            name: program.to_owned(),
            side: Side::Other,
            program: find(program, self.directories),
            install: "`cargo build --release --manifest-path perf/peers/Cargo.toml`",
            left_out: None,
            note,
            arguments: words(&format!("{arguments} {}", self.amounts(fewer))),
            reading: Reading::Line,
            holder: Holder::Kernel,
        }
    }

    /// Names one for a line, each with `after`.
    fn names(&self, file: &str, count: u64, after: &str) -> Result<PathBuf, PeerError> {
        let path = self.scratch.join(file);
        let text: String = (0..count).map(|n| format!("_acme-challenge.c{n}.customer.example{after}\n")).collect();
        fs::write(&path, text).map_err(|error| PeerError::File { path: path.clone(), error })?;
        Ok(path)
    }

    fn others_of_dns(&self) -> Result<Vec<Contestant>, PeerError> {
        let Load { items, in_flight, .. } = self.load;
        let mut dnsperf =
            self.other(Foreign::Dnsperf, "dnsperf", "Debian package dnsperf", "load generator; 64 sockets");
        if dnsperf.program.is_some() {
            let file = self.names("dnsperf", NAMES, " TXT")?;
            let runs = items.div_ceil(NAMES);
            dnsperf.arguments = words(&format!(
                "-s 127.0.0.1 -p {} -d {} -n {runs} -q {in_flight} -c 64 -T 1 -t 5",
                self.port(0),
                file.display()
            ));
        }
        let note = "resolver in bulk; one socket for each 1 000 or so in flight; figures include its start";
        let mut massdns = self.other(Foreign::Massdns, "massdns", "not in Debian 12; build from source", note);
        if massdns.program.is_some() {
            let file = self.names("massdns", items, "")?;
            let resolvers = self.scratch.join("resolvers");
            let text = format!("{}\n", self.address(0));
            fs::write(&resolvers, text).map_err(|error| PeerError::File { path: resolvers.clone(), error })?;
            massdns.arguments =
                words(&format!("-r {} -t TXT -s {in_flight} -o S -q {}", resolvers.display(), file.display()));
        }
        let what = format!("--peer {} --text {}", self.address(0), Values::new().text);
        let mut hickory = self.own_peer("peer-hickory", "hickory-resolver, a full stub; text checked", &what, 5);
        let is_too_much = in_flight > HICKORY_IN_FLIGHT_MAX;
        hickory.left_out = is_too_much.then_some("it has a socket, and so a descriptor, for each question");
        Ok(vec![dnsperf, massdns, hickory])
    }

    fn others_of_http(&self) -> Vec<Contestant> {
        let Load { items, in_flight, seconds, .. } = self.load;
        let mut wrk = self.other(Foreign::Wrk, "wrk", "Debian package wrk", "load generator; `Connection: close`");
        wrk.arguments = words(&format!("-t1 -c{in_flight} -d{seconds}s --timeout 20s -H"));
        wrk.arguments.extend(["Connection: close".to_owned(), self.url()]);
        let mut ab =
            self.other(Foreign::Ab, "ab", "Debian package apache2-utils", "load generator; a new connection each");
        ab.arguments = words(&format!("-q -s 30 -n {items} -c {in_flight} {}", self.url()));
        let mut oha = self.other(Foreign::Oha, "oha", "`cargo install oha`", "load generator; a new connection each");
        oha.arguments = words(&format!(
            "-n {items} -c {in_flight} --no-tui --output-format json --disable-keepalive -t 20s {}",
            self.url()
        ));
        let what = format!("--peer {} --body {}", self.address(0), Values::new().key_authorization);
        let hyper = self.own_peer("peer-hyper", "tokio and hyper, a new connection each; body checked", &what, 1);
        vec![wrk, ab, oha, hyper]
    }

    fn others_of_tls(&self) -> Vec<Contestant> {
        let note = "OpenSSL's own timer: one handshake at a time, no ALPN, certificate not judged";
        let mut s_time = self.other(Foreign::OpensslTime, "openssl s_time", "Debian package openssl", note);
        let (address, seconds) = (self.address(0), self.load.seconds);
        s_time.arguments = words(&format!("s_time -new -tls1_3 -connect {address} -time {seconds}"));
        vec![s_time]
    }
}
