//! The tables as Rust source: plain numbers, and one text that contains all names.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;

use crate::definitions::Object;
use crate::ranges::{self, Limit};

/// The source text of all tables. Fails if there are too many definitions for the tables.
pub(crate) fn source(mut objects: Vec<Object>) -> Result<String, String> {
    // Sorted by id for binary search; for each id the newest version first, and the standard's description before the user's
    objects.sort_by_key(|object| (object.id, Reverse(object.version)));
    for object in &mut objects {
        object.resources.sort_by_key(|resource| resource.id);
    }

    let mut tables = Tables::default();
    for object in &objects {
        tables.add(object);
    }
    tables.check_sizes()?;

    // Any number of blanks between words counts as one
    let mut by_name: Vec<(&str, usize)> = objects.iter().map(|object| object.name.as_str()).zip(0..).collect();
    by_name.sort_by(|(a, _), (b, _)| a.split_whitespace().cmp(b.split_whitespace()));
    let by_name: Vec<usize> = by_name.into_iter().map(|(_, index)| index).collect();
    let longest = objects.iter().map(|object| object.name.len()).max().unwrap_or_default();
    Ok(tables.source(&by_name, longest))
}

#[derive(Default)]
struct Tables {
    texts: Texts,
    limits: Limits,
    objects: usize,
    object_rows: String,
    resources: usize,
    resource_rows: String,
}

impl Tables {
    fn add(&mut self, object: &Object) {
        let name = self.texts.add(&object.name);
        let count = object.resources.len();
        let _ = writeln!(
            self.object_rows,
            "    ObjectRow {{ id: {}, name: {name}, multiple: {}, first: {}, count: {count} }},",
            object.id, object.multiple, self.resources
        );
        self.objects += 1;
        self.resources += count;
        for resource in &object.resources {
            let name = self.texts.add(&resource.name);
            let range = self.limits.add(&resource.range, resource.data_type, &mut self.texts);
            let _ = writeln!(
                self.resource_rows,
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

    /// Refuses more rows than an index can count.
    fn check_sizes(&self) -> Result<(), String> {
        for (count, what) in [
            (self.objects, "objects"),
            (self.resources, "resources"),
            (self.limits.count, "ranges"),
            (self.limits.intervals.len(), "intervals"),
            (self.limits.words.len(), "values of enumerations"),
        ] {
            if count >= usize::from(u16::MAX) {
                return Err(format!("{count} {what} are more than the tables can hold"));
            }
        }
        if self.texts.all.len() > u32::MAX as usize {
            return Err("the names are more than the tables can hold".to_owned());
        }
        Ok(())
    }

    /// The source text, with the indexes of the objects sorted by name and the length of the longest name.
    fn source(&self, by_name: &[usize], longest: usize) -> String {
        let Tables { texts, limits, objects, object_rows, resources, resource_rows } = self;
        let intervals = limits.intervals.iter();
        format!(
            "const LONGEST_OBJECT_NAME: usize = {longest};\n\
             static TEXTS: &str = \"{}\";\n\
             static OBJECTS: [ObjectRow; {objects}] = [\n{object_rows}];\n\
             static BY_NAME: [u16; {objects}] = {by_name:?};\n\
             static RESOURCES: [ResourceRow; {resources}] = [\n{resource_rows}];\n\
             static RANGES: [RangeRow; {}] = [\n{}];\n\
             static INTERVALS: [(f64, f64); {}] = [{}];\n\
             static WORDS: [Text; {}] = [{}];\n",
            // A definition may contain any character; the source is ASCII
            texts.all.escape_default(),
            limits.count,
            limits.rows,
            limits.intervals.len(),
            intervals.map(|(from, to)| format!("({}, {}), ", literal(*from), literal(*to))).collect::<String>(),
            limits.words.len(),
            limits.words.join(", "),
        )
    }
}

/// A number as a literal; the end of an open interval is infinite.
fn literal(value: f64) -> String {
    match value {
        f64::INFINITY => "f64::INFINITY".to_owned(),
        f64::NEG_INFINITY => "f64::NEG_INFINITY".to_owned(),
        _ => format!("{value:?}"),
    }
}

/// All texts without duplicates, joined to one.
#[derive(Default)]
struct Texts {
    all: String,
    at: HashMap<String, usize>,
}

impl Texts {
    /// Adds a text and returns its literal.
    fn add(&mut self, text: &str) -> String {
        let at = *self.at.entry(text.to_owned()).or_insert_with(|| {
            let at = self.all.len();
            self.all.push_str(text);
            at
        });
        format!("Text {{ at: {at}, len: {} }}", text.len())
    }
}

/// Rows of ranges without duplicates, and their parts.
#[derive(Default)]
struct Limits {
    count: usize,
    rows: String,
    intervals: Vec<(f64, f64)>,
    words: Vec<String>,
    known: HashMap<(String, &'static str), usize>,
}

impl Limits {
    /// Adds a range and returns its index plus one; 0 for a range that does not limit values.
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
