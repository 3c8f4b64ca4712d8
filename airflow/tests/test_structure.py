"""The DAG as it is loaded: no engine, no database."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta

import pytest
from airflow.models import Connection


def schedule(dag) -> str:
    timetable = dag.timetable
    return getattr(timetable, "expression", None) or timetable._expression


def rendered(dag, **connections) -> dict:
    """The container's environment, with these connections."""
    task = dag.get_task("produce")
    known = {"crypto_api": Connection(conn_id="crypto_api", conn_type="generic", password="k"), **connections}
    return task.render_template(task.environment, {"conn": known}, task.get_template_env())


def kafka(**extra) -> Connection:
    return Connection(conn_id="my-kafka", conn_type="kafka", extra=json.dumps(extra))


def test_it_loads_without_a_warning_of_its_own(load):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert [str(one.message) for one in caught if "crypto_producer" in str(one.filename)] == []


def test_one_run_at_a_time_every_five_minutes_and_none_of_the_past(load):
    dag = load()
    assert (schedule(dag), dag.max_active_runs, dag.catchup) == ("*/5 * * * *", 1, False)
    assert {"crypto", "kafka"} <= set(dag.tags)
    assert "`PRODUCER_KAFKA_CONN`" in dag.doc_md


def test_the_schedule_is_a_setting(load):
    assert schedule(load(PRODUCER_SCHEDULE="*/15 * * * *")) == "*/15 * * * *"


def test_both_tries_end_before_the_run_does_and_the_producer_before_a_try(load):
    dag = load()
    task = dag.get_task("produce")
    assert task.retries == 1
    tries = task.execution_timeout * 2 + task.retry_delay
    assert tries < timedelta(minutes=5) < dag.dagrun_timeout
    deadline = timedelta(seconds=int(task.environment["RUN_DEADLINE"].removesuffix("s")))
    assert deadline < task.execution_timeout


def test_the_container_is_harmless_and_is_removed(load):
    task = load().get_task("produce")
    assert (task.auto_remove, task.mount_tmp_dir, task.tty) == ("force", False, True)
    assert (task.user, task.mem_limit, task.skip_on_exit_code) == ("65532:65532", "128m", [99])
    assert task.image == "coinduit-producer:latest" and task.network_mode == "host"


def test_an_empty_variable_counts_as_unset(load):
    dag = load(PRODUCER_IMAGE="", KAFKA_TOPIC=" ", PRODUCER_SCHEDULE="", COINS="", SNS_TOPIC_ARN="")
    task = dag.get_task("produce")
    assert (task.image, task.environment["KAFKA_TOPIC"]) == ("coinduit-producer:latest", "crypto_prices")
    assert "COINS" not in task.environment and schedule(dag) == "*/5 * * * *"


def test_what_is_set_for_the_producer_is_passed_on(load):
    environment = rendered(load(COINS="200", CURRENCY="EUR", API_URL="https://prices.example.sh", KAFKA_TOPIC="p"))
    assert environment["COINS"] == "200" and environment["CURRENCY"] == "EUR"
    # Not taken for the name of a template, though it ends in .sh.
    assert environment["API_URL"] == "https://prices.example.sh"
    assert environment["KAFKA_TOPIC"] == "p"


def test_the_key_is_the_connections_and_stands_nowhere_else(load):
    dag = load(KAFKA_BOOTSTRAP_SERVERS="broker:9092")
    assert dag.get_task("produce").environment["API_KEY"] == "{{ conn.crypto_api.password or '' }}"
    environment = rendered(dag)
    assert (environment["API_KEY"], environment["KAFKA_BOOTSTRAP_SERVERS"]) == ("k", "broker:9092")
    # The producer then says that there is no key.
    without = Connection(conn_id="crypto_api", conn_type="generic")
    assert rendered(dag, crypto_api=without)["API_KEY"] == ""


def test_login_settings_come_from_the_kafka_connection(load):
    login = {
        "bootstrap.servers": "broker:9093",
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
        "group.id": "not ours",
    }
    environment = rendered(load(PRODUCER_KAFKA_CONN="my-kafka"), **{"my-kafka": kafka(**login)})
    names = ["BOOTSTRAP_SERVERS", "SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD"]
    assert [environment[f"KAFKA_{name}"] for name in names] == ["broker:9093", "SASL_SSL", "SCRAM-SHA-512", "u", "p"]


def test_what_the_kafka_connection_does_not_have_stays_empty(load):
    connection = kafka(**{"bootstrap.servers": "broker:9092", "sasl.username": None})
    environment = rendered(load(PRODUCER_KAFKA_CONN="my-kafka"), **{"my-kafka": connection})
    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == "broker:9092"
    assert {environment[f"KAFKA_{name}"] for name in ("SECURITY_PROTOCOL", "SASL_MECHANISM")} == {""}
    assert {environment[f"KAFKA_SASL_{name}"] for name in ("USERNAME", "PASSWORD")} == {""}


def test_a_kafka_connection_without_brokers_is_an_error(load):
    with pytest.raises(Exception, match="bootstrap.servers"):
        rendered(load(PRODUCER_KAFKA_CONN="my-kafka"), **{"my-kafka": kafka()})


def test_a_file_of_authorities_is_mounted_read_only(load):
    task = load(PRODUCER_CA_FILE="/etc/kafka/ca.pem", KAFKA_SECURITY_PROTOCOL="SSL").get_task("produce")
    [mount] = task.mounts
    assert (mount["Source"], mount["Type"], mount["ReadOnly"]) == ("/etc/kafka/ca.pem", "bind", True)
    assert task.environment["KAFKA_SSL_CA_FILE"] == mount["Target"]
    assert task.environment["KAFKA_SECURITY_PROTOCOL"] == "SSL"
    assert load(PRODUCER_CA_FILE="").get_task("produce").environment["KAFKA_SSL_CA_FILE"] == ""


def test_others_can_wait_for_the_topic(load):
    [outlet] = load(KAFKA_BOOTSTRAP_SERVERS="a:9092,b:9092", KAFKA_TOPIC="p").get_task("produce").outlets
    assert outlet.uri == "kafka://a:9092/p"
    [outlet] = load(PRODUCER_KAFKA_CONN="my-kafka").get_task("produce").outlets
    assert outlet.uri == "kafka://my-kafka/p"
