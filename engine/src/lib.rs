//! The engine: asks one primary and n remote perspectives, counts what they saw under the policy row in
//! force, writes the record, and only then releases the verdict.
//!
//! * [`config`]: settings, cross-checked once.
//! * [`tally`]: the lock-free count of one attempt.
//! * [`admission`]: whose request is begun next.
//! * [`corroborate`]: the threads that carry attempts from request to released verdict.
//! * [`log`]: what somebody may have to look at.
//! * [`journal`]: durable, hash-chained records.
//! * [`retention`]: how long records are kept.
//! * [`upkeep`]: indexes and removal beside a running writer.
//! * [`index`]: which records of a segment have what is looked for.
//! * [`audit`]: reading a journal back, and recomputing it.
//! * [`captures`]: packets of attempts that deserve a closer look.
//! * [`bulk`]: bulk files in, results out, resumable.
//! * [`plan`]: capacity planning.
//! * [`preflight`]: what a check would meet, before there is one.
//! * [`serve`]: the engine as a service: its own API over gRPC and REST.
//! * [`mod@watch`]: alarms and patterns out of a journal, in a process of their own.

pub mod admission;
pub mod answer;
pub mod audit;
pub mod bulk;
pub mod captures;
pub mod cohort;
pub mod config;
pub mod corroborate;
pub mod find;
pub mod index;
pub mod input;
pub mod journal;
pub mod log;
pub mod methods;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod prove;
pub mod retention;
pub mod serve;
pub mod show;
mod sync;
pub mod tally;
pub mod upkeep;
pub mod watch;
