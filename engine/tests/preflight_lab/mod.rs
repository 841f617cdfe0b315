//! An unsigned tree of real servers with faults of every kind: NSD and Knot as name servers, one Unbound that plays every
//! perspective's resolver, and a packet filter. It takes port 53 of loopback addresses, so it runs in a namespace.
//!
//! Needs the Debian packages `nsd`, `knot`, `unbound` and `nftables`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// An NSD of its own for the root and `test`.
const ROOT: Ipv4Addr = Ipv4Addr::new(127, 0, 70, 1);
/// Another NSD as a customer's server; the same without TCP; and one that some perspectives do not reach.
pub(crate) const NSD: Ipv4Addr = Ipv4Addr::new(127, 0, 70, 11);
pub(crate) const KNOT: Ipv4Addr = Ipv4Addr::new(127, 0, 70, 12);
pub(crate) const NO_TCP: Ipv4Addr = Ipv4Addr::new(127, 0, 70, 13);
pub(crate) const FILTERED: Ipv4Addr = Ipv4Addr::new(127, 0, 70, 14);
/// What the zone above gives as address of a server that is elsewhere.
pub(crate) const GLUE: Ipv4Addr = Ipv4Addr::new(127, 0, 70, 15);

/// Id, role, region, latitude, longitude.
const PERSPECTIVES: [(&str, &str, &str, f64, f64); 6] = [
    ("ams1", "primary", "RIPE NCC", 52.37, 4.90),
    ("iad1", "remote", "ARIN", 39.04, -77.49),
    ("waw1", "remote", "RIPE NCC", 52.23, 21.01),
    ("syd1", "remote", "APNIC", -33.87, 151.21),
    ("gru1", "remote", "LACNIC", -23.55, -46.63),
    ("jnb1", "remote", "AFRINIC", -26.20, 28.05),
];

/// Zones of customers: name, what the zone above says, the zone as NSD has it, and as Knot has it if it has it.
struct Zone {
    name: &'static str,
    delegation: &'static str,
    nsd: &'static str,
    knot: Option<&'static str>,
}

const ZONES: [Zone; 8] = [
    Zone { name: "good", delegation: "@ NS a\n@ NS k\n", nsd: GOOD, knot: Some(GOOD) },
    Zone {
        name: "lag",
        delegation: "@ NS a\n@ NS k\n",
        nsd: "@ SOA a h 2026122002 60 60 600 60\n@ NS a\n@ NS k\na A 127.0.70.11\nk A 127.0.70.12\n\
              @ CAA 0 issue \"ca.example\"\n_acme-challenge TXT \"one\"\n",
        knot: Some(
            "@ SOA a h 2026122001 60 60 600 60\n@ NS a\n@ NS k\na A 127.0.70.11\nk A 127.0.70.12\n\
             @ CAA 0 issue \"other.test\"\n",
        ),
    },
    Zone { name: "lame", delegation: "@ NS a\n@ NS k\n", nsd: GOOD, knot: None },
    Zone {
        name: "notcp",
        delegation: "@ NS t\n",
        nsd: "@ SOA t h 1 60 60 600 60\n@ NS t\nt A 127.0.70.13\n@ CAA 0 issue \"ca.example\"\n",
        knot: None,
    },
    Zone {
        name: "forbids",
        delegation: "@ NS a\n",
        nsd: "@ SOA a h 1 60 60 600 60\n@ NS a\na A 127.0.70.11\n@ CAA 0 issue \"other.test\"\n",
        knot: None,
    },
    Zone {
        name: "geo",
        delegation: "@ NS f\n",
        nsd: "@ SOA f h 1 60 60 600 60\n@ NS f\nf A 127.0.70.14\n@ CAA 0 issue \"ca.example\"\n",
        knot: None,
    },
    Zone {
        name: "glue",
        delegation: "@ NS g\n@ NS old\n",
        nsd: "@ 86400 SOA g h 1 60 60 600 86400\n@ NS g\ng A 127.0.70.11\nold A 127.0.70.11\n*.w CNAME lb.good.test.\n\
              _acme-challenge.slow 3600 TXT \"one\"\n",
        knot: None,
    },
    Zone { name: "many", delegation: "@ NS a\n@ NS k\n", nsd: GOOD, knot: Some(GOOD) },
];

