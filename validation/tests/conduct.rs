//! How attempts are carried out: cohorts out of a pool, restarts after disagreement, engines that may only report.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

#[allow(dead_code, reason = "each test program uses its part")]
mod world;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use parallax_validation::{
    base::{
        attempt::AttemptId,
        perspective::{Coordinates, Perspective, ResolverSite, Rir, Role},
    },
    check::caa::authorize::CaaPolicy,
    plan::PlanLimits,
    problem::ProblemDocument,
    record::{
        Conduct, FORM_VERSION, Mismatch, Mode, RESTARTS_MAX, Record, Restart, Rules, Setup, SetupError, TRIALS_MAX,
        evaluate,
    },
    verdict::{
        Refusal, Verdict,
        cohort::{Cohort, Diversity},
        draw::{CHOICES_MAX, CohortSeed, Draw, DrawError, POOL_MAX},
        policy::BUILTIN_TEXT,
    },
};
use world::{P, R1, R2, R3, R4, R5, World};

const TXT: &str = "_acme-challenge.customer.example";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Sites around the world; the last two are 130 km apart.
const POOL: [(&str, Rir, f64, f64); 9] = [
    ("iad", Rir::Arin, 39.0, -77.5),
    ("sjc", Rir::Arin, 37.4, -121.9),
    ("waw", Rir::RipeNcc, 52.2, 21.0),
    ("sin", Rir::Apnic, 1.35, 103.8),
    ("syd", Rir::Apnic, -33.9, 151.2),
    ("gru", Rir::Lacnic, -23.5, -46.6),
    ("scl", Rir::Lacnic, -33.4, -70.7),
    ("jnb", Rir::Afrinic, -26.2, 28.0),
    ("pry", Rir::Afrinic, -25.0, 28.2),
];

fn perspective(id: &str, role: Role, rir: Rir, latitude: f64, longitude: f64) -> Perspective {
    let coordinates = Coordinates { latitude, longitude };
    let resolver = ResolverSite { name: format!("{id}'s"), rir, coordinates };
    let as_number = 64_500 + u32::from(id.as_bytes()[0]);
    Perspective { id: id.parse().unwrap(), role, rir, coordinates, as_number, provider: id[..1].to_owned(), resolver }
}

fn setup(remotes: &[(&str, Rir, f64, f64)], conduct: Conduct) -> Setup {
    let primary = perspective("fra", Role::Primary, Rir::RipeNcc, 50.1, 8.7);
    let remotes = remotes.iter().map(|(id, rir, lat, lon)| perspective(id, Role::Remote, *rir, *lat, *lon));
    Setup {
        form: FORM_VERSION,
        software: "test".to_owned(),
        policy: BUILTIN_TEXT.to_owned(),
        caa: CaaPolicy::default(),
        perspectives: std::iter::once(primary).chain(remotes).collect(),
        limits: PlanLimits::default(),
        public_suffixes: None,
        conduct,
    }
}

fn drawing(remotes: u8) -> Conduct {
    Conduct { draw: Some(Draw { remotes, diversity: Diversity::default() }), ..Conduct::default() }
}

/// All subsets of a size, by brute force.
fn subsets(size: usize) -> Vec<Vec<Perspective>> {
    let whole = setup(&POOL, Conduct::default()).perspectives;
    (0..1_u32 << POOL.len())
        .filter(|mask| mask.count_ones() as usize == size)
        .map(|mask| (0..POOL.len()).filter(|bit| mask & 1 << bit != 0).map(|bit| whole[bit + 1].clone()).collect())
        .collect()
}

fn names(rules: &Rules, members: &[u8]) -> Vec<String> {
    members.iter().map(|place| rules.perspective(*place).unwrap().id.to_string()).collect()
}

#[test]
fn a15_what_can_be_drawn_is_exactly_what_is_lawful() {
    let now = at("2026-11-25T12:00:00Z");
    for size in [4, 5, 6, 7] {
        let rules = setup(&POOL, drawing(size)).rules().unwrap();
        let row = rules.table().row_at(now).unwrap();
        let lawful: HashSet<Vec<String>> = subsets(size.into())
            .into_iter()
            .filter(|remotes| Cohort::check(rules.primary(), remotes, row).is_ok())
            .map(|remotes| remotes.iter().map(|remote| remote.id.to_string()).collect())
            .collect();
        let drawn: HashSet<Vec<String>> =
            rules.cohorts(now).iter().map(|members| names(&rules, members)[1..].to_vec()).collect();
        assert_eq!(drawn, lawful, "{size} remotes");
        assert!(!lawful.is_empty() && lawful.len() == rules.cohorts(now).len());
        assert!(rules.cohorts(now).iter().all(|members| members[0] == 0), "the primary takes part");
        let close = |remotes: &Vec<String>| remotes.iter().filter(|id| ["jnb", "pry"].contains(&id.as_str())).count();
        assert!(drawn.iter().all(|remotes| close(remotes) < 2));
    }
}

