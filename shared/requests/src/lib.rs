//! A request's life, from the claim to the last word: one state machine for all requests of a device.
//!
//! A [`Device`] holds the open requests of a thing and those that ended last. [`Device::apply`] is the one place where a
//! request changes its state: it takes an [`Event`] and says what follows from it, in a [`Verdict`]. It knows neither AWS nor
//! Coiote, and no clock but the time that an event carries, so the same events always lead to the same state. That is what
//! lets a ledger keep events that were only appended, and lets a test explore every order of them.
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

mod answer;
mod copy;
mod device;
mod event;
mod matching;
mod record;
mod transitions;

pub use answer::Answer;
pub use copy::{RequestCopy, request_copies, timestamp};
pub use device::{Device, DueAction, ResultEntry};
pub use event::{
    Cancel, Claim, ClaimDue, Created, DatamodelWrite, Event, Folded, History, NotHandedOver, PastRequest, ReportStatus,
    Reported, ResultReceived,
};
pub use matching::{
    covered_hashes, excluded_hash, keys_overlap, named_paths, partial_hash, path_hash, possible_failed_keys,
};
pub use record::{
    CANCEL_REQUEST, FIELDS, Name, Reason, Record, State, Status, code, has_result, is_write, may_run_twice,
};
pub use transitions::{SAME_TOKEN_WINDOW, Verdict};

/// Milliseconds since 1970.
pub type Millis = u64;
