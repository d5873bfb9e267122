//! Checks the certificate that Coiote connects to AWS IoT with, and its policy.

use std::time::SystemTime;

use aws_sdk_iot::types::CertificateStatus;
use serde_json::Value as Json;

use super::{Diagnoses, Diagnosis, policy};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};

const DAY: u64 = 24 * 60 * 60;

/// Topic of one thing, which stands for those of all things.
const SHADOW: &str = "$aws/things/lwm2m-doctor/shadow/name/operation/update";

const RENEW: &str = "deploy with another CertificateRotation: docs/deploy.md, \"Renew the certificates\"";

pub(super) async fn check(aws: &Aws, stack: &Stack, diagnoses: &mut Diagnoses) -> Result<(), Failure> {
    let Ok(policy_name) = stack.output("CoiotePolicyName") else {
        let detail = "the stack has not made it, so it is not known which one it is";
        diagnoses.add(Diagnosis::unsure("certificate of Coiote", detail, "look at it where you made it"));
        return Ok(());
    };
    let subject = format!("policy {policy_name}");
    let iot = aws.iot();
    let targets = match iot.list_targets_for_policy().policy_name(policy_name).send().await {
        Ok(listed) => listed.targets.unwrap_or_default(),
        Err(error) => {
            diagnoses.add(Diagnosis::not_visible(subject, could_not("look whose it is")(error)));
            return Ok(());
        }
    };
    if targets.is_empty() {
        diagnoses.add(Diagnosis::wrong(
            subject.clone(),
            "no certificate has it, so Coiote cannot connect to AWS IoT",
            RENEW,
        ));
    }
    for target in &targets {
        diagnoses.add(check_certificate(aws, target).await);
    }
    if let Some(diagnosis) = check_policy(&iot, policy_name, subject, targets.first()).await {
        diagnoses.add(diagnosis);
    }
    Ok(())
}

/// Checks that the policy allows what Coiote does, in the account of the certificate that has it.
async fn check_policy(
    iot: &aws_sdk_iot::Client,
    name: &str,
    subject: String,
    certificate_arn: Option<&String>,
) -> Option<Diagnosis> {
    let document = match iot.get_policy().policy_name(name).send().await {
        Ok(found) => {
            found.policy_document.and_then(|text| serde_json::from_str::<Json>(&text).ok()).unwrap_or_default()
        }
        Err(error) => return Some(Diagnosis::not_visible(subject, could_not("read it")(error))),
    };
    // arn:aws:iot:<region>:<account>:cert/<id>
    let (prefix, _) = certificate_arn?.split_once(":cert/")?;
    let missing: Vec<String> = needed_permissions()
        .into_iter()
        .filter(|(action, resource)| !policy::is_allowed(&document, action, &format!("{prefix}:{resource}")))
        .map(|(action, resource)| format!("{action} on {resource}"))
        .collect();
    Some(if missing.is_empty() {
        Diagnosis::ok(subject, "it allows what Coiote does in AWS IoT")
    } else {
        Diagnosis::wrong(subject, format!("it does not allow {}", missing.join(", ")), "deploy the stack again")
    })
}

/// Permissions that Coiote needs: to connect, to write into shadows and hear the result, and to announce devices.
fn needed_permissions() -> [(&'static str, String); 5] {
    [
        ("iot:Connect", "client/lwm2m-doctor".to_owned()),
        ("iot:Publish", format!("topic/{SHADOW}")),
        ("iot:Publish", "topic/createThing".to_owned()),
        ("iot:Receive", format!("topic/{SHADOW}/accepted")),
        ("iot:Subscribe", format!("topicfilter/{SHADOW}/accepted")),
    ]
}

async fn check_certificate(aws: &Aws, arn: &str) -> Diagnosis {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let subject = format!("certificate of Coiote ({}…)", id.get(..8).unwrap_or(id));
    let found = match aws.iot().describe_certificate().certificate_id(id).send().await {
        Ok(found) => found.certificate_description,
        Err(error) => return Diagnosis::not_visible(subject, could_not("look at it")(error)),
    };
    let Some(certificate) = found else { return Diagnosis::not_visible(subject, "AWS IoT says nothing of it") };
    if certificate.status != Some(CertificateStatus::Active) {
        let status = certificate.status.map_or_else(|| "no status".to_owned(), |status| status.as_str().to_owned());
        let advice = format!("aws iot update-certificate --new-status ACTIVE --certificate-id {id}");
        return Diagnosis::wrong(subject, format!("it is {status}, so Coiote cannot connect to AWS IoT"), advice);
    }
    let expires_at = certificate.certificate_pem.as_deref().and_then(coiote::expires_at);
    validity(subject, expires_at, SystemTime::now(), 30)
}

/// Judges how long a certificate is still valid: less than `warn_days` is wrong.
pub(super) fn validity(subject: String, expires_at: Option<SystemTime>, now: SystemTime, warn_days: u64) -> Diagnosis {
    let Some(expires_at) = expires_at else { return Diagnosis::wrong(subject, "it cannot be read", RENEW) };
    match expires_at.duration_since(now).map(|left| left.as_secs() / DAY) {
        Ok(days) if days >= warn_days => Diagnosis::ok(subject, format!("valid for {days} days")),
        Ok(1) => Diagnosis::wrong(subject, "valid for 1 day only", RENEW),
        Ok(days) => Diagnosis::wrong(subject, format!("valid for {days} days only"), RENEW),
        Err(_) => Diagnosis::wrong(subject, "it has expired", RENEW),
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
