//! Kill -9 at random moments of a bulk run: nothing is lost, nothing is told twice, nothing contradicts its record.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::{
    collections::HashMap,
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use parallax_engine::{audit, bulk::ResultLine};
use parallax_perf::lab::{kinds::Kind, world::World};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use support::{Bench, RUN_MAX, journal, results};

const KILLS: u32 = 50;
const BAD_LINES_MIN: usize = 5;
const KILL_EARLIEST: Duration = Duration::from_millis(20);
/// The share of an undisturbed run's time within which kills fall at first. Each run that completes makes it
/// smaller, each kill larger, so that there are about two kills to a completion however busy the machine is.
const KILL_LATEST: f64 = 0.6;
const AFTER_COMPLETION: f64 = 0.9;
const AFTER_KILL: f64 = 1.05;
const TEST_MAX: Duration = Duration::from_secs(600);
/// More requests than in the everyday test, for long runs with optimized programs.
const REQUESTS_VARIABLE: &str = "PARALLAX_TEST_KILL_REQUESTS";

/// One journal from its beginning to the run's completion, over any number of kills.
struct Trail<'a> {
    bench: &'a Bench,
    number: u32,
    runs: u32,
    /// Results of all records seen so far.
    known: HashMap<String, ResultLine>,
}

impl<'a> Trail<'a> {
    fn new(bench: &'a Bench, number: u32) -> Self {
        Self { bench, number, runs: 0, known: HashMap::new() }
    }

    fn journal(&self) -> PathBuf {
        self.bench.path(&format!("journal-{}", self.number))
    }

    fn out(&self) -> PathBuf {
        self.bench.path(&format!("out-{}.jsonl", self.number))
    }

    /// Runs, and kills after a while. True if the run was complete before that.
    fn go(&mut self, kill_after: Duration) -> bool {
        let (journal, out) = (self.journal(), self.out());
        let mut arguments = vec!["bulk", "bulk.jsonl", "--json", "--journal", journal.to_str().unwrap()];
        arguments.extend(["--out", out.to_str().unwrap()]);
        if self.runs > 0 {
            arguments.push("--resume");
        }
        self.runs += 1;
        let mut running = self.bench.start(&arguments);
        if !running.ends_within(kill_after) {
            running.kill();
            self.check_kept();
            return false;
        }
        let ended = running.end();
        let summary = ended.expect(0, &[]).json();
        let answered = ["released", "resumed", "refused_lines"].map(|key| summary[key].as_u64().unwrap());
        assert_eq!(answered.iter().sum::<u64>(), self.bench.world.requests, "{summary}");
        assert_eq!(summary["interrupted"], false);
        self.check_kept();
        self.check_complete();
        true
    }

    /// What was recorded stays, and what was told is recorded.
    fn check_kept(&mut self) {
        let (records, _) = journal(&self.journal());
        let mut now = HashMap::new();
        for line in records.iter().map(ResultLine::of_record) {
            let id = line.id.clone().unwrap();
            assert!(now.insert(id.clone(), line).is_none(), "{id} has two records");
        }
        for (id, before) in &self.known {
            assert_eq!(now.get(id), Some(before), "{id}: its record is gone, or is another one");
        }
        for told in results(&self.out()).iter().filter(|line| line.line.is_none()) {
            let id = told.id.as_ref().unwrap();
            assert_eq!(now.get(id), Some(told), "{id} was told without its record");
        }
        self.known = now;
    }

    /// Every line of the bulk file has exactly one result, the right one, and the journal holds.
    fn check_complete(&self) {
        let told = results(&self.out());
        self.bench.assert_as_expected(&told);
        assert_eq!(told.iter().filter(|line| line.line.is_none()).count(), self.known.len());
        let verification = audit::verify(&self.journal(), std::num::NonZeroUsize::MIN).unwrap();
        assert!(verification.holds(), "{:?}", verification.mismatches);
        assert_eq!(verification.repeated, Vec::<String>::new());
        assert_eq!(verification.records as usize, self.known.len());
        assert_eq!(verification.torn_tail, None);
    }
}

/// The first seed with enough bad lines, one of which has no readable id.
fn seed_with_bad_lines(requests: u64) -> u64 {
    (0..)
        .find(|&seed| {
            let world = World { slow_share: 0.0, ..World::new(seed, requests) };
            let kinds: Vec<Kind> = (0..requests).map(|index| world.scenario(index).kind).collect();
            kinds.iter().filter(|k| k.is_bad_line()).count() >= BAD_LINES_MIN && kinds.contains(&Kind::BadSyntax)
        })
        .unwrap()
}

#[test]
fn fifty_kills_lose_nothing() {
    let requests = env::var(REQUESTS_VARIABLE).map_or(200, |text| text.parse().unwrap());
    let bench = Bench::new(1, seed_with_bad_lines(requests), requests);
    let begun = Instant::now();
    assert!(Trail::new(&bench, 0).go(RUN_MAX), "the undisturbed run does not end");
    let usual = begun.elapsed();
    let mut latest = usual.mul_f64(KILL_LATEST);
    let mut random = StdRng::seed_from_u64(50);
    let (mut kills, mut completed, mut within) = (0, 0, 0);
    let mut trail = Trail::new(&bench, 1);
    while kills < KILLS {
        assert!(begun.elapsed() < TEST_MAX, "{kills} kills are all there was time for");
        let kill_after = KILL_EARLIEST + latest.mul_f64(random.random());
        let recorded_before = trail.known.len();
        if trail.go(kill_after) {
            completed += 1;
            latest = latest.mul_f64(AFTER_COMPLETION);
            trail = Trail::new(&bench, completed + 1);
        } else {
            kills += 1;
            latest = latest.mul_f64(AFTER_KILL);
            within += u32::from(trail.known.len() > recorded_before);
        }
    }
    assert!(trail.go(RUN_MAX), "the last run does not end");
    println!(
        "{kills} kills, {within} of them amid fresh verdicts, {completed} completions before the last; an undisturbed run takes {usual:?}, all of it {:?}",
        begun.elapsed()
    );
    assert!(within >= 10, "only {within} kills fell amid fresh verdicts");
}
