//! What a completion is about, packed into the 64 bits the kernel hands back.
//!
//! No generation is needed here: a slot is not reused before its last
//! completion.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Wake,
    CancelWake,
    DatagramReceive(u32),
    /// The number is a send slot, not a socket.
    DatagramSend(u32),
    DatagramCancel(u32),
    Connect(u32),
    StreamSend(u32),
    StreamReceive(u32),
    StreamCancel(u32),
}

impl Token {
    pub(crate) fn encode(self) -> u64 {
        let (kind, index) = match self {
            Token::Wake => (1, 0),
            Token::CancelWake => (2, 0),
            Token::DatagramReceive(index) => (3, index),
            Token::DatagramSend(slot) => (4, slot),
            Token::DatagramCancel(index) => (5, index),
            Token::Connect(index) => (6, index),
            Token::StreamSend(index) => (7, index),
            Token::StreamReceive(index) => (8, index),
            Token::StreamCancel(index) => (9, index),
        };
        kind << 32 | u64::from(index)
    }

    pub(crate) fn decode(value: u64) -> Option<Token> {
        let index = value as u32;
        Some(match value >> 32 {
            1 => Token::Wake,
            2 => Token::CancelWake,
            3 => Token::DatagramReceive(index),
            4 => Token::DatagramSend(index),
            5 => Token::DatagramCancel(index),
            6 => Token::Connect(index),
            7 => Token::StreamSend(index),
            8 => Token::StreamReceive(index),
            9 => Token::StreamCancel(index),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_round_trip() {
        let index = u32::MAX;
        for token in [
            Token::Wake,
            Token::CancelWake,
            Token::DatagramReceive(index),
            Token::DatagramSend(index),
            Token::DatagramCancel(index),
            Token::Connect(index),
            Token::StreamSend(index),
            Token::StreamReceive(index),
            Token::StreamCancel(index),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(0), None);
    }
}
