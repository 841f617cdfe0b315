//! An engine and its nodes as programs of their own, on the laboratory's loopback addresses.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use parallax_perf::lab::world::{ACCOUNT_URI, ISSUER_DOMAIN};
use parallax_protocol::{
    pki,
    transport::{Identity, Peer, TlsFiles},
};
use toml::{Table, Value};

/// How long a program may take to come up or go down. Seven of them may have to be read from a slow disk first, which has
/// taken half a minute and more.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

/// What makes the laboratory's account URI of an account's number.
pub(crate) fn account_prefix() -> &'static str {
    ACCOUNT_URI.rsplit_once('/').map(|(prefix, _)| &ACCOUNT_URI[..=prefix.len()]).unwrap()
}

/// That number.
pub(crate) fn account_number() -> i64 {
    ACCOUNT_URI.rsplit_once('/').unwrap().1.parse().unwrap()
}

/// A program that runs, and what it says.
pub(crate) struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
    name: String,
}

impl Program {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (stderr, into) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, said, name: name.to_owned() }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it says so, `times` in all.
    pub(crate) fn says(&mut self, text: &str, times: usize) {
        let begun = Instant::now();
        while self.said().matches(text).count() < times {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?} and said:\n{}", self.name, self.said());
            assert!(begun.elapsed() < PATIENCE, "{} never said '{text}':\n{}", self.name, self.said());
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop and waits; its exit status. One that has ended already is not told.
    pub(crate) fn stop(&mut self) -> i32 {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(rustix::process::Signal::TERM);
        }
        self.ends()
    }

    /// Waits until it ends; its exit status.
    pub(crate) fn ends(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(begun.elapsed() < PATIENCE * 2, "{} does not stop:\n{}", self.name, self.said());
            std::thread::sleep(POLL);
        }
    }

    /// Memory that it holds, octets.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The node's program, built if it is not.
pub(crate) fn node_program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let engine = Path::new(env!("CARGO_BIN_EXE_parallax"));
        let target = engine.parent().and_then(Path::parent).unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "parallax-node", "--bin", "parallax-node", "--target-dir"]);
        command.arg(target);
        // What cargo tells a test about its own package would make it build others' dependencies anew, and the next
        // build without it once more.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|of| name.starts_with(of)) {
                command.env_remove(name);
            }
        }
        if engine.parent().unwrap().ends_with("release") {
            command.arg("--release");
        }
        assert!(command.status().unwrap().success(), "the node's program cannot be built");
        engine.with_file_name("parallax-node")
    };
    BUILT.get_or_init(build).clone()
}

/// Where one perspective's node is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

/// Settings of an engine with its nodes elsewhere, and certificates for all.
pub(crate) struct Fleet {
    directory: PathBuf,
    pub(crate) places: Vec<Place>,
    pub(crate) engine: SocketAddr,
    pub(crate) engine_metrics: SocketAddr,
}

impl Fleet {
    /// Out of a laboratory's settings. Ports from `port` on are used.
    pub(crate) fn make(directory: &Path, port: u16) -> Self {
        let node = |index| Ipv4Addr::new(127, 1, 0, index + 1);
        Self::make_at(directory, port, Ipv4Addr::LOCALHOST, node)
    }

