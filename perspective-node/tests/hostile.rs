//! Servers that misbehave: a node reports what it saw, in time, once, and goes nowhere it must not go.

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use common::*;
use parallax_node::Driver;
use parallax_validation::observation::{
    DnsFailure, DnsLookup, DnsOutcome, DnsTransport, HttpFailure, HttpObservation, HttpOutcome, NetworkError,
    TcpReason, TryEnd, UnusedReason,
};
use socket2::{Domain, SockAddr, Socket, Type};

with_both_drivers! {
    a_reply_with_another_id_is_ignored,
    a_reply_to_another_question_is_ignored_without_ending_the_wait,
    a_reply_that_does_not_copy_the_case_is_asked_for_again_over_tcp,
    garbage_is_ignored_and_too_much_of_it_leads_to_tcp,
    a_reply_cut_within_a_record_is_asked_for_again_over_tcp,
    tcp_that_is_closed_or_refused_is_a_failure_never_an_empty_set,
    tcp_lengths_that_lie,
    tcp_in_single_octets_and_with_more_than_one_message,
    aliases_that_loop_or_never_end,
    a_reply_from_another_address_is_never_seen,
    nobody_at_the_resolvers_port,
    an_extended_error_is_kept_within_bounds,
    single_octets_are_read_and_an_endless_drip_is_cut_off,
    heads_that_never_end_or_are_too_large,
    bodies_that_lie,
    connections_that_are_closed_reset_or_silent,
    a_syn_that_is_never_answered,
    the_eleventh_redirect_is_not_followed,
    a_redirect_to_a_forbidden_address_is_never_connected_to,
    a_redirect_is_followed_whatever_comes_after_its_head,
}

/// Asks a server for one TXT set. Gives the lookup and the strays the node counted.
fn ask(driver: Driver, resolver: SocketAddr) -> (DnsLookup, u64) {
    let mut bench = Bench::start(&config_over(driver, resolver));
    let lookup = txt(bench.run(plan("customer.example", "dns-01", false, QUICK)));
    assert_eq!((lookup.name.as_str(), lookup.resolver), ("_acme-challenge.customer.example", resolver));
    let stray = bench.node.stats().stray_datagrams.load(std::sync::atomic::Ordering::Relaxed);
    let mismatched = bench.node.stats().mismatched_replies.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(mismatched, u64::from(lookup.ignored_replies), "counted in the evidence and by the node");
    (lookup, stray)
}

fn send(socket: &UdpSocket, to: SocketAddr, packet: &[u8]) {
    // The node may have closed the port.
    let _ = socket.send_to(packet, to);
}

fn good(query: &[u8]) -> Vec<u8> {
    reply(query, 0, &[txt_record("right")])
}

fn is_right(lookup: &DnsLookup) -> bool {
    matches!(&lookup.outcome, DnsOutcome::Answer(set) if set.rdata.len() == 1 && set.rdata[0].as_slice() == b"\x05right")
}

fn answer_over_tcp(mut stream: TcpStream) {
    let query = read_framed(&mut stream);
    let _ = stream.write_all(&framed(&good(&query)));
}

