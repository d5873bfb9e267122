//! Results and reports: the request that each answers, and its final status.

use requests::{
    Claim, Created, Event, Name, ReportStatus, ResultReceived, Status, VERSION_KEPT, Verdict, code, path_hash,
};
use serde_json::json;

use crate::{LIFETIME, NOW, OFFSET, REBOOT, Story};

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
    // A report has precedence over a result.
    story.refuses("t");
    story.is(1, Status::Failed, code::DEVICE_REFUSED);
    story.succeeds("t");
    story.is(1, Status::Failed, code::DEVICE_REFUSED);
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
fn a_report_older_than_the_201_is_of_another_run() {
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
fn the_device_may_run_the_task_before_the_201_is_sent() {
    let slow = |story: &Story, version| Created { call_took: 3, ..story.created_of(version, "t") };
    let date = NOW / 1_000;
    let mut story = Story::new();
    story.claim(1, "execute", &[REBOOT]);
    story.apply(Event::Created(slow(&story, 1)));
    assert_eq!(story.report("t", date - 4, ReportStatus::Success), Verdict::Unchanged, "before the call");
    let mut alone = story.clone();
    alone.report("t", date - 3, ReportStatus::Success);
    alone.is(1, Status::Succeeded, "");

    // An equal request may have had the task run at that time: its outcome is unknown, or it was handed over as well.
    story.claim(2, "execute", &[REBOOT]);
    let mut unknown = story.clone();
    unknown.report("t", date - 1, ReportStatus::Success);
    unknown.is(1, Status::Scheduled, "");
    story.apply(Event::Created(slow(&story, 2)));
    story.report("t", date - 1, ReportStatus::Success);
    story.is(1, Status::Succeeded, "");
    story.is(2, Status::Scheduled, "");
    // Of another run, which is its own.
    story.report("t", date - 2, ReportStatus::Refused);
    story.is(1, Status::Succeeded, "");
    story.is(2, Status::Failed, code::DEVICE_REFUSED);
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
fn a_run_of_the_task_that_was_made_elsewhere_takes_no_success_away() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.offset(2, "read");
    story.folded(2);
    let mut soon = story.clone().after(60);
    soon.refuses("t");
    soon.is(1, Status::Failed, code::DEVICE_REFUSED);
    let mut story = story.after(24 * 3_600);
    story.refuses("t");
    story.is(1, Status::Succeeded, "");
}

/// Whether the ledger has it that everything that the result does not name below the key is gone.
fn covers(story: &Story, version: u64, key: &str) -> bool {
    story.device.result(version).is_some_and(|result| result.names(path_hash(key)))
}

fn all_of_a_device() -> serde_json::Value {
    json!({"Device": {"0": {"UTC Offset": "+02:00", "Timezone": "Europe/Berlin"}}, "Location": {"0": {"Speed": "1"}}})
}

#[test]
fn a_result_answers_the_request_whose_keys_it_fits_most_closely() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[""], "t");
    story.scheduled(2, "read", &["/33000/0"], "u");
    story.scheduled(3, "read", &[OFFSET], "v");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert_eq!(story.result(5, "read", all_of_a_device()), Verdict::Fold(Some(Name::Version(1))));
    assert!(!covers(&story, 4, "") && covers(&story, 5, ""));
    let vendors = json!({"33000": {"0": {"1": "2"}}});
    assert_eq!(story.result(6, "read", vendors), Verdict::Fold(Some(Name::Version(2))));

    // A second result of the narrow one, which was sent twice, or the first of the wide one: nobody knows, so it proves of no
    // other value that it is gone.
    let mut story = Story::new();
    story.scheduled(1, "read", &[""], "t");
    story.claim(3, "read", &[OFFSET]);
    story.not_done(3, true, true);
    let mut story = story.after(2);
    assert_eq!(story.take(3), Verdict::Send);
    story.created(3, "v");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert_eq!(story.offset(5, "read"), Verdict::Fold(Some(Name::Version(1))));
    assert!(!covers(&story, 5, ""));

    let mut story = Story::new();
    story.scheduled(1, "read", &[""], "t");
    story.scheduled(3, "read", &[OFFSET], "v");
    assert_eq!(story.result(4, "read", all_of_a_device()), Verdict::Fold(Some(Name::Version(1))));
    assert!(covers(&story, 4, ""));
    assert_eq!(story.offset(5, "read"), Verdict::Fold(Some(Name::Version(3))));
}

