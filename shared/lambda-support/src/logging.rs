//! One JSON line for each thing that happens, on standard output, where Lambda picks it up.
//!
//! What an invocation is about (thing, version, client token and so on) is in the fields of its span, and stands in every
//! line of it, on one level with the line's own fields.

use json_subscriber::fmt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Starts logging at the levels that `RUST_LOG` names (`info`, or by crate as in `info,coiote=debug`); `info` where it
/// is absent or not understood.
pub(crate) fn start() {
    let levels = std::env::var("RUST_LOG")
        .ok()
        .and_then(|directives| directives.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
        // It says again, as an error, what the function said already at the level that fits. Panics are on standard error.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        // Its span says again what is in the lines of ours.
        .with_target("lambda_runtime::layers::trace", LevelFilter::OFF);
    let lines = fmt::layer().flatten_event(true).with_span_list(false).flatten_current_span_on_top_level(true);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
