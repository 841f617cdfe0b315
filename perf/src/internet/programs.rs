//! Programs of others and of ours: where they are, and how they are started so that they outlive this process.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::error::InternetError;
use crate::netns::Namespace;

/// What is shown of a log when its program has ended.
const LOG_SHOWN_BYTES: usize = 2_000;
const HTTP_PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of a program's figures.
const HTTP_BYTES_MAX: u64 = 1 << 20;

/// A program of Debian's.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    program: &'static str,
    package: &'static str,
}

impl Needed {
    /// The router.
    pub const BIRD: Self = Self::of("bird", "bird2");
    /// The name server.
    pub const NSD: Self = Self::of("nsd", "nsd");
    /// The resolver.
    pub const UNBOUND: Self = Self::of("unbound", "unbound");
    /// What steers it.
    pub const UNBOUND_CONTROL: Self = Self::of("unbound-control", "unbound");
    /// The web server.
    pub const NGINX: Self = Self::of("nginx", "nginx-light");
    /// Makes keys of zones.
    pub const KEYGEN: Self = Self::of("dnssec-keygen", "bind9-utils");
    /// Signs zones.
    pub const SIGNZONE: Self = Self::of("dnssec-signzone", "bind9-utils");
    /// Makes DS records.
    pub const DSFROMKEY: Self = Self::of("dnssec-dsfromkey", "bind9-utils");
    /// Makes namespaces.
    pub const IP: Self = Self::of("ip", "iproute2");
    /// All.
    pub const ALL: [Self; 9] = [
        Self::BIRD,
        Self::NSD,
        Self::UNBOUND,
        Self::UNBOUND_CONTROL,
        Self::NGINX,
        Self::KEYGEN,
        Self::SIGNZONE,
        Self::DSFROMKEY,
        Self::IP,
    ];

    const fn of(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    /// Its full path.
    ///
    /// # Errors
    /// It is not installed.
    pub fn path(&self) -> Result<PathBuf, InternetError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        let found = folders.map(|folder| folder.join(self.program)).find(|file| file.is_file());
        found.ok_or(InternetError::Missing { program: self.program, package: self.package })
    }
}

/// Runs a program to its end; what it printed.
///
/// # Errors
/// It is missing, cannot be run, or does not end well.
pub fn output(needed: &Needed, arguments: &[&str]) -> Result<String, InternetError> {
    output_of(&needed.path()?, arguments)
}

/// The same by path.
///
/// # Errors
/// It cannot be run, or does not end well.
pub fn output_of(program: &Path, arguments: &[&str]) -> Result<String, InternetError> {
    output_ending(program, arguments, &[0])
}

/// The same where several statuses are good ends.
///
/// # Errors
/// It cannot be run, or ends with another status.
pub fn output_ending(program: &Path, arguments: &[&str], good: &[i32]) -> Result<String, InternetError> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(InternetError::file(program))?;
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(InternetError::Program { what: format!("{} {}", program.display(), arguments.join(" ")), said })
}

/// A program that was started and goes on when this process ends.
#[derive(Debug)]
pub struct Started {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Started {
    /// Starts a program in a namespace, out of reach of the terminal's signals; what it says goes to `log`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start(
        namespace: &Namespace,
        name: &str,
        program: &Path,
        arguments: &[&str],
        log: PathBuf,
    ) -> Result<Self, InternetError> {
        let out = File::create(&log).map_err(InternetError::file(&log))?;
        let err = out.try_clone().map_err(InternetError::file(&log))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = namespace.inside(|| command.spawn())?.map_err(InternetError::file(program))?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where what it says is written.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it has said.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read(&self.log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// It has.
    pub fn still_runs(&mut self) -> Result<(), InternetError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let said = self.said();
                let from = said.char_indices().rev().nth(LOG_SHOWN_BYTES).map_or(0, |(at, _)| at);
                let how = ended.map_or_else(|error| error.to_string(), |status| format!("{status:?}"));
                Err(InternetError::Program {
                    what: format!("{} ended ({how})", self.name),
                    said: said[from..].trim().to_owned(),
                })
            }
        }
    }
}

/// GET over plain HTTP from within a namespace; status and body. `None` if nobody answers.
#[must_use]
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, HTTP_PATIENCE)?;
        stream.set_read_timeout(Some(HTTP_PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: laboratory\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.take(HTTP_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = namespace.inside(fetch).ok()?.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Whether something takes connections at an address, asked from within a namespace.
#[must_use]
pub fn is_open(namespace: &Namespace, address: Ipv4Addr, port: u16) -> bool {
    let address = SocketAddr::from((address, port));
    let connect = || TcpStream::connect_timeout(&address, HTTP_PATIENCE).is_ok();
    namespace.inside(connect).unwrap_or(false)
}
