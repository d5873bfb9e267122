//! Failures of handing a task over, and what each means for the request.

use lwm2m::Task;
use shadow::ThingName;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error(transparent)]
    Access(#[from] coiote_access::Error),
    #[error("Coiote knows no device with the endpoint name {0}")]
    DeviceUnknown(ThingName),
    /// The device was found just before, so it may as well be the template that Coiote does not have.
    #[error(
        "Coiote found no device with the endpoint name {thing}, or no task template {template}, when the task was to be \
         created: {answer}"
    )]
    TaskNotPossible { thing: ThingName, template: String, answer: String },
    #[error("Coiote knows {count} devices with the endpoint name {thing}; an endpoint name has to be unique")]
    DeviceAmbiguous { thing: ThingName, count: usize },
    #[error("Coiote has no task template {template}; its operator has to add it ({answer})")]
    TemplateMissing { template: String, answer: String },
    /// The task may have been created.
    #[error("{0}")]
    MayBeCreated(coiote_access::Error),
}

impl ForwardError {
    /// Classifies an error of the call that creates a task. Coiote may answer with the same status for an unknown device and
    /// for an unknown template: only its text tells them apart.
    pub(crate) fn of_create(error: coiote_access::Error, thing: &ThingName, task: &Task) -> ForwardError {
        use coiote::Error::{NotFound, Refused};
        if error.may_have_been_done() {
            return ForwardError::MayBeCreated(error);
        }
        let coiote_access::Error::Coiote(error) = error else { return ForwardError::Access(error) };
        let template = &task.template;
        match error {
            NotFound(answer) if names_template(&answer, template) => {
                ForwardError::TemplateMissing { template: template.clone(), answer }
            }
            Refused(answer) if names_template(&answer, template) && says_missing(&answer) => {
                ForwardError::TemplateMissing { template: template.clone(), answer }
            }
            NotFound(answer) => {
                ForwardError::TaskNotPossible { thing: thing.clone(), template: template.clone(), answer }
            }
            other => ForwardError::Access(other.into()),
        }
    }

    /// The error of a request whose task an earlier try may have created.
    pub(crate) fn of_task_that_may_exist(self, may_exist: bool) -> ForwardError {
        match self {
            ForwardError::Access(error) if may_exist => ForwardError::MayBeCreated(error),
            ForwardError::DeviceUnknown(_)
            | ForwardError::TaskNotPossible { .. }
            | ForwardError::TemplateMissing { .. }
            | ForwardError::DeviceAmbiguous { .. }
                if may_exist =>
            {
                ForwardError::MayBeCreated(coiote_access::Error::Coiote(coiote::Error::Refused(self.to_string())))
            }
            other => other,
        }
    }

    /// Stable; the documentation says what to do about each.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            ForwardError::Access(error) | ForwardError::MayBeCreated(error) => error.code(),
            ForwardError::DeviceUnknown(_) | ForwardError::TaskNotPossible { .. } => "DEVICE_UNKNOWN",
            ForwardError::DeviceAmbiguous { .. } => "DEVICE_AMBIGUOUS",
            ForwardError::TemplateMissing { .. } => "TEMPLATE_MISSING",
        }
    }

    /// Whether a later attempt may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        self.of_access().is_some_and(coiote_access::Error::is_retryable)
    }

    /// The failure of Coiote as a whole that caused this one, if any.
    pub(crate) fn outage(&self) -> Option<&coiote_access::Error> {
        self.of_access().filter(|error| error.is_outage())
    }

    fn of_access(&self) -> Option<&coiote_access::Error> {
        match self {
            ForwardError::Access(error) | ForwardError::MayBeCreated(error) => Some(error),
            _ => None,
        }
    }
}

fn names_template(answer: &str, template: &str) -> bool {
    answer.contains(template) || answer.to_ascii_lowercase().contains("template")
}

fn says_missing(answer: &str) -> bool {
    let answer = answer.to_ascii_lowercase();
    ["not found", "no such", "not exist", "unknown"].iter().any(|words| answer.contains(words))
}

#[cfg(test)]
mod tests {
    use coiote::Error::{NotFound, Refused, TimedOut};

    use super::*;

    fn of_create(error: coiote::Error) -> ForwardError {
        let task = Task { template: "read-template".to_owned(), parameters: Vec::new() };
        ForwardError::of_create(error.into(), &ThingName::parse("a").unwrap(), &task)
    }

    #[test]
    fn the_text_tells_an_unknown_template_from_an_unknown_device() {
        for (error, code) in [
            (NotFound("no read-template".to_owned()), "TEMPLATE_MISSING"),
            (NotFound("Task Template not found".to_owned()), "TEMPLATE_MISSING"),
            (NotFound("no device".to_owned()), "DEVICE_UNKNOWN"),
            (Refused("unknown template".to_owned()), "TEMPLATE_MISSING"),
            (Refused("the template wants a parameter".to_owned()), "COIOTE_REFUSED"),
        ] {
            assert_eq!(of_create(error.clone()).code(), code, "{error}");
        }
    }

    #[test]
    fn an_earlier_try_leaves_open_whether_the_task_exists() {
        assert!(matches!(of_create(TimedOut), ForwardError::MayBeCreated(_)));
        let unknown = of_create(NotFound("no device".to_owned()));
        assert_eq!(unknown.clone().of_task_that_may_exist(false), unknown);
        let may_exist = unknown.of_task_that_may_exist(true);
        assert_eq!((may_exist.code(), may_exist.is_retryable()), ("COIOTE_REFUSED", false));
    }
}
