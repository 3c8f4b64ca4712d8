//! Numbers as they are written in metadata: decimal digits, no sign, no zero in front.

/// An offset, 0 or more; `None` for any other text.
pub(super) fn offset(text: &str) -> Option<i64> {
    plain(text)?.parse().ok()
}

/// A count; `None` for any other text.
pub(super) fn count(text: &str) -> Option<u64> {
    plain(text)?.parse().ok()
}

fn plain(text: &str) -> Option<&str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_way_to_be_written() {
        assert_eq!((offset("0"), offset("9223372036854775807")), (Some(0), Some(i64::MAX)));
        assert_eq!(count("18446744073709551615"), Some(u64::MAX));
        for other in ["", "-1", "+1", "01", "1 ", "9223372036854775808", "1e3", "\u{661}"] {
            assert_eq!(offset(other), None, "{other}");
        }
        assert_eq!(count("18446744073709551616"), None);
    }
}
