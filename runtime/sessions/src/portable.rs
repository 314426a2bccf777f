//! A session as one JSON file, to keep or to take elsewhere.

use std::collections::{BTreeMap, HashMap};

use agent::{Pictures, Turn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::new_id;
use crate::tree::{insert, pictures_of};
use crate::{Error, Result, SessionId, Store, TurnId};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Exported {
    ocelli_session: u32,
    title: String,
    created_ms: i64,
    settings: Map<String, Value>,
    head: Option<i64>,
    turns: Vec<ExportedTurn>,
    /// Base64 by their names.
    pictures: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct ExportedTurn {
    id: i64,
    parent: Option<i64>,
    created_ms: i64,
    turn: Turn,
}

impl Store {
    /// A session with all its branches and pictures.
    ///
    /// # Errors
    /// If there is no such session, or it is damaged.
    pub fn export(&self, session: &SessionId) -> Result<Value> {
        let of = self.find(&session.0)?;
        let mut statement = self
            .connection
            .prepare("SELECT id, parent, created_ms, body FROM turns WHERE session = ?1 ORDER BY id")?;
        let rows = statement.query_map([&session.0], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?))
        })?;
        let mut turns = Vec::new();
        let mut pictures = BTreeMap::new();
        for row in rows {
            let (id, parent, created_ms, body) = row?;
            let turn: Turn = serde_json::from_str(&body)
                .map_err(|error| Error::Damaged(format!("turn {id} is damaged: {error}")))?;
            for picture in pictures_of(&turn) {
                let bytes: Vec<u8> = self.connection.query_row(
                    "SELECT bytes FROM pictures WHERE id = ?1",
                    [&picture.0],
                    |row| row.get(0),
                )?;
                pictures.insert(picture.0.clone(), STANDARD.encode(bytes));
            }
            turns.push(ExportedTurn { id, parent, created_ms, turn });
        }
        let exported = Exported {
            ocelli_session: VERSION,
            title: of.title,
            created_ms: of.created_ms,
            settings: of.settings,
            head: of.head.map(|head| head.0),
            turns,
            pictures,
        };
        serde_json::to_value(exported).map_err(|error| Error::Damaged(error.to_string()))
    }

    /// Adds an exported session, under a new name. All of it or nothing.
    ///
    /// # Errors
    /// If it is no exported session, is of a newer version, or names turns or pictures that it does not hold.
    pub fn import(&mut self, exported: Value) -> Result<SessionId> {
        let damaged = |detail: &str| Error::Damaged(format!("this is no exported session: {detail}"));
        let exported: Exported =
            serde_json::from_value(exported).map_err(|error| damaged(&error.to_string()))?;
        if exported.ocelli_session != VERSION {
            return Err(damaged(&format!("it is of version {}, not {VERSION}", exported.ocelli_session)));
        }
        let mut pictures = Pictures::default();
        for (id, bytes) in &exported.pictures {
            let bytes = STANDARD.decode(bytes).map_err(|_| damaged("a picture is not base64"))?;
            if pictures.add(bytes).0 != *id {
                return Err(damaged("a picture has another's name"));
            }
        }
        let session = SessionId(new_id()?);
        let transaction = self.begin()?;
        transaction.execute(
            "INSERT INTO sessions (id, title, created_ms, updated_ms, settings) VALUES (?1, ?2, ?3, ?3, ?4)",
            params![
                session.0,
                exported.title,
                exported.created_ms,
                Value::Object(exported.settings).to_string()
            ],
        )?;
        // A turn stands behind its parent, so there are no circles.
        let mut ids: HashMap<i64, TurnId> = HashMap::new();
        let known = |ids: &HashMap<i64, TurnId>, id: Option<i64>| match id {
            None => Ok(None),
            Some(id) => {
                ids.get(&id).copied().map(Some).ok_or_else(|| damaged(&format!("turn {id} is missing")))
            }
        };
        for turn in &exported.turns {
            let parent = known(&ids, turn.parent)?;
            // One that another conversation shows is not meant, even if it has that name.
            if let Some(id) = pictures_of(&turn.turn).find(|id| pictures.get(id).is_none()) {
                return Err(damaged(&format!("the picture {} is missing", id.0)));
            }
            let id = insert(&transaction, &session, parent, turn.created_ms, &turn.turn, &pictures)?;
            if ids.insert(turn.id, id).is_some() {
                return Err(damaged(&format!("turn {} is there twice", turn.id)));
            }
        }
        let head = known(&ids, exported.head)?.map(|head| head.0);
        transaction.execute("UPDATE sessions SET head = ?2 WHERE id = ?1", params![session.0, head])?;
        transaction.commit()?;
        Ok(session)
    }
}
