//! DNSSEC validation at the perspective (RFC 4033 to 4035, 5155, 6840; req B1, B2, B7, B8).
//!
//! * [`set`]: the record sets of a message in canonical form.
//! * [`anchor`]: trust anchors.
//! * [`signature`]: keys and signatures, and how much work they may be.
//! * [`denial`]: what NSEC and NSEC3 prove.
//! * [`chain`]: from the root down to a zone.
//! * here: whether a reply's claims hold.
//!
//! What was read from a reply is taken as a list of claims: each alias, and the records or their denial. A
//! claim holds if a record set in the reply says it and the set's signature is good, or if the name is proven
//! to lie in a zone that is not signed. So what is judged later is exactly what was proven here.
//!
//! Invariant: without a proof nothing is Secure and nothing is Insecure.

pub mod anchor;
pub mod chain;
pub mod denial;
pub mod prove;
pub mod set;
pub mod signature;

use std::{collections::BTreeSet, sync::Arc};

use domain::base::{Rtype, ToName as _};
use jiff::Timestamp;

use self::{
    chain::{Chain, ChainSite, LinkQuestion, Links, Walk},
    denial::{Denials, Denied},
    set::{Owner, Rrset, Section, labels_of, owner_of, read_sets, target_of, text_of},
    signature::{ZoneKeys, type_text},
};
use crate::observation::{
    Alias, Denial, DnsOutcome, DnssecFault, InsecureBy, InsecureProof, Message, RecordSet, RecordType, SecurityStatus,
    Validation,
};

/// A reply that is to be validated.
#[derive(Debug)]
pub struct Reading {
    name: String,
    rtype: RecordType,
    outcome: DnsOutcome,
    packet: Arc<[u8]>,
    sets: Result<Vec<Rrset>, String>,
}

/// How far the validation of a reply has come.
#[derive(Debug)]
pub enum Assessment {
    /// These questions must be answered first; none if they are under way.
    Need(Vec<LinkQuestion>),
    /// It is over. The links are those it rests on.
    Done(Box<Validation>, Links),
}

/// One thing a reply claims.
enum Claim<'a> {
    /// These records exist.
    Set(&'a Rrset),
    /// `name` has none of the type asked, or does not exist.
    Denial { name: Owner, nonexistent: bool },
    /// Nothing that the reply holds: `name` must lie in a zone that is not signed. For a question that failed it
    /// only matters whether it does.
    Zone { name: Owner, missing: Option<DnssecFault> },
}

/// What proves a claim, or why nothing does.
enum Proof {
    Secure,
    Insecure(InsecureProof),
    /// For a question that failed: its zone is signed.
    Signed,
    Broken(DnssecFault),
}

impl Reading {
    /// What `outcome` claims, read from `packet`, which is empty if nothing came.
    #[must_use]
    pub fn new(name: String, rtype: RecordType, outcome: DnsOutcome, packet: Arc<[u8]>) -> Self {
        let sets = if packet.is_empty() { Ok(Vec::new()) } else { read_sets(&packet) };
        Self { name, rtype, outcome, packet, sets }
    }

    /// Validates as far as the answered links allow.
    pub fn assess(&self, chain: &mut Chain, site: &mut ChainSite<'_>) -> Assessment {
        let mut links = Links::new();
        let unreadable = |problem: &str| DnssecFault::Unreadable {
            name: self.name.clone(),
            rtype: self.rtype.to_string(),
            problem: problem.to_owned(),
        };
        let claims = match &self.sets {
            Ok(sets) => self.claims(sets),
            Err(problem) => Err(unreadable(problem)),
        };
        let claims = match claims {
            Ok(claims) => claims,
            Err(fault) => return self.done(vec![Proof::Broken(fault)], BTreeSet::new(), None, links),
        };
        // All walks first: signatures are checked once, when everything they need is there.
        let mut needed = Vec::new();
        let mut waiting = false;
        let mut walks = Vec::new();
        for claim in &claims {
            let walk = self.walk(claim, chain, site, &mut links);
            match walk {
                (_, Walk::Need(questions)) => {
                    waiting = true;
                    needed.extend(questions);
                }
                walked => walks.push(walked),
            }
        }
        if waiting {
            return Assessment::Need(needed);
        }
        let (mut signers, mut anchor) = (BTreeSet::new(), None);
        let mut proofs = Vec::new();
        for (claim, (signer, walk)) in claims.iter().zip(walks) {
            proofs.push(match walk {
                Walk::Insecure(proof, above) => {
                    anchor = Some(above.anchor);
                    signers.insert(text_of(&above.zone));
                    Proof::Insecure(proof)
                }
                Walk::Broken(fault) => Proof::Broken(fault),
                Walk::Secure(keys) => {
                    anchor = Some(keys.anchor);
                    signers.insert(text_of(&keys.zone));
                    self.prove(claim, signer.as_ref(), &keys, chain, site.now)
                }
                Walk::Need(_) => Proof::Broken(DnssecFault::TooMuchWork),
            });
        }
        self.done(proofs, signers, anchor, links)
    }

