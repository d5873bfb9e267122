//! Whether Coiote answers: from here, with the functions' own certificate, and as the functions have it in the ledger.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use coiote::{Client, Identity};
use coiote_access::Error;

use super::certificates::validity;
use super::{Finding, Findings};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};
use crate::output::since;

const CALL_LIMIT: Duration = Duration::from_secs(10);

/// No device is called so: the search is for its own sake.
const NOBODY: &str = "lwm2m-doctor";

pub(super) async fn look(aws: &Aws, stack: &Stack, findings: &mut Findings) -> Result<(), Failure> {
    let function = stack.output("OperationRequestFunction")?;
    let got = aws.lambda().get_function_configuration().function_name(function).send().await;
    let variables = match got.map_err(could_not("look where Coiote is")) {
        Ok(found) => found.environment.and_then(|environment| environment.variables).unwrap_or_default(),
        Err(failure) => {
            findings.add(Finding::not_seen("Coiote", failure));
            HashMap::new()
        }
    };
    if let (Some(url), Some(secret)) = (variables.get("COIOTE_URL"), variables.get("COIOTE_SECRET_ID")) {
        from_here(aws, stack, url, secret, findings).await;
    }
    findings.add(match aws.ledger(stack)?.circuit().await {
        Ok(circuit) if circuit.is_open() => Finding::wrong(
            "Coiote as the functions see it",
            format!("away since {}, {} failures in a row", since(circuit.open_since), circuit.failures),
            "requests wait, and are handed over by themselves when it is back: docs/operations.md, \"Outages\"",
        ),
        Ok(_) => Finding::ok("Coiote as the functions see it", "it answers"),
        Err(error) => Finding::not_seen("Coiote as the functions see it", error),
    });
    Ok(())
}

async fn from_here(aws: &Aws, stack: &Stack, url: &str, secret: &str, findings: &mut Findings) {
    let certificate = format!("client certificate for Coiote (secret {secret})");
    let read = aws.secrets_manager().get_secret_value().secret_id(secret).send().await;
    let text = match read {
        Ok(output) => output.secret_string.unwrap_or_default(),
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
            let advice = "docs/deploy.md, \"Certificates of your own\", or deploy with a Coiote user";
            return findings.add(Finding::wrong(certificate, "there is no such secret", advice));
        }
        Err(error) => return findings.add(Finding::not_seen(certificate, could_not("read it")(error))),
    };
    let identity = match Identity::from_secret(&text) {
        Ok(identity) => identity,
        Err(why) => {
            let advice = "docs/deploy.md, \"Certificates of your own\", says what it has to hold";
            return findings.add(Finding::wrong(certificate, why.to_string(), advice));
        }
    };
    let warn_days = stack.parameter("CertificateAlarmDays").and_then(|days| days.parse().ok()).unwrap_or(30);
    findings.add(validity(certificate, identity.expires_at(), SystemTime::now(), warn_days));
    let found = match Client::new(url, &identity) {
        Ok(client) => client.find_devices(NOBODY, CALL_LIMIT).await,
        Err(error) => Err(error),
    };
    findings.add(match found {
        Ok(_) => Finding::ok(format!("Coiote at {url}"), "it answers, and takes the client certificate"),
        Err(error) => {
            let error = Error::from(error);
            let told = format!("{}: {error}", error.code());
            Finding::wrong(
                format!("Coiote at {url}"),
                told,
                format!("docs/errors.md says what to do about {}", error.code()),
            )
        }
    });
}
