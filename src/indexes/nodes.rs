//! Standbys count for themselves: an index is unused only if it is unused on each of them. Which ones are there, and whose
//! figures were imported.

use crate::sql::quote::literal;
/// Figures older than this say nothing about a standby any more: microseconds.
pub const FRESH: i64 = 7 * 86_400_000_000;

/// A physical standby that is connected, by the names that it can be known by.
#[derive(Clone, Debug, Default)]
pub struct Standby {
    pub application_name: String,
    /// Does no other connected standby have this application_name?
    pub alone: bool,
    pub slot: Option<String>,
    pub address: Option<String>,
}

/// Figures imported from a standby; times in microseconds since 2000.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub taken_at: i64,
    pub stats_since: i64,
}

impl Standby {
    fn is(&self, node: &str) -> bool {
        (self.alone && self.application_name == node)
            || self.slot.as_deref() == Some(node)
            || self.address.as_deref() == Some(node)
    }

    /// What to call it: nothing that the caller could not see in pg_stat_activity and pg_replication_slots.
    fn name(&self) -> &str {
        match &self.slot {
            Some(slot) if !self.alone || self.application_name.is_empty() => slot,
            _ => &self.application_name,
        }
    }
}

/// The nodes whose figures count, and what speaks against calling any index unused. `away`: slots of
/// standbys that are not connected just now.
pub fn judge(
    standbys: &[Standby],
    away: &[String],
    nodes: &[Node],
    now: i64,
    min_age: i64,
) -> (Vec<String>, Option<String>) {
    let (fresh, stale): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| now - node.taken_at <= FRESH);
    let names = fresh.iter().map(|node| node.name.clone()).collect();
    let import = |name: &str| format!("upkeep.import_index_usage({}, ..)", literal(name));
    let bare = standbys.iter().find(|standby| !nodes.iter().any(|node| standby.is(&node.name)));
    let unknown = if let Some(standby) = bare {
        let name = standby.name();
        Some(format!(
            "standby {name} is connected and nothing is known of its use: {} brings its figures",
            import(name)
        ))
    } else if let Some(slot) = away.iter().find(|slot| !fresh.iter().any(|node| node.name == **slot)) {
        Some(format!(
            "the standby of replication slot {slot} is not connected and nothing is known of its use: {} brings its figures",
            import(slot)
        ))
    } else if let Some(node) = stale.first() {
        let days = (now - node.taken_at) / 86_400_000_000;
        Some(format!(
            "the figures of standby {} are {days} days old: import them again, or forget the standby: \
             SELECT upkeep.import_index_usage({}, NULL)",
            node.name,
            literal(&node.name)
        ))
    } else {
        fresh.iter().find(|node| node.taken_at - node.stats_since < min_age).map(|node| {
            let covered = super::words::length(node.taken_at - node.stats_since);
            format!("the statistics of standby {} cover only {covered}", node.name)
        })
    };
    (names, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn standby(name: &str) -> Standby {
        Standby { application_name: name.into(), alone: true, ..Standby::default() }
    }

    fn node(name: &str, days_ago: i64) -> Node {
        Node { name: name.into(), taken_at: (100 - days_ago) * DAY, stats_since: 0 }
    }

    fn unknown(standbys: &[Standby], away: &[&str], nodes: &[Node]) -> Option<String> {
        let away: Vec<_> = away.iter().map(|slot| (*slot).to_owned()).collect();
        judge(standbys, &away, nodes, 100 * DAY, 30 * DAY).1
    }

    #[test]
    fn every_connected_standby_needs_figures() {
        assert_eq!(unknown(&[], &[], &[]), None);
        assert!(unknown(&[standby("a")], &[], &[]).unwrap().contains("standby a is connected"));
        assert_eq!(unknown(&[standby("a")], &[], &[node("a", 1)]), None);
        assert!(unknown(&[standby("a"), standby("b")], &[], &[node("a", 1)]).unwrap().contains("standby b"));
    }

    #[test]
    fn a_name_that_two_have_is_nobodys() {
        let twin = |slot: &str| Standby { alone: false, slot: Some(slot.into()), ..standby("walreceiver") };
        let both = [twin("s1"), twin("s2")];
        assert!(unknown(&both, &[], &[node("walreceiver", 1)]).unwrap().contains("standby s1"));
        assert_eq!(unknown(&both, &[], &[node("s1", 1), node("s2", 2)]), None);
    }

    #[test]
    fn old_figures_are_none() {
        assert!(unknown(&[standby("a")], &[], &[node("a", 8)]).unwrap().contains("8 days old"));
        let (fresh, _) = judge(&[], &[], &[node("a", 7), node("b", 8)], 100 * DAY, 0);
        assert_eq!(fresh, ["a"]);
    }

    #[test]
    fn a_standby_that_is_away_may_still_use_it() {
        assert!(unknown(&[], &["slot"], &[]).unwrap().contains("replication slot slot"));
        assert_eq!(unknown(&[], &["slot"], &[node("slot", 2)]), None);
    }

    #[test]
    fn young_statistics_elsewhere_are_young() {
        let young = Node { stats_since: 90 * DAY, ..node("a", 1) };
        assert!(unknown(&[standby("a")], &[], &[young]).unwrap().contains("cover only 9 days"));
    }

    #[test]
    fn names_are_quoted() {
        assert!(unknown(&[standby("it's")], &[], &[]).unwrap().contains("import_index_usage('it''s', ..)"));
    }
}
