//! JSON as bytes: what must not be parsed into numbers to be compared.

use serde_json::value::RawValue;

/// The members of a JSON array, each without the spaces and line breaks between its tokens; every other byte is
/// as it was.
///
/// # Panics
/// When `array` is none.
pub fn compact_members(array: &[u8]) -> Vec<String> {
    let members: Vec<&RawValue> = serde_json::from_slice(array).expect("a JSON array");
    members.into_iter().map(|member| compact(member.get())).collect()
}

fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    json.chars()
        .filter(|character| {
            let keep = inside || !character.is_ascii_whitespace();
            if *character == '"' && !escaped {
                inside = !inside;
            }
            escaped = inside && *character == '\\' && !escaped;
            keep
        })
        .collect()
}

/// The literal of a number member of `object`, as it stands there. Only for names that occur once.
///
/// # Panics
/// When there is no such member.
pub fn literal<'a>(object: &'a str, member: &str) -> &'a str {
    let name = format!("\"{member}\":");
    let start = object.find(&name).unwrap_or_else(|| panic!("{object} has no {member}")) + name.len();
    let rest = &object[start..];
    &rest[..rest.find([',', '}']).expect("a member ends")]
}

/// The value of a decimal literal as sign, digits and exponent, so that two of one value compare equal however
/// they are written.
///
/// # Panics
/// When it is no decimal literal.
pub fn decimal(literal: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    assert!(
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()),
        "{literal} is no number"
    );
    let exponent: i64 = exponent.parse().unwrap_or_else(|_| panic!("{literal} is no number"));
    let mut exponent = exponent - i64::try_from(fraction.len()).expect("literals are short");
    while digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
        exponent += 1;
    }
    let digits = digits.trim_start_matches('0').to_owned();
    if digits.is_empty() { (false, digits, 0) } else { (negative, digits, exponent) }
}
