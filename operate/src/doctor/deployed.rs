//! Checks the deployed stack, its functions, and the rules and streams that invoke them.

use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use serde_json::Value as Json;

use super::{Diagnoses, Diagnosis, RESTORE, policy};
use crate::connection::{Aws, Stack, function_in_arn};
use crate::exit::{Failure, could_not};

/// Rules of AVSystem's own stack that act on the same requests and results, each with what it acts on.
const PEERS_RULES: [(&str, &str); 2] = [("operationRequest", "request"), ("operationResponse", "result")];

pub(super) async fn check(aws: &Aws, stack: &Stack, diagnoses: &mut Diagnoses) -> Result<(), Failure> {
    diagnoses.add(diagnosis_of_status(format!("stack {}", stack.name()), stack.status()));
    let functions = stack.functions();
    for function in &functions {
        diagnoses.add(check_function(aws, function).await);
    }
    for rule in stack.rules() {
        diagnoses.add(check_rule(aws, rule, &functions).await);
    }
    check_event_sources(aws, stack.output("AnswersFunction")?, &OF_ANSWERS, diagnoses).await;
    // The output is missing where jobs are switched off.
    if let Ok(function) = stack.output("JobExecutionsFunction") {
        check_event_sources(aws, function, &OF_JOB_EXECUTIONS, diagnoses).await;
    }
    for (rule, acts_on) in PEERS_RULES {
        // AWS refuses access to a rule that does not exist, so an error says nothing.
        if let Ok(found) = aws.iot().get_topic_rule().rule_name(rule).send().await
            && found.rule.is_some_and(|rule| rule.rule_disabled != Some(true))
        {
            diagnoses.add(Diagnosis::wrong(
                format!("rule {rule}"),
                format!("AVSystem's own stack acts on every {acts_on} as well"),
                format!("aws iot disable-topic-rule --rule-name {rule}"),
            ));
        }
    }
    Ok(())
}

async fn check_function(aws: &Aws, function: &str) -> Diagnosis {
    let subject = format!("function {function}");
    let got = aws.lambda().get_function_configuration().function_name(function).send().await;
    let found = match got.map_err(could_not("look at it")) {
        Ok(found) => found,
        Err(failure) => return Diagnosis::not_visible(subject, failure),
    };
    let state = found.state.as_ref().map_or("", |state| state.as_str());
    let updated = found.last_update_status.as_ref().map_or("", |status| status.as_str());
    if matches!(state, "Failed" | "Inactive") || updated == "Failed" {
        let why = found.state_reason.or(found.last_update_status_reason).unwrap_or_default();
        return Diagnosis::wrong(subject, format!("{state}, last update {updated} {why}"), "deploy the stack again");
    }
    Diagnosis::ok(subject, state)
}

async fn check_rule(aws: &Aws, rule: &str, functions: &[&str]) -> Diagnosis {
    let subject = format!("rule {rule}");
    let found = match aws.iot().get_topic_rule().rule_name(rule).send().await {
        Ok(found) => found,
        Err(error) => {
            let detail =
                format!("it is not there, or you may not look at it ({})", lambda_support::aws::error_summary(&error));
            return Diagnosis::wrong(subject, detail, RESTORE);
        }
    };
    let arn = found.rule_arn.unwrap_or_default();
    let rule_is_disabled = found.rule.as_ref().is_some_and(|rule| rule.rule_disabled == Some(true));
    if rule_is_disabled {
        let advice = format!("aws iot enable-topic-rule --rule-name {rule}");
        return Diagnosis::wrong(subject, "it is disabled, so nothing comes through it", advice);
    }
    let actions = found.rule.and_then(|rule| rule.actions).unwrap_or_default();
    let mut invoked = actions.iter().filter_map(|action| Some(function_in_arn(&action.lambda.as_ref()?.function_arn)));
    let Some(function) = invoked.find(|name| functions.contains(name)) else {
        return Diagnosis::wrong(subject, "it invokes no function of the stack", RESTORE);
    };
    let add = format!(
        "aws lambda add-permission --function-name {function} --statement-id {} --action lambda:InvokeFunction \
         --principal iot.amazonaws.com --source-arn {arn}",
        statement_id(rule)
    );
    let no_permission = |subject| Diagnosis::wrong(subject, format!("it may not invoke {function}"), add);
    match aws.lambda().get_policy().function_name(function).send().await {
        Ok(policy) => {
            let document: Json = policy.policy.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            if policy::may_rule_invoke(&document, &arn) {
                Diagnosis::ok(subject, format!("enabled, and may invoke {function}"))
            } else {
                no_permission(subject)
            }
        }
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
            no_permission(subject)
        }
        Err(error) => Diagnosis::not_visible(subject, could_not("look at the function's policy")(error)),
    }
}

/// Id for the statement in a function's policy that lets the rule invoke it: several rules invoke the same function. It has at most
/// 100 characters (AWS Lambda API reference, AddPermission), a rule's name up to 128. CloudFormation makes names distinct at their end.
fn statement_id(rule: &str) -> &str {
    rule.get(rule.len().saturating_sub(100)..).unwrap_or(rule)
}

/// Judges the stack's status.
fn diagnosis_of_status(subject: String, status: &str) -> Diagnosis {
    let advice = "aws cloudformation describe-stack-events says why; deploy it again";
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Diagnosis::ok(subject, status),
        "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_COMPLETE" => {
            let detail = format!("{status}: the last deployment failed and was undone; the stack is as it was before");
            Diagnosis::unsure(subject, detail, advice)
        }
        _ if status.ends_with("_IN_PROGRESS") => Diagnosis::unsure(subject, status, "wait until it has ended"),
        _ => Diagnosis::wrong(subject, status, advice),
    }
}

