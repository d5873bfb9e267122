//! Claims: deliveries, redrives, repetitions, requests that are rejected.

use requests::{
    Cancel, CanceledBy, Claim, Created, Device, Event, History, Name, NotHandedOver, PastRequest, Reason, Status,
    Verdict, code, content_digest,
};
use serde_json::json;

use crate::{NOW, OFFSET, REBOOT, Story};

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
fn a_request_of_a_dead_run_is_claimed_again_unless_it_must_not_run_twice() {
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
        assert_eq!(story.claims(claim.clone()), Verdict::NeedsHistory, "it may have been forgotten");
        assert_eq!(story.claims(Claim { history: Some(History::default()), ..claim }), verdict);
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
    // Without reported, after another request, or with other content, it is a new request.
    assert_eq!(story.claim(8, "execute", &[REBOOT]), Verdict::Send);
    story.claim(9, "read", &[OFFSET]);
    let claim = with_reported(story.claim_of(10, "execute", &[REBOOT]));
    assert_eq!(story.claims(claim), Verdict::Send);
    let claim = with_reported(story.claim_of(11, "execute", &["Device.0.Factory Reset"]));
    assert_eq!(story.claims(claim), Verdict::Send);
    // An operation that may run twice is not rejected.
    for version in [12, 13] {
        let claim = with_reported(story.claim_of(version, "observe", &[OFFSET]));
        assert_eq!(story.claims(claim), Verdict::Send);
    }
}

#[test]
fn a_saved_document_that_comes_before_what_it_repeats_is_sent_instead() {
    let mut story = Story::new();
    let saved = Claim { with_reported: true, ..story.claim_of(6, "execute", &[REBOOT]) };
    assert_eq!(story.claims(saved), Verdict::Send);
    let late = Claim { history: Some(History::default()), ..story.claim_of(5, "execute", &[REBOOT]) };
    assert_eq!(story.claims(late), Verdict::Ended(Status::Rejected));
    story.is(5, Status::Rejected, code::RESAVED);
    // A request between them, or an update without reported, is no repetition.
    let mut story = Story::new();
    assert_eq!(story.claim(8, "execute", &[REBOOT]), Verdict::Send);
    let other = Claim { history: Some(History::default()), ..story.claim_of(7, "execute", &[REBOOT]) };
    assert_eq!(story.claims(other), Verdict::Send);
}

#[test]
fn a_request_replaces_an_open_one_of_its_name_whose_job_was_deleted() {
    let name = Name::Job { id: "j".to_owned(), execution: 1 };
    let at = NOW / 1_000;
    let claim_of = |story: &Story, queued_at: u64| Claim {
        name: name.clone(),
        mark: format!("mark of {queued_at}"),
        requested_at: queued_at,
        history: Some(History::default()),
        ..story.claim_of(0, "read", &[OFFSET])
    };
    for (state, verdict) in [("waits", Verdict::Send), ("scheduled", Verdict::Busy)] {
        let mut story = Story::new();
        let older = claim_of(&story, at - 1_000);
        assert_eq!(story.claims(older.clone()), Verdict::Send);
        if state == "waits" {
            story.apply(Event::NotHandedOver(NotHandedOver {
                name: name.clone(),
                mark: older.mark.clone(),
                may_have_reached_coiote: false,
                reason: Reason::new("COIOTE_UNAVAILABLE", "x"),
                retry_at: Some(NOW + 30_000),
                at: NOW,
            }));
        } else {
            let created = Created { name: name.clone(), mark: older.mark.clone(), ..story.created_of(0, "t") };
            story.apply(Event::Created(created));
        }
        let newer = claim_of(&story, at);
        for _ in 0..2 {
            assert_eq!(story.claims(newer.clone()), verdict, "{state}");
        }
        if verdict == Verdict::Busy {
            assert_eq!(
                story.apply(Event::TaskRemoved { name: name.clone(), at: NOW }),
                Verdict::Ended(Status::Canceled)
            );
            assert_eq!(story.claims(newer.clone()), Verdict::Send);
        }
        let record = story.device.find(&name).unwrap();
        assert_eq!((record.requested_at, record.status()), (at, Status::InProgress));
        // A late delivery of the older one, also when the newer one has ended, or has left the device's item
        let mut story = story.after(1);
        let late = Claim { at: story.now + 1, ..older };
        assert_eq!(story.claims(late.clone()), Verdict::Duplicate(Status::InProgress));
        let created = Created { name: name.clone(), mark: newer.mark.clone(), ..story.created_of(0, "u") };
        story.apply(Event::Created(created));
        story.refuses("u");
        assert_eq!(story.claims(late.clone()), Verdict::Duplicate(Status::Failed));
        let past = PastRequest { status: Status::Failed, requested_at: at, may_have_been_sent: true, had_task: true };
        let history = Some(History { same: Some(past), ..History::default() });
        assert_eq!(Story::new().claims(Claim { history, ..late }), Verdict::Duplicate(Status::Failed));
    }
}

