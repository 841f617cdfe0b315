//! A node that asks a zone's own servers once a lookup has failed: real servers in the laboratory, and servers
//! that misbehave on port 53 of addresses of their own (`cases.md` D24 to D26, D33, D34).

mod common;
mod dnssec_lab;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Bench, QUICK, Record, asked, config, framed, read_framed, reply, truncated, wire};
use dnssec_lab::Lab;
use parallax_node::NodeConfig;
use parallax_validation::{
    explain::diagnosis::sentences,
    lookup::{Dnssec, dnssec::anchor::TrustAnchors},
    observation::{ControlObservation, Diagnosis, DnsOutcome, Observation, SecurityStatus, ServerOutcome},
    plan::{ControlPlan, Plan, PlanLimits},
};

const CAA: u16 = 257;
const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;

fn caa(name: &str) -> Plan {
    let limits = PlanLimits { task_deadline_ms: 12_000, dns_try_ms: 3_000, dns_transmissions: 1, ..QUICK };
    let caa_levels = vec![name.to_owned()];
    Plan {
        control: None,
        derivation: None,
        caa_levels,
        hints: Vec::new(),
        keep_proof: true,
        diagnose: true,
        survey: None,
        limits,
    }
}

fn txt(name: &str) -> Plan {
    let control = Some(ControlPlan::txt(format!("_acme-challenge.{name}")));
    Plan { control, caa_levels: Vec::new(), ..caa(name) }
}

fn local(lab: &Lab) -> NodeConfig {
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    NodeConfig { dnssec: Dnssec::Local(Arc::new(anchors)), ..config(lab.plain()) }
}

fn diagnosis(seen: &Observation) -> &Diagnosis {
    seen.diagnosis.as_ref().unwrap_or_else(|| panic!("no diagnosis: {seen:?}"))
}

fn said(seen: &Observation) -> String {
    sentences(diagnosis(seen)).join(" ")
}

#[test]
fn d02_servers_that_are_dead_or_do_not_serve_the_zone_are_named() {
    let Some(lab) = dnssec_lab::inside("d02_servers_that_are_dead_or_do_not_serve_the_zone_are_named") else { return };
    let mut bench = Bench::start(&local(lab));
    let zones =
        ["silent", "silentplain", "closed", "closedplain", "servfail", "servfailplain", "refused", "refusedplain"];
    let seen = bench.run_all(zones.iter().map(|zone| caa(&format!("{zone}.example"))).collect());
    for (zone, seen) in zones.iter().zip(&seen) {
        let zone = format!("{zone}.example");
        let wants = match zone.trim_end_matches(".example").trim_end_matches("plain") {
            "silent" => format!("None of the nameservers of {zone} (127.0.53.8) answers."),
            "closed" => {
                format!("None of the nameservers of {zone} (127.0.53.9) answers. Nothing listens on port 53 there.")
            }
            "servfail" => format!(
                "The nameserver ns.{zone} (127.0.53.3) of {zone} answers SERVFAIL to every question. \
                 The zone is probably not loaded there, or its copy has run out."
            ),
            _ => format!(
                "The nameserver ns.{zone} (127.0.53.3) of {zone} answers REFUSED to every question. \
                 Serve the zone there, or correct the delegation at the registrar."
            ),
        };
        assert_eq!(said(seen), wants, "{seen:?}");
    }
}

#[test]
fn d34_the_server_with_expired_signatures_is_named() {
    let Some(lab) = dnssec_lab::inside("d34_the_server_with_expired_signatures_is_named") else { return };
    let mut bench = Bench::start(&local(lab));
    // Which server the resolver asks is chance.
    let met = (0..40).find_map(|_| {
        let seen = bench.run(txt("stale.example"));
        let Some(ControlObservation::Record(lookup)) = &seen.control else { panic!("no TXT lookup: {seen:?}") };
        let validation = lookup.validation.as_ref()?;
        let remark = validation.first_fault.is_some() || validation.status == SecurityStatus::Bogus;
        assert_eq!(seen.diagnosis.is_some(), remark, "{seen:?}");
        // No more than a remark is worth.
        assert!(seen.elapsed_us < 3_000_000, "{seen:?}");
        remark.then_some(seen)
    });
    let seen = met.expect("the stale server is asked at times");
    let text = said(&seen);
    let begins = "Signatures from ns3.stale.example (127.0.53.5) over TXT of _acme-challenge.stale.example expired 20";
    assert!(text.starts_with(begins), "{text}");
    assert!(text.contains("Z; the other servers are current. Its zone transfer seems stuck."), "{text}");
    assert!(text.ends_with("serial 2026010101 at 127.0.53.5, 2026010102 at the others."), "{text}");
    // All of them expired.
    let seen = bench.run(txt("expired.example"));
    let text = said(&seen);
    assert!(
        text.starts_with("Signatures from the nameserver ns.expired.example (127.0.53.3) of expired.example"),
        "{text}"
    );
    assert!(text.ends_with("Sign the zone expired.example anew."), "{text}");
}

