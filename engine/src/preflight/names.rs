//! Names for a preflight: all of them are read and checked before anything is sent.

use std::{
    collections::HashSet,
    io::Read,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use parallax_validation::{
    base::{limits::NAME_OCTETS_MAX, octets::escape},
    request::{CheckRequest, Identifier, RawRequest, RequestRules},
};
use thiserror::Error;

/// Names of one run.
pub const NAMES_MAX: usize = 100_000;
/// Octets of a file of names: each with a line end and some room for remarks.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Names that cannot be used of which a message tells.
const BAD_LISTED_MAX: usize = 20;
/// Octets of a line that a message shows.
const SHOWN_BYTES: usize = 80;
/// Octets of a label (RFC 1035 §2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// Names that cannot be used. Nothing was sent.
#[derive(Debug, Error)]
pub enum NamesError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is too long.
    #[error("{}: longer than {FILE_BYTES_MAX} octets", .0.display())]
    TooLong(PathBuf),
    /// There are too many.
    #[error("more than {NAMES_MAX} names; split them over several runs")]
    TooMany,
    /// There is none.
    #[error("no name is given")]
    None,
    /// The label of the challenge name.
    #[error(
        "--challenge-label '{0}': labels of letters, digits, hyphens and underscores are wanted, such as _acme-challenge"
    )]
    Label(String),
    /// Some cannot be checked.
    #[error("{}", .0.as_text())]
    Bad(BadNames),
}

/// Names that cannot be checked.
#[derive(Debug, Default)]
pub struct BadNames {
    /// Of the first of them, where they stand and what is wrong.
    pub listed: Vec<String>,
    /// How many there are.
    pub count: usize,
}

impl BadNames {
    fn add(&mut self, text: String) {
        self.count += 1;
        if self.listed.len() < BAD_LISTED_MAX {
            self.listed.push(text);
        }
    }

    fn as_text(&self) -> String {
        let more = self.count - self.listed.len();
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let names = if self.count == 1 { "name" } else { "names" };
        format!("{} {names} cannot be checked, and nothing was sent:\n  {}{more}", self.count, self.listed.join("\n  "))
    }
}

/// Reads names from lines; `#` begins a remark. `-` is standard input.
///
/// # Errors
/// The file cannot be read, or is too long.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, NamesError> {
    let failed = |error| NamesError::File { path: path.to_owned(), error };
    let reader: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut octets = Vec::new();
    reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > FILE_BYTES_MAX { Err(NamesError::TooLong(path.to_owned())) } else { Ok(octets) }
}

/// The lines of a file that hold names, with their numbers.
pub(super) fn lines(octets: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    octets.split(|octet| *octet == b'\n').enumerate().filter_map(|(index, line)| {
        let name = line.split(|octet| *octet == b'#').next().unwrap_or_default().trim_ascii();
        (!name.is_empty()).then_some((index + 1, name))
    })
}

/// How names are checked.
pub(super) struct Checking<'a> {
    /// What requests are held against.
    pub(super) rules: &'a RequestRules,
    /// Labels of the challenge name before the name.
    pub(super) challenge_label: &'a str,
    /// The instant.
    pub(super) now: Timestamp,
}

