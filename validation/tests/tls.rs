//! TLS: https redirects and tls-alpn-01, with servers in memory and certificates with any part of them wrong
//! (`cases.md` D09, D37, D38; `boulder.md` §5.3 H92 and H120–H122, §5.4).

#[allow(dead_code, reason = "this program uses a part of it")]
mod world;

use std::sync::Arc;

use parallax_validation::{
    base::{
        limits::{
            PARTING_MS, SUBJECT_KEPT_BYTES_MAX, TLS_BYTES_MAX, TLS_FIRST_KEPT_BYTES_MAX, TLS_HANDSHAKE_BYTES_MAX,
        },
        octets::Octets,
    },
    check::{
        Contradiction, Finding,
        dcv::tls_alpn01::{CertificateFault as Fault, judge},
    },
    explain::Blame,
    lookup::tls::{
        ACME_TLS_1, TlsSettings, alpn,
        certificate::{AlternativeName, Certificate, alternative_names, facts, key_of},
        client::{Client, Moved},
        rustls::{self, ServerConfig, SupportedProtocolVersion, pki_types::ServerName},
        server_name,
    },
    observation::{
        CertificateDer, ControlObservation, HttpFailure, HttpObservation, HttpOutcome, NetworkError, TlsFailure,
        TlsHandshake, TlsObservation, TlsOutcome, TlsProbeFailure, TlsTryEnd, TlsVersion, TryEnd,
    },
    plan::{Host, PlanLimits},
    problem::ProblemKind,
    request::{Identifier, KeyAuthorization},
};
use proptest::{collection::vec, prelude::*};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};
use sha2::{Digest, Sha256};
use world::{tls_server::*, *};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const NAME: &str = "www.customer.example";
const V6: &str = "2001:db8:85a3::8a2e:370:7334";

fn digest() -> Vec<u8> {
    Sha256::digest(key_authorization()).to_vec()
}

fn right() -> Recipe {
    Recipe::challenge(dns(NAME), &digest())
}

// ---- The judge -----------------------------------------------------------------------------------------

fn handshake(protocol: Option<&[u8]>, certificate: Vec<u8>) -> TlsObservation {
    TlsObservation {
        server_name: NAME.to_owned(),
        resolution: Vec::new(),
        unused: Vec::new(),
        tries: Vec::new(),
        outcome: TlsOutcome::Handshake(TlsHandshake {
            version: TlsVersion::V13,
            cipher_suite: "TLS13_AES_128_GCM_SHA256".to_owned(),
            protocol: protocol.map(|protocol| Octets(protocol.to_vec())),
            certificate: CertificateDer(certificate),
        }),
    }
}

fn identifier(text: &str) -> Identifier {
    text.parse().map_or_else(|_| Identifier::Name(text.parse().expect("a name")), Identifier::Ip)
}

fn judged_for(asked: &str, certificate: Vec<u8>) -> Result<(), Fault> {
    let key = KeyAuthorization { token: TOKEN.to_owned(), value: key_authorization() };
    match judge(&key.octets(), &identifier(asked), &handshake(Some(ACME_TLS_1), certificate)) {
        Finding::Confirmed => Ok(()),
        Finding::Contradicted(Contradiction::Certificate(fault)) => Err(fault),
        other => panic!("{other:?}"),
    }
}

fn judged(certificate: Vec<u8>) -> Result<(), Fault> {
    judged_for(NAME, certificate)
}

#[test]
fn a1_ok_the_right_certificate_for_a_name_and_for_addresses() {
    assert_eq!(judged(right().make()), Ok(()));
    for address in ["192.0.2.10", V6] {
        assert_eq!(judged_for(address, Recipe::challenge(ip(address), &digest()).make()), Ok(()), "{address}");
    }
}

#[test]
fn a1_ok_the_right_certificate_of_another_maker() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest())];
        assert_eq!(judged(params.self_signed(&key).expect("a certificate").der().to_vec()), Ok(()));
        params.subject_alt_names = vec![SanType::IpAddress("192.0.2.10".parse().expect("an address"))];
        let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();
        assert_eq!(judged_for("192.0.2.10", certificate.clone()), Ok(()));
        assert_eq!(judged(certificate), Err(Fault::NameKind));
    }
}

