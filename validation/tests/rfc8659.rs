//! RFC 8659 §4: properties, the issue-value grammar and the decision about one set (req C10–C14, C20, C-h;
//! cases D28, D30–D32). The recogniser here is a second reading of the grammar, independent of the parser.

use parallax_validation::check::caa::{
    authorize::{CaaContext, CaaDecision, CaaPolicy, CaaRule, CaaSubject, GoverningProperty, RecordFinding, authorize},
    property::{
        IssueValue, IssueValueError, IssueValueFault as Fault, RdataError, SHOWN_OCTETS_MAX, TagKind, escape,
        parse_issue_value, parse_rdata,
    },
};
use proptest::prelude::*;

fn rdata(flags: u8, tag: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut octets = vec![flags, u8::try_from(tag.len()).expect("a tag has at most 255 octets")];
    octets.extend_from_slice(tag.as_bytes());
    octets.extend_from_slice(value.as_ref());
    octets
}

fn policy() -> CaaPolicy {
    CaaPolicy { issuer_domains: vec!["ca.example".to_owned(), "ca2.example".to_owned()], ..CaaPolicy::default() }
}

fn context(wildcard: bool) -> CaaContext<'static> {
    CaaContext {
        subject: if wildcard { CaaSubject::Wildcard } else { CaaSubject::Name },
        account_uri: Some("https://ca.example/acct/7"),
        method_labels: &["http-01", "ca-tbr-19"],
    }
}

fn decide_with(records: &[Vec<u8>], policy: &CaaPolicy, wildcard: bool) -> CaaDecision {
    let set: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let decision = authorize(&set, policy, &context(wildcard));
    assert_eq!(decision.permitted, decision.rule.permits());
    assert_eq!(decision.records.len(), records.len());
    decision
}

/// A record: flags, tag, value.
type Row<'a> = (u8, &'a str, &'a str);

/// A value, its issuer and its parameters.
type ValueRow<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)]);

