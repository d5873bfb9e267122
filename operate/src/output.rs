//! Output: tables and JSON on standard output, notes on standard error.

use std::io::{self, Write};
use std::sync::OnceLock;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use console::Term;
use serde_json::Value as Json;

/// Blanks before and after a column of a table.
const PADDING: (u16, u16) = (0, 2);

/// First error of a write to standard output.
static WRITE_ERROR: OnceLock<io::Error> = OnceLock::new();

/// Writes a line to standard output. After an error nothing more is written, and the command goes on: what it does, and its exit
/// status, do not depend on who reads.
pub(crate) fn line(text: &str) {
    if WRITE_ERROR.get().is_none()
        && let Err(error) = writeln!(io::stdout(), "{text}")
    {
        let _ = WRITE_ERROR.set(error);
    }
}

/// Error by which standard output is not complete, except where nobody reads it any more, as behind `head`.
pub(crate) fn write_error() -> Option<&'static io::Error> {
    WRITE_ERROR.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// Writes a line to standard error; where that fails, nothing is left to report it to.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Notes an error of a request, or a notice for its author.
pub(crate) fn finding(finding: &lwm2m::Finding) {
    note(&format!("{}  {}", finding.code, finding.message));
}

/// Formats an age in its largest unit.
pub(crate) fn ago(seconds: i64) -> String {
    match seconds {
        ..=119 => format!("{} s ago", seconds.max(0)),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Formats the age of a time of the ledger.
pub(crate) fn since(at: requests::Millis) -> String {
    ago((lambda_support::now().saturating_sub(at) / 1_000).try_into().unwrap_or_default())
}

pub(crate) fn json(value: &Json) {
    line(&format!("{value:#}"));
}

/// Prints rows below a header, in columns, wrapped to the width of the terminal if there is one.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    if let Some((_, columns)) = Term::stdout().size_checked().filter(|_| Term::stdout().is_term()) {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic).set_width(columns);
    }
    table.add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding(PADDING);
    });
    table.lines().for_each(|row| line(row.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_formatted_in_their_largest_unit() {
        let ages = [-3, 59, 125, 7_300, 200_000].map(ago);
        assert_eq!(ages, ["0 s ago", "59 s ago", "2 min ago", "2 h ago", "2 days ago"]);
    }
}
