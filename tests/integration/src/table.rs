//! What is in a table.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
pub use aws_sdk_dynamodb::types::AttributeValue;

/// A row.
pub type Row = HashMap<String, AttributeValue>;

/// All rows of `table`, in no order.
///
/// # Panics
/// When they can't be read.
pub async fn rows(client: &Client, table: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut from = None;
    loop {
        let page = client.scan().table_name(table).set_exclusive_start_key(from).send();
        let page = page.await.expect("scan a table");
        rows.extend(page.items.unwrap_or_default());
        from = page.last_evaluated_key;
        if from.is_none() {
            return rows;
        }
    }
}

/// A text of a row.
///
/// # Panics
/// When the row has none of that name.
pub fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    match row.get(name) {
        Some(AttributeValue::S(text)) => text,
        other => panic!("{name} of {row:?} is {other:?}"),
    }
}

/// The literal of a row's number.
///
/// # Panics
/// When the row has none of that name.
pub fn number<'a>(row: &'a Row, name: &str) -> &'a str {
    match row.get(name) {
        Some(AttributeValue::N(literal)) => literal,
        other => panic!("{name} of {row:?} is {other:?}"),
    }
}
