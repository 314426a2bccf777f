//! Keys for clients on other machines: made once, shown once, kept as a hash.

use std::fmt::Write as _;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Begins every key, so that a leaked one is recognised.
const PREFIX: &str = "sk-ocelli-";
/// Begins every stored hash.
const SCHEME: &str = "sha256:";

/// A new key with 256 random bits. They need no slow hash, because nobody can guess them.
///
/// # Errors
/// If the system gives no random numbers.
pub fn new_key() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{PREFIX}{}", hex(&bytes)))
}

/// What a server keeps of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of `key`.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Whether `key` is the one; takes as long for any that is not.
    pub fn matches(&self, key: &str) -> bool {
        self.0.ct_eq(&Self::of(key).0).into()
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}", hex(&self.0))
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash")
    }
}

/// A text that is no stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not `{SCHEME}` and 64 hexadecimal digits")]
pub struct NoKeyHash;

impl FromStr for KeyHash {
    type Err = NoKeyHash;

    fn from_str(text: &str) -> Result<Self, NoKeyHash> {
        let digits = text.trim().strip_prefix(SCHEME).ok_or(NoKeyHash)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoKeyHash);
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| NoKeyHash)?;
        }
        Ok(Self(bytes))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_key_and_no_other() {
        let key = new_key().unwrap();
        assert_ne!(key, new_key().unwrap());
        let hash: KeyHash = KeyHash::of(&key).to_string().parse().unwrap();
        assert!(hash.matches(&key));
        assert!(!hash.matches("") && !hash.matches(&key[1..]) && !hash.matches(&format!("{key} ")));
        assert!(!hash.to_string().contains(&key) && !format!("{hash:?}").contains(&key));
    }

    #[test]
    fn damaged_hashes_are_refused() {
        for text in ["", "sha256:", "sha256:zz", &format!("sha256:{}", "é".repeat(32)), &"a".repeat(71)] {
            assert_eq!(text.parse::<KeyHash>(), Err(NoKeyHash), "{text}");
        }
    }
}
