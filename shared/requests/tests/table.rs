//! What each event does to a request in each state, and what its author sees of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use requests::{
    Cancel, Claim, ClaimDue, Created, Device, DueAction, Event, Folded, History, Millis, Name, NotHandedOver,
    PastRequest, Reason, Record, ReportStatus, Reported, ResultReceived, State, Status, Verdict, code, named_paths,
    request_copies,
};
use serde_json::json;

const NOW: Millis = 1_795_500_000_000;
const LIFETIME: Millis = 168 * 3_600_000;
const REBOOT: &str = "Device.0.Reboot";
const OFFSET: &str = "Device.0.UTC Offset";

/// Of all answers of a device in the operation shadow, in bytes.
const ROOM: usize = 5_000;

/// What happens to a device, told in short.
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
        Claim {
            name: Name::Version(version),
            mark: format!("mark of {version}"),
            run: format!("run of {version}"),
            operation: operation.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            client_token: None,
            digest: format!("{operation} {keys:?}"),
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
        // What the ledger keeps is what was there.
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
            paths: named_paths(&result),
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
            by: "the job's cancellation".to_owned(),
            at: self.now,
        }))
    }

    fn removed(&mut self, version: u64) -> Verdict {
        self.apply(Event::TaskRemoved { name: Name::Version(version), at: self.now })
    }

    fn asked(&mut self, version: u64) -> Verdict {
        self.apply(Event::ReportRequested { name: Name::Version(version), at: self.now })
    }

    fn tick(&mut self) -> Verdict {
        self.apply(Event::Tick { at: self.now })
    }

    fn record(&self, version: u64) -> &Record {
        self.device.find(&Name::Version(version)).unwrap_or_else(|| panic!("no request {version}"))
    }

    /// Status and code.
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

#[test]
fn a_read_is_held_handed_over_and_answered() {
    let mut story = Story::new();
    assert_eq!(story.claim(1, "read", &[OFFSET]), Verdict::Send);
    story.is(1, Status::InProgress, "");
    story.created(1, "t");
    story.is(1, Status::Scheduled, "");
    assert_eq!(story.offset(2, "read"), Verdict::Fold(Some(Name::Version(1))));
    story.is(1, Status::Scheduled, "");
    story.folded(2);
    story.is(1, Status::Succeeded, "");
    // A result alone is not a proof.
    story.refuses("t");
    story.is(1, Status::Failed, code::DEVICE_REFUSED);
    story.succeeds("t");
    story.is(1, Status::Failed, code::DEVICE_REFUSED);
}

#[test]
fn a_second_delivery_is_dropped_and_a_retry_waits_for_its_first_attempt() {
    let mut story = Story::new();
    let claim = story.claim_of(1, "read", &[OFFSET]);
    story.claims(claim.clone());
    assert_eq!(story.claims(claim.clone()), Verdict::Send, "the append was repeated");
    let other = Claim { mark: "other".to_owned(), ..claim.clone() };
    assert_eq!(story.claims(other.clone()), Verdict::Busy);
    let second = Claim { run: "another run".to_owned(), ..other.clone() };
    assert_eq!(story.claims(second.clone()), Verdict::Duplicate(Status::InProgress));
    story.created(1, "t");
    assert_eq!(story.claims(second), Verdict::Duplicate(Status::Scheduled));
    assert_eq!(story.claims(other), Verdict::Duplicate(Status::Scheduled));
}

#[test]
fn a_void_mark_is_taken_over_but_never_for_what_must_not_run_twice() {
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    story.claim(2, "execute", &[REBOOT]);
    let read = story.claim_of(1, "read", &[OFFSET]);
    let execute = story.claim_of(2, "execute", &[REBOOT]);
    let mut story = story.after(61);
    let late = |claim: Claim| Claim { mark: "new".to_owned(), at: NOW + 61_000, void_at: NOW + 121_000, ..claim };
    assert_eq!(story.claims(late(read)), Verdict::Send);
    assert!(story.record(1).may_have_reached_coiote);
    assert_eq!(story.claims(late(execute)), Verdict::Ended(Status::Failed));
    story.is(2, Status::Failed, code::OUTCOME_UNKNOWN);
}

#[test]
fn time_gives_an_interrupted_request_back() {
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    story.claim(2, "delete", &["Test.1"]);
    assert_eq!(story.device.next_look_at(), Some(NOW + 60_000));
    let mut story = story.after(61);
    story.tick();
    story.is(1, Status::InProgress, code::INTERRUPTED);
    story.is(2, Status::Failed, code::OUTCOME_UNKNOWN);
    assert_eq!(story.due_actions(), [DueAction::HandOver { name: Name::Version(1) }]);
}

#[test]
fn what_was_not_handed_over_waits_or_fails_as_far_as_is_known() {
    for (operation, maybe, again, status, expected) in [
        ("read", false, true, Status::InProgress, "COIOTE_UNAVAILABLE"),
        ("read", true, true, Status::InProgress, "COIOTE_UNAVAILABLE"),
        ("read", false, false, Status::Failed, "COIOTE_UNAVAILABLE"),
        ("read", true, false, Status::Failed, code::OUTCOME_UNKNOWN),
        ("execute", false, true, Status::InProgress, "COIOTE_UNAVAILABLE"),
        ("execute", true, true, Status::Failed, code::OUTCOME_UNKNOWN),
        ("execute", false, false, Status::Failed, "COIOTE_UNAVAILABLE"),
        ("create", true, true, Status::Failed, code::OUTCOME_UNKNOWN),
        ("delete", true, true, Status::Failed, code::OUTCOME_UNKNOWN),
    ] {
        let mut story = Story::new();
        story.claim(1, operation, &[OFFSET]);
        story.not_done(1, maybe, again);
        story.is(1, status, expected);
    }
}

#[test]
fn refused_for_good_after_a_perhaps_is_not_known() {
    let mut story = Story::new();
    story.claim(1, "observe", &[OFFSET]);
    story.not_done(1, true, true);
    let mut story = story.after(2);
    assert_eq!(story.take(1), Verdict::Send);
    story.not_done(1, false, false);
    story.is(1, Status::Failed, code::OUTCOME_UNKNOWN);
}

