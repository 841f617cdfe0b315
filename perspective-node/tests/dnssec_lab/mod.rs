//! A private signed DNS tree from the root down, served by NSD, with two Unbounds in front of it.
//!
//! Keys and zones are made when the laboratory starts. It takes port 53 of loopback addresses, so it runs in
//! a network namespace of its own. A test program has one laboratory, which its tests share:
//!
//! ```ignore
//! #[test]
//! fn a_test() {
//!     let Some(lab) = dnssec_lab::inside("a_test") else { return };
//!     // From here on in the namespace.
//! }
//! ```
//!
//! Needs the Debian packages `unbound`, `nsd`, `bind9-utils`, `ldnsutils`, `iproute2` and `util-linux`.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

mod cases;
mod client;
mod signing;
mod zones;

use std::{
    env, fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{LazyLock, OnceLock},
    thread,
    time::{Duration, Instant},
};

use parallax_validation::observation::RecordType;
use tempfile::TempDir;

pub(crate) use client::{Record, Reply, ask};
use signing::Tree;

/// The TXT value of every zone's challenge name: the digest of the key authorization `TOKEN.THUMBPRINT` of the
/// tests (RFC 8555 §8.4).
pub(crate) const CHALLENGE: &str = "lCM7cZyQXcVHK2nnW3jjAhNT3Fvm18UN-kWZZknKoYM";
/// Set within the namespace to the directory of the laboratory.
const INSIDE: &str = "PARALLAX_DNSSEC_LABORATORY";
/// The validating Unbound.
pub(crate) const VALIDATING: Ipv4Addr = Ipv4Addr::new(127, 0, 53, 102);
/// More addresses of it.
pub(crate) const VALIDATING_MORE: u8 = 6;
/// The Unbound that passes on what it gets.
pub(crate) const PLAIN: Ipv4Addr = Ipv4Addr::new(127, 0, 53, 101);
/// Name servers; those of the customers' zones have several addresses.
pub(crate) const ROOT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 1));
pub(crate) const TLD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 2));
pub(crate) const CUSTOMER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 3));
pub(crate) const CUSTOMER_TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 6));
pub(crate) const CUSTOMER_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x53, 0, 0, 0, 0, 0, 3));
/// Serves zones below those of the customers.
pub(crate) const BELOW: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 4));
/// Serves an old copy of `stale.example`.
pub(crate) const STALE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 5));
/// Takes queries and connections and says nothing.
pub(crate) const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 8));
/// Nothing listens there.
pub(crate) const CLOSED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 53, 9));

/// What a validator makes of a name and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Signed and sound, up to the root.
    Secure,
    /// Below a delegation that is proven to have no DS.
    Insecure,
    /// Something of the chain is wrong.
    Bogus,
    /// Signed, but with algorithms or digests nobody knows. Unbound says insecure.
    Unsupported,
    /// No answer can be had.
    Failed,
}

/// What the data say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records of the type.
    Answer,
    /// The name, without the type.
    Nodata,
    /// No such name.
    Nxdomain,
    /// Nothing can be had.
    Nothing,
}

/// A question, and what comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The name, without final dot.
    pub(crate) name: String,
    pub(crate) rtype: RecordType,
    /// What the non-validating Unbound shows.
    pub(crate) kind: Kind,
    /// What our validator must say.
    pub(crate) expect: Expect,
    /// What Unbound says.
    pub(crate) unbound: Expect,
    /// For a failure: whether the zone is proven to be insecure.
    pub(crate) insecure_zone: bool,
    pub(crate) note: &'static str,
}

/// A CAA check for the issuer `ca.example`.
#[derive(Clone, Debug)]
pub(crate) struct CaaCase {
    /// The name to be certified, `*.` included.
    pub(crate) name: String,
    pub(crate) permitted: bool,
    pub(crate) note: &'static str,
}

/// The laboratory. Its servers end with it.
pub(crate) struct Lab {
    anchor: String,
    directory: PathBuf,
    servers: Vec<Server>,
    _silent: (UdpSocket, TcpListener),
}

