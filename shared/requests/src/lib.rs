//! State machine of a device's requests, from the claim of a request to its final status.
//!
//! A [`Device`] holds the open requests of a thing and those that ended last. Requests change their state only in
//! [`Device::apply`], which takes an [`Event`] and returns its outcome as a [`Verdict`]. The crate knows neither AWS nor
//! Coiote, and no clock but the time in the event, so the same events always lead to the same state. Therefore the ledger can
//! append events and apply them later, and a test can explore the orders in which they come.
//!
//! ```text
//!            claim                 handed over               result, report
//!   absent ────────▶ HELD ───────────────────▶ SCHEDULED ───────────────────▶ ENDED
//!                    │  ▲ due, redrive             │ lifetime over, taken back  ▲
//!        surely not, │  │                          └────────────────────────────┤
//!          perhaps   ▼  │                                                       │
//!                   WAITING ────────────────────────────────────────────────────┘
//!                            lifetime over, taken back, overtaken
//! ```

#![warn(missing_docs)]

mod answer;
mod canceled_by;
mod copy;
mod deletions;
mod device;
mod digest;
mod event;
mod matching;
mod record;
mod transitions;

pub use answer::Answer;
pub use canceled_by::CanceledBy;
pub use copy::{RequestCopy, in_seconds, request_copies, timestamp};
pub use device::{Device, DueAction, REPORT_REQUESTS, ResultEntry};
pub use digest::{content_digest, request_digest};
pub use event::{
    Cancel, Claim, ClaimDue, Created, DatamodelWrite, Event, Folded, History, NotHandedOver, NotWoken, PastRequest,
    ReportStatus, Reported, ResultReceived,
};
pub use matching::{
    NamedPaths, covered_hashes, excluded_hash, keys_overlap, partial_hash, path_hash, possible_failed_keys,
};
pub use record::{
    CANCEL_REQUEST, DELETE, FIELDS, Name, Reason, Record, State, Status, code, has_result, is_write, may_run_twice,
};
pub use transitions::{SAME_TOKEN_WINDOW, VERSION_KEPT, Verdict, is_long_after, token_key};

/// Milliseconds since 1970.
pub type Millis = u64;
