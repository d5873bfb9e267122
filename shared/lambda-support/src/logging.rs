//! Logs as JSON lines on standard output, which Lambda collects.
//!
//! The subject of an invocation (thing, version, client token and so on) is in the fields of its span, and stands in each of
//! its lines, on one level with the line's own fields.

use json_subscriber::fmt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Starts logging at the levels in `RUST_LOG` (such as `info`, or by crate `info,coiote=debug`); at `info` if that is absent or
/// not valid.
pub(crate) fn start() {
    let levels = std::env::var("RUST_LOG")
        .ok()
        .and_then(|directives| directives.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
        // It repeats the function's own line as an error, whatever that line's level. Panics are on standard error.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        // Its span repeats fields of ours.
        .with_target("lambda_runtime::layers::trace", LevelFilter::OFF);
    let lines = fmt::layer()
        .with_target(false)
        .flatten_event(true)
        .with_span_list(false)
        .flatten_current_span_on_top_level(true);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