#[test]
fn an_event_older_than_its_lifetime_is_not_sent() {
    let mut story = Story::new();
    let claim = Claim { expires_at: NOW, ..story.claim_of(1, "read", &[OFFSET]) };
    assert_eq!(story.claims(claim.clone()), Verdict::Ended(Status::TimedOut));
    assert_eq!(story.claims(claim), Verdict::Ended(Status::TimedOut), "the append was repeated");
    story.is(1, Status::TimedOut, code::LIFETIME_OVER);
}

#[test]
fn an_execute_without_a_version_is_rejected() {
    let mut story = Story::new();
    for (operation, verdict) in [
        ("execute", Verdict::Ended(Status::Rejected)),
        ("create", Verdict::Ended(Status::Rejected)),
        ("read", Verdict::Send),
    ] {
        let name = Name::Invocation(format!("id of {operation}"));
        let claim = Claim { name: name.clone(), ..story.claim_of(0, operation, &[REBOOT]) };
        assert_eq!(story.claims(claim), verdict);
        let reason = story.device.find(&name).unwrap().reason.as_ref().map(|reason| reason.code.as_ref());
        assert_eq!(reason, (verdict != Verdict::Send).then_some(code::VERSION_MISSING));
    }
}

#[test]
fn a_document_saved_again_does_not_execute_again() {
    let with_reported = |claim: Claim| Claim { with_reported: true, ..claim };
    let mut story = Story::new();
    story.scheduled(5, "execute", &[REBOOT], "t");
    for version in [6, 7] {
        let claim = with_reported(story.claim_of(version, "execute", &[REBOOT]));
        assert_eq!(story.claims(claim), Verdict::Ended(Status::Rejected));
        story.is(version, Status::Rejected, code::RESAVED);
    }
    // Alone, or after another request, or another one, it is meant.
    assert_eq!(story.claim(8, "execute", &[REBOOT]), Verdict::Send);
    story.claim(9, "read", &[OFFSET]);
    let claim = with_reported(story.claim_of(10, "execute", &[REBOOT]));
    assert_eq!(story.claims(claim), Verdict::Send);
    let claim = with_reported(story.claim_of(11, "execute", &["Device.0.Factory Reset"]));
    assert_eq!(story.claims(claim), Verdict::Send);
    // What may run twice may also be saved twice.
    for version in [12, 13] {
        let claim = with_reported(story.claim_of(version, "observe", &[OFFSET]));
        assert_eq!(story.claims(claim), Verdict::Send);
    }
}

#[test]
fn a_saved_document_is_recognised_also_when_a_newer_request_came_first() {
    let mut story = Story::new();
    story.scheduled(5, "execute", &[REBOOT], "t");
    story.claim(7, "read", &[OFFSET]);
    let claim =
        Claim { with_reported: true, history: Some(History::default()), ..story.claim_of(6, "execute", &[REBOOT]) };
    assert_eq!(story.claims(claim), Verdict::Ended(Status::Rejected));
    story.is(6, Status::Rejected, code::RESAVED);
}

#[test]
fn one_token_executes_once_within_five_minutes() {
    let token = |story: &Story, version, seconds_ago: u64| {
        let claim = story.claim_of(version, "execute", &[REBOOT]);
        let requested_at = claim.requested_at - seconds_ago;
        Claim { client_token: Some("t".to_owned()), requested_at, ..claim }
    };
    let mut story = Story::new();
    story.claims(token(&story, 1, 0));
    let second = token(&story, 2, 0);
    assert_eq!(story.claims(second), Verdict::Ended(Status::Rejected));
    story.is(2, Status::Rejected, code::SAME_TOKEN);
    let other_content = Claim { digest: "other".to_owned(), ..token(&story, 3, 0) };
    assert_eq!(story.claims(other_content), Verdict::Send);
    let other_token = Claim { client_token: Some("u".to_owned()), ..token(&story, 4, 0) };
    assert_eq!(story.claims(other_token), Verdict::Send);

    // The first one FAILED unsent.
    let mut story = Story::new();
    story.claims(token(&story, 1, 0));
    story.not_done(1, false, false);
    assert_eq!(story.claims(token(&story, 2, 0)), Verdict::Send);

    // And it may have been sent.
    let mut story = Story::new();
    story.claims(token(&story, 1, 0));
    story.not_done(1, true, false);
    assert_eq!(story.claims(token(&story, 2, 0)), Verdict::Ended(Status::Rejected));

    // The shadow's timestamps count, not when an event is delivered.
    let story = Story::new();
    let mut story = {
        let mut s = story;
        s.claims(token(&s, 1, 0));
        s
    }
    .after(301);
    assert_eq!(story.claims(token(&story, 2, 0)), Verdict::Send);
}

#[test]
fn a_late_execute_with_a_token_is_looked_up() {
    let mut story = Story::new();
    let claim = |story: &Story, history| Claim {
        client_token: Some("t".to_owned()),
        requested_at: story.now / 1_000 - 1_000,
        history,
        ..story.claim_of(2, "execute", &[REBOOT])
    };
    assert_eq!(story.claims(claim(&story, None)), Verdict::NeedsHistory);
    assert_eq!(story.device, Device::default());
    let same_token = Some(History { same_token: Some(Name::Version(1)), ..History::default() });
    assert_eq!(story.claims(claim(&story, same_token)), Verdict::Ended(Status::Rejected));
    story.is(2, Status::Rejected, code::SAME_TOKEN);
    let mut story = Story::new();
    assert_eq!(story.claims(claim(&story, Some(History::default()))), Verdict::Send);
}

#[test]
fn an_execute_with_a_token_stays_until_no_claim_in_time_can_repeat_it() {
    let mut story = Story::new();
    let claim = Claim { client_token: Some("t".to_owned()), ..story.claim_of(1, "execute", &[REBOOT]) };
    story.claims(claim);
    story.created(1, "t");
    story.succeeds("t");
    for version in 2..6 {
        story.scheduled(version, "observe", &[OFFSET], &format!("t{version}"));
        story.succeeds(&format!("t{version}"));
    }
    story.device.mark_filed();
    let mut story = story.after(599);
    story.tick();
    assert!(story.device.find(&Name::Version(1)).is_some());
    assert!(story.device.find(&Name::Version(2)).is_none());
    let mut story = story.after(2);
    story.scheduled(6, "observe", &[OFFSET], "t6");
    story.succeeds("t6");
    story.device.mark_filed();
    story.tick();
    assert!(story.device.find(&Name::Version(1)).is_none());
}

