//! Choices made from octets. When they run out every choice is zero, so each input means something and seeds
//! can be written by hand.

use parallax_validation::base::Entropy;

/// Octets to make choices from.
#[derive(Debug)]
pub struct Feed<'a>(pub &'a [u8]);

impl<'a> Feed<'a> {
    /// Whether they have run out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One octet.
    pub fn octet(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Two octets, high one first.
    pub fn pair(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    /// Eight octets.
    pub fn eight(&mut self) -> u64 {
        (0..8).fold(0, |value, _| value << 8 | u64::from(self.octet()))
    }

    /// One of several.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[usize::from(self.octet()) % of.len()]
    }

    /// Up to `count` octets.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As many octets as the first says, if there are so many.
    pub fn counted(&mut self) -> &'a [u8] {
        let count = usize::from(self.octet());
        self.take(count)
    }
}

/// Bits that are the same in every run.
#[derive(Debug)]
pub struct Bits(pub u64);

impl Entropy for Bits {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 33)
    }
}
