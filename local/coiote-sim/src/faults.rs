//! Faults: which REST calls go wrong, and which reports and results, as the control API asks for it; and how many have.
//!
//! What a fault does to a call is in `rest::faults`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

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
    /// A gateway in front of Coiote answers 503 with a page of its own; Coiote does not see the call.
    Gateway,
    /// The same, and the call is carried out.
    GatewayLost,
    /// Nobody looks at the call, and nothing is answered while there are faults.
    Hang,
}

impl Kind {
    /// Where none are named.
    const USUAL: [Self; 6] = [Self::Throttled, Self::Unavailable, Self::Failed, Self::Reset, Self::Lost, Self::Slow];
    const ALL: [Self; 9] = [
        Self::Throttled,
        Self::Unavailable,
        Self::Failed,
        Self::Reset,
        Self::Lost,
        Self::Slow,
        Self::Gateway,
        Self::GatewayLost,
        Self::Hang,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Reset => "reset",
            Self::Lost => "lost",
            Self::Slow => "slow",
            Self::Gateway => "gateway",
            Self::GatewayLost => "gatewaylost",
            Self::Hang => "hang",
        }
    }
}

/// What a call meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    ByChance(Kind),
    /// All calls of its route meet this.
    OnRoute(OnRoute),
    /// Connections are accepted, and nothing is ever answered.
    BlackHole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnRoute {
    /// An error in Coiote's form.
    Error(StatusCode),
    Kind(Kind),
    /// Any answer, such as one that is none of Coiote's.
    Answer {
        status: StatusCode,
        body: String,
        retry_after: Option<String>,
    },
}

impl Fault {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::ByChance(kind) => kind.word(),
            Self::OnRoute(_) => "route",
            Self::BlackHole => "blackHole",
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
    routes: Vec<(Route, OnRoute)>,
    black_hole: bool,
    reports: OfReports,
    results: OfResults,
    /// When they heal by themselves.
    until: Option<Instant>,
}

/// What goes wrong with task reports. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OfReports {
    /// Share of those that nobody ever sees.
    lost: f64,
    /// Share of those that are seen only by who asks for them alone.
    unlisted: f64,
    /// Seconds until they are seen; their times are as if they had been.
    late: f64,
    /// `findSince` gives each twice,
    pub(crate) twice: bool,
    /// … and in any order.
    pub(crate) shuffled: bool,
}

/// What goes wrong with results on their way into shadows.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OfResults {
    /// Share of those that never come.
    lost: f64,
    /// Seconds by which they come later,
    late: f64,
    /// … each by another time up to that: so one overtakes the other.
    shuffled: bool,
}

/// How a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportFate {
    pub(crate) alone: bool,
    pub(crate) listed: bool,
    pub(crate) after: Duration,
}

/// What becomes of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultFate {
    Sent,
    SentAfter(Duration),
    Lost,
}

impl Faults {
    /// The fault that this call meets; `path` is the one below the base of the REST API.
    pub(crate) fn meet(&self, method: &Method, path: &str) -> Option<Fault> {
        if self.are_over() {
            return None;
        }
        if self.black_hole {
            return Some(Fault::BlackHole);
        }
        if let Some((_, fault)) = self.routes.iter().find(|(route, _)| route.is_of(method, path)) {
            return Some(Fault::OnRoute(fault.clone()));
        }
        if fastrand::f64() < self.rate { fastrand::choice(&self.kinds).copied().map(Fault::ByChance) } else { None }
    }
}

impl Faults {
    fn are_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn is_black_hole(&self) -> bool {
        self.black_hole && !self.are_over()
    }

    pub(crate) fn of_reports(&self) -> OfReports {
        if self.are_over() { OfReports::default() } else { self.reports }
    }

    pub(crate) fn of_report(&self) -> ReportFate {
        let OfReports { lost, unlisted, late, .. } = self.of_reports();
        let chance = fastrand::f64();
        ReportFate { alone: chance >= lost, listed: chance >= lost + unlisted, after: Duration::from_secs_f64(late) }
    }

