//! A directory of captures with bounds on its size and age: what may be removed, and what is.
//!
//! Left out are the names, which are their owner's: it says which files are captures of its own.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use thiserror::Error;

use super::{CaptureSettings, pcap};

/// Only the owner may look into the directory, and into a capture.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Octets that a filesystem gives out at a time, mostly.
const BLOCK_OCTETS: u64 = 4096;
/// What a file takes beside its octets: an inode and an entry of its directory.
const FILE_OCTETS: u64 = 1024;

/// What a capture of so many octets counts for. Without it files of next to nothing would be without bound.
fn charge(octets: u64) -> u64 {
    octets.next_multiple_of(BLOCK_OCTETS) + FILE_OCTETS
}

/// Captures cannot be kept there.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The directory cannot be made or read.
    #[error("captures: {}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No thread to write with.
    #[error("captures: no thread could be started: {0}")]
    Thread(io::Error),
}

/// A directory of captures.
pub struct Directory {
    path: PathBuf,
    octets_max: u64,
    age_max: Duration,
    /// What each capture counts for, in octets, by when it was written and its name.
    files: BTreeMap<(SystemTime, String), u64>,
    /// What all of them count for, and those that could not be removed.
    octets: u64,
}

impl Directory {
    /// With the captures that are there, by what `is_capture` says of a name, less those that are beyond the bounds.
    ///
    /// # Errors
    /// The directory cannot be made, or not be read.
    pub fn open(
        settings: &CaptureSettings,
        is_capture: impl Fn(&str) -> bool,
        now: SystemTime,
    ) -> Result<Self, CaptureError> {
        let path = settings.directory.clone();
        let failed = |error| CaptureError::Directory { path: path.clone(), error };
        if !path.is_dir() {
            DirBuilder::new().mode(DIRECTORY_MODE).create(&path).map_err(failed)?;
        }
        let files = captures_in(&path, is_capture).map_err(failed)?;
        let octets = files.values().sum();
        let mut directory = Self { path, octets_max: settings.octets_max, age_max: settings.age_max, files, octets };
        directory.remove_old(now);
        directory.make_room(0);
        Ok(directory)
    }

    /// Writes a capture, and removes those that are too old and the oldest ones that are too many with it.
    ///
    /// # Errors
    /// It is no capture, there already or larger than all may be, or the system does not take it.
    pub fn write(&mut self, name: String, capture: &[u8], now: SystemTime) -> io::Result<()> {
        // Whoever writes without a pause looks through them nowhere else.
        self.remove_old(now);
        if !pcap::is_capture_file(capture) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no capture"));
        }
        let octets = charge(capture.len() as u64);
        if octets > self.octets_max {
            return Err(io::Error::other("it alone is larger than all captures may be"));
        }
        if !self.make_room(octets) {
            return Err(io::Error::other("captures that cannot be removed leave no room for it"));
        }
        let path = self.path.join(&name);
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        if let Err(error) = write_whole(file, capture) {
            // Half a capture is none.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.octets += octets;
        self.files.insert((now, name), octets);
        Ok(())
    }

    /// Removes what has had its time.
    pub fn remove_old(&mut self, now: SystemTime) {
        while let Some(oldest) = self.files.first_entry() {
            // One from the future has no age yet.
            let age = now.duration_since(oldest.key().0).unwrap_or_default();
            if age <= self.age_max {
                return;
            }
            let ((_, name), octets) = oldest.remove_entry();
            self.remove(&name, octets);
        }
    }

    /// False if what is left cannot be removed.
    fn make_room(&mut self, octets: u64) -> bool {
        while self.octets + octets > self.octets_max
            && let Some(((_, name), freed)) = self.files.pop_first()
        {
            self.remove(&name, freed);
        }
        self.octets + octets <= self.octets_max
    }

    /// One that somebody else has removed already is gone all the same. One that cannot be removed counts on; it is tried
    /// again when the directory is next opened.
    fn remove(&mut self, name: &str, octets: u64) {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("{}: cannot be removed: {error}", path.display());
            }
            Ok(()) | Err(_) => self.octets -= octets,
        }
    }
}

fn write_whole(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}

