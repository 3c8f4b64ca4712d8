//! Samples, and the table that shows them.

/// What was measured several times.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Sample {
    /// The value that so many percent of all are not above (nearest rank); of nothing it is 0.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0.0)
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    what: String,
    measured: String,
    budget: String,
    kept: &'static str,
}

impl Row {
    /// The median of `sample`, with its spread where there is one, against a budget that it has to be below.
    pub(crate) fn new(what: impl Into<String>, sample: &Sample, unit: &str, budget: Option<f64>) -> Self {
        let measured = match &sample.0[..] {
            [one] => format!("{} {unit}", number(*one)),
            [least, .., most] => {
                let median = number(sample.median());
                format!("{median} {unit} ({}-{} of {})", number(*least), number(*most), sample.0.len())
            }
            [] => String::new(),
        };
        Self::with(what, measured, sample.median(), unit, budget)
    }

    /// One percentile of `sample`.
    pub(crate) fn percentile(
        what: impl Into<String>,
        sample: &Sample,
        percent: usize,
        unit: &str,
        budget: Option<f64>,
    ) -> Self {
        let value = sample.percentile(percent);
        let measured = format!("{} {unit} (p{percent} of {})", number(value), sample.0.len());
        Self::with(what, measured, value, unit, budget)
    }

    /// What was not measured, and why.
    pub(crate) fn left_out(what: impl Into<String>, why: &str) -> Self {
        Self { what: what.into(), measured: why.to_owned(), budget: "-".to_owned(), kept: "-" }
    }

    fn with(what: impl Into<String>, measured: String, value: f64, unit: &str, budget: Option<f64>) -> Self {
        let kept = match budget {
            Some(budget) if value < budget => "yes",
            Some(_) => "NO",
            None => "-",
        };
        let budget = budget.map_or("-".to_owned(), |budget| format!("< {} {unit}", number(budget)));
        Self { what: what.into(), measured, budget, kept }
    }
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole.to_owned(),
        _ => text,
    }
}

/// The rows below each other, as Markdown that is aligned for a terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let heading =
        Row { what: "what".into(), measured: "measured".into(), budget: "budget".into(), kept: "ok?" };
    let width = |cell: fn(&Row) -> &str| {
        let widths = rows.iter().chain([&heading]).map(|row| cell(row).chars().count());
        widths.max().unwrap_or(0)
    };
    let (what, measured, budget, kept) =
        (width(|row| &row.what), width(|row| &row.measured), width(|row| &row.budget), width(|row| row.kept));
    let mut text = String::new();
    for (number, row) in std::iter::once(&heading).chain(rows).enumerate() {
        let Row { what: name, measured: value, budget: limit, kept: ok } = row;
        text += &format!("| {name:<what$} | {value:<measured$} | {limit:<budget$} | {ok:<kept$} |\n");
        if number == 0 {
            text += &format!("| {:-<what$} | {:-<measured$} | {:-<budget$} | {:-<kept$} |\n", "", "", "", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sample: Sample = [5.0, 1.0, 4.0, 2.0, 3.0].into_iter().collect();
        assert_eq!([0, 20, 50, 80, 99, 100].map(|p| sample.percentile(p)), [1.0, 1.0, 3.0, 4.0, 5.0, 5.0]);
        assert_eq!(Sample::default().percentile(50), 0.0);
    }

    #[test]
    fn a_row_shows_median_and_spread_and_whether_the_budget_is_kept() {
        let sample: Sample = [12.34, 9.876, 130.4].into_iter().collect();
        let row = Row::new("x", &sample, "ms", Some(12.0));
        assert_eq!((&*row.measured, &*row.budget, row.kept), ("12.3 ms (9.88-130 of 3)", "< 12 ms", "NO"));
        assert_eq!(Row::new("x", &sample, "ms", Some(12.5)).kept, "yes");
        let row = Row::new("x", &[5.0].into_iter().collect(), "MB", None);
        assert_eq!((&*row.measured, &*row.budget, row.kept), ("5 MB", "-", "-"));
        let row = Row::percentile("x", &sample, 99, "ms", None);
        assert_eq!(row.measured, "130 ms (p99 of 3)");
    }

    #[test]
    fn columns_are_aligned() {
        let rows =
            [Row::left_out("a name", "why"), Row::new("b", &[1.0].into_iter().collect(), "s", Some(2.0))];
        let text = table(&rows);
        assert_eq!(
            text,
            "| what   | measured | budget | ok? |\n\
             | ------ | -------- | ------ | --- |\n\
             | a name | why      | -      | -   |\n\
             | b      | 1 s      | < 2 s  | yes |\n"
        );
    }
}
