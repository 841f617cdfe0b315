//! `internet up`, `status`, `hijack`, `heal`, `run`, `test`, `down`.

use std::{
    collections::BTreeSet,
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
};

use clap::{Args, Subcommand};

use super::{
    attack::{Form, Hijack, Routing, Target},
    error::InternetError,
    picture::{Scene, draw},
    responder, routes, run, scenario,
    script::Script,
    state::State,
    status,
    summary::{self, Summary},
    topology,
    up::{self, down, route},
    zones::Actor,
};
use crate::signals;

/// What a laboratory is called that nobody called otherwise.
const NAME: &str = "lab";

/// What to do with the small Internet.
#[derive(Debug, Subcommand)]
pub enum InternetCommand {
    /// Bring everything up and leave it running.
    Up(Place),
    /// Say where every site's packets to the victim go, and draw it as status.svg.
    Status {
        /// Which laboratory.
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have the attacker announce the web server's prefix, or the name servers', as its own.
    Hijack(Attack),
    /// Withdraw what the attacker announces; nobody filters any more.
    Heal(Place),
    /// Make runs with a known right outcome: an attack, 24 requests, and everything compared.
    ///
    /// Leaves summary.json, summary.html and a picture of each run. The status is 1 if anything was not as it must be.
    Run {
        /// Which laboratory. It must be up.
        #[command(flatten)]
        place: Place,
        /// Names of runs; all if none.
        names: Vec<String>,
        /// Name all runs and what they are about, and make none.
        #[arg(long)]
        list: bool,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a run for each of the 64 sets of sites that the web server's prefix can fool.
    ///
    /// As `run`, but what must come of each is computed from who is fooled. It takes a few minutes.
    Sweep {
        /// Which laboratory. It must be up.
        #[command(flatten)]
        place: Place,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring it up, make all runs, take it down.
    Test(Place),
    /// End everything. Files stay. May be repeated.
    Down(Place),
    /// Answer tls-alpn-01 for an actor until it is ended: what `up` starts beside each web server.
    #[command(hide = true)]
    Respond {
        /// Whose challenges.
        by: Actor,
        /// Where.
        #[arg(required = true)]
        at: Vec<SocketAddr>,
    },
}

/// Which laboratory.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Where its files are.
    #[arg(long, default_value = "lab-out")]
    pub dir: PathBuf,
    /// What its namespaces' names hold, so that two can be up at a time; that of the laboratory in the directory, or
    /// lab, if not given. A number is that of the process that has it made, and of no other: the next test clears it up
    /// when there is no such process.
    #[arg(long, value_parser = plain_name)]
    pub name: Option<String>,
    /// Where `parallax` and `parallax-node` are; beside this program if not given.
    #[arg(long, value_name = "DIRECTORY")]
    pub bin: Option<PathBuf>,
}

/// An attack.
#[derive(Debug, Args)]
pub struct Attack {
    /// Which laboratory.
    #[command(flatten)]
    place: Place,
    /// The same prefix, with the attacker as its origin. This is so if nothing else is said.
    #[arg(long, group = "form")]
    equal: bool,
    /// Both halves of the prefix: longer prefixes win wherever they are heard.
    #[arg(long, group = "form")]
    subprefix: bool,
    /// The same prefix with the owner's number behind the attacker's, which RPKI calls valid.
    #[arg(long, group = "form")]
    forged_origin: bool,
    /// The name servers' prefix and not the web server's.
    #[arg(long)]
    nameserver: bool,
    /// Sites whose transits it is announced to: ams1, iad1, waw1, syd1, gru1, jnb1. If none, far from all of them.
    #[arg(long, value_delimiter = ',', value_name = "SITE")]
    near: Vec<String>,
    /// Systems that drop routes which RPKI calls invalid.
    #[arg(long, value_delimiter = ',', value_name = "AS")]
    filtering: Vec<u32>,
}

/// Short enough for a namespace's name, and of nothing but letters and digits.
fn plain_name(text: &str) -> Result<String, String> {
    // Whoever has a laboratory made starts this program.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    name_by(text, [Some(std::process::id()), parent])
}

/// The same, for processes that may have one of their number.
fn name_by(text: &str, processes: [Option<u32>; 2]) -> Result<String, String> {
    let is_plain = (1..=16).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_alphanumeric());
    if !is_plain {
        return Err("1 to 16 letters and digits".to_owned());
    }
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    if is_number && !processes.into_iter().flatten().any(|process| process.to_string() == text) {
        return Err(
            "a number alone is the name of that process's laboratory, which tests clear up: add a letter".to_owned()
        );
    }
    Ok(text.to_owned())
}

impl Place {
    /// What a new laboratory is called.
    fn new_name(&self) -> &str {
        self.name.as_deref().unwrap_or(NAME)
    }

