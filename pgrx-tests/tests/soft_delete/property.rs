//! Soft delete over random foreign keys, against a model: what goes, what is cleared, what is refused; no live row
//! references a deleted one; undelete is the inverse of delete.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context, Result, ensure};
use upkeep_tests::session::Session;
use upkeep_tests::testing;

const CASES: u64 = 1000;
const WORKERS: u64 = 4;

/// splitmix64: the same cases in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OnDelete {
    Cascade,
    SetNull,
    SetDefault,
    NoAction,
    Restrict,
}

#[derive(Debug)]
struct Key {
    child: usize,
    parent: usize,
    on_delete: OnDelete,
    deferrable: bool,
    composite: bool,
    /// What SET DEFAULT makes of a reference.
    default: Option<usize>,
}

/// `rows[table][row][key]`: the row it references by the key, for the keys of the table.
#[derive(Debug)]
struct Case {
    tables: usize,
    keys: Vec<Key>,
    rows: Vec<usize>,
    values: Vec<Vec<Option<usize>>>,
}

impl Case {
    fn new(chance: &mut Chance) -> Self {
        let tables = 2 + chance.below(3);
        let rows: Vec<usize> = (0..tables).map(|_| 2 + chance.below(5)).collect();
        let keys: Vec<Key> = (0..2 + chance.below(5))
            .map(|_| {
                let parent = chance.below(tables);
                Key {
                    child: chance.below(tables),
                    parent,
                    on_delete: match chance.below(14) {
                        0..=3 => OnDelete::Cascade,
                        4..=6 => OnDelete::SetNull,
                        7..=11 => OnDelete::SetDefault,
                        12 => OnDelete::NoAction,
                        _ => OnDelete::Restrict,
                    },
                    deferrable: chance.one_in(4),
                    composite: chance.one_in(4),
                    // Often a row that no statement names.
                    default: (!chance.one_in(6))
                        .then(|| if chance.one_in(5) { chance.below(rows[parent]) } else { rows[parent] - 1 }),
                }
            })
            .collect();
        let values = keys
            .iter()
            .map(|key| {
                (0..rows[key.child]).map(|_| (!chance.one_in(6)).then(|| chance.below(rows[key.parent]))).collect()
            })
            .collect();
        Case { tables, keys, rows, values }
    }

