//! The requests of one run: asked of the real engine by `parallax bulk`, all at once, or one after another while
//! routes heal; results and journal are read, and nothing is judged here.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parallax_validation::verdict::PerspectiveState;
use serde::{Deserialize, Serialize};

use super::{
    attack::Routing,
    error::InternetError,
    evidence::{self, Attempt, View},
    programs::output_of,
    script::Script,
    settings::{ENGINE, FanOut, request},
    state::{EngineState, State},
    up::route,
    verdict::{Asks, Fooled, Seen},
    zones::{Actor, Domain, Method},
};
use crate::{lab::world::Perspective, netns::Namespace};

/// How long all requests of a run may take.
const REQUESTS_MAX: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
/// Between two requests that are fed to an engine while routes heal.
const FEED_EVERY: Duration = Duration::from_millis(40);
/// Requests that are fed before the routes are healed, and after.
const FED_BEFORE: u32 = 20;
const FED_AFTER: u32 = 20;
/// At most so many, however long healing takes.
const FED_MAX: u32 = 1_500;

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestOutcome {
    /// Its id.
    pub id: String,
    /// Who asked for what.
    pub asks: Asks,
    /// Whether it must be permitted.
    pub right: bool,
    /// Whether it was.
    pub permitted: bool,
    /// The figure, such as 4/5.
    pub quorum: Option<String>,
    /// What decided.
    pub decided_by: String,
    /// What the engine said.
    pub message: String,
    /// What the engine warned of.
    pub warnings: Vec<String>,
    /// Attempts as the journal has them.
    pub attempts: Vec<Attempt>,
}

/// Requests while routes healed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Midway {
    /// How many there were.
    pub requests: u32,
    /// How many were permitted; none may be.
    pub permitted: u32,
    /// Attempts whose primary was led to the attacker.
    pub primary_fooled: u32,
    /// Attempts whose primary saw the owner.
    pub primary_right: u32,
}

/// What is read of a line of results.
#[derive(Debug, Deserialize)]
struct Line {
    id: Option<String>,
    verdict: String,
    decided_by: String,
    quorum: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What is read of an explanation.
#[derive(Debug, Deserialize)]
struct Explained {
    message: String,
}

/// One run's requests.
pub(super) struct Asking<'a> {
    pub(super) state: State,
    pub(super) number: u32,
    /// Which engine is asked.
    pub(super) fan_out: FanOut,
    /// Where files of the run go.
    pub(super) files: PathBuf,
    pub(super) stop: &'a AtomicBool,
}

