//! What the operator of `coinduit-demo` writes ([`Args`]) and what the program relies on ([`Settings`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use coinduit_common::config::{self, Faults};

/// Below this, a run would begin before the rows of the last one are there.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);
/// The data folder's name, where nobody gives another.
const DATA_FOLDER: &str = "coinduit-demo-data";

/// Runs the whole pipeline on the embedded stack and proves that every price arrived.
///
/// Starts coinduit-local and the consumer, runs the producer three times, compares what the price API served with
/// Kafka, S3 and DynamoDB, and stops everything. No account and no network is needed, and no setting of yours is
/// used. Exit codes: 0 everything held, 1 something did not, 2 it could not begin.
#[derive(Debug, Clone, Parser)]
#[command(name = "coinduit-demo", version)]
pub struct Args {
    /// Folder for objects, tables, records and logs; what an earlier demo left there is removed first [default:
    /// coinduit-demo-data beside the folder of this program]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Folder of producer, consumer, bootstrap and coinduit-local [default: this program's]
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Go on until Ctrl-C or SIGTERM: a producer run every interval, and a line about each
    #[arg(long)]
    pub forever: bool,

    /// Time from one run to the next, at least 5s
    #[arg(long, value_name = "DURATION", default_value = "30s", requires = "forever")]
    pub interval: String,
}

/// What was asked for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where everything is kept, absolute.
    pub data_dir: PathBuf,
    /// Where the programs are, absolute.
    pub bin_dir: PathBuf,
    /// From one run to the next; `None` for three runs and the proof.
    pub interval: Option<Duration>,
}

impl Settings {
    /// Checks what the operator wrote. `program` is the path of this program.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn new(args: Args, program: io::Result<PathBuf>) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let own_folder = match program {
            Ok(program) => program.parent().map(PathBuf::from).unwrap_or_default(),
            Err(error) => {
                if args.data_dir.is_none() || args.bin_dir.is_none() {
                    let problem = format!("this program can't find its own folder ({error})");
                    faults.add("--bin-dir", problem, "give --bin-dir and --data-dir");
                }
                PathBuf::new()
            }
        };
        let interval = faults.read("--interval", Some(&args.interval), SHORTEST_INTERVAL, |text| {
            let interval = config::duration(text)?;
            if interval < SHORTEST_INTERVAL {
                return Err(format!("write at least {SHORTEST_INTERVAL:?}"));
            }
            Ok(interval)
        });
        let data_dir =
            args.data_dir.unwrap_or_else(|| own_folder.parent().unwrap_or(&own_folder).join(DATA_FOLDER));
        let bin_dir = args.bin_dir.unwrap_or(own_folder);
        let mut absolute = |option: &str, path: PathBuf| {
            std::path::absolute(&path).unwrap_or_else(|error| {
                faults.add(option, format!("{path:?} can't be used ({error})"), "name a folder");
                path
            })
        };
        let settings = Self {
            data_dir: absolute("--data-dir", data_dir),
            bin_dir: absolute("--bin-dir", bin_dir),
            interval: args.forever.then_some(interval),
        };
        faults.into_result(settings)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, Faults> {
        let args = Args::parse_from(["coinduit-demo"].iter().chain(arguments));
        Settings::new(args, Ok("/build/target/debug/coinduit-demo".into()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn programs_are_beside_this_one_and_data_beside_its_folder() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.bin_dir, PathBuf::from("/build/target/debug"));
        assert_eq!(settings.data_dir, PathBuf::from("/build/target/coinduit-demo-data"));
        assert_eq!(settings.interval, None);
    }

    #[test]
    fn an_interval_is_for_ever_and_leaves_time_for_the_rows() {
        assert_eq!(settings(&["--forever"]).unwrap().interval, Some(Duration::from_secs(30)));
        assert!(Args::try_parse_from(["coinduit-demo", "--interval", "30s"]).is_err());
        for wrong in ["30", "1s", "soon"] {
            let faults = settings(&["--forever", "--interval", wrong]).unwrap_err().to_string();
            assert!(faults.contains("--interval"), "{faults}");
        }
    }
}
