//! `make demo`: three runs, the proof, the table.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::evidence::Evidence;
use super::follow::{Arrived, Follower};
use super::proof::{self, Check, Expected};
use super::services::Services;
use super::{Demo, DemoError, Ending, POLL, collect, table};

/// Three runs of fifty coins.
const EXPECTED: Expected = Expected { runs: 3, coins: 50 };
/// How long records may take to become lines and rows.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Runs everything; what it came to is on the screen.
pub(super) async fn run(demo: &mut Demo<'_>) -> Result<Ending, DemoError> {
    let title = "Coinduit: price API -> producer -> Kafka -> consumer -> S3 -> Lambda -> DynamoDB";
    let title = demo.screen.colours().bold(title);
    demo.screen.line(&title);
    let (exports, services) = demo.begin().await?;
    let mut times = vec![("stack up".to_owned(), demo.started.elapsed())];

    let mut watch = Watch::new(&services);
    let mut published = 0;
    for number in 1..=EXPECTED.runs {
        let begun = Instant::now();
        let run = demo.children.run_producer(&exports, demo.folder).await?;
        times.push((format!("producer run {number}"), begun.elapsed()));
        published += run.records;
        demo.say(&format!("run {number} of {}: {} records published", EXPECTED.runs, run.records));
        // Only then the next, so that each partition has objects that continue each other.
        watch.until(demo, |arrived| arrived.records >= published && arrived.stored()).await?;
        demo.say(&format!("run {number} of {}: {}", EXPECTED.runs, shown(watch.arrived)));
    }
    watch.until(demo, |arrived| arrived.records >= published && arrived.complete()).await?;
    demo.say(&format!("everything has arrived: {}", shown(watch.arrived)));
    times.extend(watch.times());

    let stopping = Instant::now();
    let consumer = demo.children.stop_consumer().await?;
    times.push(("drain of the consumer".to_owned(), stopping.elapsed()));
    let evidence = demo.watched(collect::evidence(&services)).await?;
    let (audit, findings) = demo.children.audit(&exports, demo.folder).await?;
    let stopping = Instant::now();
    let stack = demo.children.stop_stack().await?;
    times.push(("stop of the stack".to_owned(), stopping.elapsed()));

    let mut checks = proof::checks(&evidence, EXPECTED);
    checks.push(watch.in_time());
    checks.push(audited(audit, &findings));
    checks.push(left_in_peace("the consumer", consumer));
    checks.push(left_in_peace("coinduit-local", stack));
    times.push(("all of it".to_owned(), demo.started.elapsed()));
    Ok(show(demo, &evidence, &checks, &times))
}

/// Follows the prices and remembers when which arrived.
struct Watch<'a> {
    follower: Follower<'a>,
    arrived: Arrived,
    began: Instant,
    first_object: Option<Duration>,
    first_row: Option<Duration>,
    all_rows: Option<Duration>,
    late: Vec<String>,
}

impl<'a> Watch<'a> {
    fn new(services: &'a Services) -> Self {
        Self {
            follower: Follower::new(services),
            arrived: Arrived::default(),
            began: Instant::now(),
            first_object: None,
            first_row: None,
            all_rows: None,
            late: Vec::new(),
        }
    }

    /// Looks until `enough` has arrived. After [`WAIT_LIMIT`] that is written down, and the proof will say what is
    /// missing.
    async fn until(
        &mut self,
        demo: &mut Demo<'_>,
        enough: impl Fn(&Arrived) -> bool,
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            self.arrived = demo.watched(self.follower.look()).await?;
            let now = self.began.elapsed();
            let note = |time: &mut Option<Duration>, arrived| {
                if arrived {
                    time.get_or_insert(now);
                }
            };
            note(&mut self.first_object, self.arrived.objects > 0);
            note(&mut self.first_row, self.arrived.prices > 0);
            note(&mut self.all_rows, self.arrived.prices >= EXPECTED.records());
            if enough(&self.arrived) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.late.push(format!("after {WAIT_LIMIT:?} there were {}", shown(self.arrived)));
                return Ok(());
            }
            demo.screen.live(&format!("          {}", shown(self.arrived)));
            sleep(POLL).await;
        }
    }

    /// When what arrived, counted from the first run.
    fn times(&self) -> impl Iterator<Item = (String, Duration)> {
        let times =
            [("first object", self.first_object), ("first row", self.first_row), ("all rows", self.all_rows)];
        times.into_iter().filter_map(|(name, time)| Some((format!("{name}, since run 1 began"), time?)))
    }

    fn in_time(&self) -> Check {
        Check::new(format!("everything arrived within {WAIT_LIMIT:?}"), self.late.clone())
    }
}