const GOOD: &str = "@ SOA a h 1 60 60 600 60\n@ NS a\n@ NS k\na A 127.0.70.11\nk A 127.0.70.12\n\
                    @ CAA 0 issue \"ca.example\"\n";
/// Addresses that the zone above gives for the names of a delegation.
const GLUES: [(&str, Ipv4Addr); 6] =
    [("a", NSD), ("k", KNOT), ("t", NO_TCP), ("f", FILTERED), ("g", GLUE), ("old", NSD)];

/// A server that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Lab {
    directory: tempfile::TempDir,
    _servers: Vec<Server>,
}

impl Lab {
    /// The laboratory, for one test at a time: what they measure is who answers in time. Only within a namespace of one's
    /// own.
    pub(crate) fn of_this_test() -> MutexGuard<'static, Self> {
        static LAB: LazyLock<Mutex<Lab>> = LazyLock::new(|| Mutex::new(Lab::start()));
        LAB.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = directory.path();
        let root = "$TTL 300\n. SOA ns. h. 1 60 60 600 60\n. NS ns.\nns. A 127.0.70.1\ntest. NS ns.test.\nns.test. A 127.0.70.1\n";
        let mut test = "$ORIGIN test.\n$TTL 300\n@ SOA ns h 1 60 60 600 60\n@ NS ns\nns A 127.0.70.1\n".to_owned();
        let (mut above, mut nsd, mut knot) = (vec![(".".to_owned(), write(at, "root", root))], Vec::new(), Vec::new());
        for Zone { name, delegation, nsd: by_nsd, knot: by_knot } in &ZONES {
            test += &format!("$ORIGIN {name}.test.\n{delegation}");
            for (server, address) in GLUES.iter().filter(|(server, _)| delegation.contains(&format!("NS {server}\n"))) {
                test += &format!("{server} A {address}\n");
            }
            let head = format!("$ORIGIN {name}.test.\n$TTL 60\n");
            nsd.push((format!("{name}.test"), write(at, &format!("{name}.nsd"), &format!("{head}{by_nsd}"))));
            if let Some(text) = by_knot {
                knot.push((format!("{name}.test"), write(at, &format!("{name}.knot"), &format!("{head}{text}"))));
            }
        }
        above.push(("test".to_owned(), write(at, "test", &test)));
        filter();
        let servers = vec![
            start_nsd(at, "above", &[ROOT], &above),
            start_nsd(at, "nsd", &[NSD, NO_TCP, FILTERED], &nsd),
            start_knot(at, &knot),
            start_unbound(at),
        ];
        for address in [IpAddr::V4(ROOT), IpAddr::V4(NSD), IpAddr::V4(KNOT), resolver(0).ip()] {
            wait_for(address, at);
        }
        write(at, "parallax.toml", &settings());
        Self { directory, _servers: servers }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        write(self.directory.path(), name, text)
    }

    /// The program, to be run beside the settings.
    pub(crate) fn parallax(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallax"));
        command.args(arguments).current_dir(self.directory.path());
        command
    }
}

fn resolver(number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 71, 1 + number), 53))
}

/// The fourth and the fifth perspective, `syd1` and `gru1`, are cut off from [`FILTERED`].
fn settings() -> String {
    let mut text =
        "issuer_domains = [\"ca.example\"]\n[lookup]\ntask_deadline_ms = 20000\n[laboratory]\nallow_addresses = [\"127.0.0.0/8\"]\n"
            .to_owned();
    for (number, (id, role, rir, latitude, longitude)) in PERSPECTIVES.iter().enumerate() {
        text += &format!(
            "[[perspective]]\nid = \"{id}\"\nrole = \"{role}\"\nrir = \"{rir}\"\nlatitude = {latitude}\n\
             longitude = {longitude}\nas_number = {}\nprovider = \"lab\"\nresolver = \"{}\"\n\
             source_ipv4 = \"127.0.9.{}\"\ndnssec = \"resolver\"\n",
            64_500 + number,
            resolver(number as u8),
            number + 1
        );
    }
    text
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("a temporary directory");
    path
}

