//! What a purge would take, what it would leave, and what would make it slow.

use std::collections::HashSet;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::graph::{Edge, Graph};
use super::hold;
use super::subject::{Subject, subject};
use crate::error::{Error, INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::raise::answer;
use crate::server::repeated::{Arg, Statement};
use crate::server::{Oid, heap, spi, types};
use crate::soft_delete::managed::Managed;
use crate::sql::quote::identifier;

/// One table of the answer.
struct Line {
    schemaname: String,
    relname: String,
    relid: Oid,
    rows: i64,
    oldest: Option<TimestampWithTimeZone>,
    held: i64,
    blocked: i64,
    notes: Vec<String>,
}

/// `upkeep.explain_purge(target, older_than)`
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn explain_purge(
    target: Option<Oid>,
    older_than: Option<Interval>,
) -> TableIterator<
    'static,
    (
        name!(schemaname, String),
        name!(relname, String),
        name!(relid, Oid),
        name!(rows, i64),
        name!(oldest, Option<TimestampWithTimeZone>),
        name!(held, i64),
        name!(blocked, i64),
        name!(notes, Vec<String>),
    ),
> {
    let lines = answer(subject(target, older_than).and_then(|subject| explain(&subject)));
    TableIterator::new(lines.into_iter().map(|line| {
        let Line { schemaname, relname, relid, rows, oldest, held, blocked, notes } = line;
        (schemaname, relname, relid, rows, oldest, held, blocked, notes)
    }))
}

fn explain(subject: &Subject) -> Result<Vec<Line>> {
    let Subject { managed, graph, sql, cutoff } = subject;
    let held = hold::held()?;
    let paths = paths(managed.relid, graph);
    let mut lines = vec![target(managed, graph, sql, cutoff, &held)?];
    lines[0].notes = warnings(managed, sql, graph)?.into_iter().map(|warning| in_words(&warning)).collect();
    let mut tables: Vec<&Managed> = Vec::new();
    for path in &paths {
        if let Some(child) = &path[path.len() - 1].child
            && child.relid != managed.relid
            && !tables.iter().any(|known| known.relid == child.relid)
        {
            tables.push(child);
        }
    }
    for child in tables {
        let ways: Vec<String> = paths
            .iter()
            .filter(|path| {
                path.last().and_then(|edge| edge.child.as_ref()).is_some_and(|last| last.relid == child.relid)
            })
            .map(|path| way_up(path, managed))
            .collect();
        lines.push(below(child, graph, &ways, cutoff, &held)?);
    }
    Ok(lines)
}

fn in_words(error: &Error) -> String {
    [Some(error.message.as_str()), error.hint.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// The ways from the target down, each table once on each of them.
fn paths(target: Oid, graph: &Graph) -> Vec<Vec<&Edge>> {
    const MOST: usize = 200;
    let mut paths: Vec<Vec<&Edge>> = Vec::new();
    let mut ends: Vec<(Oid, Vec<&Edge>, HashSet<Oid>)> = vec![(target, Vec::new(), HashSet::from([target]))];
    while let Some((relid, path, seen)) = ends.pop() {
        for (_, edge) in graph.holders(relid) {
            let Some(child) = edge.child.as_ref().filter(|child| !seen.contains(&child.relid)) else { continue };
            if paths.len() >= MOST {
                return paths;
            }
            let mut longer = path.clone();
            longer.push(edge);
            let mut seen = seen.clone();
            seen.insert(child.relid);
            paths.push(longer.clone());
            ends.push((child.relid, longer, seen));
        }
    }
    // The nearest tables first.
    paths.sort_by_key(Vec::len);
    paths
}

/// `EXISTS (..)`: this row of the last table on the way references rows that go, up to the target.
fn way_up(path: &[&Edge], target: &Managed) -> String {
    let mut condition = String::new();
    for (depth, edge) in path.iter().enumerate() {
        // The parent on this step, from the target's side.
        let parent = if depth == 0 { target } else { path[depth - 1].child.as_ref().unwrap_or(target) };
        let above = if condition.is_empty() { String::new() } else { format!(" AND {condition}") };
        let child = if depth + 1 == path.len() { "t".to_owned() } else { format!("p{}", depth + 1) };
        let join = edge.join(&format!("p{depth}"), &child);
        condition = format!(
            "EXISTS (SELECT FROM {} p{depth} WHERE {join} AND {}{above})",
            parent_sql(edge),
            due(&format!("p{depth}"), parent)
        );
    }
    condition
}

fn parent_sql(edge: &Edge) -> String {
    super::batch::name(edge.key.parent).unwrap_or_default()
}

fn due(row: &str, managed: &Managed) -> String {
    let (at, id) = (identifier(&managed.deleted_at), identifier(&managed.deletion_id));
    format!(
        "{row}.{at} OPERATOR(pg_catalog.<) $1::pg_catalog.timestamptz
         AND ({row}.{id} IS NULL OR {row}.{id} OPERATOR(pg_catalog.<>) ALL ($2::pg_catalog.uuid[]))"
    )
}

fn target(managed: &Managed, graph: &Graph, sql: &str, cutoff: &str, held: &str) -> Result<Line> {
    let blockers: Vec<String> = graph
        .holders(managed.relid)
        .map(|(_, edge)| {
            let stays =
                edge.child.as_ref().map_or_else(String::new, |child| format!(" AND ({}) IS NOT TRUE", due("c", child)));
            // A foreign key can point at a partition alone.
            let only = if edge.key.parent == managed.relid {
                String::new()
            } else {
                format!(
                    "t.tableoid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT r.relid::pg_catalog.oid
                         FROM pg_catalog.pg_partition_tree({}::pg_catalog.oid::pg_catalog.regclass) r)) AND ",
                    edge.key.parent.to_u32()
                )
            };
            format!("{only}EXISTS (SELECT FROM {} c WHERE {}{stays})", edge.key.child_rows(), edge.join("t", "c"))
        })
        .collect();
    let blocked = if blockers.is_empty() { "false".to_owned() } else { blockers.join(" OR ") };
    counts(
        managed.relid,
        graph,
        format!(
            "SELECT pg_catalog.count(*) FILTER (WHERE NOT u.held AND NOT u.blocked),
                    pg_catalog.min(u.at) FILTER (WHERE NOT u.held AND NOT u.blocked),
                    pg_catalog.count(*) FILTER (WHERE u.held), pg_catalog.count(*) FILTER (WHERE NOT u.held AND u.blocked)
             FROM (SELECT t.{at} AS at, t.{id} IS NOT NULL AND t.{id} OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.uuid[]) AS held,
                          {blocked} AS blocked
                   FROM {sql} t WHERE t.{at} OPERATOR(pg_catalog.<) $1::pg_catalog.timestamptz) u",
            at = identifier(&managed.deleted_at),
            id = identifier(&managed.deletion_id),
        ),
        cutoff,
        held,
    )
}

