//! Settings in two steps: what was written ([`File`]), then what it means ([`Config`]), with the
//! cross-checks done once and messages that name the key.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use parallax_node::{ConfigError as NodeConfigError, DnssecSetting, Driver, Laboratory, NodeConfig, Transport};
use parallax_protocol::transport::{KeyPin, Peer, TlsFiles};
use parallax_validation::{
    base::{
        perspective::{Coordinates, Perspective, PerspectiveId, ResolverSite, Rir, Role},
        suffix::{SuffixList, Suffixes},
    },
    check::caa::authorize::CaaPolicy,
    lookup::dnssec::anchor::TrustAnchors,
    plan::PlanLimits,
    record::{Conduct, FORM_VERSION, Mode, Rules, Setup, SetupError},
    request::RequestRules,
    verdict::{
        cohort::{Cohort, CohortViolation, Diversity},
        draw::Draw,
    },
};
use serde::Deserialize;
use thiserror::Error;

use crate::{admission::Limits, retention::KEEP_DAYS_MIN, serve::ServeSection};

/// The built-in policy rows.
pub const POLICY: &str = parallax_validation::verdict::policy::BUILTIN_TEXT;

/// The commented sample.
pub const SAMPLE: &str = include_str!("../parallax.sample.toml");

/// The configuration file as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Names by which the CA is known in CAA records and in those of dns-persist-01, as its CP/CPS lists them (req C19,
    /// D9).
    pub issuer_domains: Vec<String>,
    /// DS or DNSKEY records of the root, one a line; the built-in ones if missing.
    #[serde(default)]
    pub trust_anchor_file: Option<PathBuf>,
    /// Policy rows that are stricter than the built-in ones.
    #[serde(default)]
    pub policy_file: Option<PathBuf>,
    /// A public suffix list newer than the built-in one (req B17, D1).
    #[serde(default)]
    pub public_suffix_list: Option<PathBuf>,
    /// How attempts are made.
    #[serde(default)]
    pub engine: EngineSection,
    /// Limits of each perspective's task.
    #[serde(default)]
    pub lookup: PlanLimits,
    /// How CAA is judged.
    #[serde(default)]
    pub caa: CaaSection,
    /// `[cohort]`.
    #[serde(default)]
    pub cohort: CohortSection,
    /// `[limits]`.
    #[serde(default)]
    pub limits: Limits,
    /// The journal.
    #[serde(default)]
    pub journal: JournalSection,
    /// Who this engine is to its nodes and its callers, and whom it believes.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// `parallax serve`.
    #[serde(default)]
    pub serve: Option<ServeSection>,
    /// For laboratories only.
    #[serde(default)]
    pub laboratory: Option<Laboratory>,
    /// The perspectives.
    #[serde(rename = "perspective")]
    pub perspectives: Vec<PerspectiveSection>,
}

/// In what order perspectives are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FanOut {
    /// Remotes are asked once the primary has confirmed; most attempts fail there.
    #[default]
    PrimaryFirst,
    /// All are asked at once: lower latency, more traffic.
    Parallel,
    /// At once for accounts whose attempts mostly passed at the primary of late, else the primary first.
    Adaptive,
}

/// `[cohort]`: stricter rules of the operator's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CohortSection {
    /// Autonomous systems among all perspectives, at least (req H4).
    pub as_numbers_min: u8,
    /// Providers among all perspectives, at least (req H4).
    pub providers_min: u8,
    /// Remotes that are drawn for each attempt out of all that are named; all of them if missing.
    pub remotes: Option<u8>,
}

/// `[engine]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSection {
    /// Attempts in flight; further requests wait.
    pub attempts_in_flight: usize,
    /// In what order perspectives are asked.
    pub fan_out: FanOut,
    /// Whether a refusal waits for every remote that was asked, so that it can be explained.
    pub await_all_on_refusal: bool,
    /// Whether a permission does, so that every contradiction is seen before the verdict (req H8).
    pub await_all_on_permission: bool,
    /// Added to the task's deadline before a silent perspective is given up, milliseconds.
    pub reply_grace_ms: u32,
    /// `report-only` for dry runs: nothing is permitted (req H15).
    pub mode: Mode,
    /// How often the whole process starts afresh after perspectives disagreed, at most (req H8).
    pub restarts_max: u8,
    /// How long the first restart waits, milliseconds; twice as long each further one (req H13).
    pub restart_cool_down_ms: u32,
}

impl Default for EngineSection {
    fn default() -> Self {
        Self {
            attempts_in_flight: 2000,
            fan_out: FanOut::PrimaryFirst,
            await_all_on_refusal: true,
            await_all_on_permission: false,
            reply_grace_ms: 2000,
            mode: Mode::Enforcing,
            restarts_max: 1,
            restart_cool_down_ms: 5000,
        }
    }
}

