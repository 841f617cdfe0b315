//! An ACME server that issues nothing: just enough of RFC 8555 for a client to be given challenges and to meet them.
//!
//! It tells what a client was asked to show, and the thumbprint of the key that the client registered, so that a test
//! can work out the key authorization by itself. Judging is the test's own. What it leaves out: signatures and
//! nonces are not checked, there is one account and one order, and finalizing that order is refused.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::responder::Process;

/// Longest request that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A challenge that a client says it has met.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    /// What a certificate would name, with `*.` if it is a wildcard.
    pub(crate) identifier: String,
    /// `http-01` and so on.
    pub(crate) kind: String,
    pub(crate) token: String,
    /// Token, dot, and the thumbprint of the account's key.
    pub(crate) key_authorization: String,
    authorization: usize,
}

struct Authorization {
    identifier: String,
    token: String,
    status: &'static str,
}

#[derive(Default)]
struct State {
    thumbprint: String,
    authorizations: Vec<Authorization>,
    finalized: usize,
}

struct Shared {
    base: String,
    kinds: &'static [&'static str],
    state: Mutex<State>,
    nonces: AtomicU64,
}

/// A running server. Its threads last as long as the test program.
pub(crate) struct AcmeServer {
    shared: Arc<Shared>,
    met: Receiver<Met>,
}

impl AcmeServer {
    /// Starts one that offers challenges of these kinds.
    pub(crate) fn start(kinds: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let (base, nonces) = (format!("http://{address}"), AtomicU64::new(1));
        let shared = Arc::new(Shared { base, kinds, state: Mutex::default(), nonces });
        let (sender, met) = channel();
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, sender) = (Arc::clone(&for_thread), sender.clone());
                thread::spawn(move || shared.serve(stream, &sender));
            }
        });
        Self { shared, met }
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/directory", self.shared.base)
    }

    /// Waits until the client has met so many challenges.
    pub(crate) fn wait_for(&self, count: usize, client: &mut Process, limit: Duration) -> Vec<Met> {
        let until = Instant::now() + limit;
        let mut all = Vec::new();
        while all.len() < count {
            match self.met.recv_timeout(Duration::from_millis(100)) {
                Ok(met) => all.push(met),
                Err(RecvTimeoutError::Timeout) => client.expect_running(),
                Err(RecvTimeoutError::Disconnected) => panic!("the server has ended"),
            }
            let said = || client.said();
            assert!(Instant::now() < until, "{} of {count} challenges were met; it said:\n{}", all.len(), said());
        }
        all
    }

    /// Tells the client what became of a challenge.
    pub(crate) fn decide(&self, met: &Met, confirmed: bool) {
        let status = if confirmed { "valid" } else { "invalid" };
        self.shared.state.lock().expect("no panic").authorizations[met.authorization].status = status;
    }

    /// How often the client asked for its certificate, as it does once it sees that it showed control.
    pub(crate) fn finalized(&self) -> usize {
        self.shared.state.lock().expect("no panic").finalized
    }
}