    fn create(&self, chance: &mut Chance) -> String {
        let (mut sql, mut constraints) = (String::new(), String::new());
        for table in 0..self.tables {
            sql += &format!("CREATE TABLE t{table} (id int PRIMARY KEY, two int, UNIQUE (two, id));");
            sql +=
                &format!("INSERT INTO t{table} SELECT g, 2 * g FROM generate_series(0, {}) g;", self.rows[table] - 1);
        }
        for (k, key) in self.keys.iter().enumerate() {
            let (child, parent) = (key.child, key.parent);
            let action = match key.on_delete {
                OnDelete::Cascade => "CASCADE",
                OnDelete::SetNull => "SET NULL",
                OnDelete::SetDefault => "SET DEFAULT",
                OnDelete::NoAction => "NO ACTION",
                OnDelete::Restrict => "RESTRICT",
            };
            let deferrable = if key.deferrable { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
            sql += &format!("ALTER TABLE t{child} ADD k{k} int;");
            let (columns, referenced) = if key.composite {
                sql += &format!("ALTER TABLE t{child} ADD k{k}_two int;");
                (format!("k{k}_two, k{k}"), "two, id")
            } else {
                (format!("k{k}"), "id")
            };
            for (row, value) in self.values[k].iter().enumerate() {
                let Some(value) = value else { continue };
                let two = if key.composite { format!(", k{k}_two = {}", 2 * value) } else { String::new() };
                sql += &format!("UPDATE t{child} SET k{k} = {value}{two} WHERE id = {row};");
            }
            if let (OnDelete::SetDefault, Some(value)) = (key.on_delete, key.default) {
                sql += &format!("ALTER TABLE t{child} ALTER k{k} SET DEFAULT {value};");
                if key.composite {
                    sql += &format!("ALTER TABLE t{child} ALTER k{k}_two SET DEFAULT {};", 2 * value);
                }
            }
            // Behind all rows, so that no deferred check of one is pending.
            constraints += &format!(
                "ALTER TABLE t{child} ADD FOREIGN KEY ({columns}) REFERENCES t{parent} ({referenced}) \
                 ON DELETE {action} {deferrable};"
            );
        }
        sql += &constraints;
        let first = chance.below(self.tables);
        for table in 0..self.tables {
            let table = (first + table) % self.tables;
            sql += &format!("SELECT upkeep.enable_soft_delete('t{table}', on_unmanaged => 'restrict');");
        }
        sql
    }

    /// All rows as they are: what they reference, and whether they are deleted.
    fn state(&self, session: &mut Session) -> Result<String> {
        let tables: Vec<String> = (0..self.tables)
            .map(|table| format!("SELECT {table} AS t, id, t{table}::text AS r FROM t{table}"))
            .collect();
        session.text(&format!("SELECT string_agg(t || r, ' ' ORDER BY t, id) FROM ({}) s", tables.join(" UNION ALL ")))
    }

    fn live(&self, session: &mut Session) -> Result<Vec<BTreeSet<usize>>> {
        let tables: Vec<String> =
            (0..self.tables).map(|table| format!("SELECT {table} AS t, id FROM t{table}_live")).collect();
        let mut live = vec![BTreeSet::new(); self.tables];
        for row in session.rows(&tables.join(" UNION ALL "))? {
            let (table, id) = row.split_once('|').context("two columns")?;
            live[table.parse::<usize>()?].insert(id.parse()?);
        }
        Ok(live)
    }

    /// What the rows reference now: in the shape of `values`.
    fn references(&self, session: &mut Session) -> Result<Vec<Vec<Option<usize>>>> {
        let keys: Vec<String> = (self.keys.iter().enumerate())
            .map(|(k, key)| format!("SELECT {k} AS k, id, k{k} FROM t{} WHERE k{k} IS NOT NULL", key.child))
            .collect();
        let mut values: Vec<_> = self.keys.iter().map(|key| vec![None; self.rows[key.child]]).collect();
        for row in session.rows(&keys.join(" UNION ALL "))? {
            let fields: Vec<usize> = row.split('|').map(str::parse).collect::<Result<_, _>>()?;
            values[fields[0]][fields[1]] = Some(fields[2]);
        }
        Ok(values)
    }

    /// Live rows of the children that reference deleted rows.
    fn dangling(&self, session: &mut Session) -> Result<String> {
        let mut counts = vec!["0".to_owned()];
        for (k, key) in self.keys.iter().enumerate() {
            counts.push(format!(
                "(SELECT count(*) FROM t{}_live c JOIN t{}_deleted p ON p.id = c.k{k})",
                key.child, key.parent
            ));
        }
        session.text(&format!("SELECT {}", counts.join(" + ")))
    }
}

/// What a deletion should come to.
struct Expected {
    deleted: BTreeSet<(usize, usize)>,
    /// Of this key the row's reference, and what it becomes.
    cleared: BTreeMap<(usize, usize), Option<usize>>,
    refused: bool,
    /// A row goes by one key and is referenced by RESTRICT from another that goes too: either answer is right.
    depends: bool,
}

fn model(
    case: &Case,
    live: &[BTreeSet<usize>],
    values: &[Vec<Option<usize>>],
    table: usize,
    rows: &BTreeSet<usize>,
) -> Expected {
    let mut deleted: BTreeSet<(usize, usize)> = rows.intersection(&live[table]).map(|&row| (table, row)).collect();
    loop {
        let mut more = Vec::new();
        for (k, key) in case.keys.iter().enumerate().filter(|(_, key)| key.on_delete == OnDelete::Cascade) {
            for &row in &live[key.child] {
                if values[k][row].is_some_and(|value| deleted.contains(&(key.parent, value)))
                    && !deleted.contains(&(key.child, row))
                {
                    more.push((key.child, row));
                }
            }
        }
        if more.is_empty() {
            break;
        }
        deleted.extend(more);
    }
    let (mut cleared, mut refused, mut depends) = (BTreeMap::new(), false, false);
    for (k, key) in case.keys.iter().enumerate() {
        for &row in &live[key.child] {
            if !values[k][row].is_some_and(|value| deleted.contains(&(key.parent, value))) {
                continue;
            }
            let goes = deleted.contains(&(key.child, row));
            match key.on_delete {
                OnDelete::Cascade => {}
                OnDelete::SetNull | OnDelete::SetDefault if goes => {}
                OnDelete::SetNull => {
                    cleared.insert((k, row), None);
                }
                OnDelete::SetDefault => {
                    let is_live = |row: usize| live[key.parent].contains(&row) && !deleted.contains(&(key.parent, row));
                    refused |= key.default.is_some_and(|row| !is_live(row));
                    cleared.insert((k, row), key.default);
                }
                OnDelete::NoAction | OnDelete::Restrict if !goes => refused = true,
                OnDelete::NoAction => {}
                OnDelete::Restrict => depends = true,
            }
        }
    }
    Expected { deleted, cleared, refused, depends }
}

#[derive(Default, Debug)]
struct Seen {
    cases: u64,
    cascades: u64,
    clears: u64,
    defaults: u64,
    refusals: u64,
}

fn run(session: &mut Session, seed: u64, seen: &mut Seen) -> Result<()> {
    let mut chance = Chance(seed);
    let case = Case::new(&mut chance);
    session.run("BEGIN")?;
    session.run(&case.create(&mut chance)).with_context(|| format!("seed {seed}: {case:?}"))?;
    // Each deletion, and everything as it was before.
    let mut deletions: Vec<(String, String)> = Vec::new();
    let (mut cascaded, mut cleared, mut defaulted, mut refused) = (false, false, false, false);
    for _ in 0..2 {
        let table = chance.below(case.tables);
        let rows: BTreeSet<usize> = (0..case.rows[table])
            .filter(|row| chance.one_in(if row + 1 == case.rows[table] { 8 } else { 2 }))
            .collect();
        let list = rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let condition = if rows.is_empty() { "false".to_owned() } else { format!("id IN ({list})") };
        let (live, values) = (case.live(session)?, case.references(session)?);
        let expected = model(&case, &live, &values, table, &rows);
        let before = case.state(session)?;
        let how = [
            format!("SELECT upkeep.soft_delete('t{table}', '{condition}')"),
            format!("DELETE FROM t{table}_live WHERE {condition}"),
            format!("UPDATE t{table} SET deleted_at = now() WHERE deleted_at IS NULL AND {condition}"),
        ];
        let statement = &how[chance.below(how.len())];
        let explain = || format!("seed {seed}: {statement}\n{case:?}\nlive {live:?}\nvalues {values:?}");
        session.run("SAVEPOINT before")?;
        // What is deferred shows now.
        let result = session.run(&format!("{statement}; SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"));
        if let Err(error) = result {
            ensure!(expected.refused || expected.depends, "refused: {error:#}\n{}", explain());
            session.run("ROLLBACK TO before")?;
            refused = true;
            ensure!(case.state(session)? == before, "not undone\n{}", explain());
            continue;
        }
        ensure!(!expected.refused, "not refused\n{}", explain());
        let (live_now, values_now) = (case.live(session)?, case.references(session)?);
        for t in 0..case.tables {
            let now = &live_now[t];
            let wanted: BTreeSet<usize> =
                live[t].iter().copied().filter(|&row| !expected.deleted.contains(&(t, row))).collect();
            ensure!(*now == wanted, "t{t}: {now:?} are live and not {wanted:?}\n{}", explain());
        }
        for (&(k, row), &value) in &expected.cleared {
            let now = values_now[k][row];
            ensure!(now == value, "k{k} of row {row} is {now:?} and not {value:?}\n{}", explain());
        }
        ensure!(case.dangling(session)? == "0", "a live row references a deleted one\n{}", explain());
        cascaded |= expected.deleted.len() > rows.intersection(&live[table]).count();
        let cleared_to = |to: fn(&Option<usize>) -> bool| expected.cleared.values().any(to);
        cleared |= cleared_to(Option::is_none);
        defaulted |= cleared_to(Option::is_some);
        if expected.deleted.is_empty() {
            continue;
        }
        // Statements that are not soft_delete() share one deletion in a transaction.
        let known = deletions.iter().map(|(id, _)| format!("'{id}'")).collect::<Vec<_>>().join(", ");
        let new = format!("SELECT id::text FROM upkeep.deletions WHERE id::text <> ALL (ARRAY[{known}]::text[])");
        match &session.values::<String>(&new)?[..] {
            [] => {}
            [id] => deletions.push((id.clone(), before)),
            ids => anyhow::bail!("one deletion has become {ids:?}\n{}", explain()),
        }
    }
    for (id, before) in deletions.iter().rev() {
        session.run(&format!("SELECT upkeep.undelete('{id}')")).with_context(|| format!("seed {seed}: {case:?}"))?;
        let now = case.state(session)?;
        ensure!(now == *before, "seed {seed}: undelete is not the inverse\n{now}\n{before}\n{case:?}");
    }
    session.run("ROLLBACK")?;
    seen.cases += 1;
    seen.cascades += u64::from(cascaded);
    seen.clears += u64::from(cleared);
    seen.defaults += u64::from(defaulted);
    seen.refusals += u64::from(refused);
    Ok(())
}

#[test]
fn a_deletion_is_what_its_model_says_and_undelete_its_inverse() -> Result<()> {
    let db = testing::database()?;
    let mut seen = Seen::default();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let mut session = db.connect()?;
                Ok(scope.spawn(move || -> Result<Seen> {
                    let mut seen = Seen::default();
                    // Names are this session's alone.
                    session.run(&format!("CREATE SCHEMA s{worker}; SET search_path = s{worker}, public"))?;
                    for seed in (worker..CASES).step_by(WORKERS as usize) {
                        run(&mut session, seed, &mut seen)?;
                    }
                    Ok(seen)
                }))
            })
            .collect::<Result<_>>()?;
        for worker in workers {
            let part = worker.join().expect("no panic")?;
            seen.cases += part.cases;
            seen.cascades += part.cascades;
            seen.clears += part.clears;
            seen.defaults += part.defaults;
            seen.refusals += part.refusals;
        }
        Ok(())
    })?;
    assert_eq!(seen.cases, CASES);
    for share in [seen.cascades, seen.clears, seen.defaults, seen.refusals] {
        assert!(share * 5 > CASES, "each in more than a fifth of the cases: {seen:?}");
    }
    Ok(())
}
