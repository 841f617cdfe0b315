//! `parallax`: the engine's command line.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use parallax_engine::{
    audit::{self, Item, Items},
    bulk::{self, BulkOptions, ResultLine, remote::RemoteOptions},
    captures, cohort,
    config::{Config, POLICY, SAMPLE, caa_policy},
    corroborate::Corroborator,
    find, index,
    input::Format,
    journal::{JournalOptions, Removed, Writer},
    log::LogForm,
    methods, plan, policy, preflight, prove, retention,
    serve::{self, ServeError},
    show, upkeep, watch,
};
use parallax_node::{DnssecSetting, Driver, Laboratory, Node, NodeConfig, Transport};
use parallax_protocol::{
    AttemptId, Header, Task, pki,
    transport::{Peer, TlsFiles},
};
use parallax_validation::{
    base::{
        name::DomainName,
        perspective::{Coordinates, Perspective, PerspectiveId, ResolverSite, Rir, Role},
    },
    check::caa,
    explain::diagnosis,
    lookup::{Dnssec, dnssec::anchor::TrustAnchors},
    plan::{Plan, PlanLimits},
    record::{Record, Rules},
    request::{CheckRequest, RawRequest, RequestRules},
    verdict::policy::{PolicyRow, PolicyTable},
};
use rand::RngExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NEGATIVE: u8 = 1;
const UNUSABLE: u8 = 2;
const BROKEN: u8 = 3;
const INTERRUPTED: u8 = 4;

/// Multi-perspective issuance corroboration.
///
/// Checks domain control (ACME's methods) and CAA from one primary and several remote perspectives,
/// compares them under the quorum rules of the CA/Browser Forum Baseline Requirements in force, and writes
/// an audit record before it tells a verdict.
#[derive(Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "EXIT STATUS\n  0  done; for one request: permitted; for journal verify: everything holds\n  1  the answer is no: forbidden, results differ from the expected ones, the journal does not hold\n  2  the command line, the configuration or a request cannot be used; nothing was sent\n  3  the system failed: the journal, io_uring, a socket; no verdict was released without its record\n  4  stopped by Ctrl-C; what was in flight is recorded, and --resume goes on\n\nEXAMPLES\n  parallax caa www.example.com --issuer ca.example\n  parallax bulk requests.jsonl --config parallax.toml --journal run1 --out results.jsonl\n  parallax bulk requests.jsonl --config parallax.toml --journal run1 --out results.jsonl --resume\n  parallax journal verify run1"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the requests of a file; results as JSON Lines as they come.
    Bulk(Bulk),
    /// Serve the API until told to stop: gRPC and REST over TLS with certificates on both sides.
    #[command(after_help = SERVE_HELP)]
    Serve {
        /// Configuration file; its sections `serve` and `tls` are needed.
        #[arg(long, default_value = "parallax.toml")]
        config: PathBuf,
        /// Journal directory; the configuration's if not given.
        #[arg(long)]
        journal: Option<PathBuf>,
        /// How what happens is written to standard error.
        #[arg(long, value_enum, default_value_t)]
        log: LogForm,
    },
    /// Check one request and say what each perspective saw.
    Check(Check),
    /// Climb the CAA tree of a name with one resolver and say which rule decides. Not an MPIC check.
    Caa(Caa),
    /// Ask every name server of a name from every perspective and say what a check would meet and what to mend.
    ///
    /// No verdict is made and no journal is written.
    #[command(after_help = PREFLIGHT_HELP)]
    Preflight(Preflight),
    /// Read a journal.
    #[command(subcommand)]
    Journal(Journal),
    /// Say what an attempt in a journal means.
    Explain(Explain),
    /// List the methods of the Baseline Requirements: what each may show, and until when.
    Methods(Methods),
    /// The corroboration rule by date, and old evidence under another date's rule.
    #[command(subcommand)]
    Policy(Policy),
    /// Judge all evidence of a journal again with this program's rules, and list verdicts that would differ.
    Replay {
        /// Journal directory.
        directory: PathBuf,
        /// Policy rows in place of the recorded ones.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look at the perspectives of a configuration as a cohort.
    #[command(subcommand)]
    Cohort(CohortCommand),
    /// Read a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Plan capacity: from what is expected and what was measured to cores, memory, ports, resolvers, disk and money.
    Plan(plan::PlanCommand),
    /// A private CA for engine, nodes and callers: enough for a first deployment.
    #[command(subcommand, after_help = PKI_HELP)]
    Pki(Pki),
    /// Tell what an operator must know of a journal: contradictions, refusals, forged replies, failing perspectives.
    #[command(after_help = WATCH_HELP)]
    Watch(Watch),
}

const PKI_HELP: &str = "FILES\n  ca.pem ca.key     the authority; ca.key goes nowhere\n  NAME.pem NAME.key what a program with that name is given, with ca.pem and, if it is to heed revocation, crl.pem\n  crl.pem           the revocation list, good for 30 days; a program that heeds an expired one believes nobody\n\nEXAMPLES\n  parallax pki init pki engine ams1 nyc1 waw1 sin1 gru1 jnb1 ra.ca.example\n  parallax pki renew pki nyc1\n  parallax pki revoke pki nyc1";

