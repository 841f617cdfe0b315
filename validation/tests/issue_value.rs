//! The grammar of RFC 8659 §4.2 a third time: its ABNF, word for word, is compiled to a nondeterministic
//! automaton, which reads values beside the parser; and sentences are derived from the same ABNF at random
//! (req C11, C12).
//!
//! Both the verdict and what was read, the issuer and the parameters, must agree.

use std::collections::{BTreeMap, HashMap};

use parallax_validation::check::caa::property::{IssueValue, IssueValueFault as Fault, parse_issue_value};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};

/// RFC 8659 §4.2, with the core rules of RFC 5234 App. B.1 that it uses.
const ABNF: &str = r#"
    issue-value = *WSP [issuer-domain-name *WSP] [";" *WSP [parameters *WSP]]
    issuer-domain-name = label *("." label)
    label = (ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))
    parameters = (parameter *WSP ";" *WSP parameters) / parameter
    parameter = tag *WSP "=" *WSP value
    tag = (ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))
    value = *(%x21-3A / %x3C-7E)
    ALPHA = %x41-5A / %x61-7A
    DIGIT = %x30-39
    WSP = SP / HTAB
    SP = %x20
    HTAB = %x09
"#;

// ---- ABNF --------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Octets(u8, u8),
    Rule(String),
    All(Vec<Expression>),
    OneOf(Vec<Expression>),
    AnyNumber(Box<Expression>),
    Optional(Box<Expression>),
}

type Grammar = BTreeMap<String, Expression>;

fn grammar() -> Grammar {
    let rules = ABNF.lines().map(str::trim).filter(|line| !line.is_empty());
    rules
        .map(|line| {
            let (name, definition) = line.split_once(" = ").expect("a rule");
            let mut rest = definition.trim();
            let expression = alternation(&mut rest);
            assert_eq!(rest, "", "all of {line} is read");
            (name.to_owned(), expression)
        })
        .collect()
}

fn alternation(rest: &mut &str) -> Expression {
    let mut choices = vec![concatenation(rest)];
    while let Some(after) = rest.strip_prefix('/') {
        *rest = after.trim_start();
        choices.push(concatenation(rest));
    }
    if choices.len() == 1 { choices.remove(0) } else { Expression::OneOf(choices) }
}

fn concatenation(rest: &mut &str) -> Expression {
    let mut parts = Vec::new();
    while !rest.is_empty() && !rest.starts_with(['/', ')', ']']) {
        parts.push(element(rest));
        *rest = rest.trim_start();
    }
    Expression::All(parts)
}

fn element(rest: &mut &str) -> Expression {
    let enclosed = |rest: &mut &str, close: char| {
        *rest = rest[1..].trim_start();
        let inner = alternation(rest);
        *rest = rest.strip_prefix(close).expect("the bracket closes");
        inner
    };
    match rest.as_bytes()[0] {
        b'*' => {
            *rest = &rest[1..];
            Expression::AnyNumber(Box::new(element(rest)))
        }
        b'(' => enclosed(rest, ')'),
        b'[' => Expression::Optional(Box::new(enclosed(rest, ']'))),
        b'"' => {
            let (literal, after) = rest[1..].split_once('"').expect("the literal closes");
            *rest = after;
            // None of the literals is a letter, so that case plays no part.
            let [octet] = literal.as_bytes() else { panic!("{literal} is one octet") };
            Expression::Octets(*octet, *octet)
        }
        b'%' => {
            let digits = rest[2..].find(|c: char| !c.is_ascii_hexdigit() && c != '-').map_or(rest.len(), |at| at + 2);
            let (range, after) = rest.split_at(digits);
            *rest = after;
            let hex = |text: &str| u8::from_str_radix(text, 16).expect("hexadecimal digits");
            let (low, high) = range[2..].split_once('-').unwrap_or((&range[2..], &range[2..]));
            Expression::Octets(hex(low), hex(high))
        }
        _ => {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic() && c != '-').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            *rest = after;
            assert!(!name.is_empty(), "a rule's name");
            Expression::Rule(name.to_owned())
        }
    }
}

// ---- The automaton -----------------------------------------------------------------------------------