#[test]
fn a_result_of_a_narrow_request_empties_no_datamodel_shadow() {
    // The narrow one was made first, and its task created last.
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.scheduled(3, "read", &[""], "u");
    assert_eq!(story.result(4, "read", all_of_a_device()), Verdict::Fold(Some(Name::Version(3))));
    assert_eq!(story.offset(5, "read"), Verdict::Fold(Some(Name::Version(1))));
    assert!(covers(&story, 4, "") && !covers(&story, 5, ""));

    // The result of the whole data model answers a narrow one, because no other awaits it yet.
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    assert_eq!(story.result(2, "read", all_of_a_device()), Verdict::Fold(Some(Name::Version(1))));
    story.folded(2);
    story.scheduled(3, "read", &[""], "u");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert!(!covers(&story, 4, ""));

    // AWS IoT has refused the result of the whole data model, and the other one is of an object without a name.
    let mut story = Story::new();
    story.scheduled(1, "read", &[""], "t");
    story.scheduled(3, "read", &["/33000/0"], "u");
    assert_eq!(story.result(4, "read", json!({"33000": {"0": {"1": "2"}}})), Verdict::Fold(Some(Name::Version(3))));
    assert!(!covers(&story, 4, ""));

    // Several keys of few objects: the result of the whole data model names more objects.
    let vendors = json!({"33000": {"0": {"1": "2"}}, "Device": {"0": {"UTC Offset": "+02:00", "Timezone": "x"}}});
    let mut story = Story::new();
    story.scheduled(1, "read", &[""], "t");
    story.scheduled(3, "read", &["/33000/0", OFFSET, "Device.0.Timezone"], "u");
    let all = json!({"33000": {"0": {}}, "Device": {"0": {"UTC Offset": "1", "Timezone": "x"}}, "Location": {"0": {}}});
    assert_eq!(story.result(4, "read", all), Verdict::Fold(Some(Name::Version(1))));
    assert_eq!(story.result(5, "read", vendors), Verdict::Fold(Some(Name::Version(3))));

    // A second result of a read that was sent twice is taken for that of the read by numbers, whose own follows.
    let mut story = Story::new();
    story.scheduled(1, "read", &[""], "t");
    story.scheduled(3, "read", &["/33000/0"], "u");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert_eq!(story.result(5, "read", json!({"33000": {"0": {}}})), Verdict::Fold(Some(Name::Version(1))));
    assert!(!covers(&story, 5, ""));

    // Of keys of different levels nobody knows which paths lie in which.
    let mut story = Story::new();
    story.scheduled(1, "read", &["Device", "Location.0.Speed"], "t");
    story.scheduled(3, "read", &["Device", "Location"], "u");
    let both = json!({"Device": {"0": {}}, "Location": {"0": {"Speed": "1", "Latitude": "2"}}});
    assert_eq!(story.result(4, "read", both), Verdict::Fold(Some(Name::Version(3))));
    assert!(!covers(&story, 4, "Location"), "it may be of the other one");

    // The narrow one has ended without anybody knowing whether Coiote has its task.
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    story.not_done(1, true, false);
    let mut story = story.after(120);
    story.scheduled(3, "read", &[""], "u");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert!(!covers(&story, 4, ""));
}

#[test]
fn a_result_with_only_failed_keys_answers_the_request_for_them() {
    for (operation, wide, narrow, result, failed) in [
        ("read", vec!["Location"], vec!["Location.0.Speed"], json!({}), "Location.0.Speed"),
        ("read", vec![""], vec!["Location.0.Speed"], json!({}), "Location.0.Speed"),
        (
            "write",
            vec![OFFSET],
            vec![OFFSET, "Location.0.Speed"],
            json!({"Device": {"0": {"UTC Offset": "1"}}}),
            "Location.0.Speed",
        ),
    ] {
        let mut story = Story::new();
        story.scheduled(1, operation, &wide, "t");
        story.scheduled(2, operation, &narrow, "u");
        let result = story.result_of(3, operation, result, &[failed]);
        assert_eq!(story.apply(Event::Result(result)), Verdict::Fold(Some(Name::Version(2))), "{wide:?} {narrow:?}");
    }
}

#[test]
fn a_result_does_not_answer_a_wide_request_while_a_narrower_one_is_being_handed_over() {
    let mut story = Story::new();
    story.scheduled(1, "read", &["Device"], "t");
    story.claim(2, "read", &[OFFSET]);
    assert_eq!(story.offset(3, "read"), Verdict::Fold(Some(Name::Version(2))), "a candidate");
    story.created(2, "u");
    story.folded(3);
    story.is(2, Status::Succeeded, "");
    story.is(1, Status::Scheduled, "");
}

