//! Settings: from what the operator wrote to what the program may rely on.
//!
//! Every value is checked before anything is opened, and every fault is reported at once ([`Faults`]). An
//! empty variable counts as unset, because compose files and DAGs pass `NAME=` for what they don't set.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

/// The process's environment, read once, so that tests can bring their own.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The environment of this process. Names and values that are not UTF-8 are left out.
    #[must_use]
    pub fn from_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// An environment made by hand.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    /// The variable's value; `None` where it is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The secret `name`, or the content of the file that `{name}_FILE` names (without its last line break).
    ///
    /// Both at once, and a file that can't be read, are faults.
    #[must_use]
    pub fn secret(&self, name: &str, faults: &mut Faults) -> Option<Secret> {
        let file = format!("{name}_FILE");
        secret(name, self.get(name), self.get(&file), faults)
    }
}

impl fmt::Debug for Env {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The secret in `value`, else in the file named `file`. See [`Env::secret`].
#[must_use]
pub fn secret(name: &str, value: Option<&str>, file: Option<&str>, faults: &mut Faults) -> Option<Secret> {
    match (given(value), given(file)) {
        (Some(_), Some(_)) => {
            faults.add(name, format!("is set, and {name}_FILE too"), "set one of the two");
            None
        }
        (Some(value), None) => Some(Secret::new(value)),
        (None, Some(path)) => match std::fs::read_to_string(Path::new(path)) {
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    faults.add(
                        &format!("{name}_FILE"),
                        format!("the file {path} is empty"),
                        "write the secret into it",
                    );
                    return None;
                }
                Some(Secret::new(text))
            }
            Err(error) => {
                faults.add(
                    &format!("{name}_FILE"),
                    format!("can't read {path} ({error})"),
                    "check the path and its permissions",
                );
                None
            }
        },
        (None, None) => None,
    }
}

/// `None` for a value that is unset or empty.
#[must_use]
pub fn given(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty())
}

/// One setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    setting: String,
    problem: String,
    way_out: String,
}

/// All settings that can't be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Records that `setting` has a `problem`, and the `way_out`.
    pub fn add(&mut self, setting: &str, problem: impl Into<String>, way_out: impl Into<String>) {
        self.0.push(Fault { setting: setting.to_owned(), problem: problem.into(), way_out: way_out.into() });
    }

    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// `value` if nothing was wrong.
    ///
    /// # Errors
    /// The faults, if there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Reads `value` with `parse`, or takes `default` where it is unset. A value that `parse` refuses is
    /// recorded under `setting`, and `default` is returned so that the next settings can be checked too.
    pub fn read<T>(
        &mut self,
        setting: &str,
        value: Option<&str>,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        match given(value).map(parse) {
            None => default,
            Some(Ok(parsed)) => parsed,
            Some(Err(way_out)) => {
                self.add(setting, format!("{:?} can't be used", value.unwrap_or_default()), way_out);
                default
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "setting" } else { "settings" };
        write!(f, "{} {noun} can't be used", self.0.len())?;
        for Fault { setting, problem, way_out } in &self.0 {
            write!(f, "\n  {setting}: {problem}; {way_out}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A duration with its unit: `90s`, `5m`, `500ms`. More than nothing.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a duration with its unit, such as 90s, 5m or 500ms".to_owned())
}

/// A number of bytes with its unit: `8MiB`, `500kB`, `1048576B`. More than nothing.
///
/// # Errors
/// What to write instead.
pub fn bytes(text: &str) -> Result<usize, String> {
    let refused = || "write a size with its unit, such as 8MiB, 500kB or 1048576B".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(refused()),
    };
    let number = number.parse::<usize>().map_err(|_| refused())?;
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(refused)
}

/// A whole number within `range` (inclusive).
///
/// # Errors
/// What to write instead.
pub fn number(text: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    text.parse::<usize>()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("write a whole number from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["90", "0s", "", "s", "-5s", "5 parsecs"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(bytes("8MiB"), Ok(8 << 20));
        assert_eq!(bytes("500kB"), Ok(500_000));
        assert_eq!(bytes("1 GiB"), Ok(1 << 30));
        for wrong in ["8", "0MiB", "MiB", "-1MiB", "1.5MiB", "99999999999999999999GiB", "8 apples"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert!(!format!("{:?}", Env::from_pairs([("API_KEY", "hunter2")])).contains("hunter2"));
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_break() {
        let file = std::env::temp_dir().join(format!("coinduit-secret-{}", std::process::id()));
        std::fs::write(&file, "hunter2\n").unwrap();
        let env = Env::from_pairs([("API_KEY_FILE", file.to_str().unwrap())]);
        let mut faults = Faults::default();
        assert_eq!(env.secret("API_KEY", &mut faults).unwrap().reveal(), "hunter2");
        std::fs::remove_file(file).unwrap();
        assert!(faults.is_empty());
        assert!(env.secret("API_KEY", &mut faults).is_none());
        assert!(faults.to_string().contains("API_KEY_FILE"), "{faults}");
    }

    #[test]
    fn an_empty_variable_is_unset_and_both_forms_of_a_secret_are_a_fault() {
        let env = Env::from_pairs([("EMPTY", ""), ("K", "a"), ("K_FILE", "/b")]);
        let mut faults = Faults::default();
        assert_eq!(env.get("EMPTY"), None);
        assert!(env.secret("K", &mut faults).is_none());
        assert!(faults.to_string().contains("set one of the two"));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let mut faults = Faults::default();
        let age = faults.read("MAX_OBJECT_AGE", Some("60"), Duration::from_secs(60), duration);
        let size = faults.read("MAX_OBJECT_BYTES", Some("8"), 1, bytes);
        assert_eq!((age, size), (Duration::from_secs(60), 1));
        let text = faults.into_result(()).unwrap_err().to_string();
        assert!(text.starts_with("2 settings can't be used"), "{text}");
        assert!(text.contains("MAX_OBJECT_AGE: \"60\"") && text.contains("MAX_OBJECT_BYTES"), "{text}");
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC*") {
            drop((duration(&text), bytes(&text), number(&text, 1..=9)));
        }

        #[test]
        fn sizes_are_read_back(size in 1usize..1_000_000) {
            prop_assert_eq!(bytes(&format!("{size}KiB")), Ok(size << 10));
        }
    }
}
