//! The certificate that Coiote connects to AWS IoT with, and what its policy allows.

use std::time::SystemTime;

use aws_sdk_iot::types::CertificateStatus;
use serde_json::Value as Json;

use super::{Finding, Findings, policy};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};

const DAY: u64 = 24 * 60 * 60;

/// A thing whose topics stand for those of all.
const SHADOW: &str = "$aws/things/lwm2m-doctor/shadow/name/operation/update";

const RENEW: &str = "deploy with another CertificateRotation: docs/deploy.md, \"Renew the certificates\"";

pub(super) async fn look(aws: &Aws, stack: &Stack, findings: &mut Findings) -> Result<(), Failure> {
    let Ok(policy_name) = stack.output("CoiotePolicyName") else {
        let told = "the stack has not made it, so it is not known which one it is";
        findings.add(Finding::unsure("certificate of Coiote", told, "look at it where you made it"));
        return Ok(());
    };
    let subject = format!("policy {policy_name}");
    let iot = aws.iot();
    let targets = match iot.list_targets_for_policy().policy_name(policy_name).send().await {
        Ok(listed) => listed.targets.unwrap_or_default(),
        Err(error) => {
            findings.add(Finding::not_seen(subject, could_not("look whose it is")(error)));
            return Ok(());
        }
    };
    if targets.is_empty() {
        findings.add(Finding::wrong(
            subject.clone(),
            "no certificate has it, so Coiote cannot connect to AWS IoT",
            RENEW,
        ));
    }
    for target in &targets {
        findings.add(of_certificate(aws, target).await);
    }
    let document = match iot.get_policy().policy_name(policy_name).send().await {
        Ok(found) => {
            found.policy_document.and_then(|text| serde_json::from_str::<Json>(&text).ok()).unwrap_or_default()
        }
        Err(error) => {
            findings.add(Finding::not_seen(subject, could_not("read it")(error)));
            return Ok(());
        }
    };
    // arn:aws:iot:<region>:<account>:cert/<id>
    let Some((prefix, _)) = targets.first().and_then(|target| target.split_once(":cert/")) else { return Ok(()) };
    let missing: Vec<String> = needed()
        .into_iter()
        .filter(|(action, resource)| !policy::allows(&document, action, &format!("{prefix}:{resource}")))
        .map(|(action, resource)| format!("{action} on {resource}"))
        .collect();
    findings.add(if missing.is_empty() {
        Finding::ok(subject, "it allows what Coiote does in AWS IoT")
    } else {
        Finding::wrong(subject, format!("it does not allow {}", missing.join(", ")), "deploy the stack again")
    });
    Ok(())
}

/// What Coiote does: it connects, writes into shadows and hears what became of it, and announces devices.
fn needed() -> [(&'static str, String); 5] {
    [
        ("iot:Connect", "client/lwm2m-doctor".to_owned()),
        ("iot:Publish", format!("topic/{SHADOW}")),
        ("iot:Publish", "topic/createThing".to_owned()),
        ("iot:Receive", format!("topic/{SHADOW}/accepted")),
        ("iot:Subscribe", format!("topicfilter/{SHADOW}/accepted")),
    ]
}

async fn of_certificate(aws: &Aws, arn: &str) -> Finding {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let subject = format!("certificate of Coiote ({}…)", id.get(..8).unwrap_or(id));
    let found = match aws.iot().describe_certificate().certificate_id(id).send().await {
        Ok(found) => found.certificate_description,
        Err(error) => return Finding::not_seen(subject, could_not("look at it")(error)),
    };
    let Some(certificate) = found else { return Finding::not_seen(subject, "AWS IoT says nothing of it") };
    if certificate.status != Some(CertificateStatus::Active) {
        let status = certificate.status.map_or_else(|| "no status".to_owned(), |status| status.as_str().to_owned());
        let advice = format!("aws iot update-certificate --new-status ACTIVE --certificate-id {id}");
        return Finding::wrong(subject, format!("it is {status}, so Coiote cannot connect to AWS IoT"), advice);
    }
    let expires_at = certificate.certificate_pem.as_deref().and_then(coiote::expires_at);
    validity(subject, expires_at, SystemTime::now(), 30)
}

/// Whether a certificate is valid, and for how long. It is wrong when that is less than so many days.
pub(super) fn validity(subject: String, expires_at: Option<SystemTime>, now: SystemTime, warn_days: u64) -> Finding {
    let Some(expires_at) = expires_at else { return Finding::wrong(subject, "it cannot be read", RENEW) };
    match expires_at.duration_since(now).map(|left| left.as_secs() / DAY) {
        Ok(days) if days >= warn_days => Finding::ok(subject, format!("valid for {days} days")),
        Ok(1) => Finding::wrong(subject, "valid for 1 day only", RENEW),
        Ok(days) => Finding::wrong(subject, format!("valid for {days} days only"), RENEW),
        Err(_) => Finding::wrong(subject, "it has expired", RENEW),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::State;
    use super::*;

    #[test]
    fn a_certificate_is_wrong_before_it_expires() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        let state = |expires_at| validity(String::new(), expires_at, now, 30).state;
        assert_eq!(state(Some(now + Duration::from_secs(30 * DAY))), State::Ok);
        assert_eq!(state(Some(now + Duration::from_secs(30 * DAY - 1))), State::Wrong);
        assert_eq!(state(Some(now - Duration::from_secs(1))), State::Wrong);
        assert_eq!(state(None), State::Wrong);
    }
}
