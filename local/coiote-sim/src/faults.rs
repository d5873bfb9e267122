//! Faults: which REST calls go wrong, as the control API asks for it, and how many have.
//!
//! What a fault does to a call is in `rest::faults`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// 429, with the wish to come back in a second.
    Throttled,
    /// 503.
    Unavailable,
    /// 500.
    Failed,
    /// The connection is cut before the call is looked at.
    Reset,
    /// The call is carried out, and the connection is cut before its answer.
    Lost,
    /// The call is carried out, and answered late.
    Slow,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Throttled, Self::Unavailable, Self::Failed, Self::Reset, Self::Lost, Self::Slow];

    fn word(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Reset => "reset",
            Self::Lost => "lost",
            Self::Slow => "slow",
        }
    }
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    ByChance(Kind),
    /// All calls of its route are answered like this.
    OnRoute(StatusCode),
}

impl Fault {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ByChance(kind) => kind.word(),
            Self::OnRoute(_) => "route",
        }
    }
}

/// The faults that are present; none by default.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Wanted")]
pub(crate) struct Faults {
    /// The share of the calls that meet a fault by chance, from 0 to 1.
    rate: f64,
    kinds: BTreeSet<Kind>,
    routes: Vec<(Route, StatusCode)>,
}

impl Faults {
    /// The fault that this call meets; `path` is the one below the base of the REST API.
    pub(crate) fn meet(&self, method: &Method, path: &str) -> Option<Fault> {
        if let Some((_, status)) = self.routes.iter().find(|(route, _)| route.is_of(method, path)) {
            return Some(Fault::OnRoute(*status));
        }
        if fastrand::f64() < self.rate { fastrand::choice(&self.kinds).copied().map(Fault::ByChance) } else { None }
    }
}

/// The body of `PUT /faults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    rate: f64,
    #[serde(default = "all_kinds")]
    kinds: BTreeSet<Kind>,
    #[serde(default)]
    routes: BTreeMap<String, u16>,
}

fn all_kinds() -> BTreeSet<Kind> {
    Kind::ALL.into()
}

impl TryFrom<Wanted> for Faults {
    type Error = String;

    fn try_from(wanted: Wanted) -> Result<Self, String> {
        let Wanted { rate, kinds, routes } = wanted;
        if !(0.0..=1.0).contains(&rate) {
            return Err(format!("rate: {rate} is not a share of the calls, from 0 to 1"));
        }
        if kinds.is_empty() {
            return Err("kinds: there are none; leave it out for all of them, or give rate 0".to_owned());
        }
        let routes = routes.iter().map(|(route, status)| Ok((route.parse()?, error_status(route, *status)?)));
        Ok(Self { rate, kinds, routes: routes.collect::<Result<_, String>>()? })
    }
}

fn error_status(route: &str, number: u16) -> Result<StatusCode, String> {
    StatusCode::from_u16(number)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .ok_or_else(|| format!("routes: {route:?}: {number} is not an error status, from 400 to 599"))
}

/// A route as it is counted, such as `POST /sessions/{deviceId}/allow-deregistered`.
///
/// It is compared with the path of the call and not with the routes that are served: a call that the local Coiote does
/// not serve can have a fault too.
#[derive(Debug)]
struct Route {
    method: String,
    path: String,
}

impl Route {
    fn is_of(&self, method: &Method, path: &str) -> bool {
        let fits = |(wanted, given): (&str, &str)| wanted == given || is_parameter(wanted);
        self.method == method.as_str()
            && self.path.split('/').count() == path.split('/').count()
            && self.path.split('/').zip(path.split('/')).all(fits)
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once(' ')
            .filter(|(method, _)| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()))
            .filter(|(_, path)| path.starts_with('/') && !path.contains(' '))
            .map(|(method, path)| Self { method: method.to_owned(), path: path.to_owned() })
            .ok_or_else(|| {
                format!(
                    "routes: {text:?}: METHOD /route is expected, such as \"GET /taskReports/{{taskId}}/{{deviceId}}\""
                )
            })
    }
}

