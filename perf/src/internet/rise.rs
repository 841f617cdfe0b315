//! The steps by which a laboratory comes up: namespaces and zones, routers, servers, routes, our own programs.
//!
//! Each step waits until what it started answers; nothing waits for a fixed time. If a program ends meanwhile, that is the
//! error, with what the program said last.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use parallax_protocol::pki;

use super::{
    bird,
    error::InternetError,
    programs::{Needed, Started, get, is_open},
    routes,
    services::{self, Served},
    settings::{self, FanOut},
    state::{EngineState, ProgramState, State},
    topology::{self, ATTACKER, DNS, REGISTRY, WEB, address, links, site, site_id, system, systems},
    up::{Tell, write_router},
    zones::{self, Actor},
};
use crate::{
    lab::world::Perspective,
    netns::{Namespace, NetnsError},
};

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where tls-alpn-01 asks.
const HTTPS: u16 = 443;
const POLL: Duration = Duration::from_millis(20);
/// Certificates of the laboratory are good for so many days.
const CERTIFICATE_DAYS: u32 = 30;

/// A laboratory on its way up.
pub(super) struct Rising<'a> {
    pub(super) state: State,
    running: Vec<Started>,
    /// Namespaces that were made, by name.
    made: Vec<String>,
    stop: &'a AtomicBool,
}

impl<'a> Rising<'a> {
    pub(super) fn of(state: State, stop: &'a AtomicBool) -> Self {
        Self { state, running: Vec::new(), made: Vec::new(), stop }
    }

    /// Names of the namespaces that were made until now.
    pub(super) fn made(&self) -> &[String] {
        &self.made
    }