/// Source of events that has to invoke a function.
struct EventSource {
    subject: &'static str,
    /// Service in its ARN.
    service: &'static str,
    /// Effect of its not invoking the function, for the message.
    effect: &'static str,
    /// Further advice, where it did not for longer than the stream keeps its records.
    afterwards: &'static str,
}

const OF_ANSWERS: [EventSource; 2] = [
    EventSource {
        subject: "the ledger's stream to answers",
        service: "dynamodb",
        effect: "answers do not come into the shadows",
        afterwards: "; after more than a day also lwm2m rewrite-answers",
    },
    EventSource {
        subject: "the answers queue",
        service: "sqs",
        effect: "answers that were put off do not come into the shadows",
        afterwards: "",
    },
];

const OF_JOB_EXECUTIONS: [EventSource; 1] = [EventSource {
    subject: "the ledger's stream to job-executions",
    service: "dynamodb",
    effect: "AWS IoT Jobs is not told of executions",
    afterwards: "",
}];

/// Checks that all event sources of a function invoke it.
async fn check_event_sources(aws: &Aws, function: &str, sources: &[EventSource], diagnoses: &mut Diagnoses) {
    let listed = aws.lambda().list_event_source_mappings().function_name(function).send().await;
    let mappings = match listed.map_err(could_not("look whether it invokes its function")) {
        Ok(listed) => listed.event_source_mappings.unwrap_or_default(),
        Err(failure) => {
            for source in sources {
                diagnoses.add(Diagnosis::not_visible(source.subject, &failure));
            }
            return;
        }
    };
    for source in sources {
        let of_source: Vec<_> = mappings.iter().filter(|mapping| source.has(mapping)).collect();
        if of_source.is_empty() {
            let detail = format!("its event source mapping was deleted, so {}", source.effect);
            let advice = format!("{RESTORE}{}", source.afterwards);
            diagnoses.add(Diagnosis::wrong(source.subject, detail, advice));
        }
        for mapping in of_source {
            diagnoses.add(source.check(mapping));
        }
    }
}

impl EventSource {
    /// Whether the event source mapping is the source's, and stays.
    fn has(&self, mapping: &EventSourceMappingConfiguration) -> bool {
        // arn:aws:<service>:<region>:<account>:<resource>
        let service = mapping.event_source_arn().and_then(|arn| arn.split(':').nth(2));
        service == Some(self.service) && mapping.state() != Some("Deleting")
    }

    fn check(&self, mapping: &EventSourceMappingConfiguration) -> Diagnosis {
        let (state, id) = (mapping.state().unwrap_or_default(), mapping.uuid().unwrap_or_default());
        if matches!(state, "Disabled" | "Disabling") {
            let advice = format!("aws lambda update-event-source-mapping --uuid {id} --enabled{}", self.afterwards);
            return Diagnosis::wrong(self.subject, format!("{state}, so {}", self.effect), advice);
        }
        // A mapping stays enabled when it cannot read its source or the function fails (AWS Lambda API reference,
        // EventSourceMappingConfiguration).
        match mapping.last_processing_result() {
            Some(result) if result.starts_with("PROBLEM") => {
                let advice = format!(
                    "if it lasts, the log of {} says what fails in the function; if that has no line, {RESTORE}{}",
                    function_in_arn(mapping.function_arn().unwrap_or_default()),
                    self.afterwards
                );
                Diagnosis::wrong(
                    self.subject,
                    format!("{state}, but AWS reports \"{result}\": until that ends, {}", self.effect),
                    advice,
                )
            }
            _ => Diagnosis::ok(self.subject, state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn the_statements_of_several_rules_have_different_ids() {
        assert_eq!(statement_id("stack_JobOverRule_1"), "stack_JobOverRule_1");
        let long = |rule: &str| format!("{}_{rule}", "s".repeat(127 - rule.len()));
        let (request, over) = (long("OperationRequestRule_1"), long("JobOverRule_2"));
        assert_eq!(statement_id(&request).len(), 100);
        assert_ne!(statement_id(&request), statement_id(&over));
    }

    #[test]
    fn an_enabled_event_source_that_has_a_problem_is_wrong() {
        let check = |result: &str| {
            let mapping = EventSourceMappingConfiguration::builder().state("Enabled").last_processing_result(result);
            let [of_stream, _] = OF_ANSWERS;
            of_stream.check(&mapping.function_arn("arn:aws:lambda:eu-central-1:1:function:answers").build())
        };
        for result in ["No records processed", "OK"] {
            assert_eq!(check(result).state, State::Ok, "{result}");
        }
        let found = check("PROBLEM: Function call failed");
        assert_eq!(found.state, State::Wrong);
        assert!(found.detail.contains("PROBLEM: Function call failed"), "{found:?}");
        assert!(found.advice.contains("the log of answers says") && found.advice.contains(RESTORE), "{found:?}");
    }

    #[test]
    fn a_deployment_that_was_undone_is_not_ok() {
        for (status, state) in [
            ("CREATE_COMPLETE", State::Ok),
            ("UPDATE_COMPLETE", State::Ok),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", State::Unsure),
            ("UPDATE_ROLLBACK_IN_PROGRESS", State::Unsure),
            ("UPDATE_ROLLBACK_COMPLETE", State::Unsure),
            ("UPDATE_ROLLBACK_FAILED", State::Wrong),
            ("ROLLBACK_COMPLETE", State::Wrong),
            ("DELETE_FAILED", State::Wrong),
        ] {
            assert_eq!(diagnosis_of_status(String::new(), status).state, state, "{status}");
        }
    }
}