/// Rules whose text is kept.
const KEPT: [&str; 3] = ["issuer-domain-name", "tag", "value"];

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not made yet.
    Open,
    Accept,
    Octets(u8, u8, usize),
    /// Any of two ways, without an octet.
    Fork(usize, usize),
    /// The text of a kept rule begins or ends here.
    Edge(usize),
}

struct Automaton {
    states: Vec<State>,
    start: usize,
}

/// A way through the automaton: where it is, and the edges of kept rules that it passed.
type Way = (usize, Vec<usize>);

impl Automaton {
    fn new(grammar: &Grammar) -> Self {
        let mut automaton = Self { states: vec![State::Accept], start: 0 };
        // A rule that ends in itself, as `parameters` does, becomes a loop: same rule, same continuation.
        automaton.start = automaton.rule("issue-value", 0, grammar, &mut HashMap::new());
        automaton
    }

    fn add(&mut self, state: State) -> usize {
        self.states.push(state);
        self.states.len() - 1
    }

    fn rule(&mut self, name: &str, next: usize, of: &Grammar, made: &mut HashMap<(String, usize), usize>) -> usize {
        if let Some(&start) = made.get(&(name.to_owned(), next)) {
            return start;
        }
        let start = self.add(State::Open);
        made.insert((name.to_owned(), next), start);
        let kept = KEPT.contains(&name);
        let after = if kept { self.add(State::Edge(next)) } else { next };
        let body = self.expression(&of[name], after, of, made);
        self.states[start] = if kept { State::Edge(body) } else { State::Fork(body, body) };
        start
    }

    fn expression(
        &mut self,
        expression: &Expression,
        next: usize,
        of: &Grammar,
        made: &mut HashMap<(String, usize), usize>,
    ) -> usize {
        match expression {
            Expression::Octets(low, high) => self.add(State::Octets(*low, *high, next)),
            Expression::Rule(name) => self.rule(name, next, of, made),
            Expression::All(parts) => parts.iter().rev().fold(next, |next, part| self.expression(part, next, of, made)),
            Expression::OneOf(choices) => {
                let starts: Vec<usize> = choices.iter().map(|choice| self.expression(choice, next, of, made)).collect();
                starts.into_iter().reduce(|one, other| self.add(State::Fork(one, other))).expect("a choice")
            }
            Expression::AnyNumber(body) => {
                let fork = self.add(State::Open);
                let body = self.expression(body, fork, of, made);
                self.states[fork] = State::Fork(body, next);
                fork
            }
            Expression::Optional(body) => {
                let body = self.expression(body, next, of, made);
                self.add(State::Fork(body, next))
            }
        }
    }

    /// Adds what can be reached from `way` without an octet.
    fn spread(&self, way: Way, at: usize, ways: &mut Vec<Way>, seen: &mut [bool]) {
        let (state, edges) = way;
        if std::mem::replace(&mut seen[state], true) {
            return;
        }
        match self.states[state] {
            State::Open => unreachable!("every state is made"),
            State::Accept | State::Octets(..) => ways.push((state, edges)),
            State::Fork(one, other) => {
                self.spread((one, edges.clone()), at, ways, seen);
                self.spread((other, edges), at, ways, seen);
            }
            State::Edge(next) => self.spread((next, [edges, vec![at]].concat()), at, ways, seen),
        }
    }

    /// What is read of `text`; none if it is not in the grammar.
    fn read(&self, text: &[u8]) -> Option<IssueValue> {
        let mut ways = Vec::new();
        self.spread((self.start, Vec::new()), 0, &mut ways, &mut vec![false; self.states.len()]);
        for (at, octet) in text.iter().enumerate() {
            let mut next_ways = Vec::new();
            let mut seen = vec![false; self.states.len()];
            for (state, edges) in ways {
                if let State::Octets(low, high, next) = self.states[state]
                    && (low..=high).contains(octet)
                {
                    self.spread((next, edges), at + 1, &mut next_ways, &mut seen);
                }
            }
            ways = next_ways;
        }
        let (_, edges) = ways.into_iter().find(|(state, _)| matches!(self.states[*state], State::Accept))?;
        let mut texts: Vec<String> = edges
            .chunks_exact(2)
            .map(|edge| String::from_utf8(text[edge[0]..edge[1]].to_vec()).expect("the grammar is ASCII"))
            .collect();
        // An issuer comes alone and first, parameters in pairs.
        let issuer = (texts.len() % 2 == 1).then(|| texts.remove(0));
        let parameters = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Some(IssueValue { issuer, parameters })
    }
}

