//! Load on the interfaces that others call: many unary calls at a time against one program, with what it cost that
//! program.
//!
//! The calls are the laboratory's requests that must pass, so every other answer is a failure, and none is excused. The
//! run is bounded by a number of calls. What is told as CPU time is the called process's own, out of the system's account.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, Subcommand, ValueEnum};
use http_body_util::BodyExt as _;
use parallax_protocol::{
    transport::{ConnectLimits, Identity, Peer, TlsFiles, connect},
    wire::{
        core,
        va::{AuthzMeta, IsCaaValidRequest, PerformValidationRequest, caa_client::CaaClient, va_client::VaClient},
    },
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use tower::ServiceExt as _;

use crate::lab::{error::LabError, generate::read_world, kinds::Kind, world::Scenario};

/// No call may take longer.
const CALL_MAX: Duration = Duration::from_secs(60);

/// What is called.
#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// A node, as Boulder's validation authority calls it.
    Boulder(Load),
    /// An engine, as a client of Open MPIC's coordinator calls it.
    Mpic(Load),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// http-01.
    Http01,
    /// dns-01.
    Dns01,
    /// tls-alpn-01.
    TlsAlpn01,
    /// CAA.
    Caa,
}

impl Check {
    fn kind(self) -> Kind {
        match self {
            Self::Http01 => Kind::HttpOk,
            Self::Dns01 => Kind::DnsOk,
            Self::TlsAlpn01 => Kind::AlpnOk,
            Self::Caa => Kind::CaaIssue,
        }
    }
}

