//! The chain of trust: which zone a name lies in, and how far down from the root it is signed.
//!
//! The walk goes from the root towards a name, label by label. For each label DS is asked: the answer, or its
//! signed denial, says whether a zone begins there and whether it is signed. The walk names the questions it
//! needs ([`Walk::Need`]) and is made again when they are answered; it never waits.
//!
//! Implements RFC 4035 §5.1 and §5.2, RFC 5155 §8.9. Keys and delegations above a registered domain are kept
//! within their TTL ([`ZoneCache`]), inside one worker of one perspective; all else is forgotten with the
//! task (req A11, B18).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use domain::base::Rtype;
use jiff::{Timestamp, ToSpan as _};

use super::{
    anchor::TrustAnchors,
    denial::{Denials, NoDs},
    set::{Owner, Rrset, Section, labels_of, read_sets, suffixes, target_of, text_of},
    signature::{Ds, Work, ZoneKeys},
};
use crate::{
    base::{
        limits::{LINKS_MAX, ZONE_KEPT_BYTES_MAX, ZONES_KEPT_MAX, ZONES_KEPT_SECONDS_MAX},
        name::is_icann_suffix,
    },
    observation::{DnsFailure, DnssecFault, InsecureBy, InsecureProof, Message, RecordType},
};

/// A question about a name's place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkQuestion {
    /// The name.
    pub name: String,
    /// DS or DNSKEY.
    pub rtype: RecordType,
    /// Asked again with CD clear, since the first answer was bogus.
    pub again: bool,
}

/// Where a walk ended.
#[derive(Clone, Debug)]
pub enum Walk {
    /// These questions must be answered first.
    Need(Vec<LinkQuestion>),
    /// The zone is signed, with these keys.
    Secure(Arc<ZoneKeys>),
    /// Signing ends on the way, below this zone.
    Insecure(InsecureProof, Arc<ZoneKeys>),
    /// The chain is broken: bogus, or indeterminate if a link failed.
    Broken(DnssecFault),
}

/// What is known about one name.
#[derive(Clone, Debug)]
enum Cut {
    /// A signed zone begins here.
    Secure(Arc<ZoneKeys>),
    /// No zone begins here.
    None,
    /// An unsigned zone begins here.
    Insecure(InsecureProof),
    /// It could not be found out, or is bogus.
    Broken(DnssecFault),
}

/// The reply to a link question, or why there is none.
type LinkAnswer = Result<(Arc<[u8]>, Vec<Rrset>), DnssecFault>;

#[derive(Default)]
struct LinkState {
    asked: bool,
    answer: Option<LinkAnswer>,
    /// The first answer and what was wrong with it, if it was asked again.
    first: Option<(LinkAnswer, DnssecFault)>,
}

/// Which links a walk rests on.
pub type Links = BTreeSet<(String, RecordType)>;

/// One task's view of the chain.
#[derive(Default)]
pub struct Chain {
    cuts: HashMap<Owner, Cut>,
    /// Delegations whose DS was checked and whose keys are still awaited.
    delegations: HashMap<Owner, Vec<Ds>>,
    links: HashMap<(Owner, RecordType), LinkState>,
    questions: usize,
    /// Bogus links that were asked again, and what was wrong with the first answer.
    repaired: Option<DnssecFault>,
    /// What the task may still do.
    pub work: Work,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("cuts", &self.cuts).finish_non_exhaustive()
    }
}

/// Where a walk is made: the trust anchors, the time by which signatures are judged, and what is kept.
pub struct ChainSite<'a> {
    /// Where the chain begins.
    pub anchors: &'a TrustAnchors,
    /// The perspective's clock at the begin of the task.
    pub now: Timestamp,
    /// Zones that are known already.
    pub kept: &'a mut ZoneCache,
}

impl Chain {
    /// Notes the reply to a link question, or its failure.
    pub fn answer(&mut self, question: &LinkQuestion, reply: Result<Arc<[u8]>, DnsFailure>) {
        let Some(name) = super::set::owner_of(&question.name) else { return };
        // What a cut was proven from stays; another task may have found it while this question was under way.
        if self.cuts.contains_key(&name) {
            return;
        }
        let answer = reply
            .map_err(|failure| DnssecFault::LinkFailed {
                name: question.name.clone(),
                rtype: question.rtype.to_string(),
                failure: Box::new(failure),
            })
            .and_then(|packet| {
                let sets = read_sets(&packet).map_err(|problem| DnssecFault::Unreadable {
                    name: question.name.clone(),
                    rtype: question.rtype.to_string(),
                    problem,
                })?;
                Ok((packet, sets))
            });
        self.links.entry((name, question.rtype)).or_default().answer = Some(answer);
    }

