//! Makes runs: routes as a run wants them, all 24 requests by the real engine, and everything compared with what is
//! right.
//!
//! Compared are the fooled sites with what is written down, each verdict with what is written down and with
//! [`super::verdict`], what each perspective saw with what it must have seen, and how often a process began afresh.
//! Whatever differs is told and makes the exit status 1; nothing is repeated until it fits.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use parallax_validation::verdict::PerspectiveState;
use serde::{Deserialize, Serialize};

use super::{
    attack::{Routing, Target},
    error::InternetError,
    evidence::{self, Attempt, Contradiction, FORGED, RELEASED},
    programs::output_of,
    requests::{Asking, Midway, RequestOutcome},
    routes::{self, Walker, Way, address_of},
    script::Script,
    settings::FanOut,
    state::State,
    topology::{site, site_id},
    up::{flush_resolvers, route},
    verdict::{self, Asks, Fooled},
};
use crate::lab::world::Perspective;

/// How long answers that were not awaited may take.
const LATE_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// What came of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The run's name.
    pub name: String,
    /// What happened.
    pub about: String,
    /// What is to be learned.
    pub lesson: String,
    /// Whether corroboration can stop all of it.
    pub within: bool,
    /// How the engine asked.
    pub fan_out: FanOut,
    /// Routing as it was asked for.
    pub routing: Routing,
    /// Ways of all sites to what was attacked, the primary's first, as they were during the attack.
    pub ways: Vec<Way>,
    /// Requests.
    pub requests: Vec<RequestOutcome>,
    /// Requests of the attacker that were under way while routes healed, if that was the run.
    pub midway: Option<Midway>,
    /// What `parallax explain` says of the run's most telling request, with whose that is.
    pub explained: (String, String),
    /// Contradictions that `parallax watch` told of the run, by what it says lies behind them.
    pub alarms: BTreeMap<String, u32>,
    /// Everything that was not as it must be. Empty if all is right.
    pub differences: Vec<String>,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// Makes one run.
