//! Methods other than ACME's, and names that control is shown for by way of others, from six perspectives
//! (TLS BR 2.3.1 §3.2.2.4, §3.2.2.5, S/MIME BR §3.2.2; req D1, D6, D10–D14, D-e, D23, C20).

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the world has more than these tests need")]
mod world;

use parallax_validation::{
    base::suffix::Suffixes,
    check::{
        Contradiction, Finding, LookupFailure,
        dcv::{Method, derivation::DerivationFault},
        judge,
    },
    explain::{Blame, Retry},
    observation::{ControlObservation, DnsOutcome, RecordType},
    problem::ProblemKind,
    request::{CheckRequest, Derivation, Identifier, RawRequest, RequestError, RequestRules},
    verdict::{Refusal, Verdict},
};
use world::{P, Played, Quirk, R1, R2, Web, World, filter, raw, response};

/// 128 bits in hexadecimal.
const VALUE: &str = "8f3a09c47d21e65bb1d04e7796c2a350";
const OTHER: &str = "0123456789abcdef0123456789abcdef";
const NAME: &str = "www.customer.example";

fn change(identifier: &str, record_type: &str) -> RawRequest {
    RawRequest {
        random_value: Some(VALUE.to_owned()),
        record_type: Some(record_type.to_owned()),
        ..raw(identifier, "dns-change")
    }
}

fn website(identifier: &str) -> RawRequest {
    RawRequest {
        random_value: Some(VALUE.to_owned()),
        file: Some("fileauth.txt".to_owned()),
        ..raw(identifier, "website-change")
    }
}

fn contact(identifier: &str, method: &str, contact: &str) -> RawRequest {
    RawRequest { contact: Some(contact.to_owned()), ..raw(identifier, method) }
}

fn for_domain(raw: RawRequest, domain: &str) -> RawRequest {
    RawRequest { authorization_domain: Some(domain.to_owned()), ..raw }
}

fn parse_at(raw: RawRequest, at: &str) -> Result<CheckRequest, RequestError> {
    let mut rules = RequestRules::from(filter());
    rules.suffixes = Suffixes::default();
    CheckRequest::parse(raw, "test", &rules, at.parse().unwrap())
}

fn parse(raw: RawRequest) -> Result<CheckRequest, RequestError> {
    parse_at(raw, "2026-11-26T12:00:00Z")
}

fn passes(world: &World) -> Played {
    let played = world.play();
    assert!(played.passed(), "{}", played.message());
    assert_eq!(played.joint(), "5/5");
    played
}

/// Refused for what was published; the message says so.
fn fails(world: &World, wanted: &[&str]) -> Played {
    let played = world.play();
    let explanation = played.explanation();
    assert!(!played.passed(), "{}", played.message());
    let found = (explanation.problem, explanation.blame, explanation.retry);
    assert_eq!(found, (Some(ProblemKind::Unauthorized), Some(Blame::Record), Some(Retry::Fix)), "{}", played.message());
    for text in wanted {
        let message = played.message().to_lowercase();
        assert!(message.contains(&text.to_lowercase()), "'{text}' is missing: {}", played.message());
    }
    played
}

fn asked(played: &Played, name: &str, rtype: RecordType) -> bool {
    played.questions.iter().any(|(place, asked, number)| *place == P && asked == name && *number == rtype.number())
}

// DNS change -------------------------------------------------------------------------------------------

#[test]
fn d6_a_value_in_a_txt_a_cname_or_a_caa_record() {
    let prefixed = |kind: &str| RawRequest { prefix_label: Some("_check".to_owned()), ..change(NAME, kind) };
    let at_name = World::new(change(NAME, "TXT")).txt(NAME, &["v=spf1 -all", VALUE]);
    assert_eq!(passes(&at_name).record.method, "3.2.2.4.7");
    passes(&World::new(prefixed("TXT")).txt("_check.www.customer.example", &[VALUE]));
    passes(
        &World::new(prefixed("TXT")).cname("_check.www.customer.example", "v.ca.example").txt("v.ca.example", &[VALUE]),
    );
    passes(&World::new(prefixed("CNAME")).cname("_check.www.customer.example", &format!("{VALUE}.v.ca.example")));
    passes(&World::new(prefixed("CNAME")).cname("_check.www.customer.example", &format!("a.{VALUE}.ca.example")));
    let parameter = format!("ca.example; value={VALUE}");
    let caa = World::new(prefixed("CAA")).caa("_check.www.customer.example", &[(0, "issue", &parameter)]);
    passes(&caa);
}

