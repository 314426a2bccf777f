//! Finding words in all conversations.

use serde::Serialize;

use crate::{Result, SessionId, Store, TurnId};

/// A turn that holds what was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// Where it was said.
    pub session: SessionId,
    /// What that is about.
    pub title: String,
    /// The turn.
    pub turn: TurnId,
    /// The words around it, with what was found in `[` and `]`.
    pub excerpt: String,
}

impl Store {
    /// The turns with all these words, in any order, the best first. A word also finds those that begin with it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn search(&self, words: &str, limit: usize) -> Result<Vec<Hit>> {
        // Each word in quotes, so that nothing in it is an operator of the index.
        let quoted: Vec<String> =
            words.split_whitespace().map(|word| format!("\"{}\"*", word.replace('"', "\"\""))).collect();
        if quoted.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT t.session, s.title, t.id, snippet(words, 0, '[', ']', '…', 16)
             FROM words JOIN turns t ON t.id = words.rowid JOIN sessions s ON s.id = t.session
             WHERE words MATCH ?1 ORDER BY rank, t.id DESC LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(rusqlite::params![quoted.join(" "), limit], |row| {
            Ok(Hit {
                session: SessionId(row.get(0)?),
                title: row.get(1)?,
                turn: TurnId(row.get(2)?),
                excerpt: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
