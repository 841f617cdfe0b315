//! Alarms to a receiver over HTTP, signed as the Standard Webhooks specification (1.0.0) has it.
//!
//! One POST holds a batch. Its `webhook-id` is a digest of the body and stays the same when it is sent again; the
//! timestamp is that of the try. Nothing is followed: a redirect is a refusal.

use std::{
    fs::File,
    io::Read as _,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use rand::RngExt as _;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use ureq::{
    Agent,
    http::Uri,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::alarm::{Alarm, hex, printable};

/// Alarms in one POST.
pub(crate) const BATCH_ALARMS_MAX: usize = 50;
/// Octets of alarms in one POST, beyond the first alarm; the specification recommends less than 20 kB.
pub(crate) const BATCH_BYTES_MAX: usize = 16 * 1024;
/// Tries of one batch where the journal is not followed.
pub(crate) const TRIES_MAX: u32 = 8;
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;
const SECRET_FILE_BYTES_MAX: u64 = 1_024;
const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CONNECT_MAX: Duration = Duration::from_secs(5);
const WHOLE_MAX: Duration = Duration::from_secs(15);
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A webhook that cannot be used.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// Its address.
    #[error("--webhook {url}: {problem}")]
    Url {
        /// As given, without what may be secret in it.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A file.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No trusted roots.
    #[error("the system has no trusted roots for https ({0}); give --webhook-ca")]
    NoRoots(String),
}

/// Where alarms go.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// https, or http to a loopback address.
    pub url: String,
    /// Files with the secrets; several while one is replaced by another.
    pub secrets: Vec<PathBuf>,
    /// The receiver's roots in PEM; the system's if not given.
    pub roots: Option<PathBuf>,
}

/// A secret; it is never shown.
struct Secret(hmac::Key);

impl Secret {
    fn read(path: &Path) -> Result<Self, WebhookError> {
        let wrong = |problem: String| WebhookError::File { path: path.to_owned(), problem };
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(wrong(format!(
                "its mode is {:03o}: others than its owner may use the secret; chmod 600 it",
                mode & 0o777
            )));
        }
        let mut octets = Vec::new();
        file.take(SECRET_FILE_BYTES_MAX).read_to_end(&mut octets).map_err(|error| wrong(error.to_string()))?;
        let text = octets.trim_ascii();
        let key = match text.strip_prefix(b"whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| wrong("no base64 after whsec_".to_owned()))?,
            None => text.to_vec(),
        };
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&key.len()) {
            return Err(wrong(format!(
                "the secret has {} octets; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are wanted",
                key.len()
            )));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The receiver has it.
    Delivered,
    /// It may help to try again, not before so long.
    Later(String, Option<Duration>),
    /// The receiver does not want it, which may be a mistake of either.
    Doubted(String),
    /// The receiver does not want it, and will not.
    Refused(String),
}

/// A batch, ready to be sent as often as it takes.
pub(crate) struct Batch {
    id: String,
    body: Vec<u8>,
}

impl Batch {
    /// The alarms of one POST. The body depends on them alone.
    pub(crate) fn of(alarms: &[Alarm]) -> Self {
        let timestamp = alarms.iter().map(|alarm| alarm.at).max();
        let body = serde_json::json!({
            "type": "parallax.alarms", "timestamp": timestamp, "data": { "alarms": alarms },
        });
        let body = body.to_string().into_bytes();
        let id = format!("plx_{}", hex(&Sha256::digest(&body)[..16]));
        Self { id, body }
    }
}

/// Sends batches.
pub(crate) struct Webhook {
    agent: Agent,
    uri: Uri,
    secrets: Vec<Secret>,
    /// The address without what may be secret in it.
    pub(crate) shown: String,
}

impl Webhook {
    /// Checks the address and reads secrets and roots. Nothing is sent.
    pub(crate) fn new(options: &WebhookOptions) -> Result<Self, WebhookError> {
        // Paths and user-info of such URLs are secrets often enough.
        let shown = printable(options.url.split(['?', '#']).next().unwrap_or_default());
        let shown = match shown.split_once("://") {
            Some((scheme, rest)) => {
                let authority = rest.split('/').next().unwrap_or_default();
                format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
            }
            None => "the URL".to_owned(),
        };
        let wrong = |problem: &str| WebhookError::Url { url: shown.clone(), problem: problem.to_owned() };
        let uri: Uri = options.url.parse().map_err(|error: ureq::http::uri::InvalidUri| wrong(&error.to_string()))?;
        let host = uri.host().ok_or_else(|| wrong("an https URL is wanted"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("a user name or password in the URL is not sent; receivers check the signature"));
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let loopback = address.is_some_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if loopback => {}
            Some("http") => return Err(wrong("http is for loopback addresses alone; use https")),
            _ => return Err(wrong("an https URL is wanted")),
        }
        if options.secrets.is_empty() {
            return Err(wrong("--webhook-secret is wanted: alarms are signed"));
        }
        let secrets = options.secrets.iter().map(|path| Secret::read(path)).collect::<Result<_, _>>()?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(WHOLE_MAX))
            .user_agent(concat!("parallax/", env!("CARGO_PKG_VERSION")));
        if loopback {
            config = config.proxy(None);
        }
        if uri.scheme_str() == Some("https") {
            let roots = match &options.roots {
                Some(path) => roots_of_file(path)?,
                None => roots_of_system()?,
            };
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self { agent: config.build().into(), uri, secrets, shown })
    }

    /// Tries once.
    pub(crate) fn send(&self, batch: &Batch, now: Timestamp) -> Tried {
        let timestamp = now.as_second();
        let signatures: Vec<String> =
            self.secrets.iter().map(|secret| secret.sign(&batch.id, timestamp, &batch.body)).collect();
        let request = self
            .agent
            .post(self.uri.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &batch.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signatures.join(" "));
        match request.send(batch.body.as_slice()) {
            Err(error) => Tried::Later(printable(&error.to_string()), None),
            Ok(response) => {
                let status = response.status().as_u16();
                let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                let wait = wait.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
                by_status(status, wait)
            }
        }
    }
}

