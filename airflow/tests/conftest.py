"""What the tests share: the DAG as a user's environment makes it, an engine's image, the embedded stack."""

from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from sns import Sns
from stack import Stack

DAGS = Path(__file__).parent.parent / "dags"
OURS = ["KAFKA_", "PRODUCER_", "API_", "AWS_", "SNS_", "AIRFLOW_CONN_", "COINS", "CODES", "CURRENCY", "MIN_CREDITS"]
OURS += ["REQUEST_TIMEOUT", "RUST_LOG"]
IMAGE = os.environ.get("PRODUCER_IMAGE") or "coinduit-producer:latest"
KEY = "airflow-test-key-4711"


def pytest_configure(config):
    config.addinivalue_line("markers", "docker: runs the real image, which needs a Docker engine")
    # Told to stop, a test takes along what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch):
    for name in list(os.environ):
        if name.startswith(tuple(OURS)):
            monkeypatch.delenv(name)


@pytest.fixture
def load(monkeypatch):
    """Loads the DAG as Airflow does, with these variables in Airflow's environment."""

    def load(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            from airflow.dag_processing.dagbag import DagBag
        except ImportError:
            from airflow.models import DagBag
        bag = DagBag(str(DAGS))
        assert not bag.import_errors
        return bag.dags["crypto_producer"]

    return load


@pytest.fixture(scope="session")
def database():
    """Airflow's own, in the throw-away AIRFLOW_HOME."""
    home = Path(os.environ["AIRFLOW_HOME"])
    home.mkdir(exist_ok=True)
    shutil.copy(os.environ["EMPTY_DATABASE"], home / "airflow.db")


@pytest.fixture(scope="session")
def engine():
    """The Docker engine, with the image under test by a name of its own, which shows whose containers there are."""
    from engine import Engine

    with Engine(IMAGE) as engine:
        yield engine


@pytest.fixture
def stack():
    """Starts embedded stacks: a broker and a price API that may do wrong."""
    started = []

    def start(*arguments):
        started.append(Stack(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def sns():
    """A stand-in for SNS."""
    here = Sns()
    yield here
    here.stop()


@pytest.fixture
def run(load, engine):
    """Runs the DAG once, in this process, with these variables in Airflow's environment."""

    def run(environment, **attributes):
        key = json.dumps({"conn_type": "generic", "password": KEY})
        engine.history()
        dag = load(**{"AIRFLOW_CONN_CRYPTO_API": key, "PRODUCER_IMAGE": engine.image, **environment})
        task = dag.get_task("produce")
        for name, value in {"retry_delay": timedelta(seconds=1), **attributes}.items():
            setattr(task, name, value)
        return Run(dag.test(), engine)

    return run


class Run:
    """What came of it."""

    def __init__(self, dag_run, engine):
        [self.instance] = dag_run.get_task_instances()
        self.states = (str(getattr(dag_run.state, "value", dag_run.state)), str(self.instance.state))
        self.tries = self.instance.try_number
        self.left_behind = engine.containers()
        self.history = engine.history()

    def xcom(self):
        """The summary; Airflow 3 has read it already."""
        value = self.instance.xcom_pull(task_ids="produce")
        # Docker providers before 4.5.5 take the last chunk of output, which may be several lines.
        return json.loads(value.splitlines()[-1]) if isinstance(value, str) else value
