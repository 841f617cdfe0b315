//! Queries over connected UDP sockets, a fixed number outstanding.
//!
//! Three ways to move the datagrams; what is sent, checked and counted is the same, in [`window`].

mod epoll;
mod mmsg;
mod uring;
mod window;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use self::window::Window;
use crate::error::{BareError, During as _};
use crate::report::Report;
use crate::respond::DEFAULT_TEXT;
use crate::run::{Load, Run};

/// How long a client sleeps at most before it looks for lost queries and at the limit.
const TICK: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER: usize = 4 << 20;

/// How datagrams are moved.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// io_uring: multishot receives, provided buffers, registered files, sends that say nothing when they succeed.
    Uring,
    /// sendmmsg and recvmmsg in batches, epoll when idle.
    Mmsg,
    /// One call per datagram, epoll when idle.
    Epoll,
}

/// Options of the UDP clients.
#[derive(Debug, Args)]
pub(crate) struct Udp {
    way: Way,
    /// The responder.
    #[arg(long)]
    peer: SocketAddr,
    /// Connected sockets, each with a port of its own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    sockets: u32,
    /// The text that a right answer has.
    #[arg(long, default_value = DEFAULT_TEXT)]
    text: String,
    #[command(flatten)]
    load: Load,
}

impl Udp {
    pub(crate) fn run(&self) -> Result<Report, BareError> {
        let run = Run::start(&self.load)?;
        let window = Window::new(self.sockets, self.load.in_flight, &self.text)?;
        let sockets = (0..self.sockets).map(|_| open(self.peer)).collect::<Result<Vec<_>, _>>()?;
        match self.way {
            Way::Uring => uring::drive(run, window, &sockets),
            Way::Mmsg => mmsg::drive(run, window, &sockets),
            Way::Epoll => epoll::drive(run, window, &sockets),
        }
    }
}

fn open(peer: SocketAddr) -> Result<UdpSocket, BareError> {
    let local: SocketAddr = if peer.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).during("socket")?;
    set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER).during("receive buffer")?;
    socket.set_nonblocking(true).during("socket")?;
    socket.connect(peer).during("connect")?;
    Ok(socket)
}
