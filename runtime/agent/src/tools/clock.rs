//! `clock`.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::agent::{Effect, Origin, ToolOutput};
use serde_json::{Map, Value, json};

use crate::LocalFuture;
use crate::tool::{Context, Tool, ToolSpec};

const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Tells date and time.
pub struct Clock {
    spec: ToolSpec,
    now: Box<dyn Fn() -> SystemTime>,
}

impl Clock {
    /// The clock of this machine.
    #[expect(clippy::new_without_default, reason = "a tool is put in by name, never by default")]
    pub fn new() -> Self {
        Self::at(SystemTime::now)
    }

    /// A clock that asks `now`.
    pub fn at(now: impl Fn() -> SystemTime + 'static) -> Self {
        let spec = ToolSpec {
            name: "clock".into(),
            description: "Tells the date, the weekday and the time now, in UTC.".into(),
            parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        };
        Self { spec, now: Box::new(now) }
    }
}

impl Tool for Clock {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn effect(&self, _: &Map<String, Value>) -> Effect {
        Effect::None
    }

    fn call<'a>(&'a self, _: &'a Map<String, Value>, _: Context<'a>) -> LocalFuture<'a, ToolOutput> {
        Box::pin(async move {
            let now = (self.now)();
            let days = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
            // 1 January 1970 was a Thursday.
            let weekday = WEEKDAYS[(days % 7) as usize];
            let time = humantime::format_rfc3339_seconds(now);
            ToolOutput::text(Origin::Computed, format!("{weekday}, {time}"))
        })
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}
