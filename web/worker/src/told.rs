//! An answer that has to be begun again, without being told twice.

use std::cell::Cell;

use protocol::Event;

/// How much of an answer its listener has heard.
#[derive(Debug, Default)]
pub struct Told {
    text: Heard,
    reasoning: Heard,
    is_again: Cell<bool>,
}

#[derive(Debug, Default)]
struct Heard {
    bytes: Cell<usize>,
    /// Of this attempt, so far.
    position: Cell<usize>,
}

impl Told {
    /// The answer is begun again; the same question gives the same answer.
    pub fn begin_again(&self) {
        self.is_again.set(true);
        self.text.position.set(0);
        self.reasoning.position.set(0);
    }

    /// What of an event was not heard before.
    pub fn new_part(&self, event: Event) -> Option<Event> {
        match event {
            Event::Text { id, text } => self.text.new_part(&text).map(|text| Event::Text { id, text }),
            Event::Reasoning { id, text } => {
                self.reasoning.new_part(&text).map(|text| Event::Reasoning { id, text })
            }
            Event::Seen { .. } if self.is_again.get() => None,
            event => Some(event),
        }
    }
}

impl Heard {
    fn new_part(&self, text: &str) -> Option<String> {
        let start = self.position.replace(self.position.get() + text.len());
        let known = self.bytes.get().saturating_sub(start).min(text.len());
        self.bytes.set(self.bytes.get().max(self.position.get()));
        // The pieces of another attempt may end elsewhere, but never within a character.
        text.get(known..).filter(|rest| !rest.is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(attempts: &[&[&str]], expected: &[&str]) {
        let (told, mut heard) = (Told::default(), Vec::new());
        for (i, attempt) in attempts.iter().enumerate() {
            if i > 0 {
                told.begin_again();
            }
            for text in *attempt {
                match told.new_part(Event::Text { id: 1, text: (*text).to_owned() }) {
                    Some(Event::Text { text, .. }) => heard.push(text),
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
        }
        assert_eq!(heard, expected);
    }

    #[test]
    fn one_attempt_is_told_as_it_comes() {
        check(&[&["A", " cup", "."]], &["A", " cup", "."]);
    }

    #[test]
    fn a_second_attempt_tells_only_what_is_new() {
        check(&[&["A", " cup"], &["A c", "up on", " grass."]], &["A", " cup", " on", " grass."]);
    }

    #[test]
    fn a_third_attempt_knows_of_both() {
        check(&[&["一个"], &["一", "个杯"], &["一个杯子"]], &["一个", "杯", "子"]);
    }

    #[test]
    fn an_attempt_that_fails_before_the_first_ended_tells_nothing_again() {
        check(&[&["A", " cup", "."], &["A"], &["A", " cup", ".", "!"]], &["A", " cup", ".", "!"]);
    }

    #[test]
    fn a_picture_is_shown_once() {
        let view = protocol::PictureView { sight: protocol::Sight::default(), rgba: Vec::new() };
        let told = Told::default();
        assert!(told.new_part(Event::Seen { id: 1, view: view.clone() }).is_some());
        told.begin_again();
        assert!(told.new_part(Event::Seen { id: 1, view }).is_none());
    }
}
