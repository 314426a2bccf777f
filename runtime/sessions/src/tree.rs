//! The turns of a session: a tree, of which one branch is shown.

use agent::{Content, PictureId, Pictures, Turn};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Map, Value};

use crate::store::now_ms;
use crate::{Entry, Error, Result, SessionId, Store, TurnId};

/// Characters of a title that is made of the first words.
const TITLE_LEN: usize = 60;

impl Store {
    /// Writes a turn behind the head, which it becomes. When this returns, it is on the disk.
    ///
    /// # Errors
    /// If there is no such session, a picture of the turn is missing, or it cannot be written; then nothing is.
    pub fn append(&mut self, session: &SessionId, turn: &Turn, pictures: &Pictures) -> Result<TurnId> {
        let transaction = self.begin()?;
        let head = head(&transaction, session)?;
        let id = insert(&transaction, session, head, now_ms(), turn, pictures)?;
        transaction.commit()?;
        Ok(id)
    }

    /// Writes turns behind the head, one after the other, and settings in place of those that the session had: all of
    /// it or nothing. When this returns, it is on the disk.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn record(
        &mut self,
        session: &SessionId,
        turns: &[Turn],
        pictures: &Pictures,
        settings: &Map<String, Value>,
    ) -> Result<()> {
        let transaction = self.begin()?;
        let mut parent = head(&transaction, session)?;
        for turn in turns {
            parent = Some(insert(&transaction, session, parent, now_ms(), turn, pictures)?);
        }
        let text = Value::Object(settings.clone()).to_string();
        transaction.execute("UPDATE sessions SET settings = ?2 WHERE id = ?1", params![session.0, text])?;
        transaction.commit()?;
        Ok(())
    }

    /// The branch that is shown, from its first turn to the head.
    ///
    /// # Errors
    /// If there is no such session, or it is damaged.
    pub fn turns(&self, session: &SessionId) -> Result<Vec<Entry>> {
        match head(&self.connection, session)? {
            Some(head) => self.branch(head),
            None => Ok(Vec::new()),
        }
    }

    /// The turns up to this one, from the first.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn branch(&self, last: TurnId) -> Result<Vec<Entry>> {
        let mut statement = self.connection.prepare_cached(
            "WITH RECURSIVE up(id, parent, created_ms, body, n) AS (
                 SELECT id, parent, created_ms, body, 0 FROM turns WHERE id = ?1
                 UNION ALL
                 SELECT t.id, t.parent, t.created_ms, t.body, up.n + 1 FROM turns t JOIN up ON t.id = up.parent
             ) SELECT id, parent, created_ms, body FROM up ORDER BY n DESC",
        )?;
        let rows = statement.query_map([last.0], |row| {
            Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?, row.get::<_, String>(3)?))
        })?;
        rows.map(|row| {
            let (id, parent, created_ms, body) = row?;
            Ok(Entry { id: TurnId(id), parent: parent.map(TurnId), created_ms, turn: parse(id, &body)? })
        })
        .collect()
    }

    /// The turns that follow this one, or begin the session, in the order in which they came: more than one where
    /// the conversation branches.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn children(&self, session: &SessionId, parent: Option<TurnId>) -> Result<Vec<TurnId>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM turns WHERE session = ?1 AND parent IS ?2 ORDER BY id")?;
        let rows =
            statement.query_map(params![session.0, parent.map(|id| id.0)], |row| row.get(0).map(TurnId))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Goes back to a turn, or with `None` to the beginning: what is appended next follows it, and what came after it
    /// stays as a branch. This is also the way to another branch, and to have an answer made again.
    ///
    /// # Errors
    /// If the session has no such turn.
    pub fn set_head(&mut self, session: &SessionId, turn: Option<TurnId>) -> Result<()> {
        let transaction = self.begin()?;
        head(&transaction, session)?;
        if let Some(turn) = turn {
            check_turn(&transaction, session, turn)?;
        }
        let id = turn.map(|turn| turn.0);
        transaction.execute("UPDATE sessions SET head = ?2 WHERE id = ?1", params![session.0, id])?;
        transaction.commit()?;
        Ok(())
    }

    /// Writes another turn in place of one, as a branch beside it, and makes it the head.
    ///
    /// # Errors
    /// As [`append`](Self::append), or if the session has no such turn.
    pub fn edit(
        &mut self,
        session: &SessionId,
        turn: TurnId,
        by: &Turn,
        pictures: &Pictures,
    ) -> Result<TurnId> {
        let transaction = self.begin()?;
        let parent = check_turn(&transaction, session, turn)?;
        let id = insert(&transaction, session, parent, now_ms(), by, pictures)?;
        transaction.commit()?;
        Ok(id)
    }

    /// The pictures of the branch that is shown.
    ///
    /// # Errors
    /// If one is missing or damaged.
    pub fn pictures(&self, session: &SessionId) -> Result<Pictures> {
        let mut pictures = Pictures::default();
        let mut statement = self.connection.prepare_cached("SELECT bytes FROM pictures WHERE id = ?1")?;
        for entry in self.turns(session)? {
            for id in pictures_of(&entry.turn) {
                if pictures.get(id).is_some() {
                    continue;
                }
                let bytes: Option<Vec<u8>> = statement.query_row([&id.0], |row| row.get(0)).optional()?;
                let bytes = bytes.ok_or_else(|| Error::NoPicture(id.0.clone()))?;
                if pictures.add(bytes) != *id {
                    return Err(Error::Damaged(format!("the picture {} is damaged", id.0)));
                }
            }
        }
        Ok(pictures)
    }
}

