//! Text that shows all that it holds.

/// `text` with those characters spelt out that show nothing, or turn the direction of what follows: what somebody reads
/// before saying yes must be what is done.
///
/// ```
/// assert_eq!(protocol::exact("a\u{202e}txt.exe"), "a\\u{202e}txt.exe");
/// ```
pub fn exact(text: &str) -> String {
    let is_hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    text.chars().flat_map(|c| if is_hidden(c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}