thread_local! {
    static GRAMMAR: Grammar = grammar();
    static AUTOMATON: Automaton = Automaton::new(&grammar());
}

/// Parser and automaton agree; whether they accept.
fn agreed(text: &[u8]) -> bool {
    let parsed = parse_issue_value(text);
    let read = AUTOMATON.with(|automaton| automaton.read(text));
    let shown = text.escape_ascii();
    match (&parsed, &read) {
        (Ok(parsed), Some(read)) => assert_eq!(parsed, read, "\"{shown}\" is read differently"),
        (Ok(parsed), None) => panic!("\"{shown}\" is not in the grammar, and the parser makes of it {parsed:?}"),
        (Err(error), Some(read)) => panic!("\"{shown}\" is in the grammar as {read:?}, and the parser says {error}"),
        (Err(error), None) => assert!(error.offset <= text.len(), "\"{shown}\": {error}"),
    }
    read.is_some()
}

// ---- Sentences ---------------------------------------------------------------------------------------

/// Derives a sentence of the grammar: each octet of the tape makes one choice, and at its end the shortest way
/// is taken. Kept rules are noted with their text.
struct Deriver<'a> {
    grammar: &'a Grammar,
    tape: std::slice::Iter<'a, u8>,
    text: Vec<u8>,
    kept: Vec<(String, Vec<u8>)>,
}

impl Deriver<'_> {
    fn choose(&mut self) -> u8 {
        self.tape.next().copied().unwrap_or(0)
    }

    fn derive(&mut self, expression: &Expression) {
        match expression {
            Expression::Octets(low, high) => {
                let choices = u16::from(high - low) + 1;
                let choice = u16::from(self.choose()) % choices;
                self.text.push(low + choice as u8);
            }
            Expression::Rule(name) => {
                let start = self.text.len();
                let grammar = self.grammar;
                self.derive(&grammar[name.as_str()]);
                if KEPT.contains(&name.as_str()) {
                    self.kept.push((name.clone(), self.text[start..].to_vec()));
                }
            }
            Expression::All(parts) => parts.iter().for_each(|part| self.derive(part)),
            Expression::OneOf(choices) => {
                // 0 stands for the last choice, which ends a rule that refers to itself.
                let choice = usize::from(self.choose()) % choices.len();
                self.derive(&choices[choices.len() - 1 - choice]);
            }
            Expression::AnyNumber(body) => {
                while self.choose() % 8 > 2 {
                    self.derive(body);
                }
            }
            Expression::Optional(body) => {
                if self.choose() > 63 {
                    self.derive(body);
                }
            }
        }
    }
}

/// A sentence and what is to be read of it.
fn sentence(tape: &[u8]) -> (Vec<u8>, IssueValue) {
    GRAMMAR.with(|grammar| {
        let mut deriver = Deriver { grammar, tape: tape.iter(), text: Vec::new(), kept: Vec::new() };
        deriver.derive(&Expression::Rule("issue-value".to_owned()));
        let texts = |name: &str| -> Vec<String> {
            let of_rule = deriver.kept.iter().filter(|(rule, _)| rule == name);
            of_rule.map(|(_, text)| String::from_utf8(text.clone()).expect("the grammar is ASCII")).collect()
        };
        let parameters = texts("tag").into_iter().zip(texts("value")).collect();
        let expected = IssueValue { issuer: texts("issuer-domain-name").pop(), parameters };
        (deriver.text, expected)
    })
}

fn tape() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..160)
}

fn sentences() -> impl Strategy<Value = Vec<u8>> {
    tape().prop_map(|tape| sentence(&tape).0)
}

/// Octets at which rules begin and end, and octets that no rule has.
const EDGES: &[u8] = b"  \t\t;;;==..--aZ09!:<~_\"'\\/\n\r\0\x0b\x0c\x7f\x80\xa0\xc3\xff";