#[test]
fn a_fault_at_the_parent_or_none_at_all_asks_no_server() {
    let Some(lab) = dnssec_lab::inside("a_fault_at_the_parent_or_none_at_all_asks_no_server") else { return };
    let mut bench = Bench::start(&local(lab));
    for plan in [caa("good.example"), txt("good.example"), caa("unsigned.example"), caa("example")] {
        assert_eq!(bench.run(plan).diagnosis, None);
    }
}

// ---- servers that misbehave ---------------------------------------------------------------------------

type Answers = fn(rtype: u16, query: &[u8]) -> Option<Vec<u8>>;

/// Packets a server got, by type, TCP under 0.
type Counts = Arc<Mutex<BTreeMap<u16, usize>>>;

fn rtype_of(query: &[u8]) -> u16 {
    let name = query[12..].iter().position(|&b| b == 0).expect("a query's name ends");
    u16::from_be_bytes([query[13 + name], query[14 + name]])
}

fn with_flags(mut packet: Vec<u8>, aa: bool) -> Vec<u8> {
    packet[2] = packet[2] & !0x05 | if aa { 0x04 } else { 0 };
    packet[3] &= 0x0f;
    packet
}

fn soa_record(serial: u32) -> Record {
    let numbers: Vec<u8> = [serial, 3600, 600, 86_400, 60].iter().flat_map(|n| n.to_be_bytes()).collect();
    Record(wire("victim.example"), SOA, [wire("ns1.victim.example"), wire("hm.victim.example"), numbers].concat())
}

/// A name server on port 53 of `127.0.60.last`; without `on_stream` nobody listens on TCP.
fn name_server(last: u8, answers: Answers, on_stream: Option<fn(TcpStream)>) -> (IpAddr, Counts) {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 60, last));
    let counts = Counts::default();
    let udp = UdpSocket::bind((address, 53)).expect("port 53 of an address of its own");
    let for_thread = Arc::clone(&counts);
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let query = &buffer[..length];
            assert_eq!(query[2] & 1, 0, "RD is clear");
            *for_thread.lock().expect("no panic").entry(rtype_of(query)).or_default() += 1;
            if let Some(packet) = answers(rtype_of(query), query) {
                let _ = udp.send_to(&packet, from);
            }
        }
    });
    if let Some(on_stream) = on_stream {
        let tcp = TcpListener::bind((address, 53)).expect("port 53 of an address of its own");
        let for_thread = Arc::clone(&counts);
        thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                *for_thread.lock().expect("no panic").entry(0).or_default() += 1;
                thread::spawn(move || on_stream(stream));
            }
        });
    }
    (address, counts)
}

/// A resolver that knows the name servers of `victim.example` and answers SERVFAIL to CAA, or NODATA to all of
/// that if `good`. Counts its queries.
fn resolver_of(servers: &[IpAddr], good: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let servers = servers.to_vec();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = common::dns_server(
        move |socket, from, query| {
            counted.fetch_add(1, Ordering::Relaxed);
            let name = 12 + query[12..].iter().position(|&b| b == 0).expect("a query's name ends");
            let asked_name = query[12..name].to_ascii_lowercase();
            let packet = match rtype_of(query) {
                NS if asked_name.starts_with(b"\x06victim") => {
                    // Compressed, as in real replies.
                    let names =
                        (1..=servers.len() as u8).map(|n| Record(asked(), NS, vec![3, b'n', b's', b'0' + n, 0xc0, 12]));
                    reply(query, 0, &names.collect::<Vec<_>>())
                }
                A if asked_name.starts_with(b"\x03ns") => {
                    let number = usize::from(asked_name[3] - b'1');
                    let IpAddr::V4(address) = servers[number] else { panic!("IPv4 only") };
                    reply(query, 0, &[Record(asked(), A, address.octets().to_vec())])
                }
                CAA if good => nodata(query, true, true),
                CAA => reply(query, 2, &[]),
                _ => nodata(query, true, true),
            };
            let _ = socket.send_to(&packet, from);
        },
        None,
    );
    (address, count)
}

