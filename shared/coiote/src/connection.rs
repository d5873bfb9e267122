//! Connection to Coiote: base URL, authorization, time limits, and the error that a response stands for.

use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, DATE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url, redirect};
use rustls::ClientConfig;
use serde_json::Value as Json;

use crate::Error;

/// Path of the API on every installation.
const API: &str = "/api/coiotedm/v3";

/// Most characters of a message from Coiote that are passed on to the author of a request.
const LONGEST_MESSAGE: usize = 300;

/// Time limit for connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Longest time that an idle connection is used again after.
const IDLE_LIMIT: Duration = Duration::from_secs(55);

/// HTTPS client of one installation of Coiote, with one kept connection.
pub(crate) struct Connection {
    client: reqwest::Client,
    base_url: String,
    authorization: HeaderValue,
}

/// Response to a call that succeeded.
pub(crate) struct Response {
    pub(crate) body: String,
    /// Time by Coiote's clock, from the header `Date`.
    pub(crate) date: Option<SystemTime>,
}

impl Connection {
    /// Prepares the connection to `url` (`https://host:port`, without a path). It is opened by the first call.
    pub(crate) fn new(url: &str, tls: ClientConfig, authorization: HeaderValue) -> Result<Connection, Error> {
        let base_url = base_url(url)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("coiote-aws-iot/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Connection { client, base_url, authorization })
    }

    /// Makes a call within `limit`, and returns the response if its status is expected.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        is_expected: impl Fn(StatusCode) -> bool,
        limit: Duration,
    ) -> Result<Response, Error> {
        let url = format!("{}{API}{path}", self.base_url);
        let mut request =
            self.client.request(method.clone(), url).header(AUTHORIZATION, &self.authorization).timeout(limit);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(Error::from)?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        let date = response.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let text = response.text().await.map_err(Error::from)?;
        tracing::debug!(%method, path, http_status = status.as_u16(), "Coiote answered");
        if is_expected(status) {
            return Ok(Response { body: text, date });
        }
        if status.is_success() {
            return Err(Error::UnexpectedAnswer(format!("an unexpected status {status}")));
        }
        Err(Error::from_status(status, message(&text).as_deref(), retry_after))
    }
}

/// Pause that a header `Retry-After` asks for, in seconds or by a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// Message in the body of an error, in one line; `None` if the body is not Coiote's but that of a gateway before it.
fn message(body: &str) -> Option<String> {
    let json: Json = serde_json::from_str(body).ok()?;
    let message = json.get("message")?.as_str()?;
    Some(message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect())
}

/// Base URL of an installation (`https://host:port`), checked and in its normal form: host in lower case, no default port, no slash at
/// the end.
pub fn base_url(url: &str) -> Result<String, Error> {
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
    fn the_base_url_is_host_and_port_over_https() {
        assert_eq!(base_url("https://host:8088"), Ok("https://host:8088".to_owned()));
        assert_eq!(base_url("https://host:8088/"), Ok("https://host:8088".to_owned()));
        assert_eq!(base_url("https://Host:443/"), Ok("https://host".to_owned()));
        for wrong in
            ["", "host:8088", "http://host:8088", "https://host/api", "https://host?x", "https://u:s3cret@host"]
        {
            let error = base_url(wrong).unwrap_err().to_string();
            assert!(error.contains("expected https://host:port") && !error.contains("s3cret"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        assert_eq!(retry_after("2"), Some(Duration::from_secs(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "it is over");
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(retry_after(&in_a_minute).is_some_and(|wait| wait > Duration::from_secs(50)));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn the_message_of_an_error_is_passed_on_in_one_line() {
        assert_eq!(message(r#"{"message": "no\nsuch", "code": 4040}"#).as_deref(), Some("no such"));
        assert_eq!(message("<html>"), None);
    }
}