#[test]
fn writes_to_one_key_reach_coiote_in_their_order() {
    let mut story = Story::new();
    story.claim(1, "write", &["Server.1"]);
    assert_eq!(story.claim(2, "write", &["Server.1.Lifetime"]), Verdict::Wait);
    story.is(2, Status::InProgress, code::WAITS_FOR_OLDER_WRITE);
    assert_eq!(story.claim(3, "write", &["Server.2.Lifetime"]), Verdict::Send, "another key");
    assert_eq!(story.claim(4, "read", &["Server.1.Lifetime"]), Verdict::Send, "no write");
    assert_eq!(story.take(2), Verdict::Wait);
    assert_eq!(story.device.next_hand_over_at(), None);
    assert!(story.due_actions().is_empty());
    story.not_done(1, true, true);
    assert_eq!(story.take(2), Verdict::Wait, "an older one that waits is still older");
    let mut story = story.after(2);
    assert_eq!(story.take(1), Verdict::Send);
    story.created(1, "t");
    assert_eq!(story.due_actions(), [DueAction::HandOver { name: Name::Version(2) }]);
    assert_eq!(story.take(2), Verdict::Send);
}

#[test]
fn a_write_that_comes_after_a_newer_one_is_overtaken() {
    let looked_up = |claim: Claim| Claim { history: Some(History::default()), ..claim };
    let mut story = Story::new();
    story.claim(2, "writeComposite", &[OFFSET]);
    let older = looked_up(story.claim_of(1, "write", &[OFFSET]));
    assert_eq!(story.claims(older), Verdict::Ended(Status::Failed));
    story.is(1, Status::Failed, code::OVERTAKEN);

    // The newer one was surely not sent: the older one goes first.
    let mut story = Story::new();
    story.claim(2, "write", &[OFFSET]);
    story.not_done(2, false, true);
    assert_eq!(story.claims(looked_up(story.claim_of(1, "write", &[OFFSET]))), Verdict::Send);

    // It left already, and the history knows it.
    let mut story = Story::new();
    story.claim(3, "read", &[OFFSET]);
    let claim = story.claim_of(1, "write", &[OFFSET]);
    assert_eq!(story.claims(claim.clone()), Verdict::NeedsHistory);
    let history = Some(History { newer_write: Some(Name::Version(2)), ..History::default() });
    assert_eq!(story.claims(Claim { history, ..claim }), Verdict::Ended(Status::Failed));
    story.is(1, Status::Failed, code::OVERTAKEN);
}

#[test]
fn a_write_of_a_job_comes_after_the_versions_that_were_there() {
    let mut story = Story::new();
    story.claim(1, "write", &[OFFSET]);
    story.not_done(1, false, true);
    let job = Name::Job { id: "j".to_owned(), execution: 1 };
    let claim = |story: &Story| Claim {
        name: job.clone(),
        history: Some(History::default()),
        ..story.claim_of(0, "write", &[OFFSET])
    };
    assert_eq!(story.claims(claim(&story)), Verdict::Wait);
    assert_eq!(story.claim(2, "write", &[OFFSET]), Verdict::Wait);
    let names: Vec<String> = story.device.open().iter().map(|record| record.name.to_string()).collect();
    assert_eq!(names, ["1", "job:j:1", "2"]);
}

#[test]
fn a_redrive_goes_on_with_what_was_not_sent() {
    let redriven = |claim: Claim| Claim { redriven: true, mark: "new".to_owned(), at: claim.at + 1, ..claim };
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.not_done(1, false, false);
    assert_eq!(story.claims(redriven(story.claim_of(1, "execute", &[REBOOT]))), Verdict::Send);

    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.not_done(1, true, false);
    assert_eq!(story.claims(redriven(story.claim_of(1, "execute", &[REBOOT]))), Verdict::Duplicate(Status::Failed));

    // A write also has to know what was written since.
    let mut story = Story::new();
    story.claim(1, "write", &[OFFSET]);
    story.not_done(1, true, false);
    let claim = redriven(story.claim_of(1, "write", &[OFFSET]));
    assert_eq!(story.claims(claim.clone()), Verdict::NeedsHistory);
    assert_eq!(story.claims(Claim { history: Some(History::default()), ..claim }), Verdict::Send);
    assert!(story.record(1).may_have_reached_coiote);

    // What has left is in the history.
    let mut story = Story::new();
    story.claim(9, "read", &[OFFSET]);
    for (status, may_have_been_sent, verdict) in [
        (Status::Failed, false, Verdict::Send),
        (Status::Failed, true, Verdict::Duplicate(Status::Failed)),
        (Status::Succeeded, true, Verdict::Duplicate(Status::Succeeded)),
    ] {
        let claim = redriven(story.claim_of(1, "execute", &[REBOOT]));
        let same = Some(PastRequest { status, requested_at: claim.requested_at, may_have_been_sent });
        let claim = Claim { history: Some(History { same, ..History::default() }), ..claim };
        assert_eq!(story.clone().claims(claim), verdict);
    }
}

#[test]
fn a_shadow_that_was_made_again_counts_its_versions_anew_where_the_times_are_known() {
    let duplicate = Verdict::Duplicate(Status::Succeeded);
    for (first, second, verdict) in [
        (NOW / 1_000, NOW / 1_000, duplicate.clone()),
        (NOW / 1_000, NOW / 1_000 + 400, Verdict::Send),
        (NOW / 1_000, 0, duplicate.clone()),
        (0, NOW / 1_000, duplicate.clone()),
        (0, 0, duplicate),
    ] {
        let made_at = |requested_at, claim: Claim| Claim { requested_at, ..claim };
        let mut story = Story::new();
        story.claims(made_at(first, story.claim_of(1, "execute", &[REBOOT])));
        story.created(1, "t");
        story.succeeds("t");
        let mut story = story.after(400);
        let claim = made_at(second, story.claim_of(1, "execute", &[REBOOT]));
        assert_eq!(story.claims(claim.clone()), verdict, "{first} {second}");

        // As far as the history knows.
        let mut story = Story::new();
        story.claim(9, "read", &[OFFSET]);
        let same = Some(PastRequest { status: Status::Succeeded, requested_at: first, may_have_been_sent: true });
        let claim = Claim { history: Some(History { same, ..History::default() }), ..claim };
        assert_eq!(story.claims(claim), verdict, "{first} {second}");
    }
}

