//! The words of a page.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};

/// Elements whose text nobody reads.
const SILENT: [&[u8]; 8] =
    [b"script", b"style", b"noscript", b"template", b"svg", b"iframe", b"object", b"select"];
/// Elements that begin a line.
const BLOCKS: [&[u8]; 34] = [
    b"address",
    b"article",
    b"aside",
    b"blockquote",
    b"br",
    b"dd",
    b"div",
    b"dl",
    b"dt",
    b"figcaption",
    b"figure",
    b"footer",
    b"form",
    b"h1",
    b"h2",
    b"h3",
    b"h4",
    b"h5",
    b"h6",
    b"header",
    b"hr",
    b"li",
    b"main",
    b"nav",
    b"ol",
    b"p",
    b"pre",
    b"section",
    b"table",
    b"tbody",
    b"title",
    b"tr",
    b"ul",
    b"option",
];

/// The words of an HTML page, a line for each block, with the addresses of links behind them in brackets.
pub(super) fn plain(html: &str) -> String {
    let mut emitter = DefaultEmitter::default();
    // What is between the tags of a script is no markup.
    emitter.naively_switch_states(true);
    let mut page = Page::default();
    for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
        match token {
            Token::StartTag(tag) => {
                page.open(&tag.name, tag.self_closing);
                if *tag.name == b"a"[..] {
                    let address = tag.attributes.get(&b"href"[..]);
                    let address = address.map(|value| String::from_utf8_lossy(&value.value).into_owned());
                    page.link = address.filter(|address| !address.starts_with('#'));
                }
            }
            Token::EndTag(tag) => page.close(&tag.name),
            Token::String(text) => page.say(&String::from_utf8_lossy(&text)),
            _ => {}
        }
    }
    page.text.trim().to_owned()
}

#[derive(Default)]
struct Page {
    text: String,
    /// The silent element that we are in, and how deep.
    silent: Option<(Vec<u8>, usize)>,
    link: Option<String>,
    /// Whether a space stands between what was said and what comes.
    has_space: bool,
}

impl Page {
    fn open(&mut self, name: &[u8], closes_itself: bool) {
        match &mut self.silent {
            Some((silent, depth)) if *silent == name && !closes_itself => *depth += 1,
            Some(_) => {}
            None if SILENT.contains(&name) && !closes_itself => self.silent = Some((name.to_vec(), 1)),
            None if BLOCKS.contains(&name) => self.line(),
            None if matches!(name, b"td" | b"th") => self.has_space = true,
            None => {}
        }
    }

    fn close(&mut self, name: &[u8]) {
        match &mut self.silent {
            Some((silent, depth)) if *silent == name => {
                *depth -= 1;
                if *depth == 0 {
                    self.silent = None;
                }
            }
            Some(_) => {}
            None if name == b"a" => {
                if let Some(link) = self.link.take() {
                    self.text += &format!(" [{link}]");
                }
            }
            None if BLOCKS.contains(&name) => self.line(),
            None => {}
        }
    }

    fn say(&mut self, text: &str) {
        if self.silent.is_some() {
            return;
        }
        for (i, word) in text.split(char::is_whitespace).enumerate() {
            self.has_space |= i > 0;
            if word.is_empty() {
                continue;
            }
            if self.has_space && !self.text.is_empty() && !self.text.ends_with('\n') {
                self.text.push(' ');
            }
            self.text += word;
            self.has_space = false;
        }
    }

    fn line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.has_space = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(html: &str, expected: &str) {
        assert_eq!(plain(html), expected, "{html}");
    }

    #[test]
    fn words_are_kept_and_markup_is_not() {
        check("<h1>A &amp; B</h1><p>one <b>two</b>three\n\n four", "A & B\none twothree four");
        check("<ul><li>a<li>b</ul>c", "a\nb\nc");
        check("<table><tr><td>1<td>2<tr><td>3</table>", "1 2\n3");
        check("<p>See <a href='/x'>this page</a>, <a href='#top'>up</a>.", "See this page [/x], up.");
        check("x<script>if (a < b) { '<p>no</p>' }</script>y<style>p > a {}</style>z", "xyz");
        check("a<svg><svg><text>no</text></svg>no</svg>b<br/>c", "ab\nc");
        check("<!-- no --><!doctype html>yes", "yes");
        check("&lt;script&gt;", "<script>");
    }

    #[test]
    fn damage_is_read_as_well_as_can_be() {
        check("<p>a</div></p></p>b", "a\nb");
        check("<script>never closed", "");
        check("a<", "a<");
        check("<a href='", "");
        check("&#0;&#xd800;&#99999999;", "\u{fffd}\u{fffd}\u{fffd}");
        // Deep nesting takes no stack.
        check(&"<div>".repeat(200_000), "");
    }
}
