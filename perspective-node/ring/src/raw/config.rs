//! What a raw transport is told: the interface, our addresses, the way out.
//!
//! Leaves out what only the interface knows (its hardware address, its MTU).
//!
//! Invariant: what `check` has passed, the stack can use without asking again.

use std::net::IpAddr;

use super::frames::FrameMethod;

/// Own addresses on an interface, past the kernel's IP stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawConfig {
    /// The Ethernet interface.
    pub interface: String,
    /// How frames are moved.
    pub method: FrameMethod,
    /// Our addresses, at most one of each family. No interface of this host
    /// may have them: the kernel would answer too.
    pub addresses: Vec<IpAddr>,
    /// Networks (an address and the length of its prefix) reached without a
    /// gateway.
    pub networks: Vec<(IpAddr, u8)>,
    /// Whom everything else goes through, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Frames in the shared memory, two kibibytes each; a power of two.
    pub frames: u32,
    /// Octets of memory for frames that are kept to be looked at; 0: none are.
    pub kept_octets: usize,
}

/// The most that may be given to frames that are kept: a gibibyte.
pub(super) const KEPT_OCTETS_MAX: usize = 1 << 30;

/// Settings that make no transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawConfigError {
    /// Nothing to be reached at.
    #[error("addresses: at least one is needed")]
    NoAddress,
    /// An address that no host can have.
    #[error("{key}: {address} cannot be the address of a host")]
    NoHost {
        /// The setting.
        key: &'static str,
        /// As given.
        address: IpAddr,
    },
    /// More than one of a family.
    #[error("{key}: {address} is the second of its family")]
    Second {
        /// The setting.
        key: &'static str,
        /// As given.
        address: IpAddr,
    },
    /// A prefix longer than its address.
    #[error("networks: {0}/{1} is no network")]
    Network(IpAddr, u8),
    /// A gateway that would need a gateway.
    #[error("gateways: {0} is in none of the networks")]
    GatewayAway(IpAddr),
    /// A gateway or a network of a family we have no address of.
    #[error("{key}: {address} is of a family that has no address in addresses")]
    Family {
        /// The setting.
        key: &'static str,
        /// As given.
        address: IpAddr,
    },
    /// A number of frames.
    #[error("frames: {0} is not a power of two between 256 and 1048576")]
    Frames(u32),
    /// More memory than is sensible for frames that are kept.
    #[error("kept_octets: {0} is more than a gibibyte")]
    Kept(usize),
}

impl RawConfig {
    /// Checks each setting and how they fit together.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn check(&self) -> Result<(), RawConfigError> {
        if self.addresses.is_empty() {
            return Err(RawConfigError::NoAddress);
        }
        for (key, addresses) in [("addresses", &self.addresses), ("gateways", &self.gateways)] {
            for (at, &address) in addresses.iter().enumerate() {
                if !is_host(address) {
                    return Err(RawConfigError::NoHost { key, address });
                }
                if addresses.iter().take(at).any(|other| other.is_ipv4() == address.is_ipv4()) {
                    return Err(RawConfigError::Second { key, address });
                }
            }
        }
        for &(address, length) in &self.networks {
            if length > if address.is_ipv4() { 32 } else { 128 } {
                return Err(RawConfigError::Network(address, length));
            }
            if self.address_for(address).is_none() {
                return Err(RawConfigError::Family { key: "networks", address });
            }
        }
        for &gateway in &self.gateways {
            if self.address_for(gateway).is_none() {
                return Err(RawConfigError::Family { key: "gateways", address: gateway });
            }
            if !self.is_near(gateway) {
                return Err(RawConfigError::GatewayAway(gateway));
            }
        }
        if !self.frames.is_power_of_two() || !(256..=1 << 20).contains(&self.frames) {
            return Err(RawConfigError::Frames(self.frames));
        }
        if self.kept_octets > KEPT_OCTETS_MAX {
            return Err(RawConfigError::Kept(self.kept_octets));
        }
        Ok(())
    }

    /// Our address of the peer's family.
    pub(super) fn address_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == peer.is_ipv4())
    }

    fn is_near(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|&network| contains(network, peer))
    }

    /// Whom a packet for `peer` is handed to.
    pub fn next_hop(&self, peer: IpAddr) -> Option<IpAddr> {
        if self.is_near(peer) {
            return Some(peer);
        }
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == peer.is_ipv4())
    }
}

/// An address that one host can have.
pub(super) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

fn contains((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = u32::from(network) ^ u32::from(address);
            differ.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = u128::from(network) ^ u128::from(address);
            differ.leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RawConfig {
        RawConfig {
            interface: "eth1".to_owned(),
            method: FrameMethod::Xdp,
            addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
            networks: vec![("192.0.2.0".parse().unwrap(), 24), ("2001:db8::".parse().unwrap(), 64)],
            gateways: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            frames: 4096,
            kept_octets: 0,
        }
    }

    #[test]
    fn what_is_near_is_reached_directly_and_the_rest_through_the_gateway_of_its_family() {
        let config = config();
        assert_eq!(config.check(), Ok(()));
        let hop = |text: &str| config.next_hop(text.parse().unwrap()).map(|hop| hop.to_string());
        assert_eq!(hop("192.0.2.255").as_deref(), Some("192.0.2.255"));
        assert_eq!(hop("192.0.3.0").as_deref(), Some("192.0.2.1"));
        assert_eq!(hop("2001:db8::ffff:1").as_deref(), Some("2001:db8::ffff:1"));
        assert_eq!(hop("2001:db8:0:1::").as_deref(), Some("2001:db8::1"));
        let alone = RawConfig { gateways: Vec::new(), ..config.clone() };
        assert_eq!(alone.next_hop("192.0.3.0".parse().unwrap()), None);
        let everything = RawConfig { networks: vec![("0.0.0.0".parse().unwrap(), 0)], ..config };
        assert_eq!(everything.next_hop("8.8.8.8".parse().unwrap()), Some("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let refused = |change: &dyn Fn(&mut RawConfig)| {
            let mut config = config();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(refused(&|c| c.addresses.clear()).contains("at least one"));
        assert!(refused(&|c| c.addresses = vec![address("0.0.0.0")]).contains("addresses: 0.0.0.0"));
        assert!(refused(&|c| c.addresses = vec![address("255.255.255.255")]).contains("addresses: 255.255.255.255"));
        assert!(refused(&|c| c.gateways = vec![address("ff02::2")]).contains("gateways: ff02::2"));
        assert!(refused(&|c| c.addresses.push(address("192.0.2.11"))).contains("second"));
        assert!(refused(&|c| c.gateways.push(address("192.0.2.11"))).contains("second"));
        assert!(refused(&|c| c.gateways[0] = address("198.51.100.1")).contains("none of the networks"));
        assert!(refused(&|c| c.networks.push((address("10.0.0.0"), 33))).contains("10.0.0.0/33"));
        assert!(refused(&|c| c.addresses.truncate(1)).contains("family"));
        for frames in [0, 255, 300, 1 << 21] {
            assert!(refused(&|c| c.frames = frames).contains("power of two"));
        }
        assert!(refused(&|c| c.kept_octets = KEPT_OCTETS_MAX + 1).contains("kept_octets"));
    }
}