/// `[caa]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaaSection {
    /// Whether flags = 1, a common misreading of "critical", counts as critical (req C10).
    pub flags_one_is_critical: bool,
    /// Whether the CA offers contact-email-caa, so that a critical contactemail does no harm (TLS BR App. A.1).
    pub processes_contactemail: bool,
    /// Whether the CA offers contact-phone-caa, so that a critical contactphone does no harm.
    pub processes_contactphone: bool,
    /// Whether a CAA lookup that failed may count as permission, if the zone is proven to be unsigned and all the
    /// other conditions of the TLS BR §4.2.2.1 hold (req C16). Needs `lookup.caa_repeat_ms`.
    pub lookup_failure_permits: bool,
}

impl Default for CaaSection {
    fn default() -> Self {
        Self {
            flags_one_is_critical: true,
            processes_contactemail: false,
            processes_contactphone: false,
            lookup_failure_permits: false,
        }
    }
}

/// The most captures, mebibytes: a tebibyte.
const CAPTURES_MIB_MAX: u64 = 1 << 20;

/// `[journal]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSection {
    /// Where its segments are; the command line may name another place.
    pub directory: PathBuf,
    /// A new segment is begun beyond this many mebibytes.
    pub segment_mib: u64,
    /// Segments whose records are all older than this many days are removed; 0 keeps them for ever.
    pub keep_days: u32,
    /// Mebibytes of packets that are kept beside records which deserve a closer look, of nodes that have them; the oldest
    /// go first. 0: none are asked for.
    pub captures_mib: u64,
}

impl Default for JournalSection {
    fn default() -> Self {
        Self { directory: PathBuf::from("journal"), segment_mib: 256, keep_days: 0, captures_mib: 0 }
    }
}

/// `[[perspective]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerspectiveSection {
    /// Unique name.
    pub id: PerspectiveId,
    /// `primary` or `remote`.
    pub role: Role,
    /// Region.
    pub rir: Rir,
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// Autonomous system.
    pub as_number: u32,
    /// Who runs the network there.
    pub provider: String,
    /// Where its node listens, `host:port`; without it the perspective looks from this process. What follows it is then
    /// the node's own setting, except for what is compared when they meet: `rir`, `resolver`, `dnssec`.
    #[serde(default)]
    pub node: Option<String>,
    /// The name that the node's certificate must have; the perspective's id if missing.
    #[serde(default)]
    pub node_name: Option<String>,
    /// Its key must be one of these, if there are any.
    #[serde(default)]
    pub node_keys: Vec<KeyPin>,
    /// Source of IPv4 traffic.
    #[serde(default)]
    pub source_ipv4: Option<Ipv4Addr>,
    /// Source of IPv6 traffic.
    #[serde(default)]
    pub source_ipv6: Option<Ipv6Addr>,
    /// The one resolver it asks.
    pub resolver: SocketAddr,
    /// Where the resolver is, if not where the perspective is.
    #[serde(default)]
    pub resolver_latitude: Option<f64>,
    /// See `resolver_latitude`.
    #[serde(default)]
    pub resolver_longitude: Option<f64>,
    /// Region of the resolver, if not the perspective's.
    #[serde(default)]
    pub resolver_rir: Option<Rir>,
    /// Who validates DNSSEC.
    #[serde(default)]
    pub dnssec: DnssecSetting,
    /// How the node does its input and output: `io-uring`, or `epoll` where that is blocked.
    #[serde(default, deserialize_with = "parallax_node::config::from_text")]
    pub driver: Driver,
    /// What carries the node's traffic: the kernel's sockets, or frames on an interface of its own.
    #[serde(default)]
    pub transport: Transport,
    /// Threads, each with its own ring.
    #[serde(default = "one")]
    pub workers: u16,
    /// The processor each is bound to, as many as workers; none: wherever the kernel puts them.
    #[serde(default)]
    pub cores: Vec<usize>,
    /// Source ports each worker spreads its queries over.
    #[serde(default = "sixty_four")]
    pub source_ports: u16,
    /// Tasks each worker carries out at a time.
    #[serde(default = "many")]
    pub tasks_in_flight_max: u32,
    /// Mebibytes that all tasks together are reckoned to hold at most; no bound, if not given.
    #[serde(default)]
    pub memory_max_mib: Option<u32>,
}

fn one() -> u16 {
    1
}

fn sixty_four() -> u16 {
    64
}

/// Tasks a worker carries out at a time, if nothing is said.
pub(crate) const TASKS_IN_FLIGHT_DEFAULT: u32 = 20_000;

fn many() -> u32 {
    TASKS_IN_FLIGHT_DEFAULT
}

