//! An inquiry on its way: what was asked and answered so far.

use std::borrow::Cow;

use thin_vec::ThinVec;

use crate::{
    observation::{DnsLookup, RecordType},
    plan::inquiry::Inquiry,
};

/// The questions of one inquiry, asked one after another. The inquiry is the plan's, and is handed in; without one there
/// is nothing to ask.
#[derive(Debug, Default)]
pub(super) struct Asking {
    seen: ThinVec<DnsLookup>,
    asked: u32,
    is_cut_off: bool,
}

impl Asking {
    fn next<'p>(&self, inquiry: Option<&'p Inquiry>) -> Option<(Cow<'p, str>, RecordType)> {
        inquiry.filter(|_| !self.is_cut_off)?.next(&self.seen)
    }

    /// Whether every question so far has its answer.
    fn is_answered(&self) -> bool {
        self.asked as usize == self.seen.len()
    }

    /// The question that is due; given once.
    pub(super) fn take_due<'p>(&mut self, inquiry: Option<&'p Inquiry>) -> Option<(Cow<'p, str>, RecordType)> {
        let due = self.next(inquiry).filter(|_| self.is_answered())?;
        self.asked += 1;
        Some(due)
    }

    /// An answer, in the order of the questions.
    pub(super) fn note(&mut self, lookup: DnsLookup) {
        // Most inquiries have one answer.
        if self.seen.is_empty() {
            self.seen.reserve_exact(1);
        }
        self.seen.push(lookup);
    }

    /// Whether everything was answered.
    pub(super) fn is_done(&self, inquiry: Option<&Inquiry>) -> bool {
        self.is_answered() && self.next(inquiry).is_none()
    }

    /// The lookup that ended it, if it has ended.
    pub(super) fn last(&self, inquiry: Option<&Inquiry>) -> Option<&DnsLookup> {
        self.seen.last().filter(|_| self.is_done(inquiry))
    }

    /// Asks nothing more.
    pub(super) fn cut_off(&mut self) {
        self.is_cut_off = true;
        self.asked = self.seen.len() as u32;
    }

    /// The answers.
    pub(super) fn take(&mut self) -> ThinVec<DnsLookup> {
        std::mem::take(&mut self.seen)
    }
}
