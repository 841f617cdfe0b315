//! By which of the kernel's interfaces frames are moved.
//!
//! Leaves out the choice itself: the caller makes it, and nothing here makes
//! another one in its place.

use std::fmt;
use std::str::FromStr;

/// How frames are moved. Its text is `xdp` or `packet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameMethod {
    /// AF_XDP: an XDP program takes our frames before the kernel sees them.
    Xdp,
    /// AF_PACKET: copies of our frames; the kernel sees them too.
    Packet,
}

impl FrameMethod {
    /// All of them.
    pub const ALL: [FrameMethod; 2] = [FrameMethod::Xdp, FrameMethod::Packet];

    /// The name used in settings.
    pub const fn name(self) -> &'static str {
        match self {
            FrameMethod::Xdp => "xdp",
            FrameMethod::Packet => "packet",
        }
    }
}

impl fmt::Display for FrameMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no [`FrameMethod`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a way to move frames; known are \"xdp\" and \"packet\"")]
pub struct UnknownFrameMethod;

impl FromStr for FrameMethod {
    type Err = UnknownFrameMethod;

    fn from_str(text: &str) -> Result<FrameMethod, UnknownFrameMethod> {
        FrameMethod::ALL.into_iter().find(|method| method.name() == text).ok_or(UnknownFrameMethod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for method in FrameMethod::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        for text in ["", "af_xdp", "Xdp", "packet "] {
            let error = text.parse::<FrameMethod>().unwrap_err().to_string();
            assert!(FrameMethod::ALL.iter().all(|method| error.contains(method.name())), "{error}");
        }
    }
}