fn by_status(status: u16, wait: Option<Duration>) -> Tried {
    match status {
        200..=299 => Tried::Delivered,
        408 | 429 | 500.. => Tried::Later(format!("HTTP status {status}"), wait),
        410 => Tried::Refused("HTTP status 410: the receiver is gone for good".to_owned()),
        300..=399 => Tried::Refused(format!("HTTP status {status}: redirects are not followed; give the final URL")),
        _ => Tried::Doubted(format!("HTTP status {status}")),
    }
}

/// How long to wait after so many failed tries in a row: doubled each time, half of it by chance.
pub(crate) fn back_off(failures: u32, wanted: Option<Duration>) -> Duration {
    let whole = BACK_OFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACK_OFF_MAX);
    let half = whole / 2;
    (half + half.mul_f64(rand::rng().random::<f64>())).max(wanted.unwrap_or_default())
}

fn roots_of_file(path: &Path) -> Result<Vec<Certificate<'static>>, WebhookError> {
    let wrong = |problem: String| WebhookError::File { path: path.to_owned(), problem };
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(CA_FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    let mut roots = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in PEM in it".to_owned()));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<Vec<Certificate<'static>>, WebhookError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(WebhookError::NoRoots(why));
    }
    Ok(found.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::OpenOptionsExt as _};

    use super::*;

    fn secret_file(directory: &Path, text: &[u8], mode: u32) -> PathBuf {
        let path = directory.join(format!("secret-{}-{mode:o}", text.len()));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&path).unwrap();
        std::io::Write::write_all(&mut file, text).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn refusal(options: &WebhookOptions) -> String {
        match Webhook::new(options) {
            Ok(_) => panic!("{options:?} is taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn h12_the_signature_is_that_of_the_published_example() {
        // From the specification's reference libraries.
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = Secret(hmac::Key::new(hmac::HMAC_SHA256, &key));
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn h12_err_secrets_that_are_short_or_open_to_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let with = |secret: PathBuf| WebhookOptions {
            url: "http://127.0.0.1:9/".to_owned(),
            secrets: vec![secret],
            roots: None,
        };
        let at = |text: &[u8], mode| with(secret_file(directory.path(), text, mode));
        let long = b"0123456789abcdef01234567\n";
        for mode in [0o640, 0o604, 0o620] {
            assert!(refusal(&at(long, mode)).contains("chmod 600"), "{mode:o}");
        }
        assert!(refusal(&at(b"0123456789abcdef0123456\n", 0o600)).contains("23 octets"));
        assert!(refusal(&at(&[b'a'; 65], 0o600)).contains("65 octets"));
        assert!(refusal(&at(b"whsec_AAAA", 0o600)).contains("3 octets"));
        assert!(refusal(&at(b"whsec_*", 0o600)).contains("no base64"));
        assert!(refusal(&with(directory.path().join("none"))).contains("No such file"));
        assert!(Webhook::new(&at(long, 0o600)).is_ok());
        assert!(Webhook::new(&at(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0o400)).is_ok());
    }

    #[test]
    fn h12_err_plain_http_leaves_the_host_never() {
        let directory = tempfile::tempdir().unwrap();
        let secret = secret_file(directory.path(), b"0123456789abcdef01234567", 0o600);
        let to = |url: &str| WebhookOptions { url: url.to_owned(), secrets: vec![secret.clone()], roots: None };
        for (url, wants) in [
            ("http://alarms.example/", "use https"),
            ("http://192.0.2.7/", "use https"),
            ("http://localhost/", "use https"),
            ("ftp://127.0.0.1/", "an https URL"),
            ("/hook", "an https URL"),
            ("https://u:p4ss@alarms.example/?key=s3cr3t", "a user name"),
        ] {
            let text = refusal(&to(url));
            assert!(text.contains(wants), "{text}");
            assert!(!text.contains("s3cr3t") && !text.contains("p4ss"), "{text}");
        }
        let unsigned = WebhookOptions { secrets: Vec::new(), ..to("http://[::1]:9/") };
        assert!(refusal(&unsigned).contains("--webhook-secret"));
        assert!(Webhook::new(&to("http://[::1]:9/")).is_ok());
        let empty = secret_file(directory.path(), b"", 0o600);
        let rootless = WebhookOptions { roots: Some(empty), ..to("https://alarms.example/") };
        assert!(refusal(&rootless).contains("no certificate"));
    }

    #[test]
    fn h12_what_a_status_means() {
        let wait = Some(Duration::from_secs(7));
        assert_eq!(by_status(204, None), Tried::Delivered);
        for status in [408, 429, 500, 503, 599] {
            assert_eq!(by_status(status, wait), Tried::Later(format!("HTTP status {status}"), wait));
        }
        for status in [301, 410] {
            assert!(matches!(by_status(status, None), Tried::Refused(text) if text.contains(&status.to_string())));
        }
        for status in [400, 401, 403, 404, 422] {
            assert!(matches!(by_status(status, None), Tried::Doubted(text) if text.contains(&status.to_string())));
        }
    }

    #[test]
    fn waiting_doubles_within_its_bounds() {
        for (failures, most) in [(1, 500), (2, 1_000), (5, 8_000), (30, 60_000)] {
            for _ in 0..20 {
                let wait = back_off(failures, None).as_millis();
                assert!((most / 2..=most).contains(&wait), "{failures}: {wait}");
            }
        }
        assert_eq!(back_off(1, Some(Duration::from_secs(9))), Duration::from_secs(9));
    }
}