fn filter() {
    let rules = format!(
        "table ip preflight {{\n chain input {{\n type filter hook input priority 0;\n \
         ip daddr {NO_TCP} tcp dport 53 reject with tcp reset\n \
         ip saddr {{ 127.0.9.4, 127.0.9.5 }} ip daddr {FILTERED} drop\n }}\n}}\n"
    );
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
    std::io::Write::write_all(&mut nft.stdin.take().expect("piped"), rules.as_bytes()).expect("nft reads");
    assert!(nft.wait().expect("it ends").success(), "nft refuses:\n{rules}");
}

fn start(directory: &Path, program: &str, arguments: &[&str], configuration: &Path) -> Server {
    let program = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
    let program = program.iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("{program:?} is not installed"));
    let log = fs::File::options().append(true).create(true).open(directory.join("servers.log")).expect("a log file");
    let child = Command::new(program)
        .args(arguments)
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn();
    Server(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

fn start_nsd(directory: &Path, name: &str, addresses: &[Ipv4Addr], zones: &[(String, PathBuf)]) -> Server {
    let at = directory.display();
    let mut text = format!(
        "server:\n username: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n pidfile: \"{at}/{name}.pid\"\n xfrdfile: \
         \"{at}/{name}.xfrd\"\n zonelistfile: \"{at}/{name}.list\"\n xfrdir: \"{at}\"\n rrl-ratelimit: 0\n \
         rrl-whitelist-ratelimit: 0\n server-count: 1\n nsid: \"ascii_{name}\"\n"
    );
    for address in addresses {
        text += &format!(" ip-address: {address}\n");
    }
    text += "remote-control:\n control-enable: no\n";
    for (zone, file) in zones {
        text += &format!("zone:\n name: \"{zone}\"\n zonefile: \"{}\"\n", file.display());
    }
    start(directory, "nsd", &["-d", "-c"], &write(directory, &format!("{name}.conf"), &text))
}

fn start_knot(directory: &Path, zones: &[(String, PathBuf)]) -> Server {
    let at = directory.display();
    let mut text = format!(
        "server:\n  rundir: \"{at}\"\n  listen: {KNOT}@53\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: warning\ndatabase:\n  storage: \"{at}\"\nzone:\n"
    );
    for (zone, file) in zones {
        text += &format!("  - domain: {zone}\n    file: \"{}\"\n", file.display());
    }
    start(directory, "knotd", &["-c"], &write(directory, "knot.conf", &text))
}

fn start_unbound(directory: &Path) -> Server {
    let at = directory.display();
    let hints = write(directory, "root.hints", &format!(". 3600 NS ns.\nns. 3600 A {ROOT}\n"));
    let mut text = "server:\n".to_owned();
    for number in 0..PERSPECTIVES.len() {
        text += &format!(" interface: {}\n", resolver(number as u8).ip());
    }
    text += &format!(
        " do-daemonize: no\n chroot: \"\"\n username: \"\"\n directory: \"{at}\"\n pidfile: \"{at}/unbound.pid\"\n use-syslog: \
         no\n access-control: 127.0.0.0/8 allow\n num-threads: 1\n root-hints: \"{}\"\n do-not-query-localhost: no\n do-ip6: \
         no\n module-config: \"iterator\"\n unblock-lan-zones: yes\n insecure-lan-zones: yes\n local-zone: \"test.\" \
         nodefault\n use-caps-for-id: no\nremote-control:\n control-enable: no\n",
        hints.display()
    );
    start(directory, "unbound", &["-d", "-c"], &write(directory, "unbound.conf", &text))
}

/// Asks for SOA of the root until something comes back.
fn wait_for(address: IpAddr, directory: &Path) {
    let query = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect((address, 53)).expect("an address");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let _ = socket.send(&query);
        if socket.recv(&mut [0; 512]).is_ok() {
            return;
        }
        let log = || fs::read_to_string(directory.join("servers.log")).unwrap_or_default();
        assert!(Instant::now() < until, "{address} does not answer; the servers said:\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