    /// The same with the engine and each node at an address of its own.
    pub(crate) fn make_at(directory: &Path, port: u16, engine: Ipv4Addr, node_at: impl Fn(u8) -> Ipv4Addr) -> Self {
        let text = fs::read_to_string(directory.join("parallax.toml")).unwrap();
        let mut settings: Table = text.parse().unwrap();
        let laboratory = settings.remove("laboratory").unwrap();
        let mut places = Vec::new();
        for (index, perspective) in settings["perspective"].as_array_mut().unwrap().iter_mut().enumerate() {
            let perspective = perspective.as_table_mut().unwrap();
            let id = perspective["id"].as_str().unwrap().to_owned();
            let index = u16::try_from(index).unwrap();
            let place = Place {
                id: id.clone(),
                listen: SocketAddr::from((node_at(u8::try_from(index).unwrap()), port)),
                metrics: SocketAddr::from(([127, 0, 0, 1], port + 1 + index)),
            };
            let mut node = Table::new();
            node.insert("perspective".into(), id.clone().into());
            for key in ["rir", "resolver", "dnssec", "source_ipv4", "source_ipv6"] {
                if let Some(value) = perspective.get(key) {
                    node.insert(key.into(), value.clone());
                }
            }
            node.insert("serve".into(), table(&[("listen", place.listen.to_string())]));
            node.insert("tls".into(), tls_table(&id));
            let clients =
                [("link", "engine"), ("boulder_va", "va"), ("boulder_caa", "va"), ("open_mpic", "coordinator")];
            let clients = clients.map(|(service, name)| (service.to_owned(), Value::Array(vec![name.into()])));
            node.insert("clients".into(), Value::Table(Table::from_iter(clients)));
            let ours = || Value::Array(vec![ISSUER_DOMAIN.into()]);
            let boulder = Table::from_iter([
                ("issuer_domains".to_owned(), ours()),
                ("account_uri_prefixes".to_owned(), Value::Array(vec![account_prefix().into()])),
                ("dns_persist_01".to_owned(), true.into()),
                ("dns_account_01".to_owned(), true.into()),
            ]);
            node.insert("boulder".into(), Value::Table(boulder));
            node.insert("open_mpic".into(), Value::Table(Table::from_iter([("issuer_domains".to_owned(), ours())])));
            node.insert("metrics".into(), table(&[("listen", place.metrics.to_string())]));
            node.insert("laboratory".into(), laboratory.clone());
            fs::write(directory.join(format!("{id}.toml")), node.to_string()).unwrap();
            perspective.remove("source_ipv4");
            perspective.remove("source_ipv6");
            perspective.insert("node".into(), place.listen.to_string().into());
            places.push(place);
        }
        let engine = SocketAddr::from((engine, port));
        let engine_metrics = SocketAddr::from(([127, 0, 0, 1], port + 20));
        settings.insert("tls".into(), tls_table("engine"));
        settings.insert("laboratory".into(), laboratory);
        let mut serve = Table::new();
        serve.insert("listen".into(), engine.to_string().into());
        serve.insert("metrics".into(), engine_metrics.to_string().into());
        let may = |rights: &[&str]| Value::Array(rights.iter().map(|right| (*right).into()).collect());
        let caller = |name: &str, rights: &[&str], most: i64| {
            Value::Table(Table::from_iter([
                ("name".to_owned(), name.into()),
                ("may".to_owned(), may(rights)),
                ("in_flight_max".to_owned(), Value::Integer(most)),
            ]))
        };
        let callers = vec![
            caller("ra", &["corroborate", "check", "explain", "open-mpic"], 2000),
            caller("support", &["check", "explain"], 2),
            caller("auditor", &["explain-all"], 2),
        ];
        serve.insert("caller".into(), Value::Array(callers));
        settings.insert("serve".into(), Value::Table(serve));
        fs::write(directory.join("engine.toml"), settings.to_string()).unwrap();
        let names: Vec<String> = places
            .iter()
            .map(|place| place.id.clone())
            .chain(["engine", "ra", "support", "auditor", "stranger", "va", "coordinator"].map(str::to_owned))
            .collect();
        pki::init(&directory.join("pki"), &names, 30).unwrap();
        Self { directory: directory.to_owned(), places, engine, engine_metrics }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            certificate: self.path(&format!("pki/{name}.pem")),
            key: self.path(&format!("pki/{name}.key")),
            authorities: self.path("pki/ca.pem"),
            revoked: None,
        }
    }

    pub(crate) fn identity(&self, name: &str) -> Arc<Identity> {
        Arc::new(Identity::load(&self.files(name)).unwrap())
    }

    /// The engine, to be called.
    pub(crate) fn engine_peer(&self) -> Peer {
        Peer { address: self.engine.to_string(), name: "engine".to_owned(), keys: Vec::new() }
    }

    pub(crate) fn node_peer(&self, index: usize) -> Peer {
        let place = &self.places[index];
        Peer { address: place.listen.to_string(), name: place.id.clone(), keys: Vec::new() }
    }

    pub(crate) fn start_node(&self, index: usize) -> Program {
        let id = &self.places[index].id;
        let mut command = Command::new(node_program());
        command.arg("run").arg("--config").arg(self.path(&format!("{id}.toml")));
        let mut node = Program::start(id, &mut command);
        node.says("serving on", 1);
        node
    }

    pub(crate) fn start_nodes(&self) -> Vec<Program> {
        (0..self.places.len()).map(|index| self.start_node(index)).collect()
    }

    pub(crate) fn start_engine(&self, journal: &str) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallax"));
        command.arg("serve").arg("--config").arg(self.path("engine.toml")).arg("--journal").arg(self.path(journal));
        let mut engine = Program::start("engine", &mut command);
        engine.says("serving on", 1);
        engine
    }

    /// `parallax bulk` against the engine elsewhere, as `name`.
    pub(crate) fn bulk_arguments(&self, name: &str) -> Vec<String> {
        let files = self.files(name);
        let text = |path: &Path| path.display().to_string();
        vec![
            "--engine".to_owned(),
            self.engine.to_string(),
            "--engine-name".to_owned(),
            "engine".to_owned(),
            "--certificate".to_owned(),
            text(&files.certificate),
            "--key".to_owned(),
            text(&files.key),
            "--authorities".to_owned(),
            text(&files.authorities),
        ]
    }
}

fn table(pairs: &[(&str, String)]) -> Value {
    Value::Table(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect())
}

fn tls_table(name: &str) -> Value {
    table(&[
        ("certificate", format!("pki/{name}.pem")),
        ("key", format!("pki/{name}.key")),
        ("authorities", "pki/ca.pem".to_owned()),
    ])
}

/// GET over plain HTTP; status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(POLL);
    }
}
