//! The things that are due, page by page: each once, however the index changes meanwhile.

use std::collections::HashSet;

use requests::Millis;

/// Where the next page begins, and which things were on those before.
#[derive(Debug)]
pub(crate) struct Pages {
    from: Millis,
    to: Millis,
    most: usize,
    seen: HashSet<String>,
    is_last: bool,
}

impl Pages {
    /// Pages of what is due by a time. `most`: entries that a page has unless it is the last one.
    pub(crate) fn until(to: Millis, most: i32) -> Pages {
        Pages { from: 0, to, most: usize::try_from(most).unwrap_or_default(), seen: HashSet::new(), is_last: false }
    }

    /// From when on the next page is asked for; nothing where there is none.
    pub(crate) fn next_from(&self) -> Option<Millis> {
        (!self.is_last && self.from <= self.to).then_some(self.from)
    }

    /// Takes a page, and returns what is new on it.
    pub(crate) fn take(&mut self, page: Vec<(Millis, String)>) -> Vec<String> {
        self.is_last = page.len() < self.most;
        let latest = page.last().map_or(self.from, |(at, _)| *at);
        let news: Vec<String> =
            page.into_iter().map(|(_, thing)| thing).filter(|thing| self.seen.insert(thing.clone())).collect();
        // More things of one instant than a page holds: those beyond wait for the next run, in which these are not due any more.
        self.from = if news.is_empty() { latest.saturating_add(1) } else { latest };
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(Millis, &str)], most: i32) -> (Vec<String>, usize) {
        let to = entries.last().map_or(0, |(at, _)| *at);
        let (mut pages, mut found, mut count) = (Pages::until(to, most), Vec::new(), 0);
        while let Some(from) = pages.next_from() {
            assert!(from <= to, "DynamoDB refuses such a range");
            let page = entries.iter().filter(|(at, _)| *at >= from).take(usize::try_from(most).unwrap());
            found.extend(pages.take(page.map(|(at, thing)| (*at, (*thing).to_owned())).collect()));
            count += 1;
        }
        (found, count)
    }

    #[test]
    fn each_thing_comes_once_in_its_order() {
        let entries = [(1, "a"), (2, "b"), (2, "c"), (5, "d"), (7, "e")];
        assert_eq!(read(&entries, 2).0, ["a", "b", "c", "d", "e"]);
        assert_eq!(read(&entries, 100), (vec!["a", "b", "c", "d", "e"].into_iter().map(str::to_owned).collect(), 1));
        assert_eq!(read(&[], 2), (vec![], 1));
    }

    #[test]
    fn many_of_one_instant_do_not_hold_up_what_comes_after_them() {
        let entries = [(1, "a"), (1, "b"), (1, "c"), (5, "d")];
        assert_eq!(read(&entries, 2).0, ["a", "b", "d"]);
        assert_eq!(read(&entries[..3], 2).0, ["a", "b"]);
    }
}