/// Settings that cannot be.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is not TOML, or has unknown or missing keys.
    #[error("{path}: {error}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A value.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The policy rows.
    #[error("{path}: policy_file: {error}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<SetupError>,
    },
    /// The perspectives are no lawful cohort.
    #[error("{path}: the perspectives are no lawful cohort under the rules of {at}:\n  {}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Cohort {
        /// The file.
        path: PathBuf,
        /// The instant whose rules are broken.
        at: Timestamp,
        /// Every broken rule.
        violations: Vec<CohortViolation>,
    },
    /// No cohort can be drawn.
    #[error("{path}: no {remotes} of the {pool} remotes are a lawful cohort with the primary under the rules of {at}; the first {remotes}, for example:\n  {}", example.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    NoCohort {
        /// The file.
        path: PathBuf,
        /// The instant whose rules are broken.
        at: Timestamp,
        /// Remotes of a cohort.
        remotes: u8,
        /// Remotes there are.
        pool: usize,
        /// The broken rules of the first that could be drawn.
        example: Vec<CohortViolation>,
    },
}

/// Settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The rules attempts are made under.
    pub rules: Rules,
    /// One for each perspective, in the order of the rules: the primary first.
    pub nodes: Vec<NodeConfig>,
    /// The nodes that are elsewhere, each at the place of its perspective.
    pub peers: Vec<Option<Peer>>,
    /// Who this engine is; there is one if any node is elsewhere.
    pub tls: Option<TlsFiles>,
    /// The engine as a service.
    pub serve: Option<ServeSection>,
    /// Digest of the trust anchors.
    pub trust_anchors: String,
    /// The public suffix lists that names of requests are held against.
    pub suffixes: Suffixes,
    /// How attempts are made.
    pub engine: EngineSection,
    /// What protects third parties and accounts from each other.
    pub limits: Limits,
    /// The journal.
    pub journal: JournalSection,
    /// What is lawful but worth knowing.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and checks a configuration file for use at `now`: refused if the cohort is not lawful now or
    /// in 24 hours (req A20), with a warning if it will not be in 30 days.
    ///
    /// # Errors
    /// The first key at fault, or every broken rule of the cohort.
    pub fn load(path: &Path, now: Timestamp) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path, now)
    }

    /// The rules and perspectives of a configuration file, whether they are a lawful cohort or not.
    ///
    /// # Errors
    /// As [`Config::load`], without the cohort's rules.
    pub fn load_rules(path: &Path, now: Timestamp) -> Result<Rules, ConfigError> {
        let file = file_of(&read(path)?, path)?;
        let checker = Checker { path, now };
        checker.check_numbers(&file)?;
        checker.rules_of(file)
    }

    /// What requests are held against.
    #[must_use]
    pub fn request_rules(&self) -> RequestRules {
        RequestRules { filter: self.nodes[0].address_filter(), suffixes: self.suffixes.clone() }
    }

    /// Checks the text of a configuration file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, now: Timestamp) -> Result<Self, ConfigError> {
        Checker { path, now }.check(file_of(text, path)?)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}

fn file_of(text: &str, path: &Path) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Toml { path: path.to_owned(), error: Box::new(error) })
}

/// A hundred years.
const KEEP_DAYS_MAX: u32 = 36_525;

/// From when on a public suffix list is called old, days.
const SUFFIX_LIST_DAYS_MAX: i64 = 90;

struct Checker<'a> {
    path: &'a Path,
    now: Timestamp,
}

