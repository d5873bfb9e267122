//! The tables as Rust source: plain numbers, and one text that holds all names.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;

use crate::definitions::Object;
use crate::ranges::{self, Limit};

/// The error is for a set of definitions that is too large for the tables.
pub(crate) fn source(mut objects: Vec<Object>) -> Result<String, String> {
    // By id, so that a binary search finds them; of one id the newest version first, and the standard's description before
    // the user's own.
    objects.sort_by_key(|object| (object.id, Reverse(object.version)));
    for object in &mut objects {
        object.resources.sort_by_key(|resource| resource.id);
    }

    let mut texts = Texts::default();
    let mut limits = Limits::default();
    let (mut object_rows, mut resource_rows) = (String::new(), String::new());
    let mut resources = 0;
    for object in &objects {
        let name = texts.add(&object.name);
        let count = object.resources.len();
        let _ = writeln!(
            object_rows,
            "    ObjectRow {{ id: {}, name: {name}, multiple: {}, first: {resources}, count: {count} }},",
            object.id, object.multiple
        );
        resources += count;
        for resource in &object.resources {
            let name = texts.add(&resource.name);
            let range = limits.add(&resource.range, resource.data_type, &mut texts);
            let _ = writeln!(
                resource_rows,
                "    ResourceRow {{ id: {}, name: {name}, readable: {}, writable: {}, executable: {}, multiple: {}, \
                 data_type: DataType::{}, range: {range} }},",
                resource.id,
                resource.readable,
                resource.writable,
                resource.executable,
                resource.multiple,
                resource.data_type
            );
        }
    }
    for (count, what) in [
        (objects.len(), "objects"),
        (resources, "resources"),
        (limits.count, "ranges"),
        (limits.intervals.len(), "intervals"),
        (limits.words.len(), "values of enumerations"),
    ] {
        if count >= usize::from(u16::MAX) {
            return Err(format!("{count} {what} are more than the tables can hold"));
        }
    }
    if texts.all.len() > u32::MAX as usize {
        return Err("the names are more than the tables can hold".to_owned());
    }

    // Blanks between words count as one
    let mut by_name: Vec<(&str, usize)> = objects.iter().map(|object| object.name.as_str()).zip(0..).collect();
    by_name.sort_by(|(a, _), (b, _)| a.split_whitespace().cmp(b.split_whitespace()));
    let by_name: Vec<usize> = by_name.into_iter().map(|(_, index)| index).collect();

    let longest = objects.iter().map(|object| object.name.len()).max().unwrap_or_default();
    Ok(format!(
        "const LONGEST_OBJECT_NAME: usize = {longest};\n\
         static TEXTS: &str = \"{}\";\n\
         static OBJECTS: [ObjectRow; {}] = [\n{object_rows}];\n\
         static BY_NAME: [u16; {}] = {by_name:?};\n\
         static RESOURCES: [ResourceRow; {resources}] = [\n{resource_rows}];\n\
         static RANGES: [RangeRow; {}] = [\n{}];\n\
         static INTERVALS: [(f64, f64); {}] = [{}];\n\
         static WORDS: [Text; {}] = [{}];\n",
        // Nothing but ASCII, whatever a definition holds
        texts.all.escape_default(),
        objects.len(),
        objects.len(),
        limits.count,
        limits.rows,
        limits.intervals.len(),
        limits.intervals.iter().map(|(from, to)| format!("({}, {}), ", number(*from), number(*to))).collect::<String>(),
        limits.words.len(),
        limits.words.join(", "),
    ))
}

/// A literal; a range may be open at an end.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "f64::INFINITY".to_owned(),
        f64::NEG_INFINITY => "f64::NEG_INFINITY".to_owned(),
        _ => format!("{value:?}"),
    }
}

/// Every text once.
#[derive(Default)]
struct Texts {
    all: String,
    at: HashMap<String, usize>,
}

impl Texts {
    fn add(&mut self, text: &str) -> String {
        let at = *self.at.entry(text.to_owned()).or_insert_with(|| {
            let at = self.all.len();
            self.all.push_str(text);
            at
        });
        format!("Text {{ at: {at}, len: {} }}", text.len())
    }
}

#[derive(Default)]
struct Limits {
    count: usize,
    rows: String,
    intervals: Vec<(f64, f64)>,
    words: Vec<String>,
    known: HashMap<(String, &'static str), usize>,
}

impl Limits {
    /// The index of the range plus one; 0 where there is none that can be checked.
    fn add(&mut self, range: &str, data_type: &'static str, texts: &mut Texts) -> usize {
        if let Some(known) = self.known.get(&(range.to_owned(), data_type)) {
            return *known;
        }
        let index = match ranges::limit(range, data_type) {
            None => 0,
            Some(limit) => {
                let text = texts.add(range);
                let (of, first, count) = match limit {
                    Limit::Value(intervals) => ("Value", self.intervals.len(), self.extend(intervals)),
                    Limit::Length(intervals) => ("Length", self.intervals.len(), self.extend(intervals)),
                    Limit::Words { words, or_length } => {
                        let first = self.words.len();
                        self.words.extend(words.iter().map(|word| texts.add(word)));
                        (if or_length { "WordsOrLength" } else { "Words" }, first, words.len())
                    }
                };
                let _ = writeln!(
                    self.rows,
                    "    RangeRow {{ text: {text}, of: Measured::{of}, first: {first}, count: {count} }},"
                );
                self.count += 1;
                self.count
            }
        };
        self.known.insert((range.to_owned(), data_type), index);
        index
    }

    fn extend(&mut self, intervals: Vec<(f64, f64)>) -> usize {
        let count = intervals.len();
        self.intervals.extend(intervals);
        count
    }
}
