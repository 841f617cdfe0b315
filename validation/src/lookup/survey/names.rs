//! In which zone a name lies, and which servers the zone above and the resolver name for it.

use std::net::IpAddr;

use super::{Aim, ParentStage, Stage, Surveying, is_surveyed};
use crate::{
    base::limits::{
        KEYS_PER_ZONE_MAX, SURVEY_CUTS_MAX, SURVEY_PARENTS_MAX, SURVEYED_ADDRESSES_PER_SERVER_MAX, SURVEYED_SERVERS_MAX,
    },
    lookup::{
        dnssec::set::Section,
        nameserver::{glue, lies_in, servers_in},
    },
    observation::{DnsLookup, DnsOutcome, RecordType, SurveyedServer},
};

impl Surveying {
    pub(super) fn look_for_cut(&mut self) {
        self.cuts += 1;
        self.want(Aim::Cut, self.cut_at.clone(), RecordType::Soa, None);
    }

    /// The zone is the one whose SOA came. What stands at an alias is never the top of a zone, so the zone is that of the
    /// name above.
    pub(super) fn found_cut(&mut self, lookup: &DnsLookup) {
        let (aliases, zone) = match &lookup.outcome {
            DnsOutcome::Answer(set) => (&set.aliases[..], Some(set.owner.as_str())),
            DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => {
                (&denial.aliases[..], denial.soa.as_ref().map(|soa| soa.zone.as_str()))
            }
            DnsOutcome::Failed(_) => (&[][..], None),
        };
        if !aliases.is_empty()
            && self.cuts < SURVEY_CUTS_MAX
            && let Some((_, above)) = self.cut_at.split_once('.')
        {
            self.cut_at = above.to_owned();
            return self.look_for_cut();
        }
        let found = zone.filter(|zone| aliases.is_empty() && lies_in(&self.survey.name, zone)).map(str::to_owned);
        let zone = found.or_else(|| psl::domain_str(&self.survey.name).map(str::to_owned));
        self.survey.zone = zone.filter(|zone| is_surveyed(zone));
    }

    pub(super) fn look_for_names(&mut self) {
        let Some(zone) = self.survey.zone.clone() else { return self.end() };
        self.stage = Stage::Names;
        if let Some((_, above)) = zone.split_once('.') {
            self.parent.zone = above.to_owned();
            self.want(Aim::Parents, above.to_owned(), RecordType::Ns, None);
        }
        self.want(Aim::Servers, zone, RecordType::Ns, None);
    }

    pub(super) fn zone(&self) -> String {
        self.survey.zone.clone().unwrap_or_default()
    }

    pub(super) fn found_servers(&mut self, packet: &[u8]) {
        let (names, count) = servers_in(packet, &self.zone(), Section::Answer, SURVEYED_SERVERS_MAX);
        self.omit(count - names.len());
        for name in names {
            if let Some(server) = self.server(name) {
                server.by_resolver = true;
            }
        }
    }

    pub(super) fn found_parents(&mut self, lookup: &DnsLookup, packet: &[u8]) {
        let (names, _) = servers_in(packet, &self.parent.zone, Section::Answer, SURVEY_PARENTS_MAX);
        // The zone above was a guess; a denial tells in which zone the name lies.
        if let DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) = &lookup.outcome
            && let Some(soa) = denial.soa.as_ref().filter(|soa| lies_in(&self.parent.zone, &soa.zone))
            && names.is_empty()
            && !self.parent_corrected
        {
            self.parent_corrected = true;
            self.parent.zone.clone_from(&soa.zone);
            return self.want(Aim::Parents, soa.zone.clone(), RecordType::Ns, None);
        }
        for name in names {
            for rtype in [RecordType::A, RecordType::Aaaa] {
                self.want(Aim::ParentAddress, name.clone(), rtype, None);
            }
        }
    }

    pub(super) fn go_on_with_parent(&mut self) {
        if self.parent_stage == ParentStage::Names && !self.is_open(|aim| aim == Aim::Parents) {
            self.parent_stage = ParentStage::Addresses;
        }
        if self.parent_stage != ParentStage::Addresses || self.is_open(|aim| aim == Aim::ParentAddress) {
            return;
        }
        self.parent_stage = ParentStage::Asked;
        self.parent.asked.sort_by_key(IpAddr::is_ipv6);
        self.parent.asked.truncate(SURVEY_PARENTS_MAX);
        for address in self.parent.asked.clone() {
            self.want(Aim::Delegation, self.zone(), RecordType::Ns, Some(address));
            self.want(Aim::Signers, self.zone(), RecordType::Ds, Some(address));
        }
    }

    pub(super) fn found_delegation(&mut self, packet: &[u8]) {
        let zone = self.zone();
        let (mut names, mut count) = servers_in(packet, &zone, Section::Authority, SURVEYED_SERVERS_MAX);
        if names.is_empty() {
            // The parent's server may serve the zone too.
            (names, count) = servers_in(packet, &zone, Section::Answer, SURVEYED_SERVERS_MAX);
        }
        if names.is_empty() {
            return;
        }
        self.omit(count - names.len());
        self.parent.delegates = true;
        for name in names {
            if let Some(server) = self.server(name.clone()) {
                server.by_parent = true;
            }
            if !self.parent.servers.contains(&name) && self.parent.servers.len() < SURVEYED_SERVERS_MAX {
                self.parent.servers.push(name);
            }
        }
        for (name, address) in glue(packet, SURVEYED_SERVERS_MAX) {
            if let Some(server) = self.survey.servers.iter_mut().find(|server| server.name == name)
                && !server.glue.contains(&address)
                && server.glue.len() < SURVEYED_ADDRESSES_PER_SERVER_MAX
            {
                server.glue.push(address);
            }
        }
    }

    pub(super) fn found_signers(&mut self, lookup: &DnsLookup) {
        match &lookup.outcome {
            DnsOutcome::Answer(set) => {
                self.parent.ds = Some(set.rdata.iter().take(KEYS_PER_ZONE_MAX).cloned().collect());
            }
            DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => {
                self.parent.ds.get_or_insert_default();
            }
            DnsOutcome::Failed(_) => {}
        }
    }

    /// The server of a name; none if there are too many.
    fn server(&mut self, name: String) -> Option<&mut SurveyedServer> {
        let servers = &mut self.survey.servers;
        let at = match servers.iter().position(|server| server.name == name) {
            Some(at) => at,
            None if servers.len() < SURVEYED_SERVERS_MAX => {
                servers.push(SurveyedServer { name, ..SurveyedServer::default() });
                servers.len() - 1
            }
            None => {
                self.omit(1);
                return None;
            }
        };
        self.survey.servers.get_mut(at)
    }

    pub(super) fn omit(&mut self, count: usize) {
        self.survey.omitted = self.survey.omitted.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
    }
}