#[derive(Subcommand)]
enum Pki {
    /// Make the authority, and a certificate for each name.
    Init {
        /// Directory, which must not hold an authority yet.
        directory: PathBuf,
        /// Names: of the engine, of each perspective's node, of callers.
        #[arg(required = true)]
        names: Vec<String>,
        /// How long each certificate is valid.
        #[arg(long, default_value_t = pki::CERTIFICATE_DAYS)]
        days: u32,
        /// Print what was made as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a certificate for one more name.
    Issue {
        /// Directory.
        directory: PathBuf,
        /// The name.
        name: String,
        /// How long it is valid.
        #[arg(long, default_value_t = pki::CERTIFICATE_DAYS)]
        days: u32,
        /// Print what was made as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a name's certificate anew for the same key.
    Renew {
        /// Directory.
        directory: PathBuf,
        /// The name.
        name: String,
        /// How long it is valid.
        #[arg(long, default_value_t = pki::CERTIFICATE_DAYS)]
        days: u32,
        /// Print what was made as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke all certificates of a name, or the one of a serial number.
    Revoke {
        /// Directory.
        directory: PathBuf,
        /// Name or serial number.
        which: String,
        /// Print what was revoked as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the revocation list anew, for 30 days.
    RenewList {
        /// Directory.
        directory: PathBuf,
        /// Print until when it is good as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List what was issued.
    List {
        /// Directory.
        directory: PathBuf,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

const SERVE_HELP: &str = "SIGNALS\n  SIGHUP            reads certificates, keys and revocation lists again; if they are bad the old ones stay in use\n  SIGTERM, SIGINT   stops: nothing new is taken, and what is under way is answered within serve.drain_ms and recorded\n\nEXIT STATUS\n  0  told to stop, and stopped in order\n  2  the command line or the configuration cannot be used; nothing was sent\n  3  the system failed: the journal, an address, a node of this process";

#[derive(Subcommand)]
enum Policy {
    /// Print the dated rows, and what the one in force demands.
    Show {
        /// The instant they are looked at, such as 2026-12-15T00:00:00Z; now if not given.
        #[arg(long)]
        at: Option<Timestamp>,
        /// Rows in place of the built-in ones; refused if they are laxer.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Judge the evidence of a journal as if every attempt were made at another date.
    Shadow {
        /// Journal directory.
        directory: PathBuf,
        /// The date.
        #[arg(long)]
        at: Timestamp,
        /// Rows in place of the recorded ones; refused if they are laxer.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum CohortCommand {
    /// Print all distances, broken rules, and what each loss would do.
    Check {
        /// Configuration file.
        #[arg(long, default_value = "parallax.toml")]
        config: PathBuf,
        /// The instant whose rule is looked at; now if not given.
        #[arg(long)]
        at: Option<Timestamp>,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what one more remote would change, by region and for sites that are given.
    Plan {
        /// Configuration file.
        #[arg(long, default_value = "parallax.toml")]
        config: PathBuf,
        /// The instant whose rule is looked at; now if not given.
        #[arg(long)]
        at: Option<Timestamp>,
        /// A site: name,RIR,latitude,longitude, with RIR one of AFRINIC, APNIC, ARIN, LACNIC, "RIPE NCC"; may be given
        /// several times.
        #[arg(long = "site", value_name = "SITE", allow_hyphen_values = true)]
        sites: Vec<String>,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Methods {
    /// The instant they are looked at, such as 2027-03-15T00:00:00Z; now if not given.
    #[arg(long)]
    at: Option<Timestamp>,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Bulk {
    /// Requests: JSON Lines, or CSV with a header line (name,method,…); - for standard input.
    ///
    /// Fields: id, identifier (name, *.name, address or mailbox), method (see `parallax methods`, or caa), and by
    /// method: token and key_authorization (http-01, dns-01, dns-account-01, tls-alpn-01); random_value (dns-change
    /// with record_type and prefix_label, website-change with file and scheme); contact (contact-…); account_uri
    /// (dns-account-01, dns-persist-01, and wherever CAA binds an account). Further: authorization_domain, reverse_name
    /// (addresses), mail_host (mailboxes), caa (default true), relied_on_method (with caa), sibling_digests, account
    /// (whose request it is; account_uri if absent).
    file: PathBuf,
    /// Configuration file.
    #[arg(long, default_value = "parallax.toml")]
    config: PathBuf,
    /// Journal directory; the configuration's if not given.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Results file; standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on where the journal ends; nothing that has a record is asked again.
    #[arg(long)]
    resume: bool,
    /// Expected answers to compare with; differences are listed and make exit status 1.
    #[arg(long)]
    expect: Option<PathBuf>,
    /// How the file is written; by its ending if not given.
    #[arg(long)]
    format: Option<FormatArg>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// How what somebody may have to look at is written to standard error.
    #[arg(long, value_enum, default_value_t)]
    log: LogForm,
    /// Ask an engine elsewhere (`parallax serve`) over its API instead of asking perspectives from here; configuration and
    /// journal are then the engine's.
    #[arg(long, value_name = "HOST:PORT", requires_all = ["certificate", "key", "authorities"], conflicts_with_all = ["journal", "config"])]
    engine: Option<String>,
    /// The name that the engine's certificate must have; the host of --engine if not given.
    #[arg(long, value_name = "NAME", requires = "engine")]
    engine_name: Option<String>,
    /// The caller's certificate in PEM, for --engine.
    #[arg(long, value_name = "FILE", requires = "engine")]
    certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "engine")]
    key: Option<PathBuf>,
    /// The authorities that the engine's certificate may be from.
    #[arg(long, value_name = "FILE", requires = "engine")]
    authorities: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    Jsonl,
    Csv,
}

#[derive(Args)]
struct Check {
    /// Name, *.name, address or mailbox.
    identifier: String,
    /// A label of `parallax methods`, or caa.
    #[arg(long)]
    method: String,
    /// The challenge's token, for ACME methods other than dns-persist-01.
    #[arg(long)]
    token: Option<String>,
    /// Token, dot, thumbprint of the account's key.
    #[arg(long)]
    key_authorization: Option<String>,
    /// The account: for dns-account-01 and dns-persist-01, and for CAA records that bind one (RFC 8657).
    #[arg(long)]
    account_uri: Option<String>,
    /// Random Value or Request Token, for dns-change and website-change.
    #[arg(long)]
    random_value: Option<String>,
    /// TXT, CNAME or CAA, for dns-change; TXT if not given.
    #[arg(long)]
    record_type: Option<String>,
    /// The label before the name, for dns-change; it begins with an underscore.
    #[arg(long)]
    prefix_label: Option<String>,
    /// The file below /.well-known/pki-validation/, for website-change.
    #[arg(long)]
    file: Option<String>,
    /// http or https, for website-change; http if not given.
    #[arg(long)]
    scheme: Option<String>,
    /// The mail address or telephone number that was chosen, for contact-….
    #[arg(long)]
    contact: Option<String>,
    /// The name that control is shown for, above the identifier or where its aliases lead.
    #[arg(long)]
    authorization_domain: Option<String>,
    /// The name of an address by reverse lookup, which control is shown for.
    #[arg(long)]
    reverse_name: Option<String>,
    /// The mail host of a mailbox, which control is shown for.
    #[arg(long)]
    mail_host: Option<String>,
    /// Leave CAA out.
    #[arg(long)]
    no_caa: bool,
    /// Configuration file.
    #[arg(long, default_value = "parallax.toml")]
    config: PathBuf,
    /// Journal directory; the configuration's if not given.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Print the record as JSON.
    #[arg(long)]
    json: bool,
    /// How what somebody may have to look at is written to standard error.
    #[arg(long, value_enum, default_value_t)]
    log: LogForm,
}

#[derive(Args)]
struct Caa {
    /// Name, *.name or mailbox.
    name: String,
    /// The CA's name in CAA records; may be given several times.
    #[arg(long = "issuer", required = true)]
    issuers: Vec<String>,
    /// Resolver to ask, with port if not 53; the system's if not given.
    #[arg(long)]
    resolver: Option<String>,
    /// The requesting account (RFC 8657).
    #[arg(long)]
    account_uri: Option<String>,
    /// The method relied on, by its label (RFC 8657).
    #[arg(long)]
    relied_on_method: Option<String>,
    /// Who validates DNSSEC: local (here, from the trust anchors), resolver, or none.
    #[arg(long, value_enum, default_value = "local")]
    dnssec: DnssecSetting,
    /// DS or DNSKEY records of the root, one a line; the built-in ones if not given.
    #[arg(long, value_name = "FILE")]
    trust_anchor: Option<PathBuf>,
    /// How input and output are done: io-uring, or epoll where that is blocked.
    #[arg(long, default_value_t)]
    driver: Driver,
    /// Print observation and decision as JSON.
    #[arg(long)]
    json: bool,
}

const PREFLIGHT_HELP: &str = "RESULTS\n  for each name the outlook, such as 4/5, margin 0, by the rule in force, and findings: what blocks, what may block,\n  and what is worth knowing; as text, or with --file, --out or --json as JSON Lines in the order they end\n\nEXIT STATUS\n  0  done, and nothing blocks\n  1  done, and something blocks\n  2  a name, the command line or the configuration cannot be used; nothing was sent\n  3  the system failed: a node, a socket, the results\n  4  stopped by Ctrl-C; what had ended is written\n\nEXAMPLES\n  parallax preflight www.example.com\n  parallax preflight --file names.txt --out found.jsonl";

#[derive(Args)]
struct Preflight {
    /// Names, or *.names.
    #[arg(value_name = "NAME", required_unless_present = "file", conflicts_with = "file")]
    names: Vec<String>,
    /// A file of names, one a line, with # before remarks; - for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, default_value = "parallax.toml")]
    config: PathBuf,
    /// The instant whose rule the outlook is by, such as 2026-12-15T00:00:00Z; now if not given.
    #[arg(long)]
    at: Option<Timestamp>,
    /// What stands before the name in the challenge name.
    #[arg(long, value_name = "LABEL", default_value = "_acme-challenge")]
    challenge_label: String,
    /// Results file, which must not exist yet; standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print results as JSON Lines, and the summary as JSON.
    #[arg(long)]
    json: bool,
    /// How what happens to links is written to standard error.
    #[arg(long, value_enum, default_value_t)]
    log: LogForm,
}

#[derive(Subcommand)]
enum Journal {
    /// Recompute every verdict from the journal alone.
    Verify {
        /// Journal directory.
        directory: PathBuf,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the attempts, or show those of one request or attempt in full.
    Show {
        /// Journal directory.
        directory: PathBuf,
        /// Request id or attempt id.
        #[arg(long)]
        id: Option<String>,
        /// Print records as JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// List attempts whose evidence touched something; everything given must fit.
    Find(Find),
    /// Make the indexes of all complete segments that lack one, so that find need not read them.
    Index {
        /// Journal directory.
        directory: PathBuf,
        /// Print what was done as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove segments from the front whose records were all decided before a date, and put that on record.
    ///
    /// Refused while an engine writes to the journal, and for a date within the last 1130 days: records are kept for 200
    /// days of reuse, 200 days of validity and 2 years (TLS BR §5.4.3, §5.5.2).
    Prune {
        /// Journal directory.
        directory: PathBuf,
        /// A date that begins in UTC, such as 2023-01-31, or an instant.
        #[arg(long, value_name = "DATE", value_parser = retention::parse_cut)]
        before: Timestamp,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Print what was done as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Validate DNSSEC again from what the records of one request or attempt keep, by the clock of the attempt.
    Prove {
        /// Journal directory.
        directory: PathBuf,
        /// Request id or attempt id.
        id: String,
        /// DS or DNSKEY records of the root, one a line; the built-in ones if not given.
        #[arg(long, value_name = "FILE")]
        trust_anchor: Option<PathBuf>,
        /// Print each record's proof as a JSON line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Find {
    /// Journal directory.
    directory: PathBuf,
    /// An address that was connected to, asked, or found for a host.
    #[arg(long)]
    address: Option<IpAddr>,
    /// A perspective that gave evidence.
    #[arg(long)]
    perspective: Option<PerspectiveId>,
    /// The autonomous system of a perspective that gave evidence.
    #[arg(long)]
    as_number: Option<u32>,
    /// The section of the method, such as 3.2.2.4.19, or caa.
    #[arg(long)]
    method: Option<String>,
    /// The program and its version, as records have it.
    #[arg(long)]
    software: Option<String>,
    /// The identifier's domain, or one above it.
    #[arg(long)]
    domain: Option<String>,
    /// Decided then or later.
    #[arg(long)]
    from: Option<Timestamp>,
    /// Decided before then.
    #[arg(long)]
    until: Option<Timestamp>,
    /// Permissions only.
    #[arg(long)]
    corroborated: bool,
    /// Print each as a JSON line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Explain {
    /// Request id or attempt id.
    id: String,
    /// Journal directory.
    #[arg(long, default_value = "journal")]
    journal: PathBuf,
    /// Print the explanation as JSON.
    #[arg(long)]
    json: bool,
}

const WATCH_HELP: &str = "ALARMS\n  late_contradiction  critical  an answer after the verdict goes against a permission\n  rejected_reply      critical  a perspective's reply was not the reply to what was asked\n  contradiction       high      perspectives of one attempt disagree about what they saw\n  pattern             high      a perspective, region or network confirms less often than the others\n  failed_validation   low       an attempt was refused\n  digest                        what is above --per-minute, counted\n\nEXIT STATUS\n  0  done\n  1  done, and there were critical alarms\n  2  the command line, the journal or the cursor cannot be used\n  3  the receiver did not take the alarms, or the system failed; the cursor stays before them\n  4  stopped by Ctrl-C; the next run goes on at the cursor\n\nEXAMPLES\n  parallax watch run1\n  parallax watch run1 --follow --webhook https://alarms.example/hook --webhook-secret secret --metrics 9464";

#[derive(Args)]
struct Watch {
    /// Journal directory; an engine may be writing to it.
    directory: PathBuf,
    /// Stay at the journal's end until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// File that says how far alarms are delivered. With --follow or --webhook it is DIRECTORY.watch if not given;
    /// otherwise all of the journal is told.
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Alarms of one kind and severity that are told one by one in a minute; the rest is counted in a digest.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_minute: u32,
    /// Post alarms there too: https, or http to a loopback address.
    #[arg(long, value_name = "URL", requires = "webhook_secrets")]
    webhook: Option<String>,
    /// File with the secret that posts are signed with: 24 to 64 octets, or whsec_ and base64. Given twice, posts have
    /// two signatures, for the time in which one secret replaces another.
    #[arg(long = "webhook-secret", value_name = "FILE", requires = "webhook")]
    webhook_secrets: Vec<PathBuf>,
    /// The receiver's roots in PEM; the system's if not given.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_ca: Option<PathBuf>,
    /// Serve figures for Prometheus at /metrics; a port alone is one of the loopback address.
    #[arg(long, value_name = "ADDR:PORT", requires = "follow", value_parser = parse_metrics)]
    metrics: Option<SocketAddr>,
    /// How standard error is written.
    #[arg(long, value_enum, default_value = "text")]
    log: LogArg,
    /// Print alarms as JSON Lines, and last the report.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LogArg {
    /// For people.
    Text,
    /// One object a line: ts, level, event, fields. Alarms are there too.
    Json,
}

fn parse_metrics(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port))),
        Err(_) => text.parse().map_err(|_| "a port, or an address with one, is wanted".to_owned()),
    }
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check a configuration file.
    Check {
        /// The file.
        file: PathBuf,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a commented sample.
    Sample,
}

/// Why a command ended without its answer.
struct Failed {
    status: u8,
    text: String,
}

fn unusable(error: impl ToString) -> Failed {
    Failed { status: UNUSABLE, text: error.to_string() }
}

fn broken(error: impl ToString) -> Failed {
    Failed { status: BROKEN, text: error.to_string() }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Bulk(args) => run_bulk(&args),
        Command::Serve { config, journal, log } => run_serve(&config, journal, log),
        Command::Check(args) => run_check(args),
        Command::Caa(args) => run_caa(args),
        Command::Preflight(args) => run_preflight(args),
        Command::Journal(Journal::Verify { directory, json }) => run_verify(&directory, json),
        Command::Journal(Journal::Show { directory, id, json }) => run_show(&directory, id.as_deref(), json),
        Command::Journal(Journal::Prove { directory, id, trust_anchor, json }) => {
            run_prove(&directory, &id, trust_anchor.as_deref(), json)
        }
        Command::Journal(Journal::Find(args)) => run_find(args),
        Command::Journal(Journal::Index { directory, json }) => run_index(&directory, json),
        Command::Journal(Journal::Prune { directory, before, dry_run, json }) => {
            run_prune(&directory, before, dry_run, json)
        }
        Command::Explain(args) => run_explain(&args),
        Command::Methods(args) => {
            let at = args.at.unwrap_or_else(Timestamp::now);
            print_out(&if args.json { json_line(&methods::as_json(at)) } else { methods::as_text(at) });
            Ok(0)
        }
        Command::Policy(Policy::Show { at, policy, json }) => run_policy_show(at, policy.as_deref(), json),
        Command::Policy(Policy::Shadow { directory, at, policy, json }) => {
            run_replay(&directory, Some(at), policy.as_deref(), json)
        }
        Command::Replay { directory, policy, json } => run_replay(&directory, None, policy.as_deref(), json),
        Command::Cohort(CohortCommand::Check { config, at, json }) => run_cohort_check(&config, at, json),
        Command::Cohort(CohortCommand::Plan { config, at, sites, json }) => run_cohort_plan(&config, at, &sites, json),
        Command::Config(ConfigCommand::Check { file, json }) => run_config_check(&file, json),
        Command::Config(ConfigCommand::Sample) => {
            print_out(SAMPLE);
            Ok(0)
        }
        Command::Plan(command) => run_plan(&command),
        Command::Watch(args) => run_watch(args),
        Command::Pki(command) => run_pki(command),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(Failed { status, text }) => {
            eprintln!("parallax: {text}");
            ExitCode::from(status)
        }
    }
}

/// Prints; a reader that went away, as `head` does, is no error.
fn print_out(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |text| text + "\n")
}

fn load(path: &Path) -> Result<Config, Failed> {
    let config = Config::load(path, Timestamp::now()).map_err(unusable)?;
    for warning in &config.warnings {
        eprintln!("parallax: warning: {warning}");
    }
    raise_descriptor_limit();
    Ok(config)
}

/// Every connection holds a descriptor: as many as the system allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The limit stays as it was; running out of descriptors is reported where it happens.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn stop_flag() -> Result<Arc<AtomicBool>, Failed> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the program at once; the journal survives that too.
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop))
            .map_err(broken)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(broken)?;
    }
    Ok(stop)
}

fn run_plan(command: &plan::PlanCommand) -> Result<u8, Failed> {
    let text = plan::run(command, Timestamp::now())
        .map_err(|error| if error.is_of_system() { broken(error) } else { unusable(error) })?;
    print_out(&text);
    Ok(0)
}

/// The engine elsewhere, if one is asked.
fn remote_of(args: &Bulk) -> Option<RemoteOptions> {
    let (address, certificate, key, authorities) =
        (args.engine.clone()?, args.certificate.clone()?, args.key.clone()?, args.authorities.clone()?);
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let name = args.engine_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
    let peer = Peer { address: address.clone(), name, keys: Vec::new() };
    Some(RemoteOptions { peer, tls: TlsFiles { certificate, key, authorities, revoked: None } })
}

fn run_bulk(args: &Bulk) -> Result<u8, Failed> {
    let remote = remote_of(args);
    let config = if remote.is_none() { Some(load(&args.config)?) } else { None };
    let journal = args.journal.clone().or_else(|| config.as_ref().map(|config| config.journal.directory.clone()));
    let options = BulkOptions {
        file: args.file.clone(),
        format: args.format.map(|f| match f {
            FormatArg::Jsonl => Format::JsonLines,
            FormatArg::Csv => Format::Csv,
        }),
        out: args.out.clone(),
        journal: journal.unwrap_or_default(),
        resume: args.resume,
        expected: args.expect.clone(),
        progress: !args.json,
        log: args.log,
    };
    let stop = stop_flag()?;
    let outcome = match (&config, &remote) {
        (_, Some(remote)) => bulk::remote::run(&options, remote, &stop),
        (Some(config), None) => bulk::run(config, &options, &stop),
        (None, None) => return Err(unusable("neither a configuration nor an engine")),
    };
    let summary = outcome.map_err(|error| match error {
        bulk::BulkError::Engine(_)
        | bulk::BulkError::Journal(_)
        | bulk::BulkError::Audit(_)
        | bulk::BulkError::Remote(_)
        | bulk::BulkError::Results { .. } => broken(error),
        bulk::BulkError::File { .. }
        | bulk::BulkError::Expected { .. }
        | bulk::BulkError::Identity(_)
        | bulk::BulkError::NotEmpty(_)
        | bulk::BulkError::Clock { .. }
        | bulk::BulkError::OtherMode(_)
        | bulk::BulkError::OtherResults(_)
        | bulk::BulkError::OtherFile(_) => unusable(error),
    })?;
    let text = if args.json { json_line(&summary) } else { show::summary(&summary) };
    // Results may be going to standard output.
    if args.out.is_some() {
        print_out(&text)
    } else {
        eprint!("{text}")
    }
    Ok(match (summary.interrupted, summary.difference_count) {
        (true, _) => INTERRUPTED,
        (false, 0) => 0,
        (false, _) => NEGATIVE,
    })
}

fn run_serve(config: &Path, journal: Option<PathBuf>, log: LogForm) -> Result<u8, Failed> {
    let config = load(config)?;
    let directory = journal.unwrap_or_else(|| config.journal.directory.clone());
    // What it carries is messages; attempts have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(broken)?;
    let served = runtime.block_on(serve::run(&config, &directory, log));
    // Somebody's explanation may still be looked for; it does not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    served.map_err(|error| match error {
        ServeError::Setting(_) | ServeError::Identity(_) | ServeError::Clock(_) => unusable(error),
        ServeError::Listen { .. } | ServeError::Journal(_) | ServeError::Engine(_) | ServeError::System(_) => {
            broken(error)
        }
    })?;
    Ok(0)
}

fn run_check(args: Check) -> Result<u8, Failed> {
    let config = load(&args.config)?;
    let raw = RawRequest {
        id: None,
        identifier: args.identifier,
        method: args.method,
        token: args.token,
        key_authorization: args.key_authorization,
        account_uri: args.account_uri,
        random_value: args.random_value,
        record_type: args.record_type,
        prefix_label: args.prefix_label,
        file: args.file,
        scheme: args.scheme,
        contact: args.contact,
        authorization_domain: args.authorization_domain,
        reverse_name: args.reverse_name,
        mail_host: args.mail_host,
        caa: args.no_caa.then_some(false),
        ..RawRequest::default()
    };
    let id = format!("check-{:016x}", rand::rng().random::<u64>());
    let request = CheckRequest::parse(raw, &id, &config.request_rules(), Timestamp::now()).map_err(unusable)?;
    let directory = args.journal.unwrap_or_else(|| config.journal.directory.clone());
    let (journal, _) = upkeep::open(&directory, &config.journal).map_err(broken)?;
    let (mut engine, released) =
        Corroborator::start(&config, None, journal, Arc::new(args.log), Arc::default()).map_err(broken)?;
    engine.submit(request, None).map_err(broken)?;
    engine.no_more();
    let first = released.iter().flatten().next();
    drop(released);
    engine.finish().map_err(broken)?;
    let Some(outcome) = first else { return Err(broken("no verdict came")) };
    print_out(&if args.json { json_line(&outcome.record) } else { show::record(&outcome.record) });
    Ok(if outcome.record.permits() { 0 } else { NEGATIVE })
}

fn run_caa(args: Caa) -> Result<u8, Failed> {
    let raw = RawRequest {
        identifier: args.name,
        method: "caa".to_owned(),
        account_uri: args.account_uri,
        relied_on_method: args.relied_on_method,
        ..RawRequest::default()
    };
    let request = CheckRequest::parse(raw, "caa", &RequestRules::default(), Timestamp::now()).map_err(unusable)?;
    let resolver = match args.resolver {
        Some(text) => parse_resolver(&text)?,
        None => system_resolver()?,
    };
    let anchors = trust_anchors(args.trust_anchor.as_deref())?;
    let plan = Plan { keep_proof: true, diagnose: true, ..Plan::new(&request, PlanLimits::default(), None) };
    let planned = plan.caa_levels.clone();
    let observation = observe((resolver, args.driver), args.dnssec.with(&Arc::new(anchors)), plan)?;
    let check = request.caa.as_ref().ok_or_else(|| unusable("no CAA check"))?;
    // This command has no lookup-failure clause.
    let finding = caa::judge(&request.identifier, check, &observation.caa, false, &caa_policy(args.issuers, true));
    if args.json {
        print_out(&json_line(&serde_json::json!({
            "resolver": resolver, "finding": finding, "dnssec": observation.dnssec,
            "levels": observation.caa, "links": observation.links, "diagnosis": observation.diagnosis,
        })));
    } else {
        print_out(&format!("CAA for {} with {resolver}\n", request.identifier));
        print_out(&show::climb(&request.identifier.to_string(), &planned, &observation.caa, &finding));
        for text in observation.diagnosis.as_ref().map(diagnosis::sentences).unwrap_or_default() {
            print_out(&format!("{text}\n"));
        }
    }
    Ok(if finding.permits() { 0 } else { NEGATIVE })
}

fn run_preflight(args: Preflight) -> Result<u8, Failed> {
    let config = load(&args.config)?;
    let lines = args.json || args.out.is_some() || args.file.is_some();
    let is_one = args.names.len() == 1;
    let to_file = args.out.is_some();
    let options = preflight::PreflightOptions {
        names: args.names,
        file: args.file,
        at: args.at,
        challenge_label: args.challenge_label,
        out: args.out,
        form: if lines { preflight::Form::JsonLines } else { preflight::Form::Text },
        progress: !args.json,
        log: args.log,
    };
    let stop = stop_flag()?;
    let summary = preflight::run(&config, &options, &stop)
        .map_err(|error| if error.is_unusable() { unusable(error) } else { broken(error) })?;
    let text = if args.json { json_line(&summary) } else { preflight::summary_text(&summary) };
    // Results may be going to standard output; one name needs no summary.
    match (to_file, is_one && !summary.interrupted) {
        (true, _) => print_out(&text),
        (false, false) => eprint!("{text}"),
        (false, true) => {}
    }
    Ok(match (summary.interrupted, summary.blocked) {
        (true, _) => INTERRUPTED,
        (false, 0) => 0,
        (false, _) => NEGATIVE,
    })
}

/// Those of a file, or the built-in ones.
fn trust_anchors(file: Option<&Path>) -> Result<TrustAnchors, Failed> {
    let Some(path) = file else { return Ok(TrustAnchors::iana()) };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(format!("{}: {error}", path.display())))?;
    TrustAnchors::parse(&text).map_err(|problem| unusable(format!("{}: {problem}", path.display())))
}

/// Carries out a plan from here.
fn observe(
    (resolver, driver): (SocketAddr, Driver),
    dnssec: Dnssec,
    plan: Plan,
) -> Result<parallax_validation::observation::Observation, Failed> {
    let config = NodeConfig {
        perspective: "here".parse().map_err(broken)?,
        rir: Rir::RipeNcc,
        source_ipv4: None,
        source_ipv6: None,
        resolver,
        driver,
        transport: Transport::Kernel,
        workers: 1,
        cores: Vec::new(),
        source_ports: 16,
        tasks_in_flight_max: 1,
        memory_max: None,
        dnssec,
        laboratory: Laboratory::default(),
    };
    let (reports_in, reports) = crossbeam::channel::unbounded();
    let mut node = Node::start(&config, &reports_in).map_err(broken)?;
    let header = Header { attempt: AttemptId(0), nonce: 0, setup: "none".into() };
    let task = Task { header, perspective: config.perspective.clone(), plan: plan.into() };
    node.submit(vec![task]).map_err(|_| broken("the node takes no task"))?;
    drop(reports_in);
    let report = reports.recv().map_err(broken)?.into_iter().next();
    report.map(|report| *report.observation).ok_or_else(|| broken("no report came"))
}

fn parse_resolver(text: &str) -> Result<SocketAddr, Failed> {
    let address = text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse())
        .map_err(|_| unusable(format!("--resolver: '{text}' is no address, with or without port")))
}

fn system_resolver() -> Result<SocketAddr, Failed> {
    const PATH: &str = "/etc/resolv.conf";
    let text = std::fs::read_to_string(PATH).map_err(|error| unusable(format!("{PATH}: {error}; give --resolver")))?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .find_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .ok_or_else(|| unusable(format!("{PATH} names no resolver; give --resolver")))
}

fn run_verify(directory: &Path, json: bool) -> Result<u8, Failed> {
    let begun = Instant::now();
    let found =
        audit::verify(directory, threads()).map_err(|error| Failed { status: NEGATIVE, text: error.to_string() })?;
    if json {
        print_out(&json_line(&serde_json::json!({
            "records": found.records, "corroborated": found.corroborated, "late": found.late,
            "restarted": found.restarted, "trials": found.trials, "rejected_reports": found.rejected_reports,
            "mismatches": found.mismatches, "repeated": found.repeated, "torn_tail_bytes": found.torn_tail.map(|cut| cut.bytes),
            "setups": found.setups, "removed": found.removed,
        })));
    } else {
        let mut text = format!(
            "{} records recomputed ({:.0}/s), {} of them corroborated, {} late answers; {} differ\n",
            found.records,
            found.records as f64 / begun.elapsed().as_secs_f64().max(1e-6),
            found.corroborated,
            found.late,
            found.mismatches.len()
        );
        if found.restarted > 0 {
            text += &format!("  {} of them were not released: the process started afresh\n", found.restarted);
        }
        if found.trials > 0 {
            text += &format!("  {} answers of perspectives on trial\n", found.trials);
        }
        if found.rejected_reports > 0 {
            text += &format!("  {} reports answered nothing that was asked\n", found.rejected_reports);
        }
        for mismatch in &found.mismatches {
            text += &format!("  {mismatch}\n");
        }
        if !found.repeated.is_empty() {
            text += &format!(
                "  {} request ids have more than one record, such as {}\n",
                found.repeated.len(),
                found.repeated[0]
            );
        }
        if let Some(removed) = &found.removed {
            text += &format!("  {removed}\n");
        }
        if let Some(cut) = found.torn_tail {
            text += &format!(
                "  the last {} octets were not written to their end; nothing of them was released\n",
                cut.bytes
            );
        }
        print_out(&text);
    }
    Ok(if found.holds() { 0 } else { NEGATIVE })
}

/// A domain as records have it: lower case, A-labels, no final dot, no `*.`.
fn parse_domain(text: &str) -> Result<String, Failed> {
    let bare = text.trim_end_matches('.').trim_start_matches("*.");
    if !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        // All below a top-level domain, which is no name to certify.
        return Ok(bare.to_ascii_lowercase());
    }
    let name: Result<DomainName, _> = bare.parse();
    name.map(|name| name.to_string()).map_err(|problem| unusable(format!("--domain: {problem}")))
}

fn run_find(args: Find) -> Result<u8, Failed> {
    let wanted = find::Wanted {
        address: args.address,
        perspective: args.perspective,
        as_number: args.as_number,
        method: args.method,
        software: args.software,
        domain: args.domain.as_deref().map(parse_domain).transpose()?,
        from: args.from,
        until: args.until,
        corroborated: args.corroborated,
    };
    let search = find::find(&args.directory, &wanted, threads()).map_err(unusable)?;
    say_removed(&args.directory, search.removed.as_ref());
    for note in &search.notes {
        eprintln!("parallax: {}: {note}", args.directory.display());
    }
    for attempt in &search.found {
        print_out(&if args.json {
            json_line(attempt)
        } else {
            let verdict = if attempt.corroborated { "corroborated" } else { "refused" };
            let by = attempt.perspectives.join(", ");
            let (entry, id) = (attempt.entry, &attempt.request);
            format!("{entry} {} {id} {} {} {verdict} [{by}]\n", attempt.decided, attempt.identifier, attempt.method)
        });
    }
    if !args.json {
        print_out(&format!("{} of {} attempts fit\n", search.found.len(), search.searched));
    }
    Ok(0)
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Says what of a journal was removed: who lists the rest should know.
fn say_removed(directory: &Path, removed: Option<&Removed>) {
    if let Some(removed) = removed {
        eprintln!("parallax: {}: {removed}", directory.display());
    }
}

fn run_index(directory: &Path, json: bool) -> Result<u8, Failed> {
    let begun = Instant::now();
    let built = index::build_missing(directory, threads(), &AtomicBool::new(false)).map_err(unusable)?;
    let Some(built) = built else {
        return Err(unusable(format!("{}: another process makes indexes now", directory.display())));
    };
    if json {
        print_out(&json_line(&serde_json::json!({
            "segments": built.segments, "built": built.built, "records": built.records, "bytes": built.bytes,
        })));
    } else {
        let records = built.records.max(1) as f64;
        print_out(&format!(
            "{} of {} complete segments got an index: {} records ({:.0}/s), {:.0} octets a record\n",
            built.built,
            built.segments,
            built.records,
            built.records as f64 / begun.elapsed().as_secs_f64().max(1e-6),
            built.bytes as f64 / records
        ));
    }
    Ok(0)
}

fn run_prune(directory: &Path, before: Timestamp, dry_run: bool, json: bool) -> Result<u8, Failed> {
    let now = Timestamp::now();
    let plan = retention::plan(directory, before, now, &AtomicBool::new(false)).map_err(unusable)?;
    let planned = plan.as_ref().map(|plan| {
        serde_json::json!({
            "from": plan.from, "to": plan.before - 1, "records": plan.records,
            "oldest": plan.oldest, "newest": plan.newest,
        })
    });
    let removed = match plan {
        Some(_) if !dry_run => {
            let (mut writer, _) = Writer::open(directory, JournalOptions::default()).map_err(unusable)?;
            // Planned again under the writer's lock.
            retention::prune(&mut writer, before, now, format!("the command, before {before}")).map_err(broken)?
        }
        _ => None,
    };
    print_out(&match (&plan, &removed) {
        _ if json => json_line(&serde_json::json!({ "would_remove": planned, "removed": removed })),
        (_, Some(removed)) => format!("{removed}\n"),
        (Some(plan), None) if dry_run => {
            let (from, to) = (plan.from, plan.before - 1);
            format!("segments {from} to {to} with {} records would be removed\n", plan.records)
        }
        _ => format!("no segment of {} has only records decided before {before}\n", directory.display()),
    });
    Ok(0)
}

fn records(directory: &Path, id: Option<&str>, mut each: impl FnMut(&Record)) -> Result<u64, Failed> {
    let mut items = Items::open(directory).map_err(unusable)?;
    say_removed(directory, items.removed());
    let mut found = 0;
    while let Some((_, item)) = items.next_item().map_err(broken)? {
        let Item::Record(record) = item else { continue };
        if id.is_none_or(|id| record.request.id.as_str() == id || record.attempt.to_string() == id) {
            found += 1;
            each(&record);
        }
    }
    Ok(found)
}

fn run_show(directory: &Path, id: Option<&str>, json: bool) -> Result<u8, Failed> {
    let found = records(directory, id, |record| {
        if json {
            print_out(&json_line(record));
        } else if id.is_some() {
            print_out(&show_with_captures(directory, record));
        } else {
            let line = ResultLine::of_record(record);
            let quorum = line.quorum.unwrap_or_else(|| "-".to_owned());
            print_out(&format!(
                "{}  {:<4}  {:>4}  {:<8}  {}  {}\n",
                record.started,
                line.verdict,
                quorum,
                record.request.method_label(),
                record.request.id,
                record.request.identifier
            ));
        }
    })?;
    not_found(found, id, directory)
}

fn run_prove(directory: &Path, id: &str, trust_anchor: Option<&Path>, json: bool) -> Result<u8, Failed> {
    let anchors = trust_anchors(trust_anchor)?;
    let mut holds = true;
    let found = records(directory, Some(id), |record| {
        let proven = prove::record(record, &anchors);
        holds &= proven.holds;
        print_out(&if json { json_line(&proven) } else { prove::text(&proven) });
    })?;
    not_found(found, Some(id), directory).map(|_| if holds { 0 } else { NEGATIVE })
}

fn not_found(found: u64, id: Option<&str>, directory: &Path) -> Result<u8, Failed> {
    match id {
        Some(id) if found == 0 => {
            Err(Failed { status: NEGATIVE, text: format!("{}: no record of '{id}'", directory.display()) })
        }
        _ => Ok(0),
    }
}

fn run_explain(args: &Explain) -> Result<u8, Failed> {
    let found = records(&args.journal, Some(&args.id), |record| {
        print_out(&if args.json { json_line(&record.explanation) } else { show_with_captures(&args.journal, record) });
    })?;
    not_found(found, Some(&args.id), &args.journal)
}

/// A record, and where its packets are, if any were kept.
fn show_with_captures(journal: &Path, record: &Record) -> String {
    let captures = captures::of(journal, record.attempt);
    let lines: String = captures.iter().map(|path| format!("packets  {}\n", path.display())).collect();
    show::record(record) + if lines.is_empty() { "" } else { "\n" } + &lines
}

/// The text of a policy file, if one is named.
fn policy_text(file: Option<&Path>) -> Result<Option<String>, Failed> {
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|error| unusable(format!("{}: {error}", path.display())));
    file.map(read).transpose()
}

fn run_policy_show(at: Option<Timestamp>, file: Option<&Path>, json: bool) -> Result<u8, Failed> {
    let text = policy_text(file)?;
    let table = PolicyTable::parse_stricter(text.as_deref().unwrap_or(POLICY)).map_err(unusable)?;
    let at = at.unwrap_or_else(Timestamp::now);
    print_out(&if json { json_line(&policy::as_json(&table, at)) } else { policy::as_text(&table, at) });
    Ok(0)
}

fn run_replay(directory: &Path, at: Option<Timestamp>, file: Option<&Path>, json: bool) -> Result<u8, Failed> {
    let text = policy_text(file)?;
    let under = policy::Replay { at, policy: text.as_deref() };
    let found = policy::replay(directory, under).map_err(unusable)?;
    print_out(&if json { json_line(&found) } else { policy::replayed_text(&found) });
    Ok(if found.differences.is_empty() { 0 } else { NEGATIVE })
}

/// The rules of a configuration and the row of an instant.
fn rules_at(config: &Path, at: Option<Timestamp>) -> Result<(Rules, PolicyRow), Failed> {
    let at = at.unwrap_or_else(Timestamp::now);
    let rules = Config::load_rules(config, at).map_err(unusable)?;
    let row = rules.table().row_at(at).cloned().ok_or_else(|| unusable(format!("no row is in force at {at}")))?;
    Ok((rules, row))
}

fn run_cohort_check(config: &Path, at: Option<Timestamp>, json: bool) -> Result<u8, Failed> {
    let (rules, row) = rules_at(config, at)?;
    let report = cohort::report(&rules, &row, at.unwrap_or_else(Timestamp::now));
    print_out(&if json { json_line(&report) } else { cohort::as_text(&report) });
    Ok(if report.violations.is_empty() { 0 } else { NEGATIVE })
}

fn run_cohort_plan(config: &Path, at: Option<Timestamp>, sites: &[String], json: bool) -> Result<u8, Failed> {
    let (rules, row) = rules_at(config, at)?;
    let sites: Vec<Perspective> = sites.iter().map(|text| parse_site(text)).collect::<Result<_, _>>()?;
    let plan = cohort::plan(rules.primary(), rules.remotes(), &row, &sites);
    print_out(&if json { json_line(&plan) } else { cohort::plan_text(&plan) });
    Ok(0)
}

/// A remote with its resolver beside it.
fn parse_site(text: &str) -> Result<Perspective, Failed> {
    let wrong = |what: String| unusable(format!("--site {text}: {what}; name,RIR,latitude,longitude is wanted"));
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [name, rir, latitude, longitude] = parts.as_slice() else { return Err(wrong("not four parts".to_owned())) };
    let id = name
        .parse()
        .map_err(|error: parallax_validation::base::perspective::PerspectiveIdError| wrong(error.to_string()))?;
    let rir: Rir = serde_json::from_value(serde_json::Value::from(*rir)).map_err(|error| wrong(error.to_string()))?;
    let degrees = |text: &str| text.parse::<f64>().map_err(|error| wrong(format!("{text}: {error}")));
    let coordinates =
        Coordinates::new(degrees(latitude)?, degrees(longitude)?).map_err(|error| wrong(error.to_string()))?;
    Ok(Perspective {
        id,
        role: Role::Remote,
        rir,
        coordinates,
        as_number: 0,
        provider: (*name).to_owned(),
        resolver: ResolverSite { name: (*name).to_owned(), rir, coordinates },
    })
}

fn suffix_list(config: &Config) -> String {
    let newer = config.suffixes.newer().map(|list| format!(", and {list}"));
    format!("built in{}", newer.unwrap_or_default())
}

fn run_config_check(file: &Path, json: bool) -> Result<u8, Failed> {
    let config = Config::load(file, Timestamp::now()).map_err(unusable)?;
    let remotes = config.rules.remotes().len();
    if json {
        print_out(&json_line(&serde_json::json!({
            "primary": config.rules.primary().id, "remotes": remotes, "setup": config.rules.digest(), "warnings": config.warnings,
            "drawn": config.rules.setup().conduct.draw, "on_trial": config.rules.setup().conduct.trials.len(),
            "public_suffix_list": suffix_list(&config),
        })));
    } else {
        let mut text = format!(
            "{}: primary {} with {remotes} remotes, setup {}\n",
            file.display(),
            config.rules.primary().id,
            config.rules.digest()
        );
        text += &format!("  public suffix list: {}\n", suffix_list(&config));
        for warning in &config.warnings {
            text += &format!("  warning: {warning}\n");
        }
        print_out(&text);
    }
    Ok(0)
}

fn run_pki(command: Pki) -> Result<u8, Failed> {
    let issued = |issued: &pki::Issued| {
        let (name, until, pin) = (&issued.name, issued.not_after, &issued.pin);
        format!("{name}: {} until {until}, key {pin}\n", issued.certificate.display())
    };
    let listed = |listed: &pki::Listed| {
        let revoked = listed.revoked.map(|at| format!(", revoked at {at}")).unwrap_or_default();
        format!("{} {} until {}{revoked}\n", listed.serial, listed.name, listed.not_after)
    };
    let text = match command {
        Pki::Init { directory, names, days, json } => {
            let made = pki::init(&directory, &names, days).map_err(unusable)?;
            if json {
                json_line(&made)
            } else {
                let of_names: String = made.certificates.iter().map(issued).collect();
                format!("{}: the authority, until {}\n{of_names}", made.authority.display(), made.not_after)
            }
        }
        Pki::Issue { directory, name, days, json } => {
            let made = pki::issue(&directory, &name, days, false).map_err(unusable)?;
            if json { json_line(&made) } else { issued(&made) }
        }
        Pki::Renew { directory, name, days, json } => {
            let made = pki::issue(&directory, &name, days, true).map_err(unusable)?;
            if json { json_line(&made) } else { issued(&made) }
        }
        Pki::Revoke { directory, which, json } => {
            let revoked = pki::revoke(&directory, &which).map_err(unusable)?;
            if json { json_line(&revoked) } else { revoked.iter().map(listed).collect() }
        }
        Pki::RenewList { directory, json } => {
            let until = pki::renew_list(&directory).map_err(unusable)?;
            let file = directory.join("crl.pem");
            if json {
                json_line(&serde_json::json!({ "until": until }))
            } else {
                format!("{}: good until {until}\n", file.display())
            }
        }
        Pki::List { directory, json } => {
            let all = pki::list(&directory).map_err(unusable)?;
            if json { json_line(&all) } else { all.iter().map(listed).collect() }
        }
    };
    print_out(&text);
    Ok(0)
}

fn run_watch(args: Watch) -> Result<u8, Failed> {
    let options = watch::WatchOptions {
        journal: args.directory,
        follow: args.follow,
        cursor: args.cursor,
        per_minute: args.per_minute,
        webhook: args.webhook.map(|url| watch::WebhookOptions {
            url,
            secrets: args.webhook_secrets,
            roots: args.webhook_ca,
        }),
        metrics: args.metrics,
        json: args.json,
        log_json: args.log == LogArg::Json,
    };
    let stop = stop_flag()?;
    let watched = watch::watch(&options, &stop, &mut std::io::stdout().lock())
        .map_err(|error| if error.is_unusable() { unusable(error) } else { broken(error) })?;
    print_out(&if args.json {
        json_line(&serde_json::json!({ "report": watched.report }))
    } else {
        watch::watcher::as_text(&watched.report)
    });
    Ok(match (watched.interrupted, watched.report.critical) {
        (true, _) => INTERRUPTED,
        (false, critical) if critical > 0 && !args.follow => NEGATIVE,
        (false, _) => 0,
    })
}