fn decide(records: &[Row<'_>], wildcard: bool) -> CaaDecision {
    let records: Vec<_> = records.iter().map(|(flags, tag, value)| rdata(*flags, tag, value)).collect();
    decide_with(&records, &policy(), wildcard)
}

const PLAIN: bool = false;
const WILDCARD: bool = true;

// ---------------------------------------------------------------------------------------------------
// §4.1: RDATA
// ---------------------------------------------------------------------------------------------------

#[test]
fn s4_1_ok_rdata_is_split_into_flags_tag_and_value() {
    let property = parse_rdata(b"\x80\x05iSsUeca.example \xff").unwrap();
    assert_eq!((property.flags, property.tag.published()), (128, "iSsUe"));
    assert_eq!(property.tag.kind(), &TagKind::Issue);
    assert_eq!(property.value, b"ca.example \xff");
    assert!(property.is_critical());
    assert_eq!(parse_rdata(b"\x00\x05issue").unwrap().value, b"");
    let longest = rdata(0, &"a".repeat(255), "v");
    assert_eq!(parse_rdata(&longest).unwrap().tag.published().len(), 255);
}

#[test]
fn s4_1_ok_tags_are_compared_without_case() {
    let table = [
        ("ISSUE", TagKind::Issue),
        ("IssueWild", TagKind::Issuewild),
        ("issueMail", TagKind::Issuemail),
        ("IODEF", TagKind::Iodef),
        ("ContactEmail", TagKind::Contactemail),
        ("contactPHONE", TagKind::Contactphone),
        ("issueVMC", TagKind::Issuevmc),
        ("TBS2", TagKind::Other("tbs2".to_owned())),
        ("issues", TagKind::Other("issues".to_owned())),
    ];
    for (tag, kind) in table {
        let property = parse_rdata(&rdata(0, tag, "")).unwrap();
        assert_eq!((property.tag.kind(), property.tag.to_string()), (&kind, tag.to_owned()));
    }
}

#[test]
fn s4_1_err_rdata_that_cannot_be_split() {
    let table: [(&[u8], RdataError, &str); 7] = [
        (b"", RdataError::NoFlags, "the record has no data, not even a flags octet"),
        (b"\x00", RdataError::NoTagLength, "the record ends after its flags octet"),
        (b"\x00\x00", RdataError::EmptyTag, "the tag length is 0; a tag has at least one letter or digit"),
        (
            b"\x00\x06issue",
            RdataError::TagCut { length: 6, present: 5 },
            "the tag length is 6 but only 5 octets follow",
        ),
        (
            b"\x00\x05iss-e;",
            RdataError::TagOctet { offset: 3, octet: b'-' },
            "octet 3 of the tag is '-'; tags are ASCII letters and digits",
        ),
        (
            b"\x00\x05issu\xc3;",
            RdataError::TagOctet { offset: 4, octet: 0xc3 },
            "octet 4 of the tag is '\\xc3'; tags are ASCII letters and digits",
        ),
        (
            b"\x00\x06issue ;",
            RdataError::TagOctet { offset: 5, octet: b' ' },
            "octet 5 of the tag is ' '; tags are ASCII letters and digits",
        ),
    ];
    for (octets, error, text) in table {
        assert_eq!(parse_rdata(octets), Err(error.clone()), "{octets:?}");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn s4_1_a_record_that_cannot_be_split_forbids_whatever_else_is_there() {
    for broken in [&b""[..], b"\x00", b"\x00\x00", b"\x00\x06issue", b"\x00\x03a-b;", b"\x00\x00ca.example"] {
        for wildcard in [PLAIN, WILDCARD] {
            let decision = decide_with(&[rdata(0, "issue", "ca.example"), broken.to_vec()], &policy(), wildcard);
            assert!(!decision.permitted, "{broken:?}");
            assert!(matches!(decision.rule, CaaRule::UnparsableRecord { record: 1, .. }));
            assert!(!decide_with(&[broken.to_vec()], &policy(), wildcard).permitted, "alone, {broken:?}");
        }
    }
    let decision = decide_with(&[b"\x00\x06issue".to_vec()], &policy(), PLAIN);
    assert_eq!(
        decision.rule.to_string(),
        "Forbidden: a CAA record cannot be read: the tag length is 6 but only 5 octets follow."
    );
    assert_eq!(
        decision.records[0].to_string(),
        "The record \"\\x00\\x06issue\" cannot be read: the tag length is 6 but only 5 octets follow."
    );
}

// ---------------------------------------------------------------------------------------------------
// §4.1 and §4.5: the critical flag
// ---------------------------------------------------------------------------------------------------

/// Case D31: flags, tag, permitted, the sentence.
#[test]
fn s4_5_critical_flag_d31() {
    let critical =
        |flags| format!("Forbidden: the property tbs has flags {flags}, is critical and is not processed by this CA.");
    let free = "Permitted: no record of the set has the property issue, which governs this name.".to_owned();
    let table = [
        (128, "tbs", "x", false, critical(128)),
        (0, "tbs", "x", true, free.clone()),
        (130, "tbs", "x", false, critical(130)),
        (1, "tbs", "x", false, critical(1)),
        (128, "iodef", "mailto:a@customer.example", true, free.clone()),
        (128, "issuemail", "other.example", true, free.clone()),
        (128, "issuevmc", ";", true, free),
    ];
    for (flags, tag, value, permitted, sentence) in table {
        for wildcard in [PLAIN, WILDCARD] {
            let decision = decide(&[(flags, tag, value)], wildcard);
            assert_eq!(decision.permitted, permitted, "{flags} {tag}");
            assert_eq!(decision.rule.to_string(), sentence);
        }
    }
}

#[test]
fn s4_5_flags_one_may_be_switched_to_no_effect() {
    let policy = CaaPolicy { flags_one_is_critical: false, ..policy() };
    for (flags, permitted) in [(1, true), (9, true), (127, true), (128, false), (129, false), (255, false)] {
        assert_eq!(decide_with(&[rdata(flags, "tbs", "x")], &policy, PLAIN).permitted, permitted, "{flags}");
    }
}

#[test]
fn s4_1_other_flag_bits_have_no_effect() {
    for flags in 0..=255u8 {
        let expected = flags & 0b1000_0001 == 0;
        assert_eq!(decide(&[(flags, "tbs", "x")], PLAIN).permitted, expected, "unknown, {flags}");
        assert!(decide(&[(flags, "issue", "ca.example")], PLAIN).permitted, "own issue, {flags}");
        assert!(!decide(&[(flags, "issue", "other.example")], PLAIN).permitted, "foreign issue, {flags}");
    }
}

#[test]
fn s4_5_critical_unknown_outweighs_an_authorization() {
    let decision = decide(&[(0, "issue", "ca.example"), (128, "TBS", "x")], PLAIN);
    assert_eq!(decision.rule, CaaRule::CriticalUnknown { record: 1, flags: 128, tag: "TBS".to_owned() });
    assert_eq!(decision.records[0], RecordFinding::Authorizes { issuer: "ca.example".to_owned() });
}

#[test]
fn s4_5_contact_properties_are_processed_only_where_offered() {
    let email = CaaPolicy { processes_contactemail: true, ..policy() };
    let phone = CaaPolicy { processes_contactphone: true, ..policy() };
    let table = [
        (policy(), "contactemail", false),
        (policy(), "contactphone", false),
        (email.clone(), "contactemail", true),
        (email, "contactphone", false),
        (phone.clone(), "contactemail", false),
        (phone, "contactphone", true),
    ];
    for (policy, tag, permitted) in table {
        assert_eq!(decide_with(&[rdata(128, tag, "x")], &policy, PLAIN).permitted, permitted, "{tag}");
        assert!(decide_with(&[rdata(0, tag, "x")], &policy, PLAIN).permitted, "not critical, {tag}");
    }
}

// ---------------------------------------------------------------------------------------------------
// §4.2: the grammar
// ---------------------------------------------------------------------------------------------------

#[test]
fn s4_2_ok_issue_values() {
    let long = "a".repeat(70) + ".example";
    #[rustfmt::skip]
    let table: [ValueRow<'_>; 27] = [
        ("", None, &[]),
        (" \t ", None, &[]),
        (";", None, &[]),
        (" ; ", None, &[]),
        ("\t;\t", None, &[]),
        ("; a=b", None, &[("a", "b")]),
        ("ca.example", Some("ca.example"), &[]),
        ("CA.Example", Some("CA.Example"), &[]),
        ("ca", Some("ca"), &[]),
        ("1", Some("1"), &[]),
        ("a-b.c--d.xn--x", Some("a-b.c--d.xn--x"), &[]),
        (&long, Some(&long), &[]),
        ("  ca.example\t", Some("ca.example"), &[]),
        ("ca.example;", Some("ca.example"), &[]),
        ("ca.example ; \t", Some("ca.example"), &[]),
        ("ca.example;a=b", Some("ca.example"), &[("a", "b")]),
        ("ca.example; a=b ", Some("ca.example"), &[("a", "b")]),
        ("ca.example; a = b ;\tc\t=\td", Some("ca.example"), &[("a", "b"), ("c", "d")]),
        ("ca.example; a=", Some("ca.example"), &[("a", "")]),
        ("ca.example; a= ;b=", Some("ca.example"), &[("a", ""), ("b", "")]),
        ("ca.example; a==b=", Some("ca.example"), &[("a", "=b=")]),
        ("ca.example; a=b; a=b", Some("ca.example"), &[("a", "b"), ("a", "b")]),
        ("ca.example; 230=123", Some("ca.example"), &[("230", "123")]),
        ("ca.example; a-b=c", Some("ca.example"), &[("a-b", "c")]),
        ("ca.example; A--1=c", Some("ca.example"), &[("A--1", "c")]),
        ("ca.example; a=!\"#$%&'()*+,-./:", Some("ca.example"), &[("a", "!\"#$%&'()*+,-./:")]),
        ("ca.example; a=<>?@[\\]^_`{|}~", Some("ca.example"), &[("a", "<>?@[\\]^_`{|}~")]),
    ];
    for (value, issuer, parameters) in table {
        let expected = IssueValue {
            issuer: issuer.map(str::to_owned),
            parameters: parameters.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
        };
        assert_eq!(parse_issue_value(value.as_bytes()), Ok(expected), "{value:?}");
    }
}

#[test]
fn s4_2_err_issue_values() {
    #[rustfmt::skip]
    let table: [(&[u8], usize, Fault); 40] = [
        (b"'ca.example'", 0, Fault::QuoteMark),
        (b"\"ca.example\"", 0, Fault::QuoteMark),
        (b"ca.example'", 10, Fault::QuoteMark),
        (b"`ca.example`", 0, Fault::QuoteMark),
        (b"ca.example \"", 11, Fault::QuoteMark),
        ("“ca.example”".as_bytes(), 0, Fault::TypographicQuoteMark),
        ("‘ca.example’".as_bytes(), 0, Fault::TypographicQuoteMark),
        ("„ca.example“".as_bytes(), 0, Fault::TypographicQuoteMark),
        ("«ca.example»".as_bytes(), 0, Fault::TypographicQuoteMark),
        ("ca.example”".as_bytes(), 10, Fault::TypographicQuoteMark),
        (b"\x93ca.example\x94", 0, Fault::TypographicQuoteMark),
        (b"ca.example.", 10, Fault::TrailingDot),
        (b" ca.example. ; a=b", 11, Fault::TrailingDot),
        (b".", 0, Fault::EmptyLabel),
        (b".ca.example", 0, Fault::EmptyLabel),
        (b"ca..example", 3, Fault::EmptyLabel),
        (b"ca_x.example", 2, Fault::IssuerOctet { octet: b'_' }),
        (b"*.example", 0, Fault::IssuerOctet { octet: b'*' }),
        (b"ca.example,b.example", 10, Fault::IssuerOctet { octet: b',' }),
        (b"https://ca.example", 5, Fault::IssuerOctet { octet: b':' }),
        (b"a=b", 1, Fault::IssuerOctet { octet: b'=' }),
        (b"ca.example\n", 10, Fault::IssuerOctet { octet: b'\n' }),
        (b"ca.example\0", 10, Fault::IssuerOctet { octet: 0 }),
        ("bücher.example".as_bytes(), 1, Fault::NotAscii { octet: 0xc3 }),
        (b"ca.example\xa0", 10, Fault::NotAscii { octet: 0xa0 }),
        (b"-ca.example", 0, Fault::HyphenAtEdge),
        (b"ca-.example", 2, Fault::HyphenAtEdge),
        (b"ca.-", 3, Fault::HyphenAtEdge),
        (b"ca.example b.example", 11, Fault::TextAfterIssuer),
        (b"ca.example a=b", 11, Fault::TextAfterIssuer),
        (b"ca.example; a=b;", 15, Fault::TrailingSemicolon),
        (b"ca.example; a=b ; ", 16, Fault::TrailingSemicolon),
        (b"ca.example;;", 11, Fault::EmptyParameter),
        (b"; ;", 2, Fault::EmptyParameter),
        (b"ca.example; =b", 12, Fault::EmptyParameterTag),
        (b"ca.example; a", 13, Fault::ParameterWithoutEquals),
        (b"ca.example; a b=c", 14, Fault::ParameterWithoutEquals),
        (b"ca.example; a_b=c", 13, Fault::ParameterTagOctet { octet: b'_' }),
        (b"ca.example; a=b c=d", 16, Fault::TextAfterParameter),
        (b"ca.example; a=b\x7f", 15, Fault::ParameterValueOctet { octet: 0x7f }),
    ];
    for (value, offset, fault) in table {
        assert_eq!(parse_issue_value(value), Err(IssueValueError { offset, fault }), "{}", escape(value));
    }
    let more: [(&[u8], usize, Fault); 4] = [
        (b"ca.example; -a=b", 12, Fault::HyphenAtEdge),
        (b"ca.example; a-=b", 13, Fault::HyphenAtEdge),
        (b"ca.example; a:b=c", 13, Fault::ParameterTagOctet { octet: b':' }),
        ("ca.example; a=ü".as_bytes(), 14, Fault::NotAscii { octet: 0xc3 }),
    ];
    for (value, offset, fault) in more {
        assert_eq!(parse_issue_value(value), Err(IssueValueError { offset, fault }), "{}", escape(value));
    }
}

#[test]
fn s4_2_each_octet_where_it_may_stand() {
    for octet in 0..=255u8 {
        let alnum = octet.is_ascii_alphanumeric();
        let blank = octet == b' ' || octet == b'\t';
        let accepts = |before: &[u8], after: &[u8]| parse_issue_value(&[before, &[octet], after].concat()).is_ok();
        assert_eq!(accepts(b"", b""), alnum || blank || octet == b';', "alone: {octet}");
        assert_eq!(accepts(b"a", b"b"), alnum || octet == b'-' || octet == b'.', "in an issuer: {octet}");
        assert_eq!(accepts(b"a;b", b"c=d"), alnum || octet == b'-' || octet == b'=', "in a tag: {octet}");
        let value = (0x21..=0x3a).contains(&octet) || (0x3c..=0x7e).contains(&octet);
        assert_eq!(accepts(b"a;b=c", b"d"), value, "in a value: {octet}");
    }
}

/// A set of places in a text, as a bit mask. Each function maps where a part may begin to where it may end,
/// following all alternatives at once.
type Places = u64;

fn one(text: &[u8], from: Places, accepts: impl Fn(u8) -> bool) -> Places {
    (0..text.len()).filter(|&i| from >> i & 1 == 1 && accepts(text[i])).fold(0, |to, i| to | 1 << (i + 1))
}

fn many(mut from: Places, step: impl Fn(Places) -> Places) -> Places {
    loop {
        let next = from | step(from);
        if next == from {
            return from;
        }
        from = next;
    }
}

fn naive_wsp(text: &[u8], from: Places) -> Places {
    many(from, |p| one(text, p, |c| c == 0x20 || c == 0x09))
}

fn naive_alnum(text: &[u8], from: Places) -> Places {
    one(text, from, |c| matches!(c, 0x30..=0x39 | 0x41..=0x5a | 0x61..=0x7a))
}

/// `(ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))`
fn naive_word(text: &[u8], from: Places) -> Places {
    let hyphens = |p| many(p, |p| one(text, p, |c| c == 0x2d));
    many(naive_alnum(text, from), |p| naive_alnum(text, hyphens(p)))
}

/// `tag *WSP "=" *WSP value`
fn naive_parameter(text: &[u8], from: Places) -> Places {
    let equals = one(text, naive_wsp(text, naive_word(text, from)), |c| c == 0x3d);
    many(naive_wsp(text, equals), |p| one(text, p, |c| matches!(c, 0x21..=0x3a | 0x3c..=0x7e)))
}

/// `*WSP [issuer *WSP] [";" *WSP [parameters *WSP]]`
fn naive_accepts(text: &[u8]) -> bool {
    assert!(text.len() < 63);
    let semicolon = |p| one(text, p, |c| c == 0x3b);
    let start = naive_wsp(text, 1);
    let issuer = many(naive_word(text, start), |p| naive_word(text, one(text, p, |c| c == 0x2e)));
    let head = start | naive_wsp(text, issuer);
    let tail = naive_wsp(text, semicolon(head));
    let parameters =
        many(naive_parameter(text, tail), |p| naive_parameter(text, naive_wsp(text, semicolon(naive_wsp(text, p)))));
    (head | tail | naive_wsp(text, parameters)) >> text.len() & 1 == 1
}

/// What was parsed, written without blanks.
fn composed(value: &IssueValue) -> String {
    let mut text = value.issuer.clone().unwrap_or_default();
    for (tag, value) in &value.parameters {
        text.push_str(&format!(";{tag}={value}"));
    }
    text
}

/// Whether both accept `text`; fails if they differ.
fn accepted_by_both(text: &[u8]) -> bool {
    let parsed = parse_issue_value(text);
    let accepted = naive_accepts(text);
    assert_eq!(parsed.is_ok(), accepted, "{}: {parsed:?}", escape(text));
    match parsed {
        Ok(value) => {
            let bare: String = text.iter().filter(|c| !matches!(c, b' ' | b'\t')).map(|c| char::from(*c)).collect();
            let composed = composed(&value);
            assert!(bare == composed || bare == composed.clone() + ";", "{bare:?} {composed:?}");
        }
        Err(error) => assert!(error.offset <= text.len(), "{error}"),
    }
    accepted
}

#[test]
fn s4_2_grammar_agrees_with_a_naive_recogniser_on_all_short_values() {
    const ALPHABET: &[u8] = b"aA1-.;= \t_";
    let mut accepted = 0;
    for length in 0..=6u32 {
        for number in 0..10usize.pow(length) {
            let mut text = [0; 6];
            let mut rest = number;
            for octet in &mut text[..length as usize] {
                *octet = ALPHABET[rest % 10];
                rest /= 10;
            }
            let text = &text[..length as usize];
            accepted += u32::from(accepted_by_both(text));
        }
    }
    assert!(accepted > 10_000, "{accepted} values are in the grammar");
}

// ---------------------------------------------------------------------------------------------------
// §4.2 and §4.3: which records count
// ---------------------------------------------------------------------------------------------------

#[test]
fn s4_2_ok_sets_that_permit() {
    #[rustfmt::skip]
    let table: [(&str, &[Row<'_>], bool); 17] = [
        ("own issuer", &[(0, "issue", "ca.example")], PLAIN),
        ("own issuer, the other of two", &[(0, "issue", "ca2.example")], PLAIN),
        ("own issuer in capitals", &[(0, "issue", "CA.EXAMPLE")], PLAIN),
        ("tag in capitals", &[(0, "ISSUE", "ca.example")], PLAIN),
        ("blanks around", &[(0, "issue", " \tca.example ; ")], PLAIN),
        ("unknown parameter", &[(0, "issue", "ca.example; policy=ev")], PLAIN),
        ("unknown parameter twice", &[(0, "issue", "ca.example; a=1; a=2")], PLAIN),
        ("unknown parameter, empty", &[(0, "issue", "ca.example; a=")], PLAIN),
        ("own beside another", &[(0, "issue", "other.example"), (0, "issue", "ca.example")], PLAIN),
        ("own beside ;", &[(0, "issue", ";"), (0, "issue", "ca.example")], PLAIN),
        ("own beside a malformed value", &[(0, "issue", "ca.example;;"), (0, "issue", "ca.example")], PLAIN),
        ("iodef only", &[(0, "iodef", "mailto:a@b.example")], PLAIN),
        ("iodef only, wildcard", &[(0, "iodef", "mailto:a@b.example")], WILDCARD),
        ("unknown only", &[(0, "tbs", "x"), (2, "auth", "x"), (0x7e, "path", "x")], PLAIN),
        ("issuewild only, plain name", &[(0, "issuewild", "other.example")], PLAIN),
        ("wildcard, issue only", &[(0, "issue", "ca.example")], WILDCARD),
        ("two flagged issue, one ours", &[(1, "issue", "other.example"), (1, "issue", "ca.example")], PLAIN),
    ];
    for (name, records, wildcard) in table {
        let decision = decide(records, wildcard);
        assert!(decision.permitted, "{name}: {}", decision.rule);
    }
}

#[test]
fn s4_2_err_sets_that_forbid() {
    #[rustfmt::skip]
    let table: [(&str, &[Row<'_>], bool); 24] = [
        ("; alone", &[(0, "issue", ";")], PLAIN),
        ("empty value", &[(0, "issue", "")], PLAIN),
        ("blanks only", &[(0, "issue", " \t")], PLAIN),
        ("; alone, wildcard", &[(0, "issue", ";")], WILDCARD),
        ("parameters without issuer", &[(0, "issue", "; a=b")], PLAIN),
        ("foreign issuer", &[(0, "issue", "other.example")], PLAIN),
        ("foreign issuer, tag in capitals", &[(0, "ISSUE", "other.example")], PLAIN),
        ("foreign issuer, tag mixed", &[(0, "iSsUe", "other.example")], PLAIN),
        ("foreign issuer, wildcard by issue", &[(0, "issue", "other.example")], WILDCARD),
        ("foreign issuer, wildcard by issuewild", &[(0, "issuewild", "other.example")], WILDCARD),
        ("own name as a suffix", &[(0, "issue", "www.ca.example")], PLAIN),
        ("own name as a prefix", &[(0, "issue", "ca.example.net")], PLAIN),
        ("own name as a substring", &[(0, "issue", "my-ca.example")], PLAIN),
        ("parent of own name", &[(0, "issue", "example")], PLAIN),
        ("two issuers in one value", &[(0, "issue", "ca.example other.example")], PLAIN),
        ("two issuers with a comma", &[(0, "issue", "ca.example,other.example")], PLAIN),
        ("own name as a parameter", &[(0, "issue", "other.example; ca=ca.example")], PLAIN),
        ("trailing ; after a parameter", &[(0, "issue", "ca.example; a=b;")], PLAIN),
        ("parameter without =", &[(0, "issue", "ca.example; ev")], PLAIN),
        ("U-label", &[(0, "issue", "cä.example")], PLAIN),
        ("underscore", &[(0, "issue", "_ca.example")], PLAIN),
        ("markup", &[(0, "issue", "<script>alert(1)</script>")], PLAIN),
        ("issuemail does not authorize TLS", &[(0, "issue", ";"), (0, "issuemail", "ca.example")], PLAIN),
        ("malformed issuewild governs too", &[(0, "issue", "ca.example"), (0, "issuewild", "ca.example.")], WILDCARD),
    ];
    for (name, records, wildcard) in table {
        let decision = decide(records, wildcard);
        assert!(!decision.permitted, "{name}: {}", decision.rule);
        assert!(matches!(decision.rule, CaaRule::NotAuthorized { .. }), "{name}: {}", decision.rule);
    }
}

#[test]
fn s4_2_an_empty_set_is_never_permission() {
    assert_eq!(authorize(&[], &policy(), &context(PLAIN)).rule, CaaRule::EmptySet);
    assert!(!authorize(&[], &policy(), &context(PLAIN)).permitted);
}

#[test]
fn s4_2_a_ca_without_issuer_domains_is_never_authorized() {
    for value in ["ca.example", "", ";"] {
        assert!(!decide_with(&[rdata(0, "issue", value)], &CaaPolicy::default(), PLAIN).permitted);
    }
    let odd = CaaPolicy { issuer_domains: vec![String::new()], ..CaaPolicy::default() };
    assert!(!decide_with(&[rdata(0, "issue", ";")], &odd, PLAIN).permitted);
}

#[test]
fn s4_2_1001_records_are_all_considered() {
    let mut records = vec![rdata(0, "tbs", "x"); 1000];
    records.push(rdata(0, "issue", "other.example"));
    assert!(!decide_with(&records, &policy(), PLAIN).permitted);
    records[1000] = rdata(0, "issue", "ca.example");
    assert!(decide_with(&records, &policy(), PLAIN).permitted);
    let foreign: Vec<_> = (0..1001).map(|i| rdata(0, "issue", format!("ca{i}.other.example"))).collect();
    let rule = decide_with(&foreign, &policy(), PLAIN).rule;
    let CaaRule::NotAuthorized { other_issuers, more_issuers, .. } = &rule else { panic!() };
    assert_eq!((other_issuers.len(), other_issuers.len() + more_issuers), (8, 1001), "the text stays bounded");
    assert!(rule.to_string().ends_with(" and 993 more."), "{rule}");
}

#[test]
fn s4_2_inherited_set_d28() {
    let decision = decide(&[(0, "issue", "Other.example")], PLAIN);
    assert_eq!(decision.rule.to_string(), "Forbidden: issue governs this name and names only other.example.");
    assert_eq!(decision.records[0].to_string(), "Other.example is not this CA.");
}

/// Case D30: quotation marks and the final dot are shown, never removed.
#[test]
fn s4_2_quotation_marks_inside_the_value_d30() {
    #[rustfmt::skip]
    let table = [
        ("'ca.example'", "The value \"'ca.example'\" is malformed and authorizes nobody: octet 0: a quotation mark is part of the value; enter the value without it."),
        ("\"ca.example\"", "The value \"\\x22ca.example\\x22\" is malformed and authorizes nobody: octet 0: a quotation mark is part of the value; enter the value without it."),
        ("“ca.example”", "The value \"\\xe2\\x80\\x9cca.example\\xe2\\x80\\x9d\" is malformed and authorizes nobody: octet 0: a typographic quotation mark is part of the value; enter the value without it."),
        ("’ca.example’", "The value \"\\xe2\\x80\\x99ca.example\\xe2\\x80\\x99\" is malformed and authorizes nobody: octet 0: a typographic quotation mark is part of the value; enter the value without it."),
        ("ca.example.", "The value \"ca.example.\" is malformed and authorizes nobody: octet 10: the issuer domain name must not end with a dot."),
    ];
    for (value, sentence) in table {
        let decision = decide(&[(0, "issue", value)], PLAIN);
        assert!(!decision.permitted, "{value}");
        assert_eq!(decision.records[0].to_string(), sentence);
        assert_eq!(decision.rule.to_string(), "Forbidden: issue governs this name and names no CA.");
    }
}

/// Case D32: the records, then whether the plain name and the wildcard are permitted.
#[test]
fn s4_3_wildcard_rules_d32() {
    #[rustfmt::skip]
    let table: [(&[Row<'_>], bool, bool); 9] = [
        (&[(0, "issue", "ca.example"), (0, "issuewild", ";")], true, false),
        (&[(0, "issuewild", "ca.example")], true, true),
        (&[(0, "issue", ";"), (0, "issuewild", "ca.example")], false, true),
        (&[(0, "issuewild", ";")], true, false),
        (&[(0, "issuewild", "other.example")], true, false),
        (&[(0, "issue", "ca.example"), (0, "issuewild", "other.example")], true, false),
        (&[(0, "issue", "other.example"), (0, "issuewild", "ca.example")], false, true),
        (&[(0, "issuewild", "other.example"), (0, "IssueWild", "ca.example")], true, true),
        (&[(0, "issue", "ca.example"), (0, "issuewild", "'")], true, false),
    ];
    for (records, plain, wildcard) in table {
        assert_eq!(decide(records, PLAIN).permitted, plain, "{records:?}");
        assert_eq!(decide(records, WILDCARD).permitted, wildcard, "{records:?}");
    }
    let decision = decide(table[0].0, WILDCARD);
    assert_eq!(decision.rule.to_string(), "Forbidden: issuewild governs this name and names no CA.");
    let expected = [
        RecordFinding::IssueIgnored { value: "ca.example".to_owned() },
        RecordFinding::NoIssuer { value: ";".to_owned() },
    ];
    assert_eq!(decision.records, expected);
}

#[test]
fn s4_3_issuewild_is_ignored_for_plain_names() {
    let decision = decide(&[(0, "issuewild", ";")], PLAIN);
    assert_eq!(decision.rule, CaaRule::NoRestrictingProperty { property: GoverningProperty::Issue });
    assert_eq!(decision.records[0].to_string(), "issuewild \";\" is ignored: it governs wildcards only.");
    let decision = decide(&[(0, "issue", "other.example"), (0, "issuewild", "ca.example")], PLAIN);
    assert!(!decision.permitted, "an own issuewild does not help a plain name");
}

#[test]
fn s4_3_issue_is_ignored_for_wildcards_beside_issuewild() {
    let decision = decide(&[(0, "issue", "ca.example"), (0, "issuewild", "other.example")], WILDCARD);
    assert_eq!(
        decision.records[0].to_string(),
        "issue \"ca.example\" is ignored: issuewild is present and governs wildcards."
    );
    assert_eq!(decision.rule.to_string(), "Forbidden: issuewild governs this name and names only other.example.");
}

/// RFC 9495 §3 and §4: issuemail is for mailboxes; it is understood and has no bearing on TLS.
#[test]
fn s4_4_iodef_issuemail_and_issuevmc_have_no_bearing() {
    for tag in ["iodef", "issuemail", "issuevmc", "IODEF"] {
        for (flags, value) in [(0, ";"), (128, "other.example"), (255, "\u{fffd}"), (1, "")] {
            let decision = decide(&[(flags, tag, value)], PLAIN);
            assert!(decision.permitted);
            assert_eq!(decision.records, [RecordFinding::Irrelevant { tag: tag.to_owned() }]);
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Text from the network
// ---------------------------------------------------------------------------------------------------

#[test]
fn texts_from_the_network_are_inert_and_bounded() {
    let value = "<img src=x onerror=\"a&b\">\r\n\u{1b}[31m\\".repeat(500);
    let decision =
        decide(&[(0, "issue", &value), (0, "issuewild", &value), (0, "issue", "ca.example;accounturi=<b>")], PLAIN);
    for finding in &decision.records {
        let json = serde_json::to_string(finding).unwrap();
        let shown = finding.to_string();
        assert!(shown.chars().all(|c| matches!(c, ' '..='~' | '…') && !matches!(c, '<' | '>' | '&')), "{shown}");
        assert!(!json.contains(['<', '>', '&']), "{json}");
        assert!(shown.len() < 4 * SHOWN_OCTETS_MAX + 300, "{}", shown.len());
    }
    assert_eq!(escape(b"a<\\\"\x7f\xff ~"), "a\\x3c\\x5c\\x22\\x7f\\xff ~");
    assert_eq!(escape(&[b'a'; 201]), "a".repeat(200) + "…");
    assert_eq!(escape(&[b'a'; 200]), "a".repeat(200));
}

#[test]
fn a_decision_survives_its_written_form() {
    let records = [
        rdata(0, "issue", "ca.example"),
        rdata(0, "issue", "'x"),
        rdata(0, "issue", "ca.example; accounturi=u:v; validationmethods=x"),
        rdata(128, "tbs", "x"),
        rdata(0, "issuewild", ";"),
        b"\x00\x09x".to_vec(),
    ];
    for end in 1..=records.len() {
        for wildcard in [PLAIN, WILDCARD] {
            let decision = decide_with(&records[..end], &policy(), wildcard);
            let json = serde_json::to_string(&decision).unwrap();
            assert_eq!(serde_json::from_str::<CaaDecision>(&json).unwrap(), decision, "{json}");
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Properties
// ---------------------------------------------------------------------------------------------------

fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop::sample::select(vec![0u8, 1, 2, 128, 130]);
    let tag =
        prop::sample::select(vec!["issue", "issue", "ISSUE", "issuewild", "issuewild", "iodef", "tbs", "issuemail"]);
    let value = prop::sample::select(vec![
        "ca.example",
        "CA.example ;",
        "other.example",
        ";",
        "",
        "ca.example.",
        "ca.example; accounturi=https://ca.example/acct/7",
        "ca.example; accounturi=https://ca.example/acct/8",
        "ca.example; validationmethods=dns-01",
        "ca.example; validationmethods=ca-tbr-19",
    ]);
    prop_oneof![
        20 => (flags, tag, value).prop_map(|(flags, tag, value)| rdata(flags, tag, value)),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #[test]
    fn s4_2_grammar_agrees_with_a_naive_recogniser(text in "[aZ1\\-.;= \t_\"ü]{0,28}") {
        accepted_by_both(text.as_bytes());
    }

    #[test]
    fn s4_2_grammar_agrees_with_a_naive_recogniser_near_the_grammar(
        text in "[ \t]{0,2}([a1](-?[b.]){0,3}[ ]?)?(;[ ]?(a(-b)?[ ]?=[ ]?[c=,]{0,2}[ ]?;?){0,3})?",
    ) {
        accepted_by_both(text.as_bytes());
    }

    #[test]
    fn any_octets_are_judged_without_panic(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5),
        wildcard: bool,
    ) {
        let decision = decide_with(&records, &policy(), wildcard);
        for finding in &decision.records {
            prop_assert!(!finding.to_string().is_empty());
        }
    }

    #[test]
    fn s4_5_adding_a_critical_unknown_record_always_forbids(
        mut records in prop::collection::vec(any_record(), 0..6),
        at: prop::sample::Index,
        wildcard: bool,
    ) {
        let at = at.index(records.len() + 1);
        records.insert(at, rdata(128, "tbs", "x"));
        prop_assert!(!decide_with(&records, &policy(), wildcard).permitted);
    }

    #[test]
    fn s4_2_the_order_of_records_never_changes_the_decision(
        (records, shuffled) in prop::collection::vec(any_record(), 1..6)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        wildcard: bool,
    ) {
        let one = decide_with(&records, &policy(), wildcard);
        let other = decide_with(&shuffled, &policy(), wildcard);
        prop_assert_eq!(one.permitted, other.permitted);
        prop_assert_eq!(std::mem::discriminant(&one.rule), std::mem::discriminant(&other.rule));
        if let CaaRule::NotAuthorized { .. } = one.rule {
            prop_assert_eq!(one.rule, other.rule);
        }
    }
}
