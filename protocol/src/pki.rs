//! A private authority for the certificates of engines and nodes, kept in one directory: enough for a first deployment.
//!
//! It issues, renews and revokes, all offline. It distributes nothing, does not keep the authority's key in hardware,
//! and does not replace that key: an authority that has its own PKI uses that.
//!
//! The directory holds `ca.pem` and `ca.key`, a pair `NAME.pem` and `NAME.key` for each name, the revocation list
//! `crl.pem`, and `index.txt`, to which a line is added for whatever is done. A program is given its own pair,
//! `ca.pem` and `crl.pem`, as [`TlsFiles`](crate::transport::TlsFiles) has them, and nothing else.
//!
//! A renewed certificate keeps its key, so that pins of it stay true and one rename replaces all there is to replace. A
//! key that is no longer trusted is revoked, its pair moved away, and the name issued anew.
//!
//! A revocation list is good for [`LIST_DAYS`], and programs that use one believe nobody when it has expired: whoever
//! hands out `crl.pem` calls [`renew_list`] well before.
//!
//! Invariant: no file is overwritten but, at once and by renaming, `crl.pem` and a certificate whose renewal was asked
//! for.
//! Invariant: keys are in a directory and in files that only their owner can read.
//! Invariant: what was issued is in the index before it is in a file, so that whatever exists can be revoked.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, DnsName, pem::PemObject};
use serde::Serialize;
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::transport::KeyPin;

/// How long a certificate is valid unless said otherwise, in days.
pub const CERTIFICATE_DAYS: u32 = 90;

/// How long a revocation list is good for, in days.
pub const LIST_DAYS: u32 = 30;

/// How long the authority is valid, in days: ten years.
const AUTHORITY_DAYS: u32 = 3652;

/// Certificates start a little before they are made: clocks of other machines may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

const AUTHORITY: &str = "ca";
const LIST: &str = "crl";
const INDEX: &str = "index";

/// What [`init`] has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The authority's certificate, which every program is given.
    pub authority: PathBuf,
    /// The revocation list, which every program is given. Empty as yet.
    pub revoked: PathBuf,
    /// When the authority expires.
    pub not_after: Timestamp,
    /// One for each name.
    pub certificates: Vec<Issued>,
}

/// A certificate that was issued, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// Its dNSName.
    pub name: String,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// Its key, as peers can be told to expect it.
    pub pin: KeyPin,
    /// Its file.
    pub certificate: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
}

/// A certificate as the index has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its dNSName.
    pub name: String,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
}

/// Why nothing, or not all, was done.
#[derive(Debug, Error)]
pub enum PkiError {
    /// It cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It would have been overwritten.
    #[error("{}: exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// It does not hold what it should.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others than its owner can get into the directory.
    #[error("{}: others can get in (mode {mode:03o}); `chmod 700` it", directory.display())]
    Exposed {
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a name that a certificate can be issued for.
    #[error("{0:?} is not a DNS name that can be used here, or is given twice")]
    BadName(String),
    /// A certificate would not live at all, or would outlive the authority.
    #[error("{days} days: not within the authority's validity, which ends at {authority}")]
    BadDays {
        /// What was asked for.
        days: u32,
        /// When the authority expires.
        authority: Timestamp,
    },
    /// No certificate has this name or serial number.
    #[error("no certificate has the name or serial number {0:?}")]
    Unknown(String),
    /// A certificate that is revoked is not renewed: its key is not to be trusted.
    #[error("the certificate of {0} is revoked; move its files away and issue it anew, with another key")]
    KeyRevoked(String),
    /// Keys, randomness or signatures could not be made.
    #[error("cryptography failed: {0}")]
    Crypto(String),
}

/// Makes an authority and a certificate for each of the names, good for `days`.
///
/// # Errors
///
/// When a name is none or something is in the way; then nothing was written. When a file cannot be written; then what
/// was written until then is there, and the directory is to be removed.
pub fn init(directory: &Path, names: &[String], days: u32) -> Result<Made, PkiError> {
    let now = now();
    let mut wanted: Vec<String> = Vec::new();
    for name in names {
        let name = check_name(name)?;
        if wanted.contains(&name) {
            return Err(PkiError::BadName(name));
        }
        wanted.push(name);
    }
    let until = after_days(now, AUTHORITY_DAYS);
    check_days(days, now, until)?;
    make_directory(directory)?;
    let files = Files(directory);
    for file in wanted.iter().flat_map(|name| [files.certificate(name), files.key(name)]).chain([
        files.certificate(AUTHORITY),
        files.key(AUTHORITY),
        files.certificate(LIST),
        files.index(),
    ]) {
        if fs::symlink_metadata(&file).is_ok() {
            return Err(PkiError::Exists(file));
        }
    }

    let serial = random_serial()?;
    let key = KeyPair::generate().map_err(crypto)?;
    let mut params = CertificateParams::default();
    // Its own name for each authority: a revocation list is matched with its authority by name.
    params.distinguished_name = named(&format!("Parallax private CA {}", &hex(&serial)[..8]));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - BACKDATED);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(until);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(crypto)?;
    write_new(&files.index(), "", 0o600)?;
    write_new(&files.key(AUTHORITY), &key.serialize_pem(), 0o600)?;
    write_new(&files.certificate(AUTHORITY), &certificate.pem(), 0o644)?;

