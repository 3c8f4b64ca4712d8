//! The table of the coins, for people: rounded and aligned. Whether digits are right is the proof's matter.

use std::cmp::Ordering;

use aws_sdk_dynamodb::types::AttributeValue;

use super::evidence::{Row, text};
use super::screen::Colours;

/// What stands where a coin has no such number.
const NOTHING: &str = "-";
/// The longest name that is shown whole.
const NAME_WIDTH: usize = 22;

/// The rows of the table `coins` as lines, by rank.
#[must_use]
pub fn lines(coins: &[Row], colours: Colours) -> Vec<String> {
    let mut coins: Vec<&Row> = coins.iter().collect();
    coins.sort_by(|a, b| {
        let rank = |row| number(row, "rank").unwrap_or(f64::INFINITY);
        rank(a).total_cmp(&rank(b)).then_with(|| text(a, "code").cmp(&text(b, "code")))
    });
    let code_width = coins.iter().filter_map(|row| text(row, "code")).map(width).max().unwrap_or(0).max(4);
    let heading = format!(
        "{:>4}  {:<code_width$}  {:<NAME_WIDTH$}  {:>14}  {:>8}  {:>8}  {:>10}",
        "rank", "code", "name", "rate (USD)", "1 h", "24 h", "market cap"
    );
    let line = |row: &Row| {
        let shown = |name| text(row, name).unwrap_or(NOTHING);
        let rank = number(row, "rank").map_or(NOTHING.to_owned(), |rank| format!("{rank:.0}"));
        let rate = number(row, "rate").map_or(NOTHING.to_owned(), rate);
        let cap = number(row, "cap").map_or(NOTHING.to_owned(), amount);
        let change = |name| change(delta(row, name), colours);
        format!(
            "{rank:>4}  {:<code_width$}  {:<NAME_WIDTH$}  {rate:>14}  {}  {}  {cap:>10}",
            shown("code"),
            cut(shown("name")),
            change("hour"),
            change("day"),
        )
    };
    std::iter::once(colours.bold(&heading)).chain(coins.into_iter().map(line)).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn cut(name: &str) -> String {
    if width(name) <= NAME_WIDTH {
        return name.to_owned();
    }
    name.chars().take(NAME_WIDTH - 1).chain(['…']).collect()
}

fn number(row: &Row, name: &str) -> Option<f64> {
    parse(row.get(name)?)
}

/// The multiplier since an `hour` ago, or a `day`.
fn delta(row: &Row, since: &str) -> Option<f64> {
    match row.get("delta")? {
        AttributeValue::M(delta) => parse(delta.get(since)?),
        _ => None,
    }
}

fn parse(value: &AttributeValue) -> Option<f64> {
    match value {
        AttributeValue::N(number) => number.parse().ok(),
        _ => None,
    }
}

/// A multiplier as a change in percent, eight columns wide: 0.996 is -0.40 %.
fn change(multiplier: Option<f64>, colours: Colours) -> String {
    let Some(multiplier) = multiplier else { return format!("{NOTHING:>8}") };
    let percent = (multiplier - 1.0) * 100.0;
    let text = format!("{:>8}", format!("{percent:+.2} %"));
    match percent.partial_cmp(&0.0) {
        Some(Ordering::Greater) => colours.green(&text),
        Some(Ordering::Less) => colours.red(&text),
        _ => text,
    }
}

/// A price: two decimals above 1, six significant digits below, an exponent where zeros would have to be counted.
fn rate(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate.abs() < 1e-4 {
        format!("{rate:.4e}")
    } else if rate.abs() < 1.0 {
        format!("{rate:.6}")
    } else {
        grouped(&format!("{rate:.2}"))
    }
}

/// An amount of money in thousands, millions and so on.
fn amount(amount: f64) -> String {
    let (divisor, unit) = match amount.abs() {
        size if size >= 1e12 => (1e12, "T"),
        size if size >= 1e9 => (1e9, "B"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e3 => (1e3, "K"),
        _ => (1.0, ""),
    };
    format!("${:.2}{unit}", amount / divisor)
}

/// `30328.20` as `30,328.20`.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut out = String::with_capacity(number.len() + 4);
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left.is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn coin(code: &str, rank: &str, rate: &str) -> Row {
        let number = |number: &str| AttributeValue::N(number.to_owned());
        let delta =
            HashMap::from([("hour".to_owned(), number("0.996")), ("day".to_owned(), number("1.0145"))]);
        HashMap::from([
            ("code".to_owned(), AttributeValue::S(code.to_owned())),
            ("name".to_owned(), AttributeValue::S("A coin with a very long name".to_owned())),
            ("rank".to_owned(), number(rank)),
            ("rate".to_owned(), number(rate)),
            ("cap".to_owned(), number("586709801651")),
            ("delta".to_owned(), AttributeValue::M(delta)),
        ])
    }

    #[test]
    fn coins_are_listed_by_rank_in_aligned_columns() {
        let lines = lines(
            &[coin("BABYDOGE", "89", "2.4980008270697834e-9"), coin("BTC", "1", "30328.19874964158")],
            Colours::NONE,
        );
        assert_eq!(
            lines,
            [
                "rank  code      name                        rate (USD)       1 h      24 h  market cap",
                "   1  BTC       A coin with a very lo…       30,328.20   -0.40 %   +1.45 %    $586.71B",
                "  89  BABYDOGE  A coin with a very lo…       2.4980e-9   -0.40 %   +1.45 %    $586.71B",
            ]
        );
    }

    #[test]
    fn a_coin_may_lack_anything() {
        let lines = lines(&[HashMap::new()], Colours::NONE);
        assert_eq!(
            lines[1],
            "   -  -     -                                    -         -         -           -"
        );
    }

    #[test]
    fn changes_have_their_colour() {
        assert_eq!(change(Some(1.5), Colours::ALL), "\x1b[32m+50.00 %\x1b[0m");
        assert_eq!(change(Some(0.5), Colours::ALL), "\x1b[31m-50.00 %\x1b[0m");
        assert_eq!(change(Some(1.0), Colours::ALL), " +0.00 %");
    }

    #[test]
    fn rates_are_readable_whatever_their_size() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1.00"),
            (999.999, "1,000.00"),
            (1_234_567.891, "1,234,567.89"),
            (-123_456.0, "-123,456.00"),
            (0.012_345_678, "0.012346"),
            (2.498e-9, "2.4980e-9"),
        ] {
            assert_eq!(rate(number), text);
        }
    }

    #[test]
    fn amounts_are_readable_whatever_their_size() {
        for (number, text) in [(12.0, "$12.00"), (1500.0, "$1.50K"), (2.5e6, "$2.50M"), (2.4e12, "$2.40T")] {
            assert_eq!(amount(number), text);
        }
    }
}
