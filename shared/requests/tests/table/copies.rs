//! Sizes and contents of the copies and of the item.

use requests::{
    Claim, Created, Event, Name, NotHandedOver, Reason, ReportStatus, Reported, Status, Verdict, code, request_copies,
};
use serde_json::json;

use crate::{MAX_COPIES_BYTES, OFFSET, Story};

#[test]
fn the_copies_show_the_newest_eight_and_those_that_ended_last() {
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
fn the_copies_have_a_limited_size_whatever_the_reasons() {
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
    assert!(size <= MAX_COPIES_BYTES, "{size}");
    for version in (193..=200).chain(188..=190) {
        let entry = &copy[&version.to_string()];
        assert!(entry.reason.as_ref().is_some_and(|reason| reason.message.len() > 80), "{entry:?}");
        assert_eq!(entry.client_token.as_deref(), Some("ü".repeat(32).as_str()));
    }
}

#[test]
fn the_copies_have_a_limited_size_whatever_the_names_and_ids() {
    // From lengths that fit to the longest possible ones: in JSON a control character takes six bytes.
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
        assert!(size <= MAX_COPIES_BYTES, "{size}");
        assert_eq!(copy.len(), shown, "{token:?}, {task_id}: {size}");
        // The newest ones, of those that are open.
        let newest: Vec<String> = (1_000_013..=1_000_020).map(|version: u64| version.to_string()).collect();
        assert!(newest.iter().rev().take(copy.len()).all(|name| copy.contains_key(name)), "{:?}", copy.keys());
    }
}

#[test]
fn the_item_of_a_busy_device_stays_below_the_limit() {
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
fn the_item_of_a_device_with_short_requests_stays_below_a_write_unit() {
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

#[test]
fn a_device_rejects_requests_beyond_the_size_of_its_item() {
    let mut story = Story::new();
    let long = "k".repeat(3_000);
    let versions = 1..200;
    let rejected =
        versions.clone().find(|version| story.claim(*version, "read", &[&long]) == Verdict::Ended(Status::Rejected));
    story.is(rejected.unwrap(), Status::Rejected, code::TOO_MANY_OPEN);
    // Some can still be taken back.
    story.claims(story.claim_of(rejected.unwrap() + 1, "cancelRequest", &["1"]));
    story.is(rejected.unwrap() + 1, Status::InProgress, "");
    // Neither does it grow by more that are rejected.
    for version in 1_000..1_200 {
        assert_eq!(story.claim(version, "read", &[&long]), Verdict::Ended(Status::Rejected));
        story.device.mark_filed();
    }
    let json = serde_json::to_string(&story.device).unwrap().len();
    assert!((200_000..350_000).contains(&json), "{json}");
}
