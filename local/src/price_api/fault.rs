//! What the price API does wrong on demand: which bytes it answers instead, and how it treats the connection then.
//!
//! A fault is `NAME`, `NAME:NUMBER` or `NAME:TEXT`, and `xTIMES` behind it for how many answers: `status:503x2` is two
//! answers with 503. Without it the fault stays. Several faults are played one after the other, and when all are
//! over the API answers as it should. Prices are what they are about; `credits...` is about `/credits`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;

/// A byte less than this never comes at once from an API that drips.
const DRIP: u64 = 1;
/// What a gzip bomb becomes: more than any page.
const BOMB_BYTES: usize = 64 << 20;
const JSON: &str = "Content-Type: application/json\r\n";
const HTML: &str =
    "<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head><body>the proxy says no</body></html>\n";

/// The faults, what may stand behind their colon, and what they do.
const FAULTS: [(&str, &str, &str); 32] = [
    ("status", "CODE", "an HTTP status, with the API's error body (401, 403, 429, 500, 503, ...)"),
    ("retry-after", "SECONDS", "429 with Retry-After in seconds"),
    ("retry-after-date", "SECONDS", "429 with Retry-After as a date, so far from now"),
    ("error", "CODE", "200 with the API's error body"),
    ("html", "", "200 with a web page of a proxy"),
    ("html-502", "", "502 with a web page of a proxy"),
    ("empty", "", "200 with an empty list"),
    ("object", "", "200 with {} instead of a list"),
    ("no-body", "", "200 with nothing"),
    ("cut", "", "a page that ends in the middle, with the right Content-Length"),
    ("truncated", "", "a Content-Length larger than what comes, then the end"),
    ("chunked-cut", "", "a chunked page without its last chunks"),
    ("drip", "BYTES", "a page of which so many bytes come each second [1]"),
    ("endless", "", "a page without an end"),
    ("header-flood", "", "headers without an end"),
    ("hang", "", "silence instead of an answer"),
    ("hang-after-headers", "", "silence behind the headers"),
    ("hang-in-body", "", "silence in the middle of the page"),
    ("half-closed", "", "the API's end of the connection is closed, ours stays open"),
    ("reset", "", "the connection is reset"),
    ("redirect", "URL", "302 to another address"),
    ("gzip", "", "the page in gzip, which is no fault"),
    ("gzip-cut", "", "gzip that ends in the middle"),
    ("gzip-bomb", "", "a small gzip answer that becomes 64 MiB"),
    ("content-type", "", "the page as text/html"),
    ("bom", "", "the page behind a UTF-8 byte order mark"),
    ("not-utf8", "", "the page with bytes that are not UTF-8"),
    ("duplicates", "", "every coin of the page twice"),
    ("shifting-ranks", "", "pages after the first begin three ranks too early, as if coins had moved"),
    ("fewer", "COUNT", "so many coins of the page and no more"),
    ("malformed", "POSITION", "no code in the coin at that position, from 0"),
    ("all-malformed", "", "a list in which nothing is a coin"),
];

/// The faults of `/credits`.
const CREDIT_FAULTS: [(&str, &str, &str); 2] =
    [("credits", "COUNT", "so many credits are left"), ("credits-down", "", "500 instead of credits")];

/// Something that the API does wrong, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFault {
    pub(super) kind: Kind,
    /// For how many answers; `None`: for all.
    pub(super) times: Option<u32>,
}

/// What it does wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The name of one of [`FAULTS`], and its number.
    Prices { name: &'static str, number: u64 },
    /// To this address.
    Redirect(String),
    /// So many are left.
    Credits(u32),
    /// `/credits` fails.
    CreditsDown,
}

impl FromStr for ApiFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        // A number of times stands at the very end, and an address may have an x in it.
        let split = |text: &str| {
            let (before, times) = text.rsplit_once('x')?;
            Some((before.to_owned(), times.parse::<u32>().ok()?))
        };
        if name == "redirect" {
            let (url, times) = split(rest).map_or((rest.to_owned(), None), |(url, times)| (url, Some(times)));
            let kind = Kind::Redirect(url);
            return if rest.is_empty() {
                Err("write redirect:URL".to_owned())
            } else {
                Ok(Self { kind, times })
            };
        }
        let (whole, times) =
            split(text).map_or((text.to_owned(), None), |(whole, times)| (whole, Some(times)));
        let (name, number) = whole.split_once(':').unwrap_or((&whole, ""));
        let known = FAULTS.iter().chain(&CREDIT_FAULTS).find(|(known, ..)| *known == name);
        let (name, wants, _) =
            *known.ok_or_else(|| format!("there is no fault {name}; --help lists them"))?;
        let number = match (wants, number) {
            ("", "") => 0,
            ("", _) => return Err(format!("{name} takes no number")),
            ("BYTES", "") => DRIP,
            (_, number) => number.parse().map_err(|_| format!("write {name}:{wants}, a whole number"))?,
        };
        if name == "status" && !(200..=599).contains(&number) {
            return Err("an HTTP status is a number from 200 to 599".to_owned());
        }
        let kind = match name {
            "credits" => Kind::Credits(u32::try_from(number).unwrap_or(u32::MAX)),
            "credits-down" => Kind::CreditsDown,
            _ => Kind::Prices { name, number },
        };
        Ok(Self { kind, times })
    }
}

