//! Folding: how a reported result changes the datamodel shadow. No I/O; [`DatamodelShadows`](crate::DatamodelShadows) makes
//! the calls.
//!
//! The document of the datamodel shadow has the form object name → object instance → resource name → value. Every value is a
//! string; a resource or a resource instance without a value is `{"noValue": true}`; a multiple resource is an object of
//! resource instances, `{}` where it has none.
//!
//! - [`change`]: the change that a result asks for; `result` parses it.
//! - [`scope`]: the scope of a read, within which places that the result does not mention are removed.
//! - [`other_results`]: other results of the device, from the ledger.
//! - `decision`: which parts of a change may be written onto the document; `update` is the outcome.
//! - `fold`: the order of the calls.
//! - `place`: places in the document.
//!
//! # Why a fold never goes back
//!
//! Results come late, twice and in any order, several environments fold at the same time, and Coiote writes into the same
//! shadow when a device registers, notifies or sends. A result is older than another if the operation shadow carried it with
//! a lower version. A deletion, which no shadow carries, has its place by the time at which the device ran it, and is in the ledger
//! only after its fold. Three steps, in this order, keep an older result from hiding a newer one:
//!
//! 1. Before a result is folded, it is registered in the ledger with the fingerprint of the paths that it touches.
//! 2. A fold reads the datamodel shadow, and then the ledger.
//! 3. It writes on the condition that the datamodel shadow still has the version that was read.
//!
//! A newer result that was registered when the ledger was read is known, and the places that it touches are left alone. A
//! newer result that registers later reads the datamodel shadow later, too: either it finds the values of the older one, or
//! its own write comes first and the older one's condition fails. For that it writes even values that are there already, while
//! an older result may be under way.
//!
//! Writes of Coiote are known only by their time: a resource whose metadata are later than the report of the result stays
//! unchanged. To keep the late write of an older result from being taken for a write of Coiote, the ledger keeps the time of
//! each fold's write; a newer result waits for a fold under way that may have written.
//!
//! # Limits
//!
//! - Times in shadows are in seconds. A notification in the same second as the result's report cannot be distinguished from
//!   an older value: the result wins.
//! - The same is true for a notification in the second in which an older result of the same resource was written late.
//! - If the fold of an older result broke off, or AWS IoT's answer to its write was lost, the time of its write is not known.
//!   Values of the resources that it touches then give way to the newer result, even if a notification wrote them between the
//!   newer result's report and its fold.
//! - Fingerprints are hashes of 32 bits. If two paths of a device have the same hash, an older result may keep a value that it
//!   should have overwritten, until the value is read again. For a notification to give way, the same second is needed, too.

pub mod change;
mod decision;
pub(crate) mod fold;
pub mod other_results;
mod place;
mod result;
pub mod scope;
mod update;

pub use change::Change;
pub use decision::latest_time;
pub use fold::{FoldOutcome, Revision};
pub use other_results::{EarlierResult, OtherResults};
pub use scope::Scope;

/// The only key of the object that marks a resource or a resource instance without a value.
const NO_VALUE: &str = "noValue";

#[cfg(test)]
mod tests;
