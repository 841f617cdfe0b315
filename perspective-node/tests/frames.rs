//! A node over frames on a wire: what it drops is among its figures, and the packets of a check that failed are kept.
//!
//! Needs root, and the Debian packages `ethtool`, `iproute2` and `tcpdump`.

mod common;
mod wire;

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::{Bench, PATH, QUICK, Record, THUMBPRINT, TOKEN, asked, plan, read_request, reply, txt_record};
use jiff::{SignedDuration, Timestamp};
use parallax_node::{FrameDrop, NodeStats, RawTransport, TakePackets, Transport, desk::Desk};
use parallax_protocol::AttemptId;
use parallax_validation::{observation::DnsOutcome, plan::Plan};
use tempfile::TempDir;
use wire::{NODE, SERVERS};

const PATIENCE: Duration = Duration::from_secs(20);

/// Names below `silent.example` get no answer; others have a text, are at [`SERVERS`], and have nothing else.
fn resolver() -> SocketAddr {
    // The port by which tcpdump knows what to read: nobody else is in this namespace.
    let socket = UdpSocket::bind((SERVERS, 53)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            if has(query, "silent") {
                continue;
            }
            let name_end = 12 + query[12..].iter().position(|&b| b == 0).expect("a query's name ends");
            let answer = match query[name_end + 2] {
                1 => reply(query, 0, &[Record(asked(), 1, SERVERS.octets().to_vec())]),
                16 => reply(query, 0, &[txt_record("a text")]),
                _ => nodata(query),
            };
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// That there is no such record, with the SOA that says so.
fn nodata(query: &[u8]) -> Vec<u8> {
    // Two empty names and five numbers.
    let mut answer = reply(query, 0, &[Record(asked(), 6, vec![0; 22])]);
    // It belongs to the second section of three.
    answer[6..10].copy_from_slice(&[0, 0, 0, 1]);
    answer
}

/// Whether a packet has a label, in whatever case.
fn has(packet: &[u8], label: &str) -> bool {
    packet.windows(label.len()).any(|part| part.eq_ignore_ascii_case(label.as_bytes()))
}

/// A web server that answers the challenge.
fn web_server() -> SocketAddr {
    let listener = TcpListener::bind((SERVERS, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            assert_eq!(read_request(&mut stream), PATH);
            let body = format!("{TOKEN}.{THUMBPRINT}");
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = std::io::Write::write_all(&mut stream, text.as_bytes());
        }
    });
    address
}

fn until(what: &str, stats: &NodeStats, is_so: impl Fn(&NodeStats) -> bool) {
    let begun = Instant::now();
    while !is_so(stats) {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}; {stats:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_dropped_is_counted_by_reason() {
    wire::run(|| {
        let mut bench = Bench::start(&wire::config(resolver()));
        bench.run(plan("www.good.example", "dns-01", false, QUICK));
        let stats = bench.node.stats();
        until("frames both ways", stats, |stats| {
            let moved = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) >= 2;
            moved(&stats.frames.received) && moved(&stats.frames.transmitted)
        });
        let dropped = |reason| stats.frames.dropped(reason);
        assert_eq!((dropped(FrameDrop::Stranger), dropped(FrameDrop::Fragment)), (0, 0));
        let somebody = UdpSocket::bind((SERVERS, 0)).expect("a free port");
        // Below the ports that queries are sent from.
        somebody.send_to(b"nobody asked", (NODE, 7)).expect("sent");
        // More than fits a frame.
        somebody.send_to(&[0; 4000], (NODE, 7)).expect("sent");
        until("a stranger", stats, |stats| stats.frames.dropped(FrameDrop::Stranger) == 1);
        until("fragments", stats, |stats| stats.frames.dropped(FrameDrop::Fragment) == 3);
        assert_eq!(dropped(FrameDrop::Checksum), 0);
        wire::compute_checksums(false);
        // Its SYN has no checksum, so nobody answers it.
        let wait = Duration::from_millis(300);
        TcpStream::connect_timeout(&(NODE, 80).into(), wait).expect_err("nobody listens");
        until("a wrong checksum", stats, |stats| stats.frames.dropped(FrameDrop::Checksum) > 0);
    });
}

/// A frame of a capture.
struct Frame {
    at: Timestamp,
    length: u32,
    bytes: Vec<u8>,
}

/// Reads a capture by what the form says, not by what wrote it.
fn read_capture(file: &Path) -> Vec<Frame> {
    let bytes = fs::read(file).expect("a capture");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"));
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1), "nanoseconds, and Ethernet");
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let (seconds, nanoseconds, kept, length) = (word(at), word(at + 4), word(at + 8), word(at + 12));
        let start = at + 16;
        at = start + kept as usize;
        let time = Timestamp::new(seconds.into(), nanoseconds.try_into().expect("below a second")).expect("a time");
        assert!(kept <= length && word(16) >= kept);
        frames.push(Frame { at: time, length, bytes: bytes[start..at].to_vec() });
    }
    frames
}

