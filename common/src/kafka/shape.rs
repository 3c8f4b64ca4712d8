//! Does a message have the length that its own counts claim? Asked before it is decoded.
//!
//! The codecs of kafka-protocol reserve memory for as many array elements as a message says it has, before
//! they look whether there are any: sixteen hostile bytes end the process with "out of memory". So each
//! message is walked first, by a description of its fields, and only one whose arrays are really there is
//! decoded.
//!
//! A description has only what decides about lengths; everything of fixed size is [`Kind::Fixed`]. From the
//! first flexible version on, lengths are varints and every structure ends in tagged fields (KIP-482).
//! Source: the JSON schemas in Kafka's `clients/src/main/resources/common/message`.

use super::varint;

/// Array elements of a whole message, at most: ten times what the largest cluster asks for.
const MAX_ELEMENTS: usize = 200_000;

/// One field of a message, in the versions that have it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    kind: Kind,
    since: i16,
    until: i16,
}

/// What decides about a field's length.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A number, a flag, a UUID: this many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes, perhaps null.
    Blob,
    /// An array of numbers of this many bytes each.
    Numbers(usize),
    /// An array of strings.
    Texts,
    /// An array of structures, perhaps null.
    Structs(&'static [Field]),
}

use Kind::{Blob, Fixed, Numbers, Structs, Text, Texts};

/// A field of every version.
#[must_use]
pub const fn field(kind: Kind) -> Field {
    since(0, kind)
}

/// A field from `version` on.
#[must_use]
pub const fn since(version: i16, kind: Kind) -> Field {
    Field { kind, since: version, until: i16::MAX }
}

/// A field of the versions `since..=until`.
#[must_use]
pub const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { kind, since, until }
}

/// Whether `body`, a message without its header, is as long as its counts say, to the byte.
#[must_use]
pub fn is_sound(fields: &[Field], version: i16, flexible: bool, body: &[u8]) -> bool {
    sound_length(fields, version, flexible, body) == Some(body.len())
}

/// How many of `bytes` the message takes that they begin with; `None` where they do not have what it claims.
#[must_use]
pub fn sound_length(fields: &[Field], version: i16, flexible: bool, bytes: &[u8]) -> Option<usize> {
    let mut walk = Walk { rest: bytes, version, flexible, elements_left: MAX_ELEMENTS };
    walk.structure(fields)?;
    Some(bytes.len() - walk.rest.len())
}

/// A position in a message. Every step is `None` when the bytes do not have what they claim.
struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.field(field.kind)?;
            }
        }
        if self.flexible {
            for _ in 0..varint::take_unsigned(&mut self.rest)? {
                let _tag = varint::take_unsigned(&mut self.rest)?;
                let size = varint::take_unsigned(&mut self.rest)?;
                self.skip(usize::try_from(size).ok()?)?;
            }
        }
        Some(())
    }

    fn field(&mut self, kind: Kind) -> Option<()> {
        match kind {
            Fixed(size) => self.skip(size),
            Text => {
                let length = self.length(2)?;
                self.skip(length)
            }
            Blob => {
                let length = self.length(4)?;
                self.skip(length)
            }
            Numbers(size) => {
                let count = self.count()?;
                self.skip(count.checked_mul(size)?)
            }
            Texts => {
                for _ in 0..self.count()? {
                    self.field(Text)?;
                }
                Some(())
            }
            Structs(fields) => {
                for _ in 0..self.count()? {
                    self.structure(fields)?;
                }
                Some(())
            }
        }
    }

    /// The length of an array, charged to the message's allowance.
    fn count(&mut self) -> Option<usize> {
        let count = self.length(4)?;
        self.elements_left = self.elements_left.checked_sub(count)?;
        Some(count)
    }

    /// A length of `width` bytes where -1 is null, or a varint of the length plus one where 0 is null.
    /// Null counts as nothing.
    fn length(&mut self, width: usize) -> Option<usize> {
        if self.flexible {
            let plus_one = varint::take_unsigned(&mut self.rest)?;
            return usize::try_from(plus_one.saturating_sub(1)).ok();
        }
        let bytes = self.rest.split_off(..width)?;
        let length = match *bytes {
            [a, b] => i32::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => return None,
        };
        if length == -1 { Some(0) } else { usize::try_from(length).ok() }
    }

    fn skip(&mut self, size: usize) -> Option<()> {
        self.rest.split_off(..size).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: &[Field] = &[
        field(Fixed(2)),
        since(1, Text),
        between(0, 1, Blob),
        field(Numbers(4)),
        field(Structs(&[field(Texts)])),
    ];

    #[test]
    fn a_count_without_elements_is_unsound() {
        // error 0, no blob, no numbers, and two billion structures.
        assert!(!is_sound(
            FIELDS,
            0,
            false,
            &[0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]
        ));
        assert!(is_sound(FIELDS, 0, false, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]));
        // The same in a flexible version: null text, no numbers, no structures, no tagged fields.
        assert!(is_sound(FIELDS, 2, true, &[0, 0, 0, 1, 1, 0]));
        assert!(!is_sound(FIELDS, 2, true, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]));
    }

    #[test]
    fn what_is_left_over_is_unsound() {
        assert!(!is_sound(&[field(Fixed(2))], 0, false, &[0, 0, 0]));
        assert_eq!(sound_length(&[field(Fixed(2))], 0, false, &[0, 0, 0]), Some(2));
        assert_eq!(sound_length(&[field(Fixed(2))], 0, false, &[0]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), version in 0i16..3, flexible in any::<bool>()) {
            let sound = is_sound(FIELDS, version, flexible, &body);
            prop_assert!(!sound || body.len() >= 2);
        }
    }
}