    /// What the one in the directory is called; what was given, if there is none.
    ///
    /// # Errors
    /// It has another name than was given, or the directory is not that of a laboratory.
    fn name_of_laboratory(&self) -> Result<String, InternetError> {
        let state = match State::read(&self.dir) {
            Ok(state) => state,
            Err(InternetError::NotUp(_)) => return Ok(self.new_name().to_owned()),
            Err(error) => return Err(error),
        };
        let is_plain = !state.name.is_empty() && state.name.bytes().all(|octet| octet.is_ascii_alphanumeric());
        if !(is_plain && state.is_of(&self.dir)) {
            return Err(InternetError::NotOurs(self.dir.clone()));
        }
        match &self.name {
            Some(given) if *given != state.name => {
                let (directory, given) = (self.dir.clone(), given.clone());
                Err(InternetError::OtherName { directory, is: state.name, given })
            }
            _ => Ok(state.name),
        }
    }
}

/// Does it.
///
/// # Errors
/// See [`InternetError`].
pub fn execute(command: InternetCommand) -> Result<ExitCode, InternetError> {
    if let InternetCommand::Run { list: true, .. } = command {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    up::require_root()?;
    let stop = signals::end_flag().map_err(InternetError::file("signals"))?;
    match command {
        InternetCommand::Up(place) => {
            let state = bring_up(&place, &stop)?;
            println!("{} namespaces are up; files are in {}", state.namespaces.len(), state.directory.display());
        }
        InternetCommand::Status { place, json } => show(&State::read(&place.dir)?, json)?,
        InternetCommand::Hijack(attack) => reroute(&attack.place, &attack.routing()?, &stop)?,
        InternetCommand::Heal(place) => reroute(&place, &Routing::default(), &stop)?,
        InternetCommand::Run { place, names, json, .. } => {
            let script = |name: &String| {
                let scenario = scenario::named(name).ok_or_else(|| InternetError::NoScenario(name.clone()))?;
                Ok(Script::of(scenario))
            };
            let named: Vec<Script> = names.iter().map(script).collect::<Result<_, InternetError>>()?;
            let chosen = if named.is_empty() { all_scripts() } else { named };
            return make_runs(&mut up_state(&place)?, &chosen, json, &stop);
        }
        InternetCommand::Sweep { place, json } => {
            return make_runs(&mut up_state(&place)?, &Script::sweep(), json, &stop);
        }
        InternetCommand::Test(place) => return test(&place, &stop),
        InternetCommand::Down(place) => {
            let ended = take_down(&place)?;
            println!("{ended} namespaces were taken down");
        }
        InternetCommand::Respond { by, at } => responder::serve(by, &at, &stop)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings it up, with progress on a terminal.
fn bring_up(place: &Place, stop: &AtomicBool) -> Result<State, InternetError> {
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let programs = place.bin.clone().or(beside).unwrap_or_default();
    let programs = programs.canonicalize().map_err(InternetError::file(&programs))?;
    up::up(place.new_name(), &place.dir, &programs, stop, &tell())
}

/// One line for each step, with the time since the beginning.
fn tell() -> impl Fn(&str) {
    let begun = std::time::Instant::now();
    move |step: &str| {
        let after = begun.elapsed().as_secs_f64();
        let _ = writeln!(std::io::stderr(), "{after:5.1} s  {step}");
    }
}

/// Brings it up, makes all runs, and takes it down whatever came of it.
fn test(place: &Place, stop: &AtomicBool) -> Result<ExitCode, InternetError> {
    let mut state = bring_up(place, stop)?;
    let ended = make_runs(&mut state, &all_scripts(), false, stop);
    let taken_down = take_down(place);
    let code = ended?;
    taken_down?;
    Ok(code)
}

fn all_scripts() -> Vec<Script> {
    scenario::ALL.iter().map(Script::of).collect()
}

fn take_down(place: &Place) -> Result<usize, InternetError> {
    let name = place.name_of_laboratory()?;
    let ended = down(&name, &place.dir)?;
    // What is gone is not to be taken for what is up.
    if let Ok(state) = State::read(&place.dir)
        && state.name == name
    {
        State { is_up: false, programs: Vec::new(), ..state }.write()?;
    }
    Ok(ended)
}

fn list() {
    for scenario in scenario::ALL {
        let within = if scenario.is_within() { "" } else { " (outside what corroboration can stop)" };
        println!("{:<20}{}{within}", scenario.name, scenario.about);
    }
}

/// Makes the runs one after another, heals, and sums up.
fn make_runs(state: &mut State, scripts: &[Script], json: bool, stop: &AtomicBool) -> Result<ExitCode, InternetError> {
    // Progress is for people; what a program reads is on standard output.
    let tell = |text: &str| {
        let _ = if json { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
    };
    tell(&summary::heading());
    let mut runs = Vec::new();
    for script in scripts {
        let outcome = run::make(state, script, stop).inspect_err(|_| {
            // An attack does not outlast the command that made it; the error is what has to be told.
            let _ = route(state, &Routing::default(), stop);
        })?;
        tell(&summary::line(&outcome));
        runs.push(outcome);
    }
    route(state, &Routing::default(), stop)?;
    let verified = run::verify_journals(state);
    let journal_holds = verified.is_ok();
    let journal = verified.unwrap_or_else(|error| error.to_string());
    let summary = Summary { runs, journal, journal_holds };
    summary::write(state, &summary)?;
    let path = state.directory.join("summary.json");
    if json {
        let text = serde_json::to_string_pretty(&summary);
        println!("{}", text.map_err(|error| InternetError::Unreadable { path, error })?);
    } else {
        print!("{}", summary::text(&summary));
        println!("{}", path.with_extension("html").display());
    }
    Ok(if summary.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn reroute(place: &Place, routing: &Routing, stop: &AtomicBool) -> Result<(), InternetError> {
    let mut state = up_state(place)?;
    let fooled = route(&mut state, routing, stop)?;
    println!("{}", status::routing_in_words(routing));
    println!("routes {}", routes::shown(&fooled));
    Ok(())
}

/// The state of a laboratory that is up.
fn up_state(place: &Place) -> Result<State, InternetError> {
    let state = State::read(&place.dir)?;
    place.name_of_laboratory()?;
    if state.is_up { Ok(state) } else { Err(InternetError::NotUp(place.dir.clone())) }
}

fn show(state: &State, json: bool) -> Result<(), InternetError> {
    if !state.is_up {
        return Err(InternetError::NotUp(state.directory.clone()));
    }
    let status = status::look(state)?;
    let path = state.directory.join("status.svg");
    std::fs::write(&path, status_picture(&status)).map_err(InternetError::file(&path))?;
    if json {
        let text = serde_json::to_string_pretty(&status);
        println!("{}", text.map_err(|error| InternetError::Unreadable { path, error })?);
    } else {
        print!("{}", status::text(&status));
        if std::io::stdout().is_terminal() {
            println!("\ndrawn in {}", path.display());
        }
    }
    Ok(())
}

/// The status drawn: ways to what is attacked, or to the web server.
fn status_picture(status: &status::Status) -> String {
    let target = status.routing.hijack.as_ref().map_or(Target::Web, |hijack| hijack.target);
    let ways: Vec<routes::Way> = status
        .sites
        .iter()
        .map(|site| match target {
            Target::Web => site.web.way.clone(),
            Target::NameServers => site.name_servers.way.clone(),
        })
        .collect();
    let note = |site: &status::SiteStatus| match (site.node, site.link) {
        (true, true) => None,
        (false, _) => Some((site.id.clone(), "node is down".to_owned())),
        (true, false) => Some((site.id.clone(), "link is down".to_owned())),
    };
    let notes = status.sites.iter().filter_map(note).collect();
    let subtitle = status::routing_in_words(&status.routing);
    let title = "Where packets of the perspectives' sites go";
    draw(&Scene { title, subtitle: &subtitle, routing: &status.routing, target, ways: &ways, notes: &notes })
}

impl Attack {
    fn routing(&self) -> Result<Routing, InternetError> {
        if let Some(unknown) = self.near.iter().find(|id| topology::perspective(id).is_none()) {
            return Err(InternetError::NoSite(unknown.clone()));
        }
        if let Some(unknown) = self.filtering.iter().find(|number| topology::system(**number).is_none()) {
            return Err(InternetError::NoSystem(*unknown));
        }
        let form = match (self.subprefix, self.forged_origin) {
            (true, _) => Form::SubPrefix,
            (_, true) => Form::ForgedOrigin,
            _ => Form::Equal,
        };
        let target = if self.nameserver { Target::NameServers } else { Target::Web };
        let filtering: BTreeSet<u32> = self.filtering.iter().copied().collect();
        Ok(Routing { hijack: Some(Hijack { target, form, near: self.near.clone() }), filtering })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path, name: Option<&str>) -> Place {
        Place { dir: dir.to_owned(), name: name.map(str::to_owned), bin: None }
    }

    #[test]
    fn a_number_is_the_name_of_a_process_s_own_laboratory_alone() {
        let by = |text: &str| name_by(text, [Some(71), Some(70)]);
        for good in ["lab", "a1", "1a", "70", "71", "0123456789abcdef"] {
            assert_eq!(by(good).as_deref(), Ok(good));
        }
        for bad in ["", "a-b", "../x", "0123456789abcdefg", "72", "071", "1"] {
            assert!(by(bad).is_err(), "{bad}");
        }
        assert!(plain_name(&std::process::id().to_string()).is_ok());
    }

    #[test]
    fn the_name_is_that_of_the_laboratory_in_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().canonicalize().unwrap();
        let name = |given| place(&dir, given).name_of_laboratory();
        assert_eq!(name(None).unwrap(), NAME);
        assert_eq!(name(Some("other")).unwrap(), "other");
        crate::internet::state::planned("mine", &dir, Path::new("/bin")).write().unwrap();
        assert_eq!(name(None).unwrap(), "mine");
        assert_eq!(name(Some("mine")).unwrap(), "mine");
        let error = name(Some("lab")).unwrap_err();
        assert!(matches!(error, InternetError::OtherName { .. }), "{error}");
        let elsewhere = State { directory: "/somewhere/else".into(), ..State::read(&dir).unwrap() };
        let text = serde_json::to_string(&elsewhere).unwrap();
        std::fs::write(dir.join(crate::internet::state::FILE), text).unwrap();
        assert!(matches!(name(None), Err(InternetError::NotOurs(_))));
    }
}
