//! The file of all conversations.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use agent::Turn;
use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tree::head;
use crate::{Error, Result, private, schema};

/// Names a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

/// Names a turn in all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TurnId(pub i64);

/// What is told of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// What it is about.
    pub title: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When the last turn came.
    pub updated_ms: i64,
    /// Whatever its owner keeps with it: the model, the system text.
    pub settings: Map<String, Value>,
    /// The last turn of the branch that is shown.
    pub head: Option<TurnId>,
    /// Turns of all branches.
    pub n_turns: usize,
}

/// A stored turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: TurnId,
    /// The one before it.
    pub parent: Option<TurnId>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// What was said.
    pub turn: Turn,
}

/// All conversations of a user.
#[derive(Debug)]
pub struct Store {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
}

impl Store {
    /// Opens the file, or makes it, for its owner alone.
    ///
    /// # Errors
    /// If it is no such file, is damaged, or of a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |detail: String| Error::Open { path: path.to_owned(), detail };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        private::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| failed(error.to_string()))?;
        let mut connection = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        schema::prepare(&mut connection).map_err(|error| failed(error.to_string()))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Begins a session. Without a title, the first words become it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(&mut self, title: &str) -> Result<SessionId> {
        let id = SessionId(new_id()?);
        let now = now_ms();
        self.connection.execute(
            "INSERT INTO sessions (id, title, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?3)",
            params![id.0, title, now],
        )?;
        Ok(id)
    }

    /// All sessions, the latest first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn list(&self) -> Result<Vec<Session>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, title, created_ms, updated_ms, settings, head,
                    (SELECT count(*) FROM turns WHERE session = sessions.id)
             FROM sessions ORDER BY updated_ms DESC, rowid DESC",
        )?;
        let rows = statement.query_map([], |row| {
            let settings: String = row.get(4)?;
            Ok(Session {
                id: SessionId(row.get(0)?),
                title: row.get(1)?,
                created_ms: row.get(2)?,
                updated_ms: row.get(3)?,
                settings: serde_json::from_str(&settings).unwrap_or_default(),
                head: row.get::<_, Option<i64>>(5)?.map(TurnId),
                n_turns: row.get::<_, i64>(6)? as usize,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The session whose name is or begins with `name`; `last` is the latest.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, name: &str) -> Result<Session> {
        let mut sessions = self.list()?;
        if name == "last" && !sessions.is_empty() {
            return Ok(sessions.swap_remove(0));
        }
        sessions.retain(|session| !name.is_empty() && session.id.0.starts_with(name));
        match (sessions.pop(), sessions.is_empty()) {
            (Some(session), true) => Ok(session),
            (Some(_), false) => Err(Error::Ambiguous(name.to_owned())),
            (None, _) => Err(Error::NoSession(name.to_owned())),
        }
    }

    /// Names a session anew.
    ///
    /// # Errors
    /// If there is no such session.
    pub fn rename(&mut self, session: &SessionId, title: &str) -> Result<()> {
        let n = self
            .connection
            .execute("UPDATE sessions SET title = ?2 WHERE id = ?1", params![session.0, title])?;
        found(n, session)
    }

    /// Keeps settings with a session, in place of those it had.
    ///
    /// # Errors
    /// If there is no such session.
    pub fn set_settings(&mut self, session: &SessionId, settings: &Map<String, Value>) -> Result<()> {
        let text = Value::Object(settings.clone()).to_string();
        let n = self
            .connection
            .execute("UPDATE sessions SET settings = ?2 WHERE id = ?1", params![session.0, text])?;
        found(n, session)
    }

    /// Deletes a session with its turns, its caches, and the pictures that no other session shows. Their bytes are
    /// overwritten, unless another process reads the file meanwhile.
    ///
    /// # Errors
    /// If there is no such session, or it cannot be deleted.
    pub fn delete(&mut self, session: &SessionId) -> Result<()> {
        let transaction = self.begin()?;
        head(&transaction, session)?;
        transaction.execute(
            "DELETE FROM words WHERE rowid IN (SELECT id FROM turns WHERE session = ?1)",
            [&session.0],
        )?;
        // Turns name each other and the session its head, so the names go first.
        transaction.execute("UPDATE sessions SET head = NULL WHERE id = ?1", [&session.0])?;
        transaction.execute("UPDATE turns SET parent = NULL WHERE session = ?1", [&session.0])?;
        transaction.execute("DELETE FROM sessions WHERE id = ?1", [&session.0])?;
        transaction
            .execute("DELETE FROM pictures WHERE id NOT IN (SELECT picture FROM turn_pictures)", [])?;
        transaction.commit()?;
        // The log still holds what was there, until it is written into the file and emptied.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.delete_caches(session)
    }

    pub(crate) fn begin(&mut self) -> Result<Transaction<'_>> {
        Ok(self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?)
    }
}

fn found(n: usize, session: &SessionId) -> Result<()> {
    if n == 1 { Ok(()) } else { Err(Error::NoSession(session.0.clone())) }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// A name that no other session has.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::Damaged(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
