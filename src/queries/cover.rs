//! Which rows of the history answer for a stretch of time: coarse ones where they lie within it whole, finer ones at its ends,
//! and nothing twice. Times are microseconds.

/// Level 0: what a drain brought; 1: an hour; 2: a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub level: usize,
    pub period: i64,
    pub started: i64,
    pub finished: i64,
}

pub const HOUR: i64 = 3_600_000_000;
pub const DAY: i64 = 24 * HOUR;

/// Length of a level's period, for those above 0.
pub const fn period_of(level: usize) -> i64 {
    if level == 1 { HOUR } else { DAY }
}

/// The period of a level above that something at `at` belongs to.
pub fn period_at(level: usize, at: i64) -> i64 {
    at.div_euclid(period_of(level)) * period_of(level)
}

/// Indexes of the rows to add up. No row is longer than `resolution`, unless nothing finer is there.
pub fn cover(spans: &[Span], since: i64, until: i64, resolution: Option<i64>) -> Vec<usize> {
    let mut chosen = Vec::new();
    choose(spans, (0..spans.len()).collect(), 2, since, until, resolution, &mut chosen);
    chosen.sort_by_key(|&i| spans[i].started);
    chosen
}

fn choose(
    spans: &[Span],
    rows: Vec<usize>,
    level: usize,
    since: i64,
    until: i64,
    resolution: Option<i64>,
    chosen: &mut Vec<usize>,
) {
    let overlaps = |i: usize| spans[i].finished > since && spans[i].started < until;
    if level == 0 {
        chosen.extend(rows.into_iter().filter(|&i| overlaps(i)));
        return;
    }
    let mut periods = std::collections::BTreeMap::<i64, (Option<usize>, Vec<usize>)>::new();
    for i in rows {
        let place = periods.entry(period_at(level, spans[i].period)).or_default();
        if spans[i].level == level { place.0 = Some(i) } else { place.1.push(i) }
    }
    for (whole, parts) in periods.into_values() {
        let Some(whole) = whole else {
            choose(spans, parts, level - 1, since, until, resolution, chosen);
            continue;
        };
        let within = spans[whole].started >= since && spans[whole].finished <= until;
        let fine_enough = resolution.is_none_or(|longest| period_of(level) <= longest);
        if parts.is_empty() || (within && fine_enough) {
            if overlaps(whole) {
                chosen.push(whole);
            }
        } else {
            choose(spans, parts, level - 1, since, until, resolution, chosen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    /// Two days by the minute, by the hour and by the day.
    fn history() -> Vec<Span> {
        let of = |level: usize, length: i64| {
            (0..2 * DAY / length).map(move |i| Span {
                level,
                period: i * length,
                started: i * length,
                finished: (i + 1) * length,
            })
        };
        of(0, MINUTE).chain(of(1, HOUR)).chain(of(2, DAY)).collect()
    }

    fn length(spans: &[Span], chosen: &[usize]) -> i64 {
        chosen.iter().map(|&i| spans[i].finished - spans[i].started).sum()
    }

    #[test]
    fn every_minute_is_counted_once_and_from_few_rows() {
        let spans = history();
        for (since, until, rows) in [
            (0, 2 * DAY, 2),
            (0, DAY, 1),
            (MINUTE, 2 * DAY, 59 + 23 + 1),
            (HOUR / 2, HOUR, 30),
            (DAY - MINUTE, DAY + MINUTE, 2),
            (3 * HOUR, DAY + 5 * HOUR + MINUTE, 21 + 5 + 1),
        ] {
            let chosen = cover(&spans, since, until, None);
            assert_eq!(length(&spans, &chosen), until - since);
            assert_eq!(chosen.len(), rows, "{since} {until}");
        }
        assert!(cover(&spans, 2 * DAY, 3 * DAY, None).is_empty());
    }

    #[test]
    fn a_finer_answer_is_given_where_there_is_one() {
        let mut spans = history();
        assert_eq!(cover(&spans, 0, DAY, Some(HOUR)).len(), 24);
        assert_eq!(cover(&spans, 0, DAY, Some(MINUTE)).len(), 24 * 60);
        spans.retain(|span| span.level > 0);
        assert_eq!(cover(&spans, 0, DAY, Some(MINUTE)).len(), 24);
        spans.retain(|span| span.level > 1);
        assert_eq!(cover(&spans, HOUR, 2 * HOUR, Some(MINUTE)), [0]);
    }

    #[test]
    fn what_has_not_been_added_up_yet_is_read_as_it_is() {
        let spans: Vec<Span> = history().into_iter().filter(|span| span.level == 0 || span.period < DAY).collect();
        let chosen = cover(&spans, 0, 2 * DAY, None);
        assert_eq!(length(&spans, &chosen), 2 * DAY);
        assert_eq!(chosen.len(), 1 + 24 * 60);
    }
}
