//! Guards that are taken out, one at a time, so that each promise is seen to break.

use requests::{Created, Event, VERSION_KEPT};

use crate::{Setup, World};

/// Guard that is taken out, so that a promise is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    None,
    /// Operations that must not run twice are claimed as ones that may.
    AnythingMayRunTwice,
    /// Time never passes.
    NoTick,
    /// Every report counts as one of the latest run.
    AnyReportCounts,
    /// Every call counts as over at once.
    CallsTakeNoTime,
    /// Failures that a report has proven count as not proven.
    NothingIsProven,
    /// Every result counts as written after all hand-overs.
    AnyResultCounts,
    /// A second delivery of a result counts as another result.
    ResultsAreNotCounted,
    /// Every write is claimed with a key of its own.
    WritesAreNotOrdered,
    /// Every response of Coiote counts as a 201.
    AnyAnswerIsCreated,
    /// Claims have no client token.
    TokensAreForgotten,
    /// Claims do not say that their update carried reported as well.
    SavedAgainIsNew,
    /// A run sends a request although it is REJECTED.
    RejectedIsSent,
    /// No report changes a CANCELED request.
    CanceledIsFinal,
    /// It is not recorded that a device was woken after all.
    WakingIsForgotten,
}

/// The event with the guard taken out.
pub(crate) fn sabotaged(setup: &Setup, event: Event, world: &World) -> Event {
    match (setup.sabotage, event) {
        (Sabotage::AnythingMayRunTwice, Event::Claim(mut claim)) => {
            claim.operation = "observe".to_owned();
            Event::Claim(claim)
        }
        (Sabotage::TokensAreForgotten, Event::Claim(mut claim)) => {
            claim.client_token = None;
            Event::Claim(claim)
        }
        (Sabotage::SavedAgainIsNew, Event::Claim(mut claim)) => {
            claim.with_reported = false;
            Event::Claim(claim)
        }
        (Sabotage::WritesAreNotOrdered, Event::Claim(mut claim)) => {
            claim.keys = vec![format!("key of {}", claim.name)];
            Event::Claim(claim)
        }
        (Sabotage::AnyReportCounts, Event::Report(mut report)) => {
            report.started_at = u64::MAX;
            Event::Report(report)
        }
        (Sabotage::CallsTakeNoTime, Event::Created(mut created)) => {
            created.call_took = 0;
            Event::Created(created)
        }
        (Sabotage::AnyResultCounts, Event::Result(mut result)) => {
            // After every hand-over, and not so late that it would be of a new shadow
            result.reported_at += VERSION_KEPT / 2;
            Event::Result(result)
        }
        (Sabotage::ResultsAreNotCounted, Event::Result(mut result)) => {
            let known = |version: u64| world.device.result(version).is_some();
            while known(result.version) {
                result.version += 1_000;
            }
            Event::Result(result)
        }
        (Sabotage::AnyAnswerIsCreated, Event::NotHandedOver(not_done)) => Event::Created(Created {
            name: not_done.name,
            mark: not_done.mark,
            task_id: "none".to_owned(),
            handed_over_at: 0,
            call_took: 0,
            sent_at: 0,
            at: not_done.at,
            notice: None,
            is_followed: true,
        }),
        (Sabotage::WakingIsForgotten, Event::Woken { at, .. }) => Event::Tick { at },
        (_, event) => event,
    }
}
