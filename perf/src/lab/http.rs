//! The web servers' sockets: one request per connection, one thread, tokio-uring.

use std::{
    net::{Shutdown, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_uring::net::{TcpListener, TcpStream};

use super::{
    serve::{Counters, add},
    web::{HEAD_BYTES_MAX, Response, Server, respond},
    world::{Perspective, World},
};

pub(super) const HEAD_WAIT: Duration = Duration::from_secs(5);
/// How long a connection that is never answered stays open: longer than any client should wait.
pub(super) const NEVER: Duration = Duration::from_secs(30);
pub(super) const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Starts the tasks of all web servers on the current runtime.
pub(super) fn spawn(world: &Rc<World>, counters: &Arc<Counters>, sockets: Vec<(Server, std::net::TcpListener)>) {
    for (server, listener) in sockets {
        let site = Rc::new(WebServer { server, world: Rc::clone(world), counters: Arc::clone(counters) });
        tokio_uring::spawn(site.accept(TcpListener::from_std(listener)));
    }
}

struct WebServer {
    server: Server,
    world: Rc<World>,
    counters: Arc<Counters>,
}

impl WebServer {
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    add(&self.counters.http_connections);
                    tokio_uring::spawn(Rc::clone(&self).serve_connection(stream, peer));
                }
                Err(_) => sleep(AFTER_ERROR).await,
            }
        }
    }

    async fn serve_connection(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Ok(head) = timeout(HEAD_WAIT, read_head(&stream)).await else {
            // Ends the read still under way, which holds the descriptor.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        };
        let Some(head) = head else { return };
        let perspective = Perspective::from_source(peer.ip());
        match perspective {
            Some(perspective) => add(&self.counters.http_requests[perspective.index()]),
            None => add(&self.counters.http_requests_of_others),
        }
        match respond(&self.world, self.server, perspective, &head) {
            Response::Whole(bytes) => {
                let _ = stream.write_all(bytes).await;
            }
            Response::Parts(parts, pause) => {
                for part in parts {
                    if stream.write_all(part).await.0.is_err() {
                        return;
                    }
                    sleep(pause).await;
                }
            }
            Response::Never => {
                add(&self.counters.http_unanswered);
                if timeout(NEVER, stream.read(Vec::with_capacity(64))).await.is_err() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            // The listener was bound with a linger time of zero, so closing resets.
            Response::Reset => add(&self.counters.http_resets),
        }
    }
}

/// Reads to the empty line; nothing if the client ends early or its head is too long.
async fn read_head(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = Vec::with_capacity(2048);
    loop {
        chunk.clear();
        let (read, buffer) = stream.read(chunk).await;
        chunk = buffer;
        let length = read.ok().filter(|&length| length > 0)?;
        let searched = head.len().saturating_sub(3);
        head.extend(&chunk[..length]);
        if head.len() > HEAD_BYTES_MAX {
            return None;
        }
        if let Some(end) = head[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
            head.truncate(searched + end + 4);
            return Some(head);
        }
    }
}