#[test]
fn a_request_that_was_removed_from_the_shadow_and_is_saved_again_is_a_new_one() {
    let saved = |story: &Story, version| Claim { with_reported: true, ..story.claim_of(version, "execute", &[REBOOT]) };
    let mut story = Story::new();
    story.scheduled(5, "execute", &[REBOOT], "t");
    let cleared = |version| Event::DesiredCleared { version, at: NOW };
    assert_eq!(story.apply(cleared(4)), Verdict::Unchanged, "before it was made");
    assert_eq!(story.claims(saved(&story, 6)), Verdict::Ended(Status::Rejected));
    assert_eq!(story.apply(cleared(7)), Verdict::Changed);
    assert_eq!(story.apply(cleared(7)), Verdict::Unchanged);
    assert_eq!(story.claims(saved(&story, 8)), Verdict::Send);
    assert_eq!(story.claims(saved(&story, 9)), Verdict::Ended(Status::Rejected));

    // What an earlier request has left beside `operation` and `keys` is not known any more, and is saved as well.
    assert_eq!(story.apply(cleared(10)), Verdict::Changed);
    let desired = json!({"operation": "execute", "keys": [REBOOT], "arguments": "0"});
    let digest_without = |left: &str| content_digest(|field| desired.get(field).filter(|_| field != left));
    let request = Claim { digest: digest_without("arguments"), ..story.claim_of(11, "execute", &[REBOOT]) };
    assert_eq!(story.claims(request), Verdict::Send);
    assert_eq!(
        story.claims(Claim { digest: digest_without(""), ..saved(&story, 12) }),
        Verdict::Ended(Status::Rejected)
    );
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

    // The first one may have been sent.
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
        requested_at: story.now / 1_000 - 31,
        history,
        ..story.claim_of(2, "execute", &[REBOOT])
    };
    let prompt = Claim { requested_at: story.now / 1_000 - 30, ..claim(&story, None) };
    assert_eq!(story.clone().claims(prompt), Verdict::Send);
    assert_eq!(story.claims(claim(&story, None)), Verdict::NeedsHistory);
    assert_eq!(story.device, Device::default());
    let same_token = Some(History { same_token: Some(Name::Version(1)), ..History::default() });
    assert_eq!(story.claims(claim(&story, same_token)), Verdict::Ended(Status::Rejected));
    story.is(2, Status::Rejected, code::SAME_TOKEN);
    let mut story = Story::new();
    assert_eq!(story.claims(claim(&story, Some(History::default()))), Verdict::Send);
}

#[test]
fn an_execute_with_a_token_is_kept_as_long_as_a_claim_can_repeat_it() {
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
    let mut story = story.after(329);
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
fn a_redrive_continues_a_request_that_was_not_sent() {
    let redriven = |claim: Claim| Claim { redriven: true, mark: "new".to_owned(), at: claim.at + 1, ..claim };
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.not_done(1, false, false);
    assert_eq!(story.claims(redriven(story.claim_of(1, "execute", &[REBOOT]))), Verdict::Send);

    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.not_done(1, true, false);
    assert_eq!(story.claims(redriven(story.claim_of(1, "execute", &[REBOOT]))), Verdict::Duplicate(Status::Failed));

    // A write also needs the newer writes in the history.
    let mut story = Story::new();
    story.claim(1, "write", &[OFFSET]);
    story.not_done(1, true, false);
    let claim = redriven(story.claim_of(1, "write", &[OFFSET]));
    assert_eq!(story.claims(claim.clone()), Verdict::NeedsHistory);
    assert_eq!(story.claims(Claim { history: Some(History::default()), ..claim }), Verdict::Send);
    assert!(story.record(1).may_have_reached_coiote);

    // The request has left the item and is in the history.
    let mut story = Story::new();
    story.claim(9, "read", &[OFFSET]);
    let (execute, write) = (("execute", REBOOT), ("write", OFFSET));
    for ((operation, key), status, may_have_been_sent, had_task, verdict) in [
        (execute, Status::Failed, false, false, Verdict::Send),
        (execute, Status::Failed, true, false, Verdict::Duplicate(Status::Failed)),
        (execute, Status::Succeeded, true, true, Verdict::Duplicate(Status::Succeeded)),
        (write, Status::Failed, true, false, Verdict::Send),
        // The device has refused it.
        (write, Status::Failed, true, true, Verdict::Duplicate(Status::Failed)),
    ] {
        let claim = redriven(story.claim_of(1, operation, &[key]));
        let same = Some(PastRequest { status, requested_at: claim.requested_at, may_have_been_sent, had_task });
        let claim = Claim { history: Some(History { same, ..History::default() }), ..claim };
        assert_eq!(story.clone().claims(claim), verdict);
    }
}

#[test]
fn a_shadow_that_was_created_again_is_recognised_by_the_times_of_its_requests() {
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

        // The same by the history.
        let mut story = Story::new();
        story.claim(9, "read", &[OFFSET]);
        let same = Some(PastRequest {
            status: Status::Succeeded,
            requested_at: first,
            may_have_been_sent: true,
            had_task: true,
        });
        let claim = Claim { history: Some(History { same, ..History::default() }), ..claim };
        assert_eq!(story.claims(claim), verdict, "{first} {second}");
    }
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
    // AWS rounds some times.
    for rounded in [0, 1] {
        let requested_at = first.requested_at + rounded;
        let again =
            Claim { run: "another".to_owned(), mark: "m".to_owned(), at: story.now + 1, requested_at, ..first.clone() };
        assert_eq!(story.claims(again), Verdict::Duplicate(Status::Failed));
    }
    assert_eq!(story.claims(claim(&story, 2, Some(History::default()))), Verdict::Send, "a retry is meant");
    // The history has it, or another job of the same name.
    for (requested_at, expected) in
        [(NOW / 1_000, Verdict::Duplicate(Status::Failed)), (NOW / 1_000 - 600, Verdict::Send)]
    {
        let same = Some(PastRequest { status: Status::Failed, requested_at, may_have_been_sent: true, had_task: true });
        let mut story = Story::new();
        let history = History { same, ..History::default() };
        assert_eq!(story.claims(claim(&story, 1, Some(history))), expected);
    }
    // A job that was deleted and created again.
    let mut story = story.after(600);
    assert_eq!(story.claims(claim(&story, 1, Some(History::default()))), Verdict::Send);
}