impl Asking<'_> {
    fn parallax(&self) -> PathBuf {
        self.state.programs_from.join("parallax")
    }

    fn engine(&self) -> &EngineState {
        self.state.engine_of(self.fan_out)
    }

    /// Asks all 24 at once, and reads results and journal.
    pub(super) fn ask_all(&self, script: &Script) -> Result<Vec<RequestOutcome>, InternetError> {
        let asked: Vec<(String, Asks)> =
            Asks::all().into_iter().map(|asks| (format!("r{}-{}", self.number, asks.slug()), asks)).collect();
        let text: String = asked.iter().map(|(id, asks)| request(id, &asks.domain.host(), *asks)).collect();
        let path = self.files.join("requests.jsonl");
        fs::write(&path, text).map_err(InternetError::file(&path))?;
        let mut child = self.bulk(&path.display().to_string(), "results.jsonl")?;
        self.wait(&mut child)?;
        let mut lines = self.results("results.jsonl")?;
        let mut attempts = evidence::attempts(&self.parallax(), &self.engine().journal)?;
        let outcome = |(id, asks): (String, Asks)| {
            let line = lines.remove(&id);
            let of = |read: fn(&Line) -> &str| line.as_ref().map(read).unwrap_or("no result").to_owned();
            RequestOutcome {
                right: script.permitted.contains(&asks),
                permitted: line.as_ref().is_some_and(|line| line.verdict == "pass"),
                decided_by: of(|line| &line.decided_by),
                message: of(|line| &line.message),
                quorum: line.as_ref().and_then(|line| line.quorum.clone()),
                warnings: line.map(|line| line.warnings).unwrap_or_default(),
                attempts: attempts.remove(&id).unwrap_or_default(),
                id,
                asks,
            }
        };
        Ok(asked.into_iter().map(outcome).collect())
    }

    /// Feeds requests of the attacker to the engine, one after another, has the routes healed in the middle, and goes on.
    pub(super) fn heal_midway(
        &self,
        state: &mut State,
        differences: &mut Vec<String>,
    ) -> Result<Midway, InternetError> {
        let mut child = self.bulk("-", "midway.jsonl")?;
        let input = child.stdin.take();
        let healed = AtomicBool::new(false);
        let (begin, begun) = mpsc::channel::<()>();
        let (fed, ended) = thread::scope(|scope| {
            let healed_flag = &healed;
            let healing = scope.spawn(move || {
                // If feeding ends before it gets that far, there is nothing to heal midway.
                let ended = begun.recv().map(|()| route(state, &Routing::default(), self.stop));
                healed_flag.store(true, Ordering::Relaxed);
                ended.unwrap_or_else(|_| Ok(Fooled::default()))
            });
            let fed = self.feed(input, begin, &healed);
            (fed, healing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        ended?;
        self.wait(&mut child)?;
        let lines = self.results("midway.jsonl")?;
        let permitted = lines.values().filter(|line| line.verdict == "pass").count();
        let attempts = evidence::attempts(&self.parallax(), &self.engine().journal)?;
        let prefix = format!("r{}-m", self.number);
        let ours = || attempts.iter().filter(|(id, _)| id.starts_with(&prefix)).flat_map(|(_, attempts)| attempts);
        let primaries = |wanted: Seen| {
            ours().filter(|attempt| attempt.perspectives.first().is_some_and(|view| view.seen == wanted)).count()
        };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let midway = Midway {
            requests: fed,
            permitted: small(permitted),
            primary_fooled: small(primaries(Seen::Attacker)),
            primary_right: small(primaries(Seen::Owner)),
        };
        if lines.len() != fed as usize {
            differences.push(format!("{fed} requests were made midway, and {} have results", lines.len()));
        }
        let parts = ours().filter(|attempt| attempt.perspectives.len() != Perspective::ALL.len()).count();
        if parts > 0 {
            differences.push(format!("{parts} attempts midway lack views of perspectives"));
        }
        let is_not_asked = |view: &View| view.state == PerspectiveState::NotAsked;
        let is_otherwise = |attempt: &&Attempt| {
            let Some((primary, remotes)) = attempt.perspectives.split_first() else { return false };
            let are_asked = self.fan_out == FanOut::Parallel || primary.state == PerspectiveState::Confirmed;
            !(if are_asked { !remotes.iter().any(is_not_asked) } else { remotes.iter().all(is_not_asked) })
        };
        let otherwise = ours().filter(is_otherwise).count();
        if otherwise > 0 {
            differences.push(format!("{otherwise} attempts midway asked remotes otherwise than their primary has it"));
        }
        if midway.permitted > 0 {
            differences.push(format!("{} requests of the attacker were permitted midway", midway.permitted));
        }
        if midway.primary_fooled == 0 || midway.primary_right == 0 {
            differences.push(format!("no requests on both sides of the healing: {midway:?}"));
        }
        Ok(midway)
    }

    /// Writes requests at a steady pace, says when it is time to heal, and goes on for a while after; how many it wrote.
    fn feed(&self, mut input: Option<ChildStdin>, begin: mpsc::Sender<()>, healed: &AtomicBool) -> u32 {
        let (mut fed, mut after, mut begin) = (0, 0, Some(begin));
        while fed < FED_MAX && after < FED_AFTER && !self.stop.load(Ordering::Relaxed) {
            let asks = Asks { actor: Actor::Attacker, method: Method::Http01, domain: Domain::Plain };
            let line = request(&format!("r{}-m{fed:04}", self.number), &format!("m{fed:04}.{}", asks.domain), asks);
            if input.as_mut().is_none_or(|to| to.write_all(line.as_bytes()).is_err()) {
                break;
            }
            fed += 1;
            after += u32::from(healed.load(Ordering::Relaxed));
            if fed == FED_BEFORE {
                // Dropping it would say that there is nothing to heal.
                if let Some(begin) = begin.take() {
                    let _ = begin.send(());
                }
            }
            thread::sleep(FEED_EVERY);
        }
        fed
    }

    /// `parallax bulk` at the CA, against the engine.
    fn bulk(&self, file: &str, out: &str) -> Result<Child, InternetError> {
        let engine = self.engine();
        let [certificate, key, authorities] = &engine.caller;
        let log = self.files.join(format!("{out}.log"));
        let log_file = fs::File::create(&log).map_err(InternetError::file(&log))?;
        let program = self.parallax();
        let mut command = Command::new(&program);
        command.args(["bulk", file, "--format", "jsonl", "--json", "--engine-name", ENGINE]);
        command.arg("--engine").arg(engine.listen.to_string()).arg("--out").arg(self.files.join(out));
        command.arg("--certificate").arg(certificate).arg("--key").arg(key).arg("--authorities").arg(authorities);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log_file);
        Namespace::open(self.state.namespace(engine.system))?
            .inside(|| command.spawn())?
            .map_err(InternetError::file(program))
    }

    fn wait(&self, child: &mut Child) -> Result<(), InternetError> {
        let begun = Instant::now();
        loop {
            let ended = child.try_wait().map_err(InternetError::file("parallax bulk"))?;
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let logs = ["results.jsonl.log", "midway.jsonl.log"].map(|log| self.files.join(log));
                    let said: String = logs.iter().filter_map(|log| fs::read_to_string(log).ok()).collect();
                    return Err(InternetError::Program { what: format!("parallax bulk ({status})"), said });
                }
                None if self.stop.load(Ordering::Relaxed) || begun.elapsed() > REQUESTS_MAX => {
                    // It may have ended this moment.
                    let _ = child.kill();
                    let _ = child.wait();
                    let what = "all requests are answered".to_owned();
                    let late = InternetError::Late { what, limit: REQUESTS_MAX };
                    return Err(if self.stop.load(Ordering::Relaxed) { InternetError::Stopped } else { late });
                }
                None => thread::sleep(POLL),
            }
        }
    }

    fn results(&self, out: &str) -> Result<BTreeMap<String, Line>, InternetError> {
        let path = self.files.join(out);
        let text = fs::read_to_string(&path).map_err(InternetError::file(&path))?;
        let read = |line: &str| -> Result<(String, Line), InternetError> {
            let line: Line =
                serde_json::from_str(line).map_err(|error| InternetError::Unreadable { path: path.clone(), error })?;
            Ok((line.id.clone().unwrap_or_default(), line))
        };
        text.lines().map(read).collect()
    }

    /// The headline of the last attempt: what the explanation begins with.
    pub(super) fn explain(&self, id: &str) -> Result<String, InternetError> {
        let journal = self.engine().journal.display().to_string();
        let text = output_of(&self.parallax(), &["explain", id, "--journal", &journal, "--json"])?;
        let last = text.lines().last().unwrap_or_default();
        let explained: Explained = serde_json::from_str(last)
            .map_err(|error| InternetError::Unreadable { path: self.engine().journal.clone(), error })?;
        Ok(explained.message)
    }
}
