//! A node against Unbound, NSD and nginx, each started here on loopback addresses and free ports.
//!
//! Needs the Debian packages `unbound`, `nsd` and `nginx-light`.

mod common;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::*;
use parallax_node::NodeConfig;
use parallax_validation::{
    observation::{
        Alias, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, HttpObservation, HttpOutcome, RecordType, Soa,
        TcpReason, TryEnd, UnusedReason,
    },
    plan::PlanLimits,
};
use tempfile::TempDir;

const EXAMPLE_ZONE: &str = "\
$ORIGIN example.
$TTL 300
@ SOA ns.example. hostmaster.example. 2026010101 3600 600 86400 60
@ NS ns.example.
ns A 127.0.0.1
customer NS ns.example.
";

const CUSTOMER_ZONE: &str = r#"
$ORIGIN customer.example.
$TTL 300
@ SOA ns.example. hostmaster.example. 2026112501 3600 600 86400 60
@ NS ns.example.
@ CAA 0 issue "ca.example"
@ CAA 0 iodef "mailto:security@customer.example"
deep CAA 128 issue ";"
host.deep A 127.0.0.1
leaf.deep CAA 0 issue "other.example"
aliased CNAME leaf.deep
www A 127.0.0.1
www AAAA ::1
four A 127.0.0.1
moved A 127.0.0.1
chain A 127.0.0.1
empty A 127.0.0.1
_acme-challenge.empty A 127.0.0.1
_acme-challenge TXT "one" "and more"
_acme-challenge TXT "two"
_acme-challenge.pointed CNAME target
target TXT "at the target"
_acme-challenge.nowhere CNAME gone.elsewhere
_acme-challenge.bogus TXT "never signed"
old DNAME new
_acme-challenge.host.new TXT "behind the DNAME"
*.wild CNAME target
*.starred TXT "from the wildcard"
"#;

/// The full path of a program; the message names its package if there is none.
fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("the program {name} is missing; install the Debian package {package}"))
}

/// A server that ends with its owner.
struct Server(Child);

