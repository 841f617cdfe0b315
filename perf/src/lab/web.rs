//! What a web server answers: a pure function of scenario, server, perspective and request.

use std::time::Duration;

use super::{
    kinds::{Kind, Method},
    world::{Perspective, REVERSE_NAME, Scenario, World, bytes, index_of_name, index_of_token},
};

/// The longest request head that is read.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
const WEBSITE_PATH: &str = "/.well-known/pki-validation/";

/// Which web server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// 127.3.0.1, 127.3.0.2 and ::1: the site's own.
    Site,
    /// The same over TLS.
    SecureSite,
    /// 127.3.6.6.
    Attacker,
    /// 127.3.0.66: resets whatever is asked.
    Resetting,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// These bytes.
    Whole(Vec<u8>),
    /// These bytes, with a pause after each part.
    Parts(Vec<Vec<u8>>, Duration),
    /// Nothing, and the connection stays open.
    Never,
    /// Nothing, and the connection is reset.
    Reset,
}

/// What a request head says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The path.
    pub path: &'a str,
    /// The host, without port.
    pub host: &'a str,
}

impl<'a> Request<'a> {
    /// Parses a whole head.
    #[must_use]
    pub fn parse(head: &'a str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path, version) = (words.next()?, words.next()?, words.next()?);
        if method != "GET" || !version.starts_with("HTTP/1.") || !path.starts_with('/') {
            return None;
        }
        let host = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("host"))
            .map(|(_, value)| value.trim())?;
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        Some(Self { path, host })
    }
}

/// Answers a request of this world.
#[must_use]
pub fn respond(world: &World, server: Server, perspective: Option<Perspective>, head: &[u8]) -> Response {
    if server == Server::Resetting {
        return Response::Reset;
    }
    let Some(request) = std::str::from_utf8(head).ok().and_then(Request::parse) else {
        return Response::Whole(page(400, "Bad Request", "Bad request\n"));
    };
    let token = request.path.rsplit('/').next().unwrap_or_default();
    if server == Server::Attacker {
        // The attacker has an account and a challenge of its own.
        return Response::Whole(page(200, "OK", &format!("{token}.attackerattackerattackerattackerattackeratt")));
    }
    let index = index_of_token(token).filter(|&index| index < world.requests);
    let Some(scenario) = index.map(|index| world.scenario(index)).filter(|s| s.token() == token) else {
        return Response::Whole(page(404, "Not Found", "Not found\n"));
    };
    if scenario.kind.method() == Method::WebsiteChange {
        return website(&scenario, server, request, token);
    }
    if server == Server::Site && scenario.kind == Kind::HttpRedirectHttps {
        return redirect(301, &format!("https://{}{}", scenario.host(), request.path));
    }
    respond_in(&scenario, perspective, request, token)
}

fn website(scenario: &Scenario, server: Server, request: Request<'_>, token: &str) -> Response {
    let value = scenario.random_value();
    let is_here = request.path.starts_with(WEBSITE_PATH) || request.path.starts_with("/elsewhere/");
    let (status, reason, body) = match scenario.kind {
        _ if !is_here || !request.host.eq_ignore_ascii_case(&scenario.host()) => {
            (404, "Not Found", "Not found\n".to_owned())
        }
        Kind::WebHttps if server == Server::Site => (404, "Not Found", "Not found\n".to_owned()),
        Kind::WebValueInUrl if request.path.starts_with(WEBSITE_PATH) => {
            return redirect(302, &format!("/elsewhere/{value}/{token}"));
        }
        Kind::WebWithin => (200, "OK", format!("<meta name=\"ca\" content=\"{value}\">\n")),
        Kind::WebTouching => (200, "OK", format!("x{value}\n")),
        Kind::Web404 => (404, "Not Found", value),
        _ => (200, "OK", value),
    };
    Response::Whole(page(status, reason, &body))
}

