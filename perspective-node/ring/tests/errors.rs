//! What an operator reads when no ring can be made.
#![allow(clippy::unwrap_used)]

use parallax_ring::*;
use rustix::io::Errno;

#[test]
fn every_setup_error_names_its_remedy() {
    let table: &[(Errno, &[&str])] = &[
        (Errno::NOSYS, &["no io_uring", "ENOSYS", "6.1"]),
        (
            Errno::PERM,
            &[
                "kernel.io_uring_disabled",
                "seccomp",
                "Docker",
                "containerd",
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
            ],
        ),
        (Errno::ACCESS, &["kernel.io_uring_disabled"]),
        (Errno::NOMEM, &["RLIMIT_MEMLOCK", "ENOMEM"]),
        (Errno::INVAL, &["Linux 6.1", "DEFER_TASKRUN"]),
        (Errno::MFILE, &["RLIMIT_NOFILE"]),
        (Errno::IO, &["setting up io_uring failed", "os error 5"]),
    ];
    for (errno, words) in table {
        let text = explain_setup_error(errno.raw_os_error()).to_string();
        for word in *words {
            assert!(text.contains(word), "{errno:?}: {word:?} is not in {text:?}");
        }
    }
    let text = RingError::Epoll(std::io::Error::from_raw_os_error(5)).to_string();
    assert!(text.contains("epoll") && text.contains("os error 5"), "{text}");
    let text = RingError::MissingOperation("IORING_OP_SEND").to_string();
    assert!(text.contains("IORING_OP_SEND") && text.contains("6.1"));
}

#[test]
fn where_io_uring_is_blocked_the_error_names_the_other_driver() {
    let blocked = [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::INVAL];
    let errors = blocked.map(|errno| explain_setup_error(errno.raw_os_error()));
    let incomplete = [RingError::MissingOperation("IORING_OP_SEND"), RingError::MissingFeature("NODROP")];
    for text in errors.into_iter().chain(incomplete).map(|error| error.to_string()) {
        assert!(text.contains("driver = \"epoll\""), "{text}");
    }
}

#[test]
fn the_driver_is_the_one_that_was_asked_for() {
    assert_eq!(RingConfig::default().driver, Driver::IoUring);
    for driver in Driver::ALL {
        let ring = Ring::new(RingConfig { driver, ..RingConfig::default() }).unwrap();
        assert_eq!(ring.describe(), driver.name());
    }
}

#[test]
fn settings_are_checked() {
    Driver::ALL.into_iter().for_each(settings_are_checked_with);
}

fn settings_are_checked_with(driver: Driver) {
    let good = RingConfig { driver, ..RingConfig::default() };
    for bad in [
        RingConfig { entries: 0, ..good },
        RingConfig { receive_buffers: 0, ..good },
        RingConfig { receive_buffers: 100, ..good },
        RingConfig { receive_buffer_bytes: 0, ..good },
        RingConfig { datagram_send_slots: 0, ..good },
    ] {
        assert!(matches!(Ring::new(bad), Err(RingError::Config(_))));
    }
    Ring::new(good).unwrap();
}
