//! Prints an error once, with its whole chain of causes.

use std::{error::Error, fmt};

/// Displays `error: cause: cause of the cause`, leaving out a cause that its effect already quotes.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !text.is_empty() && !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("put object a/1")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("connection refused")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("quoted: connection refused")]
    struct Quoting(#[source] Inner);

    #[test]
    fn causes_follow_their_effect_once() {
        assert_eq!(Chain(&Outer(Inner)).to_string(), "put object a/1: connection refused");
        assert_eq!(Chain(&Quoting(Inner)).to_string(), "quoted: connection refused");
    }
}
