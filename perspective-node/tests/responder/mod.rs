//! What the tests against programs from outside share: starting and ending them, a resolver, and judging.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use parallax_validation::{
    base::{address::AddressFilter, perspective::Role},
    check::{self, Finding, caa::authorize::CaaPolicy},
    observation::Observation,
    plan::{Plan, PlanLimits},
    request::{CheckRequest, RawRequest},
};

use crate::common::Bench;

/// The full path of a program; the message names its package if there is none.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("the program {name} is missing; install the Debian package {package}"))
}

/// Ports are taken from here up, below those that Linux gives out by itself. So neither an outgoing connection nor a
/// socket bound to port 0 can take one between the moment it is found free and the moment a server listens on it.
const PORTS_FROM: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A port that is free for UDP and TCP, and that no other test of this program gets.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(97) % u32::from(PORTS);
    (0..500)
        .map(|_| {
            // Relaxed: each caller needs a number of its own and nothing else.
            let nth = first + u32::from(TAKEN.fetch_add(1, Ordering::Relaxed));
            PORTS_FROM + u16::try_from(nth % u32::from(PORTS)).expect("below 12 000")
        })
        .find(|&port| {
            let address = (Ipv4Addr::LOCALHOST, port);
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        })
        .expect("a free port")
}

/// A program that ends with its owner.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it in `directory`, where its output goes to a file.
    pub(crate) fn start(name: &str, command: &mut Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = fs::File::create(&log).expect("a log file");
        let child = command
            .current_dir(directory)
            // `openssl s_server` ends when its input does.
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { child, name: name.to_owned(), log }
    }

    /// Waits until it listens on a port.
    pub(crate) fn listening_on(mut self, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            self.expect_running();
            assert!(Instant::now() < until, "{} does not listen on {address}; it said:\n{}", self.name, self.said());
            thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Panics with what it said if it has ended.
    pub(crate) fn expect_running(&mut self) {
        let ended = self.child.try_wait().expect("a child");
        assert!(ended.is_none(), "{} has ended ({ended:?}); it said:\n{}", self.name, self.said());
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < until, "{} does not end; it said:\n{}", self.name, self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it wrote.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A parent passes SIGTERM on to its children, which SIGKILL would leave behind.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), rustix::process::Pid::from_raw(self.child.id() as i32)) {
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

/// Writes a file and gives its path as text.
pub(crate) fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(&path, text).expect("a temporary directory");
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn run(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().expect("the program runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {} {said}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Makes `NAME.crt` and `NAME.key`, self-signed, with the extensions given.
pub(crate) fn openssl_certificate(directory: &Path, name: &str, extensions: &[&str]) {
    let mut command = Command::new(program("openssl", "openssl"));
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=a test", "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
    command.args(extensions.iter().flat_map(|extension| ["-addext", extension]));
    run(command.current_dir(directory));
}

/// Starts Unbound with more lines of settings, and gives its address.
pub(crate) fn unbound(directory: &Path, more: &str) -> (Process, SocketAddr) {
    let (port, shown) = (free_port(), directory.display());
    let text = format!(
        "server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n \
         directory: \"{shown}\"\n pidfile: \"{shown}/unbound.pid\"\n use-syslog: no\n logfile: \"\"\n \
         do-not-query-localhost: no\n module-config: \"iterator\"\n access-control: 127.0.0.0/8 allow\n \
         num-threads: 1\n do-ip6: no\n cache-max-ttl: 0\n cache-max-negative-ttl: 0\n{more}\n\
         remote-control:\n control-enable: no\n"
    );
    let file = write(directory, "unbound.conf", &text);
    let mut command = Command::new(program("unbound", "unbound"));
    let process = Process::start("unbound", command.args(["-d", "-c", &file]), directory);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (process.listening_on(address), address)
}

/// Unbound that knows 127.0.0.1 for `customer.example` and everything below, and nothing else.
pub(crate) fn unbound_of_one_address(directory: &Path) -> (Process, SocketAddr) {
    unbound(
        directory,
        " local-zone: \"customer.example.\" redirect\n local-data: \"customer.example. 60 A 127.0.0.1\"\n \
         local-data: \"customer.example. 60 SOA ns.customer.example. hostmaster.customer.example. 1 600 60 600 60\"\n \
         local-zone: \"well-known.\" static\n local-data: \"well-known. 60 SOA ns.well-known. h.well-known. 1 60 60 60 60\"",
    )
}

/// Starts Knot with zones, each a name and its text, and gives its port. Its control socket is `knot.sock`.
pub(crate) fn knot(directory: &Path, zones: &[(&str, &str)]) -> (Process, u16) {
    let (port, shown) = (free_port(), directory.display());
    let mut text = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {shown}\ndatabase:\n  storage: {shown}\n\
         control:\n  listen: {shown}/knot.sock\nlog:\n  - target: stderr\n    any: warning\nzone:\n"
    );
    for (name, zone) in zones {
        let file = write(directory, &format!("{name}.knot.zone"), zone);
        text.push_str(&format!("  - domain: {name}\n    file: {file}\n"));
    }
    let settings = write(directory, "knot.conf", &text);
    let mut command = Command::new(program("knotd", "knot"));
    let process = Process::start("knotd", command.args(["-c", &settings]), directory);
    (process.listening_on((Ipv4Addr::LOCALHOST, port)), port)
}

/// Starts NSD with zones, each a name and its text, and gives its port.
pub(crate) fn nsd(directory: &Path, zones: &[(&str, &str)]) -> (Process, u16) {
    let (port, shown) = (free_port(), directory.display());
    let mut text = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n zonesdir: \"{shown}\"\n database: \"\"\n \
         pidfile: \"{shown}/nsd.pid\"\n xfrdfile: \"{shown}/xfrd.state\"\n zonelistfile: \"{shown}/zone.list\"\n \
         xfrdir: \"{shown}\"\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n"
    );
    for (name, zone) in zones {
        let file = write(directory, &format!("{name}.nsd.zone"), zone);
        text.push_str(&format!("zone:\n name: {name}\n zonefile: \"{file}\"\n"));
    }
    let settings = write(directory, "nsd.conf", &text);
    let mut command = Command::new(program("nsd", "nsd"));
    let process = Process::start("nsd", command.args(["-d", "-c", &settings]), directory);
    (process.listening_on((Ipv4Addr::LOCALHOST, port)), port)
}

/// Unbound in front of a server that has these zones.
pub(crate) fn unbound_before(directory: &Path, port: u16, zones: &[&str]) -> (Process, SocketAddr) {
    let stubs: String =
        zones.iter().map(|zone| format!("stub-zone:\n name: \"{zone}\"\n stub-addr: 127.0.0.1@{port}\n")).collect();
    unbound(directory, &stubs)
}

/// Starts nginx with settings for all of HTTP, and servers. It does not wait until it listens.
pub(crate) fn nginx(directory: &Path, http: &str, servers: &str) -> Process {
    let shown = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"))
        .collect();
    let text = format!(
        "daemon off; master_process off; pid {shown}/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 128; }}\n\
         http {{\n{temporary} access_log off; default_type text/plain;\n{http}\n{servers}\n}}\n"
    );
    let file = write(directory, "nginx.conf", &text);
    let (prefix, log) = (shown.to_string(), format!("{shown}/nginx-early.log"));
    let mut command = Command::new(program("nginx", "nginx-light"));
    Process::start("nginx", command.args(["-e", &log, "-p", &prefix, "-c", &file]), directory)
}

/// Starts lighttpd on loopback with files below `web`, modules, and more lines of settings.
pub(crate) fn lighttpd(directory: &Path, port: u16, modules: &[&str], more: &str) -> Process {
    let (shown, modules) = (directory.display(), modules.join("\", \""));
    let text = format!(
        "server.modules = ( \"{modules}\" )\nserver.document-root = \"{shown}/web\"\nserver.bind = \"127.0.0.1\"\n\
         server.port = {port}\nserver.errorlog = \"/dev/stderr\"\nserver.upload-dirs = ( \"{shown}\" )\n{more}\n"
    );
    let settings = write(directory, "lighttpd.conf", &text);
    let mut command = Command::new(program("lighttpd", "lighttpd"));
    let process = Process::start("lighttpd", command.args(["-D", "-f", &settings]), directory);
    process.listening_on((Ipv4Addr::LOCALHOST, port))
}

/// A request for control alone.
pub(crate) fn request(identifier: &str, method: &str, token: &str, key_authorization: &str) -> CheckRequest {
    let raw = RawRequest {
        identifier: identifier.to_owned(),
        method: method.to_owned(),
        token: Some(token.to_owned()),
        key_authorization: Some(key_authorization.to_owned()),
        caa: Some(false),
        ..RawRequest::default()
    };
    let loopback = ["127.0.0.0/8", "::1/128"].map(|prefix| prefix.parse().expect("a prefix"));
    CheckRequest::parse(
        raw,
        "test",
        &AddressFilter::allowing(loopback.to_vec()).into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .expect("a good request")
}

/// Carries out the plan of a request.
pub(crate) fn observe(bench: &mut Bench, request: &CheckRequest) -> Observation {
    bench.run(Plan::new(request, PlanLimits::default(), None))
}

/// What a remote perspective's observation means for control.
pub(crate) fn judged(request: &CheckRequest, observation: &Observation) -> Finding {
    let policy = CaaPolicy::default();
    check::judge(request, observation, &policy, Role::Remote).control.expect("control was asked")
}

/// What a server answers to a request written by hand: head and body as they came.
pub(crate) fn by_hand(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((IpAddr::from(Ipv4Addr::LOCALHOST), port)).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("the request goes out");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}
