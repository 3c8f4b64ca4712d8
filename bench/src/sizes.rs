//! How large the binaries are that ship. An image is its binary and a file of public authorities.

use std::path::Path;

use crate::{
    error::BenchError,
    figures::Row,
    measured::{binary, float},
};

/// The zip's name in the folder of the binaries: `make bench` packs it there.
const ZIP: &str = "bootstrap.zip";

/// One row a binary, and one for the function's zip where it was packed.
pub(crate) fn measure(bin_dir: &Path) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for (name, budget) in [("producer", Some(8.0)), ("consumer", Some(10.0)), ("bootstrap", None)] {
        rows.push(Row::new(format!("size of {name}"), &size(&binary(bin_dir, name)?)?, "MB", budget));
    }
    rows.push(match binary(bin_dir, ZIP) {
        Ok(zip) => Row::new("size of the Lambda's zip", &size(&zip)?, "MB", Some(4.0)),
        Err(_) => Row::left_out("size of the Lambda's zip", "left out: zip is not installed"),
    });
    Ok(rows)
}

fn size(path: &Path) -> Result<crate::figures::Sample, BenchError> {
    let metadata = path.metadata().map_err(BenchError::io(format!("look at {}", path.display())))?;
    Ok([float(metadata.len()) / 1e6].into_iter().collect())
}
