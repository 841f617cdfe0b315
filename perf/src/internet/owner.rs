//! Whose a laboratory's name is: a file below `/run` for each name, with the directory of the laboratory in it.
//!
//! Namespaces have names for the whole machine, and `down` ends all that runs in them. So who brings a laboratory up
//! writes down where its files are, and nobody takes it down from another directory. The file is locked while a
//! laboratory comes up or goes down, so that two commands do not do both at a time.
//!
//! Left out: protection from root, which may do as it likes with `ip netns`.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::error::InternetError;

/// Where the files are; what is there goes when the machine does, as namespaces do.
pub(super) const OWNERS: &str = "/run/parallax-internet";
/// A path is no longer than this, octets.
const OWNER_OCTETS_MAX: u64 = 4096;
/// How often a file is looked for that another command takes away meanwhile.
const TRIES_MAX: u32 = 8;

/// A name that is held: no other command brings a laboratory of it up or down meanwhile.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Holds a name, until this is dropped.
    ///
    /// # Errors
    /// Another command holds it, or the file cannot be had.
    pub(super) fn take(owners: &Path, name: &str) -> Result<Self, InternetError> {
        fs::create_dir_all(owners).map_err(InternetError::file(owners))?;
        let path = owners.join(name);
        for _ in 0..TRIES_MAX {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(InternetError::file(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(InternetError::Held { name: name.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(InternetError::File { path, error }),
            }
            // Whoever held it before may have taken away the file that was opened here.
            let locked = file.metadata().map_err(InternetError::file(&path))?;
            if fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Self { path, file });
            }
        }
        Err(InternetError::Held { name: name.to_owned() })
    }

    /// Where the files are of who brought it up; none if nobody wrote that down.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn owner(&mut self) -> Result<Option<PathBuf>, InternetError> {
        let mut octets = Vec::new();
        self.file.rewind().map_err(InternetError::file(&self.path))?;
        let read = (&self.file).take(OWNER_OCTETS_MAX).read_to_end(&mut octets);
        read.map_err(InternetError::file(&self.path))?;
        Ok((!octets.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&octets))))
    }

    /// Writes down that it is that of a directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn give_to(&mut self, directory: &Path) -> Result<(), InternetError> {
        let written = self.file.set_len(0).and_then(|()| self.file.rewind());
        let written = written.and_then(|()| self.file.write_all(directory.as_os_str().as_bytes()));
        written.map_err(InternetError::file(&self.path))
    }

    /// It is nobody's any more.
    ///
    /// # Errors
    /// The file cannot be taken away.
    pub(super) fn release(self) -> Result<(), InternetError> {
        fs::remove_file(&self.path).map_err(InternetError::file(&self.path))
    }
}

/// The directory with its whole path, whether or not it is there.
pub(super) fn full(directory: &Path) -> PathBuf {
    if let Ok(full) = directory.canonicalize() {
        return full;
    }
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_until_it_is_released() {
        let owners = tempfile::tempdir().unwrap();
        let claim = || Claim::take(&owners.path().join("owners"), "lab").unwrap();
        assert_eq!(claim().owner().unwrap(), None);
        claim().give_to(Path::new("/a/long/directory")).unwrap();
        claim().give_to(Path::new("/another")).unwrap();
        let mut again = claim();
        assert_eq!(again.owner().unwrap(), Some("/another".into()));
        again.release().unwrap();
        assert_eq!(claim().owner().unwrap(), None);
    }

    #[test]
    fn err_a_name_is_held_by_one_at_a_time() {
        let owners = tempfile::tempdir().unwrap();
        let held = Claim::take(owners.path(), "lab").unwrap();
        let error = Claim::take(owners.path(), "lab").unwrap_err();
        assert!(error.to_string().contains("\"lab\""), "{error}");
        Claim::take(owners.path(), "other").unwrap();
        drop(held);
        Claim::take(owners.path(), "lab").unwrap();
    }

    #[test]
    fn a_directory_that_is_gone_has_the_path_that_it_had() {
        let directory = tempfile::tempdir().unwrap();
        let lab = directory.path().join("lab");
        fs::create_dir(&lab).unwrap();
        let there = full(&lab.join("../lab"));
        fs::remove_dir(&lab).unwrap();
        assert_eq!(full(&lab), there);
    }
}
