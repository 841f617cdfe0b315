//! A node's settings.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use parallax_ring::{Driver, FrameMethod, RawConfig, RawConfigError, Ring, RingConfig, RingError};
use parallax_validation::{
    base::{
        address::AddressFilter,
        perspective::{PerspectiveId, Rir},
    },
    lookup::{Dnssec, dnssec::anchor::TrustAnchors},
};
use serde::Deserialize;
use thiserror::Error;

use crate::captures::CaptureSettings;

/// Who validates DNSSEC for a perspective (req B1, B6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DnssecSetting {
    /// The perspective, from the trust anchors; the proof is kept.
    #[default]
    Local,
    /// Its resolver, which listens on a loopback address and answers SERVFAIL to what is bogus.
    Resolver,
    /// Nobody. Not for a primary.
    None,
}

impl std::fmt::Display for DnssecSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Resolver => "resolver",
            Self::None => "none",
        })
    }
}

impl DnssecSetting {
    /// With the trust anchors that `local` begins at.
    #[must_use]
    pub fn with(self, anchors: &Arc<TrustAnchors>) -> Dnssec {
        match self {
            Self::Local => Dnssec::Local(Arc::clone(anchors)),
            Self::Resolver => Dnssec::Resolver,
            Self::None => Dnssec::None,
        }
    }
}

/// What only a laboratory needs; a production configuration has none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Laboratory {
    /// Special-purpose addresses that may be connected to all the same.
    #[serde(default)]
    pub allow_addresses: Vec<IpNet>,
    /// The port that is dialled where the rules say 80.
    #[serde(default)]
    pub http_port: Option<u16>,
    /// The port that is dialled where the rules say 443.
    #[serde(default)]
    pub https_port: Option<u16>,
}

/// What carries a node's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Transport {
    /// The kernel's sockets.
    #[default]
    Kernel,
    /// Frames on an interface: the node's source addresses are its own there, and the kernel has no part in it.
    Raw(RawTransport),
}

/// The way out of a node with addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTransport {
    /// The Ethernet interface. Each node needs one of its own.
    pub interface: String,
    /// How frames are moved.
    #[serde(default = "xdp", deserialize_with = "from_text")]
    pub method: FrameMethod,
    /// What is reached without a gateway.
    pub networks: Vec<IpNet>,
    /// Whom other IPv4 traffic goes through.
    #[serde(default)]
    pub gateway_ipv4: Option<Ipv4Addr>,
    /// Whom other IPv6 traffic goes through.
    #[serde(default)]
    pub gateway_ipv6: Option<Ipv6Addr>,
    /// Frames in the memory shared with the kernel, two kibibytes each; a power of two.
    #[serde(default = "frames")]
    pub frames: u32,
    /// Octets of memory for the last frames of all checks, so that those of one that failed can be looked at; 0: none
    /// are kept.
    #[serde(default)]
    pub kept_octets: usize,
    /// The directory in which the packets of checks that failed are kept, as captures; none: they are not. A capture
    /// holds what was on the wire, tokens and names among it.
    #[serde(default)]
    pub captures: Option<PathBuf>,
    /// Octets of all captures together; the oldest go first.
    #[serde(default = "captures_octets_max")]
    pub captures_octets_max: u64,
    /// How long a capture stays.
    #[serde(default = "captures_keep_days")]
    pub captures_keep_days: u32,
}

impl Default for RawTransport {
    /// Everything that has a default; the interface has none.
    fn default() -> Self {
        Self {
            interface: String::new(),
            method: xdp(),
            networks: Vec::new(),
            gateway_ipv4: None,
            gateway_ipv6: None,
            frames: frames(),
            kept_octets: 0,
            captures: None,
            captures_octets_max: captures_octets_max(),
            captures_keep_days: captures_keep_days(),
        }
    }
}