#[derive(Clone, Debug)]
enum Change {
    Put(Index, u8),
    Take(Index),
    Replace(Index, u8),
    Double(Index),
    Swap(Index),
    Append(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<Index>(), select(EDGES)).prop_map(|(at, octet)| Change::Put(at, octet)),
        2 => any::<Index>().prop_map(Change::Take),
        3 => (any::<Index>(), select(EDGES)).prop_map(|(at, octet)| Change::Replace(at, octet)),
        2 => any::<Index>().prop_map(Change::Double),
        1 => any::<Index>().prop_map(Change::Swap),
        2 => select(EDGES).prop_map(Change::Append),
    ]
}

fn changed(mut text: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let length = text.len();
        match change {
            Change::Put(at, octet) => text.insert(at.index(length + 1), *octet),
            Change::Append(octet) => text.push(*octet),
            _ if text.is_empty() => {}
            Change::Take(at) => drop(text.remove(at.index(length))),
            Change::Replace(at, octet) => text[at.index(length)] = *octet,
            Change::Double(at) => text.insert(at.index(length), text[at.index(length)]),
            Change::Swap(at) => text.swap(at.index(length), length - 1),
        }
    }
    text
}

fn mutants() -> impl Strategy<Value = Vec<u8>> {
    (sentences(), vec(change(), 1..4)).prop_map(|(text, changes)| changed(text, &changes))
}

fn dense() -> impl Strategy<Value = Vec<u8>> {
    vec(select(EDGES), 0..14)
}

fn raw() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn settings() -> ProptestConfig {
    // 2048 cases, or eight times as many as PROPTEST_CASES says.
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.saturating_mul(8), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn s4_2_what_the_abnf_derives_is_accepted_and_read_right(tape in tape()) {
        let (text, expected) = sentence(&tape);
        prop_assert_eq!(parse_issue_value(&text), Ok(expected), "\"{}\"", text.escape_ascii());
        prop_assert!(agreed(&text));
    }

    #[test]
    fn s4_2_parser_and_abnf_agree_near_the_grammar(text in mutants()) {
        agreed(&text);
    }

    #[test]
    fn s4_2_parser_and_abnf_agree_on_octets_that_matter(text in dense()) {
        agreed(&text);
    }

    #[test]
    fn s4_2_parser_and_abnf_agree_on_raw_octets(text in raw()) {
        agreed(&text);
    }
}

/// How many of 2000 values are in the grammar.
fn accepted(values: &impl Strategy<Value = Vec<u8>>) -> usize {
    let mut runner = TestRunner::deterministic();
    (0..2000).filter(|_| agreed(&values.new_tree(&mut runner).expect("a value").current())).count()
}

#[test]
fn the_values_tried_lie_on_both_sides_of_the_grammar() {
    assert_eq!(accepted(&sentences()), 2000);
    for (name, accepted, least) in
        [("mutants", accepted(&mutants()), 400), ("dense", accepted(&dense()), 100), ("raw", accepted(&raw()), 20)]
    {
        assert!((least..=1600).contains(&accepted), "{accepted} of 2000 {name} are in the grammar");
    }
    // And those in it are not all small.
    let mut runner = TestRunner::deterministic();
    let large = (0..2000).filter(|_| {
        let value = tape().new_tree(&mut runner).expect("a tape").current();
        let (_, value) = sentence(&value);
        value.issuer.is_some_and(|issuer| issuer.contains('.')) && value.parameters.len() > 1
    });
    let large = large.count();
    assert!(large > 100, "{large} of 2000 sentences have an issuer of several labels and several parameters");
}

/// All values of up to five octets over an alphabet with one octet of each kind.
#[test]
fn s4_2_parser_and_abnf_agree_on_all_short_values() {
    const KINDS: &[u8] = b"a.-; =!\x80";
    let mut accepted = 0;
    for length in 0..=5u32 {
        for number in 0..(KINDS.len() as u32).pow(length) {
            let digit = |place| (number / (KINDS.len() as u32).pow(place)) as usize % KINDS.len();
            let text: Vec<u8> = (0..length).map(|place| KINDS[digit(place)]).collect();
            accepted += u32::from(agreed(&text));
        }
    }
    assert!(accepted > 200, "{accepted}");
}

