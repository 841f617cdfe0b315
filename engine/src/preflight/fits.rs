//! Whether a survey can be one of what was asked.
//!
//! It comes from a node, whose words are taken for evidence and not for text: names must fit the request or read like names,
//! digests must be hexadecimal, and nothing may be more than a node's own bounds let through. What does not fit is as if it
//! had not come.

use parallax_validation::{
    base::limits::{
        KEYS_PER_ZONE_MAX, NSID_BYTES_MAX, SURVEY_KEPT_BYTES_MAX, SURVEY_PARENTS_MAX, SURVEY_QUESTIONS_MAX,
        SURVEY_SET_RECORDS_MAX, SURVEYED_ADDRESSES_MAX, SURVEYED_ADDRESSES_PER_SERVER_MAX, SURVEYED_SERVERS_MAX,
    },
    observation::{MixedCase, ParentView, ServerOutcome, Survey, SurveyAnswer, SurveyedAddress, SurveyedServer},
    plan::survey::SurveyPlan,
};

/// Octets of a name as text: each of at most 255 may be written as `\ddd`.
const NAME_TEXT_MAX: usize = 4 * 255;
/// Digits of a digest.
const DIGEST_DIGITS_MAX: usize = 64;
/// Record sets: one of each answer.
const SETS_MAX: usize = SURVEY_QUESTIONS_MAX * SURVEYED_ADDRESSES_MAX;

/// Whether a survey can be one of `plan`.
pub(super) fn fits(survey: &Survey, plan: &SurveyPlan) -> bool {
    let zone = survey.zone.as_deref();
    survey.name == plan.name
        && survey.challenge == plan.challenge
        && zone.is_none_or(|zone| lies_in(&plan.name, zone))
        && survey.parent.as_ref().is_none_or(|parent| parent_fits(parent, zone))
        && survey.servers.len() <= SURVEYED_SERVERS_MAX
        && survey.asked().count() <= SURVEYED_ADDRESSES_MAX
        && survey.servers.iter().all(|server| server_fits(server, survey))
        && sets_fit(survey)
}

