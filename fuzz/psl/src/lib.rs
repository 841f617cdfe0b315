//! A public suffix list of one rule, the default `*`: every top-level domain is a suffix.

pub use psl_types::{Domain, Info, List as Psl, Suffix, Type};

/// The list.
pub struct List;

impl Psl for List {
    fn find<'a, T: Iterator<Item = &'a [u8]>>(&self, mut labels: T) -> Info {
        Info { len: labels.next().map_or(0, <[u8]>::len), typ: None }
    }
}

/// The public suffix of a domain.
pub fn suffix(name: &[u8]) -> Option<Suffix<'_>> {
    List.suffix(name)
}

/// The public suffix of a domain.
pub fn suffix_str(name: &str) -> Option<&str> {
    std::str::from_utf8(suffix(name.as_bytes())?.trim().as_bytes()).ok()
}

/// The registrable domain.
pub fn domain(name: &[u8]) -> Option<Domain<'_>> {
    List.domain(name)
}

/// The registrable domain.
pub fn domain_str(name: &str) -> Option<&str> {
    std::str::from_utf8(domain(name.as_bytes())?.trim().as_bytes()).ok()
}