#[test]
fn our_own_201_may_come_late() {
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.not_done(1, true, false);
    story.created(1, "t");
    story.is(1, Status::Scheduled, "");
    assert!(story.due_actions().is_empty(), "its lifetime is not over");
    story.succeeds("t");
    story.is(1, Status::Succeeded, "");

    // It timed out after a try of which nothing was known: then its task is removed.
    let mut story = Story::new();
    story.claim(1, "observe", &[OFFSET]);
    story.not_done(1, true, true);
    let mut story = story.after(LIFETIME / 1_000);
    story.tick();
    story.is(1, Status::TimedOut, code::LIFETIME_OVER);
    story.created(1, "t");
    assert_eq!(story.due_actions(), [removal(1, "t", false)]);
    story.removed(1);
    story.is(1, Status::TimedOut, code::LIFETIME_OVER);

    // Another run has taken it: what the first one learnt may not let a newer write pass.
    let mut story = Story::new();
    story.claim(1, "write", &[OFFSET]);
    let late = story.created_of(1, "t");
    story.not_done(1, true, true);
    let mut story = story.after(2);
    let take = ClaimDue {
        name: Name::Version(1),
        mark: "new".to_owned(),
        run: "run".to_owned(),
        at: story.now,
        void_at: story.now + 60_000,
    };
    story.apply(Event::ClaimDue(take));
    assert_eq!(story.apply(Event::Created(late)), Verdict::Unchanged);
    assert_eq!(story.claim(2, "write", &[OFFSET]), Verdict::Wait);
}

#[test]
fn without_reports_scheduled_is_the_last_word_but_not_for_what_is_taken_back() {
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    let created = Created { is_followed: false, ..story.created_of(1, "t") };
    story.apply(Event::Created(created.clone()));
    assert_eq!(story.record(1).state, State::Ended(Status::Scheduled));

    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.cancel(1);
    story.apply(Event::Created(created));
    assert_eq!(story.due_actions(), [removal(1, "t", false)]);
}

#[test]
fn a_cancel_request_says_which_was_which() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "done");
    story.refuses("done");
    story.claim(2, "observe", &[OFFSET]);
    story.not_done(2, false, true);
    let claim = Claim { client_token: Some("mine".to_owned()), ..story.claim_of(3, "execute", &[REBOOT]) };
    story.claims(claim);
    story.created(3, "t3");
    let claim = story.claim_of(4, "cancelRequest", &["1", "2", "mine", "77", "3", "2"]);
    assert_eq!(story.claims(claim.clone()), Verdict::Changed);
    assert_eq!(story.claims(claim), Verdict::Changed, "the append was repeated");
    story.is(2, Status::Canceled, code::CANCELED);
    story.is(3, Status::Scheduled, "");
    story.is(4, Status::InProgress, "");
    assert_eq!(story.due_actions(), [removal(3, "t3", false)]);

    // Coiote is away, so much that the others have left meanwhile.
    for version in 10..14 {
        story.scheduled(version, "observe", &[OFFSET], "o");
        story.refuses("o");
    }
    story.device.mark_filed();
    let mut story = story.after(400);
    story.tick();
    story.asked(3);
    assert!(story.due_actions().is_empty());
    let mut story = story.after(60);
    assert_eq!(story.due_actions(), [removal(3, "t3", false)]);
    story.removed(3);
    story.is(3, Status::Canceled, code::CANCELED);
    story.is(4, Status::Succeeded, code::CANCEL_DONE);
    assert_eq!(
        story.record(4).reason.as_ref().unwrap().message,
        "1: keeps its word, FAILED; 2: CANCELED; 3: CANCELED; 77: not among this device's open requests"
    );
}

#[test]
fn a_cancel_request_that_finds_nothing_says_so_and_holds_for_what_comes_after_it() {
    let mut story = Story::new();
    let cancel = story.claim_of(7, "cancelRequest", &["5"]);
    assert_eq!(story.claims(cancel), Verdict::Ended(Status::Failed));
    story.is(7, Status::Failed, code::NOTHING_TO_CANCEL);
    // The request was made before, and its event comes after.
    let claim = Claim { history: Some(History::default()), ..story.claim_of(5, "execute", &[REBOOT]) };
    assert_eq!(story.claims(claim), Verdict::Ended(Status::Canceled));
    story.is(5, Status::Canceled, code::CANCELED);
    let claim = Claim { history: Some(History::default()), ..story.claim_of(6, "execute", &[REBOOT]) };
    assert_eq!(story.claims(claim), Verdict::Send);
}

#[test]
fn an_execution_of_a_job_is_one_request_and_its_retry_another() {
    let of_job = |execution: u64| Name::Job { id: "j".to_owned(), execution };
    let claim = |story: &Story, execution: u64, history: Option<History>| Claim {
        name: of_job(execution),
        history,
        ..story.claim_of(execution, "execute", &[REBOOT])
    };
    let mut story = Story::new();
    assert_eq!(story.claims(claim(&story, 1, None)), Verdict::NeedsHistory, "it may have been forgotten");
    let first = claim(&story, 1, Some(History::default()));
    assert_eq!(story.claims(first.clone()), Verdict::Send);
    story.apply(Event::Created(Created { name: of_job(1), ..story.created_of(1, "t") }));
    story.refuses("t");
    // Times of AWS are rounded here and there.
    for rounded in [0, 1] {
        let requested_at = first.requested_at + rounded;
        let again =
            Claim { run: "another".to_owned(), mark: "m".to_owned(), at: story.now + 1, requested_at, ..first.clone() };
        assert_eq!(story.claims(again), Verdict::Duplicate(Status::Failed));
    }
    assert_eq!(story.claims(claim(&story, 2, Some(History::default()))), Verdict::Send, "a retry is meant");
    // The history knows it, or another job of the same name.
    for (requested_at, expected) in
        [(NOW / 1_000, Verdict::Duplicate(Status::Failed)), (NOW / 1_000 - 600, Verdict::Send)]
    {
        let same = Some(PastRequest { status: Status::Failed, requested_at, may_have_been_sent: true });
        let mut story = Story::new();
        let history = History { same, ..History::default() };
        assert_eq!(story.claims(claim(&story, 1, Some(history))), expected);
    }
    // A job that was deleted and made again.
    let mut story = story.after(600);
    assert_eq!(story.claims(claim(&story, 1, Some(History::default()))), Verdict::Send);
}

