//! Decimal numbers, compared digit by digit: `2.50e-9` is `0.0000000025`, and neither is ever an `f64`.

/// A decimal number as literals write it. Two are equal when they are the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// Without zeros at either end; none at all for zero.
    digits: Vec<u8>,
    /// The power of ten of the last digit.
    exponent: i64,
}

impl Decimal {
    /// Reads `-12.50e-9`; `None` where `literal` is no such number.
    pub(super) fn parse(literal: &str) -> Option<Self> {
        let (negative, unsigned) = match literal.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, literal),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len().try_into().ok()?)?;
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent = exponent.checked_add(1)?;
        }
        digits.drain(..digits.iter().take_while(|digit| **digit == b'0').count());
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        Some(Self { negative, digits, exponent })
    }
}

/// Whether both literals are the same number. What is no number equals nothing.
pub(super) fn equal(a: &str, b: &str) -> bool {
    Decimal::parse(a).is_some_and(|a| Decimal::parse(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_number_has_many_literals() {
        for (a, b) in [
            ("2.4980008270697834e-9", "0.0000000024980008270697834"),
            ("1500", "1.5E+3"),
            ("0.0", "-0e7"),
            ("-1.50", "-1.5"),
        ] {
            assert!(equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn one_digit_makes_another_number() {
        // The first two are one and the same f64.
        for (a, b) in [
            ("0.30000000000000004", "0.30000000000000005"),
            ("1", "-1"),
            ("1", "10"),
            ("1e-9", "1e-10"),
            ("1", "one"),
            ("one", "one"),
            ("", ""),
            ("1.", "1e"),
        ] {
            assert!(!equal(a, b), "{a} {b}");
        }
        assert_eq!("0.30000000000000004".parse::<f64>(), "0.30000000000000005".parse::<f64>());
    }

    proptest! {
        #[test]
        fn any_text_can_be_parsed(text in "\\PC*") {
            prop_assert!(Decimal::parse(&text).is_none_or(|number| Decimal::parse(&text) == Some(number)));
        }

        #[test]
        fn a_moved_point_is_made_good_by_the_exponent(digits in 1u64.., zeros in 0usize..30) {
            let moved = format!("{digits}{}e-{zeros}", "0".repeat(zeros));
            prop_assert!(equal(&digits.to_string(), &moved));
            let ten_times = format!("{digits}e1");
            prop_assert!(!equal(&digits.to_string(), &ten_times));
        }
    }
}
