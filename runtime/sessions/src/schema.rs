//! The tables, and how an older file becomes a newer one.

use rusqlite::Connection;

use crate::{Error, Result};

/// Of the newest tables.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    settings TEXT NOT NULL DEFAULT '{}',
    head INTEGER REFERENCES turns(id)
) STRICT;
CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    parent INTEGER REFERENCES turns(id),
    created_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX turns_by_session ON turns(session, parent);
CREATE TABLE pictures (id TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE turn_pictures (
    turn INTEGER NOT NULL REFERENCES turns(id) ON DELETE CASCADE,
    picture TEXT NOT NULL REFERENCES pictures(id),
    PRIMARY KEY (turn, picture)
) STRICT, WITHOUT ROWID;
CREATE INDEX turns_by_picture ON turn_pictures(picture);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO words(words, rank) VALUES ('secure-delete', 1);
";

/// Makes the connection safe, and the tables those of this version.
///
/// Every commit is written to the disk before it returns (`synchronous = FULL` with a write-ahead log), so a
/// process or a machine that stops at any moment loses nothing that was acknowledged.
pub(crate) fn prepare(connection: &mut Connection) -> Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten, not only passed over.
    connection.pragma_update(None, "secure_delete", true)?;
    // What an imported or damaged file says must not run anything.
    connection.pragma_update(None, "trusted_schema", false)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => transaction.execute_batch(TABLES)?,
        VERSION => {}
        newer => {
            return Err(Error::Damaged(format!(
                "the conversations are of version {newer}, but this program knows {VERSION}; update it"
            )));
        }
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}
