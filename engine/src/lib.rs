//! The engine: asks one primary and n remote perspectives, counts what they saw under the policy row in
//! force, writes the record, and only then releases the verdict.
//!
//! * [`config`]: settings, cross-checked once.
//! * [`tally`]: the lock-free count of one attempt.
//! * [`corroborate`]: the threads that carry attempts from request to released verdict.
//! * [`journal`]: durable, hash-chained records.
//! * [`audit`]: reading a journal back, and recomputing it.
//! * [`bulk`]: bulk files in, results out, resumable.

pub mod audit;
pub mod bulk;
pub mod cohort;
pub mod config;
pub mod corroborate;
pub mod find;
pub mod input;
pub mod journal;
pub mod methods;
pub mod policy;
pub mod prove;
pub mod show;
pub mod tally;