impl Lab {
    /// Makes the zones and starts the servers; only within a namespace made by [`inside`].
    pub(crate) fn start() -> Self {
        let directory = PathBuf::from(env::var_os(INSIDE).expect("the laboratory runs in its own namespace"));
        let tree = signing::build(&directory);
        let silent = (
            UdpSocket::bind((SILENT, 53)).expect("port 53 of the silent server"),
            TcpListener::bind((SILENT, 53)).expect("port 53 of the silent server"),
        );
        let mut servers: Vec<_> = [
            ("root", &[ROOT][..]),
            ("tld", &[TLD]),
            ("customer", &[CUSTOMER, CUSTOMER_TWO, CUSTOMER_IPV6]),
            ("below", &[BELOW]),
            ("stale", &[STALE]),
        ]
        .into_iter()
        .map(|(name, addresses)| start_nsd(&directory, name, addresses, &tree))
        .collect();
        write(&directory, "root.hints", &format!(". 3600 NS ns.\nns. 3600 A {ROOT}\n"));
        servers.push(start_unbound(
            &directory,
            "plain",
            PLAIN,
            " module-config: \"iterator\"\n infra-host-ttl: 1\n infra-keep-probing: yes\n",
        ));
        let interfaces: String =
            (0..VALIDATING_MORE).map(|n| format!(" interface: {}\n", Self::validating_address(n))).collect();
        let validator = format!(
            "{interfaces} module-config: \"validator iterator\"\n trust-anchor: \"{}\"\n ede: yes\n val-log-level: 2\n \
             val-bogus-ttl: 5\n aggressive-nsec: no\n trust-anchor-signaling: no\n",
            tree.anchor
        );
        servers.push(start_unbound(&directory, "validating", VALIDATING, &validator));
        for server in &mut servers {
            server.wait_until_it_answers();
        }
        Self { anchor: tree.anchor, directory, servers, _silent: silent }
    }

    /// The Unbound that does not validate and passes on signatures and denials.
    pub(crate) fn plain(&self) -> SocketAddr {
        SocketAddr::from((PLAIN, 53))
    }

    /// The Unbound that validates.
    pub(crate) fn validating(&self) -> SocketAddr {
        SocketAddr::from((VALIDATING, 53))
    }

    fn validating_address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 53, 111 + number)
    }

    /// The same under other addresses, below [`VALIDATING_MORE`], to play resolvers of several perspectives.
    pub(crate) fn validating_at(&self, number: u8) -> SocketAddr {
        SocketAddr::from((Self::validating_address(number), 53))
    }

    /// The DS record of the root's key.
    pub(crate) fn root_anchor(&self) -> String {
        self.anchor.clone()
    }

    /// Questions that have an answer, a denial or a failure of each kind.
    pub(crate) fn cases(&self) -> Vec<Case> {
        cases::all()
    }

    /// Names to be certified by `ca.example`.
    pub(crate) fn caa_cases(&self) -> Vec<CaaCase> {
        cases::caa()
    }

    /// CPU time of the server at this address so far, microseconds; the kernel counts in hundredths of a second.
    pub(crate) fn cpu_us(&self, address: Ipv4Addr) -> u64 {
        let server = self.servers.iter().find(|server| server.address == IpAddr::V4(address)).expect("a server");
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).expect("a running server");
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        ticks * 10_000
    }

    /// What a server has said; `validating`, `plain`, `root`, `tld`, `customer`, `below` or `stale`.
    pub(crate) fn log(&self, server: &str) -> String {
        read_log(&self.directory.join(format!("{server}.log")))
    }
}

/// The laboratory, within the namespace; outside, `None` after the tests have run inside.
///
/// The first test outside runs this whole program again in a namespace. `name` is the test's own path; a test
/// that failed inside fails outside too.
pub(crate) fn inside(name: &str) -> Option<&'static Lab> {
    static LAB: LazyLock<Lab> = LazyLock::new(Lab::start);
    static RUN: OnceLock<Result<Output, String>> = OnceLock::new();
    if env::var_os(INSIDE).is_some() {
        return Some(&LAB);
    }
    let output = match RUN.get_or_init(run_inside) {
        Ok(output) => output,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !out.lines().any(|line| line == format!("test {name} ... ok")) {
        // What this test said, or everything if it did not get that far.
        let own = out.split_once(&format!("---- {name} stdout ----\n")).map(|(_, rest)| rest);
        let own = own.map(|rest| rest.split_once("\n---- ").map_or(rest, |(own, _)| own));
        panic!("{name} failed in the namespace:\n{}", own.map_or_else(|| format!("{out}{err}"), str::to_owned));
    }
    None
}

