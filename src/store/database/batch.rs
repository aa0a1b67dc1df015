//! Many rows in one statement.
//!
//! SQLite and MySQL get them as one JSON text, which they turn into a table by themselves; PostgreSQL gets an array for
//! each column. Either way it is one round trip, however many rows there are.

use serde_json::Value;

use super::Dialect;
use super::bind::{Bind, mysql_time, sqlite_time};

/// What a column of a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Type {
    /// A whole number.
    Int,
    /// Text, JSON among it.
    Text,
    /// An instant.
    Time,
}

/// Rows of named columns: the token `{batch}` of a statement is a table of them.
#[derive(Debug, Clone)]
pub(in crate::store) struct Batch {
    columns: &'static [(&'static str, Type)],
    rows: Vec<Vec<Bind>>,
}

impl Batch {
    /// No rows yet.
    pub(in crate::store) fn new(columns: &'static [(&'static str, Type)]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row: a value for each column, in their order.
    pub(in crate::store) fn push(&mut self, row: Vec<Bind>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// In pieces of about so many bytes as they are sent, a row at least.
    pub(super) fn pieces(self, most_bytes: usize) -> Vec<Self> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        let mut piece = Self::new(self.columns);
        for row in self.rows {
            let length: usize = row.iter().map(Bind::sent_bytes).sum();
            if bytes + length > most_bytes && !piece.is_empty() {
                pieces.push(std::mem::replace(&mut piece, Self::new(self.columns)));
                bytes = 0;
            }
            bytes += length;
            piece.rows.push(row);
        }
        pieces.push(piece);
        pieces
    }

    /// How many rows there are.
    pub(in crate::store) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, as a statement of this dialect names it; `placeholders` are numbered from `first`.
    pub(super) fn table(&self, dialect: Dialect, first: usize) -> String {
        let join = |part: &dyn Fn(usize, &str, Type) -> String| -> String {
            let parts = self.columns.iter().enumerate().map(|(index, (name, kind))| part(index, name, *kind));
            parts.collect::<Vec<_>>().join(", ")
        };
        match dialect {
            Dialect::Sqlite => {
                let columns = join(&|index, name, _| format!("json_extract(value, '$[{index}]') AS {name}"));
                format!("(SELECT {columns} FROM json_each(?{first}))")
            }
            Dialect::Postgres => {
                let arrays = join(&|index, _, kind| format!("${}::{}[]", first + index, postgres_type(kind)));
                let names = join(&|_, name, _| name.to_owned());
                format!("(SELECT * FROM UNNEST({arrays}) AS given ({names}))")
            }
            Dialect::MySql => {
                let columns =
                    join(&|index, name, kind| format!("{name} {} PATH '$[{index}]' ERROR ON ERROR", mysql_type(kind)));
                format!("JSON_TABLE(?, '$[*]' COLUMNS ({columns}))")
            }
        }
    }

    /// What is bound for [`Batch::table`] where it is one text.
    pub(super) fn json(&self, dialect: Dialect) -> String {
        let time = if dialect == Dialect::MySql { mysql_time } else { sqlite_time };
        let rows = self.rows.iter().map(|row| row.iter().map(|value| value.json(time)).collect::<Value>());
        rows.collect::<Value>().to_string()
    }

    /// The columns one by one, with their values from all rows.
    pub(super) fn columns(&self) -> impl Iterator<Item = (Type, impl Iterator<Item = &Bind>)> {
        let columns = self.columns.iter().enumerate();
        columns.map(|(index, (_, kind))| (*kind, self.rows.iter().map(move |row| &row[index])))
    }
}

fn postgres_type(kind: Type) -> &'static str {
    match kind {
        Type::Int => "bigint",
        Type::Text => "text",
        Type::Time => "timestamptz",
    }
}

fn mysql_type(kind: Type) -> &'static str {
    match kind {
        Type::Int => "BIGINT",
        // Without the words it is of the database's character set.
        Type::Text => "LONGTEXT CHARACTER SET utf8mb4",
        Type::Time => "DATETIME(3)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_of_a_size_and_lose_no_row() {
        let mut batch = Batch::new(&[("text", Type::Text)]);
        for length in [10, 10, 500, 10, 90] {
            batch.push(vec!["x".repeat(length).into()]);
        }
        batch.push(vec!["\u{1}".repeat(20).into()]);
        let lengths: Vec<usize> = batch.clone().pieces(120).iter().map(Batch::len).collect();
        assert_eq!(lengths, [2, 1, 2, 1], "what is escaped counts as it is sent");
        assert_eq!(batch.pieces(1_000_000).len(), 1);
        assert_eq!(Batch::new(&[]).pieces(1).len(), 1, "a statement without rows is one, too");
    }
}
