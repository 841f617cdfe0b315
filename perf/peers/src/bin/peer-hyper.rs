//! `peer-hyper`: HTTP fetches by tokio and hyper, each over a connection of its own.

use std::{net::SocketAddr, process::ExitCode, rc::Rc};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use parallax_peers::{Load, run};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// HTTP fetches by hyper on one tokio thread, a new connection each, closed with a reset.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    load: Load,
    /// The body that every response must have.
    #[arg(long)]
    body: String,
    /// The path that is asked for.
    #[arg(long, default_value = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA")]
    path: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (peer, body, path) = (arguments.load.peer, Rc::<str>::from(arguments.body), Rc::<str>::from(arguments.path));
    run("tokio and hyper 1", &arguments.load, move |_| {
        let (body, path) = (Rc::clone(&body), Rc::clone(&path));
        async move { fetch(peer, &path, &body).await }
    })
}

async fn fetch(peer: SocketAddr, path: &str, body: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(peer).await.map_err(|error| failed(&error))?;
    // As a node does: a connection closed with FIN would hold its port for a minute.
    stream.set_zero_linger().map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let connection = tokio::task::spawn_local(connection);
    let request = Request::get(path)
        .header(header::HOST, "www.customer.example")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let got = response.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
    connection.abort();
    if status == 200 && got == body.as_bytes() { Ok(()) } else { Err(format!("{status}, {} octets", got.len())) }
}
