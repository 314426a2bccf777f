//! Conversations that outlive the process: turns, pictures, tool calls and settings in one SQLite file.
//!
//! A [`Store`] is that file. What [`Store::append`] has returned is on the disk, whatever happens next. The turns of a
//! session form a tree, so that going back to one and on from there loses nothing: the session's head names the
//! branch that is shown. Pictures are kept once, by their bytes. Words can be searched.
//!
//! Beside the file lie caches of models ([`Store::cache`]), so that a session goes on without being read again.
//! They can be deleted at any time, and the oldest are when all of them take more than 4 GiB.
//!
//! This crate knows no model and no terminal.
//!
//! ```
//! use agent::{Pictures, Turn};
//! use sessions::Store;
//!
//! # let folder = tempfile::tempdir()?;
//! let mut store = Store::open(&folder.path().join("sessions.db"))?;
//! let session = store.create("first")?;
//! store.append(&session, &Turn::user("Where are my keys?"), &Pictures::default())?;
//! assert_eq!(store.turns(&session)?[0].turn.text(), "Where are my keys?");
//! assert_eq!(store.search("keys", 10)?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod caches;
mod error;
mod portable;
mod private;
mod schema;
mod search;
mod store;
mod tree;

pub use error::{Error, Result};
pub use private::write_privately;
pub use search::Hit;
pub use store::{Entry, Session, SessionId, Store, TurnId};
