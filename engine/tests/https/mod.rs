//! HTTPS by hand, with a client's certificate.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use parallax_protocol::transport::Identity;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

/// One request over HTTP/1.1 in TLS; status and body.
pub(crate) fn rest(server: SocketAddr, identity: &Identity, method: &str, path: &str, body: &str) -> (u16, String) {
    try_rest(server, "engine", identity, method, path, body).expect("a response")
}

/// None if the other side says nothing.
pub(crate) fn try_rest(
    server: SocketAddr,
    name: &str,
    identity: &Identity,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, String)> {
    let mut config = (*identity.client_config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server_name = ServerName::try_from(name.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::new(config), server_name).unwrap();
    let mut stream = StreamOwned::new(tls, TcpStream::connect(server).unwrap());
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    // A server that refuses a body may stop reading it.
    let _ = stream.write_all(body.as_bytes());
    let mut text = Vec::new();
    // The other side may end without a farewell.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole += &rest[..length];
        body = &rest[(length + 2).min(rest.len())..];
        if length == 0 {
            break;
        }
    }
    whole
}
