//! Effect of each event on a request in each state, and what its author sees of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod cancelling;
mod claims;
mod copies;
mod hand_over;
mod page;
mod results;
mod time;

use requests::{
    Cancel, CanceledBy, Claim, ClaimDue, Created, Device, DueAction, Event, Folded, Millis, Name, NamedPaths,
    NotHandedOver, Reason, Record, ReportStatus, Reported, ResultReceived, Status, Verdict, content_digest,
};
use serde_json::json;

const NOW: Millis = 1_795_500_000_000;
const LIFETIME: Millis = 168 * 3_600_000;
const REBOOT: &str = "Device.0.Reboot";
const OFFSET: &str = "Device.0.UTC Offset";

/// Most bytes of all copies of a device in the operation shadow.
const MAX_COPIES_BYTES: usize = 5_000;

/// Requests of a device, and a clock. Its methods apply events in short form.
#[derive(Clone, Default)]
struct Story {
    device: Device,
    now: Millis,
}

impl Story {
    fn new() -> Story {
        Story { device: Device::default(), now: NOW }
    }

    fn after(mut self, seconds: u64) -> Story {
        self.now += seconds * 1_000;
        self
    }

    fn claim_of(&self, version: u64, operation: &str, keys: &[&str]) -> Claim {
        let content = json!({"operation": operation, "keys": keys});
        Claim {
            name: Name::Version(version),
            mark: format!("mark of {version}"),
            run: format!("run of {version}"),
            operation: operation.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            client_token: None,
            digest: content_digest(|field| content.get(field)),
            requested_at: self.now / 1_000,
            with_reported: false,
            at: self.now,
            void_at: self.now + 60_000,
            expires_at: self.now + LIFETIME,
            rejected: None,
            waits: None,
            redriven: false,
            history: None,
        }
    }

    fn apply(&mut self, event: Event) -> Verdict {
        let verdict = self.device.apply(&event);
        // The ledger's form loses nothing.
        let json = serde_json::to_string(&self.device).unwrap();
        assert_eq!(serde_json::from_str::<Device>(&json).unwrap(), self.device, "{json}");
        verdict
    }

    fn claims(&mut self, claim: Claim) -> Verdict {
        self.apply(Event::Claim(Box::new(claim)))
    }

    fn claim(&mut self, version: u64, operation: &str, keys: &[&str]) -> Verdict {
        self.claims(self.claim_of(version, operation, keys))
    }

    fn created_of(&self, version: u64, task_id: &str) -> Created {
        Created {
            name: Name::Version(version),
            mark: format!("mark of {version}"),
            task_id: task_id.to_owned(),
            handed_over_at: self.now / 1_000,
            call_took: 1,
            sent_at: self.now,
            at: self.now,
            notice: None,
            is_followed: true,
        }
    }

    fn created(&mut self, version: u64, task_id: &str) -> Verdict {
        self.apply(Event::Created(self.created_of(version, task_id)))
    }

    fn scheduled(&mut self, version: u64, operation: &str, keys: &[&str], task_id: &str) {
        assert_eq!(self.claim(version, operation, keys), Verdict::Send);
        assert_eq!(self.created(version, task_id), Verdict::Changed);
    }

    fn not_done(&mut self, version: u64, maybe: bool, again: bool) -> Verdict {
        self.apply(Event::NotHandedOver(NotHandedOver {
            name: Name::Version(version),
            mark: format!("mark of {version}"),
            reason: Reason::new("COIOTE_UNAVAILABLE", "Coiote answers 503"),
            may_have_reached_coiote: maybe,
            retry_at: again.then_some(self.now + 1_000),
            at: self.now,
        }))
    }

    fn take(&mut self, version: u64) -> Verdict {
        self.apply(Event::ClaimDue(ClaimDue {
            name: Name::Version(version),
            mark: format!("mark of {version}"),
            run: "run that takes".to_owned(),
            at: self.now,
            void_at: self.now + 60_000,
        }))
    }

    fn result_of(&self, version: u64, operation: &str, result: serde_json::Value, failed: &[&str]) -> ResultReceived {
        ResultReceived {
            mark: String::new(),
            version,
            reported_at: self.now / 1_000,
            operation: operation.to_owned(),
            paths: NamedPaths::of(&result),
            touched: Vec::new(),
            failed_keys: failed.iter().map(|key| (*key).to_owned()).collect(),
            at: self.now,
        }
    }

    fn result(&mut self, version: u64, operation: &str, result: serde_json::Value) -> Verdict {
        self.apply(Event::Result(self.result_of(version, operation, result, &[""])))
    }

    fn offset(&mut self, version: u64, operation: &str) -> Verdict {
        self.result(version, operation, json!({"Device": {"0": {"UTC Offset": "+02:00"}}}))
    }

    fn folded(&mut self, version: u64) -> Verdict {
        self.apply(Event::Folded(Folded {
            version,
            status: Status::Succeeded,
            reason: None,
            datamodel: None,
            wrote: requests::DatamodelWrite::Nothing,
            at: self.now,
        }))
    }

    fn report(&mut self, task_id: &str, started_at: u64, status: ReportStatus) -> Verdict {
        self.apply(Event::Report(Reported {
            task_id: task_id.to_owned(),
            started_at,
            status,
            summary: "5.00".to_owned(),
            properties: None,
            at: self.now,
        }))
    }

    fn succeeds(&mut self, task_id: &str) -> Verdict {
        self.report(task_id, self.now / 1_000, ReportStatus::Success)
    }

    fn refuses(&mut self, task_id: &str) -> Verdict {
        self.report(task_id, self.now / 1_000, ReportStatus::Refused)
    }

    fn cancel(&mut self, version: u64) -> Verdict {
        self.apply(Event::Cancel(Cancel {
            name: Name::Version(version),
            by: CanceledBy::JobOver { job_id: "j".to_owned(), over: "canceled".to_owned() },
            at: self.now,
        }))
    }

    fn removed(&mut self, version: u64) -> Verdict {
        self.apply(Event::TaskRemoved { name: Name::Version(version), at: self.now })
    }

    fn asked(&mut self, version: u64) -> Verdict {
        self.apply(Event::ReportRequested { name: Name::Version(version), at: self.now })
    }

    fn removal_refused(&mut self, version: u64) -> Verdict {
        self.apply(Event::RemovalRefused { name: Name::Version(version), at: self.now })
    }

    fn tick(&mut self) -> Verdict {
        self.apply(Event::Tick { at: self.now })
    }

    fn record(&self, version: u64) -> &Record {
        self.device.find(&Name::Version(version)).unwrap_or_else(|| panic!("no request {version}"))
    }

    /// Asserts status and code of a request.
    #[track_caller]
    fn is(&self, version: u64, status: Status, code: &str) {
        let record = self.record(version);
        let found = record.reason.as_ref().map_or("", |reason| reason.code.as_ref());
        assert_eq!((record.status(), found), (status, code), "{record:?}");
    }

    fn due_actions(&self) -> Vec<DueAction> {
        self.device.due_actions(self.now)
    }
}

fn removal(version: u64, task_id: &str, is_shared: bool) -> DueAction {
    DueAction::Removal { name: Name::Version(version), task_id: task_id.to_owned(), is_shared }
}
