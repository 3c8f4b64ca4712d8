//! `--dry-run`: what would be published, one JSON object a line, before the summary.

use std::{
    fmt,
    io::{self, Write},
};

use crate::records::CoinRecord;

/// Prints `records` on stdout. Where nobody listens any more, the run goes on to its summary.
pub fn print(records: &[CoinRecord]) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    drop(records.iter().try_for_each(|record| writeln!(out, "{}", Line(record))).and_then(|()| out.flush()));
}

/// Key, id and value of a record; the value byte for byte.
struct Line<'a>(&'a CoinRecord);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = serde_json::to_string(&self.0.key).map_err(|_| fmt::Error)?;
        let value = std::str::from_utf8(&self.0.value).map_err(|_| fmt::Error)?;
        write!(f, r#"{{"key":{key},"id":"{}","value":{value}}}"#, self.0.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{page, records::Coins};

    #[test]
    fn a_line_has_key_id_and_the_value_byte_for_byte() {
        let mut coins = Coins::default();
        coins.add(0, page::parse(br#"[ {"code": "A\"B", "rate": 1.50e-9} ]"#).unwrap());
        let at = "2026-11-23T10:05:00Z".parse().unwrap();
        let records = coins.into_records("livecoinwatch", "USD", at);
        let id = records[0].id();
        assert_eq!(
            Line(&records[0]).to_string(),
            format!(r#"{{"key":"A\"B","id":"{id}","value":{{"code":"A\"B","rate":1.50e-9}}}}"#)
        );
    }
}