    pub(crate) fn of_result(&self) -> ResultFate {
        let OfResults { lost, late, shuffled } = self.results;
        if self.are_over() {
            return ResultFate::Sent;
        }
        if fastrand::f64() < lost {
            return ResultFate::Lost;
        }
        let late = if shuffled { late * fastrand::f64() } else { late };
        if late > 0.0 { ResultFate::SentAfter(Duration::from_secs_f64(late)) } else { ResultFate::Sent }
    }
}

/// The body of `PUT /faults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    rate: f64,
    #[serde(default = "usual_kinds")]
    kinds: BTreeSet<Kind>,
    #[serde(default)]
    routes: BTreeMap<String, Value>,
    #[serde(default, rename = "blackHole")]
    black_hole: bool,
    #[serde(default)]
    reports: OfReports,
    #[serde(default)]
    results: OfResults,
    /// After so many seconds they are over.
    seconds: Option<f64>,
}

/// Any answer on a route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Answer {
    status: u16,
    body: String,
    retry_after: Option<String>,
}

/// serde's untagged enums cannot read serde_json's numbers of any precision: so by hand.
fn on_route(route: &str, wanted: Value) -> Result<OnRoute, String> {
    let not_understood = |error| format!("routes: {route:?}: {error}");
    match wanted {
        Value::Number(number) => Ok(OnRoute::Error(error_status(route, &number)?)),
        Value::String(_) => {
            serde_json::from_value(wanted).map(OnRoute::Kind).map_err(|error| not_understood(error.to_string()))
        }
        Value::Object(_) => {
            let Answer { status, body, retry_after } =
                serde_json::from_value(wanted).map_err(|error| not_understood(error.to_string()))?;
            let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
            let status = status.ok_or_else(|| not_understood("a status from 200 to 999 is expected".to_owned()))?;
            Ok(OnRoute::Answer { status, body, retry_after })
        }
        _ => Err(not_understood("a status is expected, the name of a kind, or an answer".to_owned())),
    }
}

fn usual_kinds() -> BTreeSet<Kind> {
    Kind::USUAL.into()
}

impl TryFrom<Wanted> for Faults {
    type Error = String;

    fn try_from(wanted: Wanted) -> Result<Self, String> {
        let Wanted { rate, kinds, routes, black_hole, reports, results, seconds } = wanted;
        if !(0.0..=1.0).contains(&rate) {
            return Err(format!("rate: {rate} is not a share of the calls, from 0 to 1"));
        }
        for (name, share) in
            [("reports.lost", reports.lost), ("reports.unlisted", reports.unlisted), ("results.lost", results.lost)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name}: {share} is not a share, from 0 to 1"));
            }
        }
        for (name, duration) in
            [("reports.late", reports.late), ("results.late", results.late), ("seconds", seconds.unwrap_or_default())]
        {
            if !(0.0..=1e6).contains(&duration) {
                return Err(format!("{name}: {duration} is not a number of seconds"));
            }
        }
        if kinds.is_empty() {
            return Err("kinds: there are none; leave it out for all of them, or give rate 0".to_owned());
        }
        let routes = routes.into_iter().map(|(route, fault)| Ok((route.parse()?, on_route(&route, fault)?)));
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        Ok(Self { rate, kinds, routes: routes.collect::<Result<_, String>>()?, black_hole, reports, results, until })
    }
}

