//! Where a server of tools is.

use std::fmt;

use reqwest::Url;

use crate::{Error, Result};

/// Where a server of tools is. Its text names it for good, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A program that talks over its standard input and output, with its arguments.
    Command {
        /// As it was given.
        text: String,
        /// The program and its arguments; at least one.
        words: Vec<String>,
    },
    /// An address that talks streamable HTTP.
    Http {
        /// As it was given.
        text: String,
        /// What it says.
        url: Url,
    },
}

impl Target {
    /// Reads `COMMAND ARGUMENTS`, with quotes as in a shell, or `http://…`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text).ok().filter(|url| url.username().is_empty() && url.has_host());
            let url = url.ok_or_else(|| Error::Target(text.to_owned()))?;
            return Ok(Self::Http { text: text.to_owned(), url });
        }
        let words = shlex::split(text).filter(|words| words.first().is_some_and(|word| !word.is_empty()));
        let words = words.ok_or_else(|| Error::Target(text.to_owned()))?;
        Ok(Self::Command { text: text.to_owned(), words })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { text, .. } | Self::Http { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_commands_or_addresses() {
        let words = |text: &str| match Target::parse(text).unwrap() {
            Target::Command { words, .. } => words,
            target => panic!("{target:?}"),
        };
        assert_eq!(words("npx -y x"), ["npx", "-y", "x"]);
        assert_eq!(words(" 'my server' --name \"a b\" "), ["my server", "--name", "a b"]);
        let url = "http://127.0.0.1:1/mcp";
        let target = Target::Http { text: url.into(), url: Url::parse(url).unwrap() };
        assert_eq!(Target::parse(url).unwrap(), target);
        for wrong in ["", "  ", "'open", "''", "http://", "https://key@host/"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
