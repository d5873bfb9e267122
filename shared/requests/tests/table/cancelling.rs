//! Cancelling by a cancelRequest or a job.

use requests::{Claim, History, Status, Verdict, code, token_key};

use crate::{OFFSET, REBOOT, Story, removal};

#[test]
fn a_cancel_request_names_the_status_of_each_of_its_requests() {
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

    // Coiote refuses the removal, and the others have left meanwhile.
    for version in 10..14 {
        story.scheduled(version, "observe", &[OFFSET], "o");
        story.refuses("o");
    }
    story.device.mark_filed();
    let mut story = story.after(400);
    story.tick();
    story.removal_refused(3);
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
fn a_client_token_names_earlier_requests_only() {
    let mut story = Story::new();
    let with_token = |story: &Story, version| Claim {
        client_token: Some("app".to_owned()),
        ..story.claim_of(version, "read", &[OFFSET])
    };
    story.claims(with_token(&story, 1));
    story.claims(with_token(&story, 3));
    story.created(1, "t");
    story.created(3, "t");
    let late = Claim { history: Some(History::default()), ..story.claim_of(2, "cancelRequest", &["app"]) };
    story.claims(late);
    assert_eq!(story.due_actions(), [removal(1, "t", true)], "the task is still needed");
}

#[test]
fn a_number_is_a_version_and_a_text_a_client_token() {
    for (wanted, canceled, open) in [("2".to_owned(), 2, 1), (token_key("2"), 1, 2)] {
        let mut story = Story::new();
        let claim = Claim { client_token: Some("2".to_owned()), ..story.claim_of(1, "read", &[OFFSET]) };
        story.claims(claim);
        story.not_done(1, false, true);
        story.claim(2, "observe", &[OFFSET]);
        story.not_done(2, false, true);
        let claim = story.claim_of(3, "cancelRequest", &[&wanted]);
        assert_eq!(story.claims(claim), Verdict::Ended(Status::Succeeded), "{wanted}");
        story.is(canceled, Status::Canceled, code::CANCELED);
        assert_eq!(story.record(open).status(), Status::InProgress, "{wanted}");
    }
    // The same for a request whose event comes after that of the cancelRequest.
    for (wanted, expected) in [("5".to_owned(), Verdict::Send), (token_key("5"), Verdict::Ended(Status::Canceled))] {
        let mut story = Story::new();
        let cancel = story.claim_of(7, "cancelRequest", &[&wanted]);
        assert_eq!(story.claims(cancel), Verdict::Ended(Status::Failed));
        let claim = Claim {
            history: Some(History::default()),
            client_token: Some("5".to_owned()),
            ..story.claim_of(6, "read", &[OFFSET])
        };
        assert_eq!(story.claims(claim), expected, "{wanted}");
    }
    for token in ["mine", "job:j:1", "1.5"] {
        assert_eq!(token_key(token), token);
    }
    for token in ["17", "+17", "\"17\"", "\""] {
        assert_eq!(token_key(token), format!("\"{token}\""));
    }
}

#[test]
fn a_cancel_request_that_finds_nothing_fails_and_still_cancels_a_request_that_comes_late() {
    let mut story = Story::new();
    let cancel = story.claim_of(7, "cancelRequest", &["5"]);
    assert_eq!(story.claims(cancel), Verdict::Ended(Status::Failed));
    story.is(7, Status::Failed, code::NOTHING_TO_CANCEL);
    // The request was made before the cancelRequest, and its event comes after it.
    let claim = Claim { history: Some(History::default()), ..story.claim_of(5, "execute", &[REBOOT]) };
    assert_eq!(story.claims(claim), Verdict::Ended(Status::Canceled));
    story.is(5, Status::Canceled, code::CANCELED);
    let claim = Claim { history: Some(History::default()), ..story.claim_of(6, "execute", &[REBOOT]) };
    assert_eq!(story.claims(claim), Verdict::Send);
}

#[test]
fn a_request_taken_back_while_it_is_handed_over_ends_with_the_outcome_of_that() {
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
fn a_request_that_the_device_did_is_not_taken_back() {
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

    // The report came when it was requested before the removal.
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
