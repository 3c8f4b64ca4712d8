//! A producer's run from its start to its exit: 50 coins from a local API to a local broker.

use std::{net::Ipv4Addr, path::Path};

use coinduit_local::{
    credentials::API_KEY,
    price_api::{PriceApi, Prices},
};

use crate::{
    error::BenchError,
    figures::Row,
    kafka::Kafka,
    measured::{binary, cost},
    progress,
};

/// How many runs are measured.
const RUNS: usize = 20;
/// How many runs come before: a broker's first answers take longer.
const WARM_UP: usize = 2;

/// Time and memory of a run.
pub(crate) async fn measure(bin_dir: &Path, bootstrap: Option<&str>) -> Result<Vec<Row>, BenchError> {
    progress("producer");
    let program = binary(bin_dir, "producer")?;
    let kafka = Kafka::find(bootstrap).await?;
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let api = PriceApi::start(address, Prices::Moving { seed: 1 })
        .map_err(BenchError::io("start the price API"))?;
    let topic = kafka.create("producer", 4).await?;
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", &*kafka.bootstrap),
        ("KAFKA_TOPIC", &topic),
        ("API_URL", &api.url()),
        ("API_KEY", API_KEY),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut costs = Vec::new();
    let mut outcome = Ok(());
    for _ in 0..WARM_UP + RUNS {
        match cost(&program, &[], &env).await {
            Ok(cost) => costs.push(cost),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    kafka.delete(&topic).await?;
    api.stop().await;
    let place = if kafka.is_real { "real Kafka" } else { "embedded broker" };
    kafka.stop().await;
    outcome?;
    let costs = costs.get(WARM_UP..).unwrap_or_default();
    Ok(vec![
        Row::new(
            format!("producer, start to exit, {place}"),
            &costs.iter().map(|cost| cost.wall_ms).collect(),
            "ms",
            Some(50.0),
        ),
        Row::new(
            "producer, peak memory",
            &costs.iter().map(|cost| cost.peak_mib).collect(),
            "MiB",
            Some(20.0),
        ),
    ])
}
