//! One JSON line for each thing that happens, on standard output, where Lambda picks it up.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Starts logging at the levels that `RUST_LOG` names (`info`, or by crate as in `info,coiote=debug`); `info` where it
/// is absent or not understood.
pub fn start() {
    let levels = std::env::var("RUST_LOG")
        .ok()
        .and_then(|directives| directives.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // Lambda stamps each line with its own time.
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