/// Whether a text can be a name in presentation form.
fn is_name(text: &str) -> bool {
    (1..=NAME_TEXT_MAX).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Whether a name is a zone's, or lies below it.
fn lies_in(name: &str, zone: &str) -> bool {
    is_name(zone) && name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn parent_fits(parent: &ParentView, zone: Option<&str>) -> bool {
    zone.is_some_and(|zone| lies_in(zone, &parent.zone))
        && parent.asked.len() <= SURVEY_PARENTS_MAX
        && parent.servers.len() <= SURVEYED_SERVERS_MAX
        && parent.servers.iter().all(|server| is_name(server))
        && parent.ds.as_ref().is_none_or(|ds| ds.len() <= KEYS_PER_ZONE_MAX)
}

fn server_fits(server: &SurveyedServer, survey: &Survey) -> bool {
    let few = |count: usize| count <= SURVEYED_ADDRESSES_PER_SERVER_MAX;
    is_name(&server.name)
        && few(server.glue.len())
        && few(server.forbidden.len())
        && few(server.addresses.len())
        // Of either type.
        && server.looked_up.as_ref().is_none_or(|addresses| addresses.len() <= 2 * SURVEYED_ADDRESSES_PER_SERVER_MAX)
        && server.addresses.iter().all(|seen| address_fits(seen, survey))
}

fn address_fits(seen: &SurveyedAddress, survey: &Survey) -> bool {
    let answers = [&seen.version, &seen.without_edns, &seen.servers, &seen.caa, &seen.txt, &seen.keys];
    let mixed = match &seen.mixed_case {
        Some(MixedCase::Unlike(outcome)) => outcome_fits(outcome),
        Some(MixedCase::Copied | MixedCase::NotCopied) | None => true,
    };
    mixed
        && seen.nsid.as_ref().is_none_or(|nsid| nsid.as_slice().len() <= NSID_BYTES_MAX)
        && seen.over_tcp.as_ref().is_none_or(outcome_fits)
        && answers.into_iter().flatten().all(|answer| answer_fits(answer, survey))
}

fn answer_fits(answer: &SurveyAnswer, survey: &Survey) -> bool {
    outcome_fits(&answer.answer.outcome)
        && answer.answer.over_tcp.as_ref().is_none_or(outcome_fits)
        && answer.set.is_none_or(|set| usize::from(set) < survey.sets.len())
}

fn outcome_fits(outcome: &ServerOutcome) -> bool {
    match outcome {
        ServerOutcome::Referral(zone) => is_name(zone),
        _ => true,
    }
}

fn sets_fit(survey: &Survey) -> bool {
    let octets: usize = survey.sets.iter().flat_map(|set| &set.records).map(|rdata| rdata.as_slice().len()).sum();
    survey.sets.len() <= SETS_MAX
        && octets <= SURVEY_KEPT_BYTES_MAX
        && survey.sets.iter().all(|set| {
            is_name(&set.owner)
                && (1..=DIGEST_DIGITS_MAX).contains(&set.digest.len())
                && set.digest.bytes().all(|digit| digit.is_ascii_hexdigit())
                && set.records.len() <= SURVEY_SET_RECORDS_MAX
                && set.records.len() <= set.count as usize
        })
}

#[cfg(test)]
mod tests {
    use parallax_validation::{
        base::octets::Octets,
        observation::{ServerAnswer, SurveyedSet},
    };

    use super::*;

    fn plan() -> SurveyPlan {
        SurveyPlan { name: "www.a.example".to_owned(), challenge: "_acme-challenge.www.a.example".to_owned() }
    }

    fn survey() -> Survey {
        let answer = ServerAnswer {
            outcome: ServerOutcome::Referral(".".to_owned()),
            over_tcp: None,
            authoritative: false,
            soa: false,
            elapsed_us: 1,
        };
        let answer = SurveyAnswer {
            answer,
            recursion: false,
            edns: true,
            set: Some(0),
            ttl: None,
            serial: None,
            negative_ttl: None,
            signed: false,
            signatures_expired: None,
        };
        let address = std::net::Ipv4Addr::new(198, 51, 100, 1).into();
        let seen = SurveyedAddress { version: Some(answer), ..SurveyedAddress::new(address) };
        let server =
            SurveyedServer { name: "ns.a.example".to_owned(), addresses: vec![seen], ..SurveyedServer::default() };
        Survey {
            name: plan().name,
            challenge: plan().challenge,
            zone: Some("a.example".to_owned()),
            parent: Some(ParentView { zone: "example".to_owned(), ..ParentView::default() }),
            servers: vec![server],
            sets: vec![SurveyedSet {
                owner: "a.example".to_owned(),
                rtype: 6,
                count: 1,
                digest: "0af9".to_owned(),
                records: vec![Octets(vec![0; 22])],
            }],
            omitted: 0,
            cut_off: false,
        }
    }

    type Change = fn(&mut Survey);

    #[test]
    fn ok_what_a_node_makes() {
        assert!(fits(&survey(), &plan()));
        assert!(fits(&Survey { zone: None, parent: None, ..survey() }, &plan()));
    }

    #[test]
    fn err_what_was_not_asked_or_cannot_be() {
        let wrong: [(&str, Change); 15] = [
            ("another name", |s| s.name = "b.example".to_owned()),
            ("another challenge", |s| s.challenge = "b.example".to_owned()),
            ("a zone elsewhere", |s| s.zone = Some("b.example".to_owned())),
            ("half a label", |s| s.zone = Some(".example".to_owned())),
            ("a parent elsewhere", |s| s.parent.as_mut().expect("a parent").zone = "test".to_owned()),
            ("a server of the parent's", |s| {
                s.parent.as_mut().expect("a parent").servers.push("ns\u{1b}[2J".to_owned());
            }),
            ("a server's name", |s| s.servers[0].name = "ns\u{1b}[2J.example".to_owned()),
            ("no name", |s| s.servers[0].name.clear()),
            ("a referral", |s| {
                let version = s.servers[0].addresses[0].version.as_mut().expect("SOA");
                version.answer.outcome = ServerOutcome::Referral("a\nb".to_owned());
            }),
            ("over TCP", |s| s.servers[0].addresses[0].over_tcp = Some(ServerOutcome::Referral("\u{e9}".to_owned()))),
            ("a set that is not there", |s| s.sets.clear()),
            ("a digest", |s| s.sets[0].digest = "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}".to_owned()),
            ("more records than there are", |s| s.sets[0].count = 0),
            ("too many servers", |s| s.servers = vec![s.servers[0].clone(); SURVEYED_SERVERS_MAX + 1]),
            ("too many octets", |s| s.sets[0].records = vec![Octets(vec![0; SURVEY_KEPT_BYTES_MAX + 1])]),
        ];
        for (what, change) in wrong {
            let mut survey = survey();
            change(&mut survey);
            assert!(!fits(&survey, &plan()), "{what}");
        }
    }
}