#[test]
fn what_is_taken_back_while_it_is_handed_over_ends_when_that_is_known() {
    let held = |operation: &str| {
        let mut story = Story::new();
        story.claim(1, operation, &[OFFSET]);
        assert_eq!(story.cancel(1), Verdict::Changed);
        story.is(1, Status::InProgress, "");
        story
    };
    let mut story = held("read");
    story.not_done(1, false, true);
    story.is(1, Status::Canceled, code::CANCELED);
    let mut story = held("read");
    story.not_done(1, true, true);
    story.is(1, Status::Failed, code::OUTCOME_UNKNOWN);
    let mut story = held("read").after(61);
    story.tick();
    story.is(1, Status::Failed, code::OUTCOME_UNKNOWN);
    let story = held("read");
    let claim = story.claim_of(1, "read", &[OFFSET]);
    let mut story = story.after(61);
    let retry = Claim { mark: "new".to_owned(), at: story.now, ..claim };
    assert_eq!(story.claims(retry), Verdict::Ended(Status::Failed), "it is not sent again");
    story.is(1, Status::Failed, code::OUTCOME_UNKNOWN);
}

#[test]
fn what_the_device_did_is_not_taken_back() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.succeeds("t");
    let claim = story.claim_of(2, "cancelRequest", &["1"]);
    assert_eq!(story.claims(claim), Verdict::Changed);
    assert!(story.due_actions().is_empty());
    assert_eq!(story.removed(1), Verdict::Unchanged);
    story.offset(3, "read");
    story.folded(3);
    story.is(1, Status::Succeeded, "");
    story.is(2, Status::Succeeded, code::CANCEL_DONE);

    // The report came when it was asked for before the removal.
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.cancel(1);
    assert_eq!(story.due_actions(), [removal(1, "t", false)]);
    story.succeeds("t");
    assert!(story.due_actions().is_empty());
    assert_eq!(story.removed(1), Verdict::Unchanged);
    let mut story = story.after(60);
    story.tick();
    story.is(1, Status::Failed, code::RESULT_NOT_STORED);
}

#[test]
fn a_request_times_out_when_its_task_is_away() {
    let mut story = Story::new();
    story.scheduled(1, "execute", &[REBOOT], "t");
    assert_eq!(story.device.next_look_at(), Some(NOW + 60_000));
    let mut asked_at = Vec::new();
    for _ in 0..4 {
        let moment = story.device.next_look_at().unwrap();
        asked_at.push((moment - NOW) / 1_000);
        story.now = moment;
        if story.due_actions() == [removal(1, "t", false)] {
            break;
        }
        assert_eq!(story.due_actions(), [DueAction::Report { name: Name::Version(1), task_id: "t".to_owned() }]);
        story.asked(1);
    }
    assert_eq!(asked_at, [60, 600, 3_600, LIFETIME / 1_000]);
    // Coiote is away: it is tried again a minute later, and not all the time.
    story.asked(1);
    assert!(story.due_actions().is_empty());
    assert_eq!(story.device.next_look_at(), Some(story.now + 60_000));
    let mut story = story.after(60);
    assert_eq!(story.due_actions(), [removal(1, "t", false)]);
    story.removed(1);
    story.is(1, Status::TimedOut, code::LIFETIME_OVER);
    // And it yields to what is proven.
    story.succeeds("t");
    story.is(1, Status::Succeeded, "");
}

#[test]
fn a_result_that_does_not_come_within_a_minute_was_not_stored() {
    for (operation, status, expected) in
        [("read", Status::Scheduled, ""), ("write", Status::Scheduled, ""), ("observe", Status::Succeeded, "")]
    {
        let mut story = Story::new();
        story.scheduled(1, operation, &[OFFSET], "t");
        story.succeeds("t");
        story.is(1, status, expected);
        if status == Status::Scheduled {
            assert_eq!(story.device.next_look_at(), Some(NOW + 60_000));
            let mut story = story.after(59);
            story.tick();
            story.is(1, Status::Scheduled, "");
            let mut story = story.after(1);
            story.tick();
            story.is(1, Status::Failed, code::RESULT_NOT_STORED);
            story.offset(2, operation);
            story.folded(2);
            story.is(1, Status::Succeeded, "");
        }
    }
}

#[test]
fn a_result_that_nobody_folds_does_not_keep_time_busy() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.offset(2, "read");
    story.succeeds("t");
    assert_eq!(story.device.next_look_at(), Some(NOW + 15 * 60_000), "longer than Lambda tries");
    let mut story = story.after(15 * 60);
    assert!(story.due_actions().is_empty(), "the device did it");
    story.tick();
    story.is(1, Status::Failed, code::RESULT_NOT_STORED);
    story.folded(2);
    story.is(1, Status::Succeeded, "");
}

#[test]
fn a_report_older_than_the_201_is_not_the_requests_own() {
    let mut story = Story::new();
    story.scheduled(1, "execute", &[REBOOT], "t");
    let early = NOW / 1_000;
    story.report("t", early, ReportStatus::Success);
    story.is(1, Status::Succeeded, "");
    let mut story = story.after(5);
    story.scheduled(2, "execute", &[REBOOT], "t");
    assert_eq!(story.report("t", early, ReportStatus::Success), Verdict::Unchanged);
    story.is(2, Status::Scheduled, "");
    story.report("t", early + 6, ReportStatus::Refused);
    story.is(2, Status::Failed, code::DEVICE_REFUSED);
    story.is(1, Status::Succeeded, "");
}

#[test]
fn the_report_of_a_later_request_takes_no_success_away() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.offset(2, "read");
    story.folded(2);
    let mut story = story.after(5);
    story.scheduled(3, "read", &[OFFSET], "t");
    story.refuses("t");
    story.is(1, Status::Succeeded, "");
    story.is(3, Status::Failed, code::DEVICE_REFUSED);
}

