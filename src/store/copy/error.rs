//! What keeps an installation from being copied.

use thiserror::Error;

use crate::ports::StoreError;

/// Why it was not copied; the source is as it was.
#[derive(Debug, Error)]
pub enum CopyError {
    /// One of the two databases cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The two URLs name one database.
    #[error("`--from` and `--to` name the same database")]
    SameDatabase,
    /// There is no such file.
    #[error("there is no database `{0}`")]
    NoSource(String),
    /// A node works on it.
    #[error("{database} is being served by {nodes}")]
    Served {
        /// Which one, for people.
        database: String,
        /// Their names, and until when their leases last.
        nodes: String,
    },
    /// It was copied elsewhere before.
    #[error("{from} was copied to {to} already")]
    CopiedBefore {
        /// The source, for people.
        from: String,
        /// Where it went.
        to: String,
        /// The statement that takes the mark away.
        way_back: String,
    },
    /// The source is itself a copy that is not complete.
    #[error("{0} is a copy that is not complete")]
    SourceIncomplete(String),
    /// The target holds something.
    #[error("{database} is in use: its table `{table}` is not empty")]
    InUse {
        /// The target, for people.
        database: String,
        /// Where something was found.
        table: &'static str,
    },
    /// The target holds the begun copy of another installation.
    #[error("{0} holds a copy that was begun from another database")]
    OfAnother(String),
    /// A row cannot be held by the target as it is, or cannot be read.
    #[error("table `{table}`, row {row}, column `{column}`: {reason}")]
    BadRow {
        /// The table.
        table: &'static str,
        /// Its key, as a condition.
        row: String,
        /// The column, or `?` where the database did not say.
        column: String,
        /// In the database's words.
        reason: String,
    },
    /// What was written is not what was read.
    #[error("the copy is not the same: table `{table}`, row {row}: {difference}")]
    Differs {
        /// The table.
        table: &'static str,
        /// Its key, as a condition.
        row: String,
        /// Which column, or on which side the row is missing.
        difference: String,
    },
    /// Somebody wrote to the source meanwhile.
    #[error("{0} was changed while it was copied")]
    SourceChanged(String),
}