    /// The claims of the outcome, each with the set that says it.
    fn claims<'a>(&self, sets: &'a [Rrset]) -> Result<Vec<Claim<'a>>, DnssecFault> {
        let missing =
            |owner: &str, rtype: &str| DnssecFault::NotInReply { owner: owner.to_owned(), rtype: rtype.to_owned() };
        let set_or_zone = |set: Option<&'a Rrset>, name: Owner, owner: &str, rtype: &str| match set {
            Some(set) => Claim::Set(set),
            None => Claim::Zone { name, missing: Some(missing(owner, rtype)) },
        };
        let mut claims = Vec::new();
        let aliases: &[Alias] = match &self.outcome {
            DnsOutcome::Answer(RecordSet { aliases, .. }) => aliases,
            DnsOutcome::Nodata(Denial { aliases, .. }) | DnsOutcome::Nxdomain(Denial { aliases, .. }) => aliases,
            DnsOutcome::Failed(_) => &[],
        };
        for alias in aliases {
            let rtype = if alias.dname { "DNAME" } else { "CNAME" };
            let owner = owner_of(&alias.owner).ok_or_else(|| missing(&alias.owner, rtype))?;
            claims.push(set_or_zone(find_alias(sets, alias), owner, &alias.owner, rtype));
        }
        let last = aliases.last().map_or(self.name.as_str(), |alias| alias.target.as_str());
        let last = owner_of(last).ok_or_else(|| missing(&self.name, &self.rtype.to_string()))?;
        claims.push(match &self.outcome {
            DnsOutcome::Answer(records) => {
                let rtype = Rtype::from_int(self.rtype.number());
                let set = sets.iter().find(|set| {
                    set.section == Section::Answer && set.rtype == rtype && set.owner == last && says(set, records)
                });
                match made_by_dname(sets, set, records) {
                    Some(dname) => Claim::Set(dname),
                    None => set_or_zone(set, last, &records.owner, &self.rtype.to_string()),
                }
            }
            DnsOutcome::Nodata(_) => Claim::Denial { name: last, nonexistent: false },
            DnsOutcome::Nxdomain(_) => Claim::Denial { name: last, nonexistent: true },
            DnsOutcome::Failed(_) => Claim::Zone { name: last, missing: None },
        });
        Ok(claims)
    }

    /// Walks to the zone a claim's proof must come from. With a signature that is the signer, else the zone
    /// the name lies in.
    fn walk(
        &self,
        claim: &Claim<'_>,
        chain: &mut Chain,
        site: &mut ChainSite<'_>,
        links: &mut Links,
    ) -> (Option<Owner>, Walk) {
        let (name, signer) = match claim {
            Claim::Set(set) => (&set.owner, deepest_signer(std::iter::once(*set), &set.owner)),
            Claim::Denial { name, .. } => {
                let sets = self.sets.as_ref().map(Vec::as_slice).unwrap_or_default();
                (name, denying_signer(sets, name))
            }
            Claim::Zone { name, .. } => (name, None),
        };
        match signer {
            Some(signer) => {
                let walk = chain.walk_to_signer(&signer, site, links);
                (Some(signer), walk)
            }
            None => (None, chain.walk_to(name, site, links)),
        }
    }

    /// Proves a claim by the keys of the zone the walk ended in.
    fn prove(
        &self,
        claim: &Claim<'_>,
        signer: Option<&Owner>,
        keys: &ZoneKeys,
        chain: &mut Chain,
        now: Timestamp,
    ) -> Proof {
        let owner = match claim {
            Claim::Set(set) => &set.owner,
            Claim::Denial { name, .. } => name,
            Claim::Zone { missing, .. } => return missing.clone().map_or(Proof::Signed, Proof::Broken),
        };
        if let Some(signer) = signer.filter(|signer| **signer != keys.zone) {
            return Proof::Broken(DnssecFault::SignerIsNoZone { owner: text_of(owner), signer: text_of(signer) });
        }
        let sets = self.sets.as_ref().map(Vec::as_slice).unwrap_or_default();
        let proven = match claim {
            Claim::Set(set) => keys.check(set, now, &mut chain.work).and_then(|checked| match checked.wildcard {
                None => Ok(Denied::Proven),
                // A DNAME is not made by a wildcard (RFC 6672 §3.3).
                Some(_) if set.rtype == Rtype::DNAME => {
                    Err(DnssecFault::NotInReply { owner: text_of(owner), rtype: type_text(set.rtype) })
                }
                Some(encloser) => Denials::collect(sets, keys, now, &mut chain.work)?.nothing_closer(
                    &set.owner,
                    &encloser,
                    &mut chain.work,
                ),
            }),
            Claim::Denial { name, nonexistent } => {
                Denials::collect(sets, keys, now, &mut chain.work).and_then(|denials| match nonexistent {
                    true => denials.no_name(name, &mut chain.work),
                    false => denials.no_data(name, Rtype::from_int(self.rtype.number()), &mut chain.work),
                })
            }
            Claim::Zone { .. } => return Proof::Signed,
        };
        match proven {
            Ok(Denied::Proven) => Proof::Secure,
            Ok(Denied::OptOut(by)) => {
                Proof::Insecure(InsecureProof { name: text_of(owner), parent: text_of(&keys.zone), by })
            }
            Err(fault) => Proof::Broken(fault),
        }
    }

    fn done(&self, proofs: Vec<Proof>, signers: BTreeSet<String>, anchor: Option<u16>, links: Links) -> Assessment {
        let mut validation = Validation {
            status: SecurityStatus::Secure,
            anchor,
            signers: signers.into_iter().collect(),
            insecure: None,
            fault: None,
            first_fault: None,
            links: Vec::new(),
            message: (!self.packet.is_empty()).then(|| Message(Arc::clone(&self.packet))),
        };
        for proof in proofs {
            let (status, fault) = match proof {
                Proof::Secure => (SecurityStatus::Secure, None),
                Proof::Signed => (SecurityStatus::Indeterminate, None),
                Proof::Insecure(proof) => {
                    // Of several, the one that never counts as Insecure must be seen (req B10).
                    let unsupported = matches!(proof.by, InsecureBy::Unsupported { .. });
                    if unsupported || validation.insecure.is_none() {
                        validation.insecure = Some(proof);
                    }
                    (SecurityStatus::Insecure, None)
                }
                Proof::Broken(fault @ DnssecFault::LinkFailed { .. }) => (SecurityStatus::Indeterminate, Some(fault)),
                Proof::Broken(fault) => (SecurityStatus::Bogus, Some(fault)),
            };
            if status > validation.status || (status == validation.status && validation.fault.is_none()) {
                validation.status = status;
                validation.fault = fault;
            }
        }
        if matches!(validation.status, SecurityStatus::Bogus | SecurityStatus::Indeterminate) {
            validation.insecure = None;
        }
        Assessment::Done(Box::new(validation), links)
    }
}

