//! What opening says when it fails, and that nothing is left behind.

use std::net::{IpAddr, Ipv4Addr};

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::super::error::Step;
use super::super::xdp::Attach;
use super::{FrameMethod, Frames, FramesConfig, FramesError, Way, by_each_way, descriptors_open, ours, ring_mappings};
use crate::raw::namespace::{Wire, command, run};

by_each_way!(dropping_leaves_nothing);

fn dropping_leaves_nothing(way: Way) {
    let _wire = Wire::make();
    let shown = || command("ip -d link show raw0");
    let memberships = || command("ip maddress show dev raw0");
    let (descriptors, groups) = (descriptors_open(), memberships());
    assert_eq!(ring_mappings(), 0);
    // More than once: what was closed can be opened again at once.
    for _ in 0..5 {
        let frames = way.open_raw(256);
        assert_eq!(shown().contains("xdp"), !matches!(way, Way::Packet), "{}", shown());
        assert!(memberships().contains("33:33:ff:00:00:02"), "{}", memberships());
        assert_ne!(ring_mappings(), 0);
        drop(frames);
        assert!(!shown().contains("xdp"), "{}", shown());
        assert_eq!((descriptors_open(), ring_mappings()), (descriptors, 0));
        assert_eq!(memberships(), groups);
    }
}

#[test]
fn a_second_program_is_refused_and_the_first_stays() {
    run(|| {
        let _wire = Wire::make();
        for [first, second] in [
            [Attach::Native, Attach::Native],
            [Attach::Native, Attach::Generic],
            [Attach::Generic, Attach::Native],
            [Attach::Generic, Attach::Generic],
        ] {
            let config = FramesConfig { method: FrameMethod::Xdp, ..ours() };
            let frames = Frames::open_xdp(&config, &[first]).unwrap();
            let descriptors = descriptors_open();
            let mappings = ring_mappings();
            for error in [Frames::open(&config).unwrap_err(), Frames::open_xdp(&config, &[second]).unwrap_err()] {
                let text = error.to_string();
                println!("{text}");
                let expected = matches!(error, FramesError::ProgramAttached { .. });
                assert!(expected && text.contains("raw0"), "{text}");
            }
            assert_eq!((descriptors_open(), ring_mappings()), (descriptors, mappings));
            assert!(command("ip -d link show raw0").contains("xdp"));
            drop(frames);
        }
    });
}

#[test]
fn an_interface_that_cannot_be_used_is_named() {
    run(|| {
        let _wire = Wire::make();
        command("ip link set raw0 down");
        for method in FrameMethod::ALL {
            let error = |interface| Frames::open(&FramesConfig { interface, method, ..ours() }).unwrap_err();
            for name in ["nowhere0", "", "a-name-that-is-too-long-for-an-interface", "raw\0"] {
                let error = error(name);
                assert!(matches!(&error, FramesError::NoInterface { interface } if interface == name), "{error}");
            }
            let down = error("raw0");
            assert!(matches!(&down, FramesError::Down { .. }), "{down}");
            assert!(down.to_string().contains("ip link set raw0 up"), "{down}");
        }
    });
}

#[test]
fn a_missing_right_is_named() {
    run(|| {
        let _wire = Wire::make();
        let all = capabilities(None).unwrap();
        let error = |method, missing: CapabilitySet| {
            let mut fewer = all;
            fewer.effective.remove(missing);
            set_capabilities(None, fewer).unwrap();
            let result = Frames::open(&FramesConfig { method, ..ours() });
            set_capabilities(None, all).unwrap();
            result.map(|frames| frames.describe()).map_err(|error| error.to_string())
        };
        // BPF and NET_ADMIN may be stood in for by SYS_ADMIN, locked memory by IPC_LOCK.
        let admin = CapabilitySet::SYS_ADMIN;
        let descriptors = descriptors_open();
        for (method, missing, right) in [
            (FrameMethod::Packet, CapabilitySet::NET_RAW, "CAP_NET_RAW"),
            (FrameMethod::Xdp, CapabilitySet::NET_RAW, "CAP_NET_RAW"),
            (FrameMethod::Xdp, CapabilitySet::BPF | admin, "CAP_BPF"),
            (FrameMethod::Xdp, CapabilitySet::NET_ADMIN | admin, "CAP_NET_ADMIN"),
        ] {
            let text = error(method, missing).unwrap_err();
            println!("{text}");
            assert!(text.contains(right) && text.contains("raw0"), "{method} without {missing:?}: {text}");
        }
        assert_eq!((descriptors_open(), ring_mappings()), (descriptors, 0));
        // And what is said to be needed is enough.
        let needed = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
        assert!(error(FrameMethod::Xdp, !(needed | CapabilitySet::IPC_LOCK)).is_ok());
        assert!(error(FrameMethod::Packet, !CapabilitySet::NET_RAW).is_ok());
        let little = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
        setrlimit(Resource::Memlock, little).unwrap();
        let text = error(FrameMethod::Xdp, CapabilitySet::IPC_LOCK).unwrap_err();
        println!("{text}");
        assert!(text.contains("RLIMIT_MEMLOCK"), "{text}");
        assert_eq!((descriptors_open(), ring_mappings()), (descriptors, 0));
        assert!(!command("ip -d link show raw0").contains("xdp"));
    });
}

#[test]
fn a_program_the_verifier_rejects_comes_with_the_reason() {
    run(|| {
        let map = super::super::bpf::socket_map(1).unwrap();
        let mut program = super::super::program::assemble(&super::OURS, [0; 6], std::os::fd::AsRawFd::as_raw_fd(&map));
        // Without its last instruction it runs off its end.
        program.pop();
        let (errno, log) = super::super::bpf::load(&program).unwrap_err();
        println!("{errno}: {log}");
        assert!(log.contains("last insn"), "{errno}: {log}");
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let many = vec![IpAddr::V4(Ipv4Addr::LOCALHOST); 65];
    let ok = FramesConfig { interface: "nowhere0", ..ours() };
    for (config, word) in [
        (FramesConfig { frames: 0, ..ok }, "power of two"),
        (FramesConfig { frames: 32, ..ok }, "power of two"),
        (FramesConfig { frames: 65, ..ok }, "power of two"),
        (FramesConfig { frames: 1 << 21, ..ok }, "power of two"),
        (FramesConfig { addresses: &[], ..ok }, "64 addresses"),
        (FramesConfig { addresses: &many, ..ok }, "64 addresses"),
        (FramesConfig { addresses: &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)], ..ok }, "single host"),
        (FramesConfig { addresses: &[IpAddr::V4(Ipv4Addr::BROADCAST)], ..ok }, "single host"),
        (FramesConfig { addresses: &[IpAddr::V6("ff02::1".parse().unwrap())], ..ok }, "single host"),
    ] {
        for method in FrameMethod::ALL {
            let error = Frames::open(&FramesConfig { method, ..config }).unwrap_err();
            assert!(matches!(&error, FramesError::Config(text) if text.contains(word)), "{error}");
        }
    }
    assert!(matches!(Frames::open(&ok).unwrap_err(), FramesError::NoInterface { .. }));
    assert_eq!(Step::Bind.to_string(), "binding a socket");
}
