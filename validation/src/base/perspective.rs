//! Perspectives: the viewpoints from which a validation is made, and where they lie.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A Regional Internet Registry's service region (TLS BR 2.3.1 §3.2.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rir {
    /// Africa.
    #[serde(rename = "AFRINIC")]
    Afrinic,
    /// Asia and the Pacific.
    #[serde(rename = "APNIC")]
    Apnic,
    /// North America.
    #[serde(rename = "ARIN")]
    Arin,
    /// Latin America and the Caribbean.
    #[serde(rename = "LACNIC")]
    Lacnic,
    /// Europe, the Middle East and Central Asia.
    #[serde(rename = "RIPE NCC")]
    RipeNcc,
}

impl Rir {
    /// All five, in the order of [`Rir::index`].
    pub const ALL: [Self; 5] = [Self::Afrinic, Self::Apnic, Self::Arin, Self::Lacnic, Self::RipeNcc];

    /// Its place in [`Rir::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Afrinic => 0,
            Self::Apnic => 1,
            Self::Arin => 2,
            Self::Lacnic => 3,
            Self::RipeNcc => 4,
        }
    }
}

impl fmt::Display for Rir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Afrinic => "AFRINIC",
            Self::Apnic => "APNIC",
            Self::Arin => "ARIN",
            Self::Lacnic => "LACNIC",
            Self::RipeNcc => "RIPE NCC",
        })
    }
}

/// The name of a perspective, unique within a deployment (req E1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PerspectiveId(Arc<str>);

/// A perspective's name is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a perspective id has 1 to 32 characters out of a-z, 0-9 and '-', unlike {0:?}")]
pub struct PerspectiveIdError(String);

impl PerspectiveId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PerspectiveId {
    type Err = PerspectiveIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.into())) } else { Err(PerspectiveIdError(text.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for PerspectiveId {
    type Error = PerspectiveIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PerspectiveId> for String {
    fn from(id: PerspectiveId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for PerspectiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place on Earth, degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    /// North positive, -90 to 90.
    pub latitude: f64,
    /// East positive, -180 to 180.
    pub longitude: f64,
}

/// Coordinates that are no place on Earth.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("latitude {latitude} or longitude {longitude} is out of range")]
pub struct CoordinatesError {
    /// As given.
    pub latitude: f64,
    /// As given.
    pub longitude: f64,
}

impl Coordinates {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A value out of range, or not a number.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, CoordinatesError> {
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            Ok(Self { latitude, longitude })
        } else {
            Err(CoordinatesError { latitude, longitude })
        }
    }
}

/// The part a perspective plays in an attempt (TLS BR 2.3.1 §1.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Makes the determination.
    Primary,
    /// Corroborates it, or does not.
    Remote,
    /// Is asked and recorded, and never counts (req H15).
    Trial,
}

/// The one resolver a perspective asks, and where it lies (req A9, A10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolverSite {
    /// Its address and port as text.
    pub name: String,
    /// Its region; must be the perspective's.
    pub rir: Rir,
    /// Where its traffic is first handed to a network.
    pub coordinates: Coordinates,
}

/// A perspective as the cohort sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perspective {
    /// Unique name.
    pub id: PerspectiveId,
    /// Its part.
    pub role: Role,
    /// Its region.
    pub rir: Rir,
    /// Where its traffic is first handed to a network (req A8).
    pub coordinates: Coordinates,
    /// Autonomous system it is connected to.
    pub as_number: u32,
    /// Who runs the network there.
    pub provider: String,
    /// The resolver it asks.
    pub resolver: ResolverSite,
}
