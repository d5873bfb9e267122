//! Faults that the control API sets: which REST calls, task reports and results go wrong, and how often it happened.
//!
//! `rest::fault_injection` makes a call go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Way in which a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FaultKind {
    /// 429 with `Retry-After: 1`.
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
    /// A gateway in front of Coiote answers 503 with its own page, and Coiote does not see the call.
    Gateway,
    /// The call is carried out, and a gateway answers 503 with its own page.
    GatewayLost,
    /// The call is not looked at, and the connection stays open without an answer until the faults change.
    Hang,
}

impl FaultKind {
    /// Kinds that are used if none are named.
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

    fn name(self) -> &'static str {
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

/// Fault that a call meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    ByChance(FaultKind),
    /// Fault of all calls of the route.
    OnRoute(RouteFault),
    /// Connections are accepted, and nothing is ever sent on them.
    BlackHole,
}

/// Fault of all calls of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteFault {
    /// An error in Coiote's form.
    Error(StatusCode),
    Kind(FaultKind),
    /// Any response, such as one that Coiote would never give.
    Response {
        status: StatusCode,
        body: String,
        retry_after: Option<String>,
    },
}

impl Fault {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ByChance(kind) => kind.name(),
            Self::OnRoute(_) => "route",
            Self::BlackHole => "blackHole",
        }
    }
}

/// The present faults; none by default.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "FaultsBody")]
pub(crate) struct Faults {
    /// Share of the calls that meet a fault by chance, from 0 to 1.
    rate: f64,
    kinds: BTreeSet<FaultKind>,
    routes: Vec<(RoutePattern, RouteFault)>,
    black_hole: bool,
    reports: ReportFaults,
    results: ResultFaults,
    /// Delay of slow responses.
    slow_by: Duration,
    /// Time at which all faults end; `None` if only the next `PUT /faults` ends them.
    until: Option<Instant>,
}

/// Faults of task reports. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReportFaults {
    /// Share of the reports that are never shown.
    lost: f64,
    /// Share of the reports that `findSince` leaves out and that are shown when asked for singly.
    unlisted: f64,
    /// Seconds until a report is shown. Its times are those without the delay.
    late: f64,
    /// `findSince` returns each report twice.
    pub(crate) twice: bool,
    /// `findSince` returns reports in any order.
    pub(crate) shuffled: bool,
}

/// Faults of results on their way into shadows.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ResultFaults {
    /// Share of the results that never arrive.
    lost: f64,
    /// Delay in seconds.
    late: f64,
    /// Each result is delayed by a random time up to `late`, so that one overtakes another.
    shuffled: bool,
}

/// How a report is shown: singly, in `findSince`, and after a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportFate {
    pub(crate) alone: bool,
    pub(crate) listed: bool,
    pub(crate) after: Duration,
}

/// Whether and when a result is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultFate {
    Sent,
    SentAfter(Duration),
    Lost,
}

