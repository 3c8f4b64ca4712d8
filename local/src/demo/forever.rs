//! `make run`: a producer run every interval, and a line about each, until somebody stops it.

use std::time::Duration;

use chrono::DateTime;
use coinduit_common::clock::{Clock, rfc3339_ms};
use tokio::time::{Instant, sleep};

use super::children::{ChildError, Published};
use super::follow::{Arrived, Follower};
use super::settings::SHORTEST_INTERVAL;
use super::{Demo, DemoError, Ending, POLL};

/// Runs until it is dropped, or something fails that another run will not mend.
pub(super) async fn run(demo: &mut Demo<'_>, interval: Duration) -> Result<Ending, DemoError> {
    let title = format!("Coinduit: a producer run every {interval:?}, until Ctrl-C");
    let title = demo.screen.colours().bold(&title);
    demo.screen.line(&title);
    let (exports, services) = demo.begin().await?;
    let (folder, clock) = (demo.folder.path().display(), Clock::System);
    demo.say(&format!(
        "objects, tables and logs are in {folder}; `source {folder}/stack.env` to look in with tools"
    ));
    let heading = format!(
        "{:<9}{:>7}{:>9}{:>13}{:>14}{:>14}{:>14}",
        "UTC", "run", "records", "new objects", "rows: prices", "rows: coins", "API to row"
    );
    let heading = demo.screen.colours().bold(&heading);
    demo.screen.line(&heading);

    let mut follower = Follower::new(&services);
    let mut before = Arrived::default();
    let mut next = Instant::now() + first_wait(clock.now_ms(), interval);
    for number in 1_u64.. {
        let time = rfc3339_ms(clock.now_ms()).get(11..19).unwrap_or_default().to_owned();
        demo.screen.hint(&format!("{time} {number:>7}  asking for prices"));
        match demo.children.run_producer(&exports, demo.folder).await {
            Ok(run) => {
                let arrived = rows_of(demo, &mut follower, next).await?;
                let lag = arrived.complete().then(|| lag(&run, clock.now_ms())).flatten();
                demo.screen.line(&line(&time, number, &run, before, arrived, lag));
                before = arrived;
            }
            // Another run may do better: that is how a scheduler sees it too.
            Err(error @ ChildError::Failed { .. }) => {
                let text = demo.screen.colours().red(&format!("{time} {number:>7}  {error}"));
                demo.screen.line(&text);
            }
            Err(error) => return Err(error.into()),
        }
        while Instant::now() < next {
            demo.children.check()?;
            let left = (next - Instant::now()).as_secs_f64().ceil();
            demo.screen.hint(&format!("next run in {left:.0} s"));
            sleep(POLL).await;
        }
        // A run that took longer, or a machine that slept, has used up the times that are over.
        while next <= Instant::now() {
            next += interval;
        }
    }
    Ok(Ending::Interrupted)
}

/// Waits until everything that is on the topic has its rows, or until the next run is due.
async fn rows_of(
    demo: &mut Demo<'_>,
    follower: &mut Follower<'_>,
    next: Instant,
) -> Result<Arrived, DemoError> {
    loop {
        let arrived = demo.watched(follower.look()).await?;
        if arrived.complete() || Instant::now() >= next {
            return Ok(arrived);
        }
        let Arrived { records, lines, prices, .. } = arrived;
        demo.screen.hint(&format!("{records} records, {lines} lines in objects, {prices} rows in prices"));
        sleep(POLL).await;
    }
}

/// How long from the first run, at `now_ms`, to the second: runs are at multiples of the interval on the clock, the
/// first alone is at once. It too has its time.
fn first_wait(now_ms: i64, interval: Duration) -> Duration {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let earliest_ms = now_ms.saturating_add(SHORTEST_INTERVAL.as_millis().try_into().unwrap_or(i64::MAX));
    let more_ms = (interval_ms - earliest_ms.rem_euclid(interval_ms)) % interval_ms;
    SHORTEST_INTERVAL + Duration::from_millis(more_ms.unsigned_abs())
}

/// How long ago the run asked for its prices.
fn lag(run: &Published, now_ms: i64) -> Option<Duration> {
    let fetched = DateTime::parse_from_rfc3339(&run.fetched_at).ok()?;
    u64::try_from(now_ms - fetched.timestamp_millis()).ok().map(Duration::from_millis)
}

fn line(
    time: &str,
    number: u64,
    run: &Published,
    before: Arrived,
    arrived: Arrived,
    lag: Option<Duration>,
) -> String {
    let lag = lag.map_or("not yet".to_owned(), |lag| format!("{:.1} s", lag.as_secs_f64()));
    let objects = arrived.objects - before.objects;
    format!(
        "{time:<9}{number:>7}{:>9}{objects:>13}{:>14}{:>14}{lag:>14}",
        run.records, arrived.prices, arrived.coins
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_on_the_clock_and_the_first_has_its_time() {
        let ten = Duration::from_secs(10);
        let second_run = |now_ms: i64| now_ms + i64::try_from(first_wait(now_ms, ten).as_millis()).unwrap();
        assert_eq!([20_000, 24_999, 25_000, 25_001].map(second_run), [30_000, 30_000, 30_000, 40_000]);
        assert_eq!(first_wait(20_000, SHORTEST_INTERVAL), SHORTEST_INTERVAL);
    }

    #[test]
    fn a_run_is_a_line() {
        let run = Published { records: 50, fetched_at: "2026-11-23T10:05:00.000Z".to_owned() };
        let before = Arrived { objects: 4, ..Arrived::default() };
        let arrived =
            Arrived { records: 100, objects: 8, lines: 100, prices: 100, coins: 50, newest_coins: 50 };
        let lag = lag(&run, 1_795_428_302_400);
        assert_eq!(
            line("10:05:00", 2, &run, before, arrived, lag),
            "10:05:00       2       50            4           100            50         2.4 s"
        );
        assert!(line("10:05:00", 2, &run, before, arrived, None).ends_with("not yet"));
    }
}
