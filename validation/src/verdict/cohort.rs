//! The perspectives of one attempt, checked before anything is asked.
//!
//! Implements the topology of TLS BR 2.3.1 §3.2.2.9: distances between perspectives (req A6, A7) and
//! between resolvers (A10), resolver regions (A9), the number of remotes (A2) and robustness against the
//! tolerated losses (A5). Concentration of networks is reported, not refused (A18). It leaves out how a
//! cohort is chosen, and whether the stated coordinates are true (A8): those are settings.
//!
//! Invariant: a [`Cohort`] exists only if every rule held; everything that did not is reported at once.
//! Invariant: a distance that cannot be computed is a violation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    policy::{PolicyRow, REMOTES_MAX},
    quorum::{Quorum, QuorumError},
};
use crate::base::perspective::{Coordinates, Perspective, PerspectiveId, Rir, Role};

/// The straight-line distance two distinct perspectives, or two resolvers, must have
/// (TLS BR 2.3.1 §3.2.2.9; req A6, A10).
pub const DISTANCE_MIN_KM: f64 = 500.0;

/// Added to [`DISTANCE_MIN_KM`] for uncertain site coordinates (req A7): providers publish places to
/// about two decimals of a degree, which is some 0.6 km at each end.
pub const DISTANCE_MARGIN_KM: f64 = 1.0;

/// Equatorial radius of WGS-84 in km.
const WGS84_RADIUS_KM: f64 = 6378.137;
/// Flattening of WGS-84.
const WGS84_FLATTENING: f64 = 1.0 / 298.257_223_563;

/// The straight line through the Earth between two places at height zero on WGS-84, in km (req A7).
/// At 500 km it is about 0.13 km shorter than the way along the surface.
#[must_use]
pub fn chord_km(a: Coordinates, b: Coordinates) -> f64 {
    let ([ax, ay, az], [bx, by, bz]) = (geocentric_km(a), geocentric_km(b));
    ((ax - bx).powi(2) + (ay - by).powi(2) + (az - bz).powi(2)).sqrt()
}

/// All chords between places, in km: symmetric, zero on the diagonal.
#[must_use]
pub fn distance_matrix(places: &[Coordinates]) -> Vec<Vec<f64>> {
    places.iter().map(|a| places.iter().map(|b| chord_km(*a, *b)).collect()).collect()
}

/// Earth-centred Cartesian position of a place at height zero on WGS-84.
fn geocentric_km(place: Coordinates) -> [f64; 3] {
    let (sin_lat, cos_lat) = place.latitude.to_radians().sin_cos();
    let (sin_lon, cos_lon) = place.longitude.to_radians().sin_cos();
    let eccentricity_squared = WGS84_FLATTENING * (2.0 - WGS84_FLATTENING);
    let normal = WGS84_RADIUS_KM / (1.0 - eccentricity_squared * sin_lat * sin_lat).sqrt();
    [normal * cos_lat * cos_lon, normal * cos_lat * sin_lon, normal * (1.0 - eccentricity_squared) * sin_lat]
}

/// What lies at a place: the perspective itself or the resolver it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The perspective.
    Perspective,
    /// Its resolver.
    Resolver,
}

impl Site {
    /// Where it lies for a perspective.
    #[must_use]
    pub fn of(self, perspective: &Perspective) -> Coordinates {
        match self {
            Self::Perspective => perspective.coordinates,
            Self::Resolver => perspective.resolver.coordinates,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Perspective => "perspective",
            Self::Resolver => "resolver",
        })
    }
}

/// A kilometre figure printed with one decimal, rounded down so that too little never reads as enough.
struct Km(f64);

impl fmt::Display for Km {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} km", (self.0 * 10.0).floor() / 10.0)
    }
}