    /// The reply to a link question that a walk rests on.
    #[must_use]
    pub fn message(&self, name: &str, rtype: RecordType) -> Option<Message> {
        let owner = super::set::owner_of(name)?;
        let answer = self.links.get(&(owner, rtype))?.answer.as_ref()?;
        answer.as_ref().ok().map(|(packet, _)| Message(Arc::clone(packet)))
    }

    /// What was wrong with links that were asked again.
    #[must_use]
    pub fn repaired(&self) -> Option<&DnssecFault> {
        self.repaired.as_ref()
    }

    /// Walks to the zone that begins at `signer`, asking for everything on the way at once. If `signer` is
    /// no zone the walk ends in the zone it lies in.
    pub fn walk_to_signer(&mut self, signer: &Owner, site: &mut ChainSite<'_>, links: &mut Links) -> Walk {
        let path: Vec<Owner> = path_to(signer);
        let Walk::Need(mut needed) = self.walk(&path, site, links) else {
            return self.walk(&path, site, links);
        };
        // The other questions of the path do not depend on this one.
        for name in &path {
            if self.cuts.contains_key(name) {
                continue;
            }
            for (rtype, wanted) in
                [(RecordType::Ds, !name.is_root()), (RecordType::Dnskey, name.is_root() || name == signer)]
            {
                let asked = self.links.get(&(name.clone(), rtype)).is_some_and(|state| state.asked);
                if wanted && !asked {
                    needed.extend(self.need(name, rtype, false));
                }
            }
        }
        Walk::Need(needed)
    }

    /// Walks to the zone `name` lies in, one question after the other: most names lie in zones that are not
    /// signed, and what is below a cut that ends the chain need not be asked.
    pub fn walk_to(&mut self, name: &Owner, site: &mut ChainSite<'_>, links: &mut Links) -> Walk {
        let path = path_to(name);
        self.walk(&path, site, links)
    }

    fn walk(&mut self, path: &[Owner], site: &mut ChainSite<'_>, links: &mut Links) -> Walk {
        let mut zone: Option<Arc<ZoneKeys>> = None;
        for name in path {
            if !self.cuts.contains_key(name) && !self.recall(name, site) {
                match self.find_cut(name, zone.as_ref(), site) {
                    Ok(cut) => {
                        self.keep(name, &cut, site);
                        self.cuts.insert(name.clone(), cut);
                    }
                    Err(needed) => return Walk::Need(needed),
                }
            }
            let text = text_of(name);
            match &self.cuts[name] {
                Cut::None => {
                    links.insert((text, RecordType::Ds));
                }
                Cut::Secure(keys) => {
                    if !name.is_root() {
                        links.insert((text.clone(), RecordType::Ds));
                    }
                    links.insert((text, RecordType::Dnskey));
                    zone = Some(Arc::clone(keys));
                }
                Cut::Insecure(proof) => {
                    links.insert((text, RecordType::Ds));
                    return match zone {
                        Some(zone) => Walk::Insecure(proof.clone(), zone),
                        None => Walk::Broken(DnssecFault::TooMuchWork),
                    };
                }
                Cut::Broken(fault) => {
                    links.insert((text.clone(), RecordType::Ds));
                    links.insert((text, RecordType::Dnskey));
                    return Walk::Broken(fault.clone());
                }
            }
        }
        match zone {
            Some(keys) => Walk::Secure(keys),
            None => Walk::Broken(DnssecFault::TooMuchWork),
        }
    }

    /// Finds out about one name, in the zone above it; or names what must be asked.
    fn find_cut(
        &mut self,
        name: &Owner,
        zone: Option<&Arc<ZoneKeys>>,
        site: &ChainSite<'_>,
    ) -> Result<Cut, Vec<LinkQuestion>> {
        let Some(zone) = zone else {
            let anchors = site.anchors.delegation();
            return self.find_keys(name, anchors, None, site.now);
        };
        if let Some(ds) = self.delegations.get(name).cloned() {
            return self.find_keys(name, &ds, Some(zone.anchor), site.now);
        }
        let sets = match self.take(name, RecordType::Ds)? {
            Ok(sets) => sets,
            Err(fault) => return Ok(Cut::Broken(fault)),
        };
        match judge_delegation(name, zone, &sets, site.now, &mut self.work) {
            Ok(Delegation::Signed(ds)) => {
                self.delegations.insert(name.clone(), ds.clone());
                self.find_keys(name, &ds, Some(zone.anchor), site.now)
            }
            Ok(Delegation::Unsigned(by)) => {
                Ok(Cut::Insecure(InsecureProof { name: text_of(name), parent: text_of(&zone.zone), by }))
            }
            Ok(Delegation::None) => Ok(Cut::None),
            Err(fault) => self.broken(name, RecordType::Ds, fault),
        }
    }