#[test]
fn d6_a_value_that_is_not_whole_or_not_there() {
    let txt = |value: &str| World::new(change(NAME, "TXT")).txt(NAME, &[value]);
    fails(&txt(OTHER), &["one TXT record", "does not hold the value"]);
    fails(&txt(&format!("\"{VALUE}\"")), &["literal quotation marks"]);
    fails(&txt(&format!(" {VALUE}")), &["white space"]);
    fails(&txt(&VALUE.to_uppercase()), &["another case"]);
    fails(&txt(&format!("value={VALUE}")), &["more text around it"]);
    fails(&txt(&VALUE[..31]), &["does not hold the value"]);
    fails(&World::new(change(NAME, "TXT")).a(NAME, &["192.0.2.10"]), &["no TXT was found", "has no TXT"]);
    fails(&World::new(change(NAME, "TXT")).txt("customer.example", &[VALUE]), &["no TXT was found"]);
    let cname = |target: &str| World::new(change(NAME, "CNAME")).cname(NAME, target);
    fails(&cname(&format!("a{VALUE}.ca.example")), &["whole label"]);
    fails(&cname("v.ca.example"), &["whole label"]);
    // A value of several labels, as of SHA-256 in hexadecimal: all of them, in their order, and nothing between.
    let two = |target: &str| {
        let value = RawRequest { random_value: Some(format!("{VALUE}.{OTHER}")), ..change(NAME, "CNAME") };
        World::new(value).cname(NAME, target)
    };
    passes(&two(&format!("{VALUE}.{OTHER}.ca.example")));
    fails(&two(&format!("{OTHER}.{VALUE}.ca.example")), &["whole label"]);
    fails(&two(&format!("{VALUE}.a.{OTHER}.ca.example")), &["whole label"]);
    fails(&two(&format!("a{VALUE}.{OTHER}.ca.example")), &["whole label"]);
    // The value at the end of the alias is not in the alias.
    let beyond =
        World::new(change(NAME, "CNAME")).cname(NAME, "a.example").cname("a.example", &format!("{VALUE}.b.example"));
    fails(&beyond, &["whole label"]);
    let caa = |tag: &str, value: &str| {
        World::new(change(NAME, "CAA")).caa(NAME, &[(0, tag, value), (0, "issue", "ca.example")])
    };
    fails(&caa("issue", &format!("{VALUE}; a=b")), &["whole parameter value"]);
    fails(&caa("issue", &format!("ca.example; a=x{VALUE}")), &["whole parameter value"]);
    fails(&caa("iodef", &format!("ca.example; a={VALUE}")), &["whole parameter value"]);
    // What remotes find is theirs to find (req A13).
    let split = txt(VALUE).from(&[R1, R2]).txt(NAME, &[OTHER]);
    let played = split.play();
    assert!(!played.passed());
    assert_eq!(played.joint(), "3/5");
}

#[test]
fn d2_d6_values_that_are_too_small_or_do_not_fit_are_refused() {
    let with = |value: &str| RawRequest { random_value: Some(value.to_owned()), ..change(NAME, "TXT") };
    for value in [
        VALUE,
        "8F3A09C47D21E65BB1D04E7796C2A350",
        "8f3a09c4-7d21-e65b-b1d0-4e7796c2a350",
        "8f3a09c47d21e65bb1d04e7796c2",
        "d4v9KqXw0ZbR7mPfTn2h",
        "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA",
        "7202196683150794823116204975350164",
        "_evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-o-",
        "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ+PCt92wr/oA=",
    ] {
        assert!(parse(with(value)).is_ok(), "{value}: {:?}", parse(with(value)).err());
    }
    for (value, wants) in [
        ("8f3a09c47d21e65bb1d04e7796c", "at most 108 bits"),
        ("720219668315079482311620497535016", "at most 109 bits"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "at most 0 bits"),
        ("01010101010101010101010101010101010101010101", "at most 0 bits"),
        ("", "at most 0 bits"),
        ("8f3a09c47d21e65bb1d04e7796c2a350 ", "is no letter"),
        (&"8f3a09c47d21e65b".repeat(9), "more than 128 characters"),
    ] {
        let error = parse(with(value)).unwrap_err();
        assert!(error.to_string().starts_with("random_value: ") && error.to_string().contains(wants), "{error}");
        assert!(value.is_empty() || !error.to_string().contains(value), "the value shows: {error}");
    }
    let cname = |value: &str| RawRequest { random_value: Some(value.to_owned()), ..change(NAME, "CNAME") };
    assert!(parse(cname(VALUE)).is_ok());
    assert!(parse(cname(&format!("_{VALUE}.{OTHER}"))).is_ok());
    for value in [
        "8F3A09C47D21E65BB1D04E7796C2A350",
        &"8f3a09c47d21e65b".repeat(4),
        &format!("{VALUE}..a"),
        &format!("{VALUE}="),
    ] {
        assert!(parse(cname(value)).unwrap_err().to_string().contains("labels in lower case"), "{value}");
    }
    let prefixed = |label: &str| RawRequest { prefix_label: Some(label.to_owned()), ..change(NAME, "TXT") };
    assert!(parse(prefixed("_a-b_c")).is_ok());
    for label in ["a", "_", "_a.b", "", "_ü", &format!("_{}", "a".repeat(63))] {
        assert!(parse(prefixed(label)).unwrap_err().to_string().starts_with("prefix_label: "), "{label}");
    }
    let echoed = parse(prefixed(&format!("_{VALUE}"))).unwrap_err();
    assert_eq!(echoed, RequestError::ValueInRequest { field: "prefix_label" });
    assert!(parse(change(NAME, "A")).unwrap_err().to_string().contains("TXT, CNAME or CAA"));
    let shown = format!("{:?} {:?}", change(NAME, "TXT"), parse(change(NAME, "TXT")).unwrap());
    assert!(!shown.contains(VALUE), "{shown}");
    let in_file = RawRequest { file: Some(format!("{VALUE}?")), ..website(NAME) };
    let error = parse(in_file).unwrap_err();
    assert!(!error.to_string().contains(VALUE), "{error}");
}