/// All faults with what they do, for `--help`.
#[must_use]
pub fn help() -> String {
    let mut out = String::from(
        "Faults of the price API (--api-fault NAME[:VALUE][xTIMES], several are played one after the other):\n",
    );
    for (name, wants, does) in FAULTS.iter().chain(&CREDIT_FAULTS) {
        let name = if wants.is_empty() { (*name).to_owned() } else { format!("{name}:{wants}") };
        writeln!(out, "  {name:<24} {does}").expect("a string takes everything");
    }
    out
}

/// Bytes that are answered, and what becomes of the connection then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    pub(super) then: Then,
}

/// What becomes of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    /// It is closed.
    Close,
    /// It stays open, and silent.
    Hang,
    /// Our end is closed; the client's stays open.
    HalfClose,
    /// It is reset.
    Reset,
    /// These bytes follow, so many a second.
    Drip(Vec<u8>, u64),
    /// These bytes follow for ever, as fast as they are taken.
    Flood(Vec<u8>),
}

impl Script {
    fn new(bytes: Vec<u8>, then: Then) -> Self {
        Self { bytes, then }
    }
}

/// How a question for prices is changed before it is answered.
pub(super) fn question(fault: &Kind, question: &[u8]) -> Vec<u8> {
    let Kind::Prices { name, number } = fault else { return question.to_vec() };
    let Ok(mut body) = serde_json::from_slice::<serde_json::Value>(question) else {
        return question.to_vec();
    };
    let of = |body: &serde_json::Value, member: &str| body[member].as_u64().unwrap_or_default();
    match *name {
        "shifting-ranks" => body["offset"] = of(&body, "offset").saturating_sub(3).into(),
        "fewer" if *number > 0 => body["limit"] = of(&body, "limit").min(*number).into(),
        _ => {}
    }
    body.to_string().into_bytes()
}

