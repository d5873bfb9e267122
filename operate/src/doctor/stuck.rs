//! What is stuck: events, answers, requests, and whether reconcile looks after them.

use aws_sdk_sqs::types::QueueAttributeName;
use ledger::{Due, Ledger};
use requests::{Millis, Record};

use super::{Finding, Findings};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};
use crate::output::since;

/// Reconcile looks at what is due each minute; what has waited for so long shows that it does not.
const OVERDUE: Millis = 5 * 60_000;

/// Devices whose requests are looked at, those that are due first.
const MOST_DEVICES: i32 = 100;

pub(super) async fn look(aws: &Aws, stack: &Stack, findings: &mut Findings) -> Result<(), Failure> {
    findings.add(match waiting(aws, stack.output("FailureQueueUrl")?).await {
        Ok(0) => Finding::ok("failure queue", "empty"),
        Ok(waiting) => {
            let advice = "lwm2m redrive --dry-run shows them; when what was wrong is right again, lwm2m redrive";
            Finding::wrong("failure queue", format!("{waiting} messages wait in it"), advice)
        }
        Err(failure) => Finding::not_seen("failure queue", failure),
    });
    findings.add(match waiting(aws, stack.output("AnswersQueueUrl")?).await {
        Ok(0) => Finding::ok("answers queue", "empty"),
        Ok(waiting) => Finding::unsure(
            "answers queue",
            format!("the answers of {waiting} things are tried again"),
            "if they do not get fewer, the log of answers says why they cannot be written",
        ),
        Err(failure) => Finding::not_seen("answers queue", failure),
    });
    let ledger = aws.ledger(stack)?;
    let now = lambda_support::now();
    findings.add(reconcile(&ledger, stack.output("ReconcileFunction")?, now).await);
    findings.add(oldest(&ledger, now).await);
    Ok(())
}

/// Messages in a queue, those that somebody has just received included.
async fn waiting(aws: &Aws, url: &str) -> Result<u64, Failure> {
    use QueueAttributeName::{ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible};
    let names = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
    let asked = aws.sqs().get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await;
    let known = asked.map_err(could_not("look into it"))?.attributes.unwrap_or_default();
    Ok(names.iter().filter_map(|name| known.get(name)?.parse::<u64>().ok()).sum())
}

async fn reconcile(ledger: &Ledger, function: &str, now: Millis) -> Finding {
    let subject = "reconcile";
    let due = match ledger.due(Due::Look, 0, now.saturating_sub(OVERDUE), 1).await {
        Ok(due) => due,
        Err(error) => return Finding::not_seen(subject, error),
    };
    let read_until = match ledger.reports_read_until().await {
        Ok(Some(until)) => format!("Coiote's reports are read until {until}"),
        Ok(None) => "no report of Coiote has been read yet".to_owned(),
        Err(error) => error.to_string(),
    };
    match due.first() {
        None => Finding::ok(subject, format!("it looks at what is due; {read_until}")),
        Some((at, thing)) => Finding::wrong(
            subject,
            format!("it should have looked at {thing} {}, and has not; {read_until}", since(*at)),
            format!("look whether its schedule is enabled, and what {function} logs"),
        ),
    }
}

async fn oldest(ledger: &Ledger, now: Millis) -> Finding {
    let subject = "oldest open request";
    let due = match ledger.due(Due::Look, 0, Millis::MAX, MOST_DEVICES).await {
        Ok(due) => due,
        Err(error) => return Finding::not_seen(subject, error),
    };
    let mut oldest: Option<(String, Record)> = None;
    for (_, thing) in due {
        let item = match ledger.load(&thing).await {
            Ok(item) => item,
            Err(error) => return Finding::not_seen(subject, error),
        };
        // Of some the event does not say when it was made.
        for record in item.device.open().iter().filter(|record| record.requested_at > 0) {
            if oldest.as_ref().is_none_or(|(_, known)| record.requested_at < known.requested_at) {
                oldest = Some((thing.clone(), record.clone()));
            }
        }
    }
    let Some((thing, record)) = oldest else { return Finding::ok(subject, "there is none") };
    let made = record.requested_at.saturating_mul(1_000);
    let status = record.status().as_str();
    let told = format!("{} {} of {thing}, {status}, made {}", record.operation, record.name, since(made));
    // As the alarm has it: half of its lifetime is over.
    if now.saturating_sub(made) > record.expires_at.saturating_sub(made) / 2 {
        let advice = format!("its device sleeps or is gone; lwm2m cancel {thing} {} takes it back", record.name);
        return Finding::wrong(subject, told, advice);
    }
    Finding::ok(subject, told)
}
