//! Lines that hold a text, in the files below a folder.

use cap_std::fs::Dir;

use super::{MAX_LINES, read};

/// Files that one search opens, and how deep it goes.
const MAX_SEARCHED: usize = 2000;
const MAX_DEPTH: usize = 16;
/// Characters of a line that are shown.
const MAX_LINE: usize = 200;

/// A search under way.
pub(super) struct Search {
    needle: String,
    lines: Vec<String>,
    n_files: usize,
    is_cut: bool,
}

impl Search {
    pub(super) fn new(text: &str) -> Self {
        Self { needle: text.to_lowercase(), lines: Vec::new(), n_files: 0, is_cut: false }
    }

    /// What was found.
    pub(super) fn found(mut self) -> String {
        if self.is_cut {
            self.lines.push("… the search was cut off here; look in a smaller folder".into());
        }
        if self.lines.is_empty() { "nothing found".into() } else { self.lines.join("\n") }
    }

    /// Files of a folder in the order of their names; links are not followed, hidden ones passed over.
    pub(super) fn folder(&mut self, dir: &Dir, shown: &str, depth: usize) {
        let Ok(entries) = dir.entries() else { return };
        let mut entries: Vec<_> =
            entries.flatten().filter_map(|e| Some((e.file_name().into_string().ok()?, e))).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, entry) in entries {
            if self.lines.len() >= MAX_LINES || self.n_files >= MAX_SEARCHED {
                self.is_cut = true;
                return;
            }
            let Ok(kind) = entry.file_type() else { continue };
            let path = format!("{shown}/{name}");
            if name.starts_with('.') {
                continue;
            } else if kind.is_file() {
                self.file(dir, &name, &path);
            } else if kind.is_dir()
                && depth < MAX_DEPTH
                && let Ok(inner) = entry.open_dir()
            {
                self.folder(&inner, &path, depth + 1);
            }
        }
    }

    pub(super) fn file(&mut self, dir: &Dir, name: &str, shown: &str) {
        self.n_files += 1;
        let Some(text) = read(dir, name).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else { return };
        for (i, line) in text.lines().enumerate() {
            if self.lines.len() >= MAX_LINES {
                self.is_cut = true;
                return;
            }
            if line.to_lowercase().contains(&self.needle) {
                let line: String = line.trim().chars().take(MAX_LINE).collect();
                self.lines.push(format!("{shown}:{}: {line}", i + 1));
            }
        }
    }
}
