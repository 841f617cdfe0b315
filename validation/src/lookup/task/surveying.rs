//! The part of a task that carries out a survey.

use super::{Command, Purpose, Site, Slot, Stream, Task, local_dns_failure};
use crate::{
    base::{
        Micros,
        limits::{SURVEY_RESOLVER_TRY_MS, SURVEY_TRANSMISSIONS, SURVEY_TRY_MS},
    },
    lookup::{
        dns::{
            message::Question,
            query::{Query, QueryLimits},
        },
        survey::{Aim, Ask, Form, Surveying},
    },
    observation::DnsLookup,
};

impl Task {
    /// Begins the survey, if the plan has one.
    pub(super) fn survey(&mut self, site: &mut Site<'_>, now: Micros) {
        let Some(plan) = &self.plan.survey else { return };
        self.surveying = Some(Box::new(Surveying::new(plan, self.started_utc, self.deadline)));
        self.go_on_with_survey(site, now);
    }

    pub(super) fn end_survey_ask(&mut self, site: &mut Site<'_>, now: Micros, ended: (Aim, &DnsLookup, &[u8])) {
        let (aim, lookup, packet) = ended;
        if let Some(surveying) = &mut self.surveying {
            surveying.handle(aim, lookup, packet, &site.settings.filter);
        }
        self.go_on_with_survey(site, now);
    }

    fn go_on_with_survey(&mut self, site: &mut Site<'_>, now: Micros) {
        loop {
            let Some(surveying) = &mut self.surveying else { return };
            let asks = surveying.take_asks(now);
            if surveying.is_ended() {
                return self.end_survey(now);
            }
            if asks.is_empty() {
                return;
            }
            for ask in asks {
                self.begin_survey_ask(site, now, ask);
            }
        }
    }

    fn begin_survey_ask(&mut self, site: &mut Site<'_>, now: Micros, ask: Ask) {
        let Ask { aim, name, rtype, form, peer } = ask;
        let Some(surveying) = &mut self.surveying else { return };
        let question = match Question::new(&name, rtype) {
            Ok(question) if peer.is_some() => question.to_name_server(),
            Ok(question) => question.with_checking_disabled(),
            Err(problem) => {
                let lookup = local_dns_failure(site.settings, name, rtype, problem);
                self.slots.push(Slot::Ended);
                return surveying.handle(aim, &lookup, &[], &site.settings.filter);
            }
        };
        let question = match form {
            Form::Usual | Form::Stream => question,
            Form::MixedCase => question.with_mixed_case(),
            Form::WithoutEdns => question.without_edns(),
        };
        let try_ms = if peer.is_some() { SURVEY_TRY_MS } else { SURVEY_RESOLVER_TRY_MS };
        let limits = QueryLimits { try_ms, transmissions: SURVEY_TRANSMISSIONS, deadline: surveying.deadline() };
        let peer = peer.unwrap_or(site.settings.resolver);
        let slot = self.slots.len() as u16;
        let over_tcp = form == Form::Stream;
        let query = if over_tcp { Query::over_stream } else { Query::new }(question, peer, limits, now);
        self.slots.push(Slot::Active(query.keeping_packet(), Purpose::Survey(aim), over_tcp));
        self.commands.push(match over_tcp {
            true => Command::Connect(Stream::Query(slot), Box::new(peer)),
            false => Command::Transmit(slot),
        });
    }

    /// Ends the survey with what has come, if there is one.
    pub(super) fn end_survey(&mut self, now: Micros) {
        let Some(surveying) = &mut self.surveying else { return };
        surveying.end();
        for slot in 0..self.slots.len() as u16 {
            if matches!(self.slots[usize::from(slot)], Slot::Active(_, Purpose::Survey(_), _)) {
                self.close_query(now, slot);
            }
        }
    }
}