// Website ----------------------------------------------------------------------------------------------

#[test]
fn d14_a_value_in_a_file() {
    let url = "/.well-known/pki-validation/fileauth.txt";
    let serving = |body: String| {
        Web::says(move |host, path| match (host, path) {
            (NAME, "/.well-known/pki-validation/fileauth.txt") => response(200, "", body.as_bytes()),
            _ => response(404, "", b""),
        })
    };
    let world = |web: Web| World::new(website(NAME)).a(NAME, &["192.0.2.10"]).web("192.0.2.10", web);
    let played = passes(&world(serving(VALUE.to_owned())));
    assert_eq!(played.record.method, "3.2.2.4.18");
    assert!(played.requests.iter().all(|(_, request)| request.starts_with(&format!("GET {url} HTTP/1.1\r\n"))));
    passes(&world(serving(format!("{}\n{VALUE}\nca.example\n", "x".repeat(3000)))));
    passes(&world(serving(format!("<html><head><meta name=\"v\" content=\"{VALUE}\"></head></html>"))));
    for (web, wanted) in [
        (serving(format!("{}\n{VALUE}\n", "x".repeat(4096))), "far longer"),
        (serving(format!("x{VALUE}")), "not the random value"),
        (serving(VALUE[1..].to_owned()), "not the random value"),
        (serving(VALUE.to_uppercase()), "not the random value"),
        (Web::body(404, "", VALUE), "Status 200 with the random value in its body is required"),
        (Web::body(403, "", VALUE), "Exempt /.well-known/pki-validation/ from"),
        (Web::body(202, "", VALUE), "202"),
        (Web::body(206, "", VALUE), "206"),
        (Web::redirect(302, &format!("http://{NAME}/?v={VALUE}")), ""),
    ] {
        let played = world(web).play();
        assert!(!played.passed() && played.message().contains(wanted), "{wanted}: {}", played.message());
    }
    // A page that holds the value at a URL that holds it too proves nothing.
    let echo = Web::says(|_, path| {
        if path.starts_with("/echo") {
            response(200, "", path.as_bytes())
        } else {
            response(302, &format!("Location: /echo/{VALUE}\r\n"), b"")
        }
    });
    let played = world(echo).play();
    assert!(!played.passed() && played.message().contains("proves nothing"), "{}", played.message());
}

#[test]
fn d14_the_first_request_may_go_over_tls_and_to_an_address() {
    let server = world::tls_server::server(world::tls_server::Recipe::plain().make(), &[], &[&rustls::version::TLS13]);
    let https = RawRequest { scheme: Some("https".to_owned()), ..website(NAME) };
    let right =
        |server| Web::SaysInTls(server, std::sync::Arc::new(|_: &str, _: &str| response(200, "", VALUE.as_bytes())));
    let played = passes(&World::new(https).a(NAME, &["192.0.2.10"]).web_on(443, "192.0.2.10", right(server)));
    assert!(played.connections.iter().all(|(_, address)| address.port() == 443));
    let by_address = World::new(website("192.0.2.10")).web("192.0.2.10", Web::body(200, "", VALUE));
    assert_eq!(passes(&by_address).record.method, "3.2.2.5.1");
}

#[test]
fn d14_d18_what_a_website_cannot_show_is_refused() {
    assert!(matches!(parse(website("*.customer.example")).unwrap_err(), RequestError::WildcardMethod { .. }));
    for domain in ["customer.example", "target.example"] {
        let error = parse(for_domain(website(NAME), domain)).unwrap_err();
        assert!(error.to_string().starts_with("authorization_domain: "), "{error}");
    }
    for file in ["", "/a", "a/../b", "a//b", "a?b", "a#b", "a%2fb", "..", "a/."] {
        let error = parse(RawRequest { file: Some(file.to_owned()), ..website(NAME) }).unwrap_err();
        assert!(error.to_string().starts_with("file: "), "{file}: {error}");
    }
    let scheme = RawRequest { scheme: Some("ftp".to_owned()), ..website(NAME) };
    assert!(parse(scheme).unwrap_err().to_string().contains("http or https"));
    let no_scheme = RawRequest { scheme: Some("http".to_owned()), ..change(NAME, "TXT") };
    assert!(matches!(parse(no_scheme).unwrap_err(), RequestError::Unexpected { field: "scheme", .. }));
}

