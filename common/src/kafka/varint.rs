//! Numbers of variable length: seven bits a byte, least significant first, the top bit says "more".
//!
//! Signed ones are zigzag-coded (0, -1, 1, -2, …). Source: Protocol Buffers, "Base 128 Varints".

/// Bytes that 64 bits take at most.
const MAX_BYTES: u32 = 10;

/// Takes an unsigned number off `rest`; `None` when it does not end, or has more than 64 bits.
#[must_use]
#[inline]
pub fn take_unsigned(rest: &mut &[u8]) -> Option<u64> {
    // Nearly all numbers of a record are below 128.
    if let [byte @ ..0x80, behind @ ..] = *rest {
        *rest = behind;
        return Some(u64::from(*byte));
    }
    take_long(rest)
}

fn take_long(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..MAX_BYTES {
        let byte = *rest.split_off_first()?;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * index);
        if shifted >> (7 * index) != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a signed number off `rest`; `None` as for [`take_unsigned`].
#[must_use]
#[inline]
pub fn take_signed(rest: &mut &[u8]) -> Option<i64> {
    let zigzag = take_unsigned(rest)?;
    let magnitude = i64::try_from(zigzag >> 1).expect("63 bits fit");
    Some(if zigzag & 1 == 0 { magnitude } else { !magnitude })
}

/// Appends a signed number to `out`.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [low, ..] = left.to_le_bytes();
        left >>= 7;
        if left == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn number_without_an_end_is_none() {
        assert_eq!(take_unsigned(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take_unsigned(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn bits_beyond_64_are_none() {
        assert_eq!(
            take_unsigned(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..]),
            Some(u64::MAX)
        );
        assert_eq!(take_unsigned(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]), None);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value in any::<i64>()) {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_signed(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