/// The least memory in which frames can be kept to any use.
const KEPT_OCTETS_MIN: u64 = 64 * 1024;
/// The most: a gibibyte.
const KEPT_OCTETS_MAX: u64 = 1 << 30;
/// The least that captures may take: a few of the longest.
const CAPTURES_OCTETS_MIN: u64 = 1 << 20;
/// The most: a tebibyte.
const CAPTURES_OCTETS_MAX: u64 = 1 << 40;
/// The longest that a capture may stay: ten years.
const CAPTURES_DAYS_MAX: u64 = 3650;
const DAY_S: u64 = 86_400;
/// The least memory that tasks may have, octets: one that validates DNSSEC and a few beside it.
const MEMORY_MIN: u64 = 64 * 1024;
/// The most: four pebibytes.
const MEMORY_MAX: u64 = (u32::MAX as u64) << 20;

fn captures_octets_max() -> u64 {
    64 << 20
}

fn captures_keep_days() -> u32 {
    7
}

fn xdp() -> FrameMethod {
    FrameMethod::Xdp
}

fn frames() -> u32 {
    8192
}

/// One node's settings.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The viewpoint.
    pub perspective: PerspectiveId,
    /// Its region, told with every report (req A12).
    pub rir: Rir,
    /// Where its IPv4 traffic comes from. If neither family has a source the kernel chooses; if only one
    /// has, the other is not used.
    pub source_ipv4: Option<Ipv4Addr>,
    /// Where its IPv6 traffic comes from.
    pub source_ipv6: Option<Ipv6Addr>,
    /// The one resolver it asks (req A10).
    pub resolver: SocketAddr,
    /// What its rings are built on. Where io_uring is blocked a node that is to use it does not start.
    /// Of no effect with the raw transport.
    pub driver: Driver,
    /// What carries its traffic.
    pub transport: Transport,
    /// Threads, each with a ring of its own.
    pub workers: u16,
    /// The processor each worker is bound to, as many as workers; none: wherever the kernel puts them.
    pub cores: Vec<usize>,
    /// Source ports each worker spreads its queries over.
    pub source_ports: u16,
    /// Tasks each worker carries out at a time.
    pub tasks_in_flight_max: u32,
    /// Octets that all tasks together are reckoned to hold at most (`memory`); beyond, none is begun. None: no bound.
    pub memory_max: Option<u64>,
    /// Who validates DNSSEC.
    pub dnssec: Dnssec,
    /// For laboratories.
    pub laboratory: Laboratory,
}

/// Reads a name in settings, such as a driver's.
///
/// # Errors
/// It is none.
pub fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Out of range.
    #[error("{key}: {value} is not in {min}..={max}")]
    Range {
        /// The key.
        key: &'static str,
        /// As given.
        value: u64,
        /// Lowest.
        min: u64,
        /// Highest.
        max: u64,
    },
    /// A resolver nobody can reach.
    #[error("resolver: {0} is no address to ask")]
    Resolver(SocketAddr),
    /// A resolver whose word about DNSSEC anybody on the way could forge (`docs/operating.md`).
    #[error(
        "resolver: {0} is not on this host, so nothing protects its word on DNSSEC on the way; \
         set dnssec = \"local\", or let a validating resolver listen on a loopback address"
    )]
    ResolverNotTrusted(SocketAddr),
    /// The way out of a node with addresses of its own.
    #[error("transport: {0}")]
    Raw(RawConfigError),
    /// A node with addresses of its own that has none.
    #[error(
        "source_ipv4, source_ipv6: neither is set; with the raw transport they are the node's own addresses, and it \
         needs at least one"
    )]
    RawWithoutSource,
    /// A source address or gateway that no host can have.
    #[error("{key}: {address} cannot be the address of a host")]
    RawNoHost {
        /// The key.
        key: &'static str,
        /// As given.
        address: IpAddr,
    },
    /// A gateway or network of a family without a source address.
    #[error("{key}: {address} is of no use without {source_key}")]
    RawFamily {
        /// The key.
        key: &'static str,
        /// As given.
        address: IpAddr,
        /// `source_ipv4` or `source_ipv6`.
        source_key: &'static str,
    },
    /// No way from the raw interface to the resolver.
    #[error(
        "resolver: {0} is not reached over transport.interface; with the raw transport the resolver is a neighbour \
         or behind a gateway, and an address of this host is neither, unless it is at the other end of a virtual wire"
    )]
    ResolverNotReached(SocketAddr),
    /// Captures of frames that are not kept.
    #[error("transport.captures: of no use without transport.kept_octets, the memory that frames are kept in")]
    CapturesOfNothing,
    /// Several threads on one interface.
    #[error("workers: {0}, and with the raw transport there is one, since there is one interface")]
    RawWorkers(u16),
    /// Processors that do not fit the workers.
    #[error("cores: {cores} of them for {workers} workers; as many as workers, each once, or none")]
    Cores {
        /// As given.
        cores: usize,
        /// As given.
        workers: u16,
    },
    /// The resolver's family has another source address than the node has.
    #[error("resolver: {resolver} needs {key}, since the other family has a source address")]
    SourceMissing {
        /// The resolver.
        resolver: SocketAddr,
        /// `source_ipv4` or `source_ipv6`.
        key: &'static str,
    },
}