/// What tcpdump says of it, a line for each frame.
fn tcpdump(file: &Path) -> Vec<String> {
    let output = Command::new("tcpdump")
        .args(["-nn", "-t", "-r", "-"])
        .stdin(Stdio::from(File::open(file).expect("a capture")))
        .output()
        .expect("tcpdump of the Debian package tcpdump");
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complaints}");
    said.lines().map(str::to_owned).collect()
}

fn captures(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(directory).expect("there").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

struct Keeper {
    bench: Bench,
    directory: PathBuf,
    web: SocketAddr,
    _place: TempDir,
}

impl Keeper {
    fn start(web: SocketAddr) -> Self {
        let place = TempDir::new().expect("a directory");
        let directory = place.path().join("captures");
        let mut config = wire::config(resolver());
        // All queries share one port.
        config.source_ports = 1;
        config.laboratory.http_port = Some(web.port());
        config.transport =
            Transport::Raw(RawTransport { kept_octets: 1 << 20, captures: Some(directory.clone()), ..wire::raw() });
        Self { bench: Bench::start(&config), directory, web, _place: place }
    }

    /// Carries plans out side by side, until so many captures are there.
    fn run(&mut self, plans: Vec<Plan>, expected: usize) -> Vec<PathBuf> {
        self.bench.run_all(plans);
        let stats = self.bench.node.stats();
        until("captures", stats, |stats| stats.captures_written.load(Ordering::Relaxed) == expected as u64);
        // One that should not be would come now.
        thread::sleep(Duration::from_millis(100));
        let files = captures(&self.directory);
        assert_eq!((files.len(), stats.captures_lost.load(Ordering::Relaxed)), (expected, 0), "{files:?}");
        files
    }
}

fn http(name: &str) -> Plan {
    plan(name, "http-01", false, QUICK)
}

#[test]
fn the_packets_of_a_check_that_failed_are_kept_and_those_of_others_are_not() {
    wire::run(|| {
        // A port that nobody listens at.
        let web = TcpListener::bind((SERVERS, 0)).and_then(|listener| listener.local_addr()).expect("a free port");
        let mut keeper = Keeper::start(web);
        let begun = Timestamp::now();
        let dns = |name: &str| plan(name, "dns-01", false, QUICK);
        let files = keeper.run(vec![dns("first.good.example"), http("refused.example"), dns("last.good.example")], 1);
        let name = files[0].file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.ends_with(&format!("Z-{}-test.pcap", AttemptId(1 << 64 | 7))), "{name}");
        assert_eq!(fs::metadata(&files[0]).expect("there").permissions().mode() & 0o777, 0o600);
        let frames = read_capture(&files[0]);
        for frame in &frames {
            assert!(!has(&frame.bytes, "good"), "a packet of another check");
            assert!(frame.length as usize >= frame.bytes.len());
            assert!(frame.at > begun - SignedDuration::from_millis(10) && frame.at < Timestamp::now());
        }
        assert!(frames.is_sorted_by_key(|frame| frame.at));
        let said = tcpdump(&files[0]);
        assert_eq!(said.len(), frames.len());
        let (node, web) = (Ipv4Addr::to_string(&NODE), format!("{SERVERS}.{}", keeper.web.port()));
        let count = |holds: &dyn Fn(&str) -> bool| said.iter().filter(|line| holds(line)).count();
        // The case of a name is drawn anew for each query.
        let query =
            |line: &str| line.starts_with(&format!("IP {node}.")) && line.to_lowercase().contains("? refused.example.");
        assert_eq!(count(&query), 2, "A and AAAA: {said:#?}");
        assert_eq!(count(&|line| line.contains(&format!("> {web}: Flags [S]"))), 1, "{said:#?}");
        assert_eq!(count(&|line| line.contains(&format!("IP {web} >")) && line.contains("Flags [R")), 1, "{said:#?}");
        assert_eq!(frames.len(), 6, "two questions, two answers, a SYN and its RST: {said:#?}");
    });
}

