//! Prints the certificate authorities that the images trust, as PEM: Mozilla's list, in the version of the lock file.
//!
//! An image from scratch has no such file, and the one of the machine that builds it may hold more than the world's.

use std::io::{self, BufWriter, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for certificate in TLS_SERVER_ROOT_CERTS {
        write_pem(&mut out, certificate)?;
    }
    out.flush()
}

/// Writes one certificate as RFC 7468 has it: base64 in lines of 64 characters.
fn write_pem(out: &mut impl Write, der: &[u8]) -> io::Result<()> {
    let text = STANDARD.encode(der);
    writeln!(out, "-----BEGIN CERTIFICATE-----")?;
    for line in text.as_bytes().chunks(64) {
        out.write_all(line)?;
        writeln!(out)?;
    }
    writeln!(out, "-----END CERTIFICATE-----")
}

#[cfg(test)]
mod tests {
    use super::write_pem;

    #[test]
    fn a_certificate_is_framed_and_cut_into_lines_of_64() {
        let mut out = Vec::new();
        write_pem(&mut out, &[0; 50]).expect("a vector takes all");
        let lines = ["-----BEGIN CERTIFICATE-----", &"A".repeat(64), "AAA=", "-----END CERTIFICATE-----", ""];
        assert_eq!(String::from_utf8(out).expect("text"), lines.join("\n"));
    }
}