// Contacts ---------------------------------------------------------------------------------------------

const EMAIL: &str = "security@mail.other.example";
const PHONE: &str = "+1 555 0100";

#[test]
fn d11_a_contact_in_a_txt_record() {
    for (method, name, chosen, section) in [
        ("contact-email-txt", "_validation-contactemail.www.customer.example", EMAIL, "3.2.2.4.14"),
        ("contact-phone-txt", "_validation-contactphone.www.customer.example", PHONE, "3.2.2.4.16"),
    ] {
        let world = |values: &[&str]| World::new(contact(NAME, method, chosen)).txt(name, values);
        let played = passes(&world(&["hostmaster@customer.example", chosen]));
        assert_eq!(played.record.method, section);
        assert!(played.record.explanation.warnings.iter().any(|text| text.contains("discouraged since 2026-03-15")));
        fails(&world(&["hostmaster@customer.example"]), &["the one contact", "is not"]);
        fails(&world(&[&format!("mailto:{chosen}")]), &["One value is not understood"]);
        fails(&world(&[&format!("{chosen} ")]), &["One value is not understood"]);
        fails(&World::new(contact(NAME, method, chosen)).a(NAME, &["192.0.2.10"]), &["no TXT was found"]);
        let split = world(&[chosen]).from(&[R1, R2]).txt(name, &["other@customer.example"]).play();
        assert!(!split.passed());
        assert_eq!(split.joint(), "3/5");
    }
}

#[test]
fn d10_a_contact_in_a_caa_record_found_by_climbing() {
    for (method, tag, chosen, section) in [
        ("contact-email-caa", "contactemail", EMAIL, "3.2.2.4.13"),
        ("contact-phone-caa", "contactphone", PHONE, "3.2.2.4.17"),
    ] {
        let world = || World::new(contact(NAME, method, chosen)).a(NAME, &["192.0.2.10"]);
        let at_leaf = world().caa(NAME, &[(0, tag, "x@y.example"), (0, tag, chosen), (0, "issue", "ca.example")]);
        assert_eq!(passes(&at_leaf).record.method, section);
        let above = passes(&world().caa("customer.example", &[(0, "issue", "ca.example"), (0, tag, chosen)]));
        let Some(ControlObservation::Climb(levels)) = &above.observation(P).control else { panic!("a climb") };
        assert_eq!(levels.iter().map(|level| level.name.as_str()).collect::<Vec<_>>(), [NAME, "customer.example"]);
        // The relevant set is the first: what lies above it is of no account (RFC 8659 §3).
        let hidden = world().caa(NAME, &[(0, "issue", "ca.example")]).caa("customer.example", &[(0, tag, chosen)]);
        fails(&hidden, &[&format!("have no {tag}")]);
        fails(&world().caa(NAME, &[(0, tag, "other@customer.example")]), &["the one contact"]);
        fails(&world(), &["no CAA record was found"]);
        let broken = world().quirk(NAME, Some(RecordType::Caa), Quirk::Rcode(2, "")).play();
        assert!(!broken.passed());
        assert_eq!(broken.explanation().problem, Some(ProblemKind::Dns));
    }
    // Whoever uses the method processes its property, so a critical one does no harm (TLS BR App. A.1).
    let critical = |method: &str, tag: &str, chosen: &str| {
        World::new(contact(NAME, method, chosen)).caa(NAME, &[(128, tag, chosen), (0, "issue", "ca.example")])
    };
    passes(&critical("contact-email-caa", "contactemail", EMAIL));
    passes(&critical("contact-phone-caa", "contactphone", PHONE));
    let other = critical("contact-email-caa", "contactphone", EMAIL).play();
    assert!(!other.passed(), "the other one is not processed");
    let wrong_kind = parse(contact(NAME, "contact-email-caa", PHONE)).unwrap_err();
    assert!(wrong_kind.to_string().starts_with("contact: "), "{wrong_kind}");
    assert!(matches!(
        parse(raw(NAME, "contact-email-caa")).unwrap_err(),
        RequestError::Missing { field: "contact", .. }
    ));
}

// Authorization domain names ---------------------------------------------------------------------------