/// A rule a would-be cohort breaks (TLS BR 2.3.1 §3.2.2.9).
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CohortViolation {
    /// The number of remotes (req A2, A3).
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// A perspective in the wrong part: exactly one primary, and all others remote (req A1).
    #[error("{id} is set up as {}, but takes part as {}", role_name(*found), role_name(*expected))]
    Role {
        /// The perspective.
        id: PerspectiveId,
        /// Where it stands in the cohort.
        expected: Role,
        /// What it says it is.
        found: Role,
    },
    /// Two perspectives of one name.
    #[error("{id} names more than one perspective")]
    DuplicateId {
        /// The name.
        id: PerspectiveId,
    },
    /// Coordinates that are no place on Earth.
    #[error("the coordinates of the {site} of {id} are no place on Earth: latitude {latitude}, longitude {longitude}")]
    Coordinates {
        /// The perspective.
        id: PerspectiveId,
        /// Its own or its resolver's.
        site: Site,
        /// As given.
        latitude: f64,
        /// As given.
        longitude: f64,
    },
    /// Two perspectives, or their resolvers, too close to count as two (req A6, A7, A10).
    #[error(
        "the {site}s of {first} and {second} are {} apart; {} and a margin of {} are required",
        Km(*distance_km), Km(DISTANCE_MIN_KM), Km(DISTANCE_MARGIN_KM)
    )]
    TooClose {
        /// What is too close.
        site: Site,
        /// One perspective.
        first: PerspectiveId,
        /// The other.
        second: PerspectiveId,
        /// The chord between them.
        distance_km: f64,
    },
    /// A resolver outside its perspective's RIR region (req A9).
    #[error("the resolver {resolver} of {id} is in the {resolver_rir} region, its perspective in {rir}")]
    ResolverRegion {
        /// The perspective.
        id: PerspectiveId,
        /// Its region.
        rir: Rir,
        /// The resolver's name.
        resolver: String,
        /// The resolver's region.
        resolver_rir: Rir,
    },
    /// Fewer autonomous systems than the operator demands (req H4).
    #[error("the perspectives are in {found} autonomous systems; the settings demand {wanted}")]
    TooFewNetworks {
        /// Autonomous systems.
        found: usize,
        /// As demanded.
        wanted: u8,
    },
    /// Fewer providers than the operator demands (req H4).
    #[error("the perspectives are with {found} providers; the settings demand {wanted}")]
    TooFewProviders {
        /// Providers.
        found: usize,
        /// As demanded.
        wanted: u8,
    },
    /// Losing remotes within the allowance can break the RIR condition (req A5).
    #[error(
        "{held} of {remotes} remotes are in {}: with the {allowed} tolerated losses elsewhere, \
         those that confirm may lie in fewer than {rirs_min} RIR regions",
        names(regions)
    )]
    NotRobust {
        /// The fullest regions, one fewer than must confirm.
        regions: Vec<Rir>,
        /// Remotes in them.
        held: u8,
        /// Remotes in all.
        remotes: u8,
        /// Tolerated losses.
        allowed: u8,
        /// Regions that must be among those that confirm.
        rirs_min: u8,
    },
}

/// A stricter rule of the operator's own (req H4): the Baseline Requirements demand neither (req A18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diversity {
    /// Autonomous systems among all perspectives, at least.
    pub as_numbers_min: u8,
    /// Providers among all perspectives, at least.
    pub providers_min: u8,
}

impl Diversity {
    /// What a cohort lacks.
    #[must_use]
    pub fn lacking(&self, primary: &Perspective, remotes: &[Perspective]) -> Vec<CohortViolation> {
        let all = || std::iter::once(primary).chain(remotes);
        let as_numbers = all().map(|perspective| perspective.as_number).collect::<BTreeSet<_>>().len();
        let providers = all().map(provider_key).collect::<BTreeSet<_>>().len();
        let mut violations = Vec::new();
        if as_numbers < usize::from(self.as_numbers_min) {
            violations.push(CohortViolation::TooFewNetworks { found: as_numbers, wanted: self.as_numbers_min });
        }
        if providers < usize::from(self.providers_min) {
            violations.push(CohortViolation::TooFewProviders { found: providers, wanted: self.providers_min });
        }
        violations
    }
}

/// One provider, however its name is spelled.
#[must_use]
pub fn provider_key(perspective: &Perspective) -> String {
    perspective.provider.trim().to_lowercase()
}

/// Something lawful that an operator should know (req A18).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CohortWarning {
    /// Several perspectives are connected to one autonomous system.
    #[error("{} share AS{as_number}{}", names(ids), outage(*outage_fatal))]
    SharedAs {
        /// The autonomous system.
        as_number: u32,
        /// Who is there, primary first.
        ids: Vec<PerspectiveId>,
        /// Whether losing them all fails every attempt.
        outage_fatal: bool,
    },
    /// Several perspectives are with one provider.
    #[error("{} share the provider {provider}{}", names(ids), outage(*outage_fatal))]
    SharedProvider {
        /// The provider, as the first of them spells it.
        provider: String,
        /// Who is there, primary first.
        ids: Vec<PerspectiveId>,
        /// Whether losing them all fails every attempt.
        outage_fatal: bool,
    },
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Remote => "remote",
        Role::Trial => "trial",
    }
}