/// A34 with OpenSSL's certificates. P-521 and small RSA keys are not known to the TLS library's provider.
#[test]
fn a34_kinds_of_keys_and_signatures() {
    let mut seen = Vec::new();
    for line in include_str!("vectors/tls_alpn01.txt").lines().filter(|line| !line.starts_with('#')) {
        let (kind, text) = line.split_once(' ').expect("a kind and a certificate");
        let certificate: CertificateDer = serde_json::from_value(text.into()).expect("base64");
        let expected = match kind {
            "P-521" | "RSA-2048-SHA-1" => Err(Fault::UnknownAlgorithm),
            "RSA-1024" => Err(Fault::NotSelfSigned),
            _ => Ok(()),
        };
        assert_eq!(judged(certificate.0), expected, "{kind}");
        seen.push(kind);
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}

#[test]
fn a4_a6_d37_err_the_protocol_must_be_selected() {
    let key = KeyAuthorization { token: TOKEN.to_owned(), value: key_authorization() };
    for (protocol, fault) in [
        (None, Fault::NoProtocol),
        (Some(b"h2".as_slice()), Fault::OtherProtocol),
        (Some(b"acme-tls/2"), Fault::OtherProtocol),
        (Some(b"ACME-TLS/1"), Fault::OtherProtocol),
        (Some(b""), Fault::OtherProtocol),
    ] {
        let finding = judge(&key.octets(), &identifier(NAME), &handshake(protocol, right().make()));
        assert_eq!(finding, Finding::Contradicted(Contradiction::Certificate(fault)), "{protocol:?}");
    }
}

#[test]
fn a14_to_a18_a31_the_acme_extension() {
    let value = |value: &[u8]| right().extensions([san(&[dns(NAME)]), extension(ACME, true, value)]);
    let with = |extensions: Vec<Vec<u8>>| right().extensions([vec![san(&[dns(NAME)])], extensions].concat());
    let digest = digest();
    let mut other = digest.clone();
    other[31] ^= 1;
    let octets = |tag: u8, content: &[u8]| der(tag, content);
    let long = [&[0x04, 0x81, 0x20], digest.as_slice()].concat();
    for (what, recipe, expected) in [
        ("A14 wrong digest", value(&octets(4, &other)), Err(Fault::OtherDigest)),
        ("A14 digest of nothing", value(&octets(4, &[0; 32])), Err(Fault::OtherDigest)),
        ("A15 UTF8String", value(&octets(12, &digest)), Err(Fault::MalformedExtension)),
        ("A15 31 octets", value(&octets(4, &digest[..31])), Err(Fault::MalformedExtension)),
        ("A15 33 octets", value(&octets(4, &[digest.as_slice(), &[0]].concat())), Err(Fault::MalformedExtension)),
        ("A15 raw", value(&digest), Err(Fault::MalformedExtension)),
        ("A15 BER length", value(&long), Err(Fault::MalformedExtension)),
        ("A15 trailing", value(&[octets(4, &digest), vec![0]].concat()), Err(Fault::MalformedExtension)),
        ("A15 empty", value(&[]), Err(Fault::MalformedExtension)),
        ("A15 constructed", value(&octets(0x24, &octets(4, &digest[..30]))), Err(Fault::MalformedExtension)),
        ("A16 not critical", with(vec![extension(ACME, false, &octets(4, &digest))]), Err(Fault::NotCritical)),
        ("A17 missing", with(Vec::new()), Err(Fault::ExtensionMissing)),
        ("A17 old OID only", with(vec![extension(ACME_DRAFT, true, &octets(4, &digest))]), Err(Fault::DraftExtension)),
        ("A18 old OID beside", with(vec![extension(ACME_DRAFT, true, &octets(4, &other)), acme(&digest)]), Ok(())),
        ("A31 twice", with(vec![acme(&digest), acme(&digest)]), Err(Fault::ExtensionTwice)),
        ("A31 twice, one wrong", with(vec![acme(&digest), acme(&other)]), Err(Fault::ExtensionTwice)),
        ("A36 other order", right().extensions([acme(&digest), san(&[dns(NAME)])]), Ok(())),
    ] {
        assert_eq!(judged(recipe.make()), expected, "{what}");
    }
}

#[test]
fn a19_to_a27_d38_the_one_name() {
    let names = |names: &[Vec<u8>]| right().extensions([san(names), acme(&digest())]);
    let raw = |value: &[u8]| right().extensions([extension(SAN, false, value), acme(&digest())]);
    let mail = der(0x81, b"admin@customer.example");
    let uri = der(0x86, b"https://www.customer.example");
    let directory = der(0xa4, &common_name(NAME));
    let critical = extension(SAN, true, &der(0x30, &dns(NAME)));
    for (what, recipe, expected) in [
        ("A19 no SAN", right().extensions([acme(&digest())]), Err(Fault::NoNames)),
        ("A20 other", names(&[dns("other.example")]), Err(Fault::OtherName)),
        ("A20 longer", names(&[dns("www.customer.example.org")]), Err(Fault::OtherName)),
        ("A20 parent", names(&[dns("customer.example")]), Err(Fault::OtherName)),
        ("A20 NUL", names(&[dns("www.customer.example\0")]), Err(Fault::OtherName)),
        ("A21 two", names(&[dns(NAME), dns("other.example")]), Err(Fault::NameCount(2))),
        ("A21 twice", names(&[dns(NAME), dns(NAME)]), Err(Fault::NameCount(2))),
        ("A21 none", names(&[]), Err(Fault::NameCount(0))),
        ("A23 with IP", names(&[dns(NAME), ip("192.0.2.10")]), Err(Fault::NameCount(2))),
        ("A24 mail", names(&[dns(NAME), mail.clone()]), Err(Fault::NameCount(2))),
        ("A24 URI", names(&[uri.clone(), dns(NAME)]), Err(Fault::NameCount(2))),
        ("A24 directory name", names(&[dns(NAME), directory]), Err(Fault::NameCount(2))),
        ("mail alone", names(&[mail]), Err(Fault::NameKind)),
        ("URI alone", names(&[uri]), Err(Fault::NameKind)),
        ("A25 capitals", names(&[dns("WWW.Customer.EXAMPLE")]), Ok(())),
        ("A26 final dot", names(&[dns("www.customer.example.")]), Err(Fault::OtherName)),
        ("A26 wildcard", names(&[dns("*.customer.example")]), Err(Fault::OtherName)),
        ("A27 critical", right().extensions([critical, acme(&digest())]), Ok(())),
        (
            "A31 SAN twice",
            right().extensions([san(&[dns(NAME)]), san(&[dns(NAME)]), acme(&digest())]),
            Err(Fault::NamesTwice),
        ),
        ("no list", raw(&dns(NAME)), Err(Fault::UnreadableNames)),
        ("trailing octets", raw(&[der(0x30, &dns(NAME)), vec![0]].concat()), Err(Fault::UnreadableNames)),
        ("cut", raw(&der(0x30, &dns(NAME)[..8])), Err(Fault::UnreadableNames)),
        ("nothing", raw(&[]), Err(Fault::UnreadableNames)),
    ] {
        assert_eq!(judged(recipe.make()), expected, "{what}");
    }
    for (what, asked, names, expected) in [
        ("A20 other IPv4", "192.0.2.10", vec![ip("192.0.2.11")], Err(Fault::OtherName)),
        ("A20 other IPv6", V6, vec![ip("2001:db8::1")], Err(Fault::OtherName)),
        ("A20 IPv6 for IPv4", "192.0.2.10", vec![ip("::ffff:192.0.2.10")], Err(Fault::OtherName)),
        ("A22 as dNSName", "192.0.2.10", vec![dns("192.0.2.10")], Err(Fault::NameKind)),
        ("A22 reverse name", "192.0.2.10", vec![dns("10.2.0.192.in-addr.arpa")], Err(Fault::NameKind)),
        ("A23 with name", "192.0.2.10", vec![ip("192.0.2.10"), dns(NAME)], Err(Fault::NameCount(2))),
        ("a prefix", "192.0.2.10", vec![der(0x87, &[192, 0, 2, 10, 255, 255, 255, 255])], Err(Fault::OtherName)),
    ] {
        let certificate = right().extensions([san(&names), acme(&digest())]).make();
        assert_eq!(judged_for(asked, certificate), expected, "{what}");
    }
    assert_eq!(judged_for(NAME, Recipe::challenge(ip("192.0.2.10"), &digest()).make()), Err(Fault::NameKind));
}

#[test]
fn d18_err_a_forged_request_for_a_wildcard_is_never_confirmed() {
    let key = KeyAuthorization { token: TOKEN.to_owned(), value: key_authorization() };
    let wildcard = Identifier::Wildcard("customer.example".parse().expect("a name"));
    for name in ["customer.example", "*.customer.example"] {
        let seen = handshake(Some(ACME_TLS_1), Recipe::challenge(dns(name), &digest()).make());
        let finding = judge(&key.octets(), &wildcard, &seen);
        assert_eq!(finding, Finding::Contradicted(Contradiction::Certificate(Fault::NameKind)), "{name}");
    }
}

#[test]
fn a28_to_a33_who_signed_it_and_what_does_not_matter() {
    let other_key = KeyPair::generate().expect("a key");
    let other_name = || common_name("somebody else");
    assert_eq!(judged(Recipe { issuer: other_name(), ..right() }.make()), Err(Fault::OtherIssuer), "A29");
    assert_eq!(judged(right().make_with(&other_key, key())), Err(Fault::NotSelfSigned), "A30 other key");
    assert_eq!(judged(Recipe { bad_signature: true, ..right() }.make()), Err(Fault::NotSelfSigned), "A30 bad");
    // What tells most comes first: an everyday certificate has no extension, whoever signed it.
    let everyday = Recipe { issuer: other_name(), ..Recipe::plain().extensions([san(&[dns(NAME)])]) };
    assert_eq!(judged(everyday.make()), Err(Fault::ExtensionMissing));

    let unknown = extension(&[0x2a, 3, 4], true, b"anything");
    let authority = extension(&[0x55, 0x1d, 19], true, &der(0x30, &der(1, &[0xff])));
    let usage = extension(&[0x55, 0x1d, 37], false, &der(0x30, &der(6, &[0x2b, 6, 1, 5, 5, 7, 3, 9])));
    let dated =
        |from: &[u8], to: &[u8]| Recipe { validity: der(0x30, &[der(0x17, from), der(0x17, to)].concat()), ..right() };
    let named = |name: Vec<u8>| Recipe { issuer: name.clone(), subject: name, ..right() };
    let more = |more: Vec<u8>| right().extensions([san(&[dns(NAME)]), acme(&digest()), more]);
    for (what, recipe) in [
        ("A28 other CN", named(common_name("other.example"))),
        ("A28 no CN", named(der(0x30, &[]))),
        ("A32 unknown critical", more(unknown)),
        ("A33 expired", dated(b"200101000000Z", b"200201000000Z")),
        ("A33 not yet valid", dated(b"480101000000Z", b"490101000000Z")),
        ("A33 CA", more(authority)),
        ("A33 wrong EKU", more(usage)),
    ] {
        assert_eq!(judged(recipe.make()), Ok(()), "{what}");
    }
}

#[test]
fn err_what_is_no_strict_certificate_is_unreadable() {
    let good = right().make();
    let long_length = [&[good[0], 0x83, 0, good[2], good[3]], &good[4..]].concat();
    let v1 = Recipe { version: Vec::new(), ..right() };
    let v2 = Recipe { version: der(0xa0, &der(2, &[1])), ..right() };
    let v9 = Recipe { version: der(0xa0, &der(2, &[8])), ..right() };
    let truth = extension(ACME, true, &der(4, &digest()));
    let mut neither = truth.clone();
    let at = neither.windows(3).position(|w| w == [1, 1, 0xff]).expect("critical");
    neither[at + 2] = 1;
    for (what, certificate) in [
        ("nothing", Vec::new()),
        ("text", b"-----BEGIN CERTIFICATE-----".to_vec()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("trailing", [good.as_slice(), &[0]].concat()),
        ("long length", long_length),
        ("no end", [&[0x30, 0x80], &good[4..]].concat()),
        ("version 1 with extensions", v1.make()),
        ("version 2 with extensions", v2.make()),
        ("version 9", v9.make()),
        ("critical is neither", right().extensions([san(&[dns(NAME)]), neither]).make()),
    ] {
        assert_eq!(judged(certificate), Err(Fault::Unreadable), "{what}");
    }
}

#[test]
fn a2_server_names() {
    let sent = |text: &str| alpn::server_name(&text.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Ip));
    assert_eq!(sent(NAME), NAME);
    assert_eq!(sent("192.0.2.10"), "10.2.0.192.in-addr.arpa");
    let reverse = "4.3.3.7.0.7.3.0.e.2.a.8.0.0.0.0.0.0.0.0.3.a.5.8.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(sent(V6), reverse);
    assert!(server_name(&Host::Name("-odd.example".to_owned())).is_none());
}

// ---- The core ------------------------------------------------------------------------------------------

fn settings() -> TlsSettings {
    TlsSettings::new(rustls::crypto::ring::default_provider()).expect("TLS 1.2 and 1.3 are built in")
}

/// Octets the server gets and gives, one round after another, in pieces of so many octets.
fn converse(client: &mut Client, hello: Vec<u8>, session: &mut Session, piece: usize) -> Moved {
    let (mut to_server, mut seen) = (hello, Moved::default());
    for _round in 0..10 {
        session.take(&to_server);
        let (octets, _) = session.outgoing();
        to_server = Vec::new();
        for part in octets.chunks(piece) {
            let moved = client.handle(part);
            to_server.extend(moved.send);
            seen.established |= moved.established;
            seen.failure = seen.failure.or(moved.failure);
        }
        if octets.is_empty() && to_server.is_empty() {
            break;
        }
    }
    seen
}

#[test]
fn handshakes_of_both_versions_in_pieces_of_any_size() {
    let certificate = right().make();
    for (versions, version) in [(ONLY_12, TlsVersion::V12), (ONLY_13, TlsVersion::V13), (BOTH, TlsVersion::V13)] {
        for piece in [1, 2, 7, 100, 10_000] {
            let name = ServerName::try_from(NAME).expect("a name");
            let (mut client, hello) = Client::new(settings().alpn, name).expect("random octets");
            let mut session = Session::new(server(certificate.clone(), &[b"h2", ACME_TLS_1], versions));
            let moved = converse(&mut client, hello, &mut session, piece);
            assert_eq!((moved.established, moved.failure), (true, None), "{version} {piece}");
            assert_eq!(session.server_name(), Some(NAME), "A2, H121");
            let seen = client.session().expect("established");
            assert_eq!(
                (seen.version, seen.protocol, seen.leaf),
                (version, Some(Octets(ACME_TLS_1.to_vec())), &*certificate)
            );
        }
    }
}

#[test]
fn the_first_flight_is_small_and_offers_what_it_should() {
    let name = ServerName::try_from(NAME).expect("a name");
    for (config, protocol) in [(settings().alpn, ACME_TLS_1), (settings().fetch, b"http/1.1".as_slice())] {
        let (_, hello) = Client::new(config, name.clone()).expect("random octets");
        assert!(hello.len() < 400, "{} octets", hello.len());
        let list = [&[0, 16, 0, protocol.len() as u8 + 3, 0, protocol.len() as u8 + 1, protocol.len() as u8], protocol]
            .concat();
        assert!(hello.windows(list.len()).any(|window| window == list), "the ALPN list holds {protocol:?} alone");
    }
    let (_, hello) = Client::new(settings().fetch, ServerName::from(std::net::IpAddr::from([192, 0, 2, 10])))
        .expect("random octets");
    assert!(!hello.windows(4).any(|window| window == [192, 0, 2, 10]), "no server name for an address");
}

#[test]
fn no_session_is_resumed() {
    let settings = settings();
    let config = server(right().make(), &[ACME_TLS_1], BOTH);
    let lengths: Vec<usize> = (0..3)
        .map(|_| {
            let name = ServerName::try_from(NAME).expect("a name");
            let (mut client, hello) = Client::new(settings.alpn.clone(), name).expect("random octets");
            let length = hello.len();
            assert!(converse(&mut client, hello, &mut Session::new(config.clone()), 10_000).established);
            length
        })
        .collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "no ticket is offered: {lengths:?}");
}

