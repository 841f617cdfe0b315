//! An inquiry on its way: what was asked and answered so far.

use std::borrow::Cow;

use crate::{
    observation::{DnsLookup, RecordType},
    plan::inquiry::Inquiry,
};

/// The questions of one inquiry, asked one after another.
#[derive(Debug, Default)]
pub(super) struct Asking {
    inquiry: Option<Inquiry>,
    seen: Vec<DnsLookup>,
    asked: usize,
}

impl Asking {
    /// Nothing to ask if there is no inquiry.
    pub(super) fn new(inquiry: Option<Inquiry>) -> Self {
        Self { inquiry, seen: Vec::new(), asked: 0 }
    }

    fn next(&self) -> Option<(Cow<'_, str>, RecordType)> {
        self.inquiry.as_ref()?.next(&self.seen)
    }

    /// The question that is due; given once.
    pub(super) fn take_due(&mut self) -> Option<(String, RecordType)> {
        let (name, rtype) = self.next().filter(|_| self.asked == self.seen.len())?;
        let due = (name.into_owned(), rtype);
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
    pub(super) fn is_done(&self) -> bool {
        self.asked == self.seen.len() && self.next().is_none()
    }

    /// The lookup that ended it, if it has ended.
    pub(super) fn last(&self) -> Option<&DnsLookup> {
        self.seen.last().filter(|_| self.is_done())
    }

    /// Asks nothing more.
    pub(super) fn end(&mut self) {
        self.inquiry = None;
        self.asked = self.seen.len();
    }

    /// The answers.
    pub(super) fn take(&mut self) -> Vec<DnsLookup> {
        std::mem::take(&mut self.seen)
    }
}
