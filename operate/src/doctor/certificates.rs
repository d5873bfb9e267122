//! Checks the certificate that Coiote connects to AWS IoT with, and its policy.

use std::time::SystemTime;

use aws_sdk_iot::types::{CertificateDescription, CertificateStatus};
use serde_json::Value as Json;

use super::{Diagnoses, Diagnosis, RESTORE, policy};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};

const DAY: u64 = 24 * 60 * 60;

/// Topic of one thing, which stands for those of all things.
const SHADOW: &str = "$aws/things/lwm2m-doctor/shadow/name/operation/update";

/// Advice on certificates that the stack makes.
pub(super) const RENEW: &str = "deploy with another CertificateRotation: docs/deploy.md, \"Renew the certificates\"";

pub(super) async fn check(aws: &Aws, stack: &Stack, diagnoses: &mut Diagnoses) -> Result<(), Failure> {
    let Ok(policy_name) = stack.output("CoiotePolicyName") else {
        let detail = "the stack has not made it, so it is not known which one it is";
        diagnoses.add(Diagnosis::unsure("certificate of Coiote", detail, "look at it where you made it"));
        return Ok(());
    };
    let subject = format!("policy {policy_name}");
    let iot = aws.iot();
    let targets = iot.list_targets_for_policy().policy_name(policy_name).into_paginator().items().send();
    let arns: Vec<String> = match targets.try_collect().await {
        Ok(arns) => arns,
        Err(error) => {
            diagnoses.add(Diagnosis::not_visible(subject, could_not("look whose it is")(error)));
            return Ok(());
        }
    };
    if arns.is_empty() {
        diagnoses.add(Diagnosis::wrong(
            subject.clone(),
            "no certificate has it, so Coiote cannot connect to AWS IoT",
            RENEW,
        ));
    }
    let mut certificates = Vec::new();
    for arn in &arns {
        certificates.push(Certificate::look_up(&iot, arn).await);
    }
    for certificate in &certificates {
        diagnoses.add(certificate.check(&certificates, policy_name));
    }
    if let Some(diagnosis) = check_policy(&iot, policy_name, subject, arns.first()).await {
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
        Diagnosis::wrong(subject, format!("it does not allow {}", missing.join(", ")), RESTORE)
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

/// Certificate that has the policy.
struct Certificate<'a> {
    arn: &'a str,
    found: Result<CertificateDescription, Failure>,
}

impl Certificate<'_> {
    async fn look_up<'a>(iot: &aws_sdk_iot::Client, arn: &'a str) -> Certificate<'a> {
        let described = iot.describe_certificate().certificate_id(id_in(arn)).send().await;
        let found = described
            .map_err(could_not("look at it"))
            .and_then(|found| found.certificate_description.ok_or_else(|| Failure::new("AWS IoT says nothing of it")));
        Certificate { arn, found }
    }

    /// Judges the certificate as one of `all` that have the policy: a renewal may leave an inactive one beside the new one.
    fn check(&self, all: &[Certificate], policy_name: &str) -> Diagnosis {
        let (arn, id) = (self.arn, id_in(self.arn));
        let subject = format!("certificate of Coiote ({}…)", id.get(..8).unwrap_or(id));
        let certificate = match &self.found {
            Ok(certificate) => certificate,
            Err(failure) => return Diagnosis::not_visible(subject, failure),
        };
        if is_active(certificate) {
            let expires_at = certificate.certificate_pem.as_deref().and_then(coiote::expires_at);
            return validity(subject, expires_at, SystemTime::now(), 30, RENEW);
        }
        let status = certificate.status.as_ref().map_or("without a status", CertificateStatus::as_str);
        // One that could not be looked at may be active.
        if all.iter().any(|other| other.found.as_ref().map_or(true, is_active)) {
            let advice = format!(
                "the next renewal removes it; by hand: aws iot detach-policy --policy-name {policy_name} --target {arn} \
                 && aws iot delete-certificate --certificate-id {id}"
            );
            return Diagnosis::unsure(subject, format!("it is {status}: a renewal could not remove it"), advice);
        }
        let advice = match all {
            [_] => format!("aws iot update-certificate --new-status ACTIVE --certificate-id {id}"),
            // Some of them were replaced, perhaps after a leak.
            _ => RENEW.to_owned(),
        };
        Diagnosis::wrong(subject, format!("it is {status}, so Coiote cannot connect to AWS IoT"), advice)
    }
}

fn id_in(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

fn is_active(certificate: &CertificateDescription) -> bool {
    certificate.status == Some(CertificateStatus::Active)
}

/// Judges how long a certificate is still valid: `warn_days` whole days or less are wrong, and `renew` says how to renew it.
pub(super) fn validity(
    subject: String,
    expires_at: Option<SystemTime>,
    now: SystemTime,
    warn_days: u64,
    renew: &str,
) -> Diagnosis {
    let Some(expires_at) = expires_at else { return Diagnosis::wrong(subject, "it cannot be read", renew) };
    match expires_at.duration_since(now).map(|left| left.as_secs() / DAY) {
        Ok(days) if days > warn_days => {
            Diagnosis::ok(subject, format!("valid for {days} {}", if days == 1 { "day" } else { "days" }))
        }
        Ok(1) => Diagnosis::wrong(subject, "valid for 1 day only", renew),
        Ok(days) => Diagnosis::wrong(subject, format!("valid for {days} days only"), renew),
        Err(_) => Diagnosis::wrong(subject, "it has expired", renew),
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
        let state = |expires_at| validity(String::new(), expires_at, now, 30, RENEW).state;
        assert_eq!(state(Some(now + Duration::from_secs(31 * DAY))), State::Ok);
        assert_eq!(state(Some(now + Duration::from_secs(31 * DAY - 1))), State::Wrong);
        assert_eq!(state(Some(now + Duration::from_secs(30 * DAY))), State::Wrong);
        assert_eq!(state(Some(now - Duration::from_secs(1))), State::Wrong);
        assert_eq!(state(None), State::Wrong);
    }

    #[test]
    fn an_inactive_certificate_is_only_wrong_if_none_is_active() {
        let certificate = |status| Certificate {
            arn: "arn:aws:iot:eu-central-1:1:cert/0123456789",
            found: Ok(CertificateDescription::builder().status(status).build()),
        };
        let (active, inactive) =
            (|| certificate(CertificateStatus::Active), || certificate(CertificateStatus::Inactive));
        let invisible = Certificate { arn: "", found: Err(Failure::new("not allowed")) };
        for (all, state, advice) in [
            (vec![inactive()], State::Wrong, "--new-status ACTIVE"),
            (vec![inactive(), inactive()], State::Wrong, "CertificateRotation"),
            (vec![inactive(), active()], State::Unsure, "aws iot delete-certificate --certificate-id 0123456789"),
            (vec![inactive(), invisible], State::Unsure, "the next renewal removes it"),
        ] {
            let diagnosis = all[0].check(&all, "policy");
            assert_eq!(diagnosis.state, state, "{diagnosis:?}");
            assert!(diagnosis.advice.contains(advice), "{diagnosis:?}");
        }
    }
}
