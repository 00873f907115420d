//! DELETE on a live view: the row as the statement saw it, the view's image of it, tells whether somebody has changed it since.

use super::keys::common;
use super::own::Table;
use crate::error::Result;
use crate::server::raw::Planned;
use crate::server::view;
use crate::server::{Oid, types};
use crate::soft_delete::managed::{self, Column, Managed};
use crate::sql::quote::identifier;

/// The relation whose rows a trigger sees: the table, a partition of it, or its live view.
pub struct Place {
    relid: Oid,
    columns: Vec<Column>,
    is_view: bool,
    /// A view's columns have names of their own: which of the table's each shows its query says; 0: it computes it.
    shown: Vec<i16>,
}

impl Place {
    pub fn of(relid: Oid, managed: &Managed, columns: &[Column]) -> Result<Self> {
        let is_view = managed.live_view == Some(relid);
        Ok(Place {
            relid,
            is_view,
            shown: if is_view { view::shown(relid, managed.relid)? } else { Vec::new() },
            columns: if relid == managed.relid { columns.to_vec() } else { managed::columns(relid)? },
        })
    }

    /// Where a column of the table is there; 0: it is not.
    pub fn number(&self, column: &Column) -> i16 {
        if self.is_view {
            return self.shown.iter().position(|&shown| shown == column.number).map_or(0, |at| at as i16 + 1);
        }
        self.columns.iter().find(|here| here.name == column.name).map_or(0, |here| here.number)
    }
}

pub struct Image<'a> {
    place: &'a Place,
    table: &'a Table<'a>,
    /// Where in the view, and which of the table's. What the view computes says nothing of the row.
    columns: Vec<(usize, &'a Column)>,
    pub row_type: Oid,
    row_array: Oid,
}

impl<'a> Image<'a> {
    pub fn of(place: &'a Place, table: &'a Table<'a>, columns: &'a [Column]) -> Result<Self> {
        let (row_type, row_array) =
            if place.is_view { managed::row_type(place.relid)? } else { (types::RECORD, types::RECORDARRAY) };
        let of_table = |(at, &shown): (usize, &i16)| Some((at, columns.iter().find(|column| column.number == shown)?));
        Ok(Image {
            place,
            table,
            columns: place.shown.iter().enumerate().filter_map(of_table).collect(),
            row_type,
            row_array,
        })
    }

    fn each(&self, of: &dyn Fn(usize, &Column) -> String) -> String {
        self.columns.iter().map(|&(at, column)| of(at, column)).collect::<Vec<_>>().join(", ")
    }

    /// As the table has it now.
    fn now(&self) -> String {
        self.each(&|_, column| format!("t.{}", identifier(&column.name)))
    }

    /// Is it as parameter 4 has it?
    fn is_unchanged(&self) -> String {
        let now = self.now();
        if self.columns.len() == self.place.shown.len() {
            return format!("ROW({now}) OPERATOR(pg_catalog.*=) $4");
        }
        let seen = self.each(&|at, _| format!("($4).{}", identifier(&self.place.columns[at].name)));
        format!("pg_catalog.record_image_eq(ROW({now}), ROW({seen}))")
    }

    fn one(&self) -> String {
        self.table.equal(&|i| format!("${}", 5 + i))
    }

    fn one_types(&self) -> Vec<Oid> {
        let keys = self.table.primary().iter().map(|key| key.type_oid);
        common(&[self.row_type].into_iter().chain(keys).collect::<Vec<_>>())
    }

    pub fn delete_one(&self) -> Planned {
        let Table { managed, sql, at, .. } = self.table;
        let (one, unchanged) = (self.one(), self.is_unchanged());
        Planned::new(
            format!("UPDATE {sql} AS t SET {} WHERE {one} AND t.{at} IS NULL AND {unchanged}", managed.set_deleted()),
            self.one_types(),
        )
    }

    pub fn look_one(&self) -> Planned {
        let Table { sql, at, .. } = self.table;
        let (one, unchanged) = (self.one(), self.is_unchanged());
        Planned::new(format!("SELECT {unchanged} FROM {sql} AS t WHERE {one} AND t.{at} IS NULL"), self.one_types())
    }

    /// Rows `d` of keys and images: an array of rows comes apart into their columns.
    fn gathered(&self) -> String {
        let primary = self.table.primary().len();
        let images = (0..self.place.shown.len()).map(|at| format!("c{at}")).collect::<Vec<_>>().join(", ");
        let keys = (0..primary).map(|i| format!("pg_catalog.unnest(${})", 5 + i)).collect::<Vec<_>>().join(", ");
        let names = (0..primary).map(|i| format!("k{i}")).collect::<Vec<_>>().join(", ");
        format!("ROWS FROM ({keys}, pg_catalog.unnest($4)) AS d ({names}, {images})")
    }

    /// Is it as that row has it?
    fn is_as_gathered(&self) -> String {
        let seen = self.each(&|at, _| format!("d.c{at}"));
        format!("pg_catalog.record_image_eq(ROW({}), ROW({seen}))", self.now())
    }

    fn many_types(&self) -> Vec<Oid> {
        let keys = self.table.primary().iter().map(|key| key.array_oid);
        common(&[self.row_array].into_iter().chain(keys).collect::<Vec<_>>())
    }

    pub fn delete_many(&self) -> Planned {
        let Table { managed, sql, at, .. } = self.table;
        Planned::new(
            format!(
                "UPDATE {sql} AS t SET {} FROM {} WHERE {} AND t.{at} IS NULL
                 AND {}",
                managed.set_deleted(),
                self.gathered(),
                self.table.matching(),
                self.is_as_gathered()
            ),
            self.many_types(),
        )
    }

    pub fn look_many(&self) -> Planned {
        let Table { sql, at, id, .. } = self.table;
        Planned::new(
            format!(
                "SELECT pg_catalog.count(*) FILTER (WHERE t.{id} OPERATOR(pg_catalog.=) $1),
                        pg_catalog.count(*) FILTER (WHERE t.{at} IS NULL
                            AND {})
                 FROM {sql} AS t, {} WHERE {}",
                self.is_as_gathered(),
                self.gathered(),
                self.table.matching()
            ),
            self.many_types(),
        )
    }
}
