//! The datamodel shadow: what is known of the device's data model, folded together from results.
//!
//! Its form is object name → object instance → resource name → value. Every value is a string; a resource or a resource
//! instance without a value is `{"noValue": true}`; a multiple resource is an object of resource instances, `{}` where it
//! has none.
//!
//! - [`change`]: what a result says.
//! - [`scope`]: what was read, and so what is gone where the result does not name it.
//! - [`other_results`]: what the ledger knows of the device's other results.
//! - `decision`: what of a change may be written onto what stands there.
//! - `fold`: the order of the calls, without the calls.
//! - [`datamodel_shadow`](crate::datamodel_shadow): the calls.
//!
//! # Why a fold never goes back
//!
//! Results come late, twice and in any order, several environments fold at the same time, and Coiote writes into the same
//! shadow when a device registers, notifies or sends. A result is older than another one if the operation shadow carried it
//! with a lower version. Three steps, in this order, keep an older one from hiding a newer one:
//!
//! 1. Before it is folded, a result is registered in the ledger, with the fingerprint of what it touches.
//! 2. A fold reads the datamodel shadow, and then the ledger.
//! 3. It writes on the condition that the datamodel shadow still has the version that was read.
//!
//! A newer result that was registered when the ledger was read is known, and what it touches is left alone. One that
//! registers later reads the datamodel shadow later, too: either it finds what the older one wrote, or its own write comes
//! first and the older one's condition fails. For that it writes even what stands there already, while an older one may be
//! under way.
//!
//! What Coiote wrote by itself is known by its time only: a resource whose metadata are later than the report of the result
//! stays as it is. So that the late write of an older result is not taken for that, the ledger keeps when each fold wrote;
//! where a fold that may have written is under way, the newer one waits for it.
//!
//! # Limits
//!
//! - Shadows tell the time in seconds. A notification in the very second of the result's report cannot be told from what was
//!   there before it: the result wins.
//! - The same holds for a notification in the second in which an older result of the same resource was written late.
//! - Where the fold of an older result broke off, or AWS IoT's answer to its write was lost, nobody knows when it wrote. What
//!   stands in the resources that it touches then gives way to the newer result, even if a notification wrote it between the
//!   newer result's report and its fold.
//! - Fingerprints are hashes of 32 bits. When two paths of a device have the same one, an older result may keep what it
//!   should have overwritten, until it is read again; that a notification gives way needs the same second as well.

pub mod change;
mod decision;
pub(crate) mod fold;
pub mod other_results;
mod place;
pub mod scope;

pub use change::Change;
pub use fold::{FoldOutcome, Revision};
pub use other_results::{EarlierResult, OtherResults};
pub use scope::Scope;

/// The only key of a value that says that there is none.
const NO_VALUE: &str = "noValue";

#[cfg(test)]
mod tests;