impl Checking<'_> {
    /// Whether the challenge label is one.
    ///
    /// # Errors
    /// It is not.
    fn check_label(&self) -> Result<(), NamesError> {
        let is_label = |label: &str| {
            (1..=LABEL_OCTETS_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        let fits = self.challenge_label.len() < NAME_OCTETS_MAX && self.challenge_label.split('.').all(is_label);
        if fits { Ok(()) } else { Err(NamesError::Label(escape(self.challenge_label.as_bytes()))) }
    }

    /// The request that asks CAA of a name, or of a wildcard.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(super) fn request(&self, name: &str, id: &str) -> Result<CheckRequest, String> {
        let raw = RawRequest { identifier: name.to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
        let request = CheckRequest::parse(raw, id, self.rules, self.now).map_err(|error| error.to_string())?;
        match &request.identifier {
            Identifier::Name(domain) | Identifier::Wildcard(domain) => {
                let octets = self.challenge_label.len() + 1 + domain.as_str().len();
                if octets > NAME_OCTETS_MAX {
                    return Err(format!("its challenge name has {octets} octets; {NAME_OCTETS_MAX} are the limit"));
                }
            }
            Identifier::Ip(_) | Identifier::Mailbox(_) => return Err("no domain name".to_owned()),
        }
        Ok(request)
    }

    /// Checks names, each given with where it stands. A name that is there twice is checked once.
    ///
    /// # Errors
    /// Every name at fault, or too many of them.
    pub(super) fn all<'n>(
        &self,
        names: impl Iterator<Item = (Option<usize>, &'n [u8])>,
    ) -> Result<Vec<Box<str>>, NamesError> {
        self.check_label()?;
        let mut bad = BadNames::default();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        let mut kept = Vec::new();
        for (line, octets) in names {
            let read = std::str::from_utf8(octets).map_err(|_| "not UTF-8".to_owned());
            match read.and_then(|name| self.request(name, "preflight")) {
                Ok(request) => {
                    let name: Box<str> = request.identifier.to_string().into();
                    if seen.insert(name.clone()) {
                        kept.push(name);
                    }
                }
                Err(problem) => {
                    let shown = escape(octets.get(..SHOWN_BYTES).unwrap_or(octets));
                    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                    bad.add(format!("{place}{shown}: {problem}"));
                }
            }
            if kept.len() > NAMES_MAX {
                return Err(NamesError::TooMany);
            }
        }
        match (bad.count, kept.is_empty()) {
            (0, false) => Ok(kept),
            (0, true) => Err(NamesError::None),
            _ => Err(NamesError::Bad(bad)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(label: &str, text: &str) -> Result<Vec<String>, String> {
        let rules = RequestRules::default();
        let now = "2026-11-25T12:00:00Z".parse().expect("an instant");
        let checking = Checking { rules: &rules, challenge_label: label, now };
        let names = checking.all(lines(text.as_bytes()).map(|(line, name)| (Some(line), name)));
        names.map(|names| names.iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn ok_lines_with_remarks_and_names_that_come_twice() {
        let text = "# all of ours\ncustomer.example\r\n\n  *.customer.example # wildcard\nCustomer.Example\nb.example";
        let names = check("_acme-challenge", text).expect("good names");
        assert_eq!(names, ["customer.example", "*.customer.example", "b.example"]);
    }

    #[test]
    fn err_every_bad_name_is_told_with_its_line_and_escaped() {
        let error = check("_acme-challenge", "good.example\n192.0.2.1\nb\u{fc}cher.example\ncom\na\u{1b}[2J.example")
            .expect_err("bad names");
        for wants in [
            "4 names cannot be checked, and nothing was sent",
            "line 2: 192.0.2.1: ",
            "write xn--bcher-kva.example",
            "line 4: com: ",
            "line 5: a\\x1b[2J.example",
        ] {
            assert!(error.contains(wants), "{wants}: {error}");
        }
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }

    #[test]
    fn err_no_name_too_many_names_and_a_bad_label() {
        assert_eq!(check("_acme-challenge", "# nothing\n"), Err("no name is given".to_owned()));
        for label in ["", "a b", "_a..b", "Upper", &"a".repeat(64)] {
            let error = check(label, "customer.example").expect_err(label);
            assert!(error.starts_with("--challenge-label"), "{error}");
        }
        assert!(check("_ujmmovf2vn55tgye._acme-challenge", "customer.example").is_ok());
        let many: String = (0..=NAMES_MAX).map(|n| format!("n{n}.example\n")).collect();
        let error = check("_acme-challenge", &many).expect_err("too many");
        assert!(error.starts_with("more than 100000 names"), "{error}");
        let long = format!("{}.example", ["abcdefg"; 30].join("."));
        let error = check("_acme-challenge", &long).expect_err("too long with the label");
        assert!(error.contains("its challenge name has 263 octets"), "{error}");
    }
}
