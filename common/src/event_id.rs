//! Ids that come out the same however often a record is sent or read.
//!
//! Both are UUIDs of version 5 (RFC 9562, section 5.5) in a namespace of our own, so that a resent record,
//! a record read again and a row written again carry one id.

use uuid::Uuid;

/// The namespace of all Coinduit ids.
pub const NAMESPACE: Uuid = Uuid::from_u128(0xb5b1c2a4_0b1e_4b57_9a0e_6f4f2f6d3c11);

/// The id of one coin in one fetch: `{source}/{currency}/{code}/{fetched_at}`.
///
/// `fetched_at` is the run's instant as [`crate::clock::rfc3339`] writes it.
#[must_use]
pub fn of_price(source: &str, currency: &str, code: &str, fetched_at: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{source}/{currency}/{code}/{fetched_at}").as_bytes())
}

/// The id of a record that brought none: `{topic}/{partition}/{offset}`.
#[must_use]
pub fn of_position(topic: &str, partition: i32, offset: i64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{topic}/{partition}/{offset}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_contracts_test_vectors() {
        assert_eq!(
            of_price("livecoinwatch", "USD", "BTC", "2026-11-23T10:05:00.000Z").to_string(),
            "99e88ed2-bdb0-5697-9bdc-950a549b86ed"
        );
        assert_eq!(
            of_position("crypto_prices", 3, 12_345).to_string(),
            "75981f5a-0718-5473-bc01-f8baf2ebae9a"
        );
    }
}
