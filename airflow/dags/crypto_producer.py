"""### crypto_producer
Every five minutes: one run of the `producer` image. It fetches prices, publishes them to Kafka and exits.

| Setting | Where | Default |
|---|---|---|
| API key | connection `crypto_api`, password (`AIRFLOW_CONN_CRYPTO_API`, the UI, or a secrets backend) | required |
| brokers | environment `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_SECURITY_PROTOCOL` (`PLAINTEXT`, `SSL`) | `localhost:9092` |
| brokers and login, instead | environment `PRODUCER_KAFKA_CONN`: the id of a Kafka connection, from whose extra come `bootstrap.servers`, `security.protocol`, `sasl.mechanism`, `sasl.username` and `sasl.password` | none |
| authorities for TLS | environment `PRODUCER_CA_FILE`: a PEM file on the Docker engine's host, readable by uid 65532 | the public ones |
| topic | environment `KAFKA_TOPIC` | `crypto_prices` |
| which coins, and so on | environment `COINS`, `CODES`, `CURRENCY`, `MIN_CREDITS`, `REQUEST_TIMEOUT`, `API_URL`, `RUST_LOG` | the producer's |
| schedule | environment `PRODUCER_SCHEDULE`, a cron expression | `*/5 * * * *` |
| image, network | environment `PRODUCER_IMAGE`, `PRODUCER_NETWORK` | `coinduit-producer:latest`, `host` |
| Docker engine | environment `DOCKER_HOST` | the local socket |
| alert | environment `SNS_TOPIC_ARN`, connection `aws_default`; needs the amazon provider | none |

Exit code 0: published, and the last line, a JSON summary, is the XCom. 99: the API grants too few credits, nothing was done,
and the task is *skipped*. Anything else: the task has failed; it is tried once more, then the alert is sent.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.providers.docker.operators.docker import DockerOperator
from docker.types import Mount

try:  # Airflow 3
    from airflow.sdk import DAG, Asset
except ImportError:  # Airflow 2.10, 2.11
    from airflow import DAG
    from airflow.datasets import Dataset as Asset


def setting(name: str, default: str = "") -> str:
    """An environment variable of Airflow's; an empty one counts as unset, as it does for the producer."""
    return os.environ.get(name, "").strip() or default


SERVERS = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
KAFKA_CONN = setting("PRODUCER_KAFKA_CONN")
TOPIC = setting("KAFKA_TOPIC", "crypto_prices")
CA_FILE = setting("PRODUCER_CA_FILE")
PASSED_ON = ["COINS", "CODES", "CURRENCY", "MIN_CREDITS", "REQUEST_TIMEOUT", "API_URL", "RUST_LOG"]


def kafka() -> dict[str, str]:
    """How to reach the brokers. What the connection does not have stays empty, which the producer takes as unset."""
    if not KAFKA_CONN:
        return {"KAFKA_BOOTSTRAP_SERVERS": SERVERS, "KAFKA_SECURITY_PROTOCOL": setting("KAFKA_SECURITY_PROTOCOL")}
    extra = f"conn[{KAFKA_CONN!r}].extra_dejson"
    return {
        "KAFKA_BOOTSTRAP_SERVERS": f"{{{{ {extra}['bootstrap.servers'] }}}}",  # a connection without it fails the task
        "KAFKA_SECURITY_PROTOCOL": f"{{{{ ({extra}['security.protocol'] | default('', true)) | upper }}}}",
        "KAFKA_SASL_MECHANISM": f"{{{{ {extra}['sasl.mechanism'] | default('', true) }}}}",
        "KAFKA_SASL_USERNAME": f"{{{{ {extra}['sasl.username'] | default('', true) }}}}",
        "KAFKA_SASL_PASSWORD": f"{{{{ {extra}['sasl.password'] | default('', true) }}}}",
    }


def alert() -> list:
    """Tells people of a run that failed for good."""
    if not (topic_arn := setting("SNS_TOPIC_ARN")):
        return []
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

    message = "{{ run_id }}: {{ ti.task_id }} failed (try {{ ti.try_number }}): {{ (exception | string)[:1000] }}"
    return [SnsNotifier(target_arn=topic_arn, subject="{{ dag.dag_id }} failed", message=message)]


with DAG(
    dag_id="crypto_producer",
    description="Crypto prices to Kafka, every five minutes",
    doc_md=__doc__,
    schedule=setting("PRODUCER_SCHEDULE", "*/5 * * * *"),
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    tags=["crypto", "kafka"],
    default_args={
        "owner": "data",
        "retries": 1,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(minutes=2),  # a SIGKILL, so RUN_DEADLINE has to be shorter
        "on_failure_callback": alert(),
    },
) as dag:
    produce = DockerOperator(
        task_id="produce",
        image=setting("PRODUCER_IMAGE", "coinduit-producer:latest"),
        network_mode=setting("PRODUCER_NETWORK", "host"),
        # Not private_environment: that is neither rendered nor masked. From a connection a secret is *** in the UI and
        # in logs.
        environment={
            "API_KEY": "{{ conn.crypto_api.password or '' }}",
            **kafka(),
            "KAFKA_TOPIC": TOPIC,
            "KAFKA_SSL_CA_FILE": "/ca.pem" if CA_FILE else "",
            "RUN_DEADLINE": "90s",
            "NO_COLOR": "1",  # colours are for a terminal, and tty makes one
            **{name: value for name in PASSED_ON if (value := setting(name))},
        },
        mounts=[Mount(source=CA_FILE, target="/ca.pem", type="bind", read_only=True)] if CA_FILE else [],
        user="65532:65532",
        mem_limit="128m",
        mount_tmp_dir=False,
        auto_remove="force",  # "success" leaves the container running after a time-out
        tty=True,  # one stream, so that the last line of output, the XCom, is the summary
        skip_on_exit_code=99,
        outlets=[Asset(f"kafka://{KAFKA_CONN or SERVERS.split(',')[0]}/{TOPIC}")],
    )
    produce.template_ext = ()  # else a value that ends in .sh or .env is taken for the name of a template