    fn find_keys(
        &mut self,
        name: &Owner,
        delegation: &[Ds],
        anchor: Option<u16>,
        now: Timestamp,
    ) -> Result<Cut, Vec<LinkQuestion>> {
        let sets = match self.take(name, RecordType::Dnskey)? {
            Ok(sets) => sets,
            Err(fault) => return Ok(Cut::Broken(fault)),
        };
        let keys = sets.iter().find(|set| is_answer(set, name, Rtype::DNSKEY));
        let trusted = match keys {
            Some(set) => ZoneKeys::trust(delegation, set, anchor, now, &mut self.work),
            None => Err(DnssecFault::DsMatchesNoKey {
                zone: text_of(name),
                ds: delegation.iter().map(|ds| ds.key_tag).collect(),
                keys: Vec::new(),
            }),
        };
        match trusted {
            Ok(keys) => Ok(Cut::Secure(keys)),
            Err(fault) => self.broken(name, RecordType::Dnskey, fault),
        }
    }

    /// A bogus link is asked once more with CD clear: a validating resolver then tries the zone's other
    /// servers.
    fn broken(&mut self, name: &Owner, rtype: RecordType, fault: DnssecFault) -> Result<Cut, Vec<LinkQuestion>> {
        if fault == DnssecFault::TooMuchWork {
            return Ok(Cut::Broken(fault));
        }
        let asked_again = self.links.get(&(name.clone(), rtype)).is_some_and(|state| state.first.is_some());
        if asked_again {
            return Ok(Cut::Broken(fault));
        }
        let Some(question) = self.need(name, rtype, true) else { return Ok(Cut::Broken(fault)) };
        if let Some(state) = self.links.get_mut(&(name.clone(), rtype)) {
            state.first = state.answer.take().map(|answer| (answer, fault.clone()));
        }
        self.repaired.get_or_insert(fault);
        Err(vec![question])
    }

    /// The sets of a link's reply; or the question, if it has not been asked. While it is under way there is
    /// nothing to ask.
    fn take(&mut self, name: &Owner, rtype: RecordType) -> Result<Result<Vec<Rrset>, DnssecFault>, Vec<LinkQuestion>> {
        let state = self.links.entry((name.clone(), rtype)).or_default();
        match (&state.answer, &mut state.first) {
            // A resolver that validates answers SERVFAIL when no server gave it better: what came first stands.
            (Some(Err(_)), Some((first, fault))) => {
                let fault = fault.clone();
                state.answer = Some(first.clone());
                return Ok(Err(fault));
            }
            (Some(answer), _) => return Ok(answer.as_ref().map(|(_, sets)| sets.clone()).map_err(Clone::clone)),
            (None, _) => {}
        }
        if state.asked {
            return Err(Vec::new());
        }
        match self.need(name, rtype, false) {
            Some(question) => Err(vec![question]),
            None => Ok(Err(DnssecFault::TooMuchWork)),
        }
    }

    fn need(&mut self, name: &Owner, rtype: RecordType, again: bool) -> Option<LinkQuestion> {
        if self.questions >= LINKS_MAX {
            return None;
        }
        self.questions += 1;
        self.links.entry((name.clone(), rtype)).or_default().asked = true;
        Some(LinkQuestion { name: text_of(name), rtype, again })
    }

    /// Takes a cut that is kept.
    fn recall(&mut self, name: &Owner, site: &mut ChainSite<'_>) -> bool {
        let Some(kept) = site.kept.get(name, site.now) else { return false };
        self.cuts.insert(name.clone(), kept.cut.clone());
        for (rtype, packet) in &kept.messages {
            let state = self.links.entry((name.clone(), *rtype)).or_default();
            state.asked = true;
            state.answer = Some(Ok((Arc::clone(packet), Vec::new())));
        }
        true
    }

    fn keep(&self, name: &Owner, cut: &Cut, site: &mut ChainSite<'_>) {
        if !is_above_registered_domains(name) || matches!(cut, Cut::Broken(_)) {
            return;
        }
        let mut ttl = ZONES_KEPT_SECONDS_MAX;
        let mut messages = Vec::new();
        for rtype in [RecordType::Ds, RecordType::Dnskey] {
            let Some(state) = self.links.get(&(name.clone(), rtype)) else { continue };
            let Some(Ok((packet, sets))) = &state.answer else { continue };
            for set in sets {
                ttl = ttl.min(set.ttl);
                for signature in &set.signatures {
                    ttl = ttl.min(signature.original_ttl).min(left(signature.expiration, site.now));
                }
            }
            messages.push((rtype, Arc::clone(packet)));
        }
        let octets: usize = messages.iter().map(|(_, packet)| packet.len()).sum();
        if ttl == 0 || octets > ZONE_KEPT_BYTES_MAX {
            return;
        }
        let Ok(until) = site.now.checked_add(i64::from(ttl).seconds()) else { return };
        site.kept.put(name.clone(), Kept { cut: cut.clone(), messages, until });
    }
}