impl Checker<'_> {
    fn value(&self, key: impl Into<String>, problem: impl ToString) -> ConfigError {
        ConfigError::Value { path: self.path.to_owned(), key: key.into(), problem: problem.to_string() }
    }

    fn check(&self, mut file: File) -> Result<Config, ConfigError> {
        self.check_numbers(&file)?;
        primary_first(&mut file);
        let perspectives = self.perspectives(&file)?;
        let laboratory = file.laboratory.clone().unwrap_or_default();
        let anchors = Arc::new(self.trust_anchors(&file)?);
        let nodes = self.nodes(&file, &laboratory, &anchors)?;
        let peers = self.peers(&file)?;
        let (suffixes, list_age) = self.suffixes(&file)?;
        let rules = self.rules(&file, perspectives, &suffixes)?;
        let mut warnings = match rules.setup().conduct.draw {
            Some(draw) => self.check_draw(&rules, draw)?,
            None => self.check_cohort(&rules, diversity(&file.cohort))?,
        };
        if file.engine.mode == Mode::ReportOnly {
            warnings.push("engine.mode is \"report-only\": nothing is permitted, whatever is found".to_owned());
        }
        warnings.extend(
            nodes
                .iter()
                .zip(&peers)
                .filter(|(node, peer)| peer.is_none() && node.carrier() == Driver::Epoll.name())
                .map(|(node, _)| format!("{}: driver = \"epoll\", which is slower than io-uring", node.perspective)),
        );
        if file.laboratory.is_some() {
            warnings.push(
                "[laboratory] is set: special-purpose addresses may be connected to; never use this for issuance"
                    .to_owned(),
            );
        }
        warnings.extend(
            list_age
                .filter(|days| *days > SUFFIX_LIST_DAYS_MAX)
                .map(|days| format!("public_suffix_list: {days} days old; public suffixes come and go by the week")),
        );
        let tls = file.tls.map(|files| beside(self.path, files));
        if let Some((key, problem)) = file.serve.as_ref().and_then(|section| section.check().err()) {
            return Err(self.value(key, problem));
        }
        if file.serve.is_some() && tls.is_none() {
            return Err(self.value("tls", "missing, and callers are served over mutual TLS only"));
        }
        let trust_anchors = anchors.digest();
        Ok(Config {
            rules,
            nodes,
            peers,
            tls,
            serve: file.serve,
            trust_anchors,
            suffixes,
            engine: file.engine,
            limits: file.limits,
            journal: file.journal,
            warnings,
        })
    }

    /// The lists, and the age of the one from a file in days: by its version, or else by the file's date.
    fn suffixes(&self, file: &File) -> Result<(Suffixes, Option<i64>), ConfigError> {
        let Some(named) = &file.public_suffix_list else { return Ok((Suffixes::default(), None)) };
        let path = self.path.parent().unwrap_or(Path::new(".")).join(named);
        let read = |path: &Path| Ok((std::fs::read_to_string(path)?, std::fs::metadata(path)?.modified()?));
        let (text, modified) = read(&path).map_err(|error| ConfigError::Read { path: path.clone(), error })?;
        let list: SuffixList = text
            .parse()
            .map_err(|problem| self.value("public_suffix_list", format!("{}: {problem}", path.display())))?;
        let by_file = || Timestamp::try_from(modified).ok().map(|at| self.now.duration_since(at).as_secs() / 86_400);
        let age = list.age_days(self.now).or_else(by_file);
        Ok((Suffixes::with(list), age))
    }

    fn rules_of(&self, mut file: File) -> Result<Rules, ConfigError> {
        primary_first(&mut file);
        let perspectives = self.perspectives(&file)?;
        let (suffixes, _) = self.suffixes(&file)?;
        self.rules(&file, perspectives, &suffixes)
    }

    fn check_numbers(&self, file: &File) -> Result<(), ConfigError> {
        let Limits { waiting_max, cool_down_ms, cool_down_max_ms, .. } = file.limits;
        if !(1..=10_000_000).contains(&waiting_max) {
            return Err(self.value("limits.waiting_max", "not in 1..=10000000"));
        }
        if cool_down_max_ms > 3_600_000 || cool_down_ms > cool_down_max_ms {
            return Err(self.value("limits.cool_down_max_ms", "below limits.cool_down_ms, or above an hour"));
        }
        if file.engine.restart_cool_down_ms > 3_600_000 {
            return Err(self.value("engine.restart_cool_down_ms", "above an hour"));
        }
        file.lookup.check().map_err(|problem| self.value("lookup", problem))?;
        if file.caa.lookup_failure_permits && file.lookup.caa_repeat_ms == 0 {
            let problem = "needs lookup.caa_repeat_ms: a lookup that was not repeated never permits";
            return Err(self.value("caa.lookup_failure_permits", problem));
        }
        if !(1..=1_000_000).contains(&file.engine.attempts_in_flight) {
            return Err(self.value("engine.attempts_in_flight", "not in 1..=1000000"));
        }
        if !(1..=4096).contains(&file.journal.segment_mib) {
            return Err(self.value("journal.segment_mib", "not in 1..=4096"));
        }
        if file.journal.captures_mib > CAPTURES_MIB_MAX {
            return Err(self.value("journal.captures_mib", format!("above {CAPTURES_MIB_MAX}")));
        }
        if !matches!(file.journal.keep_days, 0 | KEEP_DAYS_MIN..=KEEP_DAYS_MAX) {
            let problem = format!(
                "neither 0, which is for ever, nor in {KEEP_DAYS_MIN}..={KEEP_DAYS_MAX}: records are kept for 200 days of \
                 reuse, 200 days of validity and 2 years at least (TLS BR 2.3.1 §5.4.3, §5.5.2)"
            );
            return Err(self.value("journal.keep_days", problem));
        }
        if file.issuer_domains.is_empty() {
            return Err(self.value("issuer_domains", "at least one name is wanted, or no CAA record can permit"));
        }
        for domain in &file.issuer_domains {
            let parsed: Result<parallax_validation::base::name::DomainName, _> = domain.parse();
            parsed.map_err(|problem| self.value("issuer_domains", problem))?;
        }
        Ok(())
    }

    fn perspectives(&self, file: &File) -> Result<Vec<Perspective>, ConfigError> {
        let primaries = file.perspectives.iter().filter(|p| p.role == Role::Primary).count();
        if primaries != 1 {
            return Err(self.value("perspective", format!("{primaries} have the role \"primary\"; exactly one must")));
        }
        file.perspectives.iter().map(|section| self.perspective(section)).collect()
    }

    fn perspective(&self, section: &PerspectiveSection) -> Result<Perspective, ConfigError> {
        let key = |name: &str| format!("perspective.{}.{name}", section.id);
        let coordinates =
            Coordinates::new(section.latitude, section.longitude).map_err(|e| self.value(key("latitude"), e))?;
        let resolver_at = match (section.resolver_latitude, section.resolver_longitude) {
            (None, None) => coordinates,
            (Some(latitude), Some(longitude)) => {
                Coordinates::new(latitude, longitude).map_err(|e| self.value(key("resolver_latitude"), e))?
            }
            _ => return Err(self.value(key("resolver_latitude"), "give both resolver_latitude and resolver_longitude")),
        };
        Ok(Perspective {
            id: section.id.clone(),
            role: section.role,
            rir: section.rir,
            coordinates,
            as_number: section.as_number,
            provider: section.provider.clone(),
            resolver: ResolverSite {
                name: match &section.node {
                    None => section.resolver.to_string(),
                    Some(node) => format!("{} at {node}", section.resolver),
                },
                rir: section.resolver_rir.unwrap_or(section.rir),
                coordinates: resolver_at,
            },
        })
    }

    fn trust_anchors(&self, file: &File) -> Result<TrustAnchors, ConfigError> {
        let Some(named) = &file.trust_anchor_file else { return Ok(TrustAnchors::iana()) };
        let path = self.path.parent().unwrap_or(Path::new(".")).join(named);
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::Read { path: path.clone(), error })?;
        TrustAnchors::parse(&text)
            .map_err(|problem| self.value("trust_anchor_file", format!("{}: {problem}", path.display())))
    }

    fn nodes(
        &self,
        file: &File,
        laboratory: &Laboratory,
        anchors: &Arc<TrustAnchors>,
    ) -> Result<Vec<NodeConfig>, ConfigError> {
        let in_laboratory = file.laboratory.is_some();
        let mut resolvers = std::collections::HashMap::new();
        let mut sources = std::collections::HashMap::new();
        file.perspectives
            .iter()
            .map(|section| {
                let key = |name: &str| format!("perspective.{}.{name}", section.id);
                if section.role == Role::Primary && section.dnssec == DnssecSetting::None {
                    let problem = "none; every DNS query of a primary must be validated (TLS BR 2.3.1 §4.2.2.2): \
                                   set \"local\" or \"resolver\"";
                    return Err(self.value(key("dnssec"), problem));
                }
                // Two ports of one host are one resolver; a laboratory may play several on one.
                let resolver = if in_laboratory { section.resolver } else { SocketAddr::new(section.resolver.ip(), 53) };
                // A node elsewhere means its own host by a loopback address.
                let is_its_own = section.node.is_some() && resolver.ip().is_loopback();
                let other = if is_its_own { None } else { resolvers.insert(resolver, &section.id) };
                if let Some(other) = other {
                    let problem = format!(
                        "{} is {other}'s too; nothing may be shared between perspectives (req A11)",
                        section.resolver
                    );
                    return Err(self.value(key("resolver"), problem));
                }
                let section_sources: Vec<IpAddr> = section
                    .source_ipv4
                    .map(IpAddr::V4)
                    .into_iter()
                    .chain(section.source_ipv6.map(IpAddr::V6))
                    .collect();
                if section.node.is_some() && !section_sources.is_empty() {
                    let problem = "given beside node; where a node looks from is its own setting";
                    return Err(self.value(key("source"), problem));
                }
                if section_sources.is_empty() && section.node.is_none() && !in_laboratory {
                    let problem = "missing, and so is source_ipv6; without one, perspectives in this process look from the same place (req A6, A8)";
                    return Err(self.value(key("source_ipv4"), problem));
                }
                for source in section_sources {
                    let other = sources.insert(source, &section.id).filter(|_| !in_laboratory);
                    if let Some(other) = other {
                        let problem = format!("{source} is {other}'s too; two perspectives at one address are one (req A6, A8)");
                        return Err(self.value(key("source"), problem));
                    }
                }
                let node = NodeConfig {
                    perspective: section.id.clone(),
                    rir: section.rir,
                    source_ipv4: section.source_ipv4,
                    source_ipv6: section.source_ipv6,
                    resolver: section.resolver,
                    driver: section.driver,
                    transport: section.transport.clone(),
                    workers: section.workers,
                    cores: section.cores.clone(),
                    source_ports: section.source_ports,
                    tasks_in_flight_max: section.tasks_in_flight_max,
                    memory_max: section.memory_max_mib.map(|mebibytes| u64::from(mebibytes) << 20),
                    dnssec: section.dnssec.with(anchors),
                    laboratory: laboratory.clone(),
                };
                node.check().map_err(|e: NodeConfigError| self.value(format!("perspective.{}", section.id), e))?;
                Ok(node)
            })
            .collect()
    }

    /// Nodes elsewhere. Two perspectives at one address, or with one certificate, would be one (req A6, A12).
    fn peers(&self, file: &File) -> Result<Vec<Option<Peer>>, ConfigError> {
        let mut places = std::collections::HashMap::new();
        let mut names = std::collections::HashMap::new();
        let mut keys = std::collections::HashMap::new();
        let mut peers = Vec::new();
        for section in &file.perspectives {
            let key = |name: &str| format!("perspective.{}.{name}", section.id);
            let taken = |name: &str, what: &str, other: &PerspectiveId| {
                self.value(key(name), format!("{what} is {other}'s too; each perspective has a node of its own"))
            };
            let Some(address) = &section.node else {
                let stray = section.node_name.as_ref().map(|_| "node_name");
                if let Some(stray) = stray.or((!section.node_keys.is_empty()).then_some("node_keys")) {
                    return Err(self.value(key(stray), "given without node"));
                }
                peers.push(None);
                continue;
            };
            if file.tls.is_none() {
                return Err(self.value("tls", "missing, and a node elsewhere is only reached over mutual TLS"));
            }
            let has_port = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
            if !has_port {
                return Err(self.value(key("node"), format!("'{address}' is not host:port")));
            }
            let name = section.node_name.clone().unwrap_or_else(|| section.id.to_string()).to_ascii_lowercase();
            if !(name.len() <= 253
                && !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
            {
                return Err(self.value(key("node_name"), format!("'{name}' is no name that a certificate has")));
            }
            if let Some(other) = places.insert(address.clone(), &section.id) {
                return Err(taken("node", address, other));
            }
            if let Some(other) = names.insert(name.clone(), &section.id) {
                return Err(taken("node_name", &name, other));
            }
            for pin in &section.node_keys {
                if let Some(other) = keys.insert(pin.to_string(), &section.id).filter(|other| **other != section.id) {
                    return Err(taken("node_keys", &pin.to_string(), other));
                }
            }
            peers.push(Some(Peer { address: address.clone(), name, keys: section.node_keys.clone() }));
        }
        Ok(peers)
    }

    fn rules(&self, file: &File, perspectives: Vec<Perspective>, suffixes: &Suffixes) -> Result<Rules, ConfigError> {
        let (trials, perspectives) = perspectives.into_iter().partition(|p| p.role == Role::Trial);
        let conduct = Conduct {
            mode: file.engine.mode,
            draw: file.cohort.remotes.map(|remotes| Draw { remotes, diversity: diversity(&file.cohort) }),
            restarts_max: file.engine.restarts_max,
            trials,
        };
        let policy = match &file.policy_file {
            None => POLICY.to_owned(),
            Some(named) => {
                let path = self.path.parent().unwrap_or(Path::new(".")).join(named);
                std::fs::read_to_string(&path).map_err(|error| ConfigError::Read { path, error })?
            }
        };
        let setup = Setup {
            form: FORM_VERSION,
            software: concat!("parallax ", env!("CARGO_PKG_VERSION")).to_owned(),
            policy,
            caa: CaaPolicy {
                lookup_failure_permits: file.caa.lookup_failure_permits,
                processes_contactemail: file.caa.processes_contactemail,
                processes_contactphone: file.caa.processes_contactphone,
                ..caa_policy(file.issuer_domains.clone(), file.caa.flags_one_is_critical)
            },
            perspectives,
            limits: file.lookup,
            public_suffixes: suffixes.newer().map(|list| list.rules().to_owned()),
            conduct,
        };
        setup.rules().map_err(|error| match error {
            SetupError::Draw(error) => self.value("cohort.remotes", error),
            SetupError::Restarts(_) => self.value("engine.restarts_max", error),
            SetupError::Perspectives => self.value("perspective", error),
            SetupError::Policy(_) | SetupError::Suffixes(_) | SetupError::Form(_) => {
                ConfigError::Policy { path: self.path.to_owned(), error: Box::new(error) }
            }
        })
    }

    /// Refuses a pool out of which no lawful cohort can be drawn now or tomorrow; warns of the next 30 days (req A20).
    fn check_draw(&self, rules: &Rules, draw: Draw) -> Result<Vec<String>, ConfigError> {
        let hours = |hours: i64| self.now + jiff::SignedDuration::from_hours(hours);
        for at in [self.now, hours(24)] {
            if rules.cohorts(at).is_empty() {
                return Err(ConfigError::NoCohort {
                    path: self.path.to_owned(),
                    at,
                    remotes: draw.remotes,
                    pool: rules.remotes().len(),
                    example: example(rules, draw, at),
                });
            }
        }
        let mut warnings: Vec<String> = never_drawn(rules, self.now)
            .into_iter()
            .map(|id| format!("{id} is in no lawful cohort, so it is never asked"))
            .collect();
        if rules.cohorts(hours(24 * 30)).is_empty() {
            let example = example(rules, draw, hours(24 * 30));
            let what = example.iter().map(|violation| format!("; such as: {violation}")).collect::<String>();
            warnings.push(format!("within 30 days: no cohort of {} remotes will be lawful{what}", draw.remotes));
        }
        Ok(warnings)
    }

    /// Refuses a cohort that is not lawful now or tomorrow; warns of the next 30 days (req A20).
    fn check_cohort(&self, rules: &Rules, diversity: Diversity) -> Result<Vec<String>, ConfigError> {
        let violations = diversity.lacking(rules.primary(), rules.remotes());
        if !violations.is_empty() {
            return Err(ConfigError::Cohort { path: self.path.to_owned(), at: self.now, violations });
        }
        let hours = |hours: i64| self.now + jiff::SignedDuration::from_hours(hours);
        let mut warnings = Vec::new();
        for at in [self.now, hours(24)] {
            match cohort_at(rules, at) {
                Ok(cohort) => warnings = cohort.warnings().iter().map(ToString::to_string).collect(),
                Err(violations) => return Err(ConfigError::Cohort { path: self.path.to_owned(), at, violations }),
            }
        }
        if let Err(violations) = cohort_at(rules, hours(24 * 30)) {
            warnings.extend(violations.iter().map(|v| format!("within 30 days: {v}")));
        }
        Ok(warnings)
    }
}

