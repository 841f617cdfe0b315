//! Epoll with numbers instead of descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::error::{BareError, During as _};

/// Reports taken at a time.
const REPORTS_MAX: usize = 512;

pub(crate) struct Poll {
    epoll: OwnedFd,
    reports: Vec<Event>,
}

impl Poll {
    pub(crate) fn new() -> Result<Poll, BareError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).during("epoll")?;
        Ok(Poll { epoll, reports: Vec::with_capacity(REPORTS_MAX) })
    }

    /// Watches until the descriptor is closed.
    pub(crate) fn add(&self, descriptor: impl AsFd, number: usize, flags: EventFlags) -> Result<(), BareError> {
        epoll::add(&self.epoll, descriptor, EventData::new_u64(number as u64), flags).during("epoll")
    }

    /// Waits and gives the numbers of what is ready; none when the limit passed or a signal came.
    pub(crate) fn wait(
        &mut self,
        limit: Option<Duration>,
        ready: &mut Vec<(usize, EventFlags)>,
    ) -> Result<(), BareError> {
        let limit =
            limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
        ready.clear();
        self.reports.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.reports), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).during("epoll"),
        }
        ready.extend(self.reports.iter().map(|report| (report.data.u64() as usize, report.flags)));
        Ok(())
    }
}