fn failure(lookup: DnsLookup) -> DnsFailure {
    match lookup.outcome {
        DnsOutcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

fn a_reply_with_another_id_is_ignored(driver: Driver) {
    let wrong = |query: &[u8]| {
        let mut packet = good(query);
        packet[1] ^= 1;
        packet
    };
    let only_wrong = dns_server(move |socket, from, query| send(socket, from, &wrong(query)), None);
    let (lookup, stray) = ask(driver, only_wrong);
    assert_eq!((lookup.transmissions, stray), (2, 2));
    assert_eq!(failure(lookup), DnsFailure::Timeout);

    let then_right = dns_server(
        move |socket, from, query| {
            send(socket, from, &wrong(query));
            send(socket, from, &good(query));
        },
        None,
    );
    let (lookup, stray) = ask(driver, then_right);
    assert!(is_right(&lookup), "{lookup:?}");
    assert_eq!((lookup.transmissions, stray), (1, 1));
}

fn a_reply_to_another_question_is_ignored_without_ending_the_wait(driver: Driver) {
    let wrong = |query: &[u8]| {
        let mut packet = good(query);
        packet[14] = b'x';
        packet
    };
    let only_wrong = dns_server(move |socket, from, query| send(socket, from, &wrong(query)), Some(answer_over_tcp));
    let (lookup, _) = ask(driver, only_wrong);
    assert_eq!((lookup.ignored_replies, lookup.tcp_because), (2, None));
    assert_eq!(failure(lookup), DnsFailure::Timeout);

    let then_right = dns_server(
        move |socket, from, query| {
            send(socket, from, &wrong(query));
            send(socket, from, &good(query));
        },
        None,
    );
    let (lookup, _) = ask(driver, then_right);
    assert!(is_right(&lookup) && lookup.ignored_replies == 1, "{lookup:?}");
}

fn a_reply_that_does_not_copy_the_case_is_asked_for_again_over_tcp(driver: Driver) {
    let resolver = dns_server(
        |socket, from, query| {
            let mut packet = good(query);
            // All letters flipped: never the case that was sent.
            packet[13..28].iter_mut().filter(|b| b.is_ascii_alphabetic()).for_each(|b| *b ^= 0x20);
            send(socket, from, &packet);
        },
        Some(answer_over_tcp),
    );
    let (lookup, _) = ask(driver, resolver);
    assert!(is_right(&lookup), "{lookup:?}");
    assert_eq!((lookup.transport, lookup.tcp_because), (DnsTransport::Tcp, Some(TcpReason::CaseNotCopied)));
}

fn garbage_is_ignored_and_too_much_of_it_leads_to_tcp(driver: Driver) {
    let garbage = |query: &[u8], length: usize| {
        let mut packet = vec![0xff; length];
        packet[..2].copy_from_slice(&query[..2]);
        packet
    };
    let some = dns_server(
        move |socket, from, query| {
            send(socket, from, &[]);
            send(socket, from, &query[..1]);
            send(socket, from, &garbage(query, 2));
            send(socket, from, &garbage(query, 1400));
        },
        Some(answer_over_tcp),
    );
    let (lookup, stray) = ask(driver, some);
    assert_eq!((lookup.ignored_replies, lookup.tcp_because, stray), (4, None, 4));
    assert_eq!(failure(lookup), DnsFailure::Timeout);

    let flood = dns_server(
        move |socket, from, query| (0..200).for_each(|_| send(socket, from, &garbage(query, 60))),
        Some(answer_over_tcp),
    );
    let (lookup, _) = ask(driver, flood);
    assert!(is_right(&lookup), "{lookup:?}");
    assert_eq!((lookup.ignored_replies, lookup.tcp_because), (65, Some(TcpReason::TooManyStrayReplies)));
}

fn a_reply_cut_within_a_record_is_asked_for_again_over_tcp(driver: Driver) {
    let cut = |query: &[u8]| {
        let mut packet = good(query);
        packet.truncate(packet.len() - 3);
        packet
    };
    let resolver = dns_server(move |socket, from, query| send(socket, from, &cut(query)), Some(answer_over_tcp));
    let (lookup, _) = ask(driver, resolver);
    assert!(is_right(&lookup), "{lookup:?}");
    assert_eq!(lookup.tcp_because, Some(TcpReason::Malformed));

    let cut_again = |mut stream: TcpStream| {
        let mut packet = good(&read_framed(&mut stream));
        packet.truncate(packet.len() - 3);
        let _ = stream.write_all(&framed(&packet));
    };
    let resolver = dns_server(move |socket, from, query| send(socket, from, &cut(query)), Some(cut_again));
    let (lookup, _) = ask(driver, resolver);
    let failure = failure(lookup);
    assert!(matches!(&failure, DnsFailure::Malformed(problem) if problem.contains("answer section")), "{failure:?}");
}

/// Asks a server whose datagrams are all truncated.
fn ask_over_tcp(driver: Driver, on_stream: Option<fn(TcpStream)>) -> DnsLookup {
    let resolver = dns_server(|socket, from, query| send(socket, from, &truncated(query)), on_stream);
    let (lookup, _) = ask(driver, resolver);
    assert_eq!((lookup.transport, lookup.tcp_because), (DnsTransport::Tcp, Some(TcpReason::Truncated)));
    lookup
}

fn tcp_that_is_closed_or_refused_is_a_failure_never_an_empty_set(driver: Driver) {
    let closed: fn(TcpStream) = |mut stream| drop(read_framed(&mut stream));
    assert_eq!(failure(ask_over_tcp(driver, Some(closed))), DnsFailure::Tcp(NetworkError::ClosedEarly));
    assert_eq!(failure(ask_over_tcp(driver, None)), DnsFailure::Tcp(NetworkError::Refused));
    let silent: fn(TcpStream) = |mut stream| {
        read_framed(&mut stream);
        thread::sleep(Duration::from_secs(5));
    };
    assert_eq!(failure(ask_over_tcp(driver, Some(silent))), DnsFailure::Tcp(NetworkError::Timeout));
}

fn tcp_lengths_that_lie(driver: Driver) {
    let longer_then_closed: fn(TcpStream) = |mut stream| {
        let message = good(&read_framed(&mut stream));
        let _ = stream.write_all(&[&500u16.to_be_bytes(), message.as_slice()].concat());
    };
    assert_eq!(failure(ask_over_tcp(driver, Some(longer_then_closed))), DnsFailure::Tcp(NetworkError::Reset));
    let longer_then_silent: fn(TcpStream) = |mut stream| {
        let message = good(&read_framed(&mut stream));
        let _ = stream.write_all(&[&u16::MAX.to_be_bytes(), message.as_slice()].concat());
        thread::sleep(Duration::from_secs(5));
    };
    assert_eq!(failure(ask_over_tcp(driver, Some(longer_then_silent))), DnsFailure::Tcp(NetworkError::Timeout));
    let shorter: fn(TcpStream) = |mut stream| {
        let message = good(&read_framed(&mut stream));
        let _ = stream.write_all(&[&(message.len() as u16 - 3).to_be_bytes(), message.as_slice()].concat());
    };
    assert!(matches!(failure(ask_over_tcp(driver, Some(shorter))), DnsFailure::Malformed(_)));
    let empty: fn(TcpStream) = |mut stream| {
        read_framed(&mut stream);
        let _ = stream.write_all(&[0, 0]);
    };
    assert!(matches!(failure(ask_over_tcp(driver, Some(empty))), DnsFailure::Malformed(_)));
}

fn tcp_in_single_octets_and_with_more_than_one_message(driver: Driver) {
    let single: fn(TcpStream) = |mut stream| {
        stream.set_nodelay(true).expect("a socket option");
        let message = framed(&good(&read_framed(&mut stream)));
        for byte in message {
            let _ = stream.write_all(&[byte]);
            thread::sleep(Duration::from_millis(1));
        }
    };
    let lookup = ask_over_tcp(driver, Some(single));
    assert!(is_right(&lookup), "{lookup:?}");
    let right_first: fn(TcpStream) = |mut stream| {
        let message = framed(&good(&read_framed(&mut stream)));
        let _ = stream.write_all(&[message.as_slice(), b"\x00\x05junk!"].concat());
    };
    let lookup = ask_over_tcp(driver, Some(right_first));
    assert!(is_right(&lookup), "{lookup:?}");
    let other_first: fn(TcpStream) = |mut stream| {
        let message = good(&read_framed(&mut stream));
        let mut other = message.clone();
        other[0] ^= 0xff;
        let _ = stream.write_all(&[framed(&other), framed(&message)].concat());
    };
    let failure = failure(ask_over_tcp(driver, Some(other_first)));
    assert!(matches!(&failure, DnsFailure::Malformed(problem) if problem.contains("something else")), "{failure:?}");
}

fn aliases_that_loop_or_never_end(driver: Driver) {
    let looping = dns_server(
        |socket, from, query| {
            let aliases = [
                Record(asked(), 5, wire("b.example")),
                Record(wire("b.example"), 5, wire("c.example")),
                Record(wire("c.example"), 5, wire("b.example")),
            ];
            send(socket, from, &reply(query, 0, &aliases));
        },
        None,
    );
    match failure(ask(driver, looping).0) {
        DnsFailure::AliasLoop(chain) => assert_eq!(chain.len(), 3),
        other => panic!("no loop: {other:?}"),
    }
    let chain = dns_server(
        |socket, from, query| {
            let link = |n: usize| Record(wire(&format!("n{n}.example")), 5, wire(&format!("n{}.example", n + 1)));
            let mut aliases = vec![Record(asked(), 5, wire("n1.example"))];
            aliases.extend((1..20).map(link));
            aliases.push(Record(wire("n20.example"), 16, b"\x05right".to_vec()));
            send(socket, from, &reply(query, 0, &aliases));
        },
        None,
    );
    assert_eq!(failure(ask(driver, chain).0), DnsFailure::AliasChainTooLong);
    let broken = dns_server(
        |socket, from, query| send(socket, from, &reply(query, 0, &[Record(asked(), 5, wire("b.example"))])),
        None,
    );
    assert_eq!(failure(ask(driver, broken).0), DnsFailure::IncompleteChain("b.example".to_owned()));
}

fn a_reply_from_another_address_is_never_seen(driver: Driver) {
    let resolver = dns_server(
        |_, from, query| {
            for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 9)] {
                let other = UdpSocket::bind((address, 0)).expect("a free port");
                send(&other, from, &good(query));
            }
        },
        None,
    );
    let (lookup, stray) = ask(driver, resolver);
    assert_eq!((lookup.ignored_replies, lookup.transmissions, stray), (0, 2, 0));
    assert_eq!(failure(lookup), DnsFailure::Timeout);
}

