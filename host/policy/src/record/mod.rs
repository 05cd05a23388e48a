//! Decisions on paper: records of what a policy was asked and said, cases of what it should say, and what changes when
//! another one is asked.
//!
//! A decision is a function of its question, so a [`Record`] can be decided again at any time: by the same component, to
//! the same answer, or by another one, to see what would change ([`Comparison`]). A [`Case`] is a question with the answer
//! that is expected; a record is one, too. [`Meter`] decides with a count of instructions instead of a clock, so that a
//! cost is the same on every machine. [`Pseudonymiser`] takes the identities out of what is written down.
//!
//! The JSON of questions and answers is that of the contract, see [`restante_deferral::decision`].

mod case;
mod comparison;
mod feasible;
mod file;
mod json;
mod meter;
mod pseudonym;
#[expect(clippy::module_inception, reason = "the type that the module is about")]
mod record;
mod replay;
mod source;
mod typical;

pub use case::{Case, CaseFailure, CaseResult, CaseRunner, Expectation, ExpectedProblem, typical_host};
pub use comparison::{Agreement, Comparison, Difference, Group, Outcome};
pub use feasible::feasible;
pub use file::{RecordFileError, RecordReader, read_cases, write_record};
pub use json::{ShapeError, read_answer, read_question, settings_digest, write_answer, write_question};
pub use meter::{Measured, Meter, MeteredPolicy};
pub use pseudonym::Pseudonymiser;
pub use record::{FORMAT, Record};
pub use replay::{Replay, ReplayError};
pub use source::RecordSource;
pub use typical::{typical_question, typical_question_about, typical_question_json};
