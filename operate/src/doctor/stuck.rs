//! Checks that nothing is stuck: events, answers, requests, and `reconcile`, which looks after them.

use aws_sdk_sqs::types::QueueAttributeName;
use ledger::{DueIndex, Ledger};
use requests::{Millis, Record};

use super::{Diagnoses, Diagnosis};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};
use crate::output::since;

/// Age of a due look at a device that shows that `reconcile`, which looks each minute, does not run.
const OVERDUE: Millis = 5 * 60_000;

/// Most devices whose requests are looked at, the first that are due.
const MOST_DEVICES: i32 = 100;

pub(super) async fn check(aws: &Aws, stack: &Stack, diagnoses: &mut Diagnoses) -> Result<(), Failure> {
    diagnoses.add(match messages_in(aws, stack.output("FailureQueueUrl")?).await {
        Ok(0) => Diagnosis::ok("failure queue", "empty"),
        Ok(waiting) => {
            let advice = "lwm2m redrive --dry-run shows them; when what was wrong is right again, lwm2m redrive";
            Diagnosis::wrong("failure queue", format!("{waiting} messages wait in it"), advice)
        }
        Err(failure) => Diagnosis::not_visible("failure queue", failure),
    });
    diagnoses.add(match messages_in(aws, stack.output("AnswersQueueUrl")?).await {
        Ok(0) => Diagnosis::ok("answers queue", "empty"),
        Ok(waiting) => Diagnosis::unsure(
            "answers queue",
            format!("the answers of {waiting} things are tried again"),
            "if they do not get fewer, the log of answers says why they cannot be written",
        ),
        Err(failure) => Diagnosis::not_visible("answers queue", failure),
    });
    let ledger = aws.ledger(stack)?;
    let now = lambda_support::now();
    diagnoses.add(check_reconcile(&ledger, stack.output("ReconcileFunction")?, now).await);
    diagnoses.add(check_oldest_request(&ledger, now).await);
    Ok(())
}

/// Counts the messages in a queue, those that are being received included.
async fn messages_in(aws: &Aws, url: &str) -> Result<u64, Failure> {
    use QueueAttributeName::{ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible};
    let names = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
    let answer = aws.sqs().get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await;
    let counts = answer.map_err(could_not("look into it"))?.attributes.unwrap_or_default();
    Ok(names.iter().filter_map(|name| counts.get(name)?.parse::<u64>().ok()).sum())
}

async fn check_reconcile(ledger: &Ledger, function: &str, now: Millis) -> Diagnosis {
    let subject = "reconcile";
    let due = match ledger.due(DueIndex::Look, 0, now.saturating_sub(OVERDUE), 1).await {
        Ok(due) => due,
        Err(error) => return Diagnosis::not_visible(subject, error),
    };
    let read_until = match ledger.reports_read_until().await {
        Ok(Some(until)) => format!("Coiote's reports are read until {until}"),
        Ok(None) => "no report of Coiote has been read yet".to_owned(),
        Err(error) => error.to_string(),
    };
    match due.first() {
        None => Diagnosis::ok(subject, format!("it looks at what is due; {read_until}")),
        Some((at, thing)) => Diagnosis::wrong(
            subject,
            format!("it should have looked at {thing} {}, and has not; {read_until}", since(*at)),
            format!("look whether its schedule is enabled, and what {function} logs"),
        ),
    }
}

async fn check_oldest_request(ledger: &Ledger, now: Millis) -> Diagnosis {
    let subject = "oldest open request";
    let due = match ledger.due(DueIndex::Look, 0, Millis::MAX, MOST_DEVICES).await {
        Ok(due) => due,
        Err(error) => return Diagnosis::not_visible(subject, error),
    };
    let mut oldest: Option<(String, Record)> = None;
    for (_, thing) in due {
        let item = match ledger.load(&thing).await {
            Ok(item) => item,
            Err(error) => return Diagnosis::not_visible(subject, error),
        };
        // The events of some requests do not say when they were made, and AWS may have queued a job's request long before.
        let is_dated = |record: &&Record| record.requested_at > 0 && !record.name.is_of_job();
        for record in item.device.open().iter().filter(is_dated) {
            if oldest.as_ref().is_none_or(|(_, known)| record.requested_at < known.requested_at) {
                oldest = Some((thing.clone(), record.clone()));
            }
        }
    }
    let Some((thing, record)) = oldest else { return Diagnosis::ok(subject, "there is none") };
    let requested_at = record.requested_at.saturating_mul(1_000);
    let status = record.status().as_str();
    let detail = format!("{} {} of {thing}, {status}, made {}", record.operation, record.name, since(requested_at));
    // The same limit as the alarm's: half of its lifetime is over.
    if now.saturating_sub(requested_at) > record.expires_at.saturating_sub(requested_at) / 2 {
        let advice = format!("its device sleeps or is gone; lwm2m cancel {thing} {} takes it back", record.name);
        return Diagnosis::wrong(subject, detail, advice);
    }
    Diagnosis::ok(subject, detail)
}