fn below(child: &Managed, graph: &Graph, ways: &[String], cutoff: &str, held: &str) -> Result<Line> {
    let at = identifier(&child.deleted_at);
    let table = super::batch::name(child.relid)?;
    counts(
        child.relid,
        graph,
        format!(
            "SELECT pg_catalog.count(*), pg_catalog.min(t.{at}), 0::pg_catalog.int8, 0::pg_catalog.int8
             FROM {table} t WHERE {} AND ({})",
            due("t", child),
            ways.join(" OR ")
        ),
        cutoff,
        held,
    )
}

fn counts(relid: Oid, graph: &Graph, sql: String, cutoff: &str, held: &str) -> Result<Line> {
    let (schemaname, relname) = heap::name(relid).unwrap_or_default();
    let statement = Statement::new(sql, &[types::TIMESTAMPTZ, types::UUIDARRAY]);
    // They are locked, but not their schemas' names.
    statement.names(&graph.tables(relid));
    let rows = statement.rows(&[Arg::Text(cutoff), Arg::Text(held)])?;
    let texts = rows.first().map_or(&[][..], Vec::as_slice);
    let text = |column: usize| texts.get(column).and_then(Option::as_deref);
    let number = |column: usize| text(column).and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    let oldest = text(1).map(str::parse::<TimestampWithTimeZone>).transpose();
    Ok(Line {
        schemaname,
        relname,
        relid,
        rows: number(0),
        oldest: oldest.map_err(|error| Error::new(INTERNAL_ERROR, format!("not a time: {error}")))?,
        held: number(2),
        blocked: number(3),
        notes: Vec::new(),
    })
}

/// What would make a purge slow: no index by age, foreign keys that no index serves.
pub fn warnings(managed: &Managed, sql: &str, graph: &Graph) -> Result<Vec<Error>> {
    let mut warnings = Vec::new();
    let slow = |message: String| Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, message);
    if !has_index(managed)? {
        let at = pgrx::spi::quote_identifier(&managed.deleted_at);
        warnings.push(
            slow(format!("no index gives the deleted rows of {sql} by age, each look reads the whole table"))
                .hint(format!("CREATE INDEX CONCURRENTLY ON {sql} ({at}) WHERE {at} IS NOT NULL;")),
        );
    }
    for (constraint, table, columns) in unserved(graph)? {
        warnings.push(
            slow(format!("no index serves foreign key \"{constraint}\" of {table}, each batch reads the whole table"))
                .hint(format!("CREATE INDEX CONCURRENTLY ON {table} ({columns});")),
        );
    }
    Ok(warnings)
}

/// A valid btree index that begins with deleted_at, partial or not; of a partitioned table one on the whole.
fn has_index(managed: &Managed) -> Result<bool> {
    let found = spi::query_one(
        "SELECT EXISTS (
             SELECT FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
                  AND a.attnum OPERATOR(pg_catalog.=) i.indkey[0]
             JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) i.indexrelid
             JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) x.relam
             WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name
               AND i.indisvalid AND m.amname OPERATOR(pg_catalog.=) 'btree'
               AND (i.indpred IS NULL OR pg_catalog.pg_get_expr(i.indpred, i.indrelid)
                    OPERATOR(pg_catalog.=) pg_catalog.format('(%I IS NOT NULL)', a.attname)))",
        &[managed.relid.into(), managed.deleted_at.as_str().into()],
        |row| row.require(1),
    )?;
    Ok(found.unwrap_or(false))
}

fn unserved(graph: &Graph) -> Result<Vec<(String, String, String)>> {
    if graph.edges.is_empty() {
        return Ok(Vec::new());
    }
    let children = graph.children();
    let parents: Vec<Oid> = graph.edges.iter().map(|edge| edge.key.parent).collect();
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT f.conname::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, c.relname),
                    (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.position)
                     FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY k (attnum, position)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid
                          AND a.attnum OPERATOR(pg_catalog.=) k.attnum)
             FROM pg_catalog.pg_constraint f
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.conrelid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
               AND f.conrelid OPERATOR(pg_catalog.=) ANY ($1) AND f.confrelid OPERATOR(pg_catalog.=) ANY ($2)
               AND NOT EXISTS (SELECT FROM upkeep._foreign_key_support() s WHERE s.conoid OPERATOR(pg_catalog.=) f.oid)
             ORDER BY f.oid",
            &[children.into(), parents.into()],
            |row| Ok((row.next()?, row.next()?, row.next()?)),
        )
    })
}
