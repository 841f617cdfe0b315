//! What makes no ring, and what is said then.

use super::{Ring, Way, raw_config, ring_config};
use crate::raw::namespace::{Wire, run};
use crate::{FrameMethod, FramesError, RawConfig, RingError};

fn refused(config: &RawConfig) -> RingError {
    let error = Ring::raw(ring_config(), config).map(|ring| ring.describe()).unwrap_err();
    println!("{error}");
    error
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    run(|| {
        Wire::make();
        for method in FrameMethod::ALL {
            let error = refused(&RawConfig { interface: "nowhere0".to_owned(), ..raw_config(method) });
            assert!(matches!(error, RingError::Frames(FramesError::NoInterface { .. })), "{error:?}");
            assert!(error.to_string().contains("nowhere0"), "{error}");
        }
    });
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    run(|| {
        Wire::make();
        for method in FrameMethod::ALL {
            let away = "192.0.2.1".parse().unwrap();
            for (key, config) in [
                ("addresses", RawConfig { addresses: Vec::new(), ..raw_config(method) }),
                ("networks", RawConfig { networks: vec![(away, 33)], ..raw_config(method) }),
                ("gateways", RawConfig { gateways: vec![away], ..raw_config(method) }),
                ("frames", RawConfig { frames: 300, ..raw_config(method) }),
            ] {
                let error = refused(&config);
                assert!(error.to_string().contains(key), "{key}: {error}");
            }
            let sizes = crate::RingConfig { datagram_send_slots: 0, ..ring_config() };
            let error = Ring::raw(sizes, &raw_config(method)).map(drop).unwrap_err();
            assert!(error.to_string().contains("datagram_send_slots"), "{error}");
        }
    });
}

#[test]
fn a_second_ring_on_the_interface_is_refused_and_the_first_works() {
    run(|| {
        let way = Way::v4(FrameMethod::Xdp);
        let mut owner = super::Owner::new(way);
        let error = refused(&raw_config(FrameMethod::Xdp));
        assert!(error.to_string().contains(Wire::RAW), "{error}");
        assert!(matches!(error, RingError::Frames(FramesError::ProgramAttached { .. })), "{error:?}");
        let (_listener, peer) = super::listen(way.peer);
        owner.connected(peer);
    });
}