pub(crate) fn head(connection: &Connection, session: &SessionId) -> Result<Option<TurnId>> {
    let head: Option<Option<i64>> = connection
        .query_row("SELECT head FROM sessions WHERE id = ?1", [&session.0], |row| row.get(0))
        .optional()?;
    Ok(head.ok_or_else(|| Error::NoSession(session.0.clone()))?.map(TurnId))
}

/// The turn before this one.
fn check_turn(connection: &Connection, session: &SessionId, turn: TurnId) -> Result<Option<TurnId>> {
    let parent: Option<Option<i64>> = connection
        .query_row(
            "SELECT parent FROM turns WHERE id = ?1 AND session = ?2",
            params![turn.0, session.0],
            |row| row.get(0),
        )
        .optional()?;
    let missing = || Error::NoTurn { session: session.0.clone(), turn: turn.0 };
    Ok(parent.ok_or_else(missing)?.map(TurnId))
}

pub(crate) fn pictures_of(turn: &Turn) -> impl Iterator<Item = &PictureId> {
    turn.parts.iter().filter_map(|part| match &part.content {
        Content::Picture(id) => Some(id),
        _ => None,
    })
}

/// Writes a turn and all that belongs to it, and makes it the head.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    session: &SessionId,
    parent: Option<TurnId>,
    created_ms: i64,
    turn: &Turn,
    pictures: &Pictures,
) -> Result<TurnId> {
    let body = serde_json::to_string(turn).map_err(|error| Error::Damaged(error.to_string()))?;
    transaction.execute(
        "INSERT INTO turns (session, parent, created_ms, body) VALUES (?1, ?2, ?3, ?4)",
        params![session.0, parent.map(|parent| parent.0), created_ms, body],
    )?;
    let id = TurnId(transaction.last_insert_rowid());
    for picture in pictures_of(turn) {
        if let Some(bytes) = pictures.get(picture) {
            transaction.execute(
                "INSERT OR IGNORE INTO pictures (id, bytes) VALUES (?1, ?2)",
                params![picture.0, &bytes[..]],
            )?;
        }
        let is_there = transaction
            .query_row("SELECT 1 FROM pictures WHERE id = ?1", [&picture.0], |_| Ok(()))
            .optional()?;
        is_there.ok_or_else(|| Error::NoPicture(picture.0.clone()))?;
        transaction.execute(
            "INSERT OR IGNORE INTO turn_pictures (turn, picture) VALUES (?1, ?2)",
            params![id.0, picture.0],
        )?;
    }
    let text = turn.text();
    if !text.trim().is_empty() {
        transaction.execute("INSERT INTO words (rowid, text) VALUES (?1, ?2)", params![id.0, text])?;
    }
    transaction.execute(
        "UPDATE sessions SET head = ?2, updated_ms = max(updated_ms, ?3),
             title = CASE WHEN title = '' AND ?5 THEN ?4 ELSE title END
         WHERE id = ?1",
        params![session.0, id.0, created_ms, title(&text), turn.role == agent::Role::User],
    )?;
    Ok(id)
}

/// The first words of a message.
fn title(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TITLE_LEN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn parse(id: i64, body: &str) -> Result<Turn> {
    serde_json::from_str(body).map_err(|error| Error::Damaged(format!("turn {id} is damaged: {error}")))
}