/// Seconds until a signature's end, zero if it is over (serial arithmetic).
fn left(expiration: u32, now: Timestamp) -> u32 {
    let ahead = expiration.wrapping_sub(now.as_second() as u32) as i32;
    ahead.max(0) as u32
}

fn path_to(name: &Owner) -> Vec<Owner> {
    let mut path: Vec<Owner> = suffixes(name).collect();
    path.reverse();
    path
}

/// Whether the name lies above registered domains: the root, a top-level domain, or a public suffix of the list's
/// ICANN part.
fn is_above_registered_domains(name: &Owner) -> bool {
    labels_of(name) <= 1 || is_icann_suffix(&text_of(name))
}

fn is_answer(set: &Rrset, owner: &Owner, rtype: Rtype) -> bool {
    set.section == Section::Answer && set.rtype == rtype && set.owner == *owner
}

enum Delegation {
    Signed(Vec<Ds>),
    Unsigned(InsecureBy),
    None,
}

/// What the reply to DS at `name` shows, by the keys of the zone above.
fn judge_delegation(
    name: &Owner,
    zone: &ZoneKeys,
    sets: &[Rrset],
    now: Timestamp,
    work: &mut Work,
) -> Result<Delegation, DnssecFault> {
    if let Some(set) = sets.iter().find(|set| is_answer(set, name, Rtype::DS)) {
        let checked = zone.check(set, now, work)?;
        if checked.wildcard.is_some() {
            return Err(DnssecFault::SignerIsNoZone { owner: text_of(name), signer: text_of(&zone.zone) });
        }
        let ds: Vec<Ds> = set.rdata.iter().filter_map(|rdata| Ds::parse(rdata)).collect();
        if ds.iter().any(Ds::is_supported) {
            return Ok(Delegation::Signed(ds));
        }
        let distinct = |of: fn(&Ds) -> u8| ds.iter().map(of).collect::<BTreeSet<u8>>().into_iter().collect();
        return Ok(Delegation::Unsigned(InsecureBy::Unsupported {
            algorithms: distinct(|ds| ds.algorithm),
            digests: distinct(|ds| ds.digest_type),
        }));
    }
    // Where an alias is, no zone begins (RFC 1034 §3.6.2, RFC 6672 §2.4).
    let alias = sets.iter().find(|set| is_answer(set, name, Rtype::CNAME) && !set.signatures.is_empty());
    if let Some(alias) = alias {
        let checked = zone.check(alias, now, work)?;
        return match checked.wildcard {
            None => Ok(Delegation::None),
            Some(encloser) => {
                let denials = Denials::collect(sets, zone, now, work)?;
                denials.nothing_closer(name, &encloser, work).map(|_| Delegation::None)
            }
        };
    }
    let redirection = sets.iter().find(|set| {
        set.section == Section::Answer
            && set.rtype == Rtype::DNAME
            && name.ends_with(&set.owner)
            && set.owner != *name
            && set.rdata.first().and_then(|rdata| target_of(rdata)).is_some()
    });
    if let Some(redirection) = redirection {
        let checked = zone.check(redirection, now, work)?;
        return match checked.wildcard {
            None => Ok(Delegation::None),
            // A DNAME is not made by a wildcard (RFC 6672 §3.3).
            Some(_) => Err(DnssecFault::SignerIsNoZone { owner: text_of(name), signer: text_of(&zone.zone) }),
        };
    }
    let denials = Denials::collect(sets, zone, now, work)?;
    match denials.no_ds(name, work)? {
        NoDs::Unsigned(by) => Ok(Delegation::Unsigned(by)),
        NoDs::NoCut => Ok(Delegation::None),
    }
}

#[derive(Clone)]
struct Kept {
    cut: Cut,
    messages: Vec<(RecordType, Arc<[u8]>)>,
    until: Timestamp,
}

/// Zones above registered domains, kept by one worker of one perspective.
#[derive(Default)]
pub struct ZoneCache {
    zones: HashMap<Owner, Kept>,
}

impl std::fmt::Debug for ZoneCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneCache({})", self.zones.len())
    }
}

impl ZoneCache {
    /// How many zones are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.zones.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    fn get(&self, name: &Owner, now: Timestamp) -> Option<&Kept> {
        self.zones.get(name).filter(|kept| now < kept.until)
    }

    fn put(&mut self, name: Owner, kept: Kept) {
        if self.zones.len() >= ZONES_KEPT_MAX {
            // Those that would go first make room.
            self.zones.retain(|_, other| other.until > kept.until);
            if self.zones.len() >= ZONES_KEPT_MAX {
                self.zones.clear();
            }
        }
        self.zones.insert(name, kept);
    }
}
