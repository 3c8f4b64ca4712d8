//! SCRAM: both sides prove that they know the password, and neither sends it.
//!
//! ```text
//! n,,n=user,r=nonce ->                 <- r=nonce+theirs,s=salt,i=iterations
//! c=biws,r=nonce+theirs,p=proof ->     <- v=signature
//! ```
//!
//! Source: RFC 5802 and RFC 7677; Kafka's own limits of iterations in `ScramMechanism`.

use std::{num::NonZeroU32, ops::RangeInclusive};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};

/// How many rounds a broker may ask for: fewer make a stolen exchange easy to guess, and more are an attack on us. Kafka
/// allows 4,096 to 16,384.
const ITERATIONS: RangeInclusive<u32> = 4096..=131_072;
/// A salt or a nonce is not longer.
const MOST_MESSAGE_BYTES: usize = 8192;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    const fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    const fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    const fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// The broker's part of the exchange is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// It says so itself.
    #[error("the broker answers {0:?}")]
    Refused(String),
    /// A message that is none.
    #[error("the broker's message makes no sense: {0}")]
    Malformed(&'static str),
    /// An answer to somebody else's exchange.
    #[error("the broker's nonce does not continue ours")]
    Nonce,
    /// Too few or too many rounds.
    #[error("the broker asks for {0} iterations, from {low} to {high} are accepted", low = ITERATIONS.start(), high = ITERATIONS.end())]
    Iterations(u32),
    /// Whoever answers does not know the password.
    #[error("the broker can't prove that it knows the password: it may be somebody else")]
    Signature,
}

/// After the first message.
#[derive(Debug)]
pub struct First {
    hash: Hash,
    nonce: String,
    bare: String,
}

/// After the second message.
pub struct Last {
    signing: hmac::Key,
    auth_message: String,
}

impl std::fmt::Debug for Last {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Last").finish_non_exhaustive()
    }
}

impl First {
    /// Begins for `username`; `nonce` is printable ASCII without commas, and never the same twice.
    #[must_use]
    pub fn new(hash: Hash, username: &str, nonce: String) -> Self {
        let escaped = username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={escaped},r={nonce}");
        Self { hash, nonce, bare }
    }

    /// The first message.
    #[must_use]
    pub fn message(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The second message, in answer to the broker's first.
    ///
    /// # Errors
    /// [`ScramError`].
    pub fn answer(self, password: &str, server_first: &[u8]) -> Result<(Last, String), ScramError> {
        let text = text(server_first)?;
        let mut parts = text.split(',');
        let mut next = |name: &'static str, missing| {
            parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed(missing))
        };
        // A mandatory extension (m=) stands first, and nobody here knows one.
        let nonce = next("r=", "no nonce")?;
        let salt = STANDARD.decode(next("s=", "no salt")?);
        let salt = salt.ok().filter(|salt| !salt.is_empty()).ok_or(ScramError::Malformed("no salt"))?;
        let iterations = next("i=", "no iterations")?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed("no iterations"))?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let rounds = NonZeroU32::new(iterations).filter(|_| ITERATIONS.contains(&iterations));
        let rounds = rounds.ok_or(ScramError::Iterations(iterations))?;

        let hash = self.hash;
        let mut salted = vec![0; hash.digest().output_len()];
        pbkdf2::derive(hash.pbkdf2(), rounds, &salt, password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(hash.hmac(), &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest(), client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{text},{without_proof}", self.bare);
        let signature =
            hmac::sign(&hmac::Key::new(hash.hmac(), stored_key.as_ref()), auth_message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let signing = hmac::Key::new(hash.hmac(), server_key.as_ref());
        Ok((Last { signing, auth_message }, format!("{without_proof},p={}", STANDARD.encode(proof))))
    }
}

impl Last {
    /// Whether the broker's last message proves that it knows the password too.
    ///
    /// # Errors
    /// [`ScramError`].
    pub fn verify(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = text(server_final)?;
        let first = text.split(',').next().unwrap_or_default();
        if let Some(refusal) = first.strip_prefix("e=") {
            return Err(ScramError::Refused(refusal.chars().take(100).collect()));
        }
        let signature = first.strip_prefix("v=").ok_or(ScramError::Malformed("no signature"))?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Malformed("no signature"))?;
        hmac::verify(&self.signing, self.auth_message.as_bytes(), &signature)
            .map_err(|_| ScramError::Signature)
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MOST_MESSAGE_BYTES {
        return Err(ScramError::Malformed("it is too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("it is no text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn first() -> First {
        First::new(Hash::Sha256, "user", NONCE.to_owned())
    }

    #[test]
    fn the_example_of_rfc_7677_is_answered_as_there() {
        assert_eq!(first().message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, answer) = first().answer("pencil", SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        last.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert_eq!(
            last.verify(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Err(ScramError::Signature)
        );
        let refused = last.verify(b"e=other-error").unwrap_err();
        assert_eq!(refused, ScramError::Refused("other-error".to_owned()));
    }

    #[test]
    fn sha_512_is_longer() {
        // Computed with Python's hashlib and hmac from the same inputs.
        let first = First::new(Hash::Sha512, "user", NONCE.to_owned());
        let (_, answer) = first.answer("pencil", SERVER_FIRST.as_bytes()).unwrap();
        assert!(answer.ends_with(SHA_512_PROOF), "{answer}");
    }

    const SHA_512_PROOF: &str =
        "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";

    #[test]
    fn names_are_escaped() {
        let first = First::new(Hash::Sha256, "a=b,c", "x".to_owned());
        assert_eq!(first.message(), "n,,n=a=3Db=2Cc,r=x");
    }

    #[test]
    fn what_a_broker_must_not_send_is_refused() {
        let answer = |message: &str| first().answer("pencil", message.as_bytes()).unwrap_err();
        assert_eq!(answer("r=other,s=W22Z,i=4096"), ScramError::Nonce);
        assert_eq!(answer(&format!("r={NONCE},s=W22Z,i=4096")), ScramError::Nonce);
        assert_eq!(answer(&format!("r={NONCE}x,s=W22Z,i=1")), ScramError::Iterations(1));
        assert_eq!(answer(&format!("r={NONCE}x,s=W22Z,i=4000000000")), ScramError::Iterations(4_000_000_000));
        assert_eq!(answer("m=ext,r=x,s=W22Z,i=4096"), ScramError::Malformed("no nonce"));
        assert_eq!(answer(&format!("r={NONCE}x,s=?,i=4096")), ScramError::Malformed("no salt"));
    }

    proptest! {
        #[test]
        fn no_message_of_a_broker_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(r=rOprNGfwEbeRWgbNEkqO)?[a-z=,0-9]{0,40}") {
            for message in [&bytes[..], text.as_bytes()] {
                drop(first().answer("pencil", message));
                let (last, _) = first().answer("pencil", SERVER_FIRST.as_bytes()).unwrap();
                prop_assert!(last.verify(message).is_err());
            }
        }
    }
}