fn respond_in(scenario: &Scenario, perspective: Option<Perspective>, request: Request<'_>, token: &str) -> Response {
    let kind = scenario.kind;
    let Request { path, host } = request;
    let host = host.to_ascii_lowercase();
    let of_this_scenario = match kind {
        Kind::HttpIp => host == super::world::VICTIM.to_string(),
        Kind::ReverseOk => host == REVERSE_NAME,
        _ => index_of_name(&host).is_some_and(|(index, _)| index == scenario.index),
    };
    if !of_this_scenario {
        return Response::Whole(page(421, "Misdirected Request", "No such host here\n"));
    }
    let right = scenario.key_authorization();
    let ok = || Response::Whole(page(200, "OK", &right));
    let site = scenario.host();
    let hops = if kind == Kind::HttpRedirect11 { 11 } else { 10 };
    if let Some(hop) = path.strip_prefix("/hop/").and_then(|rest| rest.split('/').next()?.parse::<u32>().ok()) {
        return if hop == hops { ok() } else { redirect(301, &format!("/hop/{}/{token}", hop + 1)) };
    }
    if path.starts_with("/elsewhere/") {
        return ok();
    }
    if !path.starts_with(CHALLENGE_PATH) {
        return Response::Whole(page(404, "Not Found", "Not found\n"));
    }
    let turned_away = perspective.is_some_and(|p| scenario.is_odd(p));
    match kind {
        Kind::HttpWhitespace => Response::Whole(page(200, "OK", &format!("{right}  \r\n"))),
        Kind::HttpChunked => Response::Parts(chunked(&right), Duration::from_millis(1)),
        Kind::HttpDrip => {
            let whole = page(200, "OK", &right);
            let head = whole.len() - right.len();
            let (head, body) = whole.split_at(head);
            let drops = body.chunks(body.len().div_ceil(6)).map(<[u8]>::to_vec);
            Response::Parts(std::iter::once(head.to_vec()).chain(drops).collect(), Duration::from_millis(45))
        }
        Kind::HttpRedirectPath => redirect(302, &format!("/elsewhere/{token}")),
        Kind::HttpRedirectName if host == site => {
            redirect(308, &format!("http://other.{}{CHALLENGE_PATH}{token}", scenario.base()))
        }
        Kind::HttpRedirect10 | Kind::HttpRedirect11 => redirect(301, &format!("/hop/1/{token}")),
        Kind::HttpRedirectPort => redirect(302, &format!("http://{site}:9443{path}")),
        Kind::Http303 => redirect(303, &format!("/elsewhere/{token}")),
        Kind::HttpRedirectFtp => redirect(302, &format!("ftp://{site}{path}")),
        Kind::HttpRedirectLoop => redirect(302, &format!("http://{site}{path}")),
        Kind::HttpWrongBody => {
            Response::Whole(page(200, "OK", &format!("{token}.wrongwrongwrongwrongwrongwrongwrongwrongwro")))
        }
        Kind::Http404Echo => {
            Response::Whole(page(404, "Not Found", &format!("<p>http://{site}{path} was not found</p>\n")))
        }
        Kind::Http200Echo => Response::Whole(page(200, "OK", &format!("<p>Sorry, there is no {path} here.</p>\n"))),
        Kind::Http403 => Response::Whole(page(403, "Forbidden", "<p>Checking your browser before you go on</p>\n")),
        Kind::HttpEmpty => Response::Whole(page(200, "OK", "")),
        Kind::HttpHuge => Response::Whole(page(200, "OK", &"a".repeat(1 << 20))),
        Kind::HttpSlowHead => Response::Never,
        Kind::HttpHeadLarge => {
            let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
            for n in 0..2_000 {
                head.extend(bytes(format_args!("X-Filler-{n:04}: {}\r\n", "f".repeat(84))));
            }
            head.extend(bytes(format_args!("Content-Length: {}\r\nConnection: close\r\n\r\n{right}", right.len())));
            Response::Whole(head)
        }
        Kind::HttpGarbage => Response::Whole(b"SSH-2.0-OpenSSH_9.9\r\n\0\x01\x02not a web server\r\n\r\n".to_vec()),
        Kind::Mp4031 | Kind::Mp4033 if turned_away => {
            Response::Whole(page(403, "Forbidden", "<p>Not available in your region</p>\n"))
        }
        _ => ok(),
    }
}

fn page(status: u16, reason: &str, body: &str) -> Vec<u8> {
    bytes(format_args!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

fn redirect(status: u16, location: &str) -> Response {
    Response::Whole(bytes(format_args!(
        "HTTP/1.1 {status} Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )))
}

/// Chunks of odd sizes, sent in segments that end anywhere but at a chunk's end.
fn chunked(body: &str) -> Vec<Vec<u8>> {
    let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    let mut rest = body.as_bytes();
    for size in [1, 7, 3, 29, 13, usize::MAX] {
        let (chunk, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        if !chunk.is_empty() {
            all.extend(bytes(format_args!("{:x};odd=1\r\n", chunk.len())));
            all.extend(chunk);
            all.extend(b"\r\n");
        }
    }
    all.extend(b"0\r\n\r\n");
    all.chunks(37).map(<[u8]>::to_vec).collect()
}
