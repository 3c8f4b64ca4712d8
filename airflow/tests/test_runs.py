"""Real runs of the real image by DockerOperator, in this process (`dag.test()`)."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import certifi
import pytest

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("database")]


def test_prices_are_published_and_the_summary_is_the_xcom(run, stack):
    here = stack()
    result = run({**here.for_the_dag(), "COINS": "60"})
    assert result.states == ("success", "success")
    summary = result.xcom()
    assert (summary["status"], summary["records"], summary["topic"]) == ("published", 60, "crypto_prices")
    lines = here.lines()
    assert len({line["code"] for line in lines}) == len(lines) == 60
    assert {line["timestamp"] for line in lines} == {summary["fetched_at"]}
    assert (result.history, result.left_behind) == (["create", "start", "die 0", "destroy"], [])


def test_a_run_that_fails_is_tried_again(run, stack):
    here = stack("--api-fault", "status:400x1")
    result = run(here.for_the_dag())
    assert (result.states, result.tries) == (("success", "success"), 2)
    assert result.xcom()["records"] == len(here.lines()) == 50
    once = ["create", "start", "die 1", "destroy"]
    assert (result.history, result.left_behind) == ([*once, "create", "start", "die 0", "destroy"], [])


def test_a_run_that_fails_twice_has_failed(run, stack):
    here = stack("--api-fault", "status:401")
    result = run(here.for_the_dag())
    assert (result.states, result.tries) == (("failed", "failed"), 2)
    assert (result.history.count("die 2"), result.left_behind, here.lines()) == (2, [], [])


def test_too_few_credits_skip_the_task(run, stack):
    here = stack("--api-fault", "credits:50")
    result = run(here.for_the_dag())
    assert (result.states, result.tries) == (("success", "skipped"), 1)
    assert (result.xcom(), here.lines()) == (None, [])
    assert (result.history, result.left_behind) == (["create", "start", "die 99", "destroy"], [])


def test_a_time_out_leaves_nothing_behind(run, stack):
    here = stack("--api-fault", "hang")
    result = run(here.for_the_dag(), execution_timeout=timedelta(seconds=3), retries=0)
    assert result.states == ("failed", "failed")
    assert result.left_behind == [] and result.history[-1] == "destroy"
    assert "kill 9" in result.history
    assert here.lines() == []


def test_settings_of_the_kafka_connection_reach_the_producer(run, stack, capfd):
    here = stack()
    extra = {"bootstrap.servers": here.environment["KAFKA_BOOTSTRAP_SERVERS"]}

    def with_connection(**more):
        connection = json.dumps({"conn_type": "kafka", "extra": {**extra, **more}})
        named = {"AIRFLOW_CONN_BROKERS": connection, "PRODUCER_KAFKA_CONN": "brokers"}
        return {"API_URL": here.environment["API_URL"], **named}

    assert run(with_connection()).states == ("success", "success")
    # The embedded broker knows no logins.
    login = {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "u", "sasl.password": "airflow-test-password-4711"}
    refused = run(with_connection(**{"security.protocol": "SASL_PLAINTEXT"}, **login), retries=0)
    assert refused.states == ("failed", "failed")
    output = "".join(capfd.readouterr())
    assert '"stage":"connect"' in output
    assert "airflow-test-password-4711" not in output


def test_the_file_of_authorities_reaches_the_producer(run, stack, tmp_path, capfd):
    here = stack()
    authorities = tmp_path / "ca.pem"
    shutil.copy(certifi.where(), authorities)
    authorities.chmod(0o644)
    over_tls = {"PRODUCER_CA_FILE": str(authorities), "KAFKA_SECURITY_PROTOCOL": "SSL"}
    # It is read, and the embedded broker knows no TLS.
    assert run({**here.for_the_dag(), **over_tls}, retries=0).states == ("failed", "failed")
    assert '"stage":"connect"' in "".join(capfd.readouterr())
    authorities.write_text("no certificate")
    assert run({**here.for_the_dag(), **over_tls}, retries=0).states == ("failed", "failed")
    output = "".join(capfd.readouterr())
    assert '"stage":"config"' in output and "KAFKA_SSL_CA_FILE" in output
