//! Which of the two databases may be served: marks in the name of the installation, which outlast a crash at any moment.
//!
//! The target is marked before its first row is written, and gets its name with the last one; the source is marked right
//! before that. So at most one of the two can be served at any time.

use sqlx::Error;

use super::error::CopyError;
use super::pages::long_transaction;
use super::tables::TABLES;
use super::{Request, Side};
use crate::ports::StoreError;
use crate::store::database::{Database, Dialect, explain, query};

/// The name of an installation that is not all there yet.
const INCOMPLETE: &str = "(copy not complete)";
/// What the name of one begins with that went elsewhere: `(copied to <where>, was <name>)`.
const COPIED_TO: &str = "(copied to ";
const WAS: &str = ", was ";
/// As much of an address as a mark holds: on MySQL a name has 255 characters.
const MOST_SHOWN: usize = 120;

/// Refuses a database that must not be used: a copy that is not complete, or the source of one that is.
///
/// # Errors
/// [`StoreError::Unusable`], with what to do.
pub(in crate::store) async fn refuse_copies(database: &Database) -> Result<(), StoreError> {
    let action = "use this database";
    let name = Installation::read(database).await.map_err(|error| explain(action, &error))?.name;
    let reason = match Mark::of(&name) {
        Mark::None => return Ok(()),
        Mark::Incomplete => "it is a copy that is not complete; run the same `watchbell copy` again".to_owned(),
        Mark::CopiedTo { to, was } => format!(
            "it was copied to {to}, and whoever served both would tell everybody twice; name that one in \
             `database_url`, or, to go back to this one, stop all nodes there and run here: {}",
            way_back(was)
        ),
    };
    Err(StoreError::Unusable { action: action.to_owned(), reason })
}

/// The statement that makes the source usable again.
pub(super) fn way_back(name: &str) -> String {
    format!("UPDATE installation SET name = '{}' WHERE id = 1;", name.replace('\'', "''"))
}

/// What an installation is called.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) uuid: String,
    pub(super) name: String,
}

impl Installation {
    pub(super) async fn read(database: &Database) -> Result<Self, Error> {
        let row = query("SELECT uuid, name FROM installation WHERE id = 1").fetch_one(database).await?;
        Ok(Self { uuid: row.text("uuid")?, name: row.text("name")? })
    }

    /// Its name without a mark.
    pub(super) fn true_name(&self) -> &str {
        match Mark::of(&self.name) {
            Mark::CopiedTo { was, .. } => was,
            Mark::None | Mark::Incomplete => &self.name,
        }
    }
}

enum Mark<'n> {
    None,
    Incomplete,
    CopiedTo { to: &'n str, was: &'n str },
}

impl<'n> Mark<'n> {
    fn of(name: &'n str) -> Self {
        if name == INCOMPLETE {
            return Mark::Incomplete;
        }
        let copied = name.strip_prefix(COPIED_TO).and_then(|rest| rest.strip_suffix(')'));
        match copied.and_then(|rest| rest.split_once(WAS)) {
            Some((to, was)) => Mark::CopiedTo { to, was },
            None => Mark::None,
        }
    }
}

/// How the two stand to each other.
pub(super) enum Standing {
    /// There is something to copy.
    ToBeCopied,
    /// The target is complete already.
    Complete,
}

/// Refuses what must not be copied from or to, and marks the target.
pub(super) async fn begin(request: &Request<'_>, source: &Database, target: &Database) -> Result<Standing, CopyError> {
    let read = |error: Error| CopyError::Store(explain("read which installations these are", &error));
    let theirs = Installation::read(source).await.map_err(read)?;
    let ours = Installation::read(target).await.map_err(read)?;
    let is_begun = matches!(Mark::of(&ours.name), Mark::Incomplete);
    match Mark::of(&theirs.name) {
        Mark::Incomplete => return Err(CopyError::SourceIncomplete(request.from.shown.to_owned())),
        // The last one ended between the two marks, or right after.
        Mark::CopiedTo { .. } if is_begun || ours.uuid == theirs.uuid => {}
        Mark::CopiedTo { to, was } => {
            return Err(CopyError::CopiedBefore {
                from: request.from.shown.to_owned(),
                to: to.to_owned(),
                way_back: way_back(was),
            });
        }
        Mark::None if ours.uuid == theirs.uuid && !is_begun => {
            refuse_used(request, target).await?;
            return Err(CopyError::SameDatabase);
        }
        Mark::None => {}
    }
    refuse_served(&request.from, source).await?;
    if ours.uuid == theirs.uuid {
        forget(target).await.map_err(|error| CopyError::Store(explain("end the copy", &error)))?;
        return Ok(Standing::Complete);
    }
    let mark = |error: Error| CopyError::Store(explain("mark the target", &error));
    if !is_begun {
        refuse_used(request, target).await?;
        make_progress_table(target).await.map_err(mark)?;
        mark_target(target, &theirs.uuid).await.map_err(mark)?;
        return Ok(Standing::ToBeCopied);
    }
    let from = query("SELECT source_uuid FROM copy_progress WHERE id = 1").texts(target).await.map_err(mark)?;
    if request.is_anew {
        empty(target).await.map_err(|error| CopyError::Store(explain("empty the target", &error)))?;
        mark_target(target, &theirs.uuid).await.map_err(mark)?;
    } else if from != [theirs.uuid] {
        return Err(CopyError::OfAnother(request.to.shown.to_owned()));
    }
    Ok(Standing::ToBeCopied)
}