fn names<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn outage(fatal: bool) -> &'static str {
    if fatal { "; its outage fails every attempt" } else { "" }
}

/// The perspectives of one attempt: one primary and its remotes, all rules checked
/// (TLS BR 2.3.1 §3.2.2.9; req A1–A7, A9, A10, A15).
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    primary: Perspective,
    remotes: Vec<Perspective>,
    quorum: Quorum,
    revision: String,
    warnings: Vec<CohortWarning>,
}

impl Cohort {
    /// Checks primary and remotes under a row. The order of `remotes` is that of their bits in
    /// [`Quorum::settle`].
    ///
    /// # Errors
    /// Every rule that is broken, each with the perspectives concerned.
    pub fn check(
        primary: &Perspective,
        remotes: &[Perspective],
        row: &PolicyRow,
    ) -> Result<Self, Vec<CohortViolation>> {
        if remotes.len() > usize::from(REMOTES_MAX) {
            return Err(vec![QuorumError::TooManyRemotes { remotes: remotes.len() }.into()]);
        }
        let all: Vec<&Perspective> = std::iter::once(primary).chain(remotes).collect();
        let mut violations = Vec::new();
        violations.extend(roles(primary, remotes));
        violations.extend(duplicate_ids(&all));
        for site in [Site::Perspective, Site::Resolver] {
            violations.extend(misplaced(&all, site));
            violations.extend(too_close(&all, site));
        }
        violations.extend(resolver_regions(&all));
        let rirs: Vec<Rir> = remotes.iter().map(|remote| remote.rir).collect();
        match Quorum::new(row, &rirs).map_err(CohortViolation::from).and_then(robust) {
            Ok(quorum) if violations.is_empty() => Ok(Self {
                primary: primary.clone(),
                remotes: remotes.to_vec(),
                quorum,
                revision: row.revision().to_owned(),
                warnings: concentration(&all, quorum),
            }),
            Ok(_) => Err(violations),
            Err(violation) => {
                violations.push(violation);
                Err(violations)
            }
        }
    }

    /// The perspective that makes the determination.
    #[must_use]
    pub fn primary(&self) -> &Perspective {
        &self.primary
    }

    /// Those that corroborate it, in the order of their bits.
    #[must_use]
    pub fn remotes(&self) -> &[Perspective] {
        &self.remotes
    }

    /// The counting rule for these remotes.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The row it was checked under; see [`PolicyRow::revision`].
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What is lawful but worth knowing (req A18).
    #[must_use]
    pub fn warnings(&self) -> &[CohortWarning] {
        &self.warnings
    }
}

fn roles(primary: &Perspective, remotes: &[Perspective]) -> Vec<CohortViolation> {
    let expected = std::iter::once((primary, Role::Primary)).chain(remotes.iter().map(|remote| (remote, Role::Remote)));
    expected
        .filter(|(perspective, expected)| perspective.role != *expected)
        .map(|(p, expected)| CohortViolation::Role { id: p.id.clone(), expected, found: p.role })
        .collect()
}

fn duplicate_ids(all: &[&Perspective]) -> Vec<CohortViolation> {
    let mut times: BTreeMap<&PerspectiveId, usize> = BTreeMap::new();
    for perspective in all {
        *times.entry(&perspective.id).or_default() += 1;
    }
    let repeated = times.into_iter().filter(|(_, times)| *times > 1);
    repeated.map(|(id, _)| CohortViolation::DuplicateId { id: id.clone() }).collect()
}

fn misplaced(all: &[&Perspective], site: Site) -> Vec<CohortViolation> {
    let placed = all.iter().map(|perspective| (&perspective.id, site.of(perspective)));
    placed
        .filter(|(_, place)| !on_earth(*place))
        .map(|(id, Coordinates { latitude, longitude })| CohortViolation::Coordinates {
            id: id.clone(),
            site,
            latitude,
            longitude,
        })
        .collect()
}

