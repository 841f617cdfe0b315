//! The capacity planner: from what a CA expects and what was measured to nodes, cores, memory, ports, resolvers,
//! octets, disk and money, for each date at which the rules change.
//!
//! * `demand`: what is expected, out of a file.
//! * `lifetimes`: the rules by date.
//! * `measured`, `times`, `curves`: what a request of each kind takes, by measurement.
//! * `reference`: a measurement that is built in, for those who have none of their own.
//! * `traffic`, `needs`, `model`: the arithmetic, without input or output.
//! * `expect`: the same for one engine in the laboratory, so that the arithmetic can be compared with a run.
//! * `what_if`: inputs halved and doubled.
//! * `basis`: what a plan assumes, and its formulae with numbers.
//! * `figures`, `text`, `html`, `svg`: how a plan is shown.
//!
//! It invents nothing: what was not measured is in the demand, named as such, or an error. `docs/planning.md` has the
//! formulae and their limits.

pub mod basis;
mod command;
pub mod curves;
pub mod demand;
pub mod expect;
mod figures;
#[cfg(test)]
mod fixture;
mod html;
pub mod lifetimes;
pub mod measured;
pub mod model;
pub mod needs;
mod reference;
mod svg;
#[cfg(test)]
mod tests;
mod text;
pub mod times;
pub mod traffic;
pub mod what_if;

pub use command::{PlanCommand, PlanError, run};
