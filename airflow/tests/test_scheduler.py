"""The scheduler itself, `airflow standalone`, runs the DAG; the facts are collected once and then judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import DAGS
from stack import Stack

pytestmark = pytest.mark.docker

# It is searched for in everything that Airflow has written.
KEY = "scheduler-test-key-4711"
# The same DAG in another environment: its API is silent, and the topic is called like the key, so that it is logged.
SILENT = f"""
import os
os.environ.update(API_URL=os.environ["SILENT_API_URL"], KAFKA_BOOTSTRAP_SERVERS=os.environ["SILENT_KAFKA"])
os.environ.update(KAFKA_TOPIC="{{{{ conn.crypto_api.password }}}}", PRODUCER_SCHEDULE="0 0 29 2 *")
dag = open({str(DAGS / "crypto_producer.py")!r}).read().replace('"crypto_producer"', '"silent"')
exec(compile(dag, "crypto_producer.py", "exec"))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def eventually(what: str, question, seconds: float):
    """The first answer that is true."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.2)
    return answer


class Standalone:
    """`airflow standalone` in a home and a session of its own, by which all its processes are known."""

    def __init__(self, home: Path, environment: dict[str, str]):
        self.home = home
        api, logs, triggers = free_ports(3)
        self.url = f"http://127.0.0.1:{api}"
        settings = {
            "CORE__DAGS_FOLDER": str(home / "dags"),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__PARALLELISM": "2",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(api),
            "API__WORKERS": "1",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(logs),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggers),
        }
        environment = {
            **os.environ,
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "AIRFLOW_HOME": str(home),
            # It calls the others by name.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        }
        self.log = home / "standalone.log"
        command = [Path(sys.executable).with_name("airflow"), "standalone"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.token = None

    def ask(self, path: str, body: dict | None = None):
        """An answer of the API; None where there is none yet."""
        try:
            if not self.token:
                with urllib.request.urlopen(f"{self.url}/auth/token", timeout=10) as answer:
                    self.token = json.load(answer)["access_token"]
            request = urllib.request.Request(
                f"{self.url}/api/v2/{path}",
                headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
                method="PATCH" if body else "GET",
                data=json.dumps(body).encode() if body else None,
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        except OSError:
            assert self.process.poll() is None, f"airflow ended:\n{self.log.read_text()[-3000:]}"
            return None

    def runs(self, dag: str, states: str = "success failed running queued") -> list[dict]:
        answer = self.ask(f"dags/{dag}/dagRuns?order_by=run_after") or {"dag_runs": []}
        return [run for run in answer["dag_runs"] if run["state"] in states.split()]

    def task(self, run: dict) -> dict:
        path = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/produce"
        return eventually("an answer about the task", lambda: self.ask(path), 60)

    def summary(self, run: dict) -> dict:
        path = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/produce/xcomEntries/return_value"
        return json.loads(eventually("the XCom", lambda: self.ask(path), 60)["value"])

    def change(self, path: str, body: dict):
        eventually(f"an answer to {body}", lambda: self.ask(path, body), 60)

    def task_log(self, run: dict) -> str:
        folder = self.home / "logs" / f"dag_id={run['dag_id']}" / f"run_id={run['dag_run_id']}" / "task_id=produce"
        return "".join(one.read_text() for one in sorted(folder.glob("attempt=*.log")))

    def processes(self) -> list[int]:
        mark = f"AIRFLOW_HOME={self.home}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # A process that has given itself a title has written it over its environment; one of another session has not.
                ours = os.getsid(int(process.name)) == self.process.pid
                if ours or mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:  # it has ended, or is another user's
                continue
        return [one for one in found if one != os.getpid()]

    def stop(self):
        """Ends all of it: a SIGTERM to the parent leaves the others running."""
        for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 20)):
            deadline = time.monotonic() + seconds
            while (alive := self.processes()) and time.monotonic() < deadline:
                for one in alive:
                    try:
                        os.kill(one, number)
                    except ProcessLookupError:
                        continue
                self.process.poll()
                time.sleep(0.5)
        self.process.wait(1)


@contextmanager
def stopped_at_the_end(*things):
    try:
        yield
    finally:
        for thing in things:
            thing.stop()


@dataclass
class Facts:
    """What happened."""

    runs: list[dict] = field(default_factory=list)
    tasks: list[dict] = field(default_factory=list)
    summaries: list[dict] = field(default_factory=list)
    lines: list[dict] = field(default_factory=list)
    marked: dict = field(default_factory=dict)
    marked_log: str = ""
    marked_history: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    left_behind: list = field(default_factory=list)
    still_running: list[int] = field(default_factory=list)
    with_the_key: list[str] = field(default_factory=list)
    console_with_the_key: list[str] = field(default_factory=list)


def mark_failed(airflow: Standalone, engine, api: str, facts: Facts):
    """Does to the silent run what the button does."""

    def container():
        return next((one for one in engine.containers() if f"API_URL={api}" in one.attrs["Config"]["Env"]), None)

    here = eventually("a container that waits for its API", container, 600)
    [run] = airflow.runs("silent")
    eventually("the container's log", lambda: "topic found" in airflow.task_log(run), 60)
    path = f"dags/silent/dagRuns/{run['dag_run_id']}/taskInstances/produce"
    airflow.change(path, {"new_state": "failed"})

    def ended():
        history = engine.history(here.id)
        return history if "destroy" in history else None

    facts.marked_history = eventually("the container is gone", ended, 30)
    eventually("the run's end", lambda: airflow.runs("silent", "failed"), 30)
    facts.marked = airflow.task(run)
    facts.marked_log = airflow.task_log(run)


@pytest.fixture(scope="module")
def facts(engine, tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(os.environ["EMPTY_DATABASE"], home / "airflow.db")
    (home / "dags" / "crypto_producer.py").symlink_to(DAGS / "crypto_producer.py")
    (home / "dags" / "silent.py").write_text(SILENT)
    facts = Facts()
    here, silent = Stack(), Stack("--topic", KEY, "--api-fault", "hang")
    environment = {
        **here.for_the_dag(),
        "AIRFLOW_CONN_CRYPTO_API": json.dumps({"conn_type": "generic", "password": KEY}),
        "PRODUCER_IMAGE": engine.image,
        "PRODUCER_SCHEDULE": "* * * * *",
        "SILENT_API_URL": silent.environment["API_URL"],
        "SILENT_KAFKA": silent.environment["KAFKA_BOOTSTRAP_SERVERS"],
    }
    engine.history()
    airflow = Standalone(home, environment)
    with stopped_at_the_end(airflow, here, silent):
        eventually("a run of the DAG", lambda: airflow.runs("silent"), 600)
        mark_failed(airflow, engine, silent.environment["API_URL"], facts)
        eventually("two runs", lambda: len(airflow.runs("crypto_producer", "success failed")) >= 2, 300)
        airflow.change("dags/crypto_producer", {"is_paused": True})
        eventually("no run is under way", lambda: not airflow.runs("crypto_producer", "running queued"), 60)
        facts.runs = airflow.runs("crypto_producer")
        for run in facts.runs:
            facts.tasks.append(airflow.task(run))
            facts.summaries.append(airflow.summary(run))
        facts.lines = here.lines()
        facts.left_behind, facts.history = engine.containers(), engine.history()
        airflow.stop()
        facts.still_running = airflow.processes()
        written = [one for one in home.rglob("*") if one.is_file()]
        assert any(one.suffix == ".db" for one in written) and any(one.suffix == ".log" for one in written)
        facts.with_the_key = [str(one) for one in written if one != airflow.log and KEY.encode() in one.read_bytes()]
        facts.console_with_the_key = [line for line in airflow.log.read_text().splitlines() if KEY in line]
        yield facts


def test_the_scheduler_runs_it_by_the_clock_one_run_after_the_other(facts):
    assert [run["state"] for run in facts.runs] == ["success"] * len(facts.runs) and len(facts.runs) >= 2
    assert {run["run_type"] for run in facts.runs} == {"scheduled"}
    for earlier, later in zip(facts.runs, facts.runs[1:]):
        assert earlier["end_date"] <= later["start_date"]


def test_every_run_has_published_and_its_summary_is_the_xcom(facts):
    assert [summary["status"] for summary in facts.summaries] == ["published"] * len(facts.runs)
    fetched = sorted(summary["fetched_at"] for summary in facts.summaries for _ in range(summary["records"]))
    assert sorted(line["timestamp"] for line in facts.lines) == fetched
    assert len({line["id"] for line in facts.lines}) == len(facts.lines) == 50 * len(facts.runs)


def test_a_run_that_is_marked_failed_stops_the_producer(facts):
    assert facts.marked["state"] == "failed"
    assert facts.marked_history == ["create", "start", "kill 15", "die 1", "destroy"]
    assert '\\"stage\\":\\"interrupted\\"' in facts.marked_log


def test_nothing_is_left_behind(facts):
    assert (facts.left_behind, facts.still_running) == ([], [])
    assert facts.history.count("create") == facts.history.count("destroy") == len(facts.runs) + 1


def test_the_key_is_starred_in_rendered_fields_and_logs_and_stands_nowhere_else(facts):
    for task in [*facts.tasks, facts.marked]:
        assert task["rendered_fields"]["environment"]["API_KEY"] == "***"
    assert 'topic found topic=\\"***\\"' in facts.marked_log
    assert facts.with_the_key == []
    # Airflow's scheduler copies what tasks log to its own output, and stars nothing there: so the producer must not
    # print the key, and only what was made to print it did.
    assert [line for line in facts.console_with_the_key if "dag_id=silent" not in line] == []