/// One run.
#[derive(Debug, Args)]
pub struct Load {
    /// The laboratory's directory, which is served elsewhere.
    #[arg(long)]
    lab: PathBuf,
    /// Who is called: host:port.
    #[arg(long)]
    peer: String,
    /// The name in its certificate.
    #[arg(long)]
    name: String,
    /// The caller's certificate.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key.
    #[arg(long)]
    key: PathBuf,
    /// The authorities.
    #[arg(long)]
    authorities: PathBuf,
    /// What is asked for.
    #[arg(long, value_enum)]
    check: Check,
    /// Calls at a time.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Calls in all.
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    /// Connections that they are spread over.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// The called process, whose CPU time and memory are told.
    #[arg(long)]
    pid: Option<u32>,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Findings {
    calls: usize,
    failures: usize,
    first_failure: Option<String>,
    seconds: f64,
    calls_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    cpu_us_per_call: Option<f64>,
    resident_mib: Option<f64>,
}

/// Carries one run out. The status is a failure if any call failed.
///
/// # Errors
/// The laboratory or the peer cannot be reached.
pub fn run(command: LoadCommand) -> Result<ExitCode, LabError> {
    let (load, is_mpic) = match command {
        LoadCommand::Boulder(load) => (load, false),
        LoadCommand::Mpic(load) => (load, true),
    };
    let fault = |error: &dyn std::fmt::Display| LabError::Load(error.to_string());
    let world = read_world(&load.lab)?;
    let kind = load.check.kind();
    let scenarios: Vec<Scenario> =
        (0..world.requests).map(|index| world.scenario(index)).filter(|scenario| scenario.kind == kind).collect();
    if scenarios.is_empty() {
        return Err(LabError::Load("the laboratory has no request of that kind; generate more".to_owned()));
    }
    let files = TlsFiles {
        certificate: load.certificate.clone(),
        key: load.key.clone(),
        authorities: load.authorities.clone(),
        revoked: None,
    };
    let identity = Arc::new(Identity::load(&files).map_err(|error| fault(&error))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let findings = runtime.map_err(|error| fault(&error))?.block_on(drive(&load, is_mpic, &identity, scenarios))?;
    if load.json {
        println!("{}", serde_json::to_string(&findings).map_err(|error| fault(&error))?);
    } else {
        print(&load, &findings);
    }
    Ok(if findings.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(load: &Load, findings: &Findings) {
    let cpu = findings.cpu_us_per_call.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
    let memory = findings.resident_mib.map_or_else(|| "-".to_owned(), |mib| format!("{mib:.0}"));
    println!(
        "{:<12} {:>6} at a time {:>8} calls {:>5} failed {:>8.0}/s  p50 {:>7.1} ms  p99 {:>7.1} ms  CPU {cpu:>5} µs/call  {memory:>5} MiB",
        load.check.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
        load.concurrency,
        findings.calls,
        findings.failures,
        findings.calls_per_second,
        findings.p50_ms,
        findings.p99_ms
    );
    if let Some(failure) = &findings.first_failure {
        println!("  such as: {failure}");
    }
}

async fn drive(
    load: &Load,
    is_mpic: bool,
    identity: &Arc<Identity>,
    scenarios: Vec<Scenario>,
) -> Result<Findings, LabError> {
    let peer = Peer { address: load.peer.clone(), name: load.name.clone(), keys: Vec::new() };
    let mut channels = Vec::new();
    for _ in 0..load.connections.max(1) {
        let channel = connect(identity, &peer, &ConnectLimits::default()).await;
        channels.push(channel.map_err(|error| LabError::Load(error.to_string()))?);
    }
    let scenarios = Arc::new(scenarios);
    let next = Arc::new(AtomicUsize::new(0));
    let failures = Arc::new(Mutex::new((0_usize, None::<String>)));
    let cpu_before = load.pid.and_then(cpu_time);
    let begun = Instant::now();
    let mut workers = Vec::new();
    for worker in 0..load.concurrency.min(load.calls) {
        let channel = channels[worker % channels.len()].clone();
        let (scenarios, next, failures) = (Arc::clone(&scenarios), Arc::clone(&next), Arc::clone(&failures));
        let (check, calls) = (load.check, load.calls);
        workers.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= calls {
                    return latencies;
                }
                let scenario = &scenarios[number % scenarios.len()];
                let begun = Instant::now();
                let call = async {
                    if is_mpic {
                        mpic(&channel, check, scenario).await
                    } else {
                        boulder(&channel, check, scenario).await
                    }
                };
                let outcome = tokio::time::timeout(CALL_MAX, call).await;
                latencies.push(begun.elapsed());
                if let Err(why) = outcome.unwrap_or_else(|_| Err(format!("no answer within {CALL_MAX:?}"))) {
                    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    failures.0 += 1;
                    failures.1.get_or_insert(why);
                }
            }
        }));
    }
    let mut latencies: Vec<Duration> = Vec::with_capacity(load.calls);
    for worker in workers {
        latencies.extend(worker.await.map_err(|error| LabError::Load(error.to_string()))?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_after = load.pid.and_then(cpu_time);
    latencies.sort_unstable();
    let at = |quantile: f64| {
        let place = ((latencies.len() as f64 * quantile) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    };
    let (failed, first_failure) = failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let calls = latencies.len();
    Ok(Findings {
        calls,
        failures: failed,
        first_failure,
        seconds,
        calls_per_second: calls as f64 / seconds.max(1e-9),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        cpu_us_per_call: cpu_after
            .zip(cpu_before)
            .map(|(after, before)| (after - before).as_micros() as f64 / calls.max(1) as f64),
        resident_mib: load.pid.and_then(resident_bytes).map(|bytes| bytes as f64 / f64::from(1 << 20)),
    })
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What stands after the name in parentheses; utime and stime are fields 14 and 15 of all.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let sum = ticks()? + ticks()?;
    Some(Duration::from_micros(sum * 1_000_000 / rustix::param::clock_ticks_per_second()))
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

async fn boulder(channel: &Channel, check: Check, scenario: &Scenario) -> Result<(), String> {
    let method = match check {
        Check::Http01 | Check::Caa => "http-01",
        Check::Dns01 => "dns-01",
        Check::TlsAlpn01 => "tls-alpn-01",
    };
    let identifier = Some(core::Identifier { r#type: "dns".to_owned(), value: scenario.host() });
    let problem = if check == Check::Caa {
        let asked =
            IsCaaValidRequest { validation_method: method.to_owned(), account_uriid: 7, identifier, authz_id: 1 };
        let answer = CaaClient::new(channel.clone()).do_caa(asked).await;
        answer.map_err(|status| status.to_string())?.into_inner().problem
    } else {
        let challenge = core::Challenge {
            r#type: method.to_owned(),
            token: scenario.token(),
            status: "pending".to_owned(),
            ..core::Challenge::default()
        };
        let asked = PerformValidationRequest {
            challenge: Some(challenge),
            authz: Some(AuthzMeta { reg_id: 7, id: 1 }),
            expected_key_authorization: scenario.key_authorization(),
            identifier,
        };
        let answer = VaClient::new(channel.clone()).do_dcv(asked).await;
        answer.map_err(|status| status.to_string())?.into_inner().problem
    };
    problem.map_or(Ok(()), |problem| Err(format!("{}: {}", problem.problem_type, problem.detail)))
}

async fn mpic(channel: &Channel, check: Check, scenario: &Scenario) -> Result<(), String> {
    let digest = || Sha256::digest(scenario.key_authorization());
    let hexadecimal = || digest().iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let parameters = match check {
        Check::Http01 => serde_json::json!({
            "validation_method": "acme-http-01", "token": scenario.token(),
            "key_authorization": scenario.key_authorization(),
        }),
        Check::Dns01 => {
            serde_json::json!({ "validation_method": "acme-dns-01", "key_authorization_hash": hexadecimal() })
        }
        Check::TlsAlpn01 => {
            serde_json::json!({ "validation_method": "acme-tls-alpn-01", "key_authorization_hash": hexadecimal() })
        }
        Check::Caa => serde_json::Value::Null,
    };
    let body = match check {
        Check::Caa => serde_json::json!({ "check_type": "caa", "domain_or_ip_target": scenario.host() }),
        Check::Http01 | Check::Dns01 | Check::TlsAlpn01 => serde_json::json!({
            "check_type": "dcv", "domain_or_ip_target": scenario.host(), "dcv_check_parameters": parameters,
        }),
    };
    let body = http_body_util::Full::new(bytes::Bytes::from(body.to_string()));
    let request = http::Request::post("https://engine/mpic")
        .header("content-type", "application/json")
        .body(tonic::body::Body::new(body))
        .map_err(|error| error.to_string())?;
    let mut channel = channel.clone();
    let ready = channel.ready().await.map_err(|error| error.to_string())?;
    let response = tower::Service::call(ready, request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    if status == 200 && answer["is_valid"] == true {
        Ok(())
    } else {
        Err(format!("{status}: {}", answer["explanation"]["message"].as_str().unwrap_or(&answer.to_string())))
    }
}
