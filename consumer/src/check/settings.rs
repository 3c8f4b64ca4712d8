//! What a check is told: the settings of `run`, and how to say what it finds.

use clap::{ArgAction, Args as ClapArgs};
use coinduit_common::config::{Env, Faults};

use crate::config::{Args, Config};

/// What the operator wrote.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct CheckArgs {
    #[command(flatten)]
    run: Args,
    /// Print one JSON document instead of a table
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Check")]
    json: bool,
    /// Try alerts, too: sends a message to everybody who subscribes to SNS_TOPIC_ARN
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Check")]
    notify: bool,
}

/// What the check may rely on.
#[derive(Debug, Clone)]
pub struct CheckConfig {
    /// What a run would be told.
    pub run: Config,
    /// Print JSON.
    pub json: bool,
    /// Send a message.
    pub notify: bool,
}

impl CheckConfig {
    /// Checks each value.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn new(args: &CheckArgs, env: &Env) -> Result<Self, Faults> {
        let run = Config::new(&args.run, env)?;
        Ok(Self { run, json: args.json, notify: args.notify })
    }
}
