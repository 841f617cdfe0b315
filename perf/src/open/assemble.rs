//! One run of a file of results, out of what generator, watcher and laboratory say.

use serde_json::Value;

use super::{
    drive::Driven,
    failure::Failure,
    latency::{encode, summary},
    mix::Mix,
    result::{CpuPerRequest, Loopback, OfKind, Others, Run},
    watch::Seen,
};

/// What is known of a run besides its count.
pub(super) struct Facts<'a> {
    pub(super) mix: &'a Mix,
    pub(super) per_second: f64,
    pub(super) warm_up_seconds: f64,
    pub(super) seen: Seen,
    /// What the journal grew by, warm-up included.
    pub(super) journal_octets: u64,
    /// The laboratory's last line.
    pub(super) laboratory: String,
    /// How the engine ended, if it ended by itself.
    pub(super) engine_ended: Option<String>,
}

pub(super) fn assemble(driven: Driven, facts: Facts<'_>) -> Run {
    let Driven { tally, in_flight, overloaded, fault, error_examples, generator_cpu, is_real_time } = driven;
    let (all, quick) = tally.latencies();
    let requests = tally.kinds.iter().map(|kind| kind.requests).sum();
    let (completed, permitted) = (all.len(), tally.kinds.iter().map(|kind| kind.permitted).sum::<u64>());
    let seconds = tally.window_seconds();
    // CPU time was used for what was answered meanwhile, whenever that was asked.
    let cpu = facts.seen.engine.as_ref();
    let by_kind = tally.kinds.iter().map(|kind| {
        let told = summary(&kind.latency);
        let of_kind = OfKind {
            requests: kind.requests,
            latency_us_mean: told.mean,
            latency_us_p99: told.p99,
            completed: kind.latency.len(),
            permitted: kind.permitted,
            wrong: kind.wrong,
        };
        (kind.kind.slug().to_owned(), of_kind)
    });
    // Only a histogram that does not fit into memory cannot be written into it.
    let histogram = encode(&all).unwrap_or_default();
    let late = (!tally.lateness.keeps_up()).then(|| {
        let (late, sent) = (tally.lateness.late, tally.lateness.sent);
        Failure::Late { late, sent }
    });
    let ended = facts.engine_ended.map(Failure::EngineEnded).or_else(|| fault.map(Failure::Stream));
    Run {
        mix: facts.mix.name.clone(),
        shares: facts.mix.shares(),
        offered_per_second: facts.per_second,
        seconds,
        requests,
        completed,
        permitted,
        refused: completed - permitted.min(completed),
        errors: requests - completed.min(requests),
        wrong: tally.kinds.iter().map(|kind| kind.wrong).sum(),
        overloaded,
        late_sends: tally.lateness.late,
        latency_us: summary(&all),
        histogram,
        by_kind: by_kind.collect(),
        in_flight,
        cpu_us_per_request: cpu.map_or_else(CpuPerRequest::default, |used| used.per_request(tally.answered_in_window)),
        cpu_seconds: cpu.map_or(0.0, |used| used.cpu.as_secs_f64()),
        rss_kib: facts.seen.rss_kib,
        descriptors: facts.seen.descriptors,
        journal_octets_per_request: facts.journal_octets as f64 / tally.answered_in_all.max(1) as f64,
        loopback: loopback(&facts.laboratory, tally.sent_in_all),
        failed: ended.or(late),
        completed_per_second: (seconds > 0.0).then(|| tally.answered_in_window as f64 / seconds),
        latency_quick_us: (!quick.is_empty()).then(|| summary(&quick)),
        warm_up_seconds: facts.warm_up_seconds,
        busiest_by_role: cpu.map(|used| used.busiest(facts.seen.seconds)).unwrap_or_default(),
        others: Others {
            laboratory_cpu_seconds: facts.seen.laboratory.as_ref().map(|used| used.cpu.as_secs_f64()),
            laboratory_busiest: facts.seen.laboratory.as_ref().and_then(|used| used.busiest_thread(facts.seen.seconds)),
            generator_cpu_seconds: Some(generator_cpu.as_secs_f64()),
            generator_real_time: Some(is_real_time),
            machine_busy: facts.seen.machine_busy,
        },
        wrong_in_warm_up: tally.wrong_in_warm_up,
        unexpected: tally.unexpected,
        repeats: 0,
        wrong_examples: tally.wrong_examples,
        error_examples,
    }
}

