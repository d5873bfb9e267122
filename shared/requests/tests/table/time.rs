//! Passing of time: interrupted runs, lifetimes, removals, records that are forgotten.

use requests::{DueAction, Name, Status, Verdict, code};

use crate::{LIFETIME, NOW, OFFSET, REBOOT, Story, removal};

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
fn a_request_times_out_when_its_task_is_removed() {
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
    // A report that was requested before changes nothing about the removal.
    assert_eq!(story.asked(1), Verdict::Unchanged);
    assert_eq!(story.due_actions(), [removal(1, "t", false)]);
    story.removed(1);
    story.is(1, Status::TimedOut, code::LIFETIME_OVER);
    // A report replaces its final status.
    story.succeeds("t");
    story.is(1, Status::Succeeded, "");
}

#[test]
fn a_removal_that_coiote_refuses_is_tried_less_and_less_often_until_the_lifetime_ends() {
    for (is_canceled, status, code) in
        [(true, Status::Canceled, code::CANCELED), (false, Status::TimedOut, code::LIFETIME_OVER)]
    {
        let mut story = Story::new();
        story.scheduled(1, "execute", &[REBOOT], "t");
        assert_eq!(story.removal_refused(1), Verdict::Unchanged, "its task is not to be removed");
        if is_canceled {
            story.cancel(1);
            for minutes in [1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 64] {
                story.removal_refused(1);
                assert_eq!(story.removal_refused(1), Verdict::Unchanged);
                assert!(story.due_actions().is_empty());
                assert_eq!(story.device.next_look_at(), Some(story.now + minutes * 60_000));
                story = story.after(minutes * 60);
                assert_eq!(story.due_actions(), [removal(1, "t", false)]);
            }
        }
        story = story.after(LIFETIME / 1_000);
        story.removal_refused(1);
        story.is(1, status, code);
    }
}

#[test]
fn a_result_that_is_never_folded_asks_for_no_more_looks() {
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
fn an_ended_request_stays_until_it_is_filed_old_and_followed_by_three() {
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
    // Requests that have left the item have to be in the history.
    assert_eq!(story.claim(1, "observe", &[OFFSET]), Verdict::NeedsHistory);
}