impl Faults {
    /// Fault that the call meets. `path` is relative to the base of the REST API.
    pub(crate) fn fault_for(&self, method: &Method, path: &str) -> Option<Fault> {
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

    pub(crate) fn slow_by(&self) -> Duration {
        self.slow_by
    }

    pub(crate) fn is_black_hole(&self) -> bool {
        self.black_hole && !self.are_over()
    }

    pub(crate) fn report_faults(&self) -> ReportFaults {
        if self.are_over() { ReportFaults::default() } else { self.reports }
    }

    pub(crate) fn report_fate(&self) -> ReportFate {
        let ReportFaults { lost, unlisted, late, .. } = self.report_faults();
        let chance = fastrand::f64();
        ReportFate { alone: chance >= lost, listed: chance >= lost + unlisted, after: Duration::from_secs_f64(late) }
    }

    pub(crate) fn result_fate(&self) -> ResultFate {
        let ResultFaults { lost, late, shuffled } = self.results;
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
struct FaultsBody {
    #[serde(default)]
    rate: f64,
    #[serde(default = "usual_kinds")]
    kinds: BTreeSet<FaultKind>,
    #[serde(default)]
    routes: BTreeMap<String, Value>,
    #[serde(default, rename = "blackHole")]
    black_hole: bool,
    #[serde(default)]
    reports: ReportFaults,
    #[serde(default)]
    results: ResultFaults,
    /// Delay of slow responses, in seconds.
    #[serde(default = "usual_delay", rename = "slowBy")]
    slow_by: f64,
    /// Duration of the faults.
    seconds: Option<f64>,
}

/// Any response on a route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RouteResponse {
    status: u16,
    body: String,
    retry_after: Option<String>,
}

/// Reads the fault of a route: a status, the name of a kind, or a response.
///
/// An untagged enum of serde cannot read serde_json's numbers of arbitrary precision.
fn route_fault(route: &str, wanted: Value) -> Result<RouteFault, String> {
    let not_understood = |error| format!("routes: {route:?}: {error}");
    match wanted {
        Value::Number(number) => Ok(RouteFault::Error(error_status(route, &number)?)),
        Value::String(_) => {
            serde_json::from_value(wanted).map(RouteFault::Kind).map_err(|error| not_understood(error.to_string()))
        }
        Value::Object(_) => {
            let RouteResponse { status, body, retry_after } =
                serde_json::from_value(wanted).map_err(|error| not_understood(error.to_string()))?;
            let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
            let status = status.ok_or_else(|| not_understood("a status from 200 to 999 is expected".to_owned()))?;
            Ok(RouteFault::Response { status, body, retry_after })
        }
        _ => Err(not_understood("a status is expected, the name of a kind, or an answer".to_owned())),
    }
}

fn usual_delay() -> f64 {
    0.3
}

fn usual_kinds() -> BTreeSet<FaultKind> {
    FaultKind::USUAL.into()
}

impl TryFrom<FaultsBody> for Faults {
    type Error = String;

    fn try_from(wanted: FaultsBody) -> Result<Self, String> {
        let FaultsBody { rate, kinds, routes, black_hole, reports, results, slow_by, seconds } = wanted;
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
        for (name, duration) in [
            ("reports.late", reports.late),
            ("results.late", results.late),
            ("slowBy", slow_by),
            ("seconds", seconds.unwrap_or_default()),
        ] {
            if !(0.0..=1e6).contains(&duration) {
                return Err(format!("{name}: {duration} is not a number of seconds"));
            }
        }
        if kinds.is_empty() {
            return Err("kinds: there are none; leave it out for all of them, or give rate 0".to_owned());
        }
        let routes = routes.into_iter().map(|(route, fault)| Ok((route.parse()?, route_fault(&route, fault)?)));
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let routes = routes.collect::<Result<_, String>>()?;
        let slow_by = Duration::from_secs_f64(slow_by);
        Ok(Self { rate, kinds, routes, black_hole, reports, results, slow_by, until })
    }
}

fn error_status(route: &str, number: &Number) -> Result<StatusCode, String> {
    number
        .as_u64()
        .and_then(|number| StatusCode::from_u16(u16::try_from(number).ok()?).ok())
        .filter(|status| status.is_client_error() || status.is_server_error())
        .ok_or_else(|| format!("routes: {route:?}: {number} is not an error status, from 400 to 599"))
}

/// Method and path of calls, such as `POST /sessions/{deviceId}/allow-deregistered`.
///
/// It is matched against the call's path and not against the routes that are served, so that calls to routes that the
/// local Coiote does not serve can have faults, too.
#[derive(Debug)]
struct RoutePattern {
    method: String,
    path: String,
}

impl RoutePattern {
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

impl FromStr for RoutePattern {
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

/// Number of calls that met each kind of fault, including those that none met.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FaultCounts(BTreeMap<&'static str, u64>);

impl FaultCounts {
    pub(crate) fn add(&mut self, fault: &Fault) {
        *self.0.entry(fault.name()).or_default() += 1;
    }
}

impl Default for FaultCounts {
    fn default() -> Self {
        Self(
            FaultKind::ALL
                .map(FaultKind::name)
                .into_iter()
                .chain(["route", "blackHole"])
                .map(|word| (word, 0))
                .collect(),
        )
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
        for kind in FaultKind::ALL {
            let read: FaultKind = serde_json::from_str(&format!("{:?}", kind.name())).unwrap();
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
            let met: Vec<_> = (0..10_000).filter_map(|_| faults.fault_for(&Method::GET, "/devices")).collect();
            assert!(expected.contains(&met.len()), "{text}: {}", met.len());
            assert!(met.iter().all(|fault| *fault == Fault::ByChance(FaultKind::Slow)), "{text}");
        }
    }

    #[test]
    fn without_kinds_there_are_the_usual_ones() {
        let faults = faults(r#"{"rate": 1}"#).unwrap();
        let met: BTreeSet<_> =
            (0..1000).filter_map(|_| faults.fault_for(&Method::GET, "/devices")).map(|fault| fault.name()).collect();
        assert_eq!(met, FaultKind::USUAL.map(FaultKind::name).into());
    }

    #[test]
    fn a_route_is_matched_by_method_and_segments() {
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
            let expected =
                status.map(|number| Fault::OnRoute(RouteFault::Error(StatusCode::from_u16(number).unwrap())));
            assert_eq!(faults.fault_for(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn refuses_invalid_faults() {
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
        let answer = |status: u16, body: &str, retry_after: Option<&str>| RouteFault::Response {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned(),
            retry_after: retry_after.map(str::to_owned),
        };
        for (path, fault) in [
            ("/a", RouteFault::Kind(FaultKind::Hang)),
            ("/b", answer(200, "<html>", None)),
            ("/c", answer(429, "", Some("7"))),
        ] {
            assert_eq!(faults.fault_for(&Method::GET, path), Some(Fault::OnRoute(fault)));
        }
    }

    #[test]
    fn faults_that_are_over_do_nothing() {
        let faults = faults(
            r#"{"rate": 1, "blackHole": true, "seconds": 0, "reports": {"lost": 1, "twice": true}, "results": {"lost": 1}}"#,
        )
        .unwrap();
        assert_eq!(faults.fault_for(&Method::GET, "/devices"), None);
        assert!(!faults.is_black_hole() && !faults.report_faults().twice);
        assert_eq!(faults.report_fate(), ReportFate { alone: true, listed: true, after: Duration::ZERO });
        assert_eq!(faults.result_fate(), ResultFate::Sent);
    }

    #[test]
    fn reports_and_results_have_their_fates() {
        let report_fate = |text: &str| faults(text).unwrap().report_fate();
        let second = Duration::from_secs(1);
        for (text, alone, listed, after) in [
            ("{}", true, true, Duration::ZERO),
            (r#"{"reports": {"lost": 1}}"#, false, false, Duration::ZERO),
            (r#"{"reports": {"unlisted": 1, "late": 1}}"#, true, false, second),
        ] {
            assert_eq!(report_fate(text), ReportFate { alone, listed, after }, "{text}");
        }
        let result_fate = |text: &str| faults(text).unwrap().result_fate();
        assert_eq!(result_fate(r#"{"results": {"lost": 1}}"#), ResultFate::Lost);
        assert_eq!(result_fate(r#"{"results": {"late": 1}}"#), ResultFate::SentAfter(second));
        let shuffled = result_fate(r#"{"results": {"late": 1, "shuffled": true}}"#);
        assert!(matches!(shuffled, ResultFate::SentAfter(after) if after < second), "{shuffled:?}");
    }

    #[test]
    fn counts_each_kind_from_the_start() {
        let mut counts = FaultCounts::default();
        counts.add(&Fault::ByChance(FaultKind::Lost));
        counts.add(&Fault::OnRoute(RouteFault::Error(StatusCode::NOT_FOUND)));
        let expected = serde_json::json!({"throttled": 0, "unavailable": 0, "failed": 0, "reset": 0, "lost": 1,
            "slow": 0, "gateway": 0, "gatewaylost": 0, "hang": 0, "route": 1, "blackHole": 0});
        assert_eq!(serde_json::to_value(&counts).unwrap(), expected);
    }
}
