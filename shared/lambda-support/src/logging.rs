//! Logs as JSON lines on standard output, which Lambda collects.
//!
//! The subject of an invocation (thing, version, client token and so on) is in the fields of its span, and stands in each of
//! its lines, on one level with the line's own fields.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use json_subscriber::fmt;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// The output of all lines.
static OUTPUT: Output = Output(Mutex::new(State { is_invoked: false, held: Vec::new() }));

/// Standard output. While an event is being handled, a line of the level `info` is held back until the next line, because the metrics
/// of the invocation stand in the last one: a line of their own would repeat its fields, and log bytes are billed.
struct Output(Mutex<State>);

struct State {
    /// Whether an event is being handled.
    is_invoked: bool,
    /// The line that is held back; empty if none is.
    held: Vec<u8>,
}

/// Writer of lines of one level.
struct LineWriter {
    may_be_held: bool,
}

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
        .with_writer(&OUTPUT)
        .with_target(false)
        .flatten_event(true)
        .with_span_list(false)
        .flatten_current_span_on_top_level(true);
    tracing_subscriber::registry().with(lines).with(levels).init();
}

/// Handling of an event, from its beginning to its last line. Dropped before its end, by a panic, it writes what is held back.
pub(crate) struct Invocation;

impl Invocation {
    /// Begins to hold lines back.
    pub(crate) fn begin() -> Invocation {
        OUTPUT.lock().is_invoked = true;
        Invocation
    }

    /// Writes what `last` makes of the line that is held back, which is empty if none is.
    pub(crate) fn end(self, last: impl FnOnce(Vec<u8>) -> Vec<u8>) -> io::Result<()> {
        let mut state = OUTPUT.lock();
        let held = std::mem::take(&mut state.held);
        // Written in one piece, so that no other line gets between.
        io::stdout().lock().write_all(&last(held))
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        let mut state = OUTPUT.lock();
        state.is_invoked = false;
        // Where standard output is closed, nobody can be told.
        let _ = io::stdout().lock().write_all(&std::mem::take(&mut state.held));
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MakeWriter<'_> for &'static Output {
    type Writer = LineWriter;

    fn make_writer(&self) -> LineWriter {
        LineWriter { may_be_held: false }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> LineWriter {
        // What goes wrong has to be in the log even if the process ends with it.
        LineWriter { may_be_held: *metadata.level() == Level::INFO }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = OUTPUT.lock();
        let held = std::mem::take(&mut state.held);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&held)?;
        if self.may_be_held && state.is_invoked {
            state.held = line.to_vec();
        } else {
            stdout.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}