/// `cases.md` D09, pitfall 5: nothing in a certificate but its key matters to the handshake.
#[test]
fn odd_certificates_do_not_stop_a_handshake() {
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA1, whose identifier is an octet shorter: one is left over.
    let sha256 = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    let sha1 = der(0x30, &[der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]), vec![0]].concat());
    let mut weak = right().make();
    while let Some(at) = weak.windows(sha256.len()).position(|window| window == sha256) {
        weak.splice(at..at + sha256.len(), sha1.clone());
    }
    // The reader that others use would stop here (decision 0006).
    let broken_dates = Recipe { validity: der(0x30, &der(0x17, b"yesterday")), ..right() };
    assert!(X509Certificate::from_der(&broken_dates.make()).is_err());
    for (what, certificate) in [
        ("version 1", Recipe { version: Vec::new(), extensions: Vec::new(), ..right() }.make()),
        ("bad signature", Recipe { bad_signature: true, ..right() }.make()),
        ("another signature algorithm", weak),
        ("no dates", Recipe { validity: der(0x30, &[]), ..right() }.make()),
        ("dates that are none", broken_dates.make()),
        ("no serial", Recipe { serial: der(2, &[]), ..right() }.make()),
        ("negative serial", Recipe { serial: der(2, &[0xff; 40]), ..right() }.make()),
        ("empty names", Recipe { issuer: der(0x30, &[]), subject: der(0x30, &[]), ..right() }.make()),
        ("names that are none", Recipe { subject: der(0x30, &[1, 2, 3]), ..right() }.make()),
        ("extension twice", right().extensions([acme(&[1]), acme(&[2])]).make()),
        ("version 9", Recipe { version: der(0xa0, &der(2, &[8])), ..right() }.make()),
        ("octets after it", [right().make(), vec![0; 9]].concat()),
    ] {
        for versions in [ONLY_12, ONLY_13] {
            let name = ServerName::try_from(NAME).expect("a name");
            let (mut client, hello) = Client::new(settings().fetch, name).expect("random octets");
            let mut session = Session::new(server(certificate.clone(), &[], versions));
            let moved = converse(&mut client, hello, &mut session, 10_000);
            assert_eq!((moved.established, moved.failure), (true, None), "{what}");
        }
    }
}

