//! Which of the kernel's interfaces a ring is built on.
//!
//! Leaves out the choice itself: the caller makes it, and nothing here makes
//! another one in its place.

use std::fmt;
use std::str::FromStr;

/// The kernel interface a ring is built on. Its text is `io-uring` or `epoll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Driver {
    /// io_uring; needs Linux 6.1 or later and the right to use it.
    #[default]
    IoUring,
    /// epoll and non-blocking sockets, for hosts that block io_uring.
    Epoll,
}

impl Driver {
    /// All of them.
    pub const ALL: [Driver; 2] = [Driver::IoUring, Driver::Epoll];

    /// The name used in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::IoUring => "io-uring",
            Driver::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no [`Driver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a driver; known are \"io-uring\" and \"epoll\"")]
pub struct UnknownDriver;

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Driver, UnknownDriver> {
        Driver::ALL.into_iter().find(|driver| driver.name() == text).ok_or(UnknownDriver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for driver in Driver::ALL {
            assert_eq!(driver.to_string().parse(), Ok(driver));
        }
        for text in ["", "io_uring", "Epoll", "epoll "] {
            let error = text.parse::<Driver>().unwrap_err().to_string();
            assert!(Driver::ALL.iter().all(|driver| error.contains(driver.name())), "{error}");
        }
    }
}
