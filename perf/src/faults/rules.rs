//! What a bad network does, as written in a file.
//!
//! ```toml
//! seed = 7
//! [both]                   # or [from_a] and [from_b], which stand instead of it for their direction
//! loss = 0.05
//! delay_ms = 20
//! jitter_ms = 5
//! [forge]
//! answers = ["wrong-id", "wrong-case", "wrong-port"]
//! resets = true
//! ```

use std::{fs, net::Ipv4Addr, path::Path};

use serde::Deserialize;

use super::FaultsError;

/// Guesses at one question at most.
pub const GUESSES_MAX: u32 = 60_000;
/// No frame is held longer.
pub const HELD_MS_MAX: f64 = 60_000.0;
/// The longest TXT string (RFC 1035 §3.3.14).
const TEXT_MAX: usize = 255;

/// Everything that is done to frames between two interfaces, A and B.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// All chance follows from it.
    pub seed: u64,
    /// In both directions, where a direction has no rules of its own.
    pub both: Impairment,
    /// Frames that come in at A and leave at B.
    pub from_a: Option<Impairment>,
    /// Frames that come in at B and leave at A.
    pub from_b: Option<Impairment>,
    /// Frames that nobody sent.
    pub forge: Forge,
}

/// What is done to the frames of one direction. All of it together: a frame may be late and doubled.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Impairment {
    /// How late each frame is.
    pub delay_ms: f64,
    /// How much later it may be by chance; the order is kept.
    pub jitter_ms: f64,
    /// The share of frames that vanish, each by its own chance.
    pub loss: f64,
    /// The share of frames that come twice.
    pub duplicate: f64,
    /// The share of frames that are held back, so that later ones overtake them.
    pub reorder: f64,
    /// For how long those are held back.
    pub reorder_ms: f64,
    /// What the wire carries in a second, Ethernet headers included; without, as much as comes.
    pub octets_per_second: Option<u64>,
    /// How long the queue before a wire of such a rate may be. What comes then vanishes.
    pub queue_ms: f64,
    /// IP packets of more octets vanish, and nobody is told: a black hole of path MTU discovery (RFC 4459 §3.4).
    pub vanish_above_octets: Option<usize>,
}

/// A way in which a forged DNS answer differs from one that would be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forgery {
    /// The id is another one.
    WrongId,
    /// The first letter of the question's name is in the other case.
    WrongCase,
    /// It comes from another port than that which was asked.
    WrongPort,
    /// Very many answers to the right port, each with another id and a case by chance: who does not see the question.
    Guesses,
    /// Nothing is wrong with it: an attacker on the path. Only DNSSEC and other perspectives help.
    Perfect,
}

/// What is forged. Over IPv4 alone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forge {
    /// Answers to every DNS question seen passing; each is there before the true one.
    pub answers: Vec<Forgery>,
    /// Ports that questions go to.
    pub dns_ports: Vec<u16>,
    /// How many guesses there are for a question.
    pub guesses: u32,
    /// What forged answers for A hold. Those for CAA, AAAA and all else hold nothing, which for CAA permits.
    pub address: Ipv4Addr,
    /// What forged answers for TXT hold.
    pub text: String,
    /// Resets to the sender of every TCP segment, within its window and out of it, never at the number that counts
    /// (RFC 5961 §3.2).
    pub resets: bool,
}

impl Default for Forge {
    fn default() -> Self {
        let (address, text) = (Ipv4Addr::new(192, 0, 2, 66), "forged".to_owned());
        Self { answers: Vec::new(), dns_ports: vec![53], guesses: 10_000, address, text, resets: false }
    }
}

impl Rules {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or a value means nothing; the error names it.
    pub fn read(path: &Path) -> Result<Self, FaultsError> {
        let text = fs::read_to_string(path).map_err(|error| FaultsError::File { path: path.to_owned(), error })?;
        let rules: Self = toml::from_str(&text)
            .map_err(|error| FaultsError::Rules { path: path.to_owned(), error: Box::new(error) })?;
        rules.checked()
    }

    /// Checks values.
    ///
    /// # Errors
    /// A share that is none, a time or number beyond what can be held.
    pub fn checked(self) -> Result<Self, FaultsError> {
        let directions =
            [("both", Some(&self.both)), ("from_a", self.from_a.as_ref()), ("from_b", self.from_b.as_ref())];
        for (table, impairment) in directions {
            impairment.map_or(Ok(()), |impairment| impairment.check(table))?;
        }
        let wrong = |key, value: String| Err(FaultsError::Value { table: "forge", key, value });
        if self.forge.guesses > GUESSES_MAX {
            return wrong("guesses", self.forge.guesses.to_string());
        }
        if self.forge.text.len() > TEXT_MAX {
            return wrong("text", format!("{} octets", self.forge.text.len()));
        }
        Ok(self)
    }
}

impl Impairment {
    fn check(&self, table: &'static str) -> Result<(), FaultsError> {
        let in_range = |key, value: f64, most: f64| {
            let is_in = (0.0..=most).contains(&value);
            if is_in { Ok(()) } else { Err(FaultsError::Value { table, key, value: value.to_string() }) }
        };
        in_range("loss", self.loss, 1.0)?;
        in_range("duplicate", self.duplicate, 1.0)?;
        in_range("reorder", self.reorder, 1.0)?;
        in_range("delay_ms", self.delay_ms, HELD_MS_MAX)?;
        in_range("jitter_ms", self.jitter_ms, HELD_MS_MAX)?;
        in_range("reorder_ms", self.reorder_ms, HELD_MS_MAX)?;
        in_range("queue_ms", self.queue_ms, HELD_MS_MAX)?;
        match self.octets_per_second {
            Some(0) => Err(FaultsError::Value { table, key: "octets_per_second", value: "0".to_owned() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rules, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("to be written");
        Rules::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn ok_what_is_not_written_does_nothing() {
        assert_eq!(read(""), Ok(Rules::default()));
        let rules = read("seed = 7\n[both]\nloss = 0.05\n[from_b]\nvanish_above_octets = 600\n[forge]\nresets = true");
        let rules = rules.expect("good rules");
        assert_eq!((rules.seed, rules.both.loss, rules.from_a), (7, 0.05, None));
        assert_eq!(rules.from_b.and_then(|rules| rules.vanish_above_octets), Some(600));
        assert!(rules.forge.resets && rules.forge.answers.is_empty());
        let forge = read("[forge]\nanswers = [\"wrong-id\", \"guesses\"]").expect("good rules").forge;
        assert_eq!(forge.answers, [Forgery::WrongId, Forgery::Guesses]);
    }

    #[test]
    fn err_what_means_nothing_is_named() {
        for (text, named) in [
            ("[both]\nloss = 1.5", "both.loss cannot be 1.5"),
            ("[from_a]\nduplicate = -0.1", "from_a.duplicate cannot be -0.1"),
            ("[both]\nreorder = nan", "both.reorder cannot be NaN"),
            ("[from_b]\ndelay_ms = 60001", "from_b.delay_ms cannot be 60001"),
            ("[both]\noctets_per_second = 0", "both.octets_per_second cannot be 0"),
            ("[forge]\nguesses = 70000", "forge.guesses cannot be 70000"),
            ("[both]\nlosss = 0.1", "unknown field `losss`"),
            ("[forge]\nanswers = [\"right\"]", "unknown variant `right`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