#[test]
fn one_task_of_two_requests_is_removed_when_none_needs_it() {
    let mut story = Story::new();
    story.scheduled(1, "observe", &[OFFSET], "t");
    story.scheduled(2, "observe", &[OFFSET], "t");
    story.cancel(1);
    assert_eq!(story.due_actions(), [removal(1, "t", true)]);
    story.cancel(2);
    assert_eq!(story.due_actions(), [removal(1, "t", false), removal(2, "t", false)]);

    // An equal request that is being handed over may get the task.
    let mut story = Story::new();
    story.scheduled(1, "observe", &[OFFSET], "t");
    story.cancel(1);
    story.claim(2, "observe", &[OFFSET]);
    assert!(story.due_actions().is_empty());
    story.created(2, "t");
    assert_eq!(story.due_actions(), [removal(1, "t", true)]);
}

#[test]
fn a_result_answers_the_earliest_that_was_handed_over_and_asked_for_it() {
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    story.not_done(1, false, true);
    story.scheduled(2, "read", &["Location"], "t2");
    story.scheduled(3, "write", &[OFFSET], "t3");
    story.scheduled(4, "read", &[OFFSET], "t4");
    story.scheduled(5, "read", &[OFFSET], "t5");
    // 1 waits, 2 asked for something else, 3 is a write.
    assert_eq!(story.offset(6, "read"), Verdict::Fold(Some(Name::Version(4))));
    assert_eq!(story.offset(6, "read"), Verdict::Fold(Some(Name::Version(4))), "its run died before it was folded");
    story.folded(6);
    assert_eq!(story.offset(6, "read"), Verdict::Duplicate(Status::Succeeded));
    story.is(5, Status::Scheduled, "");
    assert_eq!(story.offset(7, "read"), Verdict::Fold(Some(Name::Version(5))));
    assert_eq!(story.offset(8, "read"), Verdict::Fold(None));
    // One that came before the request says nothing of it.
    story.scheduled(10, "read", &[OFFSET], "t10");
    assert_eq!(story.offset(9, "read"), Verdict::Fold(None));
    assert_eq!(story.result(11, "read", json!({})), Verdict::Fold(None), "without paths it proves nothing");
    assert_eq!(story.offset(12, "readComposite"), Verdict::Fold(None));
}

#[test]
fn a_result_that_comes_before_our_201_waits_for_it() {
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    assert_eq!(story.offset(2, "read"), Verdict::Fold(Some(Name::Version(1))));
    story.folded(2);
    story.is(1, Status::InProgress, "");
    let mut sent = story.clone();
    sent.created(1, "t");
    sent.is(1, Status::Succeeded, "");

    // It was not handed over: the result was somebody else's, for good.
    story.not_done(1, false, true);
    let mut story = story.after(2);
    story.take(1);
    story.created(1, "t");
    story.is(1, Status::Scheduled, "");
    assert_eq!(story.offset(3, "read"), Verdict::Fold(Some(Name::Version(1))));

    // It was handed over long after it was claimed.
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    story.offset(2, "read");
    story.folded(2);
    let mut story = story.after(30);
    story.created(1, "t");
    story.is(1, Status::Scheduled, "");
}

#[test]
fn a_result_older_than_the_hand_over_answers_nobody() {
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    story.not_done(1, false, true);
    let early = story.result_of(2, "read", json!({"Device": {"0": {"UTC Offset": "1"}}}), &[""]);
    let mut story = story.after(60);
    story.take(1);
    story.created(1, "t");
    assert_eq!(story.apply(Event::Result(early)), Verdict::Fold(None));
    assert_eq!(story.offset(3, "read"), Verdict::Fold(Some(Name::Version(1))));
}

#[test]
fn a_refused_requests_late_result_is_its_own() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t1");
    story.scheduled(2, "read", &[OFFSET], "t2");
    story.refuses("t1");
    let failed = |version| story.result_of(version, "read", json!({}), &[OFFSET]);
    let (first, second) = (failed(3), failed(4));
    assert_eq!(story.clone().offset(3, "read"), Verdict::Fold(Some(Name::Version(2))), "a good one is not");
    assert_eq!(story.apply(Event::Result(first)), Verdict::Fold(Some(Name::Version(1))));
    assert_eq!(story.apply(Event::Result(second)), Verdict::Fold(Some(Name::Version(2))));
}

#[test]
fn a_result_rather_answers_one_that_still_expects_it() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t1");
    story.cancel(1);
    story.scheduled(2, "read", &[OFFSET], "t2");
    assert_eq!(story.offset(3, "read"), Verdict::Fold(Some(Name::Version(2))));
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(1))));
    story.folded(4);
    story.is(1, Status::Succeeded, "");
}

#[test]
fn what_ended_stays_until_it_is_filed_old_and_followed_by_three() {
    let mut story = Story::new();
    for version in 1..=5 {
        story.scheduled(version, "observe", &[OFFSET], "t");
        story.succeeds("t");
        story.now += 1_000;
    }
    let mut story = story.after(400);
    story.tick();
    assert_eq!(story.device.unfiled().count(), 5);
    assert_eq!(story.device.ended().len(), 5);
    story.device.mark_filed();
    story.tick();
    let names: Vec<u64> = story.device.ended().iter().filter_map(|record| record.name.version()).collect();
    assert_eq!(names, [3, 4, 5]);
    // What left is known to be in the history.
    assert_eq!(story.claim(1, "observe", &[OFFSET]), Verdict::NeedsHistory);
}

