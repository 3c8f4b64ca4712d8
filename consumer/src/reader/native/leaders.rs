//! Who leads which partition, asked once for all who want to know.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coinduit_common::{
    clock::Clock,
    kafka::{
        error::KafkaError,
        metadata::{self, Leader},
        settings::KafkaSettings,
    },
};
use tokio::sync::Mutex;
use tracing::debug;

/// Nobody can be asked for a partition's records.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLeader {
    #[error("the cluster has no such partition")]
    Missing,
    #[error("no broker leads it now")]
    Nobody,
    #[error(transparent)]
    Kafka(#[from] Arc<KafkaError>),
}

/// What the cluster last said about one topic.
#[derive(Debug)]
pub(super) struct Leaders {
    settings: KafkaSettings,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    leaders: BTreeMap<i32, Option<Leader>>,
    /// When the question was asked that `leaders` answers (since boot).
    asked_at: Option<Duration>,
    /// When the last question came to nothing, and why.
    failed: Option<(Duration, Arc<KafkaError>)>,
}

impl Leaders {
    pub(super) fn new(settings: KafkaSettings, clock: Clock) -> Self {
        Self { settings, clock, state: Mutex::default() }
    }

    /// The leader of `partition` as the cluster knew it later than `after`.
    pub(super) async fn of(&self, partition: i32, after: Option<Duration>) -> Result<Leader, NoLeader> {
        let wanted_at = self.clock.since_boot();
        let mut state = self.state.lock().await;
        let is_known = state.asked_at.is_some_and(|asked| after.is_none_or(|after| asked > after))
            && matches!(state.leaders.get(&partition), Some(Some(_)));
        if !is_known && state.asked_at.is_none_or(|asked| asked < wanted_at) {
            // Who waited while another asked in vain does not ask the same once more.
            match &state.failed {
                Some((at, error)) if *at >= wanted_at => return Err(Arc::clone(error).into()),
                _ => self.ask(&mut state).await?,
            }
        }
        state.leaders.get(&partition).ok_or(NoLeader::Missing)?.clone().ok_or(NoLeader::Nobody)
    }

    async fn ask(&self, state: &mut State) -> Result<(), Arc<KafkaError>> {
        let KafkaSettings { bootstrap, topic, .. } = &self.settings;
        let asked = self.clock.since_boot();
        let answer = async {
            let mut any = self.settings.dialer().to_any(bootstrap).await?;
            metadata::leaders(&mut any, topic).await
        };
        match answer.await {
            Ok(leaders) => {
                state.leaders = leaders.unwrap_or_default();
                (state.asked_at, state.failed) = (Some(asked), None);
                debug!(partitions = state.leaders.len(), "leaders found");
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                state.failed = Some((self.clock.since_boot(), Arc::clone(&error)));
                Err(error)
            }
        }
    }
}