/// What is wrong with a raw transport, by the keys of the settings: those of the ring below are others.
fn by_key(error: RawConfigError) -> ConfigError {
    let of_family = |address: IpAddr, [v4, v6]: [&'static str; 2]| if address.is_ipv4() { v4 } else { v6 };
    let sources = ["source_ipv4", "source_ipv6"];
    let key_of = |key, address| match key {
        "addresses" => of_family(address, sources),
        "gateways" => of_family(address, ["transport.gateway_ipv4", "transport.gateway_ipv6"]),
        _ => "transport.networks",
    };
    match error {
        RawConfigError::NoAddress => ConfigError::RawWithoutSource,
        RawConfigError::NoHost { key, address } => ConfigError::RawNoHost { key: key_of(key, address), address },
        RawConfigError::Family { key, address } => {
            ConfigError::RawFamily { key: key_of(key, address), address, source_key: of_family(address, sources) }
        }
        // A second address of a family cannot be written here; the other keys are the same.
        other => ConfigError::Raw(other),
    }
}

impl NodeConfig {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// The first setting that cannot be, by key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |key, value: u64, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::Range { key, value, min, max }) }
        };
        range("workers", self.workers.into(), 1, 64)?;
        range("source_ports", self.source_ports.into(), 1, 4096)?;
        range("tasks_in_flight_max", self.tasks_in_flight_max.into(), 1, 1_000_000)?;
        if let Some(memory_max) = self.memory_max {
            range("memory_max", memory_max, MEMORY_MIN, MEMORY_MAX)?;
        }
        if let Transport::Raw(raw) = &self.transport {
            if raw.kept_octets != 0 {
                range("transport.kept_octets", raw.kept_octets as u64, KEPT_OCTETS_MIN, KEPT_OCTETS_MAX)?;
            } else if raw.captures.is_some() {
                return Err(ConfigError::CapturesOfNothing);
            }
            let octets_max = raw.captures_octets_max;
            range("transport.captures_octets_max", octets_max, CAPTURES_OCTETS_MIN, CAPTURES_OCTETS_MAX)?;
            range("transport.captures_keep_days", raw.captures_keep_days.into(), 1, CAPTURES_DAYS_MAX)?;
        }
        if self.resolver.ip().is_unspecified() || self.resolver.ip().is_multicast() || self.resolver.port() == 0 {
            return Err(ConfigError::Resolver(self.resolver));
        }
        let distinct = self.cores.iter().collect::<BTreeSet<_>>().len() == self.cores.len();
        if !self.cores.is_empty() && (self.cores.len() != usize::from(self.workers) || !distinct) {
            return Err(ConfigError::Cores { cores: self.cores.len(), workers: self.workers });
        }
        if let Some(raw) = self.raw() {
            raw.check().map_err(by_key)?;
            let resolver = self.resolver.ip();
            // A loopback address is on a wire only where the settings say so; no gateway leads to one.
            let hop = raw.next_hop(resolver).filter(|hop| !resolver.is_loopback() || *hop == resolver);
            if hop.is_none() {
                return Err(ConfigError::ResolverNotReached(self.resolver));
            }
            if self.workers != 1 {
                return Err(ConfigError::RawWorkers(self.workers));
            }
        }
        if self.dnssec == Dnssec::Resolver && !self.resolver.ip().is_loopback() {
            return Err(ConfigError::ResolverNotTrusted(self.resolver));
        }
        if self.has_source() && self.source_for(self.resolver.ip()).is_none() {
            let key = if self.resolver.is_ipv4() { "source_ipv4" } else { "source_ipv6" };
            return Err(ConfigError::SourceMissing { resolver: self.resolver, key });
        }
        Ok(())
    }

    /// The raw transport, if it is that.
    fn raw(&self) -> Option<RawConfig> {
        let Transport::Raw(raw) = &self.transport else { return None };
        let ipv4 = self.source_ipv4.map(IpAddr::V4);
        let ipv6 = self.source_ipv6.map(IpAddr::V6);
        let gateways = [raw.gateway_ipv4.map(IpAddr::V4), raw.gateway_ipv6.map(IpAddr::V6)];
        Some(RawConfig {
            interface: raw.interface.clone(),
            method: raw.method,
            addresses: [ipv4, ipv6].into_iter().flatten().collect(),
            networks: raw.networks.iter().map(|network| (network.network(), network.prefix_len())).collect(),
            gateways: gateways.into_iter().flatten().collect(),
            frames: raw.frames,
            kept_octets: raw.kept_octets,
        })
    }

    /// Octets of frames that are kept.
    fn kept_octets(&self) -> usize {
        match &self.transport {
            Transport::Raw(raw) => raw.kept_octets,
            Transport::Kernel => 0,
        }
    }

    /// Whether the packets of a task can be asked for.
    #[must_use]
    pub fn keeps_packets(&self) -> bool {
        self.kept_octets() > 0
    }

    /// Octets of captures that wait for somebody who may ask for them.
    pub(crate) fn waiting_captures_octets_max(&self) -> usize {
        self.kept_octets() / 4
    }

    /// Where captures go, if they are kept.
    pub(crate) fn captures(&self) -> Option<CaptureSettings> {
        let Transport::Raw(raw) = &self.transport else { return None };
        Some(CaptureSettings {
            directory: raw.captures.clone()?,
            octets_max: raw.captures_octets_max,
            age_max: Duration::from_secs(u64::from(raw.captures_keep_days) * DAY_S),
        })
    }

    /// The share of one worker in the memory that tasks may have.
    pub(crate) fn memory_max_of_worker(&self) -> Option<usize> {
        let share = self.memory_max? / u64::from(self.workers.max(1));
        Some(usize::try_from(share).unwrap_or(usize::MAX))
    }

    /// The ring of a worker.
    pub(crate) fn open_ring(&self) -> Result<Ring, RingError> {
        let sizes = RingConfig { driver: self.driver, ..RingConfig::default() };
        match self.raw() {
            Some(raw) => Ring::raw(sizes, &raw),
            None => Ring::new(sizes),
        }
    }

    /// What carries its traffic, in a word, for logs and figures.
    #[must_use]
    pub fn carrier(&self) -> &'static str {
        match &self.transport {
            Transport::Kernel => self.driver.name(),
            Transport::Raw(RawTransport { method: FrameMethod::Xdp, .. }) => "raw-xdp",
            Transport::Raw(RawTransport { method: FrameMethod::Packet, .. }) => "raw-packet",
        }
    }

    /// Whether any family has a source address; then the others are not used.
    #[must_use]
    pub fn has_source(&self) -> bool {
        self.source_ipv4.is_some() || self.source_ipv6.is_some()
    }

    /// The source address for traffic to `peer`, if one is set for its family.
    #[must_use]
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        match peer {
            IpAddr::V4(_) => self.source_ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.source_ipv6.map(IpAddr::V6),
        }
    }

    /// Which addresses may be connected to.
    #[must_use]
    pub fn address_filter(&self) -> AddressFilter {
        AddressFilter::allowing(self.laboratory.allow_addresses.clone())
    }

    /// Where a connection to `address` really goes: in a laboratory ports 80 and 443 are others.
    #[must_use]
    pub fn dialled(&self, address: SocketAddr) -> SocketAddr {
        let port = match address.port() {
            80 => self.laboratory.http_port,
            443 => self.laboratory.https_port,
            _ => None,
        };
        SocketAddr::new(address.ip(), port.unwrap_or(address.port()))
    }
}
