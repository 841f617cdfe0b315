//! Attempts whose evidence touched something: what an incident asks of a journal (req E11).

use std::{net::IpAddr, num::NonZeroUsize, path::Path};

use jiff::Timestamp;
use parallax_validation::{
    base::perspective::PerspectiveId,
    observation::{ControlObservation, Observation},
    record::{Record, Rules},
};
use serde::Serialize;

use crate::{
    audit::{AuditError, Item, Setups, read_item, scan},
    journal::Entry,
};

/// What is looked for; everything that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// An address that was connected to, asked as a resolver or name server, or found for a host.
    pub address: Option<IpAddr>,
    /// A perspective that gave evidence; with the others, its evidence alone counts.
    pub perspective: Option<PerspectiveId>,
    /// The autonomous system of a perspective that gave evidence.
    pub as_number: Option<u32>,
    /// The section of the method, or `caa`, as the record has it.
    pub method: Option<String>,
    /// The program and its version.
    pub software: Option<String>,
    /// The identifier's domain, or one above it.
    pub domain: Option<String>,
    /// Decided then or later.
    pub from: Option<Timestamp>,
    /// Decided before then.
    pub until: Option<Timestamp>,
    /// Permissions only: those that a certificate may rely on.
    pub corroborated: bool,
}

/// An attempt that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Number of its entry.
    pub entry: u64,
    /// The request.
    pub request: String,
    /// The attempt.
    pub attempt: String,
    /// What a certificate would name.
    pub identifier: String,
    /// The section of the method, or `caa`.
    pub method: String,
    /// When it was decided.
    pub decided: Timestamp,
    /// Whether it was a permission.
    pub corroborated: bool,
    /// The perspectives whose evidence fits.
    pub perspectives: Vec<String>,
}

#[derive(Default)]
struct Part {
    searched: u64,
    found: Vec<Found>,
    failure: Option<(u64, AuditError)>,
}

/// Searches a journal on `threads` threads; gives how many attempts were looked at, and those that fit in their order.
///
/// # Errors
/// Damage, or an entry that cannot be read.
pub fn find(directory: &Path, wanted: &Wanted, threads: NonZeroUsize) -> Result<(u64, Vec<Found>), AuditError> {
    let scanned = scan(directory, threads, |part: &mut Part, entry: &Entry, setups: &Setups| match read_item(entry) {
        Ok(Item::Record(record)) => {
            part.searched += 1;
            let rules = setups.of(&record, entry.sequence);
            part.found.extend(fitting(entry.sequence, &record, rules.as_deref(), wanted));
        }
        Ok(Item::Setup(_) | Item::Late(_) | Item::Trial(_) | Item::Rejected(_)) => {}
        Err(error) => {
            part.failure.get_or_insert((entry.sequence, error));
        }
    })?;
    let (mut searched, mut found) = (0, Vec::new());
    for part in scanned.parts {
        if let Some((_, error)) = part.failure {
            return Err(error);
        }
        searched += part.searched;
        found.extend(part.found);
    }
    found.sort_by_key(|found: &Found| found.entry);
    Ok((searched, found))
}

fn fitting(entry: u64, record: &Record, rules: Option<&Rules>, wanted: &Wanted) -> Option<Found> {
    let domain = record.request.identifier.domain().map(|name| name.as_str());
    let in_domain = |above: &String| {
        domain
            .and_then(|name| name.strip_suffix(above.as_str()))
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let fits = wanted.from.is_none_or(|from| record.decided >= from)
        && wanted.until.is_none_or(|until| record.decided < until)
        && wanted.method.as_ref().is_none_or(|method| record.method.split(" with ").any(|part| part == method))
        && wanted.domain.as_ref().is_none_or(in_domain)
        && wanted
            .software
            .as_ref()
            .is_none_or(|software| rules.is_some_and(|rules| rules.setup().software == *software))
        && (!wanted.corroborated || record.permits());
    if !fits {
        return None;
    }
    let of_as = |id: &PerspectiveId, as_number: u32| {
        rules.is_some_and(|rules| rules.setup().perspectives.iter().any(|p| p.id == *id && p.as_number == as_number))
    };
    let by_evidence = wanted.address.is_some() || wanted.perspective.is_some() || wanted.as_number.is_some();
    let perspectives: Vec<String> = record
        .perspectives
        .iter()
        .filter(|part| wanted.perspective.as_ref().is_none_or(|id| part.perspective == *id))
        .filter(|part| wanted.as_number.is_none_or(|as_number| of_as(&part.perspective, as_number)))
        .filter(|part| {
            let seen = part.observation.as_ref();
            seen.is_some_and(|seen| wanted.address.is_none_or(|address| touches(seen, address)))
        })
        .map(|part| part.perspective.to_string())
        .collect();
    if by_evidence && perspectives.is_empty() {
        return None;
    }
    Some(Found {
        entry,
        request: record.request.id.to_string(),
        attempt: record.attempt.to_string(),
        identifier: record.request.identifier.to_string(),
        method: record.method.clone(),
        decided: record.decided,
        corroborated: record.permits(),
        perspectives,
    })
}

/// Whether an address was connected to, asked, or found for a host.
fn touches(seen: &Observation, address: IpAddr) -> bool {
    let connected = match &seen.control {
        Some(ControlObservation::Http(fetch)) => {
            fetch.hops.iter().flat_map(|hop| &hop.tries).any(|connection| connection.address.ip() == address)
        }
        Some(ControlObservation::Tls(probe)) => probe.tries.iter().any(|connection| connection.address.ip() == address),
        Some(ControlObservation::Record(_) | ControlObservation::Climb(_)) | None => false,
    };
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let asked = || {
        seen.lookups()
            .any(|lookup| lookup.resolver.ip() == address || lookup.addresses().any(|found| found == octets.as_slice()))
    };
    let diagnosed = || {
        let servers = seen.diagnosis.iter().flat_map(|diagnosis| &diagnosis.servers);
        servers.into_iter().any(|server| server.address == Some(address))
    };
    connected || asked() || diagnosed()
}
