//! `lwm2m doctor`: checks the stack and its surroundings, and gives advice on errors.

mod certificates;
mod coiote_side;
mod deployed;
mod policy;
mod stuck;

use serde_json::{Value as Json, json};

use crate::connection::Aws;
use crate::exit::{Exit, Failure};
use crate::output;

/// Advice where a resource of the stack was changed or deleted by hand: CloudFormation leaves it so while the template is the same.
const RESTORE: &str = "revert the drift of the stack: docs/operations.md, \"Restore what was changed by hand\"";

/// Result of a check.
#[derive(Debug)]
struct Diagnosis {
    /// Part of the system that was checked.
    subject: String,
    state: State,
    detail: String,
    /// Advice on the error; empty where there is nothing to do.
    advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// Not known, or just changing.
    Unsure,
    Wrong,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Unsure => "unsure",
            State::Wrong => "WRONG",
        }
    }
}

impl Diagnosis {
    fn new(
        state: State,
        subject: impl Into<String>,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Diagnosis {
        Diagnosis { subject: subject.into(), state, detail: detail.into(), advice: advice.into() }
    }

    fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Diagnosis {
        Diagnosis::new(State::Ok, subject, detail, "")
    }

    fn wrong(subject: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Diagnosis {
        Diagnosis::new(State::Wrong, subject, detail, advice)
    }

    fn unsure(subject: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Diagnosis {
        Diagnosis::new(State::Unsure, subject, detail, advice)
    }

    /// Diagnosis where AWS did not allow the look, or where it failed.
    fn not_visible(subject: impl Into<String>, why: impl std::fmt::Display) -> Diagnosis {
        Diagnosis::unsure(subject, why.to_string(), "a profile that may look at it shows more")
    }
}

/// All diagnoses, each printed as it comes.
struct Diagnoses {
    json: bool,
    all: Vec<Diagnosis>,
}

impl Diagnoses {
    fn add(&mut self, diagnosis: Diagnosis) {
        if !self.json {
            let Diagnosis { subject, state, detail, advice } = &diagnosis;
            output::line(&format!("{:<6}  {subject}: {detail}", state.as_str()));
            if !advice.is_empty() {
                output::line(&format!("        → {advice}"));
            }
        }
        self.all.push(diagnosis);
    }
}

pub(crate) async fn run(aws: &Aws) -> Result<Exit, Failure> {
    let stack = aws.stack().await?;
    let mut diagnoses = Diagnoses { json: aws.json, all: Vec::new() };
    deployed::check(aws, &stack, &mut diagnoses).await?;
    coiote_side::check(aws, &stack, &mut diagnoses).await?;
    certificates::check(aws, &stack, &mut diagnoses).await?;
    stuck::check(aws, &stack, &mut diagnoses).await?;

    let wrong = diagnoses.all.iter().filter(|diagnosis| diagnosis.state == State::Wrong).count();
    if aws.json {
        let as_json = |diagnosis: &Diagnosis| {
            json!({
                "subject": diagnosis.subject,
                "state": diagnosis.state.as_str().to_lowercase(),
                "told": diagnosis.detail,
                "advice": diagnosis.advice,
            })
        };
        output::json(&Json::Array(diagnoses.all.iter().map(as_json).collect()));
    } else if wrong == 0 {
        output::line("Nothing is wrong.");
    } else {
        output::line(&format!("Wrong: {wrong} of {}.", diagnoses.all.len()));
    }
    Ok(if wrong == 0 { Exit::Done } else { Exit::Failed })
}