#[test]
fn packets_of_a_check_that_saw_all_can_be_asked_for_while_they_are_there() {
    wire::run(|| {
        let mut config = wire::config(resolver());
        config.laboratory.http_port = Some(web_server().port());
        let without = Bench::start(&config);
        assert!(without.node.packet_keeper().is_none(), "nothing is kept unless that is wanted");
        drop(without);
        config.transport = Transport::Raw(RawTransport { kept_octets: 256 * 1024, ..wire::raw() });
        let mut bench = Bench::start(&config);
        let (give, given) = mpsc::channel();
        let take: TakePackets = Arc::new(move |attempt, file| give.send((attempt, file)).expect("somebody waits"));
        bench.run(http("www.good.example"));
        let packets = bench.node.packet_keeper().expect("packets are kept");
        let attempt = AttemptId(7);
        packets.ask(AttemptId(8), &take);
        packets.ask(attempt, &take);
        let (of, file) = given.recv_timeout(PATIENCE).expect("packets");
        assert_eq!(of, attempt, "nobody knows the other");
        let place = TempDir::new().expect("a directory");
        let path = place.path().join("asked.pcap");
        fs::write(&path, file).expect("written");
        let said = tcpdump(&path);
        assert_eq!(said.len(), read_capture(&path).len());
        let has_line = |what: &str| said.iter().any(|line| line.to_lowercase().contains(what));
        for what in ["aaaa? www.good.example.", "flags [s]", "flags [s.]"] {
            assert!(has_line(what), "{what}: {said:#?}");
        }
        assert!(read_capture(&path).iter().any(|frame| has(&frame.bytes, TOKEN)), "the request");
        assert!(read_capture(&path).iter().any(|frame| has(&frame.bytes, "200 OK")), "the answer");
        packets.ask(attempt, &take);
        assert!(given.recv_timeout(Duration::from_millis(500)).is_err(), "they are given once");
        // More traffic than there is room for pushes it out.
        let others = (0..2000).map(|one| plan(&format!("n{one}.good.example"), "dns-01", false, QUICK));
        bench.run_all(others.collect());
        packets.ask(attempt, &take);
        let said = given.recv_timeout(Duration::from_millis(500)).map(|(_, file)| file.len());
        assert!(said.is_err(), "{said:?}");
    });
}

#[test]
fn packets_are_for_the_session_alone_that_gave_the_task() {
    wire::run(|| {
        let mut config = wire::config(resolver());
        config.transport = Transport::Raw(RawTransport { kept_octets: 256 * 1024, ..wire::raw() });
        let bench = Bench::start(&config);
        let task = bench.task(0, plan("www.good.example", "dns-01", false, QUICK));
        let attempt = task.header.attempt;
        let Bench { node, reports, .. } = bench;
        let desk = Desk::open(node, config.perspective.clone(), reports, 1).expect("a desk");
        let (own, other) = (desk.open_session(), desk.open_session());
        let (out, mut back) = tokio::sync::mpsc::unbounded_channel();
        desk.carry_out(own, vec![task], &out).expect("the node runs");
        back.blocking_recv().expect("a report");
        let (give, given) = mpsc::channel();
        let take: TakePackets = Arc::new(move |attempt, file| give.send((attempt, file)).expect("somebody waits"));
        desk.ask_for_packets(other, attempt, &take);
        assert!(given.recv_timeout(Duration::from_millis(500)).is_err(), "it only knows the attempt");
        desk.ask_for_packets(own, attempt, &take);
        let (of, file) = given.recv_timeout(PATIENCE).expect("packets");
        assert!(of == attempt && has(&file, "good"));
    });
}

#[test]
fn silence_is_kept_too_and_a_check_that_saw_all_is_not() {
    wire::run(|| {
        let mut keeper = Keeper::start(web_server());
        keeper.run(vec![http("www.good.example")], 0);
        let seen = keeper.bench.run(plan("www.silent.example", "dns-01", false, QUICK));
        assert!(matches!(common::txt(seen).outcome, DnsOutcome::Failed(_)));
        let stats = keeper.bench.node.stats();
        until("a capture", stats, |stats| stats.captures_written.load(Ordering::Relaxed) == 1);
        let files = captures(&keeper.directory);
        let frames = read_capture(&files[0]);
        assert_eq!(frames.len(), usize::from(QUICK.dns_transmissions), "each transmission");
        assert!(frames.iter().all(|frame| has(&frame.bytes, "silent")));
        assert_eq!(tcpdump(&files[0]).len(), frames.len());
    });
}