/// Every octet at every place where the grammar makes a difference.
#[test]
fn s4_2_parser_and_abnf_agree_on_each_octet_at_each_place() {
    for (before, after) in [
        ("", ""),
        ("", "ca.example"),
        ("ca", ".example"),
        ("ca.", "example"),
        ("ca.example", ""),
        ("ca.example ", ""),
        ("ca.example;", "a=b"),
        ("ca.example; a", "=b"),
        ("ca.example; a", "c=b"),
        ("ca.example; a=", "b"),
        ("ca.example; a=b", "c"),
        ("ca.example; a=b", ""),
        ("ca.example; a=b ", ""),
        ("ca.example; a=b;", "c=d"),
        ("ca.example; a=b;", ""),
        (";", ""),
    ] {
        for octet in 0..=255u8 {
            agreed(&[before.as_bytes(), &[octet], after.as_bytes()].concat());
        }
    }
}

/// The values of the records in RFC 8659 §4.2 and §4.3 and RFC 8657 §5, and those of req C12.
#[test]
fn s4_2_examples_of_the_documents() {
    type Row<'a> = (&'a str, Result<(Option<&'a str>, &'a [(&'a str, &'a str)]), Fault>);
    let not_ascii = Fault::NotAscii { octet: 0xc3 };
    let uri = "https://example.net/account/1234";
    #[rustfmt::skip]
    let table: [Row<'_>; 25] = [
        // RFC 8659.
        ("ca1.example.net", Ok((Some("ca1.example.net"), &[]))),
        ("ca2.example.org", Ok((Some("ca2.example.org"), &[]))),
        ("ca1.example.net; account=230123", Ok((Some("ca1.example.net"), &[("account", "230123")]))),
        ("ca1.example.net; policy=ev", Ok((Some("ca1.example.net"), &[("policy", "ev")]))),
        (";", Ok((None, &[]))),
        ("%%%%%", Err(Fault::IssuerOctet { octet: b'%' })),
        // RFC 8657.
        ("example.net; accounturi=https://example.net/account/1234", Ok((Some("example.net"), &[("accounturi", uri)]))),
        ("example.net; validationmethods=dns-01", Ok((Some("example.net"), &[("validationmethods", "dns-01")]))),
        ("example.net; validationmethods=dns-01,xyz-01", Ok((Some("example.net"), &[("validationmethods", "dns-01,xyz-01")]))),
        ("example.net; accounturi=https://example.net/account/1234; validationmethods=dns-01",
            Ok((Some("example.net"), &[("accounturi", uri), ("validationmethods", "dns-01")]))),
        // C12: these fit and name nobody.
        ("", Ok((None, &[]))),
        (" ", Ok((None, &[]))),
        ("\t \t", Ok((None, &[]))),
        (" ; ", Ok((None, &[]))),
        // C12: these do not fit.
        ("ca.example; a=b;", Err(Fault::TrailingSemicolon)),
        ("ca.example; a=b ; ", Err(Fault::TrailingSemicolon)),
        ("ca.example.", Err(Fault::TrailingDot)),
        ("cä.example", Err(not_ascii)),
        ("ca.example; a", Err(Fault::ParameterWithoutEquals)),
        ("ca.example; a; b=c", Err(Fault::ParameterWithoutEquals)),
        // C11: LDH labels, blanks are space and tab, values are visible ASCII.
        ("ca_1.example", Err(Fault::IssuerOctet { octet: b'_' })),
        ("ca.example\n", Err(Fault::IssuerOctet { octet: b'\n' })),
        ("ca.example; a=b c", Err(Fault::TextAfterParameter)),
        ("ca.example; a=b\x7f", Err(Fault::ParameterValueOctet { octet: 0x7f })),
        ("ca.example other.example", Err(Fault::TextAfterIssuer)),
    ];
    for (value, expected) in table {
        let parsed = parse_issue_value(value.as_bytes());
        let expected = expected.map(|(issuer, parameters)| IssueValue {
            issuer: issuer.map(str::to_owned),
            parameters: parameters.iter().map(|&(tag, value)| (tag.to_owned(), value.to_owned())).collect(),
        });
        assert_eq!(parsed.map_err(|error| error.fault), expected, "{value:?}");
        assert_eq!(agreed(value.as_bytes()), expected.is_ok(), "{value:?}");
    }
}
