//! Making a request, waiting for its answer, and showing it.
//!
//! The answer is looked for in the operation shadow, where the stack writes it for the request's author: whoever may make a
//! request may read it there. The ledger would need rights on the stack's table, and says nothing more.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use requests::Status;
use serde_json::{Map, Value as Json, json};
use shadow::ThingName;

use crate::cli::{Asked, Operation, Waiting};
use crate::connection::Aws;
use crate::exit::{Exit, Failure};
use crate::{data_model, output, request, shadows};

/// Between the first two looks for the answer; each next pause is longer by a quarter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A request that was made.
struct Made<'a> {
    thing: &'a ThingName,
    operation: &'a str,
    version: u64,
    client_token: String,
    /// Whose values the datamodel shadow holds when it SUCCEEDED.
    keys: Vec<String>,
}

/// A check that has passed, so that nothing was looked for in vain.
pub(crate) struct Checked {
    asked: Asked,
    valid: request::Valid,
}

pub(crate) fn check(operation: Operation) -> Result<Checked, Failure> {
    let (name, asked) = operation.into_parts();
    let valid = request::check(name, &asked.paths, asked.checks.strictness())?;
    Ok(Checked { asked, valid })
}

/// Makes a request that is valid, and shows what comes of it.
pub(crate) async fn ask(aws: &Aws, Checked { asked, valid }: Checked) -> Result<Exit, Failure> {
    valid.notices.iter().for_each(output::finding);
    let operation = valid.operation.as_str();
    let keys = if requests::has_result(operation) { valid.keys } else { Vec::new() };
    make(aws, &asked.thing, operation, &valid.desired, keys, &asked.waiting).await
}

/// Takes requests back.
pub(crate) async fn cancel(aws: &Aws, thing: &ThingName, named: &[String], waiting: &Waiting) -> Result<Exit, Failure> {
    make(aws, thing, requests::CANCEL_REQUEST, &request::cancel(named), Vec::new(), waiting).await
}

async fn make(
    aws: &Aws,
    thing: &ThingName,
    operation: &str,
    desired: &Json,
    keys: Vec<String>,
    waiting: &Waiting,
) -> Result<Exit, Failure> {
    let client = aws.iot_data();
    let client_token = waiting.client_token.clone().unwrap_or_else(|| format!("lwm2m-{:016x}", fastrand::u64(..)));
    let begun = Instant::now();
    let version = shadows::make_request(&client, thing, desired, &client_token).await?;
    let made = Made { thing, operation, version, client_token, keys };
    if waiting.no_wait {
        return Ok(made.not_waited_for(aws));
    }
    let line = Line::new(&made);
    let mut pause = FIRST_PAUSE;
    let answer = loop {
        let answer = made.answer(&client).await.inspect_err(|_| {
            line.clear();
            made.tell_that_it_goes_on();
        })?;
        let status = answer.as_ref().and_then(status);
        line.show(answer.as_ref());
        let is_last = status.is_some_and(|status| !matches!(Exit::from(status), Exit::Open));
        if is_last || begun.elapsed() >= waiting.timeout {
            break answer;
        }
        let left = waiting.timeout.saturating_sub(begun.elapsed());
        tokio::select! {
            () = tokio::time::sleep(pause.min(left)) => {}
            _ = tokio::signal::ctrl_c() => {
                line.clear();
                made.tell_that_it_goes_on();
                return Ok(Exit::Interrupted);
            }
        }
        pause = pause.mul_f64(1.25).min(LONGEST_PAUSE);
    };
    line.clear();
    made.show(aws, &client, answer.unwrap_or_default(), begun.elapsed()).await
}

fn status(answer: &Json) -> Option<Status> {
    Status::parse(answer.get("status")?.as_str()?)
}

fn reason(answer: &Json) -> Option<String> {
    let part = |name: &str| answer.get("reason")?.get(name)?.as_str();
    let code = part("code")?;
    Some(part("message").map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
}

impl Made<'_> {
    async fn answer(&self, client: &aws_sdk_iotdataplane::Client) -> Result<Option<Json>, Failure> {
        let mut reported = shadows::reported(client, self.thing, Some(shadows::OPERATION)).await?;
        Ok(reported.pointer_mut(&format!("/requests/{}", self.version)).map(Json::take))
    }

    fn not_waited_for(&self, aws: &Aws) -> Exit {
        if aws.json {
            output::json(&Json::Object(self.named()));
        } else {
            output::line(&format!("request {} of {}", self.version, self.thing));
        }
        Exit::Done
    }

    fn named(&self) -> Map<String, Json> {
        Map::from_iter([
            ("thing".to_owned(), json!(self.thing.as_str())),
            ("request".to_owned(), json!(self.version)),
            ("operation".to_owned(), json!(self.operation)),
            ("clientToken".to_owned(), json!(self.client_token)),
        ])
    }

    fn tell_that_it_goes_on(&self) {
        let Made { thing, version, .. } = self;
        output::note(&format!(
            "The request goes on. lwm2m requests {thing} shows what becomes of it, lwm2m cancel {thing} {version} takes it back."
        ));
    }

    async fn show(
        &self,
        aws: &Aws,
        client: &aws_sdk_iotdataplane::Client,
        answer: Json,
        took: Duration,
    ) -> Result<Exit, Failure> {
        let status = status(&answer);
        let exit = status.map_or(Exit::Open, Exit::from);
        let values = if exit == Exit::Done && !self.keys.is_empty() {
            let reported = shadows::reported(client, self.thing, Some(shadows::DATAMODEL)).await?;
            data_model::leaves(&reported, &self.keys)
        } else {
            Vec::new()
        };
        if aws.json {
            let mut shown = self.named();
            if let Json::Object(answer) = answer {
                shown.extend(answer);
            }
            if !values.is_empty() {
                shown.insert("values".to_owned(), data_model::as_json(&values));
            }
            output::json(&Json::Object(shown));
        } else {
            let word = status.map_or("NO ANSWER YET", Status::as_str);
            let Made { operation, version, thing, .. } = self;
            output::line(&format!("{word}  {operation}, request {version} of {thing}, {:.1} s", took.as_secs_f64()));
            reason(&answer).iter().for_each(|reason| output::line(reason));
            data_model::table(&values);
            properties(&answer);
        }
        if exit == Exit::Open {
            self.tell_that_it_goes_on();
        }
        Ok(exit)
    }
}

/// What the device's report says beyond success.
fn properties(answer: &Json) {
    let Some(Json::Object(properties)) = answer.get("properties") else { return };
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    output::table(["PROPERTY", "VALUE"], properties.iter().map(|(name, value)| [name.clone(), text(value)]));
}

/// What is happening with a request, in a line that changes; one line for each change where standard error is no terminal.
struct Line {
    bar: ProgressBar,
    named: String,
    shown: std::cell::RefCell<String>,
}

impl Line {
    fn new(made: &Made<'_>) -> Line {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        let named = format!("{}, request {} of {}", made.operation, made.version, made.thing);
        Line { bar, named, shown: std::cell::RefCell::default() }
    }

    fn show(&self, answer: Option<&Json>) {
        let said = match answer.and_then(status) {
            None => "waits for the function that takes it".to_owned(),
            Some(Status::Scheduled) => "SCHEDULED: Coiote has it, the device has not said anything yet".to_owned(),
            Some(status) => match answer.and_then(reason) {
                Some(reason) => format!("{}: {reason}", status.as_str()),
                None => status.as_str().to_owned(),
            },
        };
        let text = format!("{}: {said}", self.named);
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