#[test]
fn an_open_request_of_a_deleted_job_is_taken_back_for_the_one_that_was_created_again() {
    let name = || Name::Job { id: "j".to_owned(), execution: 1 };
    let claim = |story: &Story| Claim {
        name: name(),
        history: Some(History::default()),
        ..story.claim_of(1, "execute", &[REBOOT])
    };
    let deleted = CanceledBy::JobOver { job_id: "j".to_owned(), over: "deleted".to_owned() };
    // Also if its deletion was told before, or an author has taken it back: its execution is gone all the same.
    for before in [None, Some(deleted), Some(CanceledBy::Request(Name::Version(7)))] {
        let mut story = Story::new();
        let old = claim(&story);
        assert_eq!(story.claims(old.clone()), Verdict::Send);
        story.apply(Event::Created(Created { name: name(), ..story.created_of(1, "old") }));
        if let Some(by) = before.clone() {
            story.apply(Event::Cancel(Cancel { name: name(), by, at: story.now }));
        }
        let mut story = story.after(60);
        let new = claim(&story);
        for _ in 0..2 {
            assert_eq!(story.claims(new.clone()), Verdict::Busy);
            let record = story.device.find(&name()).unwrap();
            assert_eq!(
                (record.requested_at, &record.canceled_by),
                (old.requested_at, &Some(CanceledBy::Newer)),
                "{before:?}"
            );
        }
        assert_eq!(story.claims(old), Verdict::Duplicate(Status::Scheduled), "an old event, delivered late");
        story.apply(Event::TaskRemoved { name: name(), at: story.now });
        let record = story.device.find(&name()).unwrap();
        assert_eq!((record.status(), &record.canceled_by), (Status::Canceled, &Some(CanceledBy::Newer)));
        assert_eq!(story.claims(new.clone()), Verdict::Send, "{before:?}");
        let record = story.device.find(&name()).unwrap();
        assert_eq!((record.requested_at, &record.canceled_by), (new.requested_at, &None));
    }
}

#[test]
fn a_request_that_the_device_did_ends_so_although_its_job_was_created_again() {
    let name = || Name::Job { id: "j".to_owned(), execution: 1 };
    let mut story = Story::new();
    let claim = |story: &Story| Claim {
        name: name(),
        history: Some(History::default()),
        ..story.claim_of(1, "read", &[OFFSET])
    };
    assert_eq!(story.claims(claim(&story)), Verdict::Send);
    story.apply(Event::Created(Created { name: name(), ..story.created_of(1, "old") }));
    story.succeeds("old");
    let mut story = story.after(30);
    assert_eq!(story.claims(claim(&story)), Verdict::Busy, "its result is awaited");
    assert_eq!(story.device.find(&name()).unwrap().canceled_by, None);
    story.offset(2, "read");
    story.folded(2);
    assert_eq!(story.device.find(&name()).unwrap().status(), Status::Succeeded);
    assert_eq!(story.claims(claim(&story)), Verdict::Send);
}

#[test]
fn the_age_of_a_request_is_known_from_its_time_in_the_shadow_alone() {
    let mut story = Story::new();
    let names = [Name::Version(1), Name::Version(2), Name::Job { id: "j".to_owned(), execution: 1 }];
    for (name, requested_at) in names.iter().zip([NOW / 1_000, 0, NOW / 1_000]) {
        story.claims(Claim { name: name.clone(), requested_at, ..story.claim_of(1, "read", &[OFFSET]) });
    }
    let ages = names.each_ref().map(|name| story.device.find(name).is_some_and(|record| record.has_known_age()));
    assert_eq!(ages, [true, false, false]);
}