/// No records; with AA, and with the SOA, or without.
fn nodata(query: &[u8], aa: bool, soa: bool) -> Vec<u8> {
    let records = if soa { vec![soa_record(2_026_122_001)] } else { Vec::new() };
    let mut packet = with_flags(reply(query, 0, &records), aa);
    packet.swap(7, 9);
    packet
}

/// A zone of one A record.
fn sound(rtype: u16, query: &[u8]) -> Option<Vec<u8>> {
    Some(match rtype {
        A => with_flags(reply(query, 0, &[Record(asked(), A, vec![192, 0, 2, 1])]), true),
        SOA => with_flags(reply(query, 0, &[soa_record(2_026_122_001)]), true),
        _ => nodata(query, true, true),
    })
}

fn look(servers: &[IpAddr]) -> Observation {
    let (resolver, _) = resolver_of(servers, false);
    let began = Instant::now();
    let seen = Bench::start(&config(resolver)).run(caa("victim.example"));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(matches!(seen.caa[0].outcome, DnsOutcome::Failed(_)));
    assert_eq!(seen.budget, None);
    seen
}

#[test]
fn d24_notimp_to_caa_is_told_as_the_servers_said_it() {
    if dnssec_lab::inside("d24_notimp_to_caa_is_told_as_the_servers_said_it").is_none() {
        return;
    }
    let notimp: Answers = |rtype, query| match rtype {
        CAA => Some(with_flags(reply(query, 4, &[]), true)),
        _ => sound(rtype, query),
    };
    let (one, counts) = name_server(1, notimp, None);
    let (two, _) = name_server(2, notimp, None);
    let seen = look(&[one, two]);
    assert_eq!(
        said(&seen),
        "Both nameservers of victim.example answer NOTIMP to CAA (type 257). They should answer NOERROR with an empty \
         answer."
    );
    assert_eq!(diagnosis(&seen).servers[0].serial, Some(2_026_122_001));
    // One of each, and no more.
    assert_eq!(*counts.lock().expect("no panic"), BTreeMap::from([(A, 1), (SOA, 1), (CAA, 1)]));
    let (three, _) = name_server(3, sound, None);
    assert_eq!(
        said(&look(&[one, three])),
        "ns1.victim.example (127.0.60.1) answers NOTIMP to CAA (type 257). It should answer NOERROR with an empty answer."
    );
    assert_eq!(said(&look(&[three])), "");
}

#[test]
fn d25_caa_that_is_dropped_while_a_is_answered() {
    if dnssec_lab::inside("d25_caa_that_is_dropped_while_a_is_answered").is_none() {
        return;
    }
    let drops: Answers = |rtype, query| if rtype == CAA { None } else { sound(rtype, query) };
    let close: fn(TcpStream) = |mut stream| drop(read_framed(&mut stream));
    let (address, counts) = name_server(11, drops, Some(close));
    let seen = look(&[address]);
    let text = said(&seen);
    assert!(text.starts_with("127.0.60.11 answers A in "), "{text}");
    assert!(
        text.ends_with(
            " ms but never CAA. A firewall in front of it is probably discarding query types it does not know. \
             TCP was tried too, and closed without an answer."
        ),
        "{text}"
    );
    assert_eq!(*counts.lock().expect("no panic"), BTreeMap::from([(0, 1), (A, 1), (SOA, 1), (CAA, 1)]));
    let answer: fn(TcpStream) = |mut stream| {
        let query = read_framed(&mut stream);
        let _ = stream.write_all(&framed(&nodata(&query, true, true)));
    };
    let (address, _) = name_server(12, drops, Some(answer));
    let text = said(&look(&[address]));
    assert!(text.starts_with("127.0.60.12 answers CAA over TCP but not over UDP."), "{text}");
}