fn error_status(route: &str, number: &Number) -> Result<StatusCode, String> {
    number
        .as_u64()
        .and_then(|number| StatusCode::from_u16(u16::try_from(number).ok()?).ok())
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
    pub(crate) fn add(&mut self, fault: &Fault) {
        *self.0.entry(fault.word()).or_default() += 1;
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self(Kind::ALL.map(Kind::word).into_iter().chain(["route", "blackHole"]).map(|word| (word, 0)).collect())
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
    fn without_kinds_there_are_the_usual_ones() {
        let faults = faults(r#"{"rate": 1}"#).unwrap();
        let met: BTreeSet<_> =
            (0..1000).filter_map(|_| faults.meet(&Method::GET, "/devices")).map(|fault| fault.word()).collect();
        assert_eq!(met, Kind::USUAL.map(Kind::word).into());
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
            let expected = status.map(|number| Fault::OnRoute(OnRoute::Error(StatusCode::from_u16(number).unwrap())));
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
            (r#"{"routes": {"GET /devices": {"status": 42, "body": ""}}}"#, "a status from 200 to 999 is expected"),
            (r#"{"routes": {"GET /devices": "slwo"}}"#, "unknown variant `slwo`"),
            (r#"{"routes": {"GET /devices": null}}"#, "a status is expected, the name of a kind, or an answer"),
            (r#"{"reports": {"lost": 2}}"#, "reports.lost: 2 is not a share"),
            (r#"{"reports": {"gone": 1}}"#, "unknown field `gone`"),
            (r#"{"results": {"late": -1}}"#, "results.late: -1 is not a number of seconds"),
            (r#"{"seconds": -1}"#, "seconds: -1"),
            (r#"{"routes": {"/devices": 503}}"#, "METHOD /route is expected"),
            (r#"{"routes": {"post /devices": 503}}"#, "METHOD /route is expected"),
            (r#"{"routes": {"POST devices": 503}}"#, "METHOD /route is expected"),
        ] {
            let error = faults(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_route_can_meet_any_kind_and_give_any_answer() {
        let faults = faults(
            r#"{"routes": {"GET /a": "hang", "GET /b": {"status": 200, "body": "<html>"},
                "GET /c": {"status": 429, "body": "", "retryAfter": "7"}}}"#,
        )
        .unwrap();
        let answer = |status: u16, body: &str, retry_after: Option<&str>| OnRoute::Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned(),
            retry_after: retry_after.map(str::to_owned),
        };
        for (path, fault) in
            [("/a", OnRoute::Kind(Kind::Hang)), ("/b", answer(200, "<html>", None)), ("/c", answer(429, "", Some("7")))]
        {
            assert_eq!(faults.meet(&Method::GET, path), Some(Fault::OnRoute(fault)));
        }
    }

    #[test]
    fn faults_that_are_over_do_nothing() {
        let faults = faults(
            r#"{"rate": 1, "blackHole": true, "seconds": 0, "reports": {"lost": 1, "twice": true}, "results": {"lost": 1}}"#,
        )
        .unwrap();
        assert_eq!(faults.meet(&Method::GET, "/devices"), None);
        assert!(!faults.is_black_hole() && !faults.of_reports().twice);
        assert_eq!(faults.of_report(), ReportFate { alone: true, listed: true, after: Duration::ZERO });
        assert_eq!(faults.of_result(), ResultFate::Sent);
    }

    #[test]
    fn reports_and_results_have_their_fates() {
        let of_reports = |text: &str| faults(text).unwrap().of_report();
        let second = Duration::from_secs(1);
        for (text, alone, listed, after) in [
            ("{}", true, true, Duration::ZERO),
            (r#"{"reports": {"lost": 1}}"#, false, false, Duration::ZERO),
            (r#"{"reports": {"unlisted": 1, "late": 1}}"#, true, false, second),
        ] {
            assert_eq!(of_reports(text), ReportFate { alone, listed, after }, "{text}");
        }
        let of_results = |text: &str| faults(text).unwrap().of_result();
        assert_eq!(of_results(r#"{"results": {"lost": 1}}"#), ResultFate::Lost);
        assert_eq!(of_results(r#"{"results": {"late": 1}}"#), ResultFate::SentAfter(second));
        let shuffled = of_results(r#"{"results": {"late": 1, "shuffled": true}}"#);
        assert!(matches!(shuffled, ResultFate::SentAfter(after) if after < second), "{shuffled:?}");
    }

    #[test]
    fn counts_each_kind_from_the_start() {
        let mut counts = Counts::default();
        counts.add(&Fault::ByChance(Kind::Lost));
        counts.add(&Fault::OnRoute(OnRoute::Error(StatusCode::NOT_FOUND)));
        let expected = serde_json::json!({"throttled": 0, "unavailable": 0, "failed": 0, "reset": 0, "lost": 1,
            "slow": 0, "gateway": 0, "gatewaylost": 0, "hang": 0, "route": 1, "blackHole": 0});
        assert_eq!(serde_json::to_value(&counts).unwrap(), expected);
    }
}
