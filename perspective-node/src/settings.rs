//! The settings file of the program `parallax-node`.
//!
//! Everything is checked when the file is read, with messages that name the key; nothing is opened or sent before.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use parallax_protocol::{
    BATCH_ITEMS_MAX, boulder,
    transport::{AllowList, ServeLimits, TlsFiles},
};
use parallax_ring::Driver;
use parallax_validation::{
    base::{
        name::DomainName,
        perspective::{PerspectiveId, Rir},
    },
    lookup::dnssec::anchor::TrustAnchors,
};
use serde::Deserialize;
use thiserror::Error;

use crate::{
    config::{ConfigError, DnssecSetting, Laboratory, NodeConfig, RawTransport, Transport},
    services::OpenMpicSection,
};

/// The commented sample.
pub const SAMPLE: &str = include_str!("../parallax-node.sample.toml");

/// The file as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    perspective: PerspectiveId,
    rir: Rir,
    resolver: SocketAddr,
    #[serde(default)]
    dnssec: DnssecSetting,
    #[serde(default)]
    trust_anchor_file: Option<PathBuf>,
    #[serde(default)]
    source_ipv4: Option<Ipv4Addr>,
    #[serde(default)]
    source_ipv6: Option<Ipv6Addr>,
    #[serde(default, deserialize_with = "crate::config::from_text")]
    driver: Driver,
    #[serde(default)]
    transport: Transport,
    #[serde(default = "one")]
    workers: u16,
    #[serde(default)]
    cores: Vec<usize>,
    #[serde(default = "sixty_four")]
    source_ports: u16,
    #[serde(default = "many")]
    tasks_in_flight_max: u32,
    #[serde(default)]
    memory_max_mib: Option<u32>,
    serve: ServeSection,
    tls: TlsFiles,
    #[serde(default)]
    clients: Clients,
    #[serde(default)]
    boulder: Option<boulder::Settings>,
    #[serde(default)]
    open_mpic: Option<OpenMpicSection>,
    #[serde(default)]
    metrics: Option<MetricsSection>,
    #[serde(default)]
    laboratory: Option<Laboratory>,
}

fn one() -> u16 {
    1
}

fn sixty_four() -> u16 {
    64
}

fn many() -> u32 {
    20_000
}

/// `[serve]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeSection {
    listen: SocketAddr,
    #[serde(default = "connections")]
    connections_max: usize,
    #[serde(default = "drain")]
    drain_ms: u64,
    #[serde(default)]
    connection_age_ms: Option<u64>,
}

fn connections() -> usize {
    1024
}

fn drain() -> u64 {
    30_000
}

/// `[clients]`: names in the certificates of those who may use each service. Nobody may, unless named.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clients {
    /// Engines.
    pub link: AllowList,
    /// Boulder's validation authorities, for `va.VA`.
    pub boulder_va: AllowList,
    /// The same for `va.CAA`.
    pub boulder_caa: AllowList,
    /// Open MPIC's coordinators.
    pub open_mpic: AllowList,
}

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSection {
    /// Where `/metrics`, `/healthz` and `/readyz` are served, without TLS: a loopback address.
    pub listen: SocketAddr,
    /// A name whose SOA the resolver must answer for the node to be ready; asked every ten seconds.
    #[serde(default)]
    pub ready_name: Option<String>,
}

/// Settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's own.
    pub node: NodeConfig,
    /// Who validates DNSSEC, in a word.
    pub dnssec: DnssecSetting,
    /// Digest of the trust anchors; empty unless the node validates itself.
    pub trust_anchors: String,
    /// Where callers come in.
    pub listen: SocketAddr,
    /// Bounds of what comes in.
    pub limits: ServeLimits,
    /// Who the node is, and whom it believes.
    pub tls: TlsFiles,
    /// Who may use what.
    pub clients: Clients,
    /// Boulder's services, if they are served.
    pub boulder: Option<boulder::Settings>,
    /// Open MPIC's checkers, if they are served.
    pub open_mpic: Option<OpenMpicSection>,
    /// Figures and health.
    pub metrics: Option<MetricsSection>,
    /// What is lawful but worth knowing.
    pub warnings: Vec<String>,
}

