//! The responders: one thread each, no state per peer that is not needed, answers by patching.
//!
//! Invariant: a responder ends when standard input closes or its limit passes; signals end it by their default action.

mod dns;
mod http;
pub(crate) mod tls;

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{BareError, During as _};
use crate::run::Bounds;

/// As long as a dns-01 answer, which is 32 octets in base64url.
pub(crate) const DEFAULT_TEXT: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
/// A key authorization: token, dot, thumbprint.
pub(crate) const DEFAULT_BODY: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

/// The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Fast responders.
#[derive(Debug, Subcommand)]
pub(crate) enum Respond {
    /// Answers every DNS query over UDP.
    Dns(dns::Dns),
    /// Answers every HTTP request with one body, then closes.
    Http(http::Http),
    /// Completes TLS 1.3 handshakes with a certificate for tls-alpn-01.
    Tls(tls::Tls),
}

impl Respond {
    pub(crate) fn run(&self) -> Result<Infallible, BareError> {
        match self {
            Respond::Dns(dns) => dns.run(),
            Respond::Http(http) => http.run(),
            Respond::Tls(tls) => tls.run(),
        }
    }
}

/// Where a responder listens.
#[derive(Debug, Args)]
struct Place {
    /// Address and port; port 0 takes a free one.
    #[arg(long)]
    listen: SocketAddr,
    #[command(flatten)]
    bounds: Bounds,
}

impl Place {
    /// Applies the bounds to this thread, and ends the process when it is time.
    fn prepare(&self) -> Result<(), BareError> {
        let deadline = Instant::now() + Duration::from_secs(self.bounds.limit);
        thread::Builder::new().spawn(move || exit_when_over(deadline)).during("thread")?;
        self.bounds.apply()
    }

    fn tcp_listener(&self) -> Result<TcpListener, BareError> {
        let socket = Socket::new(Domain::for_address(self.listen), Type::STREAM.nonblocking(), Some(Protocol::TCP))
            .during("socket")?;
        socket.set_reuse_port(true).during("socket")?;
        socket.set_reuse_address(true).during("socket")?;
        socket.bind(&self.listen.into()).during("--listen")?;
        socket.listen(BACKLOG).during("listen")?;
        Ok(socket.into())
    }
}

/// The next connection, if there is one. Without descriptors left, connections wait in the backlog, and this waits a
/// little so that the listener, which stays readable, does not turn the loop into a spin.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(stream) => return Some(stream.into()),
        Err(Errno::AGAIN) => {}
        Err(_) => thread::sleep(AFTER_ERROR),
    }
    None
}

/// Tells whoever started this that queries may come.
fn announce(address: io::Result<SocketAddr>) -> Result<(), BareError> {
    let address = address.during("address")?;
    let mut output = io::stdout().lock();
    writeln!(output, "ready {address}").and_then(|()| output.flush()).during("standard output")
}

fn exit_when_over(deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            exit(0);
        }
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let input = io::stdin();
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => exit(0),
        }
        if !matches!(rustix::io::read(&input, &mut [0; 256]), Ok(1..)) {
            exit(0);
        }
    }
}