fn captures_in(path: &Path, is_capture: impl Fn(&str) -> bool) -> io::Result<BTreeMap<(SystemTime, String), u64>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Of the entry itself: a link leads to what is not ours.
        let about = entry.metadata()?;
        if is_capture(&name) && about.is_file() {
            files.insert((about.modified()?, name), charge(about.len()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use parallax_protocol::AttemptId;
    use tempfile::TempDir;

    use super::{
        super::{Capture, is_capture},
        *,
    };

    fn settings(directory: &TempDir) -> CaptureSettings {
        let directory = directory.path().join("captures");
        CaptureSettings { directory, octets_max: 3 * charge(300), age_max: Duration::from_secs(3600) }
    }

    /// With so many octets after its header.
    fn capture(nth: u8, octets: usize) -> Capture {
        let ended = format!("2026-12-15T00:00:{nth:02}Z").parse().expect("an instant");
        let file = [pcap::compose(&[], ended), vec![nth; octets]].concat();
        Capture { attempt: AttemptId(u128::from(nth)), ended, file }
    }

    impl Directory {
        fn take(&mut self, capture: &Capture, now: SystemTime) -> io::Result<()> {
            self.write(capture.name(&"ams1".parse().expect("an id")), &capture.file, now)
        }
    }

    fn names(settings: &CaptureSettings) -> Vec<String> {
        let entries = fs::read_dir(&settings.directory).expect("the directory");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_capture_is_for_its_owner_alone_and_its_name_says_which_it_is() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        directory.take(&capture(7, 10), now).expect("written");
        let names = names(&settings);
        let name = format!("20261215T000007.000Z-{}-ams1.pcap", AttemptId(7));
        assert_eq!(names.join(" "), name);
        let path = settings.directory.join(name);
        assert_eq!(fs::read(&path).expect("the file"), capture(7, 10).file);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&settings.directory)), (0o600, 0o700));
        // The same again is not written over.
        assert!(directory.take(&capture(7, 20), now).is_err());
        assert_eq!(fs::read(&path).expect("the file"), capture(7, 10).file);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_octets_and_at_the_next_start() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        for nth in 0..10 {
            directory.take(&capture(nth, 300), now).expect("written");
            let octets: u64 = names(&settings)
                .iter()
                .map(|name| charge(fs::metadata(settings.directory.join(name)).expect("there").len()))
                .sum();
            assert!(octets <= settings.octets_max, "{octets}");
        }
        let kept = names(&settings);
        assert!(kept.len() == 3 && kept[0].starts_with("20261215T000007"), "{kept:?}");
        assert!(directory.take(&capture(30, 4 * BLOCK_OCTETS as usize), now).is_err());
        assert_eq!(names(&settings).len(), 3, "nothing goes for one that is too large");
        let smaller = CaptureSettings { octets_max: charge(300), ..settings.clone() };
        drop(directory);
        Directory::open(&smaller, is_capture, now).expect("opened");
        assert_eq!(names(&settings), kept[2..]);
    }

    #[test]
    fn what_is_too_old_goes_and_what_is_no_capture_stays() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        let others = ["notes.pcap", "20261215T000000.000Z-x.txt", "20261215T00000a.000Z-1-ams1.pcap", "Ünï.pcap"];
        for other in others {
            fs::write(settings.directory.join(other), [0; 2000]).expect("written");
        }
        directory.take(&capture(1, 10), now).expect("written");
        directory.remove_old(now + Duration::from_secs(3600));
        assert_eq!(names(&settings).len(), others.len() + 1, "just not too old");
        directory.remove_old(now + Duration::from_secs(3601));
        assert_eq!(names(&settings).len(), others.len());
        directory.take(&capture(2, 10), now).expect("written");
        Directory::open(&settings, is_capture, now + Duration::from_secs(2 * 3600)).expect("opened");
        let mut expected = others.map(str::to_owned);
        expected.sort();
        assert_eq!(names(&settings), expected);
    }

    #[test]
    fn captures_of_next_to_nothing_are_bounded_in_number_too() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        for nth in 0..10 {
            directory.take(&capture(nth, 0), now).expect("written");
        }
        assert_eq!(names(&settings).len(), 3);
        let smaller = CaptureSettings { octets_max: 2 * charge(1), ..settings.clone() };
        Directory::open(&smaller, is_capture, now).expect("opened");
        assert_eq!(names(&settings).len(), 2, "those that are there count as much");
    }

    #[test]
    fn what_is_no_capture_is_not_written() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        let good = capture(1, 0).file;
        let mut without_magic = good.clone();
        without_magic[0] ^= 1;
        for file in [Vec::new(), good[..good.len() - 1].to_vec(), without_magic, vec![0; 100]] {
            assert!(directory.take(&Capture { file, ..capture(1, 0) }, now).is_err());
        }
        assert!(names(&settings).is_empty());
    }

    #[test]
    fn what_is_too_old_goes_while_others_come() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        directory.take(&capture(1, 10), now).expect("written");
        directory.take(&capture(2, 10), now + settings.age_max + Duration::from_secs(1)).expect("written");
        let kept = names(&settings);
        assert!(kept.len() == 1 && kept[0].starts_with("20261215T000002"), "{kept:?}");
    }

    #[test]
    fn a_capture_that_cannot_be_removed_counts_on() {
        let place = TempDir::new().expect("a directory");
        let settings = settings(&place);
        let now = SystemTime::now();
        let mut directory = Directory::open(&settings, is_capture, now).expect("made");
        directory.take(&capture(0, 10), now).expect("written");
        let stuck = settings.directory.join(&names(&settings)[0]);
        // No file can be removed that is a directory, not even by root.
        fs::remove_file(&stuck).and_then(|()| fs::create_dir(&stuck)).expect("replaced");
        for nth in 1..10 {
            directory.take(&capture(nth, 10), now).expect("written");
        }
        assert_eq!(names(&settings).len(), 3, "itself and two captures");
        // One that is gone already does not count on.
        fs::remove_file(settings.directory.join(&names(&settings)[1])).expect("removed");
        for nth in 11..20 {
            directory.take(&capture(nth, 10), now).expect("written");
        }
        assert_eq!(names(&settings).len(), 3);
    }
}