#[test]
fn the_copy_shows_the_newest_eight_and_what_ended_last() {
    let mut story = Story::new();
    for version in 1..=10 {
        story.scheduled(version, "read", &[OFFSET], &format!("t{version}"));
    }
    let names = |story: &Story| request_copies(&story.device, story.now).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&story), ["10", "3", "4", "5", "6", "7", "8", "9"]);
    for version in 1..=5 {
        story.refuses(&format!("t{version}"));
    }
    assert_eq!(names(&story), ["1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let story = story.after(300);
    assert_eq!(names(&story), ["10", "3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn the_copy_has_its_room_whatever_stands_in_the_reasons() {
    let mut story = Story::new();
    let long = "ü".repeat(8_000);
    for version in 1..=200 {
        let claim = Claim {
            client_token: Some("ü".repeat(32)),
            ..story.claim_of(version, "cancelObserveComposite", &[OFFSET])
        };
        story.claims(claim);
        if version <= 190 {
            story.created(version, "0123456789abcdef0123456789abcdef");
            let properties = Some(json!({"links": "x".repeat(900)}).to_string());
            story.apply(Event::Report(Reported {
                task_id: "0123456789abcdef0123456789abcdef".to_owned(),
                started_at: story.now / 1_000,
                status: ReportStatus::Refused,
                summary: long.clone(),
                properties,
                at: story.now,
            }));
        } else {
            story.apply(Event::NotHandedOver(NotHandedOver {
                name: Name::Version(version),
                mark: format!("mark of {version}"),
                reason: Reason::new("COIOTE_UNAVAILABLE", long.clone()),
                may_have_reached_coiote: false,
                retry_at: Some(story.now + 1_000),
                at: story.now,
            }));
        }
    }
    let copy = request_copies(&story.device, story.now);
    let size = serde_json::to_string(&copy).unwrap().len();
    assert!(size <= ROOM, "{size}");
    for version in (193..=200).chain(188..=190) {
        let entry = &copy[&version.to_string()];
        assert!(entry.reason.as_ref().is_some_and(|reason| reason.message.len() > 80), "{entry:?}");
        assert_eq!(entry.client_token.as_deref(), Some("ü".repeat(32).as_str()));
    }
}

#[test]
fn the_copy_has_its_room_whatever_stands_in_names_and_ids() {
    // From what fits to what can be no longer: in JSON a control character takes six bytes.
    for (token, task_id, shown) in [("t", 20, 11), ("t", 200, 10), ("\"", 200, 8), ("\u{1}", 40, 7), ("\u{1}", 200, 6)]
    {
        let mut story = Story::new();
        for version in 1_000_001..=1_000_020 {
            let claim = Claim {
                client_token: Some(token.repeat(64)),
                ..story.claim_of(version, "cancelObserveComposite", &[OFFSET])
            };
            story.claims(claim);
            let task_id = format!("{version:0>task_id$}");
            story.apply(Event::Created(Created {
                notice: Some(Reason::new("SESSION_NOT_STARTED", "\"".repeat(400))),
                ..story.created_of(version, &task_id)
            }));
            if version <= 1_000_010 {
                story.refuses(&task_id);
            }
            story.now += 1_000;
        }
        let copy = request_copies(&story.device, story.now);
        let size = serde_json::to_string(&copy).unwrap().len();
        assert!(size <= ROOM, "{size}");
        assert_eq!(copy.len(), shown, "{token:?}, {task_id}: {size}");
        // The newest ones, of those that are open.
        let newest: Vec<String> = (1_000_013..=1_000_020).map(|version: u64| version.to_string()).collect();
        assert!(newest.iter().rev().take(copy.len()).all(|name| copy.contains_key(name)), "{:?}", copy.keys());
    }
}

#[test]
fn a_busy_device_stays_below_what_one_item_holds() {
    let mut story = Story::new();
    for version in 1..=300 {
        story.scheduled(version, "observe", &[OFFSET], "t");
        story.succeeds("t");
        story.device.mark_filed();
    }
    assert!(story.device.ended().len() <= 200);
}

/// A DynamoDB write is billed by the kilobyte.
#[test]
fn a_device_with_short_requests_stays_below_a_write_unit() {
    let mut story = Story::new();
    for version in [123_456, 123_458, 123_460] {
        let claim = Claim { digest: "0123456789abcdef".to_owned(), ..story.claim_of(version, "read", &[OFFSET]) };
        story.claims(claim);
        story.created(version, "0123456789abcdef01234567");
        story.offset(version + 1, "read");
        story.folded(version + 1);
        story.now += 61_000;
    }
    story.device.mark_filed();
    let claim = Claim {
        mark: "0123456789abcdef".to_owned(),
        run: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
        digest: "0123456789abcdef".to_owned(),
        ..story.claim_of(123_462, "write", &[OFFSET])
    };
    story.claims(claim);
    let json = serde_json::to_string(&story.device).unwrap();
    println!("{} bytes: {json}", json.len());
    assert!(json.len() <= 850, "{} bytes: {json}", json.len());
}

/// The page of all states and events, from what the machine does.
#[test]
fn the_page_of_the_table_is_what_the_machine_does() {
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/request-states.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == page, "docs/request-states.md is stale: UPDATE_DOCS=1 cargo test -p requests --test table page");
}

/// What happens to a request.
type Happening<'a> = &'a dyn Fn(&mut Story);

/// A name, and what leads there.
type Row = (&'static str, fn(&mut Story, &str));

fn page() -> String {
    let states: [Row; 11] = [
        ("absent", |_, _| {}),
        ("held", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
        }),
        ("held, its run is dead", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.now += 61_000;
        }),
        ("waits", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.not_done(1, false, true);
            story.now += 2_000;
        }),
        ("scheduled", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.created(1, "t");
        }),
        ("scheduled, taken back", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.created(1, "t");
            story.cancel(1);
        }),
        ("`FAILED`, refused", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.not_done(1, false, false);
        }),
        ("`OUTCOME_UNKNOWN`", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.not_done(1, true, false);
        }),
        ("`TIMED_OUT`, its task removed", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.created(1, "t");
            story.now += LIFETIME;
            story.removed(1);
        }),
        ("`CANCELED`, its task removed", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.created(1, "t");
            story.cancel(1);
            story.removed(1);
        }),
        ("`SUCCEEDED`, by its report", |story, operation| {
            story.claim(1, operation, &[OFFSET]);
            story.created(1, "t");
            story.offset(2, operation);
            story.succeeds("t");
            story.folded(2);
        }),
    ];
    let again = |story: &Story, operation: &str, redriven: bool| Claim {
        mark: "another".to_owned(),
        run: "another".to_owned(),
        requested_at: NOW / 1_000,
        expires_at: NOW + 2 * LIFETIME,
        at: story.now + 1,
        redriven,
        history: Some(History::default()),
        ..story.claim_of(1, operation, &[OFFSET])
    };
    let mut page = String::from(
        "# States of a request\n\nWritten by a test from what `shared/requests` does (`UPDATE_DOCS=1 cargo test -p requests --test table \
         page`). Each cell is the state after the event; `·` where nothing changes. `held` and `waits` are IN_PROGRESS to the \
         author of a request.\n",
    );
    for (operation, title) in [
        ("read", "Read, write, readComposite: may run twice, and have a result"),
        ("observe", "Observe and the others that may run twice"),
        ("execute", "Execute, create, delete: at most once"),
    ] {
        let events: [(&str, Happening); 12] = [
            ("delivery", &|story| {
                story.claims(again(story, operation, false));
            }),
            ("redrive", &|story| {
                story.claims(again(story, operation, true));
            }),
            ("due", &|story| {
                story.take(1);
            }),
            ("201", &|story| {
                story.created(1, "t");
            }),
            ("surely not", &|story| {
                story.not_done(1, false, true);
            }),
            ("perhaps", &|story| {
                story.not_done(1, true, true);
            }),
            ("refused for good", &|story| {
                story.not_done(1, false, false);
            }),
            ("result", &|story| {
                story.offset(9, operation);
                story.folded(9);
            }),
            ("report: done", &|story| {
                story.succeeds("t");
            }),
            ("report: refused", &|story| {
                story.refuses("t");
            }),
            ("taken back", &|story| {
                story.cancel(1);
            }),
            ("lifetime over", &|story| {
                story.now += LIFETIME;
                story.tick();
                if matches!(story.due_actions().first(), Some(DueAction::Removal { .. })) {
                    story.removed(1);
                }
            }),
        ];
        page.push_str(&format!("\n## {title}\n\n{}\n| state |", diagram(operation, &states, &events)));
        for (name, _) in &events {
            page.push_str(&format!(" {name} |"));
        }
        page.push_str(&format!("\n| --- |{}\n", " --- |".repeat(events.len())));
        for (state, lead) in states {
            let mut story = Story::new();
            lead(&mut story, operation);
            page.push_str(&format!("| {state} |"));
            for (_, happen) in &events {
                let mut after = story.clone();
                happen(&mut after);
                let (before, after) = (shown(&story), shown(&after));
                page.push_str(&format!(" {} |", if before == after { "·" } else { &after }));
            }
            page.push('\n');
        }
    }
    page
}