fn nobody_at_the_resolvers_port(driver: Driver) {
    let port = silent_resolver().1;
    let (lookup, _) = ask(driver, port);
    assert_eq!(failure(lookup), DnsFailure::ResolverUnreachable(NetworkError::Refused));
}

fn an_extended_error_is_kept_within_bounds(driver: Driver) {
    let resolver = dns_server(
        |socket, from, query| {
            let mut packet = reply(query, 2, &[]);
            packet[11] = 1;
            let option = [&[0, 15, 2, 90, 0, 22], [b'x'; 600].as_slice()].concat();
            packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0]);
            packet.extend_from_slice(&(option.len() as u16).to_be_bytes());
            packet.extend_from_slice(&option);
            send(socket, from, &packet);
        },
        None,
    );
    let (lookup, _) = ask(driver, resolver);
    assert_eq!(lookup.extended_errors.len(), 1);
    assert_eq!((lookup.extended_errors[0].code, lookup.extended_errors[0].text.0.len()), (22, 200));
    assert_eq!(failure(lookup), DnsFailure::Rcode(2));
}

/// Fetches from a server on another port than 80. Gives the evidence, the time it took, and the
/// connections the node made.
fn fetch(driver: Driver, server: SocketAddr) -> (HttpObservation, Duration, u64) {
    let (_keep, resolver) = silent_resolver();
    let mut settings = config_over(driver, resolver);
    settings.laboratory.http_port = Some(server.port());
    let mut bench = Bench::start(&settings);
    let began = Instant::now();
    let seen = http(bench.run(plan("127.0.0.1", "http-01", false, QUICK)));
    let connections = bench.node.stats().connections.load(std::sync::atomic::Ordering::Relaxed);
    (seen, began.elapsed(), connections)
}