fn shown(arrived: Arrived) -> String {
    let Arrived { records, objects, lines, prices, coins, newest_coins: _ } = arrived;
    format!(
        "{records} records, {lines} lines in {objects} objects, {prices} rows in prices, {coins} in coins"
    )
}

fn audited(status: ExitStatus, report: &str) -> Check {
    let findings = report.lines().filter(|line| line.starts_with("finding:")).map(ToOwned::to_owned);
    let mut problems: Vec<String> = findings.collect();
    if problems.is_empty() && !status.success() {
        problems.push(status.to_string());
    }
    Check::new("consumer audit, bucket against topic, has found nothing", problems)
}

fn left_in_peace(name: &str, status: Option<ExitStatus>) -> Check {
    let problem = match status {
        Some(status) if status.success() => None,
        Some(status) => Some(status.to_string()),
        None => Some("it was not running".to_owned()),
    };
    Check::new(format!("{name} stopped on SIGTERM with exit code 0"), problem.into_iter().collect())
}

/// Table, times, where to look, proof, verdict.
fn show(demo: &mut Demo<'_>, evidence: &Evidence, checks: &[Check], times: &[(String, Duration)]) -> Ending {
    let colours = demo.screen.colours();
    heading(demo, "Proof");
    for check in checks {
        let line = check.to_string();
        demo.screen.line(&if check.holds() {
            line.replacen("ok", &colours.green("ok"), 1)
        } else {
            colours.red(&line)
        });
    }
    heading(demo, "Coins, as DynamoDB has them");
    for line in table::lines(&evidence.coins, colours) {
        demo.screen.line(&line);
    }
    heading(demo, "Time (an object is closed 2 s after its first record)");
    for (stage, time) in times {
        demo.screen.line(&format!("{:7.2} s  {stage}", time.as_secs_f64()));
    }
    heading(demo, "Where to look");
    for (what, place) in places(demo.folder.path(), &demo.children.program("coinduit-local"), &evidence.topic)
    {
        demo.screen.line(&format!("{what:<16}{place}"));
    }
    demo.screen.line("");
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.holds()).collect();
    if failed.is_empty() {
        demo.screen.line(&colours.green(&format!("All {} checks held.", checks.len())));
        return Ending::Proved;
    }
    // The table has pushed them out of sight.
    for check in &failed {
        demo.screen.line(&colours.red(&check.to_string()));
    }
    demo.screen.line(&colours.red(&format!("{} of {} checks failed.", failed.len(), checks.len())));
    Ending::NotProved
}

fn heading(demo: &mut Demo<'_>, text: &str) {
    let text = demo.screen.colours().bold(text);
    demo.screen.line("");
    demo.screen.line(&text);
}

fn places(folder: &Path, stack: &Path, topic: &str) -> [(&'static str, String); 4] {
    let (folder, stack) = (folder.display(), stack.display());
    [
        ("objects", format!("{folder}/s3/*/{topic}/partition=*/*.jsonl")),
        ("tables", format!("{folder}/dynamodb.sqlite (SQLite; a DynamoDB once the stack runs)")),
        ("logs", format!("{folder}/logs/*.log")),
        ("the stack again", format!("{stack} --data-dir {folder}")),
    ]
}
