//! Checks that Coiote answers: to a call from here with the functions' certificate, and to the functions, by the ledger.

use std::time::{Duration, SystemTime};

use coiote::{Client, Identity};
use coiote_access::Error;

use super::certificates::{RENEW, validity};
use super::{Diagnoses, Diagnosis};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};
use crate::output::since;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Advice on a certificate that the stack does not make: another CertificateRotation would do nothing.
const RENEW_OWN: &str =
    "put a new one into the secret: docs/deploy.md, \"Renew the certificates\", A secret of your own";

/// Name that no device has: only the call itself is of interest.
const NO_DEVICE: &str = "lwm2m-doctor";

pub(super) async fn check(aws: &Aws, stack: &Stack, diagnoses: &mut Diagnoses) -> Result<(), Failure> {
    let function = stack.output("OperationRequestFunction")?;
    match find_coiote(aws, function).await {
        Ok((url, secret)) => check_from_here(aws, stack, &url, &secret, diagnoses).await,
        Err(failure) => diagnoses.add(Diagnosis::not_visible("Coiote", failure)),
    }
    diagnoses.add(match aws.ledger(stack)?.circuit().await {
        Ok(circuit) if circuit.is_open() => Diagnosis::wrong(
            "Coiote as the functions see it",
            format!("away since {}, {} failures in a row", since(circuit.open_since), circuit.failures),
            "requests wait, and are handed over by themselves when it is back: docs/operations.md, \"Outages\"",
        ),
        Ok(_) => Diagnosis::ok("Coiote as the functions see it", "it answers"),
        Err(error) => Diagnosis::not_visible("Coiote as the functions see it", error),
    });
    Ok(())
}

/// Most days left of the client certificate for which the alarm on its expiry is on: it is on while
/// `days <= CertificateAlarmDays AND 2 * days < ClientCertificateDays`, so not for a new certificate.
fn warn_days(alarm_days: u64, certificate_days: u64) -> u64 {
    alarm_days.min(certificate_days.saturating_sub(1) / 2)
}

/// Reads Coiote's URL and the secret's name from the function's variables.
async fn find_coiote(aws: &Aws, function: &str) -> Result<(String, String), Failure> {
    let got = aws.lambda().get_function_configuration().function_name(function).send().await;
    let environment = got.map_err(could_not("look where Coiote is"))?.environment;
    let (variables, error) = environment.map(|found| (found.variables, found.error)).unwrap_or_default();
    let mut variables = variables.unwrap_or_default();
    variables.remove("COIOTE_URL").zip(variables.remove("COIOTE_SECRET_ID")).ok_or_else(|| {
        // AWS answers so to a user who may not decrypt with the key of KmsKeyArn.
        let why = error.and_then(|error| error.message);
        let why = why.unwrap_or_else(|| format!("{function} has no variables that name it"));
        Failure::new(format!("could not look where Coiote is: {why}"))
    })
}

/// Checks the secret and its certificate, and calls Coiote with it.
async fn check_from_here(aws: &Aws, stack: &Stack, url: &str, secret: &str, diagnoses: &mut Diagnoses) {
    let certificate = format!("client certificate for Coiote (secret {secret})");
    let read = aws.secrets_manager().get_secret_value().secret_id(secret).send().await;
    let text = match read {
        Ok(output) => output.secret_string.unwrap_or_default(),
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
            let advice = "docs/deploy.md, \"Certificates of your own\", or deploy with a Coiote user";
            return diagnoses.add(Diagnosis::wrong(certificate, "there is no such secret", advice));
        }
        Err(error) => return diagnoses.add(Diagnosis::not_visible(certificate, could_not("read it")(error))),
    };
    let identity = match Identity::from_secret(&text) {
        Ok(identity) => identity,
        Err(why) => {
            let advice = "docs/deploy.md, \"Certificates of your own\", says what it has to hold";
            return diagnoses.add(Diagnosis::wrong(certificate, why.to_string(), advice));
        }
    };
    let days =
        |parameter, default: u64| stack.parameter(parameter).and_then(|days| days.parse().ok()).unwrap_or(default);
    let warn_days = warn_days(days("CertificateAlarmDays", 30), days("ClientCertificateDays", 3_650));
    let renew = if stack.makes_certificates() { RENEW } else { RENEW_OWN };
    diagnoses.add(validity(certificate, identity.expires_at(), SystemTime::now(), warn_days, renew));
    let found = match Client::new(url, &identity) {
        Ok(client) => client.find_devices(NO_DEVICE, CALL_TIMEOUT).await,
        Err(error) => Err(error),
    };
    diagnoses.add(match found {
        Ok(_) => Diagnosis::ok(format!("Coiote at {url}"), "it answers, and takes the client certificate"),
        Err(error) => {
            let error = Error::from(error);
            let detail = format!("{}: {error}", error.code());
            Diagnosis::wrong(
                format!("Coiote at {url}"),
                detail,
                format!("docs/errors.md says what to do about {}", error.code()),
            )
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_and_the_alarm_have_the_same_limit() {
        for alarm_days in 1..=60 {
            for certificate_days in 1..=90 {
                let warn_days = warn_days(alarm_days, certificate_days);
                for days in 0..=certificate_days {
                    let is_alarm_on = days <= alarm_days && 2 * days < certificate_days;
                    assert_eq!(days <= warn_days, is_alarm_on, "{days} of {certificate_days}, alarm at {alarm_days}");
                }
            }
        }
    }
}