/// Mermaid's diagram of the same table, with one node for all that a state is told in.
fn diagram(operation: &str, states: &[Row], events: &[(&str, Happening)]) -> String {
    let node = |story: &Story| {
        let state = shown(story).replace('`', "");
        let name = state.split([',', ' ']).next().unwrap().to_owned();
        if name == "absent" { "[*]".to_owned() } else { name }
    };
    let mut edges: Vec<((String, String), Vec<&str>)> = Vec::new();
    for (_, lead) in states {
        let mut story = Story::new();
        lead(&mut story, operation);
        for (event, happen) in events {
            let mut after = story.clone();
            happen(&mut after);
            let edge = (node(&story), node(&after));
            if edge.0 == edge.1 {
                continue;
            }
            match edges.iter_mut().find(|(known, _)| *known == edge) {
                Some((_, labels)) if !labels.contains(event) => labels.push(event),
                Some(_) => {}
                None => edges.push((edge, vec![event])),
            }
        }
    }
    let mut diagram = String::from("```mermaid\nstateDiagram-v2\n");
    for ((from, to), labels) in edges {
        // A colon ends the name of a label.
        diagram.push_str(&format!("    {from} --> {to}: {}\n", labels.join(", ").replace(':', "")));
    }
    diagram + "```\n"
}

/// A state as the page names it.
fn shown(story: &Story) -> String {
    let Some(record) = story.device.find(&Name::Version(1)) else { return "absent".to_owned() };
    let code = record.reason.as_ref().map_or("", |reason| reason.code.as_ref());
    let taken_back = if record.canceled_by.is_some() { ", taken back" } else { "" };
    match record.state {
        State::Held if record.mark == "another" => "held by it".to_owned(),
        State::Held => format!("held{taken_back}"),
        State::Waiting => "waits".to_owned(),
        State::Scheduled if record.reported_at > 0 => "scheduled, awaits its result".to_owned(),
        State::Scheduled => format!("scheduled{taken_back}"),
        State::Ended(status) if [code::OUTCOME_UNKNOWN, code::DEVICE_REFUSED].contains(&code) => {
            format!("`{}` `{code}`", status.as_str())
        }
        State::Ended(status) => format!("`{}`", status.as_str()),
    }
}

#[test]
fn what_timed_out_does_not_take_the_result_of_one_that_may_have_been_sent() {
    let mut story = Story::new();
    story.scheduled(1, "write", &[OFFSET], "t1");
    let mut story = story.after(LIFETIME / 1_000);
    story.removed(1);
    story.claim(2, "write", &[OFFSET]);
    story.not_done(2, true, true);
    assert_eq!(story.offset(3, "write"), Verdict::Fold(None));
    story.folded(3);
    story.is(1, Status::TimedOut, code::LIFETIME_OVER);
}

#[test]
fn a_result_that_nobody_expects_any_more_answers_only_the_one_that_it_can_be_of() {
    let mut story = Story::new();
    story.scheduled(1, "write", &[OFFSET], "t1");
    story.scheduled(2, "write", &[OFFSET], "t2");
    let mut story = story.after(LIFETIME / 1_000);
    assert_eq!(story.clone().offset(3, "write"), Verdict::Fold(None));
    story.refuses("t2");
    assert_eq!(story.offset(3, "write"), Verdict::Fold(Some(Name::Version(1))));
}

#[test]
fn a_device_with_more_open_requests_than_its_item_holds_takes_no_more() {
    let mut story = Story::new();
    let long = "k".repeat(3_000);
    let versions = 1..200;
    let rejected =
        versions.clone().find(|version| story.claim(*version, "read", &[&long]) == Verdict::Ended(Status::Rejected));
    story.is(rejected.unwrap(), Status::Rejected, code::TOO_MANY_OPEN);
    let json = serde_json::to_string(&story.device).unwrap().len();
    assert!((200_000..350_000).contains(&json), "{json}");
}
