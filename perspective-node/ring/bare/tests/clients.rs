//! Every client against its responder, and against one that lies or says nothing; the programs as they are run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_parallax-bare");

/// Ends when it is dropped, because its standard input closes.
struct Responder {
    child: Child,
    address: String,
}

impl Responder {
    fn start(arguments: &[&str]) -> Responder {
        Responder::start_at("127.0.0.1:0", arguments)
    }

    fn start_at(address: &str, arguments: &[&str]) -> Responder {
        let mut child = Command::new(PROGRAM)
            .arg("respond")
            .args(arguments)
            .args(["--listen", address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the responder starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("ready ").expect("ready").to_owned();
        Responder { child, address }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = self.child.wait().expect("the responder ends");
        assert!(ended.success());
    }
}

fn client(peer: &str, arguments: &str) -> Output {
    Command::new(PROGRAM).args(arguments.split_whitespace()).args(["--peer", peer]).output().expect("the client runs")
}

fn report(peer: &str, arguments: &str) -> Value {
    let output = client(peer, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

const CLIENTS: [(&str, &str); 9] = [
    ("dns", "udp uring --in-flight 300"),
    ("dns", "udp mmsg --in-flight 300"),
    ("dns", "udp epoll --in-flight 300 --sockets 7"),
    ("dns", "udp uring --in-flight 5000 --sockets 3"),
    ("http", "http uring --in-flight 64"),
    ("http", "http uring --in-flight 64 --close rst"),
    ("http", "http epoll --in-flight 64"),
    ("http", "http epoll --in-flight 64 --close rst"),
    ("tls", "tls --in-flight 16"),
];

fn items_of(kind: &str) -> u64 {
    if kind == "tls" { 300 } else { 3_000 }
}

#[test]
fn every_client_gets_what_it_asks_for() {
    for (kind, arguments) in CLIENTS {
        let responder = Responder::start(&[kind]);
        let items = items_of(kind);
        let report = report(&responder.address, &format!("{arguments} --items {items} --warm-up 100 --limit 20"));
        assert_eq!((&report["items"], &report["failed"]), (&items.into(), &0.into()), "{arguments}: {report}");
        for figure in ["seconds", "cpu_us", "cpu_us_per_item", "per_second", "peak_rss_kib", "in_flight"] {
            assert!(report[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure}: {report}");
        }
        let name = report["client"].as_str().expect("a name");
        assert!(arguments.starts_with(name.trim_end_matches(" fin").trim_end_matches(" rst")), "{name}");
    }
}

#[test]
fn a_lie_fails_every_item() {
    for (kind, arguments) in CLIENTS.into_iter().filter(|&(kind, _)| kind != "tls") {
        let lie = match kind {
            "dns" => ["dns", "--text", "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX1"],
            _ => ["http", "--body", "another key authorization"],
        };
        let responder = Responder::start(&lie);
        let report = report(&responder.address, &format!("{arguments} --items 200 --limit 20"));
        assert_eq!(report["failed"], 200, "{arguments}: {report}");
    }
}

#[test]
fn what_is_no_tls_fails_every_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    // More than are asked for, because some are still in flight at the end; the process ends the rest.
    thread::spawn(move || {
        listener.incoming().flatten().take(1_000).for_each(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        })
    });
    let report = report(&address, "tls --in-flight 4 --items 50 --limit 20");
    assert_eq!(report["failed"], 50, "{report}");
}

#[test]
fn silence_ends_at_the_limit_with_an_error() {
    for (kind, arguments) in CLIENTS {
        // The HTTP responder never says anything to a ClientHello either.
        let kind = if kind == "tls" { "http" } else { kind };
        let responder = Responder::start(&[kind, "--silent"]);
        let output = client(&responder.address, &format!("{arguments} --limit 1"));
        assert!(!output.status.success(), "{arguments}");
        assert!(output.stdout.is_empty());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("the limit of 1 s passed after 0 of 100000 items"), "{errors}");
    }
}

/// Port unreachable ends a multishot receive, and loses what was sent.
#[test]
fn queries_that_nobody_received_are_sent_once_more() {
    for way in ["uring", "mmsg", "epoll"] {
        let address = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").to_string();
        let peer = address.clone();
        // One query per socket, so that no later send takes the error away from the receive.
        let arguments = format!("udp {way} --in-flight 64 --sockets 64 --items 1000 --limit 5");
        let client = thread::spawn(move || report(&peer, &arguments));
        thread::sleep(Duration::from_millis(300));
        let _responder = Responder::start_at(&address, &["dns"]);
        let report = client.join().expect("the client ends");
        assert_eq!(report["failed"], 0, "{report}");
        assert!(report["retransmitted"].as_u64().is_some_and(|count| count > 0), "{report}");
    }
}

#[test]
fn a_responder_ends_at_its_limit() {
    let mut child = Command::new(PROGRAM)
        .args(["respond", "http", "--listen", "127.0.0.1:0", "--limit", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the responder starts");
    let input = child.stdin.take();
    assert!(child.wait().expect("it ends").success());
    drop(input);
}