/// Runs this program again with the same choice of tests, in new network and process namespaces.
fn run_inside() -> Result<Output, String> {
    let attempts = [
        &["-n", "-p", "-f", "--kill-child", "--mount-proc"][..],
        &["-n", "-p", "-f", "--kill-child"],
        &["-r", "-n", "-p", "-f", "--kill-child", "--mount-proc"],
        &["-r", "-n", "-p", "-f", "--kill-child"],
    ];
    let usable = |flags: &&&[&str]| {
        let tried = Command::new("unshare").args(**flags).args(["ip", "link", "set", "lo", "up"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let flags = attempts.iter().find(usable).ok_or("no network namespace can be made with unshare and ip")?;
    let directory = TempDir::new().expect("a temporary directory");
    let script = format!("ip link set lo up && ip -6 addr add {CUSTOMER_IPV6}/128 dev lo && exec \"$@\"");
    // The result lines of the tests are read, so nothing may change or interrupt them.
    let arguments = env::args_os().skip(1).filter(|argument| {
        let argument = argument.to_string_lossy();
        !["--quiet", "-q", "--nocapture", "--no-capture"].contains(&&*argument) && !argument.starts_with("--format")
    });
    let output = Command::new("unshare")
        .args(*flags)
        .args(["sh", "-c", &script, "sh"])
        .arg(env::current_exe().expect("this program"))
        .args(arguments)
        .env(INSIDE, directory.path())
        .stdin(Stdio::null())
        .output();
    Ok(output.expect("unshare runs, as it did just now"))
}

/// The full path of a program; the message names its package if there is none.
fn program(name: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("the program {name} is missing; install the Debian package {package}"))
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("a temporary directory");
    path
}

fn read_log(path: &Path) -> String {
    fs::read(path).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
}

fn start_nsd(directory: &Path, name: &str, addresses: &[IpAddr], tree: &Tree) -> Server {
    let at = directory.display();
    let mut text = format!(
        "server:\n username: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n pidfile: \"{at}/{name}.pid\"\n \
         xfrdfile: \"{at}/{name}.xfrd\"\n zonelistfile: \"{at}/{name}.list\"\n xfrdir: \"{at}\"\n \
         rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n server-count: 1\n verbosity: 1\n"
    );
    for address in addresses {
        text.push_str(&format!(" ip-address: {address}\n"));
    }
    text.push_str("remote-control:\n control-enable: no\n");
    for (zone, file) in tree.served.iter().filter(|(place, ..)| place.server() == name).map(|(_, z, f)| (z, f)) {
        text.push_str(&format!("zone:\n name: \"{zone}\"\n zonefile: \"{file}\"\n"));
    }
    let configuration = write(directory, &format!("{name}.conf"), &text);
    Server::start(directory, name, "nsd", "nsd", &configuration, addresses[0])
}

fn start_unbound(directory: &Path, name: &str, address: Ipv4Addr, more: &str) -> Server {
    let at = directory.display();
    let text = format!(
        "server:\n interface: {address}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n directory: \"{at}\"\n \
         pidfile: \"{at}/{name}.pid\"\n use-syslog: no\n logfile: \"\"\n access-control: 127.0.0.0/8 allow\n \
         num-threads: 1\n root-hints: \"{at}/root.hints\"\n do-not-query-localhost: no\n do-ip6: yes\n \
         unblock-lan-zones: yes\n insecure-lan-zones: no\n use-caps-for-id: no\n edns-buffer-size: 1232\n \
         cache-max-negative-ttl: 1\n outbound-msg-retry: 2\n unknown-server-time-limit: 50\n \
         infra-cache-min-rtt: 50\n infra-cache-max-rtt: 200\n verbosity: 1\n{more}\
         remote-control:\n control-enable: no\n"
    );
    let configuration = write(directory, &format!("{name}.conf"), &text);
    Server::start(directory, name, "unbound", "unbound", &configuration, address.into())
}

/// A server that ends with its owner.
struct Server {
    child: Child,
    address: IpAddr,
    log: PathBuf,
}

impl Server {
    fn start(directory: &Path, name: &str, binary: &str, package: &str, configuration: &Path, address: IpAddr) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = fs::File::create(&log).expect("a log file");
        let child = Command::new(program(binary, package))
            .args(["-d", "-c"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{binary} cannot be started: {error}"));
        Self { child, address, log }
    }

    /// Asks for an address of the server's own, which needs no other server, until something comes back.
    fn wait_until_it_answers(&mut self) {
        let until = Instant::now() + Duration::from_secs(15);
        let server = SocketAddr::from((self.address, 53));
        while client::ask_within(server, "localhost", RecordType::A, Duration::from_millis(20)).is_none() {
            let ended = self.child.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > until {
                panic!("{} does not answer ({ended:?}); it said:\n{}", self.log.display(), read_log(&self.log));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD's parent passes the signal on to its children, which SIGKILL would leave behind.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.name, self.rtype, self.note)
    }
}