/// Gives the target its name; from here on it, and it alone, may be served.
pub(super) async fn end(request: &Request<'_>, source: &Database, target: &Database) -> Result<(), Error> {
    const NAME: &str = "UPDATE installation SET name = ?1 WHERE id = 1";
    let theirs = Installation::read(source).await?;
    let name = theirs.true_name();
    let to: String = request.to.shown.chars().filter(|character| *character != ',').take(MOST_SHOWN).collect();
    query(NAME).bind(format!("{COPIED_TO}{to}{WAS}{name})")).execute(source).await?;
    let complete = query("UPDATE installation SET uuid = ?1, name = ?2 WHERE id = 1");
    complete.bind(&theirs.uuid).bind(name).execute(target).await?;
    forget(target).await
}

/// Refuses a database on which a node works.
pub(super) async fn refuse_served(side: &Side<'_>, database: &Database) -> Result<(), CopyError> {
    let nodes = query("SELECT name, lease_until FROM nodes WHERE lease_until > {now} ORDER BY id");
    let read = |error: Error| CopyError::Store(explain("read which nodes are alive", &error));
    let mut alive = Vec::new();
    for row in nodes.fetch_all(database).await.map_err(read)? {
        let until = row.time("lease_until").map_err(read)?.map(|at| at.format("%H:%M:%S UTC").to_string());
        let name = row.text("name").map_err(read)?;
        alive.push(format!("`{name}` (its lease lasts until {})", until.unwrap_or_default()));
    }
    if alive.is_empty() {
        return Ok(());
    }
    Err(CopyError::Served { database: side.shown.to_owned(), nodes: alive.join(", ") })
}

async fn refuse_used(request: &Request<'_>, target: &Database) -> Result<(), CopyError> {
    for table in TABLES.iter().filter(|table| !table.is_single) {
        let any = query(format!("SELECT 1 AS found FROM {} LIMIT 1", table.name)).fetch_optional(target).await;
        if any.map_err(|error| CopyError::Store(explain("look whether the target is empty", &error)))?.is_some() {
            return Err(CopyError::InUse { database: request.to.shown.to_owned(), table: table.name });
        }
    }
    Ok(())
}

async fn make_progress_table(target: &Database) -> Result<(), Error> {
    let statement = match target.dialect() {
        Dialect::MySql => {
            "CREATE TABLE IF NOT EXISTS copy_progress (id BIGINT PRIMARY KEY, source_uuid VARCHAR(100) NOT NULL)"
        }
        Dialect::Sqlite | Dialect::Postgres => {
            "CREATE TABLE IF NOT EXISTS copy_progress (id BIGINT PRIMARY KEY, source_uuid TEXT NOT NULL)"
        }
    };
    query(statement).execute(target).await.map(drop)
}

async fn mark_target(target: &Database, source_uuid: &str) -> Result<(), Error> {
    let mut transaction = target.transaction().await?;
    query("DELETE FROM copy_progress").execute(&mut transaction).await?;
    let row = query("INSERT INTO copy_progress (id, source_uuid) VALUES (1, ?1)").bind(source_uuid);
    row.execute(&mut transaction).await?;
    let name = query("UPDATE installation SET name = ?1 WHERE id = 1").bind(INCOMPLETE);
    name.execute(&mut transaction).await?;
    transaction.commit().await
}

async fn forget(target: &Database) -> Result<(), Error> {
    query("DROP TABLE IF EXISTS copy_progress").execute(target).await.map(drop)
}

/// Takes away what was copied so far. What triggers look after goes first, so that they find nothing. The log goes before
/// they write to it, with numbers that may be in it, and once more afterwards.
async fn empty(target: &Database) -> Result<(), Error> {
    let tables = TABLES.iter().filter(|table| !table.is_single && table.name != "monitor_changes");
    let names = tables.rev().map(|table| table.name);
    for table in ["monitor_changes"].into_iter().chain(names).chain(["monitor_changes"]) {
        let mut transaction = long_transaction(target).await?;
        query(format!("DELETE FROM {table}")).execute(&mut transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}
