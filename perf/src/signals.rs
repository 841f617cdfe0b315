//! Signals that end a long command in order: Ctrl-C, a wish to end, and a terminal that goes.
//!
//! The last is left alone where it is ignored already, as `nohup` has it.

use std::{
    fs, io,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A flag that is set once one of them comes.
///
/// # Errors
/// The system does not let them be handled.
pub fn end_flag() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in ending(&status) {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// Those signals, for a process of this `/proc/…/status`.
fn ending(status: &str) -> Vec<i32> {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // The bit of signal 1 is the lowest.
    let is_ignored = |signal: i32| ignored >> (signal - 1) & 1 == 1;
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn ok_a_terminal_that_goes_ends_a_command_unless_that_is_ignored() {
        assert_eq!(ending("Name:\tx\nSigIgn:\t0000000000001000\n"), [SIGINT, SIGTERM, SIGHUP]);
        assert_eq!(ending(""), [SIGINT, SIGTERM, SIGHUP]);
        assert_eq!(ending("SigIgn:\t0000000000000003\n"), [SIGINT, SIGTERM]);
    }

    #[test]
    fn ok_each_of_them_sets_the_flag() {
        let status = fs::read_to_string("/proc/self/status").expect("a status");
        for signal in ending(&status) {
            let flag = end_flag().expect("handled");
            signal_hook::low_level::raise(signal).expect("raised");
            assert!(flag.load(Ordering::Relaxed), "{signal}");
        }
    }
}