impl Server {
    fn start(name: &str, package: &str, arguments: &[&str], directory: &Path, port: u16) -> Self {
        let log = fs::File::create(directory.join(format!("{name}.log"))).expect("a log file");
        let child = Command::new(program(name, package))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let mut server = Self(child);
        let until = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.0.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > until {
                let said = fs::read_to_string(directory.join(format!("{name}.log"))).unwrap_or_default();
                panic!("{name} does not listen on port {port} ({ended:?}); it said:\n{said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD's parent passes the signal on to its children, which SIGKILL would leave behind.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free for UDP and TCP.
fn free_port() -> u16 {
    (0..50)
        .find_map(|_| {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let port = udp.local_addr().ok()?.port();
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
        })
        .expect("a free port")
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("a temporary directory");
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// NSD with the zones, and Unbound in front of it.
struct Dns {
    resolver: SocketAddr,
    _servers: [Server; 2],
    _directory: TempDir,
}

fn start_dns() -> Dns {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let shown = at.display();
    let many: String = (0..61).map(|n| format!("_acme-challenge.big TXT \"{n:02} {}\"\n", "x".repeat(43))).collect();
    write(at, "example.zone", EXAMPLE_ZONE);
    write(at, "customer.zone", &format!("{CUSTOMER_ZONE}{many}"));
    let (nsd_port, unbound_port, dead_port) = (free_port(), free_port(), free_port());
    let nsd = write(
        at,
        "nsd.conf",
        &format!(
            "server:\n ip-address: 127.0.0.1@{nsd_port}\n username: \"\"\n zonesdir: \"{shown}\"\n database: \"\"\n \
             pidfile: \"{shown}/nsd.pid\"\n xfrdfile: \"{shown}/xfrd.state\"\n zonelistfile: \"{shown}/zone.list\"\n \
             xfrdir: \"{shown}\"\n rrl-ratelimit: 0\n\
             remote-control:\n control-enable: no\n\
             zone:\n name: example\n zonefile: example.zone\n\
             zone:\n name: customer.example\n zonefile: customer.zone\n"
        ),
    );
    let unbound = write(
        at,
        "unbound.conf",
        &format!(
            "server:\n interface: 127.0.0.1@{unbound_port}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n \
             directory: \"{shown}\"\n pidfile: \"{shown}/unbound.pid\"\n use-syslog: no\n logfile: \"\"\n \
             do-not-query-localhost: no\n module-config: \"validator iterator\"\n domain-insecure: \"example\"\n \
             use-caps-for-id: no\n ede: yes\n access-control: 127.0.0.0/8 allow\n num-threads: 1\n \
             qname-minimisation: no\n do-ip6: no\n \
             outbound-msg-retry: 2\n trust-anchor: \"bogus.customer.example. DS 4711 8 2 {digest}\"\n local-zone: \"barred.example.\" always_refuse\n\
             remote-control:\n control-enable: no\n\
             stub-zone:\n name: \"example\"\n stub-addr: 127.0.0.1@{nsd_port}\n\
             stub-zone:\n name: \"customer.example\"\n stub-addr: 127.0.0.1@{nsd_port}\n\
             stub-zone:\n name: \"dead.example\"\n stub-addr: 127.0.0.1@{dead_port}\n",
            digest = "ab".repeat(32),
        ),
    );
    let servers = [
        Server::start("nsd", "nsd", &["-d", "-c", &nsd], at, nsd_port),
        Server::start("unbound", "unbound", &["-d", "-c", &unbound], at, unbound_port),
    ];
    let resolver = SocketAddr::from((Ipv4Addr::LOCALHOST, unbound_port));
    Dns { resolver, _servers: servers, _directory: directory }
}

fn limits() -> PlanLimits {
    PlanLimits::default()
}

fn lookup_txt(bench: &mut Bench, identifier: &str) -> DnsLookup {
    let lookup = txt(bench.run(plan(identifier, "dns-01", false, limits())));
    assert_eq!(lookup.rtype, RecordType::Txt);
    assert_eq!(lookup.ignored_replies, 0, "{lookup:?}");
    lookup
}

fn alias(owner: &str, target: &str, dname: bool) -> Alias {
    Alias { owner: owner.to_owned(), target: target.to_owned(), dname }
}

#[track_caller]
fn assert_answer(lookup: &DnsLookup, owner: &str, aliases: &[Alias], rdata: &[&[u8]]) {
    let DnsOutcome::Answer(set) = &lookup.outcome else { panic!("no answer: {lookup:?}") };
    assert_eq!((set.owner.as_str(), set.aliases.as_slice()), (owner, aliases));
    assert!((1..=300).contains(&set.ttl), "{}", set.ttl);
    let mut seen: Vec<&[u8]> = set.rdata.iter().map(|octets| octets.as_slice()).collect();
    seen.sort_unstable();
    assert_eq!(seen, rdata);
}

#[test]
fn records_aliases_and_denials() {
    let dns = start_dns();
    let mut bench = Bench::start(&config(dns.resolver));

    let plain = lookup_txt(&mut bench, "customer.example");
    let rdata: [&[u8]; 2] = [b"\x03one\x08and more", b"\x03two"];
    assert_answer(&plain, "_acme-challenge.customer.example", &[], &rdata);
    assert_eq!((plain.transport, plain.tcp_because), (DnsTransport::Udp, None));

    let pointed = lookup_txt(&mut bench, "pointed.customer.example");
    let (from, to) = ("_acme-challenge.pointed.customer.example", "target.customer.example");
    assert_answer(&pointed, to, &[alias(from, to, false)], &[b"\x0dat the target"]);

    let redirected = lookup_txt(&mut bench, "host.old.customer.example");
    let (from, to) = ("_acme-challenge.host.old.customer.example", "_acme-challenge.host.new.customer.example");
    assert_answer(&redirected, to, &[alias(from, to, true)], &[b"\x10behind the DNAME"]);

    let wild = lookup_txt(&mut bench, "any.wild.customer.example");
    let (from, to) = ("_acme-challenge.any.wild.customer.example", "target.customer.example");
    assert_answer(&wild, to, &[alias(from, to, false)], &[b"\x0dat the target"]);
    let starred = lookup_txt(&mut bench, "any.starred.customer.example");
    assert_answer(&starred, "_acme-challenge.any.starred.customer.example", &[], &[b"\x11from the wildcard"]);

    let soa = Some(Soa { zone: "customer.example".to_owned(), serial: 2_026_112_501 });
    match lookup_txt(&mut bench, "empty.customer.example").outcome {
        DnsOutcome::Nodata(denial) => assert_eq!((denial.aliases.len(), denial.soa), (0, soa.clone())),
        other => panic!("{other:?}"),
    }
    match lookup_txt(&mut bench, "gone.customer.example").outcome {
        DnsOutcome::Nxdomain(denial) => assert_eq!((denial.aliases.len(), denial.soa), (0, soa.clone())),
        other => panic!("{other:?}"),
    }
    match lookup_txt(&mut bench, "nowhere.customer.example").outcome {
        DnsOutcome::Nxdomain(denial) => assert_eq!((denial.aliases.len(), denial.soa), (1, soa)),
        other => panic!("{other:?}"),
    }
    match lookup_txt(&mut bench, "gone.example").outcome {
        DnsOutcome::Nxdomain(denial) => assert_eq!(denial.soa.map(|soa| soa.serial), Some(2_026_010_101)),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.node.stats().stray_datagrams.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn the_climb_stops_at_the_first_set_with_only_denials_below() {
    let dns = start_dns();
    let mut bench = Bench::start(&config(dns.resolver));
    let mut climb = |identifier: &str| bench.run(plan(identifier, "caa", true, limits())).caa;

    let levels = climb("www.customer.example");
    assert_eq!(levels.len(), 2, "{levels:?}");
    assert!(matches!(&levels[0].outcome, DnsOutcome::Nodata(denial) if denial.soa.is_some()), "{:?}", levels[0]);
    let rdata: [&[u8]; 2] = [b"\x00\x05iodefmailto:security@customer.example", b"\x00\x05issueca.example"];
    assert_answer(&levels[1], "customer.example", &[], &rdata);

    let levels = climb("host.deep.customer.example");
    assert_eq!(levels.len(), 2, "{levels:?}");
    assert_answer(&levels[1], "deep.customer.example", &[], &[b"\x80\x05issue;"]);

    let levels = climb("aliased.customer.example");
    let (from, to) = ("aliased.customer.example", "leaf.deep.customer.example");
    assert_answer(&levels[0], to, &[alias(from, to, false)], &[b"\x00\x05issueother.example"]);

    let levels = climb("gone.else.example");
    let names: Vec<_> = levels.iter().map(|level| level.name.as_str()).collect();
    assert_eq!(names, ["gone.else.example", "else.example", "example"]);
    assert!(levels[..2].iter().all(|level| matches!(level.outcome, DnsOutcome::Nxdomain(_))), "{levels:?}");
    assert!(matches!(levels[2].outcome, DnsOutcome::Nodata(_)), "{levels:?}");

    let levels = climb("www.dead.example");
    assert_eq!(levels.len(), 1, "a failure ends the climb like a set: {levels:?}");
    assert_eq!(levels[0].outcome, DnsOutcome::Failed(DnsFailure::Rcode(2)));
}

#[test]
fn a_large_set_comes_over_tcp_and_failures_keep_their_reason() {
    let dns = start_dns();
    let mut bench = Bench::start(&config(dns.resolver));

    let big = lookup_txt(&mut bench, "big.customer.example");
    assert_eq!((big.transport, big.tcp_because), (DnsTransport::Tcp, Some(TcpReason::Truncated)));
    let DnsOutcome::Answer(set) = &big.outcome else { panic!("{big:?}") };
    assert_eq!(set.rdata.len(), 61);
    assert!(set.rdata.iter().all(|rdata| rdata.0.len() == 47));

    let dead = lookup_txt(&mut bench, "dead.example");
    assert_eq!(dead.outcome, DnsOutcome::Failed(DnsFailure::Rcode(2)));

    // Nothing below the trust anchor is signed, and Unbound says so (RFC 8914 §4).
    let bogus = lookup_txt(&mut bench, "bogus.customer.example");
    assert_eq!(bogus.outcome, DnsOutcome::Failed(DnsFailure::Rcode(2)));
    println!("extended errors of the bogus answer: {:?}", bogus.extended_errors);
    assert!(bogus.extended_errors.iter().any(|ede| (6..=12).contains(&ede.code)), "{bogus:?}");

    let barred = lookup_txt(&mut bench, "barred.example");
    assert_eq!(barred.outcome, DnsOutcome::Failed(DnsFailure::Rcode(5)));
}

/// nginx with challenge files, a redirect and a chain of redirects.
struct Web {
    port: u16,
    _server: Server,
    _directory: TempDir,
}

fn start_web() -> Web {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let shown = at.display();
    let challenges = at.join("web/.well-known/acme-challenge");
    fs::create_dir_all(&challenges).expect("a directory");
    fs::write(challenges.join(TOKEN), format!("{TOKEN}.{THUMBPRINT}\n")).expect("a file");
    let port = free_port();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"))
        .collect();
    let text = format!(
        "daemon off; master_process off; pid {shown}/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 128; }}\n\
         http {{\n{temporary} access_log off; server_tokens off; default_type text/plain;\n\
         server {{ listen 127.0.0.1:{port} default_server; listen [::1]:{port} default_server; root {shown}/web; }}\n\
         server {{ listen 127.0.0.1:{port}; server_name four.customer.example; root {shown}/none; }}\n\
         server {{ listen 127.0.0.1:{port}; server_name moved.customer.example;\n\
           return 302 http://www.customer.example$request_uri; }}\n\
         server {{ listen 127.0.0.1:{port}; server_name chain.customer.example;\n\
           location /.well-known/ {{ return 301 http://chain.customer.example/2; }}\n\
           location = /2 {{ return 301 http://chain.customer.example/3; }}\n\
           location = /3 {{ return 307 http://www.customer.example/.well-known/acme-challenge/{TOKEN}; }} }}\n\
         }}\n"
    );
    let file = write(at, "nginx.conf", &text);
    let error_log = format!("{shown}/error.log");
    let prefix = shown.to_string();
    let server = Server::start("nginx", "nginx-light", &["-e", &error_log, "-p", &prefix, "-c", &file], at, port);
    Web { port, _server: server, _directory: directory }
}

fn web_config(dns: &Dns, web: &Web) -> NodeConfig {
    let mut settings = config(dns.resolver);
    settings.laboratory.http_port = Some(web.port);
    settings.laboratory.allow_addresses.push("::1/128".parse().expect("a prefix"));
    settings
}

fn urls(seen: &HttpObservation) -> Vec<&str> {
    seen.hops.iter().map(|hop| hop.url.as_str()).collect()
}

#[track_caller]
fn assert_right_file(seen: &HttpObservation) {
    let HttpOutcome::Response { status: 200, body, truncated: false } = &seen.outcome else { panic!("{seen:?}") };
    assert_eq!(body.as_slice(), format!("{TOKEN}.{THUMBPRINT}\n").as_bytes());
}

#[test]
fn challenge_files_and_redirects() {
    let (dns, web) = (start_dns(), start_web());
    let mut bench = Bench::start(&web_config(&dns, &web));
    let mut fetch = |identifier: &str| http(bench.run(plan(identifier, "http-01", false, limits())));

    let seen = fetch("www.customer.example");
    assert_right_file(&seen);
    assert_eq!(urls(&seen), [format!("http://www.customer.example{PATH}")]);
    let hop = &seen.hops[0];
    let types: Vec<_> = hop.resolution.iter().map(|lookup| lookup.rtype).collect();
    assert_eq!(types, [RecordType::A, RecordType::Aaaa]);
    assert_answer(&hop.resolution[0], "www.customer.example", &[], &[&[127, 0, 0, 1]]);
    assert_eq!(hop.tries.len(), 1);
    assert_eq!((hop.tries[0].address, hop.tries[0].end), ("[::1]:80".parse().expect("an address"), TryEnd::Answered));
    assert_eq!(hop.unused.len(), 1);
    assert_eq!(hop.unused[0].address, IpAddr::from(Ipv4Addr::LOCALHOST));
    assert_eq!(hop.unused[0].reason, UnusedReason::OtherAnswered);
    let head = hop.response.as_ref().expect("a head");
    assert_eq!(head.server.as_ref().map(|server| server.as_slice()), Some(b"nginx".as_slice()));
    assert_eq!(head.content_type.as_ref().map(|text| text.as_slice()), Some(b"text/plain".as_slice()));

    let seen = fetch("four.customer.example");
    assert!(matches!(seen.outcome, HttpOutcome::Response { status: 404, .. }), "{seen:?}");
    assert!(matches!(seen.hops[0].resolution[1].outcome, DnsOutcome::Nodata(_)));

    let seen = fetch("moved.customer.example");
    assert_right_file(&seen);
    let first = format!("http://moved.customer.example{PATH}");
    assert_eq!(urls(&seen), [first, format!("http://www.customer.example{PATH}")]);
    let head = seen.hops[0].response.as_ref().expect("a head");
    let location = format!("http://www.customer.example{PATH}");
    assert_eq!((head.status, head.location.as_ref().map(|l| l.as_slice())), (302, Some(location.as_bytes())));

    let seen = fetch("chain.customer.example");
    assert_right_file(&seen);
    let statuses: Vec<_> = seen.hops.iter().map(|hop| hop.response.as_ref().map_or(0, |head| head.status)).collect();
    assert_eq!(statuses, [301, 301, 307, 200]);
    assert_eq!(urls(&seen)[1..3], ["http://chain.customer.example/2", "http://chain.customer.example/3"]);

    let seen = fetch("127.0.0.1");
    assert_right_file(&seen);
    assert!(seen.hops[0].resolution.is_empty());
}

#[test]
fn control_and_caa_of_many_names_side_by_side() {
    let (dns, web) = (start_dns(), start_web());
    let mut bench = Bench::start(&web_config(&dns, &web));
    let plans = (0..60)
        .map(|n| match n % 2 {
            0 => plan("www.customer.example", "http-01", true, limits()),
            _ => plan("pointed.customer.example", "dns-01", true, limits()),
        })
        .collect();
    for (n, observation) in bench.run_all(plans).into_iter().enumerate() {
        assert_eq!(observation.caa.len(), 2, "{observation:?}");
        assert!(matches!(observation.caa[1].outcome, DnsOutcome::Answer(_)), "{observation:?}");
        assert_eq!(observation.budget, None);
        if n % 2 == 0 {
            assert_right_file(&http(observation));
        } else {
            assert!(matches!(txt(observation).outcome, DnsOutcome::Answer(_)));
        }
    }
}
