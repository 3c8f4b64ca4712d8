"""The embedded stack (`coinduit-local`): a Kafka broker, the price API and S3 on loopback."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = Path(os.environ["COINDUIT_LOCAL"])


class Stack:
    """One stack of its own, with free ports unless `arguments` say which."""

    def __init__(self, *arguments: str):
        self.folder = Path(tempfile.mkdtemp(prefix="coinduit-airflow-"))
        file = self.folder / "env"
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "RUST_LOG": "warn"}
        command = [PROGRAM, "--no-lambda", "--data-dir", self.folder / "data", "--env-file", file, *arguments]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while not file.exists():
                assert self.process.poll() is None, "coinduit-local ended, see its log above"
                assert time.monotonic() < deadline, "coinduit-local is not up after 30 s"
                time.sleep(0.02)
            lines = (shlex.split(line)[1] for line in file.read_text().splitlines())
            self.environment = dict(line.split("=", 1) for line in lines)
        except BaseException:
            self.stop()
            raise

    def for_the_dag(self) -> dict[str, str]:
        """The variables that make the DAG use this stack, but for the key."""
        return {name: self.environment[name] for name in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "API_URL")}

    def lines(self) -> list[dict]:
        """What is on the topic, as the consumer stores it."""
        consumer = PROGRAM.with_name("consumer")
        environment = {**self.environment, "PATH": os.environ["PATH"], "RUST_LOG": "warn", "HTTP_ADDR": "off"}
        subprocess.run([consumer, "--exit-at-end"], env=environment, check=True, timeout=60)
        objects = (self.folder / "data" / "s3").glob("*/*/partition=*/*.jsonl")
        return [json.loads(line) for one in objects for line in one.read_text().splitlines()]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)