#[test]
fn a15_the_same_seed_draws_the_same_cohort_and_others_draw_all() {
    let now = at("2026-12-20T00:00:00Z");
    let rules = setup(&POOL, drawing(5)).rules().unwrap();
    let again = setup(&POOL, drawing(5)).rules().unwrap();
    let cohorts = rules.cohorts(now).len();
    let mut times: HashMap<Vec<u8>, u32> = HashMap::new();
    let draws = 200 * cohorts as u32;
    for number in 0..draws {
        // Any spread of seeds will do: a multiplicative hash of the number.
        let seed = CohortSeed(u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
        let members = rules.members(now, Some(seed)).unwrap();
        assert_eq!(again.members(now, Some(seed)).unwrap(), members);
        *times.entry(members.to_vec()).or_default() += 1;
    }
    assert_eq!(times.len(), cohorts, "every lawful cohort is drawn");
    assert!(times.values().all(|count| (100..400).contains(count)), "about 200 times each: {times:?}");
}

#[test]
fn a20_what_is_lawful_is_asked_of_the_row_in_force_when_the_attempt_begins() {
    let rules = setup(&POOL, drawing(4)).rules().unwrap();
    assert!(!rules.cohorts(at("2026-12-14T23:59:59Z")).is_empty());
    assert!(rules.cohorts(at("2026-12-15T00:00:00Z")).is_empty(), "four remotes are too few then");
    assert_eq!(rules.members(at("2026-12-15T00:00:00Z"), Some(CohortSeed(1))), None);
    // An attempt that spans the change obeys the later row, whatever was drawn.
    let members = rules.members(at("2026-12-14T23:59:59Z"), Some(CohortSeed(1))).unwrap();
    let any = World::dns().request;
    assert!(rules.quorum(&any, &members, at("2026-12-14T23:59:59Z"), at("2026-12-14T23:59:59Z")).is_some());
    assert!(rules.quorum(&any, &members, at("2026-12-14T23:59:59Z"), at("2026-12-15T00:00:00Z")).is_none());
}

#[test]
fn h4_what_is_drawn_is_as_diverse_as_is_demanded() {
    let now = at("2026-11-25T12:00:00Z");
    // Providers go by the first letter: sjc, sin, syd and scl are with one.
    let diversity = Diversity { as_numbers_min: 5, providers_min: 5 };
    let conduct = Conduct { draw: Some(Draw { remotes: 5, diversity }), ..Conduct::default() };
    let rules = setup(&POOL, conduct).rules().unwrap();
    let all = setup(&POOL, drawing(5)).rules().unwrap();
    assert!(!rules.cohorts(now).is_empty() && rules.cohorts(now).len() < all.cohorts(now).len());
    for members in rules.cohorts(now) {
        let providers: HashSet<String> = names(&rules, members).iter().map(|id| id[..1].to_owned()).collect();
        assert!(providers.len() >= 5, "{:?}", names(&rules, members));
    }
}

#[test]
fn err_a_setup_that_cannot_be_is_refused() {
    let error = |setup: Setup| setup.rules().expect_err("it cannot be");
    let draw = |remotes, pool| SetupError::Draw(DrawError::Remotes { remotes, pool });
    assert_eq!(error(setup(&POOL, drawing(10))), draw(10, 9));
    assert_eq!(error(setup(&POOL, drawing(1))), draw(1, 9));
    let restarts_max = RESTARTS_MAX + 1;
    assert_eq!(error(setup(&POOL, Conduct { restarts_max, ..Conduct::default() })), SetupError::Restarts(restarts_max));
    let many: Vec<String> = (0..POOL_MAX + 1).map(|n| format!("r{n}")).collect();
    let many: Vec<(&str, Rir, f64, f64)> = many.iter().map(|id| (id.as_str(), Rir::Arin, 0.0, 0.0)).collect();
    assert_eq!(error(setup(&many, drawing(6))), SetupError::Perspectives);
    let choices = SetupError::Draw(DrawError::Choices { remotes: 6, pool: POOL_MAX });
    assert_eq!(error(setup(&many[1..], drawing(6))), choices, "more than {CHOICES_MAX}");
    let trial = |id: &str, role| perspective(id, role, Rir::Arin, 0.0, 0.0);
    let trials = |trials| Conduct { trials, ..Conduct::default() };
    for bad in [
        trials(vec![trial("iad", Role::Trial)]),
        trials(vec![trial("new", Role::Remote)]),
        trials((0..=TRIALS_MAX).map(|n| trial(&format!("t{n}"), Role::Trial)).collect()),
    ] {
        assert_eq!(error(setup(&POOL, bad)), SetupError::Perspectives);
    }
    setup(&POOL, trials(vec![trial("new", Role::Trial)])).rules().unwrap();
    let mut trial_among_remotes = setup(&POOL, Conduct::default());
    trial_among_remotes.perspectives[3].role = Role::Trial;
    assert_eq!(error(trial_among_remotes), SetupError::Perspectives);
}

#[test]
fn a_setup_without_conduct_keeps_its_digest() {
    // Records of earlier versions name their setup by the digest of its text.
    let text = serde_json::to_string(&setup(&POOL, Conduct::default())).unwrap();
    assert!(!text.contains("conduct"), "{text}");
    let again: Setup = serde_json::from_str(&text).unwrap();
    assert_eq!(again.conduct, Conduct::default());
    let drawn = setup(&POOL, drawing(5));
    let again: Setup = serde_json::from_str(&serde_json::to_string(&drawn).unwrap()).unwrap();
    assert_eq!(again, drawn);
}

#[test]
fn h15_an_engine_that_may_only_report_permits_nothing() {
    let world = World::dns();
    let digest = world.digest();
    let world = world.txt(TXT, &[&digest]);
    assert!(world.play().passed());
    let played = world.conduct(Conduct { mode: Mode::ReportOnly, ..Conduct::default() }).play();
    let record = &played.record;
    assert!(!record.permits() && !record.verdict.permits());
    assert!(matches!(&record.verdict, Verdict::Refused { refusal: Refusal::ReportOnly, figures: Some(figures) }
        if figures.joint.confirmed == 5));
    assert!(played.message().contains("only reports: nothing may be issued"), "{}", played.message());
    // What was refused anyway is refused for its own reason.
    let without = World::dns().conduct(Conduct { mode: Mode::ReportOnly, ..Conduct::default() }).play();
    assert!(matches!(without.record.verdict, Verdict::Refused { refusal: Refusal::Primary(_), .. }));
    // A record that says it is a permission does not verify under that setup.
    let rules = World::dns().conduct(Conduct { mode: Mode::ReportOnly, ..Conduct::default() }).rules();
    let mut forged = record.clone();
    forged.verdict = Verdict::Corroborated(record.verdict.figures().unwrap().clone());
    assert!(matches!(forged.recompute(&rules), Err(Mismatch::Verdict { .. })));
}

fn restarting(restarts_max: u8) -> Conduct {
    Conduct { restarts_max, ..Conduct::default() }
}

/// R3 sees another value than all others.
fn disagreeing() -> World {
    let world = World::dns();
    let digest = world.digest();
    world.from(&[P, R1, R2, R4, R5]).txt(TXT, &[&digest]).from(&[R3]).txt(TXT, &["an old value"])
}

#[test]
fn h8_the_process_starts_afresh_when_perspectives_disagree() {
    let once = disagreeing().play();
    assert!(once.passed() && !once.record.restarted, "without restarts four of five suffice");
    let world = disagreeing().conduct(restarting(2));
    let rules = world.rules();
    let first = world.play().record;
    assert!(first.verdict.permits() && first.restarted && !first.permits(), "nobody may rely on it");

    // The last restart there may be is released as it comes out.
    let members = rules.members(first.started, None).unwrap();
    for (number, restarted) in [(1, true), (2, false), (3, false)] {
        let mut terms = first.terms(&members);
        terms.restart = Some(Restart { predecessor: AttemptId(6), number });
        let again = Record::new(&rules, &terms, first.decided, first.replies().unwrap());
        assert_eq!((again.restarted, again.permits()), (restarted, !restarted), "restart {number}");
        assert_eq!(again.recompute(&rules), Ok(()));
        // A record that hides, or makes up, that it was not released does not verify.
        let forged = Record { restarted: !restarted, ..again };
        assert_eq!(forged.recompute(&rules), Err(Mismatch::Restarted { recorded: !restarted, recomputed: restarted }));
    }
}

#[test]
fn h8_nothing_starts_afresh_when_perspectives_agree_or_have_nothing_to_say() {
    let world = World::dns();
    let digest = world.digest();
    let all = world.txt(TXT, &[&digest]).conduct(restarting(5));
    assert!(!all.play().record.restarted, "all confirm");
    assert!(!World::dns().conduct(restarting(5)).play().record.restarted, "the primary contradicts, alone");
    let world = World::dns();
    let digest = world.digest();
    let silent = world.from(&[P, R1, R2, R4, R5]).txt(TXT, &[&digest]).from(&[R3]);
    let silent = silent.ends_as(parallax_validation::verdict::PerspectiveState::TimedOut).conduct(restarting(5)).play();
    assert!(silent.passed() && !silent.record.restarted, "silence contradicts nothing");
}

#[test]
fn h8_a_method_that_ended_on_the_way_is_not_tried_again() {
    let world = disagreeing().conduct(restarting(5));
    let rules = world.rules();
    let record = world.play().record;
    assert!(record.restarted);
    let members = rules.members(record.started, None).unwrap();
    // website-change ends on 2028-03-15 (req D2); the same evidence after its end.
    let evaluation = evaluate(&rules, &record.terms(&members), record.decided, &record.replies().unwrap());
    assert!(evaluation.restarts);
}

#[test]
fn a15_a_record_by_another_seed_or_by_none_does_not_verify() {
    let world = World::dns();
    let digest = world.digest();
    // Five drawn out of five: one cohort, and every seed draws it.
    let world = world.txt(TXT, &[&digest]).conduct(drawing(5));
    let rules = world.rules();
    let plain = World::dns().txt(TXT, &[&digest]);
    let record = plain.play().record;
    let members = rules.members(record.started, Some(CohortSeed(9))).unwrap();
    let mut terms = record.terms(&members);
    terms.seed = Some(CohortSeed(9));
    let drawn = Record::new(&rules, &terms, record.decided, record.replies().unwrap());
    assert_eq!(drawn.recompute(&rules), Ok(()));
    assert!(drawn.permits());
    assert_eq!(Record { seed: None, ..drawn.clone() }.recompute(&rules), Err(Mismatch::Perspectives));
    let seeded = Record { seed: Some(CohortSeed(9)), ..record };
    assert_eq!(seeded.recompute(&plain.rules()), Err(Mismatch::Perspectives));
    // Two drawn perspectives may not change places, and none may be left out.
    let mut swapped = drawn.clone();
    swapped.perspectives.swap(1, 2);
    assert_eq!(swapped.recompute(&rules), Err(Mismatch::Perspectives));
    let mut short = drawn;
    short.perspectives.pop();
    assert_eq!(short.recompute(&rules), Err(Mismatch::Perspectives));
}

#[test]
fn a_seed_is_read_as_it_is_written_and_nothing_else_is() {
    let seed = CohortSeed(0x1234);
    let text = serde_json::to_string(&seed).unwrap();
    assert_eq!(text, "\"00000000000000000000000000001234\"");
    assert_eq!(serde_json::from_str::<CohortSeed>(&text).unwrap(), seed);
    for bad in ["\"1234\"", "\"+0000000000000000000000000001234\"", "17", "\"g0000000000000000000000000001234\""] {
        assert!(serde_json::from_str::<CohortSeed>(bad).is_err(), "{bad}");
    }
}

#[test]
fn rfc_8555_6_7_1_a_problem_has_a_part_for_each_perspective_that_did_not_confirm() {
    let world = World::dns();
    let digest = world.digest();
    let played = world.from(&[P, R1, R2]).txt(TXT, &[&digest]).from(&[R3, R4, R5]).txt(TXT, &["old"]).play();
    let record = &played.record;
    let document = ProblemDocument::of(&record.request, &record.explanation).unwrap();
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(json["type"], "urn:ietf:params:acme:error:unauthorized");
    assert_eq!(json["identifier"], serde_json::json!({ "type": "dns", "value": "customer.example" }));
    let parts = json["subproblems"].as_array().unwrap();
    let who: Vec<&str> = parts.iter().map(|part| part["perspective"].as_str().unwrap()).collect();
    assert_eq!(who, ["sin1", "gru1", "jnb1"]);
    for part in parts {
        assert_eq!(part["type"], "urn:ietf:params:acme:error:unauthorized");
        assert!(part["detail"].as_str().unwrap().contains("TXT"), "{part}");
        assert!(part.get("subproblems").is_none());
    }
    let world = World::dns();
    let digest = world.digest();
    let passed = world.txt(TXT, &[&digest]).play().record;
    assert_eq!(ProblemDocument::of(&passed.request, &passed.explanation), None);
    // A primary that refuses leaves nobody else to speak of.
    let alone = World::dns().play().record;
    let document = ProblemDocument::of(&alone.request, &alone.explanation).unwrap();
    assert_eq!(document.subproblems.len(), 1);
}