/// Relative names are those of files beside the settings.
fn beside(settings: &Path, files: TlsFiles) -> TlsFiles {
    let directory = settings.parent().unwrap_or(Path::new("."));
    TlsFiles {
        certificate: directory.join(files.certificate),
        key: directory.join(files.key),
        authorities: directory.join(files.authorities),
        revoked: files.revoked.map(|file| directory.join(file)),
    }
}

/// The primary leads, and those on trial come last; otherwise the order is that of the file.
fn primary_first(file: &mut File) {
    file.perspectives.sort_by_key(|p| match p.role {
        Role::Primary => 0,
        Role::Remote => 1,
        Role::Trial => 2,
    });
}

fn diversity(section: &CohortSection) -> Diversity {
    Diversity { as_numbers_min: section.as_numbers_min, providers_min: section.providers_min }
}

/// How CAA is judged for a CA with these issuer domains.
#[must_use]
pub fn caa_policy(issuer_domains: Vec<String>, flags_one_is_critical: bool) -> CaaPolicy {
    let issuer_domains = issuer_domains.into_iter().map(|d| d.to_ascii_lowercase()).collect();
    CaaPolicy { issuer_domains, flags_one_is_critical, ..CaaPolicy::default() }
}

/// Remotes of the pool that no lawful cohort holds.
#[must_use]
pub fn never_drawn(rules: &Rules, at: Timestamp) -> Vec<PerspectiveId> {
    let cohorts = rules.cohorts(at);
    let drawn = |place: usize| cohorts.iter().any(|members| members.iter().any(|m| usize::from(*m) == place));
    let pool = rules.remotes().iter().enumerate();
    pool.filter(|(index, _)| !drawn(index + 1)).map(|(_, remote)| remote.id.clone()).collect()
}