#[test]
fn d33b_an_answer_that_needs_tcp_which_is_refused() {
    if dnssec_lab::inside("d33b_an_answer_that_needs_tcp_which_is_refused").is_none() {
        return;
    }
    let cuts: Answers = |rtype, query| if rtype == CAA { Some(truncated(query)) } else { sound(rtype, query) };
    let (address, counts) = name_server(21, cuts, None);
    let seen = look(&[address]);
    assert_eq!(said(&seen), "The CAA answer does not fit UDP and 127.0.60.21 refuses TCP port 53.");
    assert_eq!(*counts.lock().expect("no panic"), BTreeMap::from([(A, 1), (SOA, 1), (CAA, 1)]));
    // Contrast and version are never asked over TCP.
    let cuts_all: Answers = |_, query| Some(truncated(query));
    let close: fn(TcpStream) = |mut stream| drop(read_framed(&mut stream));
    let (address, counts) = name_server(22, cuts_all, Some(close));
    assert_eq!(
        said(&look(&[address])),
        "The CAA answer does not fit UDP and 127.0.60.22 gives no answer on TCP port 53."
    );
    assert_eq!(*counts.lock().expect("no panic"), BTreeMap::from([(0, 1), (A, 1), (SOA, 1), (CAA, 1)]));
}

#[test]
fn d26_an_empty_answer_without_flag_and_soa() {
    if dnssec_lab::inside("d26_an_empty_answer_without_flag_and_soa").is_none() {
        return;
    }
    let bare: Answers =
        |rtype, query| if rtype == CAA { Some(nodata(query, false, false)) } else { sound(rtype, query) };
    let (address, _) = name_server(31, bare, None);
    assert_eq!(
        said(&look(&[address])),
        "ns1.victim.example (127.0.60.31) answers without the authoritative flag and without SOA; resolvers may reject that."
    );
}

#[test]
fn without_a_remark_or_without_being_told_to_no_server_is_asked() {
    if dnssec_lab::inside("without_a_remark_or_without_being_told_to_no_server_is_asked").is_none() {
        return;
    }
    let (address, counts) = name_server(41, sound, None);
    let (resolver, asked) = resolver_of(&[address], true);
    let seen = Bench::start(&config(resolver)).run(caa("victim.example"));
    assert!(matches!(seen.caa[0].outcome, DnsOutcome::Nodata(_)), "{seen:?}");
    assert_eq!(seen.diagnosis, None);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let (resolver, asked) = resolver_of(&[address], false);
    let seen = Bench::start(&config(resolver)).run(Plan { diagnose: false, ..caa("victim.example") });
    assert!(matches!(seen.caa[0].outcome, DnsOutcome::Failed(_)), "{seen:?}");
    assert_eq!(seen.diagnosis, None);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(counts.lock().expect("no panic").is_empty());
}

#[test]
fn d17_an_address_that_is_not_allowed_is_never_asked() {
    if dnssec_lab::inside("d17_an_address_that_is_not_allowed_is_never_asked").is_none() {
        return;
    }
    let (address, counts) = name_server(51, sound, None);
    let (resolver, _) = resolver_of(&[address], false);
    let mut settings = config(resolver);
    settings.laboratory.allow_addresses = Vec::new();
    let seen = Bench::start(&settings).run(caa("victim.example"));
    assert!(matches!(seen.caa[0].outcome, DnsOutcome::Failed(_)), "{seen:?}");
    assert!(counts.lock().expect("no panic").is_empty());
    let servers = seen.diagnosis.iter().flat_map(|diagnosis| &diagnosis.servers);
    assert!(servers.clone().all(|server| server.address.is_none() && server.answer.is_none()), "{seen:?}");
}

/// Diagnoses that a server is silent in, and in which it answers the question.
fn silent_and_answered(seen: &[Observation]) -> (usize, usize) {
    let answers = |seen: &Observation| {
        let servers = seen.diagnosis.iter().flat_map(|diagnosis| diagnosis.servers.clone());
        servers.flat_map(|server| [server.answer, server.contrast]).flatten().collect::<Vec<_>>()
    };
    let is_silent = |seen: &&Observation| answers(seen).iter().any(|answer| !answer.is_reply());
    let is_answered = |seen: &&Observation| answers(seen).first().is_some_and(|answer| answer.is_reply());
    (seen.iter().filter(is_silent).count(), seen.iter().filter(is_answered).count())
}