    let mut store = Store::open(directory)?;
    let certificates = wanted
        .iter()
        .map(|name| {
            let key = KeyPair::generate().map_err(crypto)?;
            write_new(&files.key(name), &key.serialize_pem(), 0o600)?;
            store.issue(name, days, &key, |pem| write_new(&files.certificate(name), pem, 0o644))
        })
        .collect::<Result<_, PkiError>>()?;
    store.write_list()?;
    Ok(Made {
        authority: files.certificate(AUTHORITY),
        revoked: files.certificate(LIST),
        not_after: until,
        certificates,
    })
}

/// Issues a certificate for a name, good for `days`: the name's first, with a new key, or with `renew` its next, with
/// the key it has.
///
/// # Errors
///
/// When the name has a certificate and `renew` is not set, or has none and it is; when its certificate is revoked; when
/// the days are too many; when a file cannot be read or written.
pub fn issue(directory: &Path, name: &str, days: u32, renew: bool) -> Result<Issued, PkiError> {
    let name = check_name(name)?;
    let mut store = Store::open(directory)?;
    let files = Files(directory);
    let (certificate_file, key_file) = (files.certificate(&name), files.key(&name));
    if renew {
        let serial = serial_of(&certificate_file)?;
        if store.listed.iter().any(|listed| listed.serial == serial && listed.revoked.is_some()) {
            return Err(PkiError::KeyRevoked(name));
        }
        let key = read_key(&key_file)?;
        store.issue(&name, days, &key, |pem| replace(&certificate_file, pem))
    } else {
        for file in [&certificate_file, &key_file] {
            if fs::symlink_metadata(file).is_ok() {
                return Err(PkiError::Exists(file.clone()));
            }
        }
        store.check_days(days)?;
        let key = KeyPair::generate().map_err(crypto)?;
        write_new(&key_file, &key.serialize_pem(), 0o600)?;
        store.issue(&name, days, &key, |pem| write_new(&certificate_file, pem, 0o644))
    }
}

/// Revokes the certificate with a serial number, or all certificates of a name, and writes a new list in any case.
///
/// Gives those that were not revoked before. Programs believe them until they have loaded the new list.
///
/// # Errors
///
/// When there is no such certificate; when a file cannot be read or written.
pub fn revoke(directory: &Path, name_or_serial: &str) -> Result<Vec<Listed>, PkiError> {
    let mut store = Store::open(directory)?;
    let wanted = name_or_serial.to_ascii_lowercase();
    let by_name = store.listed.iter().any(|listed| listed.name == wanted);
    let meant = |listed: &Listed| wanted == if by_name { &*listed.name } else { &*listed.serial };
    if !store.listed.iter().any(meant) {
        return Err(PkiError::Unknown(name_or_serial.to_owned()));
    }
    let now = now();
    let mut revoked = Vec::new();
    for at in 0..store.listed.len() {
        if meant(&store.listed[at]) && store.listed[at].revoked.is_none() {
            store.note(&format!("revoked {} {now}", store.listed[at].serial))?;
            store.listed[at].revoked = Some(now);
            revoked.push(store.listed[at].clone());
        }
    }
    store.write_list()?;
    Ok(revoked)
}

/// Writes a new revocation list with nothing more in it, good for [`LIST_DAYS`] from now. Gives when it expires.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn renew_list(directory: &Path) -> Result<Timestamp, PkiError> {
    Store::open(directory)?.write_list()
}