#[test]
fn a_result_that_is_not_of_the_narrower_request_answers_the_wide_one() {
    let withheld = || {
        let mut story = Story::new();
        story.scheduled(1, "read", &["Device"], "t");
        story.claim(2, "read", &[OFFSET]);
        assert_eq!(story.offset(3, "read"), Verdict::Fold(Some(Name::Version(2))), "a candidate");
        story.succeeds("t");
        story
    };
    // Coiote has surely not taken the narrower one.
    for is_folded_first in [true, false] {
        let mut story = withheld();
        if is_folded_first {
            story.folded(3);
        }
        story.not_done(2, false, true);
        story.folded(3);
        story.is(1, Status::Succeeded, "");
        story.is(2, Status::InProgress, "COIOTE_UNAVAILABLE");
    }
    // It may have, and is sent again, whose result is another one.
    for is_interrupted in [true, false] {
        let mut story = withheld();
        if is_interrupted {
            story = story.after(61);
            story.is(1, Status::Scheduled, "");
            story.tick();
        } else {
            story.not_done(2, true, true);
        }
        story.folded(3);
        story.is(1, Status::Succeeded, "");
        let mut story = story.after(2);
        assert_eq!(story.take(2), Verdict::Send);
        story.created(2, "u");
        assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(2))));
    }
    // It was sent after the result.
    let mut story = withheld().after(2);
    story.created(2, "u");
    story.folded(3);
    story.is(1, Status::Succeeded, "");
    story.is(2, Status::Scheduled, "");
    // It may have been sent, but is not being sent when the result comes.
    let mut story = Story::new();
    story.scheduled(1, "read", &["Device"], "t");
    story.claim(2, "read", &[OFFSET]);
    story.not_done(2, true, true);
    assert_eq!(story.offset(3, "read"), Verdict::Fold(Some(Name::Version(1))));
}

#[test]
fn a_narrower_read_that_has_its_result_leaves_the_wide_one_its_scope() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.offset(2, "read");
    story.folded(2);
    story.succeeds("t");
    let mut story = story.after(1);
    story.scheduled(3, "read", &["Device"], "u");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert!(story.device.result(4).unwrap().names(path_hash("Device")));
}

#[test]
fn a_narrower_read_whose_task_was_removed_leaves_the_wide_one_its_scope() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.cancel(1);
    story.apply(Event::TaskRemoved { name: Name::Version(1), at: NOW });
    story.is(1, Status::Canceled, code::CANCELED);
    let mut story = story.after(61);
    story.scheduled(3, "read", &["Device"], "u");
    assert_eq!(story.offset(4, "read"), Verdict::Fold(Some(Name::Version(3))));
    assert!(covers(&story, 4, "Device"));
}

#[test]
fn results_that_cannot_be_folded_do_not_fill_the_item() {
    let mut story = Story::new();
    for version in 1..=100 {
        story.offset(version, "read");
    }
    story.scheduled(200, "read", &[OFFSET], "t");
    story.offset(201, "read");
    story.folded(201);
    let mut story = story.after(15 * 60);
    story.tick();
    let known: Vec<u64> = story.device.results().map(|result| result.version).collect();
    assert_eq!((known.len(), known[0]), (33, 69), "the newest ones, and the last result");
    // They are in the failure queue, and other results are forgotten in time.
    story.offset(202, "read");
    story.folded(202);
    let mut story = story.after(61);
    story.offset(203, "read");
    story.folded(203);
    assert!(story.device.result(202).is_none());
}

#[test]
fn a_result_that_is_never_folded_is_forgotten_when_its_event_cannot_come_again() {
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.offset(2, "read");
    story.succeeds("t");
    story.scheduled(3, "read", &["Location"], "u");
    let location = json!({"Location": {"0": {"Latitude": "1"}}});
    assert_eq!(story.result(4, "read", location), Verdict::Fold(Some(Name::Version(3))));
    story.folded(4);
    let mut story = story.after(13 * 24 * 3_600);
    story.tick();
    assert!(story.device.result(2).is_some());
    let mut story = story.after(24 * 3_600);
    story.tick();
    assert!(story.device.result(2).is_none() && story.device.result(4).is_some());
}

#[test]
fn results_are_remembered_while_another_one_may_come_late() {
    let timezone = || json!({"Device": {"0": {"Timezone": "Europe/Berlin"}}});
    let mut story = Story::new();
    story.scheduled(1, "read", &[OFFSET], "t");
    story.scheduled(2, "read", &["Device.0.Timezone"], "u");
    for version in [4, 5] {
        story.result(version, "read", timezone());
        story.folded(version);
    }
    let is_known = |story: &Story| story.device.result(4).is_some();
    // That of the first request may be older than both.
    let mut story = story.after(14 * 60);
    story.tick();
    assert!(is_known(&story));
    let mut late = story.clone().after(60);
    late.tick();
    assert!(!is_known(&late), "after all attempts to fold one");
    story.offset(3, "read");
    assert!(is_known(&story), "it is not folded yet");
    story.folded(3);
    story.tick();
    assert!(!is_known(&story));
}