/// Coordinates may have been read from settings without [`Coordinates::new`].
fn on_earth(place: Coordinates) -> bool {
    Coordinates::new(place.latitude, place.longitude).is_ok()
}

/// All pairs, whatever their regions (req A7); those of misplaced sites are reported by [`misplaced`].
fn too_close(all: &[&Perspective], site: Site) -> Vec<CohortViolation> {
    let placed: Vec<(&PerspectiveId, Coordinates)> =
        all.iter().map(|p| (&p.id, site.of(p))).filter(|(_, place)| on_earth(*place)).collect();
    let pairs =
        placed.iter().enumerate().flat_map(|(i, first)| placed[i + 1..].iter().map(move |second| (first, second)));
    pairs
        .map(|(first, second)| (first.0, second.0, chord_km(first.1, second.1)))
        .filter(|(.., distance_km)| *distance_km < DISTANCE_MIN_KM + DISTANCE_MARGIN_KM)
        .map(|(first, second, distance_km)| CohortViolation::TooClose {
            site,
            first: first.clone(),
            second: second.clone(),
            distance_km,
        })
        .collect()
}

fn resolver_regions(all: &[&Perspective]) -> Vec<CohortViolation> {
    let outside = all.iter().filter(|perspective| perspective.resolver.rir != perspective.rir);
    outside
        .map(|perspective| CohortViolation::ResolverRegion {
            id: perspective.id.clone(),
            rir: perspective.rir,
            resolver: perspective.resolver.name.clone(),
            resolver_rir: perspective.resolver.rir,
        })
        .collect()
}

/// The quorum, if losing as many as may fail can never break the rule about regions (req A5).
///
/// With two regions required this is A5's `n - count(r) ≥ allowed(n) + 1` for every region `r`: the
/// remotes outside the fullest region outnumber the tolerated losses. With m regions it is said of the
/// m - 1 fullest, and without an RIR rule there is nothing to break.
///
/// # Errors
/// The regions that hold too many.
pub fn robust(quorum: Quorum) -> Result<Quorum, CohortViolation> {
    let regions_short = usize::from(quorum.rirs_min().saturating_sub(1));
    if regions_short == 0 {
        return Ok(quorum);
    }
    let mut held = Rir::ALL.map(|rir| (quorum.rir_mask(rir).count_ones() as u8, rir));
    held.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let (fullest, others) = held.split_at(regions_short);
    let elsewhere: u8 = others.iter().map(|(count, _)| count).sum();
    if elsewhere > quorum.allowed() {
        return Ok(quorum);
    }
    Err(CohortViolation::NotRobust {
        regions: fullest.iter().filter(|(count, _)| *count > 0).map(|(_, rir)| *rir).collect(),
        held: quorum.remotes() - elsewhere,
        remotes: quorum.remotes(),
        allowed: quorum.allowed(),
        rirs_min: quorum.rirs_min(),
    })
}

fn concentration(all: &[&Perspective], quorum: Quorum) -> Vec<CohortWarning> {
    let shared_as = groups(all, |perspective| perspective.as_number).into_iter().map(|group| CohortWarning::SharedAs {
        as_number: group[0].as_number,
        ids: ids(&group),
        outage_fatal: outage_fatal(&group, quorum),
    });
    let shared_provider = groups(all, provider_key).into_iter().map(|group| CohortWarning::SharedProvider {
        provider: group[0].provider.clone(),
        ids: ids(&group),
        outage_fatal: outage_fatal(&group, quorum),
    });
    shared_as.chain(shared_provider).collect()
}

/// The groups of two and more with one key, primary first in its own.
fn groups<'a, K: Ord>(all: &[&'a Perspective], key: impl Fn(&Perspective) -> K) -> Vec<Vec<&'a Perspective>> {
    let mut by_key: BTreeMap<K, Vec<&Perspective>> = BTreeMap::new();
    for perspective in all {
        by_key.entry(key(perspective)).or_default().push(perspective);
    }
    by_key.into_values().filter(|group| group.len() > 1).collect()
}

fn ids(group: &[&Perspective]) -> Vec<PerspectiveId> {
    group.iter().map(|perspective| perspective.id.clone()).collect()
}

fn outage_fatal(group: &[&Perspective], quorum: Quorum) -> bool {
    let with_primary = group.iter().any(|perspective| perspective.role == Role::Primary);
    with_primary || group.len() > usize::from(quorum.allowed())
}
