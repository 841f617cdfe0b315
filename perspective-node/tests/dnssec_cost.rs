//! What validation costs: CPU time per CAA check of a three-label name, in the node and in the resolver, with the
//! node validating and with Unbound validating. Run it alone, in a release build:
//!
//! ```text
//! cargo test --release -p parallax-node --test dnssec_cost -- --ignored --nocapture
//! ```

mod common;
mod dnssec_lab;

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use common::{Bench, config};
use dnssec_lab::{Lab, PLAIN, VALIDATING};
use parallax_validation::{
    lookup::{Dnssec, dnssec::anchor::TrustAnchors},
    observation::DnsOutcome,
    plan::{Plan, PlanLimits},
};

const CHECKS: usize = 1_000;
const IN_FLIGHT: usize = 100;
const ROUNDS: usize = 5;

fn plan(name: &str) -> Plan {
    let mut caa_levels = vec![name.to_owned()];
    caa_levels.extend(name.match_indices('.').map(|(at, _)| name[at + 1..].to_owned()));
    let limits = PlanLimits::default();
    Plan {
        control: None,
        derivation: None,
        caa_levels,
        hints: Vec::new(),
        keep_proof: true,
        diagnose: false,
        survey: None,
        limits,
    }
}

/// CPU microseconds per check: of the node, of the resolver.
fn measure(lab: &Lab, dnssec: Dnssec, resolver: std::net::Ipv4Addr, name: &str) -> (f64, f64) {
    let mut bench = Bench::start(&parallax_node::NodeConfig { dnssec, ..config((resolver, 53).into()) });
    // The resolver's cache and the node's zones are warm.
    bench.run_all(vec![plan(name); IN_FLIGHT]);
    let cpu = |bench: &Bench| {
        // The node publishes about once a second.
        thread::sleep(Duration::from_millis(1_200));
        (bench.node.stats().cpu_us.load(Ordering::Relaxed), lab.cpu_us(resolver))
    };
    let before = cpu(&bench);
    for _ in 0..CHECKS / IN_FLIGHT {
        for observation in bench.run_all(vec![plan(name); IN_FLIGHT]) {
            let good =
                |lookup: &parallax_validation::observation::DnsLookup| !matches!(lookup.outcome, DnsOutcome::Failed(_));
            assert!(observation.caa.iter().all(good), "{name}: {:?}", observation.caa);
        }
    }
    let after = cpu(&bench);
    let each = |us: u64| us as f64 / CHECKS as f64;
    (each(after.0 - before.0), each(after.1 - before.1))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn cpu_per_caa_check_of_a_three_label_name() {
    let Some(lab) = dnssec_lab::inside("cpu_per_caa_check_of_a_three_label_name") else { return };
    let anchors = Arc::new(TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor"));
    println!("CPU us per CAA check, medians of {ROUNDS} rounds of {CHECKS} checks");
    println!("{:<24} {:<34} {:>8} {:>9} {:>8}", "name", "who validates", "node", "resolver", "both");
    for name in ["www.unsigned.example", "www.nsec3.example", "www.rsa2048.rsa"] {
        let modes = [
            ("nobody (Unbound iterates)", Dnssec::None, PLAIN),
            ("the node (Unbound iterates)", Dnssec::Local(Arc::clone(&anchors)), PLAIN),
            ("Unbound", Dnssec::Resolver, VALIDATING),
            ("both", Dnssec::Local(Arc::clone(&anchors)), VALIDATING),
        ];
        // The rounds of all modes alternate, so that a noisy moment meets all.
        let mut figures = vec![Vec::new(); modes.len()];
        for _ in 0..ROUNDS {
            for (figures, (_, dnssec, resolver)) in figures.iter_mut().zip(&modes) {
                figures.push(measure(lab, dnssec.clone(), *resolver, name));
            }
        }
        for (figures, (who, ..)) in figures.into_iter().zip(&modes) {
            let (node, resolver): (Vec<f64>, Vec<f64>) = figures.into_iter().unzip();
            let (node, resolver) = (median(node), median(resolver));
            println!("{name:<24} {who:<34} {node:>8.1} {resolver:>9.1} {:>8.1}", node + resolver);
        }
    }
}
