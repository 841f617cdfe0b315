//! Makes runs: routes as a run wants them, all sixteen requests by the real engine, and everything compared with what is
//! right.
//!
//! Compared are the fooled sites with what is written down, each verdict with what is written down and with
//! [`super::verdict`], what each perspective saw with what it must have seen, and how often a process began afresh.
//! Whatever differs is told and makes the exit status 1; nothing is repeated until it fits.

use std::{collections::BTreeMap, fs, sync::atomic::AtomicBool, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    attack::{Routing, Target},
    error::InternetError,
    evidence::{self, Contradiction},
    programs::output_of,
    requests::{Asking, Midway, RequestOutcome},
    routes::{self, Walker, Way, address_of},
    script::Script,
    state::State,
    topology::{site, site_id},
    up::{flush_resolvers, route},
    verdict::{self, Fooled},
};
use crate::lab::world::Perspective;

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
    let ways = ways(state, script)?;
    let run = Asking { state: state.clone(), number: state.runs, files, stop };
    let midway = if script.heals { Some(run.heal_midway(state, &mut differences)?) } else { None };
    let fooled = if script.heals { Fooled::default() } else { found };
    let requests = run.ask_all(script)?;
    differences.extend(requests.iter().flat_map(|request| requests_differ(script, request, &fooled)));
    let told = evidence::contradictions(&state.programs_from.join("parallax"), &state.engine.journal)?;
    let told: Vec<_> = told.into_iter().filter(|one| one.request.starts_with(&format!("r{}-", state.runs))).collect();
    differences.extend(alarms_differ(script, &requests, &told, &fooled));
    let mut alarms = BTreeMap::new();
    told.into_iter().for_each(|one| *alarms.entry(one.class).or_default() += 1);
    let shown = requests.iter().find(|request| request.asks == script.shown).map(|request| request.id.clone());
    let explained = run.explain(&shown.unwrap_or_default())?;
    Ok(Outcome {
        name: script.name.clone(),
        about: script.about.clone(),
        lesson: script.lesson.clone(),
        within: script.is_within(),
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

/// Verifies the journal of all runs; what the program says.
///
/// # Errors
/// It does not hold.
pub fn verify_journal(state: &State) -> Result<String, InternetError> {
    let journal = state.engine.journal.display().to_string();
    let said = output_of(&state.programs_from.join("parallax"), &["journal", "verify", &journal])?;
    Ok(said.trim().to_owned())
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
    let restarts = usize::from(verdict::restarts(asks, fooled));
    if request.attempts.len() != restarts + 1 || request.attempts.iter().filter(|a| a.restarted).count() != restarts {
        all.push(format!("{id}: {} attempts, must be {}", request.attempts.len(), restarts + 1));
    }
    for (number, attempt) in (1..).zip(&request.attempts) {
        let views = attempt.perspectives.len();
        if views != Perspective::ALL.len() {
            all.push(format!("{id}: attempt {number}: {views} views, must be {}", Perspective::ALL.len()));
        }
        for (perspective, view) in Perspective::ALL.into_iter().zip(&attempt.perspectives) {
            let right = verdict::sees(perspective, asks, fooled);
            if view.perspective != site_id(perspective) || view.seen != right {
                let (who, saw) = (&view.perspective, view.seen);
                all.push(format!("{id}: attempt {number}: {who} saw {saw:?} ({:?}), must see {right:?}", view.state));
                continue;
            }
            let right = verdict::concludes(perspective, asks, fooled);
            if view.state != right {
                let (who, saw, state) = (&view.perspective, view.seen, view.state);
                all.push(format!("{id}: attempt {number}: {who} saw {saw:?} and is {state:?}, must be {right:?}"));
            }
        }
    }
    all
}

/// What of the alarms is not as it must be: there is one for each request whose perspectives contradicted each other, for
/// no other, and it says whether the way or the names were stolen.
fn alarms_differ(script: &Script, requests: &[RequestOutcome], told: &[Contradiction], fooled: &Fooled) -> Vec<String> {
    let right = match script.target {
        Target::Web => "routing",
        Target::NameServers => "split_view",
    };
    let differ = |request: &RequestOutcome| {
        let must = verdict::restarts(request.asks, fooled);
        let classes: Vec<&str> =
            told.iter().filter(|one| one.request == request.id).map(|one| one.class.as_str()).collect();
        let is_right = classes.is_empty() != must && classes.iter().all(|class| *class == right);
        (!is_right).then(|| {
            let wanted = if must { right } else { "none" };
            format!("{}: contradictions told: {classes:?}, must be {wanted}", request.id)
        })
    };
    requests.iter().filter_map(differ).collect()
}

#[cfg(test)]
mod tests {
    use parallax_validation::verdict::PerspectiveState;

    use super::*;
    use crate::internet::{
        evidence::{Attempt, View},
        scenario::named,
        verdict::{Asks, Seen},
        zones::{Actor, Domain, Method},
    };

    /// A request of a run that ended as it must.
    fn right(script: &Script, asks: Asks) -> RequestOutcome {
        let fooled = &script.fooled;
        let restarts = verdict::restarts(asks, fooled);
        let view = |perspective| View {
            perspective: site_id(perspective).to_owned(),
            seen: verdict::sees(perspective, asks, fooled),
            state: verdict::concludes(perspective, asks, fooled),
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
        for name in ["peace", "equal-one", "primary", "primary-four", "dns-primary", "dns-subprefix"] {
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
        assert_eq!(seen, ["attacker-http-01-plain: attempt 2: waw1 saw Attacker (Contradicted), must see Owner"]);
        let fewer = differ(&|request| drop(request.attempts[1].perspectives.pop()));
        assert_eq!(fewer, ["attacker-http-01-plain: attempt 2: 5 views, must be 6"]);
        let none = differ(&|request| request.attempts[1].perspectives.clear());
        assert_eq!(none, ["attacker-http-01-plain: attempt 2: 0 views, must be 6"]);
        let state = differ(&|request| request.attempts[0].perspectives[3].state = PerspectiveState::TimedOut);
        assert_eq!(state, ["attacker-http-01-plain: attempt 1: syd1 saw Owner and is TimedOut, must be Contradicted"]);
        let table = differ(&|request| (request.right, request.permitted) = (true, true));
        assert_eq!(table, ["attacker-http-01-plain: the table of primary and the computed verdict differ"]);
        let nobody = fooled_differ(script, &Fooled::default());
        assert!(nobody[0].contains("web nobody") && nobody[0].contains("web ams1"), "{nobody:?}");
    }

    #[test]
    fn silence_is_not_taken_for_a_forged_answer() {
        let script = &Script::of(named("dns-primary").unwrap());
        let asks = Asks { actor: Actor::Attacker, method: Method::Dns01, domain: Domain::Signed };
        let mut request = right(script, asks);
        assert_eq!(request.attempts[0].perspectives[0].seen, Seen::Bogus);
        request.attempts[0].perspectives[0].seen = Seen::Nothing;
        let told = requests_differ(script, &request, &script.fooled);
        assert_eq!(told, ["attacker-dns-01-signed: attempt 1: ams1 saw Nothing (Failed), must see Bogus"]);
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
    fn no_result_is_no_permission_and_is_told() {
        let script = &Script::of(named("peace").unwrap());
        let mut request = right(script, asks(Actor::Owner));
        (request.permitted, request.attempts) = (false, Vec::new());
        assert_eq!(requests_differ(script, &request, &script.fooled).len(), 2);
    }
}