#[test]
fn d1_labels_are_dropped_down_to_the_base_domain() {
    let deep = "a.b.www.customer.example";
    for (identifier, domain) in
        [(deep, "customer.example"), (deep, "www.customer.example"), ("*.b.customer.example", "customer.example")]
    {
        let dns01 = for_domain(raw(identifier, "dns-01"), domain);
        let world = World::new(dns01);
        let digest = world.digest();
        let played = passes(&world.a(domain, &["192.0.2.10"]).txt(&format!("_acme-challenge.{domain}"), &[&digest]));
        assert!(played.message().contains(&format!("Control was shown for {domain}")), "{}", played.message());
        assert!(asked(&played, identifier.trim_start_matches("*."), RecordType::Caa), "CAA is of the identifier");
        assert!(played.observation(P).derivation.is_empty());
    }
    // The name's own record is not looked at.
    let world = World::new(for_domain(raw(deep, "dns-01"), "customer.example"));
    let digest = world.digest();
    fails(&world.txt(&format!("_acme-challenge.{deep}"), &[&digest]), &["no TXT was found"]);
    for (identifier, domain, wants) in [
        ("www.customer.co.uk", "co.uk", "public suffix"),
        ("www.customer.co.uk", "other.co.uk", ""),
        ("a.b.kawasaki.jp", "kawasaki.jp", "lies above a.b.kawasaki.jp, the base domain"),
        ("*.customer.example", "target.example", "no alias is followed for a wildcard"),
    ] {
        let result = parse(for_domain(raw(identifier, "dns-01"), domain));
        match wants {
            "" => assert!(matches!(result.unwrap().derivation, Some(Derivation::Alias(_)))),
            wants => assert!(result.unwrap_err().to_string().contains(wants), "{identifier} {domain}"),
        }
    }
    let own = parse(for_domain(raw("www.customer.example", "dns-01"), "www.customer.example")).unwrap();
    assert_eq!(own.derivation, None);
    for method in ["http-01", "tls-alpn-01"] {
        let error = parse(for_domain(raw(NAME, method), "customer.example")).unwrap_err();
        assert!(error.to_string().contains("no label may be dropped"), "{error}");
    }
    for method in ["dns-account-01", "http-01", "tls-alpn-01"] {
        let error = parse(for_domain(raw(NAME, method), "target.example")).unwrap_err();
        assert!(error.to_string().contains("follows no alias"), "{error}");
    }
}

#[test]
fn b17_a_wildcard_of_public_suffixes_is_refused() {
    for name in ["*.kawasaki.jp", "*.co.uk", "*.jp"] {
        let error = parse(raw(name, "dns-01")).unwrap_err();
        assert!(error.to_string().contains("public suffix"), "{name}: {error}");
    }
    assert!(parse(raw("*.city.kawasaki.jp", "dns-01")).is_ok());
}

#[test]
fn b17_d1_a_newer_list_binds_the_targets_of_aliases_too() {
    let list = "// ===BEGIN ICANN DOMAINS===\ncom\nco.uk\ncom.au\nco.jp\nuk\nau\njp\nexample\n*.wild.example\n// ===END ICANN DOMAINS===\n";
    let world = || {
        World::new(for_domain(change(NAME, "TXT"), "wild.example"))
            .cname(NAME, "x.a.wild.example")
            .txt("wild.example", &[VALUE])
    };
    passes(&world());
    let played = world().public_suffixes(list).play();
    assert!(!played.passed() && played.message().contains("base domain"), "{}", played.message());
    // Labels of the identifier itself too, whatever let such a request through.
    let pruned = for_domain(change("x.a.wild.example", "TXT"), "wild.example");
    let world = World::new(pruned).txt("wild.example", &[VALUE]);
    passes(&world);
    assert!(!world.public_suffixes(list).play().passed());
}

#[test]
fn d1_a_github_page_may_be_shown_by_its_icann_base_domain() {
    // Only the list's ICANN part counts: github.io is a private suffix.
    let request = parse(for_domain(raw("page.user.github.io", "dns-01"), "github.io")).unwrap();
    assert!(matches!(request.derivation, Some(Derivation::Pruned(_))));
}

#[test]
fn d1_aliases_come_first_and_labels_are_dropped_after() {
    let by_alias = |domain: &str| World::new(for_domain(change(NAME, "TXT"), domain));
    let chain = |world: World| world.cname(NAME, "Edge.cdn.example").cname("edge.cdn.example", "x.y.target.co.uk");
    for (domain, questions) in
        [("edge.cdn.example", 1), ("cdn.example", 1), ("x.y.target.co.uk", 2), ("target.co.uk", 2)]
    {
        let played = passes(&chain(by_alias(domain)).txt(domain, &[VALUE]));
        assert_eq!(played.observation(P).derivation.len(), questions, "{domain}");
        assert!(played.message().contains(&format!("Control was shown for {domain}")), "{}", played.message());
    }
    fails(
        &chain(by_alias("other.example")).txt("other.example", &[VALUE]),
        &["no alias of www.customer.example leads to other.example", "to edge.cdn.example, then to x.y.target.co.uk"],
    );
    let none = by_alias("cdn.example").a(NAME, &["192.0.2.10"]).txt("cdn.example", &[VALUE]);
    fails(&none, &["www.customer.example is no alias"]);
    // Never an alias of a parent: that is pruning first.
    let parent = by_alias("cdn.example").cname("customer.example", "edge.cdn.example").txt("cdn.example", &[VALUE]);
    fails(&parent, &["no alias of www.customer.example"]);
    // Dropping labels of the target stops at its base domain.
    let beyond = by_alias("kawasaki.jp").cname(NAME, "x.a.kawasaki.jp").txt("kawasaki.jp", &[VALUE]);
    fails(&beyond, &["above the base domain"]);
    let looping =
        by_alias("other.example").cname(NAME, "a.example").cname("a.example", NAME).txt("other.example", &[VALUE]);
    fails(&looping, &["no alias of"]);
    // Each perspective follows the aliases itself (req A11).
    let elsewhere =
        chain(by_alias("cdn.example")).txt("cdn.example", &[VALUE]).from(&[R1, R2]).cname(NAME, "a.other.example");
    let played = elsewhere.play();
    assert_eq!((played.passed(), played.joint().as_str()), (false, "3/5"), "{}", played.message());
    // An alias that cannot be looked up leads nowhere.
    let silent =
        chain(by_alias("cdn.example")).txt("cdn.example", &[VALUE]).quirk(NAME, Some(RecordType::Cname), Quirk::Silent);
    let played = silent.play();
    assert_eq!(played.explanation().problem, Some(ProblemKind::Dns), "{}", played.message());
}

