//! The model against figures worked out by hand, and what must hold for every demand.

use jiff::civil::{Date, date};
use proptest::prelude::*;

use super::{
    command::{Base, answer},
    demand::{Demand, DemandError, Form, Mass, NamesShare, Prices, SAMPLE},
    fixture::{sample, times},
    html,
    lifetimes::Step,
    model::{MassPlan, StepPlan},
    needs::{Attempt, KERNEL_OCTETS_OF_CONNECTION, Needs, bound},
    text,
    times::Kind,
    traffic::{Traffic, fresh_share},
    what_if,
};

const TODAY: Date = date(2027, 3, 15);

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected.abs() * 1e-9 + 1e-12, "{found} instead of {expected}");
}

fn base() -> Base {
    Base { times: times(), reference: None }
}

fn step() -> Step {
    Step::at(TODAY, TODAY).expect("a step")
}

/// One certificate a second of two names, a third of them validated afresh, a quarter of these attempts good.
fn round() -> Demand {
    let text = r#"
        certificates = { active = 4_320_000, names_mean = 2.0, renew_at_share = 0.5 }
        attempts = { failing_share = 0.75, slow_share = 0.25, methods = { dns-01 = 0.5, http-01 = 0.5 } }
        perspectives = { remotes = 5 }
        load = { peak_factor = 1.0, utilisation = 0.5 }
    "#;
    Demand::parse(text, Form::Toml).expect("a demand")
}

fn plan(demand: &Demand) -> StepPlan {
    StepPlan::of(demand, &times(), &step(), &step()).expect("a plan")
}

