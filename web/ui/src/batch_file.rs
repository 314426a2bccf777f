//! Captions of many pictures as files: text, JSON lines, and comma-separated values.

use serde::Serialize;

/// A picture and what was said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Of the picture's file.
    pub name: String,
    /// What it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Why there is no caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was lost or changed on the way in.
    pub notes: Vec<String>,
}

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `name: caption`, as `ocelli caption` writes.
    Text,
    /// An object a line, as `ocelli caption --json` writes.
    JsonLines,
    /// RFC 4180, with a line of headings.
    Csv,
}

impl Kind {
    /// What names of such files end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// As servers call it.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv",
        }
    }

    /// The whole file.
    pub fn write(self, rows: &[Row]) -> String {
        match self {
            Self::Text => rows.iter().map(text_line).collect(),
            Self::JsonLines => {
                rows.iter().filter_map(|row| Some(serde_json::to_string(row).ok()? + "\n")).collect()
            }
            Self::Csv => {
                let lines = rows.iter().map(|row| {
                    let caption = row.caption.clone().unwrap_or_default();
                    let error = row.error.clone().unwrap_or_default();
                    [row.name.clone(), caption, error, row.notes.join("; ")]
                        .map(|field| csv_field(&field))
                        .join(",")
                });
                std::iter::once("name,caption,error,notes".to_owned())
                    .chain(lines)
                    .map(|line| line + "\r\n")
                    .collect()
            }
        }
    }
}

fn text_line(row: &Row) -> String {
    match (&row.caption, &row.error) {
        (Some(caption), _) => format!("{}: {}\n", row.name, caption.replace('\n', " ")),
        (None, Some(error)) => format!("{}: error: {error}\n", row.name),
        (None, None) => String::new(),
    }
}

/// Quoted where needed. A field that a spreadsheet would take for a formula is marked as text.
fn csv_field(field: &str) -> String {
    let guarded = match field.starts_with(['=', '+', '-', '@', '\t']) {
        true => format!("'{field}"),
        false => field.to_owned(),
    };
    match guarded.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", guarded.replace('"', "\"\"")),
        false => guarded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, expected: &str) {
        let row = |name: &str, caption: Option<&str>, error: Option<&str>| Row {
            name: name.into(),
            caption: caption.map(str::to_owned),
            error: error.map(str::to_owned),
            notes: vec!["a".into(), "b".into()],
        };
        let rows =
            [row("cup, \"red\".png", Some("A cup.\nRed."), None), row("=x.png", None, Some("cut short"))];
        assert_eq!(kind.write(&rows), expected);
    }

    #[test]
    fn text_is_a_line_a_picture() {
        check(Kind::Text, "cup, \"red\".png: A cup. Red.\n=x.png: error: cut short\n");
    }

    #[test]
    fn json_lines_leave_out_what_is_not_there() {
        check(
            Kind::JsonLines,
            "{\"name\":\"cup, \\\"red\\\".png\",\"caption\":\"A cup.\\nRed.\",\"notes\":[\"a\",\"b\"]}\n\
             {\"name\":\"=x.png\",\"error\":\"cut short\",\"notes\":[\"a\",\"b\"]}\n",
        );
    }

    #[test]
    fn csv_is_quoted_and_no_field_is_a_formula() {
        check(
            Kind::Csv,
            "name,caption,error,notes\r\n\"cup, \"\"red\"\".png\",\"A cup.\nRed.\",,a; b\r\n'=x.png,,cut short,a; b\r\n",
        );
    }
}