#[test]
fn d9_a_persistent_record_above_the_name_must_permit_what_lies_below() {
    let request = || {
        let pruned = for_domain(raw("www.customer.example", "dns-persist-01"), "customer.example");
        World::new(pruned).a("customer.example", &["192.0.2.10"])
    };
    let name = "_validation-persist.customer.example";
    let record = "ca.example; accounturi=https://ca.example/acct/7";
    fails(
        &request().txt(name, &[record]),
        &["names below its own", "accounturi=https://ca.example/acct/7 and policy=wildcard"],
    );
    passes(&request().txt(name, &[&format!("{record}; policy=wildcard")]));
}

// Addresses by their names -----------------------------------------------------------------------------

#[test]
fn de3_an_address_by_way_of_its_name() {
    let request = |raw: RawRequest| RawRequest { reverse_name: Some("host.customer.example".to_owned()), ..raw };
    let reverse = "10.2.0.192.in-addr.arpa";
    let world = || World::new(request(change("192.0.2.10", "TXT"))).txt("host.customer.example", &[VALUE]);
    let played = passes(&world().ptr(reverse, &["other.example", "Host.Customer.Example"]));
    assert_eq!(played.record.method, "3.2.2.5.3 with 3.2.2.4.7");
    assert!(played.observation(P).caa.is_empty(), "an address has no CAA");
    fails(
        &world().ptr(reverse, &["other.example", "www.host.customer.example"]),
        &["does not lead to host.customer.example", "other.example"],
    );
    fails(&world(), &["no PTR was found"]);
    let http = World::new(request(raw("192.0.2.10", "http-01")))
        .ptr(reverse, &["host.customer.example"])
        .a("host.customer.example", &["192.0.2.11"])
        .web("192.0.2.11", Web::right());
    passes(&http);
    let on_a_name = parse(request(raw(NAME, "http-01"))).unwrap_err();
    assert!(on_a_name.to_string().starts_with("reverse_name: "), "{on_a_name}");
    let both = parse(for_domain(request(raw("192.0.2.10", "http-01")), "customer.example")).unwrap_err();
    assert!(both.to_string().contains("given beside"), "{both}");
    assert!(parse_at(request(raw("192.0.2.10", "http-01")), "2027-03-14T23:59:59Z").is_ok());
    let ended = parse_at(request(raw("192.0.2.10", "http-01")), "2027-03-15T00:00:00Z").unwrap_err();
    assert!(ended.to_string().contains("§3.2.2.5.3) ended on 2027-03-15"), "{ended}");
}

// Mailboxes --------------------------------------------------------------------------------------------

const MAILBOX: &str = "user@customer.example";

#[test]
fn c20_d23_a_mailbox_by_the_control_of_its_domain() {
    let world = || {
        let world = World::new(raw(MAILBOX, "dns-01")).a("customer.example", &["192.0.2.10"]);
        let digest = world.digest();
        world.txt("_acme-challenge.customer.example", &[&digest])
    };
    assert_eq!(passes(&world()).record.method, "S/MIME 3.2.2.1 with 3.2.2.4.7");
    passes(&world().caa("customer.example", &[(0, "issuemail", "ca.example"), (0, "issue", "other.example")]));
    passes(&world().caa("customer.example", &[(0, "issue", ";"), (0, "issuewild", ";")]));
    for value in ["other.example", ";", "%%%"] {
        let played = world().caa("customer.example", &[(0, "issuemail", value), (0, "issue", "ca.example")]).play();
        assert_eq!(played.explanation().problem, Some(ProblemKind::Caa), "{value}: {}", played.message());
        assert!(played.message().contains("issuemail") || value == "other.example", "{}", played.message());
    }
    // And issuemail means nothing for a name.
    let name = World::new(raw("customer.example", "dns-01")).caa("customer.example", &[(0, "issuemail", ";")]);
    let digest = name.digest();
    passes(&name.txt("_acme-challenge.customer.example", &[&digest]));
    for bad in ["@customer.example", "a b@customer.example", "a..b@customer.example", "user@bücher.example", "user@com"]
    {
        assert!(parse(raw(bad, "dns-01")).unwrap_err().to_string().starts_with("identifier: "), "{bad}");
    }
}

