//! The calls.

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode, Url, redirect};
use serde_json::{Value as Json, json};

use crate::{Error, Identity};

const API: &str = "/api/coiotedm/v3";

/// Everything but RFC 3986's unreserved characters: a device id may hold `:` and `/`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Coiote's own words are passed on to the author of a request, but not at any length.
const LONGEST_MESSAGE: usize = 300;

/// More than this is no id.
const LONGEST_ID: usize = 200;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long an idle connection is trusted to be still there.
const IDLE_LIMIT: Duration = Duration::from_secs(55);

pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// `url`: `https://host:port`, without a path.
    pub fn new(url: &str, identity: &Identity) -> Result<Client, Error> {
        let base = base(url)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(identity.tls()?)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("coiote-aws-iot/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Client { http, base })
    }

    /// The ids of the devices with this endpoint name: none, one, or (on an installation with several domains) more.
    pub async fn find_devices(&self, endpoint_name: &str, time: Duration) -> Result<Vec<String>, Error> {
        let criteria = format!("properties.endpointName eq '{endpoint_name}'");
        let path = format!("/devices?searchCriteria={}", utf8_percent_encode(&criteria, RESERVED));
        let body = self.call(Method::GET, &path, None, StatusCode::OK, time).await?;
        serde_json::from_str(&body)
            .map_err(|_| Error::UnexpectedAnswer("expected an array of device ids for a search".to_owned()))
    }

    /// Creates a task for the device and returns the task's id.
    pub async fn create_task(
        &self,
        device_id: &str,
        template: &str,
        parameters: &[(&str, String)],
        time: Duration,
    ) -> Result<String, Error> {
        let parameters: Vec<Json> =
            parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let task = json!({"templateName": template, "config": {"parameters": parameters}});
        let path = format!("/tasksFromTemplates/device/{}", utf8_percent_encode(device_id, RESERVED));
        let body = self.call(Method::POST, &path, Some(&task), StatusCode::CREATED, time).await?;
        // Usually a JSON string.
        let id: String = serde_json::from_str(&body).unwrap_or_else(|_| body.trim().to_owned());
        if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(|c| c.is_control() || c == '<') {
            return Err(Error::UnexpectedAnswer("expected the id of the task that was created".to_owned()));
        }
        Ok(id)
    }

    /// Wakes the device. One that sleeps or is deregistered runs its tasks when it next comes back.
    pub async fn start_session(&self, device_id: &str, time: Duration) -> Result<(), Error> {
        let path = format!("/sessions/{}/allow-deregistered", utf8_percent_encode(device_id, RESERVED));
        self.call(Method::POST, &path, None, StatusCode::OK, time).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        expected: StatusCode,
        time: Duration,
    ) -> Result<String, Error> {
        let url = format!("{}{API}{path}", self.base);
        let mut request = self.http.request(method.clone(), url).header("Authorization", "Certificate").timeout(time);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(Error::from)?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        let text = response.text().await.map_err(Error::from)?;
        tracing::debug!(%method, path, status = status.as_u16(), "Coiote answered");
        if status == expected {
            return Ok(text);
        }
        if status.is_success() {
            return Err(Error::UnexpectedAnswer(format!("status {status} where {expected} was expected")));
        }
        Err(Error::of_status(status, &message(&text), retry_after))
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// What an error's body gives as a reason, in one line.
fn message(body: &str) -> String {
    let json: Json = serde_json::from_str(body).unwrap_or_default();
    let message = json.get("message").and_then(Json::as_str).unwrap_or_default();
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect()
}

fn base(url: &str) -> Result<String, Error> {
    let invalid = |why: &str| {
        Error::InvalidUrl(format!(
            "COIOTE_URL {why}; expected https://host:port without a path, as in https://eu.iot.avsystem.cloud:8088"
        ))
    };
    let parsed = Url::parse(url.trim()).map_err(|_| invalid("is no URL"))?;
    if parsed.scheme() != "https" {
        return Err(invalid("is not https"));
    }
    if parsed.path() != "/" || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(invalid("has more than host and port"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(invalid("holds credentials"));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_host_and_port_over_https() {
        assert_eq!(base("https://host:8088"), Ok("https://host:8088".to_owned()));
        assert_eq!(base("https://host:8088/"), Ok("https://host:8088".to_owned()));
        for wrong in
            ["", "host:8088", "http://host:8088", "https://host/api", "https://host?x", "https://u:s3cret@host"]
        {
            let error = base(wrong).unwrap_err().to_string();
            assert!(error.contains("expected https://host:port") && !error.contains("s3cret"), "{wrong}: {error}");
        }
    }

    #[test]
    fn how_long_coiote_asks_to_be_left_alone() {
        assert_eq!(retry_after("2"), Some(Duration::from_secs(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "it is over");
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(retry_after(&in_a_minute).is_some_and(|wait| wait > Duration::from_secs(50)));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn coiotes_reason_is_passed_on_in_one_line() {
        assert_eq!(message(r#"{"message": "no\nsuch", "code": 4040}"#), "no such");
        assert_eq!(message("<html>"), "");
    }

    #[test]
    fn every_reserved_character_of_an_id_is_encoded() {
        assert_eq!(utf8_percent_encode("urn:imei:1/2-_.~", RESERVED).to_string(), "urn%3Aimei%3A1%2F2-_.~");
    }
}