#[test]
fn ok_the_sample_is_a_demand_in_toml_and_in_json() {
    let from_toml = sample();
    let json = serde_json::to_string(&from_toml).expect("JSON");
    assert_eq!(Demand::parse(&json, Form::Json).expect("the same demand"), from_toml);
    // What the sample says of defaults is what they are.
    let shorter: String = SAMPLE
        .lines()
        .take_while(|line| *line != "[mass]")
        .filter(|line| !["added_ms", "keep_days"].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut without = Demand::parse(&shorter, Form::Toml).expect("a demand");
    without.network.added_ms = from_toml.network.added_ms;
    assert_eq!((&without.network, &without.octets), (&from_toml.network, &from_toml.octets));
    assert_eq!(without.journal.keep_days, 1130);
    near(from_toml.attempts.slow_held_ms, 15_000.0);
}

#[test]
fn err_a_figure_that_cannot_be_is_named() {
    type Change = fn(&mut Demand);
    let cases: [(Change, &str); 13] = [
        (|d| d.attempts.failing_share = 1.0, "attempts.failing_share: 1 is not in 0..=0.9999"),
        (|d| d.attempts.failing_share = f64::NAN, "attempts.failing_share: NaN is not in"),
        (|d| d.attempts.slow_share = 0.8, "attempts.slow_share: 0.8 is more than attempts.failing_share (0.75)"),
        (|d| d.attempts.methods.dns_01 = 0.6, "attempts.methods: the shares add up to 1.1, not to 1"),
        (|d| d.certificates.per_day = Some(1.0), "exactly one of certificates.active and certificates.per_day"),
        (|d| d.certificates.names_mean = None, "exactly one of certificates.names_mean and certificates.names_dist"),
        (|d| d.certificates.renew_at_share = 0.0, "certificates.renew_at_share: 0 is not in"),
        (|d| d.perspectives.remotes = 1, "perspectives.remotes: 1 is not in 2..=15"),
        (|d| d.load.utilisation = 0.0, "load.utilisation: 0 is not in"),
        (|d| d.journal.keep_days = 400, "journal.keep_days: 400 is not in 1130..="),
        (|d| d.network.added_ms = -1.0, "network.added_ms: -1 is not in"),
        (|d| d.octets.reply = f64::INFINITY, "octets.reply: inf is not in"),
        (|d| d.mass = Some(Mass { certificates: -1.0, fresh: true, failing_share: None }), "mass.certificates: -1"),
    ];
    for (change, expected) in cases {
        let mut demand = round();
        change(&mut demand);
        let error = demand.check().expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\n{expected}");
    }
    let unknown = SAMPLE.replace("peak_factor", "peek_factor");
    assert!(
        matches!(Demand::parse(&unknown, Form::Toml), Err(DemandError::Toml(error)) if error.to_string().contains("peek_factor"))
    );
    assert!(
        matches!(Demand::parse("{}", Form::Json), Err(DemandError::Json(error)) if error.to_string().contains("`certificates`"))
    );
}

#[test]
fn ok_names_by_distribution_are_their_mean() {
    let mut demand = round();
    let share = |names, share| NamesShare { names, share };
    demand.certificates.names_mean = None;
    demand.certificates.names_distribution = Some(vec![share(1.0, 0.5), share(2.0, 0.25), share(10.0, 0.25)]);
    demand.check().expect("a demand");
    near(demand.names_mean(), 3.5);
    demand.certificates.names_distribution = Some(vec![share(1.0, 0.5)]);
    assert!(matches!(demand.check(), Err(DemandError::Sum { field: "certificates.names_distribution", .. })));
}

#[test]
fn f5_a_validation_serves_each_issuance_within_its_reuse() {
    // 200 days and 133 between renewals; 100 and 67: every second one. 10 and 31: none is used again.
    // What is a whole number of renewals by its days may be a little less in the machine's.
    for (renewal, reuse, share) in [
        (30.0, 90.0 - 1e-12, 0.25),
        (133.4, 200.0, 0.5),
        (66.7, 100.0, 0.5),
        (31.3, 10.0, 1.0),
        (50.0, 100.0, 1.0 / 3.0),
        (30.0, 0.0, 1.0),
    ] {
        near(fresh_share(renewal, reuse), share);
    }
}

#[test]
fn ok_a_day_in_numbers() {
    let mut demand = round();
    demand.certificates.caa_again_share = 0.25;
    let day = Traffic::at(&demand, &step(), &step());
    near(day.renewal_days, 50.0);
    near(day.certificates_per_day, 86_400.0);
    near(day.names_per_day, 172_800.0);
    near(day.fresh_share, 1.0 / 3.0);
    let of = day.attempts_per_day;
    // 57 600 names are shown control of, in 230 400 attempts.
    for (kind, attempts) in [
        (Kind::Dns01, 28_800.0),
        (Kind::Http01, 28_800.0),
        (Kind::TlsAlpn01, 0.0),
        (Kind::RefusedAtPrimary, 115_200.0),
        (Kind::Slow, 57_600.0),
        // The other names, and a quarter of these.
        (Kind::Caa, 115_200.0 + 14_400.0),
    ] {
        near(of[kind], attempts);
    }
    near(of.permitted(), 187_200.0);
    near(of.sum(), 360_000.0);
}

#[test]
fn ok_certificates_a_day_are_those_of_the_first_days_lifetime_and_grow() {
    let mut demand = round();
    (demand.certificates.active, demand.certificates.per_day) = (None, Some(1000.0));
    demand.certificates.growth_per_year = 1.0;
    let first = Step::at(date(2027, 3, 14), date(2027, 3, 14)).expect("a step");
    near(Traffic::at(&demand, &first, &first).certificates_per_day, 1000.0);
    // A year and a day later: 1 000 a day for 100 days are 100 000, each renewed every 50 days; and growth.
    let later = Step { years: 1.0, ..step() };
    let day = Traffic::at(&demand, &first, &later);
    near(day.active, 200_000.0);
    near(day.certificates_per_day, 4000.0);
    // A lifetime and a reuse of the CA's own hold where they are shorter.
    (demand.certificates.lifetime_days, demand.certificates.reuse_days) = (Some(60), Some(300));
    let day = Traffic::at(&demand, &step(), &step());
    near(day.lifetime_days, 60.0);
    near(day.reuse_days, 100.0);
}

#[test]
fn ok_what_the_rates_need_in_numbers() {
    let peak = plan(&round()).peak;
    near(peak.attempts_per_second, 1.0 / 3.0 + 1.0 / 3.0 + 4.0 / 3.0 + 4.0 / 3.0 + 2.0 / 3.0);
    let engine = peak.engine;
    // 90, 96, 84, 48, 48 us by kind.
    near(engine.busy_cores, (30.0 + 32.0 + 112.0 + 64.0 + 32.0) / 1e6);
    near(engine.cores, 540.0 / 1e6);
    near(engine.cpu_us_per_attempt, 270.0 / 4.0);
    // 12, 12, 12, 4, 4 and 5, 6, 4, 8, 8 and 18, 18, 18, 6, 6 us.
    near(engine.dispatcher_busy, (4.0 + 4.0 + 16.0 + 8.0) / 1e6);
    near(engine.collector_busy, (5.0 / 3.0 + 2.0 + 16.0 / 3.0 + 16.0) / 1e6);
    near(engine.decider_busy, (6.0 + 6.0 + 24.0 + 12.0) / 1e6);
    near(engine.processes, 1.0);
    // λ × W: 4, 6, 3, 2 ms and 15 s.
    let in_flight = 0.004 / 3.0 + 0.006 / 3.0 + 0.004 + 0.008 / 3.0 + 10.0;
    near(engine.in_flight, in_flight);
    near(engine.latency_s, in_flight / 4.0);
    near(engine.memory_octets, 30_000.0 * 1024.0 + in_flight * 8192.0);
    near(engine.journal_octets_per_second, 2000.0 + 3000.0 + 6400.0 + 2000.0 + 1000.0);
    // Six tasks for each permitted attempt, one for each other.
    near(engine.octets_out_per_second, (6.0 * 2.0 + 2.0) * 600.0);
    near(engine.octets_in_per_second, engine.journal_octets_per_second);

    let primary = peak.primary;
    near(primary.tasks_per_second, 4.0);
    near(primary.busy_cores, (10.0 / 3.0 + 10.0 + 8.0 + 16.0 + 40.0 / 3.0) / 1e6);
    near(primary.cores, 2.0 * primary.busy_cores);
    near(primary.in_flight, in_flight);
    near(primary.connections_per_second, 1.0 / 3.0 + 4.0 / 3.0 + 2.0 / 3.0);
    let open = 0.006 / 3.0 + 0.008 / 3.0 + 10.0;
    near(primary.connections, open);
    near(primary.ports, open);
    near(primary.memory_octets, 30_000.0 * 1024.0 + in_flight * 8192.0 + open * KERNEL_OCTETS_OF_CONNECTION);
    // 4, 5 and 3 as counted; 5 and 10 as stated.
    let questions = 4.0 / 3.0 + 5.0 / 3.0 + 4.0 + 20.0 / 3.0 + 20.0 / 3.0;
    near(primary.questions_per_second, questions);
    near(primary.resolver_busy_cores, 4.0 * 155.0 / 1e6);
    near(primary.resolver_cores, 8.0 * 155.0 / 1e6);
    let reports = 1000.0 / 3.0 + 500.0 + 3200.0 / 3.0 + 2000.0 + 1000.0;
    near(primary.octets_out_per_second, questions * 90.0 + 7.0 / 3.0 * 500.0 + reports);
    near(primary.octets_in_per_second, questions * 200.0 + 7.0 / 3.0 * 700.0 + 4.0 * 600.0);

    // What is refused at the primary goes no further.
    let remote = peak.remote;
    near(remote.tasks_per_second, 2.0);
    near(remote.busy_cores, (10.0 / 3.0 + 10.0 + 8.0) / 1e6);
    near(remote.connections_per_second, 1.0 / 3.0);
}

#[test]
fn ok_aliases_signatures_links_and_the_network_are_added() {
    let mut demand = round();
    (demand.attempts.alias_hops_mean, demand.attempts.signed_share) = (0.5, 0.25);
    (demand.network.signed_us_per_task, demand.network.link_us_per_task) = (100.0, 7.0);
    demand.network.added_ms = 10.0;
    let of = Attempt::of(Kind::Dns01, &demand, &times()).expect("measured");
    // One question more, priced as one of CAA's three, which take 6 us; a quarter of 100 us; the link.
    near(of.questions, 5.0);
    near(of.node_us, 10.0 + 2.0 + 25.0 + 7.0);
    near(of.engine_us, 90.0 + 6.0 * 7.0);
    near(of.octets_in, 5.0 * (0.75 * 200.0 + 0.25 * 700.0));
    // Two rounds of 10 ms; a task has one.
    near(of.latency_us, 24_000.0);
    near(of.task_latency_us, 14_000.0);
    let refused = Attempt::of(Kind::RefusedAtPrimary, &demand, &times()).expect("measured");
    near(refused.latency_us, 12_000.0);
    let slow = Attempt::of(Kind::Slow, &demand, &times()).expect("measured");
    near(slow.latency_us, 15e6);
    demand.perspectives.primary_first = false;
    near(Attempt::of(Kind::Dns01, &demand, &times()).expect("measured").latency_us, 14_000.0);
}

#[test]
fn ok_all_at_once_costs_the_remotes_what_fails_and_more_remotes_cost_more() {
    let mut demand = round();
    demand.perspectives.primary_first = false;
    let refused = Attempt::of(Kind::RefusedAtPrimary, &demand, &times()).expect("measured");
    near(refused.tasks, 6.0);
    near(refused.engine_us, 6.0 * 18.0 + 30.0);
    near(refused.journal_octets, 9000.0);
    near(plan(&demand).peak.remote.tasks_per_second, 4.0);
    let mut demand = round();
    demand.perspectives.remotes = 8;
    let dns = Attempt::of(Kind::Dns01, &demand, &times()).expect("measured");
    near(dns.engine_us, 9.0 * 10.0 + 30.0);
    near(dns.node_us, 10.0);
    near(dns.journal_octets, 9000.0);
}

#[test]
fn ok_ports_are_held_in_time_wait_if_connections_are_closed_in_order() {
    let mut demand = round();
    let open = plan(&demand).peak.primary.connections;
    demand.network.time_wait_seconds = 60.0;
    near(plan(&demand).peak.primary.ports, open + 60.0 * 7.0 / 3.0);
    demand.certificates.active = Some(4_320_000.0 * 1000.0);
    let primary = plan(&demand).peak.primary;
    near(primary.ports, 1000.0 * (open + 140.0));
    near(primary.source_addresses, 6.0);
}

#[test]
fn ok_the_fleet_is_whole_and_what_binds_first_comes_first() {
    let mut demand = round();
    demand.load.peak_factor = 10_000.0;
    let plan = StepPlan::of(&demand, &times(), &step(), &step()).expect("a plan");
    // Busy cores of the peak are 10 000 times those worked out above, at 50 %.
    let fleet = plan.fleet;
    near(fleet.engine_cores, (2.7_f64 / 0.5).ceil());
    near(fleet.engine_processes, (0.48_f64 / 0.5).ceil());
    near(fleet.primary_workers, (2.0 * 0.506_666_7_f64).ceil());
    near(fleet.remote_workers, 1.0);
    near(fleet.primary_resolver_cores, (2.0 * 6.2_f64).ceil());
    near(fleet.remote_resolver_cores, (2.0 * 3.1_f64).ceil());
    near(fleet.cores, 6.0 + 2.0 + 13.0 + 5.0 * (1.0 + 7.0));
    let by = |resource: &str| {
        plan.carries.iter().find(|carries| carries.resource.starts_with(resource)).expect(resource).attempts_per_second
    };
    // 4 attempts take 48 us of the decider, and 10 of them are in flight.
    near(by("decider"), 4.0 * 0.5 / 48e-6);
    near(by("engine.attempts_in_flight"), 40_000.0 * 2000.0 / plan.peak.engine.in_flight);
    near(by("one core of the primary's resolver"), 0.5 / 155e-6);
    assert!(plan.carries.is_sorted_by(|one, other| one.attempts_per_second <= other.attempts_per_second));
    assert_eq!(plan.carries[0].resource, "engine.attempts_in_flight by default");
}

#[test]
fn ok_disk_and_money_in_numbers() {
    let mut demand = round();
    demand.journal.keep_days = 2000;
    demand.prices = Some(Prices {
        currency: "EUR".to_owned(),
        core_hour: 0.1,
        gib_hour: 0.01,
        egress_tib: 50.0,
        disk_tib_month: 40.0,
    });
    let plan = plan(&demand);
    near(plan.journal.octets_per_day, 14_400.0 * 86_400.0);
    near(plan.journal.disk_octets, 14_400.0 * 86_400.0 * 2000.0);
    let cost = plan.cost.expect("prices are known");
    // One core each for the engine, six nodes and six resolvers, for 730.5 hours.
    near(cost.cores_per_month, 13.0 * 730.5 * 0.1);
    near(cost.memory_per_month, plan.fleet.memory_octets / 1_073_741_824.0 * 730.5 * 0.01);
    let out = plan.peak.engine.octets_out_per_second
        + plan.peak.primary.octets_out_per_second
        + 5.0 * plan.peak.remote.octets_out_per_second;
    near(cost.egress_per_month, out * 86_400.0 * 30.4375 / 1_099_511_627_776.0 * 50.0);
    near(cost.disk_per_month, plan.journal.disk_octets / 1_099_511_627_776.0 * 40.0);
    near(cost.per_month, cost.cores_per_month + cost.memory_per_month + cost.egress_per_month + cost.disk_per_month);
    near(cost.per_certificate, cost.per_month / (86_400.0 * 30.4375));
    near(cost.per_million_corroborations, 1e6 * cost.per_month / (172_800.0 * 30.4375));
    near(cost.per_million_attempts, 1e6 * cost.per_month / (4.0 * 86_400.0 * 30.4375));
}

#[test]
fn ok_a_mass_re_issue_has_what_other_days_leave() {
    let mass_of = |certificates: f64, fresh: bool| -> MassPlan {
        let mut demand = round();
        demand.mass = Some(Mass { certificates, fresh, failing_share: Some(0.0) });
        plan(&demand).mass.expect("a mass re-issue is asked about")
    };
    // 2 good attempts a second, beside 4 others. Of attempts in flight 0.01 of what is left are taken.
    let small = mass_of(86_400.0, true);
    near(small.attempts, 172_800.0);
    near(small.attempts_per_second, 6.0);
    near(small.journal_octets, 86_400.0 * (6000.0 + 9000.0));
    let usual = plan(&round()).peak.engine.in_flight;
    assert_eq!((small.fits, small.binds), (true, "attempts in flight as bounded for the peak hour"));
    near(small.hours.expect("an end"), 24.0 * 0.01 / (bound(usual) - usual));
    // Ten thousand times as many: every resolver lacks cores, by 155 us for each task.
    let large = mass_of(864e6, true);
    assert!(!large.fits && large.hours.is_some_and(|hours| hours > 24.0));
    let resolver = large.missing.iter().find(|missing| missing.resource == "cores of each remote's resolver");
    let resolver = resolver.expect("it lacks cores");
    near(resolver.have, 0.5);
    near(resolver.need, 20_002.0 * 155e-6);
    // CAA alone is as many attempts without any that fail.
    near(mass_of(86_400.0, false).journal_octets, 86_400.0 * 2.0 * 4800.0);
    // Failing attempts come on top, and the usual share of them is slow.
    let mut demand = round();
    demand.mass = Some(Mass { certificates: 43_200.0, fresh: true, failing_share: None });
    near(plan(&demand).mass.expect("a mass re-issue").attempts, 4.0 * 86_400.0);
}

#[test]
fn ok_the_plan_of_the_sample_is_told_in_all_forms() {
    let answer = answer(sample(), base(), date(2026, 11, 27), None).expect("a plan");
    let dates: Vec<&str> = answer.steps.iter().map(|step| step.date.as_str()).collect();
    assert_eq!(dates, ["2026-11-27", "2026-12-15", "2027-03-15", "2029-03-15"]);
    // Shorter lifetimes: the same certificates are issued more often.
    let per_day: Vec<f64> = answer.steps.iter().map(|step| step.traffic.certificates_per_day).collect();
    assert!(per_day.is_sorted() && per_day[3] > 4.0 * per_day[0], "{per_day:?}");
    let json = serde_json::to_value(&answer).expect("JSON");
    assert!(json["steps"][3]["peak"]["engine"]["in_flight"].as_f64().is_some_and(|figure| figure > 0.0));
    let (text, page) = (text::plan(&answer), html::page(&answer));
    for part in
        ["2029-03-15", "λ × W = L (Little)", "remotes", "slow share", "measured", "TLS BR 6.3.2", "a certificate, EUR"]
    {
        assert!(text.contains(part) && page.contains(part), "{part}: {text}");
    }
    assert_eq!(page.matches("<svg").count(), 5);
    for element in ["html", "body", "table", "svg", "figure", "tr", "td", "th", "div"] {
        let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("url("), "it needs nothing else");
}

#[test]
fn err_remotes_fewer_than_the_rules_want_are_told() {
    let mut demand = sample();
    demand.perspectives.remotes = 4;
    let answer = answer(demand, base(), date(2026, 11, 27), None).expect("a plan");
    let too_few: Vec<bool> = answer.steps.iter().map(|step| step.too_few_remotes).collect();
    assert_eq!(too_few, [false, true, true, true]);
    // The rule is older than two of the steps.
    for step in ["2026-12-15", "2027-03-15", "2029-03-15"] {
        let told = format!("{step}: 4 remotes are fewer than the 5 that the rules want since 2026-12-15 (TLS BR");
        assert!(text::plan(&answer).contains(&told), "{told}");
    }
    assert_eq!(text::plan(&answer).matches("warning: ").count(), 3);
    assert_eq!(html::page(&answer).matches("class=\"warning\"").count(), 3);
    assert_eq!(html::page(&answer).matches("4 remotes are fewer than the 5").count(), 3);
}

#[test]
fn err_what_grows_beyond_any_measure_is_no_plan() {
    let grown = |growth: f64, at: Date| {
        let mut demand = sample();
        demand.certificates.growth_per_year = growth;
        answer(demand, base(), date(2026, 11, 27), Some(at))
    };
    let error = grown(0.1, date(9999, 12, 31)).expect_err("too far").to_string();
    assert!(error.contains("9999-12-31"), "{error}");
    let error = grown(100.0, date(2046, 1, 1)).expect_err("too many").to_string();
    assert!(error.starts_with("2046-01-01: growth of 100 a year makes "), "{error}");
    // What is planned is finite, however far it is.
    for growth in [-0.9, 0.0, 0.05] {
        let answer = grown(growth, date(2126, 1, 1)).expect("a plan");
        let step = &answer.steps[0];
        assert!(step.traffic.active.is_finite() && step.fleet.cores.is_finite(), "{growth}");
        assert!(!serde_json::to_string(&answer.steps).expect("JSON").contains("null"), "{growth}");
    }
}

#[test]
fn ok_what_if_changes_one_input_at_a_time() {
    let tables = what_if::tables(&round(), &times(), &step(), &step()).expect("tables");
    let of = |input: &str| &tables.iter().find(|table| table.input == input).expect(input).outcomes;
    let base = &of("certificates")[1];
    for table in tables.iter().filter(|table| table.input != "remotes") {
        assert_eq!(&table.outcomes[1], base, "{}", table.input);
    }
    near(of("certificates")[2].peak_attempts_per_second, 8.0);
    near(of("how long slow ones are held")[2].in_flight - base.in_flight, 10.0);
    // Three failed ones for each good one become six: 2/3 of a good attempt a second, four failed, 4/3 of CAA alone.
    near(of("failed attempts for each good one")[2].peak_attempts_per_second, 6.0);
    assert_eq!(of("peak factor")[0].note.as_deref(), Some("1 is the least"));
    let remotes: Vec<_> =
        of("remotes").iter().map(|outcome| (outcome.change.as_str(), outcome.note.is_some())).collect();
    assert_eq!(remotes, [("3", true), ("4", true), ("5", false), ("6", false), ("7", false), ("8", false)]);
    let mut demand = round();
    demand.attempts.slow_share = 0.5;
    let tables = what_if::tables(&demand, &times(), &step(), &step()).expect("tables");
    let slow = tables.iter().find(|table| table.input == "slow share").expect("slow share");
    assert!(slow.outcomes[2].note.as_ref().is_some_and(|note| note.contains("0.75 is the most")));
}

/// Everything that a plan asks for, as one list.
fn asked_for(demand: &Demand) -> Vec<f64> {
    let plan = plan(demand);
    let of_node = |needs: &Needs, primary: bool| {
        let node = if primary { needs.primary } else { needs.remote };
        [
            node.cores,
            node.in_flight,
            node.memory_octets,
            node.connections,
            node.ports,
            node.source_addresses,
            node.questions_per_second,
            node.resolver_cores,
            node.octets_out_per_second,
            node.octets_in_per_second,
        ]
    };
    let engine = plan.peak.engine;
    let mut all = vec![
        plan.peak.attempts_per_second,
        engine.cores,
        engine.processes,
        engine.in_flight_bound,
        engine.memory_octets,
        engine.octets_out_per_second,
        engine.octets_in_per_second,
        plan.journal.disk_octets,
        plan.fleet.cores,
        plan.fleet.memory_octets,
    ];
    all.extend(of_node(&plan.peak, true));
    all.extend(of_node(&plan.peak, false));
    all
}

fn demands() -> impl Strategy<Value = Demand> {
    let shares = (0.0..0.95_f64, 0.0..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64);
    (1.0..1e9_f64, 1.0..50.0_f64, shares, 2..12_u8, 1.0..20.0_f64, 0.05..1.0_f64, any::<bool>()).prop_map(
        |(active, names, (failing, slow, dns, signed), remotes, peak, utilisation, primary_first)| {
            let mut demand = round();
            demand.certificates.active = Some(active);
            demand.certificates.names_mean = Some(names);
            (demand.attempts.failing_share, demand.attempts.slow_share) = (failing, failing * slow);
            (demand.attempts.methods.dns_01, demand.attempts.methods.http_01) = (dns, 1.0 - dns);
            demand.attempts.signed_share = signed;
            (demand.perspectives.remotes, demand.perspectives.primary_first) = (remotes, primary_first);
            (demand.load.peak_factor, demand.load.utilisation) = (peak, utilisation);
            demand.check().expect("a demand");
            demand
        },
    )
}

proptest! {
    #[test]
    fn more_of_any_demand_never_needs_less(demand in demands(), which in 0..8_usize, factor in 1.0..4.0_f64) {
        let mut more = demand.clone();
        match which {
            0 => more.certificates.active = demand.certificates.active.map(|active| active * factor),
            1 => more.certificates.names_mean = Some(demand.names_mean() * factor),
            2 => {
                let failing = demand.attempts.failing_share;
                more.attempts.failing_share = 1.0 - (1.0 - failing) / factor;
                // The slow ones stay as many for each good one, or become more.
                more.attempts.slow_share = (demand.attempts.slow_share).min(more.attempts.failing_share);
            }
            3 => more.attempts.slow_held_ms *= factor,
            4 => more.load.peak_factor *= factor,
            5 => more.perspectives.remotes += 1,
            6 => more.load.utilisation /= factor.min(demand.load.utilisation / 0.01),
            _ => more.network.added_ms = 100.0 * factor,
        }
        prop_assert!(more.check().is_ok());
        for (place, (less, more)) in asked_for(&demand).into_iter().zip(asked_for(&more)).enumerate() {
            prop_assert!(more >= less * (1.0 - 1e-9), "figure {place}: {more} after {less}");
        }
    }

    #[test]
    fn nothing_is_slow_without_a_slow_share_and_no_figure_is_odd(mut demand in demands()) {
        demand.attempts.slow_share = 0.0;
        let plan = plan(&demand);
        prop_assert_eq!(plan.traffic.attempts_per_day[Kind::Slow], 0.0);
        // Nothing is held for longer than a measured latency then.
        prop_assert!(plan.peak.engine.latency_s < 0.1);
        prop_assert!(asked_for(&demand).iter().all(|figure| figure.is_finite() && *figure >= 0.0));
    }

    #[test]
    fn attempts_are_those_that_succeed_over_their_share(demand in demands()) {
        let day = Traffic::at(&demand, &step(), &step());
        let shown = day.names_per_day * day.fresh_share;
        let control = day.attempts_per_day.sum() - day.attempts_per_day[Kind::Caa];
        prop_assert!((control * (1.0 - demand.attempts.failing_share) - shown).abs() <= 1e-6 * shown.max(1.0));
    }

    #[test]
    fn longer_reuse_never_validates_more(renewal in 1.0..400.0_f64, reuse in 0.0..400.0_f64, further in 0.0..400.0_f64) {
        prop_assert!(fresh_share(renewal, reuse + further) <= fresh_share(renewal, reuse));
    }
}