#[test]
fn an_older_result_that_comes_late_may_stand_beside_the_newest() {
    let mut story = Story::new();
    let touching = |story: &Story, version, object: &str| ResultReceived {
        touched: vec![path_hash(object)],
        ..story.result_of(version, "read", json!({object: {"0": {}}}), &[""])
    };
    for (version, object, remains) in [(2, "Device", 0), (6, "Device", 0), (4, "Location", 6), (5, "Device", 6)] {
        story.apply(Event::Result(touching(&story, version, object)));
        assert_eq!(story.device.copies_overwrite_marker().1, remains, "after {version}");
    }
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
    // 1 waits, 2 is for another key, 3 is a write.
    assert_eq!(story.offset(6, "read"), Verdict::Fold(Some(Name::Version(4))));
    assert_eq!(story.offset(6, "read"), Verdict::Fold(Some(Name::Version(4))), "its run died before it was folded");
    story.folded(6);
    assert_eq!(story.offset(6, "read"), Verdict::Duplicate(Status::Succeeded));
    story.is(5, Status::Scheduled, "");
    assert_eq!(story.offset(7, "read"), Verdict::Fold(Some(Name::Version(5))));
    assert_eq!(story.offset(8, "read"), Verdict::Fold(None));
    // A result that came before the request is not of it.
    story.scheduled(10, "read", &[OFFSET], "t10");
    assert_eq!(story.offset(9, "read"), Verdict::Fold(None));
    assert_eq!(story.result(11, "read", json!({})), Verdict::Fold(None), "without paths it proves nothing");
    assert_eq!(story.offset(12, "readComposite"), Verdict::Fold(None));
}

#[test]
fn a_result_that_comes_before_the_201_waits_for_it() {
    let mut story = Story::new();
    story.claim(1, "read", &[OFFSET]);
    assert_eq!(story.offset(2, "read"), Verdict::Fold(Some(Name::Version(1))));
    story.folded(2);
    story.is(1, Status::InProgress, "");
    let mut sent = story.clone();
    sent.created(1, "t");
    sent.is(1, Status::Succeeded, "");

    // It was not handed over: the result is not of it, and stays so.
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
fn a_result_older_than_the_hand_over_answers_no_request() {
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
fn a_late_result_of_a_refused_request_answers_it() {
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
fn a_result_answers_an_open_request_before_an_ended_one() {
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
fn a_timed_out_request_does_not_take_the_result_of_one_that_may_have_been_sent() {
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
fn a_result_that_no_request_awaits_answers_the_only_one_that_it_can_be_of() {
    let mut story = Story::new();
    story.scheduled(1, "write", &[OFFSET], "t1");
    story.scheduled(2, "write", &[OFFSET], "t2");
    let mut story = story.after(LIFETIME / 1_000);
    assert_eq!(story.clone().offset(3, "write"), Verdict::Fold(None));
    story.refuses("t2");
    assert_eq!(story.offset(3, "write"), Verdict::Fold(Some(Name::Version(1))));
}

#[test]
fn a_shadow_that_is_created_again_begins_with_low_versions() {
    let mut story = Story::new();
    // More results than are remembered
    for version in (800..840).step_by(2) {
        story.scheduled(version, "write", &[OFFSET], "t");
        assert_eq!(story.offset(version + 1, "write"), Verdict::Fold(Some(Name::Version(version))));
        story.folded(version + 1);
        story.succeeds("t");
    }
    // Until then AWS IoT keeps the version, so this is an event that comes late.
    assert_eq!(story.clone().after(VERSION_KEPT - 1).claim(2, "write", &[OFFSET]), Verdict::NeedsHistory);
    let mut story = story.after(VERSION_KEPT);
    story.scheduled(2, "write", &[OFFSET], "u");
    assert_eq!(story.offset(3, "write"), Verdict::Fold(Some(Name::Version(2))));
    story.folded(3);
    story.is(2, Status::Succeeded, "");
    let mut story = story.after(1);
    assert_eq!(story.offset(3, "write"), Verdict::Duplicate(Status::Succeeded));
    let again = Claim { requested_at: story.now / 1_000 - 1, ..story.claim_of(2, "write", &[OFFSET]) };
    assert_eq!(story.claims(again), Verdict::Duplicate(Status::Succeeded));
    story.scheduled(4, "write", &[OFFSET], "v");
}

#[test]
fn a_request_of_a_deleted_shadow_is_answered_in_the_new_one_and_is_older_than_its_requests() {
    let mut story = Story::new();
    story.scheduled(900, "write", &[OFFSET], "t");
    let mut story = story.after(VERSION_KEPT);
    // The device wakes before there is a request in the new shadow.
    assert_eq!(story.clone().offset(1, "write"), Verdict::Fold(Some(Name::Version(900))));
    story.scheduled(1, "write", &[OFFSET], "u");
    assert_eq!(story.offset(2, "write"), Verdict::Fold(Some(Name::Version(900))), "it was made first");
    assert_eq!(story.offset(3, "write"), Verdict::Fold(Some(Name::Version(1))));
}