#[test]
fn err_a_server_without_the_key_of_its_certificate_is_found_out() {
    let other = KeyPair::generate().expect("a key");
    for versions in [ONLY_12, ONLY_13] {
        let name = ServerName::try_from(NAME).expect("a name");
        for (certificate, failure) in [
            (right().make_with(&other, &other), TlsFailure::BadSignature),
            (b"no certificate".to_vec(), TlsFailure::UnreadableCertificate),
        ] {
            let (mut client, hello) = Client::new(settings().alpn, name.clone()).expect("random octets");
            let mut session = Session::new(server(certificate, &[ACME_TLS_1], versions));
            let moved = converse(&mut client, hello, &mut session, 10_000);
            assert_eq!((moved.established, moved.failure), (false, Some(failure)));
            assert_eq!(client.handle(b"more"), Moved::default(), "nothing is taken after a failure");
        }
    }
}

fn handled(octets: &[u8]) -> Option<TlsFailure> {
    let (mut client, _) = Client::new(settings().fetch, ServerName::try_from(NAME).expect("a name")).expect("bits");
    client.handle(octets).failure
}

#[test]
fn err_what_servers_say_instead_of_tls() {
    let http = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n".to_vec();
    let first = |octets: &[u8]| TlsFailure::NotTls { first: Octets::first(octets, TLS_FIRST_KEPT_BYTES_MAX) };
    assert_eq!(handled(&http), Some(first(&http)));
    assert_eq!(handled(b"SSH-2.0-OpenSSH_9.2\r\n"), Some(first(b"SSH-2.0-OpenSSH_9.2\r\n")));
    assert_eq!(handled(&[0; 500]), Some(first(&[0; 500])));
    for alert in [40, 70, 80, 112, 120] {
        assert_eq!(handled(&[21, 3, 3, 0, 2, 2, alert]), Some(TlsFailure::Alert(alert)));
    }
    // A ServerHello of TLS 1.1: version 0302, random, no session, TLS_RSA_WITH_AES_128_CBC_SHA.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let message = [&[2, 0, 0, hello.len() as u8][..], &hello].concat();
    let record = [&[22, 3, 2, 0, message.len() as u8][..], &message].concat();
    assert_eq!(handled(&record), Some(TlsFailure::OldVersion));
    assert!(matches!(handled(&[22, 3, 3, 0xff, 0xff, 0, 0]), Some(TlsFailure::Malformed(_))));
    assert_eq!(handled(&[22, 3, 3, 0x40]), None, "half a record is waited for");
}