/// What the laboratory counted, for each request. It does not count the replies that it sent.
fn loopback(last_words: &str, requests: u64) -> Loopback {
    let Ok(counted) = serde_json::from_str::<Value>(last_words) else { return Loopback::default() };
    let sum = |keys: &[&str]| {
        let counts: Option<Vec<u64>> = keys.iter().map(|key| counted.get(key)?.as_u64()).collect();
        Some(counts?.iter().sum::<u64>() as f64 / requests.max(1) as f64)
    };
    Loopback {
        udp_out: sum(&["dns_udp_queries"]),
        udp_in: None,
        tcp_opened: sum(&["dns_tcp_connections", "http_connections", "tls_connections"]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::open::{
        prepare::Prepared,
        process::Used,
        result::InFlight,
        tally::{Judged, Tally},
    };

    fn facts(mix: &Mix) -> Facts<'_> {
        let engine =
            Used { cpu: Duration::from_millis(4), threads: vec![("ams1/0".to_owned(), Duration::from_millis(3))] };
        Facts {
            mix,
            per_second: 2.0,
            warm_up_seconds: 1.0,
            seen: Seen { engine: Some(engine), seconds: 1.0, ..Seen::default() },
            journal_octets: 8_000,
            laboratory: r#"{"dns_udp_queries":24,"dns_tcp_connections":1,"http_connections":2,"tls_connections":3}"#
                .to_owned(),
            engine_ended: None,
        }
    }

    fn driven(mix: &Mix, left_after_ms: u64) -> Driven {
        let ms = Duration::from_millis;
        let mut tally = Tally::new(mix.kinds.iter().map(|(kind, _)| *kind), ms(1000)..ms(2000));
        for (index, due) in [(0, 500), (1, 1200), (2, 1400), (3, 1600)] {
            let request = Prepared { due: ms(due), place: 0, index, octets: Vec::new() };
            tally.handle_sent(ms(due + left_after_ms), &request);
            if index < 3 {
                tally.handle_answer(ms(due + 600), &request, Judged { permits: index != 1, difference: None });
            }
        }
        Driven {
            in_flight: InFlight::default(),
            tally,
            overloaded: false,
            fault: None,
            error_examples: Vec::new(),
            generator_cpu: ms(7),
            is_real_time: true,
        }
    }

    #[test]
    fn ok_a_run_adds_up() {
        let mix = Mix::load("dns-01").expect("a mix");
        let run = assemble(driven(&mix, 0), facts(&mix));
        run.check().expect("a run that can be");
        assert_eq!((run.requests, run.completed, run.permitted, run.refused, run.errors), (3, 2, 1, 1, 1));
        // Two were answered within the window, one of the warm-up's among them: 4 ms are 2000 us each.
        assert_eq!((run.completed_per_second, run.cpu_us_per_request.process), (Some(2.0), 2_000.0));
        assert_eq!(run.cpu_us_per_request.by_role["node"], 1_500.0);
        assert_eq!((run.loopback.udp_out, run.loopback.tcp_opened, run.loopback.udp_in), (Some(6.0), Some(1.5), None));
        assert!((run.journal_octets_per_request - 8_000.0 / 3.0).abs() < 1e-9);
        assert_eq!(run.failed, None);
    }

    #[test]
    fn err_a_generator_that_lags_behind_is_no_figure() {
        let mix = Mix::load("dns-01").expect("a mix");
        let run = assemble(driven(&mix, 6), facts(&mix));
        assert_eq!(run.late_sends, 3);
        assert_eq!(run.failed, Some(Failure::Late { late: 3, sent: 3 }));
    }

    #[test]
    fn err_an_engine_that_ended_is_no_figure() {
        let mix = Mix::load("dns-01").expect("a mix");
        let run = assemble(driven(&mix, 0), Facts { engine_ended: Some("it ended".to_owned()), ..facts(&mix) });
        assert_eq!(run.failed, Some(Failure::EngineEnded("it ended".to_owned())));
        let broken = Driven { fault: Some("Unavailable".to_owned()), ..driven(&mix, 0) };
        let run = assemble(broken, facts(&mix));
        assert_eq!(run.failed, Some(Failure::Stream("Unavailable".to_owned())));
        let late = Facts { engine_ended: Some("it ended".to_owned()), ..facts(&mix) };
        assert!(!assemble(driven(&mix, 6), late).failed.expect("no figure").is_late(), "the end is what matters");
    }

    #[test]
    fn ok_what_the_laboratory_did_not_say_is_not_known() {
        assert_eq!(loopback("thread panicked", 9), Loopback::default());
        assert_eq!(loopback(r#"{"dns_udp_queries":9}"#, 9).tcp_opened, None);
    }
}