/// Whether a set holds exactly the records that were read.
fn says(set: &Rrset, records: &RecordSet) -> bool {
    let read: BTreeSet<&[u8]> = records.rdata.iter().map(|rdata| rdata.as_slice()).collect();
    read.len() == set.rdata.len() && set.rdata.iter().all(|rdata| read.contains(rdata.as_slice()))
}

/// For a CNAME that was asked for and is not signed itself: the DNAME that makes it (RFC 6672 §5.3.1).
fn made_by_dname<'a>(sets: &'a [Rrset], set: Option<&Rrset>, records: &RecordSet) -> Option<&'a Rrset> {
    let set = set.filter(|set| set.rtype == Rtype::CNAME && set.signatures.is_empty())?;
    let target = set.rdata.first().filter(|_| set.rdata.len() == 1).and_then(|rdata| target_of(rdata))?;
    find_alias(sets, &Alias { owner: records.owner.clone(), target: text_of(&target), dname: true })
}

/// The CNAME or DNAME set that makes an alias.
fn find_alias<'a>(sets: &'a [Rrset], alias: &Alias) -> Option<&'a Rrset> {
    let (owner, target) = (owner_of(&alias.owner)?, owner_of(&alias.target)?);
    sets.iter().filter(|set| set.section == Section::Answer && set.rdata.len() == 1).find(|set| {
        let Some(points_to) = set.rdata.first().and_then(|rdata| target_of(rdata)) else { return false };
        match alias.dname {
            false => set.rtype == Rtype::CNAME && set.owner == owner && points_to == target,
            true => set.rtype == Rtype::DNAME && redirected(&owner, &set.owner, &points_to).as_ref() == Some(&target),
        }
    })
}

/// Where a DNAME at `from` to `to` leads `name`; none if it does not apply (RFC 6672 §2.2).
fn redirected(name: &Owner, from: &Owner, to: &Owner) -> Option<Owner> {
    if labels_of(name) <= labels_of(from) || !name.ends_with(from) {
        return None;
    }
    let prefix = name.clone().strip_suffix(from).ok()?;
    Some(prefix.chain(to.clone()).ok()?.to_canonical_name())
}

/// Who signed the denial of `name`; none if the denial is by a zone below all that signed anything, as when a
/// wildcard alias of a signed zone leads into one that is not signed.
fn denying_signer(sets: &[Rrset], name: &Owner) -> Option<Owner> {
    let denying = sets.iter().filter(|set| matches!(set.rtype, Rtype::NSEC | Rtype::NSEC3 | Rtype::SOA));
    let signer = deepest_signer(denying, name)?;
    let is_below = |set: &Rrset| {
        set.section == Section::Authority
            && set.rtype == Rtype::SOA
            && name.ends_with(&set.owner)
            && labels_of(&set.owner) > labels_of(&signer)
    };
    if sets.iter().any(is_below) { None } else { Some(signer) }
}

/// The deepest name that signed one of the sets and that `name` lies below: a signature by any other name is
/// no signature.
fn deepest_signer<'a>(sets: impl Iterator<Item = &'a Rrset>, name: &Owner) -> Option<Owner> {
    sets.flat_map(|set| &set.signatures)
        .filter(|signature| name.ends_with(&signature.signer))
        .map(|signature| &signature.signer)
        .max_by_key(|signer| labels_of(signer))
        .cloned()
}