/// All certificates that were issued, in that order.
///
/// # Errors
///
/// When the index cannot be read.
pub fn list(directory: &Path) -> Result<Vec<Listed>, PkiError> {
    Ok(Store::open(directory)?.listed)
}

struct Files<'a>(&'a Path);

impl Files<'_> {
    fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    fn index(&self) -> PathBuf {
        self.0.join(format!("{INDEX}.txt"))
    }
}

/// The directory, held for one process at a time.
struct Store<'a> {
    files: Files<'a>,
    /// Locked for as long as it is open.
    index: File,
    listed: Vec<Listed>,
    /// Of the latest revocation list.
    list_number: u64,
}

impl<'a> Store<'a> {
    fn open(directory: &'a Path) -> Result<Self, PkiError> {
        let files = Files(directory);
        let file = files.index();
        let mut text = String::new();
        let opened = OpenOptions::new().read(true).append(true).open(&file).and_then(|mut index| {
            index.lock()?;
            index.read_to_string(&mut text)?;
            Ok(index)
        });
        let index = opened.map_err(failed(&file))?;
        let mut store = Self { files, index, listed: Vec::new(), list_number: 0 };
        for (number, line) in text.lines().enumerate() {
            store.read_line(line).ok_or_else(|| PkiError::Malformed {
                file: file.clone(),
                reason: format!("line {} is not understood", number + 1),
            })?;
        }
        Ok(store)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["issued", serial, name, not_after] => self.listed.push(Listed {
                name: name.to_owned(),
                serial: serial.to_owned(),
                not_after: not_after.parse().ok()?,
                revoked: None,
            }),
            ["revoked", serial, at] => {
                let listed = self.listed.iter_mut().find(|listed| listed.serial == serial)?;
                listed.revoked = Some(at.parse().ok()?);
            }
            ["list", number, at] => {
                at.parse::<Timestamp>().ok()?;
                self.list_number = number.parse().ok()?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Adds a line to the index.
    fn note(&mut self, line: &str) -> Result<(), PkiError> {
        self.index.write_all(format!("{line}\n").as_bytes()).map_err(failed(&self.files.index()))
    }

    /// The authority, and when it expires.
    fn authority(&self) -> Result<(Issuer<'static, KeyPair>, Timestamp), PkiError> {
        let (file, key_file) = (self.files.certificate(AUTHORITY), self.files.key(AUTHORITY));
        let key = read_key(&key_file)?;
        let (certificate, not_after) = parse(&file, |parsed| {
            let same_key = parsed.public_key().raw == key.subject_public_key_info();
            (same_key, parsed.validity().not_after.timestamp())
        })
        .and_then(|(certificate, (same_key, not_after))| {
            if !same_key {
                return Err(PkiError::Malformed { file: key_file, reason: "not the key of ca.pem".into() });
            }
            Ok((certificate, Timestamp::from_second(not_after).map_err(malformed(&file))?))
        })?;
        Ok((Issuer::from_ca_cert_der(&certificate, key).map_err(malformed(&file))?, not_after))
    }

    fn check_days(&self, days: u32) -> Result<(), PkiError> {
        check_days(days, now(), self.authority()?.1)
    }

    /// Notes a certificate in the index and has it written.
    fn issue(
        &mut self,
        name: &str,
        days: u32,
        key: &KeyPair,
        write: impl FnOnce(&str) -> Result<(), PkiError>,
    ) -> Result<Issued, PkiError> {
        let (authority, until) = self.authority()?;
        let now = now();
        check_days(days, now, until)?;
        let not_after = after_days(now, days);
        let serial = random_serial()?;
        let mut params = CertificateParams::new([name.to_owned()]).map_err(crypto)?;
        params.distinguished_name = named(name);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - BACKDATED);
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970(not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &authority).map_err(crypto)?;
        let serial = hex(&serial);
        self.note(&format!("issued {serial} {name} {not_after}"))?;
        write(&certificate.pem())?;
        self.listed.push(Listed { name: name.to_owned(), serial: serial.clone(), not_after, revoked: None });
        Ok(Issued {
            name: name.to_owned(),
            serial,
            not_after,
            pin: KeyPin::of(&key.subject_public_key_info()),
            certificate: self.files.certificate(name),
            key: self.files.key(name),
        })
    }

    /// Writes the next revocation list. Gives when it expires.
    fn write_list(&mut self) -> Result<Timestamp, PkiError> {
        let (authority, _) = self.authority()?;
        let now = now();
        let until = after_days(now, LIST_DAYS);
        let number = self.list_number + 1;
        let file = self.files.index();
        let revoked = self.listed.iter().filter_map(|listed| Some((&listed.serial, listed.revoked?)));
        let revoked_certs = revoked
            .map(|(serial, at)| {
                let serial = unhex(serial).ok_or_else(|| PkiError::Malformed {
                    file: file.clone(),
                    reason: format!("{serial:?} is not a serial number"),
                })?;
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&serial),
                    revocation_time: date_time_ymd(1970, 1, 1) + since_1970(at),
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, PkiError>>()?;
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + since_1970(now - BACKDATED),
            next_update: date_time_ymd(1970, 1, 1) + since_1970(until),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&authority).and_then(|list| list.pem()).map_err(crypto)?;
        self.note(&format!("list {number} {now}"))?;
        self.list_number = number;
        replace(&self.files.certificate(LIST), &pem)?;
        Ok(until)
    }
}

/// A name in lower case that can be in a certificate and names files of its own.
fn check_name(name: &str) -> Result<String, PkiError> {
    let lower = name.to_ascii_lowercase();
    let taken = [AUTHORITY, LIST, INDEX].contains(&&*lower);
    if DnsName::try_from(&*lower).is_err() || lower.ends_with('.') || taken {
        return Err(PkiError::BadName(name.to_owned()));
    }
    Ok(lower)
}

fn check_days(days: u32, now: Timestamp, authority: Timestamp) -> Result<(), PkiError> {
    if days == 0 || after_days(now, days) > authority {
        return Err(PkiError::BadDays { days, authority });
    }
    Ok(())
}

fn make_directory(directory: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
    let mode = fs::metadata(directory).map_err(failed(directory))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed { directory: directory.to_owned(), mode });
    }
    Ok(())
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(file.to_owned()),
        _ => failed(file)(source),
    })
}