/// Held by tests that open many sockets, since one of them counts those of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// What a server that has too much to do saw.
#[derive(Default)]
struct Load {
    at_work: AtomicUsize,
    highest: AtomicUsize,
    dropped: AtomicUsize,
}

/// A name server that answers after 50 ms and drops what exceeds 25 questions at once.
fn busy_server(last: u8) -> (IpAddr, Arc<Load>) {
    const AT_ONCE: usize = 25;
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 60, last));
    let load = Arc::<Load>::default();
    let udp = UdpSocket::bind((address, 53)).expect("port 53 of an address of its own");
    let (answering, for_threads) = (udp.try_clone().expect("a descriptor"), Arc::clone(&load));
    let (sender, due) = crossbeam::channel::unbounded::<(Instant, Vec<u8>, SocketAddr)>();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            if for_threads.at_work.load(Ordering::Relaxed) >= AT_ONCE {
                for_threads.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let at_work = for_threads.at_work.fetch_add(1, Ordering::Relaxed) + 1;
            for_threads.highest.fetch_max(at_work, Ordering::Relaxed);
            let query = &buffer[..length];
            let packet = sound(rtype_of(query), query).expect("it answers everything");
            sender.send((Instant::now() + Duration::from_millis(50), packet, from)).expect("somebody answers");
        }
    });
    let for_threads = Arc::clone(&load);
    thread::spawn(move || {
        for (at, packet, from) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            for_threads.at_work.fetch_sub(1, Ordering::Relaxed);
            let _ = answering.send_to(&packet, from);
        }
    });
    (address, load)
}

#[test]
fn many_diagnoses_at_a_time_do_not_make_a_busy_server_look_silent() {
    if dnssec_lab::inside("many_diagnoses_at_a_time_do_not_make_a_busy_server_look_silent").is_none() {
        return;
    }
    let _alone = ALONE.lock();
    let (address, load) = busy_server(71);
    let (resolver, _) = resolver_of(&[address], false);
    let mut bench = Bench::start(&config(resolver));
    let seen = bench.run_all((0..200).map(|_| caa("victim.example")).collect());
    let (silent, answered) = silent_and_answered(&seen);
    let (highest, dropped) = (load.highest.load(Ordering::Relaxed), load.dropped.load(Ordering::Relaxed));
    println!("{silent} silent, {answered} answered, {highest} at once, {dropped} dropped");
    assert_eq!(dropped, 0, "{highest} at once");
    assert!(silent <= 10 && answered >= 50, "{silent} silent, {answered} answered");
    assert!(bench.node.stats().paced_queries.load(Ordering::Relaxed) > 0);
    // In peace it is asked at once.
    let before = bench.node.stats().paced_queries.load(Ordering::Relaxed);
    assert_eq!(silent_and_answered(&[bench.run(caa("victim.example"))]).1, 1);
    assert_eq!(bench.node.stats().paced_queries.load(Ordering::Relaxed), before);
}

#[test]
fn many_diagnoses_at_a_time_stay_within_the_sockets() {
    if dnssec_lab::inside("many_diagnoses_at_a_time_stay_within_the_sockets").is_none() {
        return;
    }
    let _alone = ALONE.lock();
    let (address, _) = name_server(61, |_, _| None, None);
    let (resolver, _) = resolver_of(&[address], false);
    let before = common::open_descriptors();
    let mut bench = Bench::start(&config(resolver));
    let plans = (0..400).map(|_| caa("victim.example")).collect();
    let seen = bench.run_all(plans);
    let told = seen.iter().filter(|seen| {
        let servers = seen.diagnosis.iter().flat_map(|diagnosis| &diagnosis.servers);
        servers.filter_map(|server| server.answer.as_ref()).any(|answer| answer.outcome == ServerOutcome::Silent)
    });
    assert!(told.count() >= 100);
    // Those that waited ended by their own bound, long before the task's.
    assert!(seen.iter().all(|seen| seen.budget.is_none()));
    assert!(seen.iter().all(|seen| matches!(seen.caa[0].outcome, DnsOutcome::Failed(_))));
    thread::sleep(Duration::from_millis(200));
    let kept = common::open_descriptors().saturating_sub(before);
    assert!(kept < 40, "{kept} descriptors are still open");
}