    pub(super) fn rise(&mut self, tell: Tell<'_>) -> Result<(), InternetError> {
        tell("zones are signed, namespaces and wires made");
        let zones = self.state.zones();
        fs::create_dir_all(&zones).map_err(InternetError::file(&zones))?;
        // The two have nothing to do with each other.
        let signed = thread::scope(|scope| {
            let signing = scope.spawn(|| zones::write(&zones));
            self.namespaces()?;
            signing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        signed?;
        tell("routers start");
        self.routers()?;
        tell("name servers, web servers and resolvers start");
        self.servers()?;
        tell("routes come together");
        let stop = self.stop;
        routes::wait_until_converged(&self.state, || stop.load(Ordering::Relaxed))?;
        tell("nodes and engines start");
        self.programs()?;
        self.state.is_up = true;
        self.save()
    }

    fn namespaces(&mut self) -> Result<(), InternetError> {
        let mut made: BTreeMap<u32, Namespace> = BTreeMap::new();
        for system in systems() {
            let folder = self.state.folder(system.number);
            fs::create_dir_all(&folder).map_err(InternetError::file(&folder))?;
            let namespace = Namespace::make(self.state.namespace(system.number))?.lasting();
            self.made.push(namespace.name().to_owned());
            namespace.set(&[("ipv4/ip_forward", "1")])?;
            for address in system.addresses() {
                namespace.ip(&format!("addr add {address}/32 dev lo"))?;
            }
            made.insert(system.number, namespace);
            self.check_stop()?;
        }
        for link in links() {
            let (Some(a), Some(b)) = (made.get(&link.a), made.get(&link.b)) else { continue };
            let (device_a, device_b) = (link.device_of(link.a), link.device_of(link.b));
            a.ip(&format!("link add {device_a} type veth peer name {device_b} netns {}", b.name()))?;
            for (namespace, device, number) in [(a, device_a, link.a), (b, device_b, link.b)] {
                namespace.ip(&format!("addr add {}/31 dev {device}", link.address_of(number)))?;
                namespace.ip(&format!("link set {device} up"))?;
            }
        }
        Ok(())
    }

    fn routers(&mut self) -> Result<(), InternetError> {
        for system in systems() {
            let (settings, socket) = (write_router(&self.state, system.number)?, self.state.router(system.number));
            let [settings, socket] = [&settings, &socket].map(|path| path.display().to_string());
            let program = Needed::BIRD.path()?;
            self.start(system.number, "bird", &program, &["-f", "-c", &settings, "-s", &socket])?;
        }
        for system in systems() {
            let socket = self.state.router(system.number);
            self.wait("the router answers", || bird::ask(system.number, &socket, "show status").is_ok())?;
        }
        Ok(())
    }

    fn servers(&mut self) -> Result<(), InternetError> {
        let dns = topology::dns_address();
        self.name_server(REGISTRY, "nsd-root", topology::root_address(), &services::root_zone())?;
        self.name_server(REGISTRY, "nsd-tld", topology::tld_address(), &services::tld_zone())?;
        self.name_server(DNS, "nsd", dns, &services::domain_zones(Actor::Owner))?;
        self.name_server(ATTACKER, "nsd", dns, &services::domain_zones(Actor::Attacker))?;
        self.web_server(WEB, Actor::Owner, &[topology::web_address()])?;
        self.web_server(ATTACKER, Actor::Attacker, &[topology::web_address(), address(ATTACKER, 1)])?;
        for perspective in Perspective::ALL {
            let (number, at) = (site(perspective), settings::node_address(perspective));
            let own = self.state.folder(number);
            let (path, control) = (own.join("unbound.conf"), own.join("unbound.ctl"));
            write(&path, &services::unbound(at, &self.state.zones(), &own, &control))?;
            let path = path.display().to_string();
            self.start(number, "unbound", &Needed::UNBOUND.path()?, &["-d", "-c", &path])?;
        }
        let ports = [(REGISTRY, topology::root_address(), 53), (REGISTRY, topology::tld_address(), 53)];
        let ports = ports.into_iter().chain([DNS, ATTACKER].map(|number| (number, dns, 53)));
        let web = [WEB, ATTACKER].map(|number| [80, HTTPS].map(|port| (number, topology::web_address(), port)));
        let ports = ports.chain(web.into_iter().flatten());
        let resolvers = Perspective::ALL.map(|p| (site(p), settings::node_address(p), 53));
        for (number, address, port) in ports.chain(resolvers) {
            let namespace = self.namespace(number)?;
            self.wait(&format!("AS {number} answers at {address}:{port}"), || is_open(&namespace, address, port))?;
        }
        Ok(())
    }

    fn name_server(&mut self, number: u32, name: &str, at: Ipv4Addr, served: &[Served]) -> Result<(), InternetError> {
        let own = self.state.folder(number);
        let path = own.join(format!("{name}.conf"));
        write(&path, &services::nsd(name, at, &self.state.zones(), &own, served))?;
        let path = path.display().to_string();
        self.start(number, name, &Needed::NSD.path()?, &["-d", "-c", &path])
    }

    fn web_server(&mut self, number: u32, by: Actor, at: &[Ipv4Addr]) -> Result<(), InternetError> {
        let own = self.state.folder(number);
        let path = own.join("nginx.conf");
        write(&path, &services::nginx(by, at, &own))?;
        let path = path.display().to_string();
        self.start(number, "nginx", &Needed::NGINX.path()?, &["-e", "stderr", "-c", &path])?;
        let program = std::env::current_exe().map_err(InternetError::file("this program"))?;
        let at: Vec<String> = at.iter().map(|at| SocketAddr::from((*at, HTTPS)).to_string()).collect();
        let arguments = ["internet", "respond", by.name()].into_iter().chain(at.iter().map(String::as_str));
        self.start(number, "tls", &program, &arguments.collect::<Vec<_>>())
    }

    fn programs(&mut self) -> Result<(), InternetError> {
        let made = pki::init(&self.state.directory.join("pki"), &settings::names(), CERTIFICATE_DAYS);
        made.map_err(|error| InternetError::Pki(error.to_string()))?;
        let node = self.state.programs_from.join("parallax-node");
        for perspective in Perspective::ALL {
            let path = self.state.directory.join(format!("{}.toml", site_id(perspective)));
            write(&path, &settings::node(perspective))?;
            self.start(site(perspective), "node", &node, &["run", "--config", &path.display().to_string()])?;
        }
        self.wait_said("node", "serving on", Perspective::ALL.len())?;
        let engines = FanOut::ALL.map(|fan_out| (fan_out, self.state.engine_of(fan_out).clone()));
        for (fan_out, engine) in &engines {
            write(&engine.settings, &settings::engine(*fan_out))?;
            let [config, journal] = [&engine.settings, &engine.journal].map(|path| path.display().to_string());
            let program = self.state.programs_from.join("parallax");
            let arguments = ["serve", "--config", &config, "--journal", &journal];
            self.start(engine.system, fan_out.name(), &program, &arguments)?;
        }
        self.wait_said("engine", "serving on", engines.len())?;
        for (_, engine) in &engines {
            let namespace = self.namespace(engine.system)?;
            self.wait("all links of the engines stand", || {
                links_up(&namespace, engine).len() == Perspective::ALL.len()
            })?;
        }
        Ok(())
    }

    fn start(&mut self, number: u32, name: &str, program: &Path, arguments: &[&str]) -> Result<(), InternetError> {
        self.check_stop()?;
        let log = self.state.folder(number).join(format!("{name}.log"));
        let named = format!("{name}-{}", system(number).map_or("", |system| system.name));
        let started = Started::start(&self.namespace(number)?, &named, program, arguments, log)?;
        let (pid, log) = (started.pid(), started.log().to_owned());
        self.state.programs.push(ProgramState { name: named, pid, system: number, log });
        self.running.push(started);
        self.save()
    }

    fn namespace(&self, number: u32) -> Result<Namespace, NetnsError> {
        Namespace::open(self.state.namespace(number))
    }

    fn save(&self) -> Result<(), InternetError> {
        self.state.write()
    }

    fn check_stop(&self) -> Result<(), InternetError> {
        if self.stop.load(Ordering::Relaxed) { Err(InternetError::Stopped) } else { Ok(()) }
    }

    fn wait_said(&mut self, stem: &str, text: &str, times: usize) -> Result<(), InternetError> {
        let logs: Vec<PathBuf> =
            self.running.iter().filter(|p| p.name().starts_with(stem)).map(|p| p.log().to_owned()).collect();
        self.wait(&format!("{stem}: '{text}'"), || {
            let said = logs.iter().filter(|log| fs::read_to_string(log).is_ok_and(|said| said.contains(text)));
            said.count() == times
        })
    }

    /// Waits for something, as long as nothing that was started has ended.
    fn wait(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), InternetError> {
        let begun = Instant::now();
        while !holds() {
            self.check_stop()?;
            self.running.iter_mut().try_for_each(Started::still_runs)?;
            if begun.elapsed() > PATIENCE {
                return Err(InternetError::Late { what: what.to_owned(), limit: PATIENCE });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), InternetError> {
    fs::write(path, text).map_err(InternetError::file(path))
}

/// Ids of the perspectives to which the engine says its link stands.
#[must_use]
pub(super) fn links_up(namespace: &Namespace, engine: &EngineState) -> Vec<String> {
    let figures = get(namespace, engine.metrics, "/metrics").map(|(_, text)| text).unwrap_or_default();
    let line = |line: &str| {
        let id = line.strip_prefix("parallax_engine_link_up{perspective=\"")?.strip_suffix("\"} 1")?;
        Some(id.to_owned())
    };
    figures.lines().filter_map(line).collect()
}