/// Whoever reads the file finds the old text or the new one, whole.
fn replace(file: &Path, text: &str) -> Result<(), PkiError> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    write_new(&new, text, 0o644)?;
    fs::rename(&new, file).map_err(failed(file))
}

fn read_key(file: &Path) -> Result<KeyPair, PkiError> {
    let text = fs::read_to_string(file).map_err(failed(file))?;
    // Not the error's own text: what it found in a key file is nobody's business.
    KeyPair::from_pem(&text).map_err(|_| PkiError::Malformed {
        file: file.to_owned(),
        reason: "has no private key that can be used".into(),
    })
}

fn serial_of(file: &Path) -> Result<String, PkiError> {
    Ok(parse(file, |parsed| hex(parsed.raw_serial()))?.1)
}

/// The first certificate of a file, and what is made of it.
fn parse<T>(
    file: &Path,
    look: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Result<(CertificateDer<'static>, T), PkiError> {
    let text = fs::read(file).map_err(failed(file))?;
    let certificate = CertificateDer::from_pem_slice(&text).map_err(malformed(file))?;
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(malformed(file))?;
    let seen = look(&parsed);
    Ok((certificate, seen))
}

fn failed(file: &Path) -> impl FnOnce(io::Error) -> PkiError {
    |source| PkiError::File { file: file.to_owned(), source }
}

fn malformed<E: ToString>(file: &Path) -> impl FnOnce(E) -> PkiError {
    |error| PkiError::Malformed { file: file.to_owned(), reason: error.to_string() }
}

fn crypto(error: rcgen::Error) -> PkiError {
    PkiError::Crypto(error.to_string())
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    // X.509 has no room for more; the dNSName is what counts.
    if name.len() <= 64 {
        named.push(DnType::CommonName, name);
    }
    named
}

/// In whole seconds, as certificates have it.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("a second of now")
}

/// The end of time if there are too many.
fn after_days(from: Timestamp, days: u32) -> Timestamp {
    from.checked_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX)
}

/// To be added to [`date_time_ymd`] of 1970, whose type is of a crate that is not ours to name.
fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(at.as_second().unsigned_abs())
}

/// 126 random bits and a first byte that needs no padding.
fn random_serial() -> Result<[u8; 16], PkiError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| PkiError::Crypto("no randomness".into()))?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
