//! How far the alarms of a journal are delivered: a small file, replaced as a whole.
//!
//! It names the entry and the journal's chain hash there, so that another journal, or one whose end was removed, is not
//! taken for this one.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

const FORM: u32 = 1;
const FILE_BYTES_MAX: u64 = 4_096;

/// A cursor file that cannot be used.
#[derive(Debug, Error)]
pub enum CursorError {
    /// What it says.
    #[error("{}: {problem}; move the file away to begin anew, and every alarm of the journal is told again", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process has it.
    #[error("{} is in use by another parallax watch", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    form: u32,
    /// The last entry all of whose alarms are delivered; 0 if there is none.
    sequence: u64,
    /// The chain hash there.
    chain: String,
}

/// A cursor; while it lives, no other process uses the file.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    content: Content,
    _lock: File,
}

impl Cursor {
    /// Opens it; one that does not exist stands at the begin.
    pub(crate) fn open(path: &Path) -> Result<Self, CursorError> {
        let failed = |error| CursorError::Io { path: path.to_owned(), error };
        let lock = File::options().create(true).append(true).open(beside(path, ".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CursorError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let content = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content { form: FORM, ..Content::default() },
            Err(error) => return Err(failed(error)),
            Ok(meta) => read(path, meta.len())?,
        };
        Ok(Self { path: path.to_owned(), content, _lock: lock })
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.content.sequence
    }

    /// Whether the journal's entry where it stands is the one it named.
    pub(crate) fn check(&self, chain: &str) -> Result<(), CursorError> {
        if chain == self.content.chain {
            return Ok(());
        }
        Err(self.unusable(format!("entry {} of the journal is not the one it names", self.content.sequence)))
    }

    /// That the journal has fewer entries.
    pub(crate) fn beyond(&self, last: u64) -> CursorError {
        self.unusable(format!("it names entry {}, and the journal ends at {last}", self.content.sequence))
    }

    fn unusable(&self, problem: String) -> CursorError {
        CursorError::Unusable { path: self.path.clone(), problem }
    }

    /// Moves it and makes that durable. It never moves back.
    pub(crate) fn advance(&mut self, sequence: u64, chain: String) -> Result<(), CursorError> {
        if sequence <= self.content.sequence {
            return Ok(());
        }
        let content = Content { form: FORM, sequence, chain };
        self.write(&content).map_err(|error| CursorError::Io { path: self.path.clone(), error })?;
        self.content = content;
        Ok(())
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        let text = serde_json::to_string(content).map_err(io::Error::other)?;
        let new = beside(&self.path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn read(path: &Path, length: u64) -> Result<Content, CursorError> {
    let unusable = |problem: String| CursorError::Unusable { path: path.to_owned(), problem };
    if length > FILE_BYTES_MAX {
        return Err(unusable(format!("{length} octets are no cursor")));
    }
    let text = fs::read(path).map_err(|error| CursorError::Io { path: path.to_owned(), error })?;
    let content: Content =
        serde_json::from_slice(&text).map_err(|error| unusable(format!("it is no cursor: {error}")))?;
    if content.form != FORM {
        return Err(unusable(format!("form {} is not known to this version", content.form)));
    }
    Ok(content)
}

/// The path with something added to its last part.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_and_never_moves_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let mut cursor = Cursor::open(&path).unwrap();
        assert_eq!(cursor.sequence(), 0);
        cursor.advance(7, "aa".to_owned()).unwrap();
        cursor.advance(5, "bb".to_owned()).unwrap();
        assert!(matches!(Cursor::open(&path), Err(CursorError::Locked { .. })));
        drop(cursor);
        let cursor = Cursor::open(&path).unwrap();
        assert_eq!(cursor.sequence(), 7);
        cursor.check("aa").unwrap();
        assert!(cursor.check("bb").unwrap_err().to_string().contains("entry 7"));
        assert!(!beside(&path, ".new").exists());
    }

    #[test]
    fn err_what_is_no_cursor_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let long = format!("{{\"form\":1,\"sequence\":1,\"chain\":\"{}\"}}", "a".repeat(5_000));
        for (text, wants) in [
            ("", "no cursor"),
            ("{\"form\":2,\"sequence\":1,\"chain\":\"\"}", "form 2"),
            ("{\"form\":1,\"sequence\":-1,\"chain\":\"\"}", "no cursor"),
            (long.as_str(), "octets are no cursor"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Cursor::open(&path).unwrap_err().to_string();
            assert!(error.contains(wants) && error.contains("cursor: "), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