/// What is answered instead of `page`, a good answer's body; `date` writes the instant that is so far from now.
pub(super) fn script(fault: &Kind, page: &[u8], date: impl Fn(Duration) -> String) -> Script {
    let Kind::Prices { name, number } = fault else {
        let Kind::Redirect(url) = fault else { return ok(page) };
        return http("302 Found", &format!("Location: {url}\r\n"), b"");
    };
    match *name {
        "status" => http(&format!("{number} Status"), JSON, error(*number).as_bytes()),
        "retry-after" => {
            http("429 Too Many Requests", &format!("{JSON}Retry-After: {number}\r\n"), error(429).as_bytes())
        }
        "retry-after-date" => {
            let at = date(Duration::from_secs(*number));
            http("429 Too Many Requests", &format!("{JSON}Retry-After: {at}\r\n"), error(429).as_bytes())
        }
        "error" => ok(error(*number).as_bytes()),
        "html" => http("200 OK", "Content-Type: text/html\r\n", HTML.as_bytes()),
        "html-502" => http("502 Bad Gateway", "Content-Type: text/html\r\n", HTML.as_bytes()),
        "empty" => ok(b"[]"),
        "object" => ok(b"{}"),
        "no-body" => ok(b""),
        "cut" => ok(&page[..page.len() / 2]),
        "truncated" => promising(page.len() + 1000, JSON, page, Then::Close),
        "chunked-cut" => {
            let head =
                format!("HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", page.len());
            Script::new([head.as_bytes(), page, b"\r\n"].concat(), Then::Close)
        }
        "drip" => promising(page.len(), JSON, b"", Then::Drip(page.to_vec(), (*number).max(1))),
        "endless" => {
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}Connection: close\r\n\r\n[");
            Script::new(head.into_bytes(), Then::Flood(vec![b' '; 1 << 16]))
        }
        "header-flood" => {
            let line = format!("X-Flood: {}\r\n", "f".repeat(1000));
            Script::new(b"HTTP/1.1 200 OK\r\n".to_vec(), Then::Flood(line.into_bytes()))
        }
        "hang" => Script::new(Vec::new(), Then::Hang),
        "hang-after-headers" => promising(page.len(), JSON, b"", Then::Hang),
        "hang-in-body" => promising(page.len(), JSON, &page[..page.len() / 2], Then::Hang),
        "half-closed" => Script::new(Vec::new(), Then::HalfClose),
        "reset" => Script::new(Vec::new(), Then::Reset),
        "gzip" => http("200 OK", &format!("{JSON}Content-Encoding: gzip\r\n"), &gzip(page)),
        "gzip-cut" => {
            let body = gzip(page);
            http("200 OK", &format!("{JSON}Content-Encoding: gzip\r\n"), &body[..body.len() / 2])
        }
        "gzip-bomb" => {
            http("200 OK", &format!("{JSON}Content-Encoding: gzip\r\n"), &gzip(&vec![b' '; BOMB_BYTES]))
        }
        "content-type" => http("200 OK", "Content-Type: text/html; charset=latin1\r\n", page),
        "bom" => ok(&[b"\xef\xbb\xbf", page].concat()),
        "not-utf8" => ok(&[page, b"\xff\xfe"].concat()),
        "duplicates" => ok(&list(page, |coins| coins.iter().flat_map(|coin| [*coin, *coin]).collect())),
        "fewer" => ok(&list(page, |coins| coins.iter().take(count(*number)).copied().collect())),
        "malformed" => ok(&list(page, |coins| {
            let broken = |(at, coin)| if at == count(*number) { r#"{"name":"no code"}"# } else { coin };
            coins.iter().copied().enumerate().map(broken).collect()
        })),
        "all-malformed" => ok(br#"["error",7,null,{"name":"no code"},{"code":""},{"code":5}]"#),
        _ => ok(page),
    }
}

/// An error, in the API's own form.
pub(super) fn error(code: u64) -> String {
    format!(r#"{{"error":{{"code":{code},"status":"Status","description":"the API's own words"}}}}"#)
}

fn ok(body: &[u8]) -> Script {
    http("200 OK", JSON, body)
}

pub(super) fn http(status: &str, headers: &str, body: &[u8]) -> Script {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    Script::new([head.as_bytes(), body].concat(), Then::Close)
}

/// A good answer's head, for a body of `length` that need not come.
fn promising(length: usize, headers: &str, body: &[u8], then: Then) -> Script {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    Script::new([head.as_bytes(), body].concat(), then)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(plain).and_then(|()| out.finish()).expect("memory takes every byte")
}

/// The page with other entries.
fn list<'a>(page: &'a [u8], change: impl FnOnce(&[&'a str]) -> Vec<&'a str>) -> Vec<u8> {
    let coins: Vec<&RawValue> = serde_json::from_slice(page).unwrap_or_default();
    let coins: Vec<&str> = coins.into_iter().map(RawValue::get).collect();
    format!("[{}]", change(&coins).join(",")).into_bytes()
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ApiFault {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn text(script: &Script) -> String {
        String::from_utf8_lossy(&script.bytes).into_owned()
    }

    const PAGE: &[u8] = br#"[ {"code":"A"}, {"code":"B"} ]"#;

    fn played(fault: &str) -> Script {
        script(&parse(fault).kind, PAGE, |after| format!("in {after:?}"))
    }

    #[test]
    fn faults_have_a_name_a_value_and_a_number_of_times() {
        let status = Kind::Prices { name: "status", number: 503 };
        assert_eq!(parse("status:503"), ApiFault { kind: status.clone(), times: None });
        assert_eq!(parse("status:503x2"), ApiFault { kind: status, times: Some(2) });
        assert_eq!(parse("htmlx1").times, Some(1));
        let elsewhere = Kind::Redirect("http://example.test/x".to_owned());
        assert_eq!(parse("redirect:http://example.test/x"), ApiFault { kind: elsewhere, times: None });
        assert_eq!(parse("credits:5"), ApiFault { kind: Kind::Credits(5), times: None });
        for wrong in ["", "nothing", "status", "status:many", "status:99", "html:5", "redirect", "fewer:"] {
            assert!(wrong.parse::<ApiFault>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_fault_is_listed_and_can_be_played() {
        let help = help();
        for (name, wants, _) in FAULTS.iter().chain(&CREDIT_FAULTS) {
            assert!(help.contains(name), "{name}");
            let fault = match *wants {
                "" => (*name).to_owned(),
                "URL" => format!("{name}:http://example.test"),
                _ => format!("{name}:401"),
            };
            let _ = played(&fault);
        }
    }

    #[test]
    fn lists_are_changed_coin_by_coin() {
        assert!(text(&played("fewer:1")).ends_with(r#"[{"code":"A"}]"#));
        assert!(
            text(&played("duplicates")).ends_with(r#"[{"code":"A"},{"code":"A"},{"code":"B"},{"code":"B"}]"#)
        );
        assert!(text(&played("malformed:1")).ends_with(r#"[{"code":"A"},{"name":"no code"}]"#));
    }

    #[test]
    fn a_length_is_true_unless_the_fault_is_that_it_is_not() {
        assert!(text(&played("error:500")).contains(&format!("Content-Length: {}\r\n", error(500).len())));
        assert!(text(&played("truncated")).contains(&format!("Content-Length: {}\r\n", PAGE.len() + 1000)));
        assert!(text(&played("retry-after-date:30")).contains("Retry-After: in 30s\r\n"));
    }

    #[test]
    fn later_pages_overlap_where_ranks_shift() {
        let shifted = question(&parse("shifting-ranks").kind, br#"{"offset":100,"limit":50}"#);
        assert_eq!(shifted, br#"{"limit":50,"offset":97}"#);
        let first = question(&parse("shifting-ranks").kind, br#"{"offset":0}"#);
        assert_eq!(first, br#"{"offset":0}"#);
    }
}