#[test]
fn d23_a_mailbox_by_the_control_of_its_mail_host() {
    let host = "mx.provider.example";
    let request = |host: &str| RawRequest { mail_host: Some(host.to_owned()), ..change(MAILBOX, "TXT") };
    let world = |host: &str| World::new(request(host)).txt(host, &[VALUE]);
    let played = passes(&world(host).mx("customer.example", &["MX.provider.example", "mx0.provider.example"]));
    assert_eq!(played.record.method, "S/MIME 3.2.2.3 with 3.2.2.4.7");
    fails(
        &world(host).mx("customer.example", &["mx0.provider.example"]),
        &["mx.provider.example is not a mail host of customer.example", "mx0.provider.example"],
    );
    // Only where mail is directed to first (RFC 5321 §5.1).
    fails(&world(host).mx("customer.example", &["mx0.provider.example", host]), &["others come before it"]);
    fails(&world(host).mx("customer.example", &[""]), &["takes no mail"]);
    fails(&world(host).a("customer.example", &["192.0.2.10"]), &["itself is the mail host"]);
    fails(&world(host), &["no mail host was found"]);
    passes(&world("customer.example").a("customer.example", &["192.0.2.10"]));
    let alias = World::new(request(host))
        .mx("customer.example", &[host])
        .cname(host, "real.provider.example")
        .txt("real.provider.example", &[VALUE]);
    fails(&alias, &["is an alias", "RFC 2181"]);
    // An alias of the mail domain itself is followed (RFC 5321 §5.1).
    let through = world(host).cname("customer.example", "other.example").mx("other.example", &[host]);
    passes(&through);
    let on_a_name = parse(RawRequest { mail_host: Some(host.to_owned()), ..change(NAME, "TXT") }).unwrap_err();
    assert!(on_a_name.to_string().contains("only a mailbox"), "{on_a_name}");
}

// Dates ------------------------------------------------------------------------------------------------

#[test]
fn f6_methods_end_by_themselves() {
    let phone = || contact(NAME, "contact-phone-txt", PHONE);
    assert!(parse_at(phone(), "2027-03-14T23:59:59Z").is_ok());
    let error = parse_at(phone(), "2027-03-15T00:00:00Z").unwrap_err();
    assert!(error.to_string().contains("§3.2.2.4.16) ended on 2027-03-15"), "{error}");
    for (method, wants) in [
        ("ca-tbr-6", "§3.2.2.4.6) ended on 2020-06-04"),
        ("3.2.2.4.8", "§3.2.2.4.8) ended on 2026-03-15"),
        ("ca-tbr-10", "is retired"),
        ("ca-tbr-4", "it sends e-mail"),
        ("ca-tbr-12", "asks the registrar"),
        ("ca-tbr-19", "is asked for as http-01"),
        ("3.2.2.5.3", "give reverse_name"),
        ("tls-sni-01", "is not a method offered here"),
    ] {
        let error = parse(raw(NAME, method)).unwrap_err().to_string();
        assert!(error.starts_with("method: ") && error.contains(wants), "{method}: {error}");
    }
    // Earlier results may not be relied on either.
    let caa = RawRequest { relied_on_method: Some("contact-phone-txt".to_owned()), ..raw(NAME, "caa") };
    assert!(parse_at(caa.clone(), "2027-03-14T23:59:59Z").is_ok());
    assert!(matches!(parse_at(caa, "2027-03-15T00:00:00Z"), Err(RequestError::MethodEnded { .. })));
    // Methods that are made elsewhere may be relied on, by their section or label, as long as they are in force.
    for (text, label) in [("3.2.2.4.12", "ca-tbr-12"), ("ca-tbr-4", "ca-tbr-4")] {
        let caa = RawRequest { relied_on_method: Some(text.to_owned()), ..raw(NAME, "caa") };
        let permits = |methods: &str| {
            let value = format!("ca.example; validationmethods={methods}");
            World::new(caa.clone()).caa(NAME, &[(0, "issue", &value)]).play().passed()
        };
        assert!(permits(label) && !permits("http-01"), "{text}");
    }
    let ended = RawRequest { relied_on_method: Some("ca-tbr-4".to_owned()), ..raw(NAME, "caa") };
    assert!(matches!(parse_at(ended, "2028-03-15T00:00:00Z"), Err(RequestError::MethodEnded { .. })));
    let onion = parse(raw("expyuzz4wqqyqhjn.onion", "http-01")).unwrap_err();
    assert!(onion.to_string().contains("onion names are out of scope"), "{onion}");
}

