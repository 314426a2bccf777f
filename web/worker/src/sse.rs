//! Server-sent events out of bytes that arrive in any pieces.

/// The longest event that is waited for.
const MAX_EVENT: usize = 16 << 20;

/// Collects bytes and gives the `data` of each complete event.
#[derive(Debug, Default)]
pub struct EventStream {
    pending: Vec<u8>,
}

impl EventStream {
    /// Takes more bytes, and returns the data of the events that are complete with them.
    ///
    /// # Errors
    /// If an event does not end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        self.pending.extend(bytes.iter().filter(|&&byte| byte != b'\r'));
        let mut events = Vec::new();
        while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.pending.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&event);
            let data: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            if !data.is_empty() {
                events.push(data.join("\n"));
            }
        }
        match self.pending.len() > MAX_EVENT {
            true => Err(format!("the server sent an event of more than {MAX_EVENT} bytes")),
            false => Ok(events),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_do_not_depend_on_how_they_are_cut() {
        let stream = "event: x\r\ndata: {\"é\": 1}\r\n\r\n: comment\n\ndata: a\ndata:b\n\ndata: [DONE]\n\n";
        for cut in 1..stream.len() {
            let mut events = EventStream::default();
            let parts = stream.as_bytes().chunks(cut);
            let found: Vec<String> = parts.flat_map(|part| events.push(part).unwrap()).collect();
            assert_eq!(found, ["{\"é\": 1}", "a\nb", "[DONE]"], "cut every {cut}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = EventStream::default();
        assert!(events.push(&vec![b'x'; MAX_EVENT + 1]).is_err());
    }
}
