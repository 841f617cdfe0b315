//! Opens the ways to perspectives: nodes in this process, and links to those elsewhere.
//!
//! Leaves out what is asked over them.

use std::sync::Arc;

use crossbeam::channel::Sender;
use parallax_node::{Node, NodeConfig, NodeStats};
use parallax_protocol::{Report, transport::Identity};
use parallax_validation::base::perspective::PerspectiveId;

use super::{
    EngineError,
    link::{KeepingNode, Way},
    links_runtime,
    remote::{Expectation, LinkStats, Remote, Takers},
};
use crate::{captures::Captures, config::Config, log::Log};

/// A node in this process: how it does its input and output, and its counters.
pub(super) type OpenNode = (PerspectiveId, &'static str, Arc<NodeStats>);

/// Opens ways, as whom the settings or an identity say.
pub(crate) struct Opener<'a> {
    config: &'a Config,
    identity: Option<Arc<Identity>>,
    log: Arc<dyn Log>,
    /// Where packets go that nodes have kept, if they are wanted.
    captures: Option<&'a Captures>,
    /// Carries the links, if there are any. Ways end before it.
    pub(super) runtime: Option<tokio::runtime::Runtime>,
    pub(super) nodes: Vec<OpenNode>,
    pub(super) links: Vec<(PerspectiveId, Arc<LinkStats>)>,
}

impl<'a> Opener<'a> {
    /// Reads who this engine is, if a perspective is elsewhere.
    ///
    /// # Errors
    /// Certificate or key cannot be used, or there is no thread.
    pub(crate) fn new(
        config: &'a Config,
        identity: Option<&Arc<Identity>>,
        log: Arc<dyn Log>,
    ) -> Result<Self, EngineError> {
        let has_links = config.peers.iter().any(Option::is_some);
        let identity = match identity {
            Some(identity) => Some(Arc::clone(identity)),
            None => config.tls.as_ref().filter(|_| has_links).map(Identity::load).transpose()?.map(Arc::new),
        };
        let runtime = has_links.then(links_runtime).transpose().map_err(EngineError::Thread)?;
        Ok(Self { config, identity, log, captures: None, runtime, nodes: Vec::new(), links: Vec::new() })
    }

    /// Has ways ask for packets too.
    #[must_use]
    pub(super) fn with_captures(mut self, captures: Option<&'a Captures>) -> Self {
        self.captures = captures;
        self
    }

    /// The way to the perspective of these settings, which reports there.
    ///
    /// # Errors
    /// The node does not start.
    pub(crate) fn open(
        &mut self,
        settings: &NodeConfig,
        reports: &Sender<Vec<Report>>,
    ) -> Result<Box<dyn Way>, EngineError> {
        let place = self.config.nodes.iter().position(|other| other.perspective == settings.perspective);
        let peer = place.and_then(|place| self.config.peers[place].clone());
        let packets = self.captures.map(|captures| captures.taker(&settings.perspective));
        let Some(peer) = peer else {
            let node = Node::start(settings, reports)?;
            self.nodes.push((settings.perspective.clone(), settings.carrier(), Arc::clone(node.stats())));
            return Ok(match (node.packet_keeper(), packets) {
                (Some(packets), Some(take)) => Box::new(KeepingNode { node, packets, take }),
                _ => Box::new(node),
            });
        };
        // Settings with a peer and without an identity are refused when they are read.
        let (Some(identity), Some(runtime)) = (&self.identity, &self.runtime) else { return Err(EngineError::Stopped) };
        let expectation = Expectation::of(self.config, settings);
        let (takers, log) = (Takers { reports: reports.clone(), packets }, Arc::clone(&self.log));
        let (way, stats) = Remote::open(runtime.handle(), Arc::clone(identity), peer, expectation, takers, log);
        self.links.push((settings.perspective.clone(), stats));
        Ok(Box::new(way))
    }
}