#[test]
fn err_a_handshake_without_end_is_cut_off() {
    // Messages of a handshake that never come to their end: 16 MB announced, in whole records.
    let (mut client, _) = Client::new(settings().fetch, ServerName::try_from(NAME).expect("a name")).expect("bits");
    let body = [&[2, 0xff, 0xff, 0xff][..], &vec![0; 16_000]].concat();
    let record = [&[22, 3, 3, (body.len() >> 8) as u8, body.len() as u8][..], &body].concat();
    let failed = (0..100).find_map(|_| client.handle(&record).failure);
    assert!(failed.is_some());
    assert!(client.received() <= TLS_HANDSHAKE_BYTES_MAX as u64 + 20_000, "{}", client.received());
}

#[test]
fn err_a_server_that_speaks_without_end_in_tiny_records_is_cut_off() {
    let (mut client, hello) =
        Client::new(settings().fetch, ServerName::try_from(NAME).expect("a name")).expect("random octets");
    let mut session = Session::new(server(right().make(), &[], ONLY_13));
    assert!(converse(&mut client, hello, &mut session, 10_000).established);
    let mut said = 0;
    let failure = (0..2 * TLS_BYTES_MAX / 22).find_map(|_| {
        session.whisper(b"x");
        let moved = client.handle(&session.outgoing().0);
        said += moved.plaintext.len();
        moved.failure
    });
    assert_eq!(failure, Some(TlsFailure::TooLarge));
    assert!(client.received() <= TLS_BYTES_MAX as u64 + 22 && said > TLS_BYTES_MAX / 24, "{said}");
}

// ---- https redirects -----------------------------------------------------------------------------------

fn redirected_to(at: &str, web: Web) -> World {
    World::http()
        .web("192.0.2.10", Web::redirect(301, &format!("https://{at}/moved")))
        .a("secure.customer.example", &["192.0.2.20"])
        .web_on(443, "192.0.2.20", web)
}

fn fetched(played: &Played) -> &HttpObservation {
    match &played.observation(P).control {
        Some(ControlObservation::Http(fetch)) => fetch,
        other => panic!("{other:?}"),
    }
}

fn https(certificate: Vec<u8>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    server(certificate, &[b"h2", b"http/1.1"], versions)
}

#[test]
fn d09_h92_h120_h121_certificates_on_the_way_are_written_down_and_not_judged() {
    let dated = |from: &[u8], to: &[u8]| der(0x30, &[der(0x17, from), der(0x17, to)].concat());
    let named = |name: &str| Recipe::plain().extensions([san(&[dns(name), dns("other.example")])]);
    let issued = Recipe { issuer: common_name("Some CA"), ..named("*.customer.example") };
    let expired = Recipe { validity: dated(b"200101000000Z", b"210101000000Z"), ..named("SECURE.customer.example") };
    for (recipe, self_signed, matches, expired) in [
        (named("secure.customer.example"), true, true, false),
        (expired, true, true, true),
        (named("wrong.example"), true, false, false),
        (issued, false, true, false),
        (named("*.secure.customer.example"), true, false, false),
    ] {
        for versions in [ONLY_12, ONLY_13] {
            let web = Web::right_in_tls(https(recipe.make(), versions));
            let played = redirected_to("secure.customer.example:443", web).play();
            assert!(played.passed(), "{}", played.message());
            let hops = &fetched(&played).hops;
            assert_eq!((hops[0].tls.as_ref(), hops[1].url.as_str()), (None, "https://secure.customer.example/moved"));
            assert_eq!(hops[1].tries[0].end, TryEnd::Answered);
            let tls = hops[1].tls.as_ref().expect("TLS was spoken");
            assert_eq!(tls.protocol, Some(Octets(b"http/1.1".to_vec())));
            let version = if versions == ONLY_12 { TlsVersion::V12 } else { TlsVersion::V13 };
            assert_eq!((tls.version, tls.certificate.sha256.len()), (version, 64));
            assert!(tls.cipher_suite.starts_with("TLS"), "{}", tls.cipher_suite);
            let content = tls.certificate.content.as_ref().expect("readable");
            assert_eq!((content.self_signed, content.name_matches, content.names), (self_signed, matches, 2));
            assert_eq!(content.subject, Octets(b"CN=challenge".to_vec()));
            let ends = content.not_after.expect("a date").to_string();
            assert_eq!(ends, if expired { "2021-01-01T00:00:00Z" } else { "2056-01-01T00:00:00Z" });
        }
    }
}

#[test]
fn h93_h102_targets_with_other_ports_and_addresses() {
    let tls = || Web::right_in_tls(https(Recipe::challenge(ip("192.0.2.20"), &[0; 32]).make(), BOTH));
    let by_address = redirected_to("192.0.2.20", tls()).play();
    assert!(by_address.passed(), "{}", by_address.message());
    let content = fetched(&by_address).hops[1].tls.as_ref().and_then(|tls| tls.certificate.content.clone());
    assert!(content.is_some_and(|content| content.name_matches && content.names == 1));
    let on_80 = World::http()
        .web("192.0.2.10", Web::redirect(302, "https://secure.customer.example:80/"))
        .a("secure.customer.example", &["192.0.2.20"])
        .web("192.0.2.20", tls())
        .play();
    assert!(on_80.passed(), "{}", on_80.message());
}

#[test]
fn a_chain_from_http_to_https_and_on() {
    let onward = https(right().make(), BOTH);
    let host = Arc::new(|host: &str, path: &str| match (host, path) {
        ("secure.customer.example", "/moved") => response(302, "Location: /again\r\n", b""),
        ("secure.customer.example", "/again") => response(200, "", key_authorization().as_bytes()),
        other => panic!("{other:?}"),
    });
    let played = redirected_to("secure.customer.example", Web::SaysInTls(onward, host)).play();
    assert!(played.passed(), "{}", played.message());
    assert_eq!(fetched(&played).hops.iter().filter(|hop| hop.tls.is_some()).count(), 2);
    let back = https(right().make(), BOTH);
    let host = Arc::new(|_: &str, _: &str| response(302, "Location: http://www.customer.example/x\r\n", b""));
    let played = redirected_to("secure.customer.example", Web::SaysInTls(back, host))
        .web(
            "192.0.2.10",
            Web::says(|_, path| match path {
                "/x" => response(200, "", key_authorization().as_bytes()),
                _ => response(301, "Location: https://secure.customer.example/\r\n", b""),
            }),
        )
        .play();
    assert!(played.passed(), "{}", played.message());
}

#[track_caller]
fn refused(played: &Played, problem: ProblemKind, blame: Blame, words: &[&str]) {
    assert!(!played.passed());
    let explanation = played.explanation();
    assert_eq!((explanation.problem, explanation.blame), (Some(problem), Some(blame)), "{}", played.message());
    for word in words {
        assert!(played.message().contains(word), "no '{word}' in: {}", played.message());
    }
}