/// Settings that cannot be.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A file cannot be read.
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
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// One of the node's own values.
    #[error("{path}: {error}")]
    Node {
        /// The file.
        path: PathBuf,
        /// What is wrong, by key.
        error: ConfigError,
    },
}

impl Settings {
    /// Reads and checks a file. Relative names in it are those of files beside it.
    ///
    /// # Errors
    /// The first key at fault.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| SettingsError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for messages and for the files it names.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let file: File = toml::from_str(text)
            .map_err(|error| SettingsError::Toml { path: path.to_owned(), error: Box::new(error) })?;
        Checker { path }.check(file)
    }
}

struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn value(&self, key: &'static str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Value { path: self.path.to_owned(), key, problem: problem.into() }
    }

    fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(file)
    }

    /// With its directory beside the file.
    fn transport(&self, transport: Transport) -> Transport {
        let Transport::Raw(raw) = transport else { return transport };
        let captures = raw.captures.as_deref().map(|captures| self.beside(captures));
        Transport::Raw(RawTransport { captures, ..raw })
    }

    fn check(&self, file: File) -> Result<Settings, SettingsError> {
        let anchors = Arc::new(self.trust_anchors(&file)?);
        let node = NodeConfig {
            perspective: file.perspective,
            rir: file.rir,
            source_ipv4: file.source_ipv4,
            source_ipv6: file.source_ipv6,
            resolver: file.resolver,
            workers: file.workers,
            cores: file.cores.clone(),
            source_ports: file.source_ports,
            tasks_in_flight_max: file.tasks_in_flight_max,
            memory_max: file.memory_max_mib.map(|mebibytes| u64::from(mebibytes) << 20),
            dnssec: file.dnssec.with(&anchors),
            driver: file.driver,
            transport: self.transport(file.transport.clone()),
            laboratory: file.laboratory.clone().unwrap_or_default(),
        };
        if file.memory_max_mib == Some(0) {
            return Err(self.value("memory_max_mib", "0; leave it out for no bound"));
        }
        node.check().map_err(|error| SettingsError::Node { path: self.path.to_owned(), error })?;
        if (node.tasks_in_flight_max as usize) < 2 * BATCH_ITEMS_MAX {
            let problem = format!("below {}, which are two batches of an engine's", 2 * BATCH_ITEMS_MAX);
            return Err(self.value("tasks_in_flight_max", problem));
        }
        if !(1..=100_000).contains(&file.serve.connections_max) {
            return Err(self.value("serve.connections_max", "not in 1..=100000"));
        }
        if file.serve.drain_ms > 600_000 {
            return Err(self.value("serve.drain_ms", "above ten minutes"));
        }
        if file.serve.connection_age_ms.is_some_and(|age| age < 1_000) {
            return Err(self.value("serve.connection_age_ms", "below a second"));
        }
        if let Some(metrics) = &file.metrics
            && !metrics.listen.ip().is_loopback()
        {
            let problem = "not a loopback address; figures are served without TLS and without asking who wants them";
            return Err(self.value("metrics.listen", problem));
        }
        if let Some(error) = file.boulder.as_ref().and_then(|section| section.check().err()) {
            return Err(self.value("boulder", error.to_string()));
        }
        if let Some(section) = &file.open_mpic {
            section.limits.check().map_err(|problem| self.value("open_mpic.limits", problem))?;
            if section.issuer_domains.is_empty() {
                return Err(self.value("open_mpic.issuer_domains", "at least one name is wanted"));
            }
            for domain in &section.issuer_domains {
                let parsed: Result<DomainName, _> = domain.parse();
                parsed.map_err(|problem| self.value("open_mpic.issuer_domains", problem.to_string()))?;
            }
        }
        let mut warnings = Vec::new();
        if file.laboratory.is_some() {
            warnings.push(
                "[laboratory] is set: special-purpose addresses may be connected to; never use this for issuance"
                    .to_owned(),
            );
        }
        if node.carrier() == Driver::Epoll.name() {
            warnings.push("driver = \"epoll\", which is slower than io-uring".to_owned());
        }
        if node.captures().is_some() {
            let text =
                "transport.captures: packets of failed checks are written to files; tokens and names are in them";
            warnings.push(text.to_owned());
        }
        if !node.has_source() {
            warnings
                .push("source_ipv4 and source_ipv6: not set, so the system chooses where traffic comes from".into());
        }
        let trust_anchors = if file.dnssec == DnssecSetting::Local { anchors.digest() } else { String::new() };
        Ok(Settings {
            node,
            dnssec: file.dnssec,
            trust_anchors,
            listen: file.serve.listen,
            limits: ServeLimits {
                connections: file.serve.connections_max,
                drain_ms: file.serve.drain_ms,
                connection_age_ms: file.serve.connection_age_ms,
                ..ServeLimits::default()
            },
            tls: TlsFiles {
                certificate: self.beside(&file.tls.certificate),
                key: self.beside(&file.tls.key),
                authorities: self.beside(&file.tls.authorities),
                revoked: file.tls.revoked.as_deref().map(|revoked| self.beside(revoked)),
            },
            clients: file.clients,
            boulder: file.boulder,
            open_mpic: file.open_mpic,
            metrics: file.metrics,
            warnings,
        })
    }

    fn trust_anchors(&self, file: &File) -> Result<TrustAnchors, SettingsError> {
        let Some(named) = &file.trust_anchor_file else { return Ok(TrustAnchors::iana()) };
        let path = self.beside(named);
        let text = std::fs::read_to_string(&path).map_err(|error| SettingsError::Read { path: path.clone(), error })?;
        TrustAnchors::parse(&text)
            .map_err(|problem| self.value("trust_anchor_file", format!("{}: {problem}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text, Path::new("/etc/parallax/node.toml"))
    }

    #[test]
    fn ok_the_sample_is_a_working_configuration() {
        let settings = parse(SAMPLE).expect("the sample");
        assert_eq!(settings.tls.key, Path::new("/etc/parallax/node.key"));
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    }

    #[test]
    fn the_raw_transport_is_read_and_what_it_cannot_do_is_named() {
        let section = "[transport]\nkind = \"raw\"\ninterface = \"eth1\"\nnetworks = [\"198.51.100.0/24\"]\n\
                       gateway_ipv4 = \"198.51.100.1\"\n";
        let with = |section: &str, resolver: &str| {
            let text = SAMPLE.replacen("resolver = \"127.0.0.1:53\"", &format!("resolver = \"{resolver}\""), 1);
            parse(&text.replacen("[serve]", &format!("{section}[serve]"), 1))
        };
        let settings = with(section, "198.51.100.53:53").expect("a resolver on the wire");
        assert_eq!(settings.node.carrier(), "raw-xdp");
        assert!(with(section, "203.0.113.53:53").is_ok(), "one behind the gateway");
        let refused = |section: &str, resolver: &str| with(section, resolver).expect_err("no settings").to_string();
        assert!(refused(section, "127.0.0.1:53").contains("resolver: 127.0.0.1:53 is not reached"));
        let alone = section.replace("gateway_ipv4 = \"198.51.100.1\"\n", "");
        assert!(refused(&alone, "203.0.113.53:53").contains("is not reached"));
        assert!(refused(&section.replace("eth1\"", "eth1\"\nmethod = \"dpdk\""), "198.51.100.53:53").contains("xdp"));
        assert!(refused(&section.replace("100.1", "101.1"), "198.51.100.53:53").contains("gateways: 198.51.101.1"));
        let gateway = section.replace("198.51.100.1\"", "0.0.0.0\"");
        assert!(refused(&gateway, "198.51.100.53:53").contains("transport.gateway_ipv4: 0.0.0.0 cannot be"));
        let networks = section.replace("[\"198.51.100.0/24\"]", "[\"198.51.100.0/24\", \"2001:db8::/64\"]");
        let problem = "transport.networks: 2001:db8:: is of no use without source_ipv6";
        assert!(refused(&networks, "198.51.100.53:53").contains(problem));
    }

    #[test]
    fn a_raw_node_without_a_source_is_told_which_keys_to_set() {
        let section = "[transport]\nkind = \"raw\"\ninterface = \"eth1\"\nnetworks = [\"198.51.100.0/24\"]\n";
        let resolver = SAMPLE.replacen("127.0.0.1:53", "198.51.100.53:53", 1);
        let raw = resolver.replacen("[serve]", &format!("{section}[serve]"), 1);
        assert!(parse(&raw).is_ok());
        let without = raw.replacen("source_ipv4 =", "# source_ipv4 =", 1);
        let problem = parse(&without).expect_err("no settings").to_string();
        assert!(problem.contains("source_ipv4, source_ipv6: neither is set"), "{problem}");
        let nowhere = raw.replacen("source_ipv4 = \"198.51.100.10\"", "source_ipv4 = \"0.0.0.0\"", 1);
        let problem = parse(&nowhere).expect_err("no settings").to_string();
        assert!(problem.contains("source_ipv4: 0.0.0.0 cannot be the address of a host"), "{problem}");
    }

    #[test]
    fn captures_need_frames_and_lie_beside_the_settings() {
        let section = "[transport]\nkind = \"raw\"\ninterface = \"eth1\"\nnetworks = [\"198.51.100.0/24\"]\n";
        let with = |more: &str| {
            let text = SAMPLE.replacen("127.0.0.1:53", "198.51.100.53:53", 1);
            parse(&text.replacen("[serve]", &format!("{section}{more}\n[serve]"), 1))
        };
        let settings = with("kept_octets = 16777216\ncaptures = \"captures\"").expect("a directory for frames");
        let captures = settings.node.captures().expect("captures");
        assert_eq!(captures.directory, Path::new("/etc/parallax/captures"));
        assert_eq!((captures.octets_max, captures.age_max.as_secs()), (64 << 20, 7 * 86_400));
        assert!(settings.warnings.iter().any(|warning| warning.contains("tokens")), "{:?}", settings.warnings);
        assert!(with("kept_octets = 16777216").expect("frames alone").node.captures().is_none());
        let refused = |more: &str| with(more).expect_err("no settings").to_string();
        assert!(refused("captures = \"captures\"").contains("transport.captures: of no use"));
        assert!(refused("kept_octets = 1000").contains("transport.kept_octets: 1000"));
        assert!(refused("captures_octets_max = 1000").contains("transport.captures_octets_max: 1000"));
        assert!(refused("captures_keep_days = 0").contains("transport.captures_keep_days: 0"));
    }

    #[test]
    fn err_a_value_that_cannot_be_is_named() {
        for (from, to, wants) in [
            ("resolver = \"127.0.0.1:53\"", "resolver = \"0.0.0.0:53\"", "resolver: 0.0.0.0:53 is no address"),
            ("# tasks_in_flight_max = 20000", "tasks_in_flight_max = 10", "tasks_in_flight_max: below 512"),
            ("listen = \"127.0.0.1:9465\"", "listen = \"0.0.0.0:9465\"", "metrics.listen: not a loopback"),
            ("# memory_max_mib = 512", "memory_max_mib = 0", "memory_max_mib: 0"),
            ("# driver = \"io-uring\"", "driver = \"iocp\"", "not a driver"),
            ("rir = \"ARIN\"", "rir = \"MARS\"", "MARS"),
            ("[serve]", "colour = \"blue\"\n[serve]", "colour"),
            ("# connections_max = 1024", "connections_max = 0", "serve.connections_max"),
            ("# drain_ms = 30000", "drain_ms = 3000000", "serve.drain_ms"),
            ("# trust_anchor_file", "trust_anchor_file", "root.key"),
        ] {
            assert!(SAMPLE.contains(from), "{from}");
            let error = parse(&SAMPLE.replacen(from, to, 1)).expect_err(wants);
            assert!(error.to_string().contains(wants), "{error}");
        }
    }
}