/// How many calls met each kind of fault; those that none met are there too.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn add(&mut self, fault: Fault) {
        *self.0.entry(fault.word()).or_default() += 1;
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self(Kind::ALL.map(Kind::word).into_iter().chain(["route"]).map(|word| (word, 0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Result<Faults, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_is_written_as_it_is_counted() {
        for kind in Kind::ALL {
            let read: Kind = serde_json::from_str(&format!("{:?}", kind.word())).unwrap();
            assert_eq!(read, kind);
        }
    }

    #[test]
    fn the_rate_is_the_share_of_calls_that_meet_a_fault() {
        for (text, expected) in [
            ("{}", 0..=0),
            (r#"{"rate": 0}"#, 0..=0),
            (r#"{"kinds": ["slow"]}"#, 0..=0),
            (r#"{"rate": 0.25, "kinds": ["slow"]}"#, 2000..=3000),
            (r#"{"rate": 1, "kinds": ["slow", "slow"]}"#, 10_000..=10_000),
        ] {
            let faults = faults(text).unwrap();
            let met: Vec<_> = (0..10_000).filter_map(|_| faults.meet(&Method::GET, "/devices")).collect();
            assert!(expected.contains(&met.len()), "{text}: {}", met.len());
            assert!(met.iter().all(|fault| *fault == Fault::ByChance(Kind::Slow)), "{text}");
        }
    }

    #[test]
    fn without_kinds_there_are_all_of_them() {
        let faults = faults(r#"{"rate": 1}"#).unwrap();
        let met: BTreeSet<_> =
            (0..1000).filter_map(|_| faults.meet(&Method::GET, "/devices")).map(Fault::word).collect();
        assert_eq!(met, Kind::ALL.map(Kind::word).into());
    }

    #[test]
    fn a_route_is_told_by_its_method_and_segments() {
        let faults = faults(
            r#"{"routes": {"POST /auth/certificates": 503, "GET /taskReports/{taskId}/{deviceId}": 404, "GET /devices": 500}}"#,
        )
        .unwrap();
        for (method, path, status) in [
            (Method::POST, "/auth/certificates", Some(503)),
            (Method::DELETE, "/auth/certificates", None),
            (Method::GET, "/taskReports/d%3Aa%3A1/d%3A1", Some(404)),
            (Method::GET, "/taskReports/d%3Aa%3A1", None),
            (Method::GET, "/taskReports/d%3Aa%3A1/d%3A1/more", None),
            (Method::GET, "/devices", Some(500)),
            (Method::GET, "/devices/one", None),
        ] {
            let expected = status.map(|number| Fault::OnRoute(StatusCode::from_u16(number).unwrap()));
            assert_eq!(faults.meet(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for (text, part) in [
            (r#"{"rate": 1.5}"#, "rate: 1.5 is not a share of the calls, from 0 to 1"),
            (r#"{"rate": -0.1}"#, "rate: -0.1"),
            (r#"{"rate": "1"}"#, "expected f64"),
            (r#"{"kinds": []}"#, "kinds: there are none"),
            (r#"{"kinds": ["slwo"]}"#, "unknown variant `slwo`"),
            (r#"{"route": {}}"#, "unknown field `route`"),
            (r#"{"routes": {"POST /devices": 200}}"#, "200 is not an error status"),
            (r#"{"routes": {"POST /devices": 1000}}"#, "1000 is not an error status"),
            (r#"{"routes": {"/devices": 503}}"#, "METHOD /route is expected"),
            (r#"{"routes": {"post /devices": 503}}"#, "METHOD /route is expected"),
            (r#"{"routes": {"POST devices": 503}}"#, "METHOD /route is expected"),
        ] {
            let error = faults(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn counts_each_kind_from_the_start() {
        let mut counts = Counts::default();
        counts.add(Fault::ByChance(Kind::Lost));
        counts.add(Fault::OnRoute(StatusCode::NOT_FOUND));
        let expected = serde_json::json!({"throttled": 0, "unavailable": 0, "failed": 0, "reset": 0, "lost": 1,
            "slow": 0, "route": 1});
        assert_eq!(serde_json::to_value(&counts).unwrap(), expected);
    }
}
