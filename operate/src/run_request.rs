//! Makes a request, waits for its answer, and shows it.
//!
//! The answer is read from the operation shadow, where the stack writes it for the request's author: a person who may make a
//! request may read it there. The ledger would need rights on the stack's table, and has no more fields.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use aws_sdk_iotdataplane::Client;
use indicatif::{ProgressBar, ProgressStyle};
use lwm2m::Finding;
use requests::Status;
use serde_json::{Map, Value as Json, json};
use shadow::ThingName;

use crate::answer::AnswerFields;
use crate::cli::{Operation, OperationArgs, WaitingArgs};
use crate::connection::Aws;
use crate::data_model::{self, Leaf};
use crate::exit::{Exit, Failure, findings_as_json};
use crate::request::{self, ValidRequest};
use crate::{output, shadows};

/// Pause between the first two looks for the answer; each next pause is longer by a quarter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A valid request, and the arguments that it was made of.
pub(crate) struct CheckedRequest {
    args: OperationArgs,
    valid: ValidRequest,
}

/// Checks a request without calling AWS.
pub(crate) fn check(operation: Operation) -> Result<CheckedRequest, Failure> {
    let (name, args) = operation.into_parts();
    let valid = request::check(name, &args.paths, args.checks.strictness())?;
    Ok(CheckedRequest { args, valid })
}

/// Makes a valid request, and shows its answer.
pub(crate) async fn run(aws: &Aws, CheckedRequest { args, valid }: CheckedRequest) -> Result<Exit, Failure> {
    valid.notices.iter().for_each(output::finding);
    let operation = valid.operation.as_str();
    let keys = if requests::has_result(operation) { valid.keys } else { Vec::new() };
    let draft = Draft { thing: &args.thing, operation, desired: valid.desired, keys, notices: valid.notices };
    draft.run(aws, &args.waiting).await
}

/// Makes a request that cancels others, and shows its answer.
pub(crate) async fn cancel(
    aws: &Aws,
    thing: &ThingName,
    desired: Json,
    waiting: &WaitingArgs,
) -> Result<Exit, Failure> {
    Draft { thing, operation: requests::CANCEL_REQUEST, desired, keys: Vec::new(), notices: Vec::new() }
        .run(aws, waiting)
        .await
}

/// A request before it is written.
struct Draft<'a> {
    thing: &'a ThingName,
    operation: &'a str,
    desired: Json,
    /// Keys whose values are shown if it succeeds.
    keys: Vec<String>,
    notices: Vec<Finding>,
}

impl Draft<'_> {
    async fn run(self, aws: &Aws, waiting: &WaitingArgs) -> Result<Exit, Failure> {
        let Draft { thing, operation, desired, keys, notices } = self;
        let client = aws.iot_data();
        let client_token = waiting.client_token.clone().unwrap_or_else(|| format!("lwm2m-{:016x}", fastrand::u64(..)));
        let begun = Instant::now();
        let version = shadows::make_request(&client, thing, &desired, &client_token).await?;
        let request = SentRequest { thing, operation, version, client_token, keys, notices };
        if waiting.no_wait {
            request.show_name(aws);
            return Ok(Exit::Done);
        }
        match request.wait(&client, begun, waiting.timeout).await {
            Ok(Some(answer)) => Ok(request.show(aws, &client, answer, begun.elapsed()).await),
            Ok(None) => {
                if aws.json {
                    request.show_name(aws);
                }
                Ok(Exit::Interrupted)
            }
            Err(failure) => Err(failure.of_request(request.as_fields())),
        }
    }
}

/// A request that stands in the operation shadow.
struct SentRequest<'a> {
    thing: &'a ThingName,
    operation: &'a str,
    version: u64,
    client_token: String,
    keys: Vec<String>,
    notices: Vec<Finding>,
}

