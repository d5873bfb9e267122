//! Hand-over: its outcomes, and the order of writes.

use requests::{
    Claim, ClaimDue, Created, DueAction, Event, History, Name, NotWoken, Reason, State, Status, Verdict, code,
};

use crate::{LIFETIME, OFFSET, REBOOT, Story, removal};

#[test]
fn a_request_that_was_not_handed_over_waits_or_fails() {
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
fn a_final_refusal_after_a_lost_answer_leaves_the_outcome_unknown() {
    let mut story = Story::new();
    story.claim(1, "observe", &[OFFSET]);
    story.not_done(1, true, true);
    let mut story = story.after(2);
    assert_eq!(story.take(1), Verdict::Send);
    story.not_done(1, false, false);
    story.is(1, Status::Failed, code::OUTCOME_UNKNOWN);
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
    assert_eq!((story.device.next_hand_over_at(), story.device.hand_over_order()), (None, None));
    assert!(story.due_actions().is_empty());
    story.not_done(1, true, true);
    assert_eq!(story.device.next_hand_over_at(), Some(story.now + 1_000));
    assert_eq!(story.device.hand_over_order(), Some(story.record(1).expires_at), "its pause changes no order");
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

    // The newer one was not sent: the older one goes first.
    let mut story = Story::new();
    story.claim(2, "write", &[OFFSET]);
    story.not_done(2, false, true);
    assert_eq!(story.claims(looked_up(story.claim_of(1, "write", &[OFFSET]))), Verdict::Send);

    // The newer one has left the item and is in the history.
    let mut story = Story::new();
    story.claim(3, "read", &[OFFSET]);
    let claim = story.claim_of(1, "write", &[OFFSET]);
    assert_eq!(story.claims(claim.clone()), Verdict::NeedsHistory);
    let history = Some(History { newer_write: Some(Name::Version(2)), ..History::default() });
    assert_eq!(story.claims(Claim { history, ..claim }), Verdict::Ended(Status::Failed));
    story.is(1, Status::Failed, code::OVERTAKEN);
}

#[test]
fn a_write_of_a_job_comes_after_the_versions_before_it() {
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
fn a_201_may_come_late() {
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.not_done(1, true, false);
    story.created(1, "t");
    story.is(1, Status::Scheduled, "");
    assert!(story.due_actions().is_empty(), "its lifetime is not over");
    story.succeeds("t");
    story.is(1, Status::Succeeded, "");

    // It timed out after an attempt with unknown outcome: then its task is removed.
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

    // Another run holds it: the first run's outcome must not let a newer write pass.
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
fn without_reports_scheduled_is_the_final_status_unless_the_request_is_taken_back() {
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    let created = Created { is_followed: false, ..story.created_of(1, "t") };
    story.apply(Event::Created(created.clone()));
    assert_eq!(story.record(1).state, State::Ended(Status::Scheduled));

    // Its author is told that the device was not woken.
    let reason = Reason::new(code::SESSION_NOT_STARTED, "Coiote answers 503");
    let not_woken = NotWoken { name: Name::Version(1), task_id: "t".to_owned(), reason, at: story.now };
    assert_eq!(story.apply(Event::NotWoken(not_woken.clone())), Verdict::Changed);
    story.is(1, Status::Scheduled, code::SESSION_NOT_STARTED);
    assert_eq!(story.apply(Event::NotWoken(not_woken)), Verdict::Unchanged);
    assert_eq!(story.device.unfiled().count(), 1);

    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.cancel(1);
    story.apply(Event::Created(created));
    assert_eq!(story.due_actions(), [removal(1, "t", false)]);
}

#[test]
fn a_device_that_could_not_be_woken_is_to_be_woken_until_that_succeeds() {
    let not_woken = |story: &Story, task_id: &str| {
        Event::NotWoken(NotWoken {
            name: Name::Version(1),
            task_id: task_id.to_owned(),
            reason: Reason::new(code::SESSION_NOT_STARTED, "Coiote answers 503"),
            at: story.now,
        })
    };
    let woken = |story: &Story| Event::Woken { name: Name::Version(1), at: story.now };
    for (notice, told, remains) in [
        (None, code::SESSION_NOT_STARTED, ""),
        (Some(Reason::new("ATTRIBUTES_IGNORED", "not sent")), "ATTRIBUTES_IGNORED", "ATTRIBUTES_IGNORED"),
    ] {
        let mut story = Story::new();
        story.claim(1, "observeComposite", &[OFFSET]);
        story.apply(Event::Created(Created { notice, ..story.created_of(1, "t") }));
        assert_eq!(story.apply(not_woken(&story, "of another run")), Verdict::Unchanged);
        assert_eq!(story.apply(woken(&story)), Verdict::Unchanged);
        assert_eq!(story.apply(not_woken(&story, "t")), Verdict::Changed);
        assert_eq!(story.apply(not_woken(&story, "t")), Verdict::Unchanged);
        story.is(1, Status::Scheduled, told);
        assert!(!story.record(1).reason.as_ref().is_some_and(|reason| reason.message.contains("; ")));
        assert!(story.record(1).is_to_be_woken);
        let mut by_itself = story.clone();
        by_itself.succeeds("t");
        by_itself.is(1, Status::Succeeded, remains);
        assert_eq!(story.apply(woken(&story)), Verdict::Changed);
        story.is(1, Status::Scheduled, remains);
        assert!(!story.record(1).is_to_be_woken);

        // The notice of one that has ended stays as it is.
        story.succeeds("t");
        assert_eq!(story.apply(not_woken(&story, "t")), Verdict::Unchanged);
    }
}
