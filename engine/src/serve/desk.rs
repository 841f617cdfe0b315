//! Between callers that wait for one verdict each and the engine that takes requests and releases verdicts.
//!
//! Invariant: every request that was taken is answered once, or its caller learns that the engine goes down. What a
//! caller that went away had asked is carried out and recorded all the same.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam::channel::{Receiver, Sender};
use parallax_validation::{record::Record, request::CheckRequest};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::corroborate::{Corroborator, EngineError, Released};

/// Why a request got no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// As many requests of this caller are under way as it may have.
    #[error("too many requests of this caller are under way")]
    CallerBusy,
    /// As many requests are under way as may be.
    #[error("too many requests are under way")]
    Busy,
    /// The engine has stopped or is about to; nothing was released for this request.
    #[error("the engine is going down")]
    Stopped,
}

/// Who waits for a verdict. Its place is free when that is released, whether it is still waited for or not.
struct Waiting {
    answer: oneshot::Sender<Answered>,
    place: Place,
}

/// A verdict, and the caller's own place: free once the answer is on its way, if it keeps that so long.
type Answered = (Box<Record>, OwnedSemaphorePermit);

struct Shared {
    /// By tag.
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
    /// No verdict will be released any more.
    ended: AtomicBool,
    refused: AtomicU64,
    answered: AtomicU64,
}

impl Shared {
    /// No code that holds the lock can panic half-way through a change.
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one request, until its verdict is released.
#[derive(Debug)]
pub struct Place {
    of_caller: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

impl Place {
    /// Of a request that needs no verdict: the caller's own part, until its answer is on its way.
    pub fn of_caller(self) -> OwnedSemaphorePermit {
        self.of_caller
    }
}

/// Takes requests of all callers.
pub struct FrontDesk {
    line: Mutex<Option<Sender<(u64, CheckRequest)>>>,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    feeder: Mutex<Option<JoinHandle<Result<(), EngineError>>>>,
}

impl FrontDesk {
    /// Opens it before an engine; of all requests `in_flight_max` may wait or be under way at once.
    ///
    /// # Errors
    /// No thread.
    pub fn open(
        engine: Corroborator,
        released: Receiver<Vec<Released>>,
        in_flight_max: usize,
    ) -> std::io::Result<Self> {
        let (line, requests) = crossbeam::channel::unbounded();
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            ended: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let for_delivery = Arc::clone(&shared);
        std::thread::Builder::new().name("answers".to_owned()).spawn(move || deliver(&released, &for_delivery))?;
        let feeder = std::thread::Builder::new().name("requests".to_owned()).spawn(move || feed(engine, &requests))?;
        Ok(Self {
            line: Mutex::new(Some(line)),
            shared,
            places: Arc::new(Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS))),
            feeder: Mutex::new(Some(feeder)),
        })
    }

    /// A place for one request, if there is one now.
    ///
    /// # Errors
    /// The caller has too much under way, or all together have.
    pub fn admit_now(&self, caller: &Arc<Semaphore>) -> Result<Place, Unavailable> {
        let refused = |why| {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            why
        };
        let of_caller = Arc::clone(caller).try_acquire_owned().map_err(|_| refused(Unavailable::CallerBusy))?;
        let of_all = Arc::clone(&self.places).try_acquire_owned().map_err(|_| refused(Unavailable::Busy))?;
        Ok(Place { of_caller, of_all })
    }

    /// A place for one request, as soon as there is one.
    ///
    /// # Errors
    /// The engine goes down.
    pub async fn admit(&self, caller: &Arc<Semaphore>) -> Result<Place, Unavailable> {
        let gone = |_| Unavailable::Stopped;
        let of_caller = Arc::clone(caller).acquire_owned().await.map_err(gone)?;
        let of_all = Arc::clone(&self.places).acquire_owned().await.map_err(gone)?;
        Ok(Place { of_caller, of_all })
    }

    /// Carries a request out, for who has a place. With the verdict comes the caller's own part of it.
    ///
    /// # Errors
    /// The engine goes down.
    pub async fn corroborate(
        &self,
        request: CheckRequest,
        place: Place,
    ) -> Result<(Box<Record>, OwnedSemaphorePermit), Unavailable> {
        let tag = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, mut receiver) = oneshot::channel();
        self.shared.waiting().insert(tag, Waiting { answer, place });
        let sent = {
            let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            line.as_ref().is_some_and(|line| line.send((tag, request)).is_ok())
        };
        // Acquire: pairs with the store in `deliver`, which clears what was there before.
        if !sent || self.shared.ended.load(Ordering::Acquire) {
            self.shared.waiting().remove(&tag);
            return receiver.try_recv().map_err(|_| Unavailable::Stopped);
        }
        receiver.await.map_err(|_| Unavailable::Stopped)
    }

    /// Requests that wait or are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.waiting().len()
    }

    /// Requests refused because too much was under way.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Requests answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Whether the engine has stopped by itself or been told to.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Takes nothing more, and waits until everything under way is released and recorded. Blocks.
    ///
    /// # Errors
    /// Why the engine stopped by itself.
    pub fn close(&self) -> Result<(), EngineError> {
        drop(self.line.lock().unwrap_or_else(PoisonError::into_inner).take());
        let feeder = self.feeder.lock().unwrap_or_else(PoisonError::into_inner).take();
        feeder.map_or(Ok(()), |feeder| feeder.join().unwrap_or(Err(EngineError::Stopped)))
    }
}

/// Owns the engine.
fn feed(mut engine: Corroborator, requests: &Receiver<(u64, CheckRequest)>) -> Result<(), EngineError> {
    for (tag, request) in requests {
        if engine.submit_as(tag, request, None).is_err() {
            // Why it stopped is told by its end.
            break;
        }
    }
    engine.finish()
}

fn deliver(released: &Receiver<Vec<Released>>, shared: &Shared) {
    for batch in released {
        let mut found = Vec::with_capacity(batch.len());
        {
            let mut waiting = shared.waiting();
            for Released { record, tag, .. } in batch {
                found.push((waiting.remove(&tag), record));
            }
        }
        shared.answered.fetch_add(found.len() as u64, Ordering::Relaxed);
        for (waits, record) in found {
            let Some(Waiting { answer, place }) = waits else { continue };
            drop(place.of_all);
            // Who went away does not want it; it is in the journal.
            let _ = answer.send((Box::new(record), place.of_caller));
        }
    }
    // Release: pairs with the load in `corroborate`. What is inserted later is taken out there.
    shared.ended.store(true, Ordering::Release);
    shared.waiting().clear();
}