#[test]
fn h122_err_failures_of_tls_on_the_way_are_named() {
    let alert = |alert| Web::Octets(vec![21, 3, 3, 0, 2, 2, alert]);
    let plain = Web::Octets(b"HTTP/1.1 400 Bad Request\r\n\r\nsent plain".to_vec());
    for (web, problem, blame, words) in [
        (alert(70), ProblemKind::Tls, Blame::Web, &["speaks no TLS newer than 1.1"][..]),
        (alert(40), ProblemKind::Tls, Blame::Web, &["'handshake_failure' (40)", "TLS 1.2 and 1.3"]),
        (alert(112), ProblemKind::Tls, Blame::Web, &["'unrecognized_name' (112)", "no certificate for the name"]),
        (plain, ProblemKind::Tls, Blame::Web, &["speaks plain HTTP on port 443", "HTTP/1.1 400"]),
        (Web::Octets(b"SSH-2.0-x".to_vec()), ProblemKind::Tls, Blame::Web, &["sent something that is not TLS"]),
        (
            Web::Octets(Vec::new()),
            ProblemKind::Connection,
            Blame::Filter,
            &["192.0.2.20:443 closed the connection during the TLS handshake"],
        ),
        (
            Web::ResetsAfterRequest,
            ProblemKind::Connection,
            Blame::Filter,
            &["192.0.2.20:443 reset the connection during the TLS handshake"],
        ),
        (
            Web::SilentAfterRequest,
            ProblemKind::Connection,
            Blame::Web,
            &["did not finish the TLS handshake within 5 s", "after redirect 1 of 10"],
        ),
        (Web::Refuses, ProblemKind::Connection, Blame::Web, &["refused the TCP connection"]),
    ] {
        let played = redirected_to("secure.customer.example", web).play();
        refused(&played, problem, blame, words);
    }
}

#[test]
fn h13_h15_fallback_on_https_comes_before_the_handshake_only() {
    let dual = |six: Web| {
        redirected_to("secure.customer.example", Web::right_in_tls(https(right().make(), BOTH)))
            .aaaa("secure.customer.example", &["2001:db8::20"])
            .web_on(443, "2001:db8::20", six)
            .play()
    };
    for six in [Web::Refuses, Web::SilentSyn] {
        let played = dual(six);
        assert!(played.passed(), "{}", played.message());
        assert_eq!(fetched(&played).hops[1].tries.len(), 2);
    }
    // A server that says nothing after the handshake has been reached all the same.
    let mute = Web::SaysInTls(https(right().make(), BOTH), Arc::new(|_, _| Vec::new()));
    let played = dual(mute);
    refused(
        &played,
        ProblemKind::Connection,
        Blame::Filter,
        &["[2001:db8::20]:443 accepted the connection and closed"],
    );
    assert_eq!(
        (&fetched(&played).outcome, fetched(&played).hops[1].tries.len()),
        (&HttpOutcome::Failed(HttpFailure::NotAnswered), 1)
    );
    for six in [Web::SilentAfterRequest, Web::Octets(vec![21, 3, 3, 0, 2, 2, 40]), Web::Octets(Vec::new())] {
        let played = dual(six);
        assert!(!played.passed());
        let fetch = fetched(&played);
        assert!(matches!(fetch.outcome, HttpOutcome::Failed(HttpFailure::Tls(_))), "{fetch:?}");
        assert_eq!(fetch.hops[1].tries.len(), 1);
        assert_eq!(fetch.hops[1].tries[0].end, TryEnd::NoTls);
    }
}

// ---- tls-alpn-01 ---------------------------------------------------------------------------------------

fn challenged(web: Web) -> World {
    World::new(raw(NAME, "tls-alpn-01")).a(NAME, &["203.0.113.7"]).web_on(443, "203.0.113.7", web)
}

/// A server that says nothing within TLS and fails the test if it is asked anything.
fn silent(server: Arc<ServerConfig>) -> Web {
    Web::SaysInTls(server, Arc::new(|host, path| panic!("asked {host} for {path}")))
}

fn answering(certificate: Vec<u8>) -> Web {
    silent(server(certificate, &[ACME_TLS_1], BOTH))
}