/// A response: status, another header line, body.
struct Response(&'static str, Option<String>, Value);

fn ok(body: Value) -> Response {
    Response("200 OK", None, body)
}

fn problem(status: &'static str, kind: &str, detail: &str) -> Response {
    let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
    Response(status, None, body)
}

impl Shared {
    /// One request on one connection.
    fn serve(&self, stream: TcpStream, met: &Sender<Met>) {
        // A client that is killed may leave its connection as it is.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let Some((method, path, body)) = read_request(&stream) else { return };
        let Response(status, header, json) = self.answer(&method, &path, &body, met);
        let is_problem = json.get("detail").is_some();
        let kind = if is_problem { "application/problem+json" } else { "application/json" };
        let body = if json.is_null() { String::new() } else { json.to_string() };
        // Relaxed: each nonce is another number, and nothing else.
        let nonce = BASE64URL.encode(self.nonces.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let header = header.map_or(String::new(), |line| format!("{line}\r\n"));
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nReplay-Nonce: {nonce}\r\n\
             Cache-Control: no-store\r\nRetry-After: 1\r\nConnection: close\r\n{header}\r\n"
        );
        let sent = if method == "HEAD" { String::new() } else { body };
        let _ = (&stream).write_all(format!("{head}{sent}").as_bytes());
    }

    fn answer(&self, method: &str, path: &str, body: &[u8], met: &Sender<Met>) -> Response {
        let base = &self.base;
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["directory"]) => ok(json!({
                "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"), "revokeCert": format!("{base}/revoke"),
                "keyChange": format!("{base}/key"), "meta": { "termsOfService": format!("{base}/terms") },
            })),
            ("HEAD" | "GET", ["nonce"]) => ok(Value::Null),
            ("POST", parts) => match Jws::read(body) {
                Some(jws) => self.answer_signed(parts, &jws, met),
                None => problem("400 Bad Request", "malformed", "this is no JWS"),
            },
            _ => problem("404 Not Found", "malformed", "there is nothing here"),
        }
    }

    fn answer_signed(&self, parts: &[&str], jws: &Jws, met: &Sender<Met>) -> Response {
        let base = &self.base;
        let mut state = self.state.lock().expect("no panic");
        match parts {
            ["account"] => {
                let Some(thumbprint) = thumbprint(&jws.protected["jwk"]) else {
                    return problem("400 Bad Request", "badPublicKey", "this kind of key is not known here");
                };
                state.thumbprint = thumbprint;
                Response("201 Created", Some(format!("Location: {base}/account/1")), json!({ "status": "valid" }))
            }
            ["account", "1"] => ok(json!({ "status": "valid" })),
            ["order"] => {
                let identifiers = jws.payload["identifiers"].as_array().cloned().unwrap_or_default();
                let names = identifiers.iter().filter_map(|identifier| identifier["value"].as_str());
                state.authorizations = names.enumerate().map(|(n, name)| Authorization::new(base, n, name)).collect();
                Response("201 Created", Some(format!("Location: {base}/order/1")), self.order(&state))
            }
            ["order", "1"] => ok(self.order(&state)),
            ["order", "1", "finalize"] => {
                state.finalized += 1;
                problem("403 Forbidden", "unauthorized", "no certificates are issued here")
            }
            ["authorization", number] => match state.authorizations.get(index(number)) {
                Some(authorization) => ok(self.authorization(index(number), authorization)),
                None => problem("404 Not Found", "malformed", "there is no such authorization"),
            },
            ["challenge", number, kind] => match state.authorizations.get(index(number)) {
                Some(authorization) if self.kinds.contains(kind) => {
                    // An object says that the challenge is met (RFC 8555 §7.5.1); nothing at all asks how it stands.
                    if jws.payload.is_object() {
                        // The test may have ended.
                        let _ = met.send(Met {
                            identifier: authorization.identifier.clone(),
                            kind: (*kind).to_owned(),
                            token: authorization.token.clone(),
                            key_authorization: format!("{}.{}", authorization.token, state.thumbprint),
                            authorization: index(number),
                        });
                    }
                    let up = format!("Link: <{base}/authorization/{number}>;rel=\"up\"");
                    Response("200 OK", Some(up), self.challenge(index(number), authorization, kind))
                }
                _ => problem("404 Not Found", "malformed", "there is no such challenge"),
            },
            _ => problem("404 Not Found", "malformed", "there is nothing here"),
        }
    }

    fn order(&self, state: &State) -> Value {
        let all = |status| state.authorizations.iter().all(|authorization| authorization.status == status);
        let base = &self.base;
        let identifiers: Vec<Value> = state
            .authorizations
            .iter()
            .map(|authorization| json!({ "type": "dns", "value": authorization.identifier }))
            .collect();
        let urls: Vec<String> =
            (0..state.authorizations.len()).map(|number| format!("{base}/authorization/{number}")).collect();
        json!({
            "status": if all("valid") { "ready" } else { "pending" },
            "expires": "2099-01-01T00:00:00Z", "identifiers": identifiers, "authorizations": urls,
            "finalize": format!("{base}/order/1/finalize"),
        })
    }

    fn authorization(&self, number: usize, authorization: &Authorization) -> Value {
        let challenges: Vec<Value> =
            self.kinds.iter().map(|kind| self.challenge(number, authorization, kind)).collect();
        let name = authorization.identifier.trim_start_matches("*.");
        let mut json = json!({
            "identifier": { "type": "dns", "value": name }, "status": authorization.status,
            "expires": "2099-01-01T00:00:00Z", "challenges": challenges,
        });
        if name != authorization.identifier {
            json["wildcard"] = Value::Bool(true);
        }
        json
    }

    fn challenge(&self, number: usize, authorization: &Authorization, kind: &str) -> Value {
        let url = format!("{}/challenge/{number}/{kind}", self.base);
        let mut json =
            json!({ "type": kind, "url": url, "status": authorization.status, "token": authorization.token });
        if authorization.status == "invalid" {
            json["error"] = json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": "not shown" });
        }
        json
    }
}

impl Authorization {
    fn new(base: &str, number: usize, identifier: &str) -> Self {
        // Nobody guesses here, so tokens need only be of the right form and all different.
        let token = BASE64URL.encode(Sha256::digest(format!("{base} {number} {identifier}")));
        Self { identifier: identifier.to_owned(), token, status: "pending" }
    }
}

fn index(number: &str) -> usize {
    number.parse().unwrap_or(usize::MAX)
}

/// A signed request (RFC 7515 §7.2.2), its signature not looked at.
struct Jws {
    protected: Value,
    payload: Value,
}

impl Jws {
    fn read(body: &[u8]) -> Option<Self> {
        let jws: Value = serde_json::from_slice(body).ok()?;
        let part = |name: &str| BASE64URL.decode(jws[name].as_str()?).ok();
        let protected = serde_json::from_slice(&part("protected")?).ok()?;
        // A request that only reads has an empty payload (RFC 8555 §6.3).
        let payload = match part("payload")?.as_slice() {
            [] => Value::Null,
            payload => serde_json::from_slice(payload).ok()?,
        };
        Some(Self { protected, payload })
    }
}

/// The thumbprint of a key (RFC 7638 §3): its required members alone, in the order of their names.
fn thumbprint(jwk: &Value) -> Option<String> {
    let names: &[&str] = match jwk["kty"].as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let members: Option<Vec<String>> =
        names.iter().map(|name| Some(format!("\"{name}\":\"{}\"", jwk[name].as_str()?))).collect();
    Some(BASE64URL.encode(Sha256::digest(format!("{{{}}}", members?.join(",")))))
}

fn read_request(stream: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; std::cmp::min(length, BODY_BYTES_MAX)];
    reader.read_exact(&mut body).ok()?;
    Some((method, path, body))
}

#[test]
fn the_thumbprint_is_that_of_the_example_in_rfc_7638() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3\
             oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA\
             ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-\
             kEgU8awapJzKnqDKgw";
    let key = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
    assert_eq!(thumbprint(&key).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    assert_eq!(thumbprint(&json!({ "kty": "EC", "crv": "P-256" })), None, "a member is missing");
}
