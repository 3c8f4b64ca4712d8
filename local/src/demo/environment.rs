//! The environment of the demo's children: what `coinduit-local` exports, and next to nothing of the operator's.
//!
//! A demo must never reach a real service with a real credential. So a child does not get the operator's
//! environment without some names, which would be as long a list as the pipeline has settings and the AWS SDK has
//! ways to find credentials (profiles below `HOME` are one, proxies are another trap), but a few names of it.

use std::ffi::OsString;

/// What a child gets of the operator's environment.
const INHERITED: [&str; 4] = ["PATH", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"];

/// Names and values that a child is started with.
pub type Environment = Vec<(OsString, OsString)>;

/// What `coinduit-local` exports, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exports(Vec<(String, String)>);

/// A line, or a name, that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportsError {
    /// Not of the form `export NAME='value'`.
    #[error("line {0} of coinduit-local's exports is no export")]
    Line(usize),
    /// Not exported.
    #[error("coinduit-local did not export {0}")]
    Missing(&'static str),
}

impl Exports {
    /// Reads lines such as `export NAME='value'`, in which `'\''` stands for a quote.
    ///
    /// # Errors
    /// [`ExportsError::Line`], counted from 1.
    pub fn parse(text: &str) -> Result<Self, ExportsError> {
        let line = |(index, line): (usize, &str)| {
            let (name, quoted) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
                .ok_or(ExportsError::Line(index + 1))?;
            let value = quoted
                .strip_prefix('\'')
                .and_then(|value| value.strip_suffix('\''))
                .ok_or(ExportsError::Line(index + 1))?;
            Ok((name.to_owned(), value.replace(r"'\''", "'")))
        };
        text.lines().enumerate().map(line).collect::<Result<_, _>>().map(Self)
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`ExportsError::Missing`].
    pub fn get(&self, name: &'static str) -> Result<&str, ExportsError> {
        let found = self.0.iter().find(|(exported, _)| exported == name);
        found.map(|(_, value)| value.as_str()).ok_or(ExportsError::Missing(name))
    }

    /// The environment of a child that uses the stack, with `settings` of its own.
    #[must_use]
    pub fn environment(
        &self,
        own: impl IntoIterator<Item = (OsString, OsString)>,
        settings: &[(&str, &str)],
    ) -> Environment {
        let exported = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        inherited(own)
            .into_iter()
            .chain(exported.chain(settings.iter().copied()).map(|(name, value)| (name.into(), value.into())))
            .collect()
    }
}

/// What a child gets of `own`, and how it shall log: for people, because what it says goes to a file.
#[must_use]
pub fn inherited(own: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
    own.into_iter()
        .filter(|(name, _)| INHERITED.iter().any(|inherited| name == inherited))
        .chain([("LOG_FORMAT".into(), "text".into())])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn exports_are_read_as_a_shell_reads_them() {
        let exports = Exports::parse("export A='1=2'\nexport B='it'\\''s'\n").unwrap();
        assert_eq!((exports.get("A"), exports.get("B")), (Ok("1=2"), Ok("it's")));
        assert_eq!(exports.get("C"), Err(ExportsError::Missing("C")));
        assert_eq!(Exports::parse("export A='1'\nA='1'\n"), Err(ExportsError::Line(2)));
        assert_eq!(Exports::parse("export A=1\n"), Err(ExportsError::Line(1)));
    }

    #[test]
    fn nothing_of_the_operators_leads_to_a_real_service() {
        let own = pairs(&[
            ("AWS_SECRET_ACCESS_KEY", "real"),
            ("AWS_PROFILE", "real"),
            ("SECRET_KEY", "real"),
            ("API_KEY", "real"),
            ("API_KEY_FILE", "real"),
            ("KAFKA_HOST", "real"),
            ("CURRENCY", "EUR"),
            ("HOME", "/home/with/profiles"),
            ("http_proxy", "http://proxy"),
            ("PATH", "/bin"),
        ]);
        let exports = Exports::parse("export API_KEY='local'\n").unwrap();
        let environment = exports.environment(own, &[("COINS", "50")]);
        let expected = [("PATH", "/bin"), ("LOG_FORMAT", "text"), ("API_KEY", "local"), ("COINS", "50")];
        assert_eq!(environment, pairs(&expected));
    }
}