impl SentRequest<'_> {
    /// Waits for the last word, or until the time is over; returns the answer as it is then. `None` if interrupted.
    async fn wait(&self, client: &Client, begun: Instant, timeout: Duration) -> Result<Option<AnswerFields>, Failure> {
        let progress = ProgressLine::new(self);
        // A signal counts at any time, also during a call.
        let waited = tokio::select! {
            answer = self.last_answer(client, &progress, begun, timeout) => answer.map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        };
        progress.clear();
        if !matches!(waited, Ok(Some(_))) {
            self.note_that_it_goes_on();
        }
        waited
    }

    /// The last word, or the answer when the time is over.
    async fn last_answer(
        &self,
        client: &Client,
        progress: &ProgressLine,
        begun: Instant,
        timeout: Duration,
    ) -> Result<AnswerFields, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.answer(client).await?;
            progress.show(&answer);
            if answer.exit() != Exit::Open || begun.elapsed() >= timeout {
                return Ok(answer);
            }
            tokio::time::sleep(pause.min(timeout.saturating_sub(begun.elapsed()))).await;
            pause = pause.mul_f64(1.25).min(LONGEST_PAUSE);
        }
    }

    /// Reads the answer; one without fields if there is none yet.
    async fn answer(&self, client: &Client) -> Result<AnswerFields, Failure> {
        let entry = shadows::answers(client, self.thing).await?.remove(&self.version.to_string());
        Ok(entry.and_then(AnswerFields::from_entry).unwrap_or_default())
    }

    fn show_name(&self, aws: &Aws) {
        if aws.json {
            output::json(&Json::Object(self.as_fields()));
        } else {
            output::line(&format!("request {} of {}", self.version, self.thing));
        }
    }

    fn as_fields(&self) -> Map<String, Json> {
        let mut fields = Map::from_iter([
            ("thing".to_owned(), json!(self.thing.as_str())),
            ("request".to_owned(), json!(self.version)),
            ("operation".to_owned(), json!(self.operation)),
            ("clientToken".to_owned(), json!(self.client_token)),
        ]);
        if !self.notices.is_empty() {
            fields.insert("notices".to_owned(), findings_as_json(&self.notices));
        }
        fields
    }

    fn note_that_it_goes_on(&self) {
        let SentRequest { thing, version, .. } = self;
        output::note(&format!(
            "The request goes on. lwm2m requests {thing} shows what becomes of it, lwm2m cancel {thing} {version} takes it back."
        ));
    }

    /// Shows the answer, and the values where it succeeded. It is shown also where these cannot be read.
    async fn show(&self, aws: &Aws, client: &Client, answer: AnswerFields, took: Duration) -> Exit {
        let exit = answer.exit();
        let values = if exit == Exit::Done { self.values(client).await } else { Ok(Vec::new()) };
        if aws.json {
            output::json(&self.as_json(answer, &values));
        } else {
            self.print(&answer, took, values.as_deref().unwrap_or_default());
            if let Err(failure) = &values {
                failure.print(aws.json);
            }
        }
        if exit == Exit::Open {
            self.note_that_it_goes_on();
        }
        values.map_or_else(|failure| failure.exit, |_| exit)
    }

    /// Reads the values of the request's keys from the datamodel shadow.
    async fn values(&self, client: &Client) -> Result<Vec<Leaf>, Failure> {
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let reported = shadows::reported(client, self.thing, Some(shadows::DATAMODEL)).await?;
        Ok(data_model::leaves(&reported, &self.keys))
    }

    fn as_json(&self, answer: AnswerFields, values: &Result<Vec<Leaf>, Failure>) -> Json {
        let mut fields = self.as_fields();
        fields.extend(answer.0);
        match values {
            Ok(values) if values.is_empty() => {}
            Ok(values) => {
                fields.insert("values".to_owned(), data_model::as_json(values));
            }
            Err(failure) => fields.extend(failure.as_fields()),
        }
        Json::Object(fields)
    }

    fn print(&self, answer: &AnswerFields, took: Duration, values: &[Leaf]) {
        let word = answer.status().map_or("NO ANSWER YET", Status::as_str);
        let SentRequest { operation, version, thing, .. } = self;
        output::line(&format!("{word}  {operation}, request {version} of {thing}, {:.1} s", took.as_secs_f64()));
        answer.reason().iter().for_each(|reason| output::line(reason));
        data_model::table(values);
        if let Some(properties) = answer.properties() {
            let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let rows = properties.iter().map(|(name, value)| [name.clone(), text(value)]);
            output::table(["PROPERTY", "VALUE"], rows);
        }
    }
}

/// Line that shows the state of a request and changes; where standard error is no terminal, one line for each change.
struct ProgressLine {
    bar: ProgressBar,
    request: String,
    shown: RefCell<String>,
}

impl ProgressLine {
    fn new(request: &SentRequest<'_>) -> ProgressLine {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        let request = format!("{}, request {} of {}", request.operation, request.version, request.thing);
        ProgressLine { bar, request, shown: RefCell::default() }
    }

    fn show(&self, answer: &AnswerFields) {
        let state = match answer.status() {
            None => "waiting for the function to take it".to_owned(),
            Some(Status::Scheduled) => "SCHEDULED: Coiote has the task, the device has not answered yet".to_owned(),
            Some(status) => match answer.reason() {
                Some(reason) => format!("{}: {reason}", status.as_str()),
                None => status.as_str().to_owned(),
            },
        };
        let text = format!("{}: {state}", self.request);
        if self.bar.is_hidden() && *self.shown.borrow() != text {
            output::note(&text);
        }
        self.bar.set_message(text.clone());
        self.shown.replace(text);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_shown_where_the_values_cannot_be_read() {
        let thing = ThingName::parse("a").unwrap();
        let (operation, client_token) = ("read", "t".to_owned());
        let request =
            SentRequest { thing: &thing, operation, version: 7, client_token, keys: Vec::new(), notices: Vec::new() };
        let answer = || AnswerFields::from_entry(json!({"status": "SUCCEEDED"})).unwrap();
        let named = json!({"thing": "a", "request": 7, "operation": "read", "clientToken": "t", "status": "SUCCEEDED"});
        assert_eq!(request.as_json(answer(), &Ok(Vec::new())), named);
        let mut with_error = named;
        with_error["error"] = json!("no");
        with_error["findings"] = json!([]);
        assert_eq!(request.as_json(answer(), &Err(Failure::new("no"))), with_error);
    }
}
