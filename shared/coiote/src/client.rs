//! The calls of an operation.

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::http::{Http, Response};
use crate::report::{Reports, TaskReport};
use crate::{Error, Identity};

/// Everything but RFC 3986's unreserved characters: a device id may hold `:` and `/`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// More than this is no id.
const LONGEST_ID: usize = 200;

/// Most reports that one look returns.
const MAX_REPORTS: usize = 512;

/// A task that Coiote has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTask {
    pub id: String,
    /// When, by Coiote's clock.
    pub created_at: Option<SystemTime>,
}

pub struct Client {
    http: Http,
}

impl Client {
    /// `url`: `https://host:port`, without a path.
    pub fn new(url: &str, identity: &Identity) -> Result<Client, Error> {
        Ok(Client { http: Http::new(url, identity.tls()?, HeaderValue::from_static("Certificate"))? })
    }

    /// The ids of the devices with this endpoint name: none, one, or (on an installation with several domains) more.
    pub async fn find_devices(&self, endpoint_name: &str, time: Duration) -> Result<Vec<String>, Error> {
        let criteria = format!("properties.endpointName eq '{endpoint_name}'");
        let path = format!("/devices?searchCriteria={}", utf8_percent_encode(&criteria, RESERVED));
        let answer = self.http.call(Method::GET, &path, None, |status| status == StatusCode::OK, time).await?;
        serde_json::from_str(&answer.body)
            .map_err(|_| Error::UnexpectedAnswer("expected an array of device ids for a search".to_owned()))
    }

    /// Creates a task for the device. One that equals a task which is there runs that one again, and has its id.
    pub async fn create_task(
        &self,
        device_id: &str,
        template: &str,
        parameters: &[(&str, String)],
        time: Duration,
    ) -> Result<CreatedTask, Error> {
        let parameters: Vec<Json> =
            parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let task = json!({"templateName": template, "config": {"parameters": parameters}});
        let path = format!("/tasksFromTemplates/device/{}", utf8_percent_encode(device_id, RESERVED));
        let Response { body, date } =
            self.http.call(Method::POST, &path, Some(&task), |status| status == StatusCode::CREATED, time).await?;
        // Usually a JSON string.
        let id: String = serde_json::from_str(&body).unwrap_or_else(|_| body.trim().to_owned());
        if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(|c| c.is_control() || c == '<') {
            return Err(Error::UnexpectedAnswer("expected the id of the task that was created".to_owned()));
        }
        Ok(CreatedTask { id, created_at: date })
    }

    /// The report about a task of a device. Nothing until the device has run it.
    pub async fn report(&self, task_id: &str, device_id: &str, time: Duration) -> Result<Option<TaskReport>, Error> {
        let (task, device) = (utf8_percent_encode(task_id, RESERVED), utf8_percent_encode(device_id, RESERVED));
        let path = format!("/taskReports/{task}/{device}");
        match self.http.call(Method::GET, &path, None, |status| status == StatusCode::OK, time).await {
            Ok(answer) => {
                let unexpected = |_| Error::UnexpectedAnswer("expected a task's report".to_owned());
                serde_json::from_str(&answer.body).map(Some).map_err(unexpected)
            }
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The reports of all devices that were updated since that time (ISO 8601), at most 512. What is no report is
    /// left out, and counted.
    pub async fn reports_since(&self, since: &str, time: Duration) -> Result<Reports, Error> {
        let since = utf8_percent_encode(since, RESERVED);
        let path = format!("/taskReports/findSince?lastUpdateTime={since}&limit={MAX_REPORTS}");
        let answer = self.http.call(Method::GET, &path, None, |status| status == StatusCode::OK, time).await?;
        let entries: Vec<Json> = serde_json::from_str(&answer.body)
            .map_err(|_| Error::UnexpectedAnswer("expected an array of task reports".to_owned()))?;
        let found = entries.len();
        let reports: Vec<TaskReport> =
            entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect();
        Ok(Reports { unreadable: found.saturating_sub(reports.len()), is_full: found >= MAX_REPORTS, reports })
    }

    /// Removes a task, which no device runs any more then; whether it was there.
    pub async fn remove_task(&self, task_id: &str, time: Duration) -> Result<bool, Error> {
        let path = format!("/tasks/{}", utf8_percent_encode(task_id, RESERVED));
        match self.http.call(Method::DELETE, &path, None, |status| status.is_success(), time).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Wakes the device. One that sleeps or is deregistered runs its tasks when it next comes back.
    pub async fn start_session(&self, device_id: &str, time: Duration) -> Result<(), Error> {
        let path = format!("/sessions/{}/allow-deregistered", utf8_percent_encode(device_id, RESERVED));
        self.http.call(Method::POST, &path, None, |status| status == StatusCode::OK, time).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_character_of_an_id_is_encoded() {
        assert_eq!(utf8_percent_encode("urn:imei:1/2-_.~", RESERVED).to_string(), "urn%3Aimei%3A1%2F2-_.~");
    }
}