/// Fetches from a server that reads the request, says `words` and then does `after`.
fn fetch_words(driver: Driver, words: &'static [u8], after: fn(TcpStream)) -> HttpObservation {
    let server = tcp_server(move |mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(words);
        after(stream);
    });
    fetch(driver, server).0
}

fn hold(stream: TcpStream) {
    thread::sleep(Duration::from_secs(5));
    drop(stream);
}

fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
}

fn http_failure(seen: HttpObservation) -> HttpFailure {
    match seen.outcome {
        HttpOutcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

#[track_caller]
fn assert_bad(seen: HttpObservation, wants: &str) {
    let failure = http_failure(seen);
    assert!(matches!(&failure, HttpFailure::BadResponse { problem, .. } if problem.contains(wants)), "{failure:?}");
}

fn drip(stream: &mut TcpStream, words: impl Iterator<Item = u8>, pause: Duration) {
    stream.set_nodelay(true).expect("a socket option");
    for byte in words {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

fn single_octets_are_read_and_an_endless_drip_is_cut_off(driver: Driver) {
    let finite = tcp_server(|mut stream, _| {
        read_request(&mut stream);
        let words = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright";
        drip(&mut stream, words.iter().copied(), Duration::from_millis(2));
    });
    match fetch(driver, finite).0.outcome {
        HttpOutcome::Response { status: 200, body, truncated: false } => assert_eq!(body.as_slice(), b"right"),
        other => panic!("{other:?}"),
    }
    for start in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
        let endless = tcp_server(move |mut stream, _| {
            read_request(&mut stream);
            let _ = stream.write_all(start.as_bytes());
            drip(&mut stream, std::iter::repeat(b'0'), Duration::from_millis(20));
        });
        let (seen, took, _) = fetch(driver, endless);
        assert_eq!(http_failure(seen), HttpFailure::BrokenOff(NetworkError::Timeout));
        assert!(took < Duration::from_millis(u64::from(QUICK.http_response_ms)) + SLACK, "{took:?}");
    }
}

fn heads_that_never_end_or_are_too_large(driver: Driver) {
    let seen = fetch_words(driver, b"HTTP/1.1 200 OK\r\nServer: x\r\n", hold);
    assert_eq!(http_failure(seen), HttpFailure::BrokenOff(NetworkError::Timeout));
    assert_bad(fetch_words(driver, b"HTTP/1.1 200 OK\r\nServer: x\r\n", drop), "ended within the response head");
    assert_bad(fetch_words(driver, b"SSH-2.0-OpenSSH_9.2\r\n", hold), "status line");
    let huge = tcp_server(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nA: ");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let (seen, ..) = fetch(driver, huge);
    let received = seen.hops[0].tries[0].received_bytes;
    assert!(received <= 64 * 1024 + 2 * 4096, "{received} octets were read");
    assert_bad(seen, "64 KiB");
}

fn bodies_that_lie(driver: Driver) {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n";
    assert_bad(fetch_words(driver, CHUNKED, hold), "longer than it says");
    const SIZE: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello";
    assert_bad(fetch_words(driver, SIZE, hold), "hexadecimal");
    const SHORT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort";
    assert_bad(fetch_words(driver, SHORT, drop), "before the body was complete");
    assert_eq!(http_failure(fetch_words(driver, SHORT, hold)), HttpFailure::BrokenOff(NetworkError::Timeout));
    assert_eq!(http_failure(fetch_words(driver, SHORT, reset)), HttpFailure::BrokenOff(NetworkError::Reset));
    let endless = tcp_server(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    match fetch(driver, endless).0.outcome {
        HttpOutcome::Response { status: 200, body, truncated: true } => assert_eq!(body.0.len(), 512),
        other => panic!("{other:?}"),
    }
}

fn connections_that_are_closed_reset_or_silent(driver: Driver) {
    for (after, error) in [
        (drop as fn(TcpStream), NetworkError::ClosedEarly),
        (reset, NetworkError::Reset),
        (hold, NetworkError::Timeout),
    ] {
        let seen = fetch_words(driver, b"", after);
        assert_eq!(seen.hops[0].tries.len(), 1);
        assert_eq!(seen.hops[0].tries[0].end, TryEnd::NoResponse(error));
        assert!(seen.hops[0].tries[0].connected_us.is_some());
        assert_eq!(http_failure(seen), HttpFailure::NotAnswered);
    }
    let at_once = tcp_server(|stream, _| drop(stream));
    let seen = fetch(driver, at_once).0;
    let end = seen.hops[0].tries[0].end;
    assert!(matches!(end, TryEnd::NoResponse(NetworkError::ClosedEarly | NetworkError::Reset)), "{end:?}");
    assert_eq!(http_failure(seen), HttpFailure::NotAnswered);
    let nobody = silent_resolver().1;
    let seen = fetch(driver, nobody).0;
    assert_eq!(seen.hops[0].tries[0].end, TryEnd::NotConnected(NetworkError::Refused));
}

fn a_syn_that_is_never_answered(driver: Driver) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    listener.listen(0).expect("a listener");
    let address: SockAddr = listener.local_addr().expect("bound");
    // A backlog of 0 holds one connection; from then on the kernel drops every SYN.
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("a socket option");
            let _ = filler.connect(&address);
            filler
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    let (seen, took, _) = fetch(driver, address.as_socket().expect("an IPv4 address"));
    assert_eq!(seen.hops[0].tries[0].end, TryEnd::NotConnected(NetworkError::Timeout));
    assert_eq!(http_failure(seen), HttpFailure::NotAnswered);
    assert!(took < Duration::from_millis(u64::from(QUICK.http_connect_ms)) + SLACK, "{took:?}");
    drop(fillers);
}

fn the_eleventh_redirect_is_not_followed(driver: Driver) {
    let server = tcp_server(|mut stream, number| {
        read_request(&mut stream);
        let head = format!("HTTP/1.1 302 Found\r\nLocation: /{number}\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        // Until the node closes.
        let _ = stream.read(&mut [0]);
    });
    let (seen, _, connections) = fetch(driver, server);
    assert_eq!((seen.hops.len(), connections), (11, 11));
    assert_eq!(seen.hops[10].url, "http://127.0.0.1/9");
    assert_eq!(http_failure(seen), HttpFailure::TooManyRedirects);
}

fn a_redirect_to_a_forbidden_address_is_never_connected_to(driver: Driver) {
    for (target, block) in [
        ("http://10.0.0.1/", "10.0.0.0/8"),
        ("http://[::ffff:127.0.0.1]/", "::ffff:0:0/96"),
        ("http://[::1]/", "::1/128"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.0.0/16"),
        ("http://0/", "0.0.0.0/8"),
        ("http://0xa9fea9fe/", "169.254.0.0/16"),
    ] {
        let server = tcp_server(move |mut stream, _| {
            read_request(&mut stream);
            let _ = stream.write_all(format!("HTTP/1.1 301 Moved\r\nLocation: {target}\r\n\r\n").as_bytes());
        });
        let (seen, _, connections) = fetch(driver, server);
        assert_eq!((seen.hops.len(), connections), (2, 1), "{target}");
        assert_eq!(seen.hops[0].response.as_ref().map(|head| head.status), Some(301));
        let hop = &seen.hops[1];
        assert!(hop.tries.is_empty(), "{target}: {hop:?}");
        let reason = &hop.unused[0].reason;
        assert!(matches!(reason, UnusedReason::Special(text) if text.starts_with(block)), "{target}: {reason:?}");
        assert_eq!(http_failure(seen), HttpFailure::OnlySpecialAddresses);
    }
}

fn a_redirect_is_followed_whatever_comes_after_its_head(driver: Driver) {
    let server = tcp_server(|mut stream, number| {
        read_request(&mut stream);
        let words: &[u8] = if number == 0 {
            b"HTTP/1.1 302 Found\r\nLocation: /next\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright"
        };
        let _ = stream.write_all(words);
    });
    let (seen, _, connections) = fetch(driver, server);
    assert_eq!((seen.hops.len(), connections), (2, 2));
    assert!(matches!(seen.outcome, HttpOutcome::Response { status: 200, .. }), "{:?}", seen.outcome);
}
