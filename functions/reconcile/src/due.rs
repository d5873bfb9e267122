//! Pages of the things in an index: each thing once, however the index changes meanwhile.

use std::collections::HashSet;

use requests::Millis;

/// Start of the next page, and the things on earlier pages.
#[derive(Debug)]
pub(crate) struct DuePages {
    from: Millis,
    to: Millis,
    most: usize,
    seen: HashSet<String>,
    is_last: bool,
}

impl DuePages {
    /// Pages of the things that are due by that time. `most`: number of entries on every page but the last.
    pub(crate) fn until(to: Millis, most: i32) -> DuePages {
        DuePages { from: 0, to, most: usize::try_from(most).unwrap_or_default(), seen: HashSet::new(), is_last: false }
    }

    /// Time from which to ask for the next page; none after the last one.
    pub(crate) fn next_from(&self) -> Option<Millis> {
        (!self.is_last && self.from <= self.to).then_some(self.from)
    }

    /// Takes a page, and returns its entries whose things were on no earlier one.
    pub(crate) fn take(&mut self, page: Vec<(Millis, String)>) -> Vec<(Millis, String)> {
        self.is_last = page.len() < self.most;
        let latest = page.last().map_or(self.from, |(at, _)| *at);
        let news: Vec<(Millis, String)> =
            page.into_iter().filter(|(_, thing)| self.seen.insert(thing.clone())).collect();
        // One instant has more things than a page holds: the rest wait for the next run, in which these are not due any more.
        self.from = if news.is_empty() { latest.saturating_add(1) } else { latest };
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(Millis, &str)], most: i32) -> (Vec<String>, usize) {
        let to = entries.last().map_or(0, |(at, _)| *at);
        let (mut pages, mut found, mut count) = (DuePages::until(to, most), Vec::new(), 0);
        while let Some(from) = pages.next_from() {
            assert!(from <= to, "DynamoDB refuses such a range");
            let page = entries.iter().filter(|(at, _)| *at >= from).take(usize::try_from(most).unwrap());
            let news = pages.take(page.map(|(at, thing)| (*at, (*thing).to_owned())).collect());
            found.extend(news.into_iter().map(|(_, thing)| thing));
            count += 1;
        }
        (found, count)
    }

    #[test]
    fn each_thing_comes_once_in_order_of_time() {
        let entries = [(1, "a"), (2, "b"), (2, "c"), (5, "d"), (7, "e")];
        assert_eq!(read(&entries, 2).0, ["a", "b", "c", "d", "e"]);
        assert_eq!(read(&entries, 100), (vec!["a", "b", "c", "d", "e"].into_iter().map(str::to_owned).collect(), 1));
        assert_eq!(read(&[], 2), (vec![], 1));
    }

    #[test]
    fn many_things_of_one_instant_do_not_hold_up_later_ones() {
        let entries = [(1, "a"), (1, "b"), (1, "c"), (5, "d")];
        assert_eq!(read(&entries, 2).0, ["a", "b", "d"]);
        assert_eq!(read(&entries[..3], 2).0, ["a", "b"]);
    }
}