/// What is wrong with one of the cohorts that could be drawn.
fn example(rules: &Rules, draw: Draw, at: Timestamp) -> Vec<CohortViolation> {
    let row = rules.table().row_at(at).unwrap_or(&rules.table().rows()[0]);
    let first = &rules.remotes()[..usize::from(draw.remotes).min(rules.remotes().len())];
    let mut violations = Cohort::check(rules.primary(), first, row).err().unwrap_or_default();
    violations.extend(draw.diversity.lacking(rules.primary(), first));
    violations
}

fn cohort_at(rules: &Rules, at: Timestamp) -> Result<Cohort, Vec<CohortViolation>> {
    // Before the first row the first one is used: laxer than any later one, stricter than none.
    let row = rules.table().row_at(at).unwrap_or(&rules.table().rows()[0]);
    Cohort::check(rules.primary(), rules.remotes(), row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, at: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("parallax.toml"), at.parse().expect("a timestamp"))
    }

    #[test]
    fn ok_the_sample_is_a_working_configuration() {
        let config = parse(SAMPLE, "2026-11-25T12:00:00Z").expect("the sample");
        assert_eq!(config.nodes.len(), 6);
        assert_eq!(config.rules.primary().role, Role::Primary);
    }

    #[test]
    fn h4_too_few_networks_or_providers_are_refused_if_more_are_demanded() {
        let at = "2026-11-25T12:00:00Z";
        let demanding = |section: &str| parse(&format!("{SAMPLE}\n[cohort]\n{section}\n"), at);
        let perspectives = parse(SAMPLE, at).expect("the sample").rules.setup().perspectives.clone();
        let count = |key: fn(&Perspective) -> String| {
            perspectives.iter().map(key).collect::<std::collections::BTreeSet<_>>().len()
        };
        let (networks, providers) = (count(|p| p.as_number.to_string()), count(|p| p.provider.clone()));
        demanding(&format!("as_numbers_min = {networks}\nproviders_min = {providers}")).expect("as many as there are");
        for (section, wants) in [
            (format!("as_numbers_min = {}", networks + 1), format!("in {networks} autonomous systems")),
            (format!("providers_min = {}", providers + 1), format!("with {providers} providers")),
        ] {
            let error = demanding(&section).expect_err("more than there are").to_string();
            assert!(error.contains(&wants), "{error}");
        }
    }

    #[test]
    fn ok_a_laboratory_dials_other_ports() {
        let keys = ["[laboratory]", "allow_addresses =", "http_port =", "https_port ="];
        let text = keys.iter().fold(SAMPLE.to_owned(), |text, key| text.replace(&format!("# {key}"), key));
        let config = parse(&text, "2026-11-25T12:00:00Z").expect("the sample with its laboratory");
        for (port, dialled) in [(80, 8080), (443, 8443), (53, 53)] {
            let at = |port: u16| SocketAddr::from(([203, 0, 113, 7], port));
            assert_eq!(config.nodes[0].dialled(at(port)), at(dialled));
        }
    }

    #[test]
    fn err_messages_name_the_key() {
        let at = "2026-11-25T12:00:00Z";
        for (from, to, wants) in [
            ("attempts_in_flight", "attempts_in_flite", "attempts_in_flite"),
            ("role = \"primary\"", "role = \"remote\"", "0 have the role"),
            ("latitude = 52.37", "latitude = 152.37", "perspective.ams1.latitude"),
            ("issuer_domains = [\"ca.example\"]", "issuer_domains = []", "issuer_domains"),
            ("dns_transmissions = 2", "dns_transmissions = 9", "dns_transmissions: 9"),
            ("workers = 1", "workers = 0", "workers: 0"),
            ("keep_days = 0", "keep_days = 1129", "journal.keep_days: neither 0"),
            ("keep_days = 0", "keep_days = 400", "200 days of reuse, 200 days of validity and 2 years"),
            ("keep_days = 0", "keep_days = 99999", "journal.keep_days"),
            ("captures_mib = 0", "captures_mib = 1048577", "journal.captures_mib: above 1048576"),
            ("latitude = 39.04\nlongitude = -77.49", "latitude = 52.00\nlongitude = 5.00", "km"),
        ] {
            let text = SAMPLE.replace(from, to);
            assert_ne!(text, SAMPLE, "{from}");
            let error = parse(&text, at).expect_err(wants).to_string();
            assert!(error.contains(wants) && error.contains("parallax.toml"), "{error}");
        }
    }

    #[test]
    fn a6_err_perspectives_without_a_place_of_their_own_are_refused() {
        let at = "2026-11-25T12:00:00Z";
        let without = SAMPLE.replace("source_ipv4 = \"198.51.100.20\"\n", "");
        let error = parse(&without, at).expect_err("no source").to_string();
        assert!(error.contains("perspective.iad1.source_ipv4: missing"), "{error}");
        let shared = SAMPLE.replace("198.51.100.20", "198.51.100.10");
        let error = parse(&shared, at).expect_err("a shared source").to_string();
        assert!(error.contains("two perspectives at one address"), "{error}");
        let ports = SAMPLE.replace("10.0.2.53:53", "10.0.1.53:54");
        let error = parse(&ports, at).expect_err("one host").to_string();
        assert!(error.contains("nothing may be shared"), "{error}");
    }

    #[test]
    fn err_a_shared_resolver_is_refused() {
        let text = SAMPLE.replace("10.0.2.53:53", "10.0.1.53:53");
        let error = parse(&text, "2026-11-25T12:00:00Z").expect_err("shared").to_string();
        assert!(error.contains("nothing may be shared"), "{error}");
    }

    #[test]
    fn a20_four_remotes_do_today_and_not_from_2026_12_14() {
        let last = SAMPLE.rfind("[[perspective]]").expect("perspectives");
        let four = &SAMPLE[..last];
        let config = parse(four, "2026-11-25T12:00:00Z").expect("four remotes are lawful on that day");
        assert!(config.warnings.iter().any(|w| w.starts_with("within 30 days")), "{:?}", config.warnings);
        assert!(matches!(parse(four, "2026-12-14T00:00:01Z"), Err(ConfigError::Cohort { .. })));
    }
}
