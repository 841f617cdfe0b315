//! One node in this process, given tasks without a link: what its own work costs.
//!
//! The servers are programs of their own, so that all CPU time and memory of this process are the node's and those of
//! whoever gives it tasks and judges its reports; the workers' share is told besides. What is left out is what
//! `parallax-node serve` adds: TLS, gRPC and JSON towards an engine, which `load` measures.

mod bench;
mod closed;
mod silent;
pub mod work;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use ipnet::{IpNet, Ipv4Net};
use parallax_node::{Driver, FrameMethod, RawTransport, Transport};

use self::{
    closed::{ByAddress, Run},
    silent::Silent,
    work::{Values, Work},
};

/// Frames of a raw transport, 32 MiB.
const FRAMES: u32 = 16_384;

/// What to give a node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// One dns-01 lookup per task: one TXT question to the resolver, without CAA, unvalidated.
    Resolver(Run),
    /// One CAA check of three labels per task: three questions, all answered that there is no set, unvalidated.
    Caa(Run),
    /// One http-01 fetch per task, from port 80 (--http-port in its place).
    ///
    /// The name's A and AAAA are asked of the resolver first, which is part of the cost; --by-address leaves it out.
    Http(ByAddress),
    /// One tls-alpn-01 handshake per task, with port 443 (--tls-port in its place).
    ///
    /// The name's A and AAAA are asked of the resolver first, which is part of the cost; --by-address leaves it out.
    Tls(ByAddress),
    /// A mix: of 10 tasks 5 are http-01, 4 dns-01 and 1 tls-alpn-01, and each checks CAA of three labels too.
    ///
    /// One task is thus 5.4 questions and 0.6 connections on average.
    Mixed(Run),
    /// Many tasks that wait for servers which never answer, and a few good ones beside them.
    ///
    /// First the good ones run alone, on a schedule; then the silent ones are started, and the good ones run again beside
    /// them. A good one's latency counts from when it was due, not from when it could be sent.
    Silent(Silent),
    /// Prints what the servers must answer so that the checks succeed, as JSON.
    Values,
}

/// What every run needs.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The resolver. It must answer what `node values` tells.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5300")]
    resolver: SocketAddr,
    /// Where web and TLS servers are asked by address; it is in 127.0.0.0/8.
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST)]
    web_address: Ipv4Addr,
    /// The web server's port, in place of 80. It is at whatever address the resolver gives, or at --web-address.
    #[arg(long, value_name = "PORT", default_value_t = 5380)]
    http_port: u16,
    /// The TLS server's port, in place of 443.
    #[arg(long, value_name = "PORT", default_value_t = 5443)]
    tls_port: u16,
    /// Source ports that queries are spread over.
    #[arg(long, value_name = "PORTS", default_value_t = 64)]
    source_ports: u16,
    /// What the node's rings are built on: io-uring or epoll.
    #[arg(long, default_value_t = Driver::IoUring)]
    driver: Driver,
    /// Where the node's traffic comes from; the kernel's choice, if not given.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<Ipv4Addr>,
    /// The interface on which the source is the node's own, past the kernel's sockets. All servers must be on its wire.
    #[arg(long, value_name = "INTERFACE", requires = "source")]
    interface: Option<String>,
    /// How frames are moved there: xdp or packet.
    #[arg(long, value_name = "METHOD", default_value_t = FrameMethod::Xdp)]
    method: FrameMethod,
    /// Octets of memory in which the last frames are kept; 0: none are.
    #[arg(long, value_name = "OCTETS", default_value_t = 0, requires = "interface")]
    kept_octets: usize,
    /// The directory that packets of failed checks are written to.
    #[arg(long, value_name = "DIRECTORY", requires = "kept_octets")]
    captures: Option<PathBuf>,
    /// Mebibytes that tasks are reckoned to hold at most.
    #[arg(long, value_name = "MIB")]
    memory_max_mib: Option<u64>,
    /// The CPU that the whole process is bound to; all, if not given.
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
    /// Seconds after which the run is given up, as a failure.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    limit: u64,
}

impl Common {
    fn transport(&self) -> Transport {
        let Some(interface) = self.interface.clone() else { return Transport::Kernel };
        Transport::Raw(RawTransport {
            interface,
            method: self.method,
            networks: loopback(),
            frames: FRAMES,
            kept_octets: self.kept_octets,
            captures: self.captures.clone(),
            ..RawTransport::default()
        })
    }

    /// What carries the traffic, in a word.
    fn carrier(&self) -> String {
        match &self.interface {
            Some(_) => format!("raw-{}", self.method),
            None => self.driver.to_string(),
        }
    }
}

/// Where servers may be.
fn loopback() -> Vec<IpNet> {
    vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))]
}

/// Carries a command out. The status is a failure if any item did not end as it must.
///
/// # Errors
/// The run could not be made, or not be finished in time.
pub fn run(command: NodeCommand) -> Result<ExitCode, String> {
    match command {
        NodeCommand::Resolver(run) => closed::run(Work::Resolver, &run, false),
        NodeCommand::Caa(run) => closed::run(Work::Caa, &run, false),
        NodeCommand::Http(ByAddress { run, by_address }) => closed::run(Work::Http, &run, by_address),
        NodeCommand::Tls(ByAddress { run, by_address }) => closed::run(Work::Tls, &run, by_address),
        NodeCommand::Mixed(run) => closed::run(Work::Mixed, &run, false),
        NodeCommand::Silent(silent) => silent::run(&silent),
        NodeCommand::Values => {
            println!("{}", serde_json::to_string(&Values::new()).map_err(|error| error.to_string())?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