///
/// # Errors
/// The laboratory fails. That something ends otherwise than it must is in the outcome.
pub fn make(state: &mut State, script: &Script, stop: &AtomicBool) -> Result<Outcome, InternetError> {
    let begun = Instant::now();
    state.runs += 1;
    let files = state.directory.join("runs").join(format!("{:03}-{}", state.runs, script.name));
    fs::create_dir_all(&files).map_err(InternetError::file(&files))?;
    let found = route(state, &script.routing, stop)?;
    flush_resolvers(state)?;
    let mut differences = fooled_differ(script, &found);
    let (parallax, journal) = sources(state, script);
    let late_before = evidence::late(&parallax, &journal)?;
    let ways = ways(state, script)?;
    let run = Asking { state: state.clone(), number: state.runs, fan_out: script.fan_out, files, stop };
    let midway = if script.heals { Some(run.heal_midway(state, &mut differences)?) } else { None };
    let fooled = if script.heals { Fooled::default() } else { found };
    let requests = run.ask_all(script)?;
    differences.extend(requests.iter().flat_map(|request| requests_differ(script, request, &fooled)));
    let (told, differing) = alarms(state, script, late_before, &requests, &fooled)?;
    differences.extend(differing);
    let mut alarms = BTreeMap::new();
    told.into_iter().for_each(|one| *alarms.entry(one.class).or_default() += 1);
    let shown = requests.iter().find(|request| request.asks == script.shown).map(|request| request.id.clone());
    let explained = run.explain(&shown.unwrap_or_default())?;
    Ok(Outcome {
        name: script.name.clone(),
        about: script.about.clone(),
        lesson: script.lesson.clone(),
        within: script.is_within(),
        fan_out: script.fan_out,
        routing: script.routing.clone(),
        ways,
        requests,
        midway,
        explained: (script.shown.slug(), explained),
        alarms,
        differences,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Verifies the journals of both engines, with all runs; what the program says.
///
/// # Errors
/// One does not hold.
pub fn verify_journals(state: &State) -> Result<String, InternetError> {
    let verify = |fan_out| {
        let journal = state.engine_of(fan_out).journal.display().to_string();
        let said = output_of(&state.programs_from.join("parallax"), &["journal", "verify", &journal])?;
        Ok(said.trim().to_owned())
    };
    let said: Vec<String> = FanOut::ALL.into_iter().map(verify).collect::<Result<_, InternetError>>()?;
    Ok(said.join("\n"))
}

/// The program that reads journals, and the journal of the engine that a run asks.
fn sources(state: &State, script: &Script) -> (PathBuf, PathBuf) {
    (state.programs_from.join("parallax"), state.engine_of(script.fan_out).journal.clone())
}

/// The contradictions that `watch` tells of a run, and what of them is not as it must be. They are read once everything has
/// come to the journal: what a remote says that was not awaited comes after the results.
fn alarms(
    state: &State,
    script: &Script,
    late_before: u64,
    requests: &[RequestOutcome],
    fooled: &Fooled,
) -> Result<(Vec<Contradiction>, Vec<String>), InternetError> {
    let ((parallax, journal), run) = (sources(state, script), format!("r{}-", state.runs));
    let begun = Instant::now();
    let mut outstanding = evidence::outstanding(&parallax, &journal, &run, late_before)?;
    while outstanding > 0 && begun.elapsed() < LATE_MAX {
        thread::sleep(POLL);
        outstanding = evidence::outstanding(&parallax, &journal, &run, late_before)?;
    }
    let mut told = evidence::contradictions(&parallax, &journal)?;
    told.retain(|one| one.request.starts_with(&run));
    let mut differing = alarms_differ(script, requests, &told, fooled);
    if outstanding > 0 {
        differing.push(format!("{outstanding} answers that were not awaited never came to the journal"));
    }
    Ok((told, differing))
}

fn ways(state: &State, script: &Script) -> Result<Vec<Way>, InternetError> {
    let mut walker = Walker::to(state, address_of(script.target));
    Perspective::ALL.into_iter().map(|perspective| walker.from(site(perspective))).collect()
}

fn fooled_differ(script: &Script, found: &Fooled) -> Vec<String> {
    let stated = &script.fooled;
    if found == stated {
        return Vec::new();
    }
    let [found, stated] = [found, stated].map(routes::shown);
    vec![format!("routes {found}; they must {stated}")]
}

/// What of one request is not as it must be.
fn requests_differ(script: &Script, request: &RequestOutcome, fooled: &Fooled) -> Vec<String> {
    let (asks, id) = (request.asks, &request.id);
    let mut all = Vec::new();
    if verdict::permits(asks, fooled) != request.right {
        all.push(format!("{id}: the table of {} and the computed verdict differ", script.name));
    }
    if request.permitted != request.right {
        let right = if request.right { "permitted" } else { "refused" };
        all.push(format!("{id}: must be {right}; the engine says: {}", request.message));
    }
    let is_late = is_late(script, asks, request.attempts.first(), fooled);
    let restarts = usize::from(verdict::disagrees(asks, fooled, script.fan_out) && !is_late);
    if request.attempts.len() != restarts + 1 || request.attempts.iter().filter(|a| a.restarted).count() != restarts {
        all.push(format!("{id}: {} attempts, must be {}", request.attempts.len(), restarts + 1));
    }
    for (number, attempt) in (1..).zip(&request.attempts) {
        let views = attempt.perspectives.len();
        if views != Perspective::ALL.len() {
            all.push(format!("{id}: attempt {number}: {views} views, must be {}", Perspective::ALL.len()));
        }
        for (perspective, view) in Perspective::ALL.into_iter().zip(&attempt.perspectives) {
            let parts = verdict::parts(perspective, asks, fooled, script.fan_out);
            let is_right = view.perspective == site_id(perspective) && parts.contains(&(view.seen, view.state));
            if let (false, Some((sees, is))) = (is_right, parts.first()) {
                let (who, saw, state) = (&view.perspective, view.seen, view.state);
                all.push(format!(
                    "{id}: attempt {number}: {who} saw {saw:?} and is {state:?}, must see {sees:?} and be {is:?}"
                ));
            }
        }
        let not_awaited = attempt.perspectives.iter().filter(|view| view.state == PerspectiveState::NotAwaited).count();
        if not_awaited > verdict::NOT_AGREEING_MAX {
            all.push(format!("{id}: attempt {number}: {not_awaited} were not awaited, fewer than a quorum confirmed"));
        }
    }
    all
}

/// Whether the contrary comes after this attempt's permission, since it did not await all. Whether it does depends on who
/// answers first, so it is read and not computed.
fn is_late(script: &Script, asks: Asks, attempt: Option<&Attempt>, fooled: &Fooled) -> bool {
    let not_awaited = |attempt: &Attempt| {
        Perspective::ALL.into_iter().zip(&attempt.perspectives).any(|(perspective, view)| {
            view.state == PerspectiveState::NotAwaited && verdict::contradicts(perspective, asks, fooled)
        })
    };
    script.fan_out == FanOut::PrimaryFirst && attempt.is_some_and(not_awaited)
}

/// What of the alarms is not as it must be: there is one for each request whose perspectives contradicted each other, for
/// no other, and it says whether the way or the names were stolen. If the contrary comes after a permission, it says that.
/// What was forged of a signed domain for some of them has one of its own class, whenever it comes.
fn alarms_differ(script: &Script, requests: &[RequestOutcome], told: &[Contradiction], fooled: &Fooled) -> Vec<String> {
    let right = match script.target {
        Target::Web => "routing",
        Target::NameServers => "split_view",
    };
    let differ = |request: &RequestOutcome| {
        let is_late = |attempt| is_late(script, request.asks, attempt, fooled);
        let late = is_late(request.attempts.last());
        let in_time = verdict::disagrees(request.asks, fooled, script.fan_out) && !is_late(request.attempts.first());
        let mut classes: Vec<&str> =
            told.iter().filter(|one| one.request == request.id).map(|one| one.class.as_str()).collect();
        classes.sort_unstable();
        classes.dedup();
        let forged = verdict::is_forged_for_some(request.asks, fooled, script.fan_out);
        let mut must: Vec<&str> = [(late, RELEASED), (in_time, right), (forged, FORGED)]
            .iter()
            .filter(|one| one.0)
            .map(|one| one.1)
            .collect();
        must.sort_unstable();
        (classes != must).then(|| format!("{}: contradictions told: {classes:?}, must be {must:?}", request.id))
    };
    requests.iter().filter_map(differ).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internet::{
        evidence::View,
        scenario::named,
        verdict::Seen,
        zones::{Actor, Domain, Method},
    };

    /// A request of a run that ended as it must.
    fn right(script: &Script, asks: Asks) -> RequestOutcome {
        let fooled = &script.fooled;
        let restarts = verdict::disagrees(asks, fooled, script.fan_out);
        let view = |perspective| {
            let (seen, state) = verdict::parts(perspective, asks, fooled, script.fan_out)[0];
            View { perspective: site_id(perspective).to_owned(), seen, state }
        };
        let attempt = |restarted| Attempt { restarted, perspectives: Perspective::ALL.map(view).into() };
        let attempts = if restarts { vec![attempt(true), attempt(false)] } else { vec![attempt(false)] };
        let permitted = script.permitted.contains(&asks);
        RequestOutcome {
            id: asks.slug(),
            asks,
            right: permitted,
            permitted,
            quorum: None,
            decided_by: String::new(),
            message: "says this".to_owned(),
            warnings: Vec::new(),
            attempts,
        }
    }

    fn asks(actor: Actor) -> Asks {
        Asks { actor, method: Method::Http01, domain: Domain::Plain }
    }

    #[test]
    fn what_is_as_it_must_be_differs_in_nothing() {
        let parallel = ["peace", "equal-one", "primary", "primary-four", "dns-primary", "dns-subprefix"];
        for name in parallel.into_iter().chain(["first-peace", "first-one", "first-two", "first-primary"]) {
            let script = &Script::of(named(name).unwrap());
            assert_eq!(fooled_differ(script, &script.fooled), [""; 0]);
            for asks in Asks::all() {
                let request = right(script, asks);
                assert_eq!(requests_differ(script, &request, &script.fooled), [""; 0], "{name}");
            }
        }
    }

    #[test]
    fn whatever_is_otherwise_is_told() {
        let script = &Script::of(named("primary").unwrap());
        let differ = |change: &dyn Fn(&mut RequestOutcome)| {
            let mut request = right(script, asks(Actor::Attacker));
            change(&mut request);
            requests_differ(script, &request, &script.fooled)
        };
        let issued = differ(&|request| request.permitted = true);
        assert_eq!(issued, ["attacker-http-01-plain: must be refused; the engine says: says this"]);
        let once = differ(&|request| drop(request.attempts.remove(0)));
        assert_eq!(once, ["attacker-http-01-plain: 1 attempts, must be 2"]);
        let released = differ(&|request| request.attempts[0].restarted = false);
        assert_eq!(released.len(), 1, "{released:?}");
        let seen = differ(&|request| request.attempts[1].perspectives[2].seen = Seen::Attacker);
        assert_eq!(
            seen,
            ["attacker-http-01-plain: attempt 2: waw1 saw Attacker and is Contradicted, must see Owner and be \
                          Contradicted"]
        );
        let fewer = differ(&|request| drop(request.attempts[1].perspectives.pop()));
        assert_eq!(fewer, ["attacker-http-01-plain: attempt 2: 5 views, must be 6"]);
        let none = differ(&|request| request.attempts[1].perspectives.clear());
        assert_eq!(none, ["attacker-http-01-plain: attempt 2: 0 views, must be 6"]);
        let state = differ(&|request| request.attempts[0].perspectives[3].state = PerspectiveState::TimedOut);
        assert_eq!(
            state,
            ["attacker-http-01-plain: attempt 1: syd1 saw Owner and is TimedOut, must see Owner and be \
                           Contradicted"]
        );
        let table = differ(&|request| (request.right, request.permitted) = (true, true));
        assert_eq!(table, ["attacker-http-01-plain: the table of primary and the computed verdict differ"]);
        let nobody = fooled_differ(script, &Fooled::default());
        assert!(nobody[0].contains("web nobody") && nobody[0].contains("web ams1"), "{nobody:?}");
    }

    #[test]
    fn a_remote_that_is_asked_though_the_primary_refused_is_told() {
        let script = &Script::of(named("first-primary").unwrap());
        let mut request = right(script, asks(Actor::Owner));
        assert!(request.attempts[0].perspectives[1..].iter().all(|view| view.state == PerspectiveState::NotAsked));
        (request.attempts[0].perspectives[1].seen, request.attempts[0].perspectives[1].state) =
            (Seen::Owner, PerspectiveState::Confirmed);
        let told = requests_differ(script, &request, &script.fooled);
        let must = "iad1 saw Owner and is Confirmed, must see Nothing and be NotAsked";
        assert_eq!(told, [format!("owner-http-01-plain: attempt 1: {must}")]);
    }

    #[test]
    fn the_contrary_may_come_after_a_permission_which_an_alarm_then_must_tell() {
        let script = &Script::of(named("first-one").unwrap());
        let mut late = right(script, asks(Actor::Owner));
        late.attempts.remove(0);
        let view = &mut late.attempts[0].perspectives[1];
        (view.seen, view.state) = (Seen::Nothing, PerspectiveState::NotAwaited);
        assert_eq!(requests_differ(script, &late, &script.fooled), [""; 0]);
        let of = |class: &str| Contradiction { request: late.id.clone(), class: class.to_owned() };
        let differ = |told: &[Contradiction]| alarms_differ(script, std::slice::from_ref(&late), told, &script.fooled);
        assert_eq!(differ(&[of(RELEASED)]), [""; 0]);
        assert_eq!(differ(&[]).len(), 1);
        assert_eq!(differ(&[of("routing")]).len(), 1);
        // One that confirms may be left out, two may not; and a fooled one that is not awaited begins nothing afresh.
        let mut other = late.clone();
        let view = &mut other.attempts[0].perspectives[2];
        (view.seen, view.state) = (Seen::Nothing, PerspectiveState::NotAwaited);
        let told = requests_differ(script, &other, &script.fooled);
        assert_eq!(told, ["owner-http-01-plain: attempt 1: 2 were not awaited, fewer than a quorum confirmed"]);
        let mut afresh = late.clone();
        afresh.attempts[0].restarted = true;
        assert_eq!(requests_differ(script, &afresh, &script.fooled).len(), 1);
        // It may come in time at first, and too late when the process has started afresh: then both alarms are told.
        let mut both = right(script, asks(Actor::Owner));
        both.attempts[1] = late.attempts[0].clone();
        assert_eq!(requests_differ(script, &both, &script.fooled), [""; 0]);
        let told = [of("routing"), of(RELEASED)];
        assert_eq!(alarms_differ(script, std::slice::from_ref(&both), &told, &script.fooled), [""; 0]);
        assert_eq!(alarms_differ(script, std::slice::from_ref(&both), &told[1..], &script.fooled).len(), 1);
        // Where all are asked at once nobody is left out.
        let parallel = &Script::of(named("equal-one").unwrap());
        assert_eq!(requests_differ(parallel, &late, &parallel.fooled).len(), 2);
    }

    #[test]
    fn silence_is_not_taken_for_a_forged_answer() {
        let script = &Script::of(named("dns-primary").unwrap());
        let asks = Asks { actor: Actor::Attacker, method: Method::Dns01, domain: Domain::Signed };
        let mut request = right(script, asks);
        assert_eq!(request.attempts[0].perspectives[0].seen, Seen::Bogus);
        request.attempts[0].perspectives[0].seen = Seen::Nothing;
        let told = requests_differ(script, &request, &script.fooled);
        assert_eq!(
            told,
            ["attacker-dns-01-signed: attempt 1: ams1 saw Nothing and is Failed, must see Bogus and be Failed"]
        );
    }

    #[test]
    fn an_alarm_that_is_missing_or_out_of_place_or_of_another_class_is_told() {
        let script = &Script::of(named("primary").unwrap());
        let requests: Vec<_> = Asks::all().into_iter().map(|asks| right(script, asks)).collect();
        let of = |request: &RequestOutcome, class: &str| Contradiction {
            request: request.id.clone(),
            class: class.to_owned(),
        };
        let contradicted = requests.iter().filter(|request| request.attempts.len() == 2);
        let told: Vec<_> = contradicted.map(|request| of(request, "routing")).collect();
        let differ = |told: &[Contradiction]| alarms_differ(script, &requests, told, &script.fooled).len();
        assert!(told.len() > 1);
        assert_eq!(differ(&told), 0);
        assert_eq!(differ(&told[1..]), 1, "one is missing");
        let calm = requests.iter().find(|request| request.attempts.len() == 1).unwrap();
        assert_eq!(differ(&[told.as_slice(), &[of(calm, "routing")]].concat()), 1, "one is out of place");
        let other = told.iter().map(|one| Contradiction { class: "split_view".to_owned(), ..one.clone() });
        assert_eq!(differ(&other.collect::<Vec<_>>()), told.len(), "all are of another class");
    }

    #[test]
    fn what_is_forged_for_one_and_signed_for_others_must_be_told_as_such() {
        let script = &Script::of(named("dns-one").unwrap());
        let asks = |actor, domain| Asks { actor, method: Method::Dns01, domain };
        let told_differ = |asks, class: Option<&str>| {
            let request = right(script, asks);
            let of = |class: &str| Contradiction { request: request.id.clone(), class: class.to_owned() };
            let told: Vec<_> = class.map(of).into_iter().collect();
            alarms_differ(script, std::slice::from_ref(&request), &told, &script.fooled).len()
        };
        let owner = asks(Actor::Owner, Domain::Signed);
        assert_eq!(told_differ(owner, Some(FORGED)), 0);
        assert_eq!(told_differ(owner, None), 1, "it is missing");
        assert_eq!(told_differ(owner, Some("split_view")), 1, "of another class");
        // Nobody confirms the attacker's, and of an unsigned domain nothing is forged as far as anybody can see.
        assert_eq!(told_differ(asks(Actor::Attacker, Domain::Signed), None), 0);
        assert_eq!(told_differ(asks(Actor::Owner, Domain::Plain), Some("split_view")), 0);
    }

    #[test]
    fn no_result_is_no_permission_and_is_told() {
        let script = &Script::of(named("peace").unwrap());
        let mut request = right(script, asks(Actor::Owner));
        (request.permitted, request.attempts) = (false, Vec::new());
        assert_eq!(requests_differ(script, &request, &script.fooled).len(), 2);
    }
}