#[test]
fn a20_f6_an_attempt_that_spans_the_end_of_its_method_is_refused() {
    let world = |decided: &str| {
        World::new(contact(NAME, "contact-phone-txt", PHONE))
            .txt("_validation-contactphone.www.customer.example", &[PHONE])
            .decided(decided)
    };
    passes(&world("2027-03-14T23:59:59Z"));
    let played = world("2027-03-15T00:00:08Z").play();
    assert!(matches!(played.record.verdict, Verdict::Refused { refusal: Refusal::MethodEnded, .. }));
    assert!(played.message().contains("may not be used any more"), "{}", played.message());
}

// Records that nobody wrote ----------------------------------------------------------------------------

/// What a record read back from a forged journal may hold: the judge does not believe it.
#[test]
fn a13_evidence_for_another_way_or_another_question_is_none() {
    let world = World::new(for_domain(change(NAME, "TXT"), "cdn.example"))
        .cname(NAME, "edge.cdn.example")
        .txt("cdn.example", &[VALUE]);
    let played = passes(&world);
    let request = &played.record.request;
    let policy = parallax_validation::check::caa::authorize::CaaPolicy::default();
    let role = parallax_validation::base::perspective::Role::Remote;
    let control = |request: &CheckRequest, seen: &_| judge(request, seen, &policy, role).control;
    let seen = played.observation(R1).clone();
    assert_eq!(control(request, &seen), Some(Finding::Confirmed));
    let not_observed = Some(Finding::Failed(LookupFailure::NotObserved));
    let mut changed = seen.clone();
    changed.derivation.clear();
    assert_eq!(control(request, &changed), not_observed, "no way");
    let mut changed = seen.clone();
    changed.derivation[0].name = "other.example".to_owned();
    assert_eq!(control(request, &changed), not_observed, "the way from another name");
    let mut changed = seen.clone();
    let again = changed.derivation[0].clone();
    changed.derivation.push(again);
    assert_eq!(control(request, &changed), not_observed, "more than was to be asked");
    let mut changed = seen.clone();
    let DnsOutcome::Answer(set) = &mut changed.derivation[0].outcome else { panic!("an alias") };
    // `a\.cdn.example` is one label below example, not a name below cdn.example.
    set.rdata[0].0 = b"\x05a.cdn\x07example\x00".to_vec();
    let astray = Finding::Contradicted(Contradiction::Derivation(DerivationFault::NoAlias));
    assert_eq!(control(request, &changed), Some(astray), "a dot within a label");
    let mut other = request.clone();
    other.derivation = Some(Derivation::Pruned("cdn.example".parse().unwrap()));
    assert_eq!(control(&other, &seen), not_observed, "a parent that is none");
    let mut other = request.clone();
    other.identifier = Identifier::Wildcard(NAME.parse().unwrap());
    assert_eq!(control(&other, &seen), not_observed, "an alias for a wildcard");
    let mut other = request.clone();
    other.control.as_mut().unwrap().method = Method::WebsiteChange;
    assert_eq!(control(&other, &seen), not_observed, "a proof of another method");
    let mut other = played.record.clone();
    other.method = "3.2.2.4.22".to_owned();
    assert!(other.recompute(&world.rules()).unwrap_err().to_string().contains("the method differs"));
}

/// Values that no parsing lets through are not read back either.
#[test]
fn d2_d12_what_is_read_back_is_checked_like_a_request() {
    let written = |request: RawRequest| serde_json::to_value(parse(request).unwrap()).unwrap();
    let reads = |value: &serde_json::Value| serde_json::from_value::<CheckRequest>(value.clone());
    let change = written(RawRequest { prefix_label: Some("_check".to_owned()), ..change(NAME, "TXT") });
    assert!(reads(&change).is_ok());
    let file = written(website(NAME));
    for (request, key, value) in [
        (&change, "random_value", ""),
        (&change, "random_value", "example"),
        (&change, "prefix_label", "www.attacker"),
        (&change, "prefix_label", "check"),
        (&file, "random_value", ""),
        (&file, "file", "../../x"),
    ] {
        let mut changed = request.clone();
        changed["control"][key] = value.into();
        assert!(reads(&changed).is_err(), "{key} = {value:?}");
    }
    // The value within the name is for the judge to notice: both may stand in a record.
    let mut changed = change.clone();
    changed["control"]["prefix_label"] = format!("_{VALUE}").into();
    assert!(reads(&changed).unwrap().holds_its_value());
    let world = World::new(RawRequest { file: Some("a.txt".to_owned()), ..website(NAME) });
    let empty = Web::body(200, "", "");
    assert!(!world.a(NAME, &["192.0.2.10"]).web("192.0.2.10", empty).play().passed(), "an empty page");
}