fn probed(played: &Played) -> &TlsObservation {
    match &played.observation(P).control {
        Some(ControlObservation::Tls(probe)) => probe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a1_a3_a6_ok_a_handshake_is_all_it_takes() {
    for versions in [ONLY_12, ONLY_13, BOTH] {
        for protocols in [&[ACME_TLS_1][..], &[b"h2", ACME_TLS_1]] {
            let certificate = right().make();
            let played = challenged(silent(server(certificate.clone(), protocols, versions))).play();
            assert!(played.passed(), "{}", played.message());
            assert_eq!(played.message(), "Validated.");
            let probe = probed(&played);
            assert_eq!((probe.server_name.as_str(), probe.tries.len()), (NAME, 1));
            assert_eq!(probe.tries[0].end, TlsTryEnd::Handshake);
            let names: Vec<_> = played.observation(P).lookups().take(2).map(|lookup| lookup.name.as_str()).collect();
            assert_eq!((names, probe.resolution.len()), (vec![NAME, NAME], 2), "DNSSEC counts for them too");
            let TlsOutcome::Handshake(seen) = &probe.outcome else { panic!("{probe:?}") };
            // The report does not wait for the server to close, which this one never does.
            let elapsed_us = played.observation(P).elapsed_us;
            assert!(elapsed_us < PARTING_MS * 1000, "{elapsed_us}");
            assert_eq!(seen.certificate.0, certificate);
            let text = serde_json::to_string(probe).expect("evidence is written");
            assert_eq!(&serde_json::from_str::<TlsObservation>(&text).expect("and read"), probe);
        }
    }
    let address = World::new(raw("203.0.113.7", "tls-alpn-01"))
        .web_on(443, "203.0.113.7", answering(Recipe::challenge(ip("203.0.113.7"), &digest()).make()))
        .play();
    assert!(address.passed(), "{}", address.message());
    assert_eq!(probed(&address).server_name, "7.113.0.203.in-addr.arpa");
}

#[test]
fn d37_a4_err_tls_that_ends_before_the_client() {
    let everyday = Recipe { issuer: common_name("Some CA"), ..Recipe::plain().extensions([san(&[dns(NAME)])]) };
    let played = challenged(silent(server(everyday.make(), &[], BOTH))).play();
    let words = [
        "203.0.113.7:443 completed TLS without agreeing on 'acme-tls/1' (it selected no protocol; certificate subject: 'CN=challenge'; TLS 1.3).",
        "Something in front of the ACME client terminates TLS; use http-01 or dns-01.",
    ];
    refused(&played, ProblemKind::Unauthorized, Blame::Filter, &words);
    // A server that knows others alone says so.
    let played = challenged(silent(server(right().make(), &[b"h2", b"http/1.1"], BOTH))).play();
    let words = ["'no_application_protocol' (120)", "It knows no 'acme-tls/1'"];
    refused(&played, ProblemKind::Tls, Blame::Web, &words);
}

#[test]
fn d38_err_the_right_protocol_with_a_wrong_certificate() {
    let with = |extensions: Vec<Vec<u8>>| right().extensions(extensions).make();
    let name = || san(&[dns(NAME)]);
    for (certificate, words) in [
        (with(vec![name()]), "acmeIdentifier extension is missing"),
        (with(vec![name(), extension(ACME, false, &der(4, &digest()))]), "is not critical"),
        (with(vec![name(), extension(ACME_DRAFT, true, &der(4, &digest()))]), "of an early draft"),
        (with(vec![san(&[dns(NAME), dns("other.example")]), acme(&digest())]), "with 2 names"),
        (with(vec![name(), acme(&[7; 32])]), "whose digest differs"),
        (with(vec![san(&[dns("other.example")]), acme(&digest())]), "for another name"),
        (with(vec![acme(&digest())]), "without subjectAltName"),
        (with(vec![name(), acme(&[7; 31])]), "not an OCTET STRING of 32 octets"),
        (with(vec![name(), acme(&digest()), acme(&digest())]), "two acmeIdentifier extensions"),
        (Recipe { issuer: common_name("x"), ..right() }.make(), "its issuer is another"),
        (Recipe { bad_signature: true, ..right() }.make(), "its key did not sign it"),
    ] {
        let played = challenged(answering(certificate)).play();
        refused(&played, ProblemKind::Unauthorized, Blame::Web, &[words, "203.0.113.7:443 showed a"]);
        let hex: String = digest().iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(!played.message().contains(&hex), "never the expected digest");
    }
    let capitals = challenged(answering(Recipe::challenge(dns("WWW.CUSTOMER.EXAMPLE"), &digest()).make())).play();
    assert!(capitals.passed(), "SAN in other case: {}", capitals.message());
    let old = challenged(Web::Octets(vec![21, 3, 2, 0, 2, 2, 70])).play();
    refused(&old, ProblemKind::Tls, Blame::Web, &["speaks no TLS newer than 1.1; TLS 1.2 or 1.3 is required"]);
}

#[test]
fn a5_to_a12_err_servers_that_do_not_get_that_far() {
    for (web, problem, words) in [
        (Web::Octets(vec![21, 3, 3, 0, 2, 2, 80]), ProblemKind::Tls, "'internal_error' (80)"),
        (
            Web::Octets(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            ProblemKind::Tls,
            "speaks plain HTTP on port 443, not TLS",
        ),
        (Web::SilentAfterRequest, ProblemKind::Connection, "did not finish the TLS handshake within 5 s"),
        (Web::SilentSyn, ProblemKind::Connection, "never answered the TCP connection (waited 3 s)"),
        (Web::Refuses, ProblemKind::Connection, "refused the TCP connection"),
        (Web::Octets(Vec::new()), ProblemKind::Connection, "closed the connection during the TLS handshake"),
        (Web::ResetsAfterRequest, ProblemKind::Connection, "reset the connection during the TLS handshake"),
        (Web::Octets(vec![0x16, 3, 3, 0, 4, 0, 0, 0, 0]), ProblemKind::Tls, "broke the rules of TLS"),
    ] {
        let played = challenged(web).play();
        let blame = played.explanation().blame.expect("a blame");
        refused(&played, problem, blame, &[words, "203.0.113.7:443"]);
    }
    let nowhere = World::new(raw(NAME, "tls-alpn-01")).txt(NAME, &["something"]).play();
    refused(&nowhere, ProblemKind::Dns, Blame::Record, &["the name has neither A nor AAAA"]);
    let private = World::new(raw(NAME, "tls-alpn-01")).a(NAME, &["10.1.2.3"]).play();
    refused(&private, ProblemKind::Dns, Blame::Record, &["10.1.2.3 in 10.0.0.0/8"]);
    assert!(private.connections.is_empty());
}

#[test]
fn a13_any_failure_over_ipv6_lets_ipv4_have_its_turn_and_a_whole_handshake_does_not() {
    let dual = |six: Web| {
        challenged(answering(right().make())).aaaa(NAME, &["2001:db8::7"]).web_on(443, "2001:db8::7", six).play()
    };
    for six in [
        Web::Refuses,
        Web::SilentSyn,
        Web::SilentAfterRequest,
        Web::ResetsAfterRequest,
        Web::Octets(vec![21, 3, 3, 0, 2, 2, 120]),
        Web::Octets(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ] {
        let played = dual(six);
        assert!(played.passed(), "{}", played.message());
        let warning = &played.explanation().warnings;
        assert!(warning.len() == 1 && warning[0].contains("was validated over IPv4 (203.0.113.7)"), "{warning:?}");
        assert_eq!(probed(&played).tries.len(), 2);
    }
    let played = dual(answering(Recipe::challenge(dns(NAME), &[0; 32]).make()));
    let words =
        ["digest differs", "The IPv4 address 203.0.113.7 was not tried because 2001:db8::7 answered over IPv6."];
    refused(&played, ProblemKind::Unauthorized, Blame::Web, &words);
}

#[test]
fn remotes_that_see_another_certificate_do_not_confirm() {
    let other = answering(Recipe::challenge(dns(NAME), &[0; 32]).make());
    let played = challenged(answering(right().make())).from(&[R1, R3]).web_on(443, "203.0.113.7", other).play();
    refused(&played, ProblemKind::Unauthorized, Blame::Web, &["served the challenge certificate to", "digest differs"]);
}

#[test]
fn the_deadline_of_the_task_bounds_a_handshake() {
    let limits =
        PlanLimits { task_deadline_ms: 4_000, dns_try_ms: 1_000, http_response_ms: 60_000, ..Default::default() };
    let played = challenged(Web::SilentAfterRequest).limits(limits).play();
    let probe = probed(&played);
    assert_eq!(probe.outcome, TlsOutcome::Failed(TlsProbeFailure::DeadlineOfTask));
    let silence = TlsFailure::Network(NetworkError::Timeout);
    assert_eq!(probe.tries.last().map(|t| t.end.clone()), Some(TlsTryEnd::Failed(silence)));
    refused(&played, ProblemKind::Connection, Blame::Web, &["then the time for the whole check ran out"]);
}

/// Req A13: evidence about something else is none.
#[test]
fn a13_evidence_about_another_server_confirms_nothing() {
    let played = challenged(answering(right().make())).play();
    let forge = |change: fn(&mut TlsObservation)| {
        let mut record = played.record.clone();
        for part in &mut record.perspectives {
            if let Some(ControlObservation::Tls(seen)) = part.observation.as_mut().and_then(|o| o.control.as_mut()) {
                change(seen);
            }
        }
        let request = record.request.clone();
        let observation = record.perspectives[P].observation.clone().expect("an observation");
        let policy = parallax_validation::check::caa::authorize::CaaPolicy::default();
        let role = parallax_validation::base::perspective::Role::Remote;
        parallax_validation::check::judge(&request, &observation, &policy, role).control
    };
    assert_eq!(forge(|_| {}), Some(Finding::Confirmed));
    for change in [
        |seen: &mut TlsObservation| seen.server_name = "other.example".to_owned(),
        |seen: &mut TlsObservation| seen.resolution[0].name = "other.example".to_owned(),
        |seen: &mut TlsObservation| seen.tries[0].address.set_port(8443),
    ] {
        assert!(matches!(forge(change), Some(Finding::Failed(_))));
    }
}

// ---- Anything at all -----------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_taken_by_the_core_within_bounds(pieces in vec(vec(any::<u8>(), 0..2_000), 0..8), tls in any::<bool>()) {
        let (mut client, hello) =
            Client::new(settings().fetch, ServerName::try_from(NAME).expect("a name")).expect("random octets");
        prop_assert!(hello.len() < 400);
        for mut piece in pieces {
            // Half of the time it looks like records.
            if tls && piece.len() > 5 {
                let (kind, length) = (20 + piece[0] % 4, piece.len() - 5);
                piece[..5].copy_from_slice(&[kind, 3, 3, (length >> 8) as u8, length as u8]);
            }
            let moved = client.handle(&piece);
            prop_assert!(!moved.established && moved.plaintext.is_empty() && moved.send.len() < 1_000);
            prop_assert!(client.session().is_none());
            if let Some(TlsFailure::NotTls { first }) = &moved.failure {
                prop_assert!(first.0.len() <= TLS_FIRST_KEPT_BYTES_MAX);
            }
        }
        prop_assert!(client.received() <= TLS_BYTES_MAX as u64 + 2_000);
    }

    #[test]
    fn a_handshake_with_octets_changed_never_ends_well_nor_panics(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let (mut client, hello) =
            Client::new(settings().alpn, ServerName::try_from(NAME).expect("a name")).expect("random octets");
        let mut session = Session::new(server(right().make(), &[ACME_TLS_1], BOTH));
        session.take(&hello);
        let (mut octets, _) = session.outgoing();
        let at = at.index(octets.len());
        // What the head of an encrypted record says of its type and version changes nothing: both are known.
        let (mut head, mut is_head) = (0, false);
        while head < octets.len() {
            is_head |= (head..head + 3).contains(&at);
            head += 5 + usize::from(octets[head + 3]) * 256 + usize::from(octets[head + 4]);
        }
        octets[at] ^= flip;
        let moved = client.handle(&octets);
        prop_assert!(!moved.established || is_head, "octet {at} of {}", octets.len());
    }

    #[test]
    fn any_octets_are_judged_and_written_down_without_panic(octets in vec(any::<u8>(), 0..3_000)) {
        prop_assert!(judged(octets.clone()).is_err());
        let said = facts(&octets, &Host::Name(NAME.to_owned()));
        prop_assert_eq!(said.sha256.len(), 64);
        let _ = (key_of(&octets), alternative_names(&octets));
    }

    /// Changed octets: what is still confirmed is what an independent reader confirms, and no other.
    #[test]
    fn a_changed_certificate_is_read_as_another_reader_reads_it(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut octets = right().make();
        for (at, value) in changes {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        let said = facts(&octets, &Host::Name(NAME.to_owned()));
        prop_assert!(said.content.as_ref().is_none_or(|content| content.subject.0.len() <= SUBJECT_KEPT_BYTES_MAX));
        let ours = Certificate::read(&octets);
        let theirs = X509Certificate::from_der(&octets);
        if judged(octets.clone()).is_ok() {
            let (rest, theirs) = theirs.expect("what is confirmed can be read by others");
            prop_assert!(rest.is_empty() && theirs.verify_signature(None).is_ok());
            prop_assert_eq!(theirs.subject().as_raw(), theirs.issuer().as_raw());
        } else if let (Ok(ours), Ok((_, theirs))) = (ours, theirs) {
            let found: Vec<_> = theirs.extensions().iter().map(|e| (e.oid.as_bytes(), e.critical, e.value)).collect();
            let seen: Vec<_> = ours.extensions.iter().map(|e| (e.oid, e.critical, e.value)).collect();
            prop_assert_eq!(seen, found);
            prop_assert_eq!(ours.self_signed().is_ok(), theirs.verify_signature(None).is_ok() && theirs.subject().as_raw() == theirs.issuer().as_raw());
        }
    }
}

#[test]
fn names_are_read_as_another_reader_reads_them() {
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    let names = [dns(NAME), ip("192.0.2.10"), ip(V6), der(0x81, b"a@b.example"), dns("b.example")];
    let certificate = Recipe::plain().extensions([san(&names)]).make();
    let ours = Certificate::read(&certificate).expect("readable");
    let ours = alternative_names(ours.extensions[0].value).expect("names");
    let (_, theirs) = X509Certificate::from_der(&certificate).expect("readable");
    let ParsedExtension::SubjectAlternativeName(theirs) = theirs.extensions()[0].parsed_extension() else { panic!() };
    let theirs: Vec<AlternativeName<'_>> = theirs
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => AlternativeName::Dns(name.as_bytes()),
            GeneralName::IPAddress(octets) => AlternativeName::Ip(octets),
            _ => AlternativeName::Other(0x81),
        })
        .collect();
    assert_eq!(ours, theirs);
}
