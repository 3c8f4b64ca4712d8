"""The Docker engine, and what it did with the image under test."""

from __future__ import annotations

import io
import threading
import time
import uuid

import docker

LABEL = "coinduit.airflow-test"


class Engine:
    """`image` by a name of its own, with a label that its containers inherit, so that no other's are counted."""

    def __init__(self, image: str):
        self.client = docker.from_env()
        self.mark = f"{LABEL}={uuid.uuid4().hex}"
        self.image = f"coinduit-airflow-test:{self.mark[-32:]}"
        recipe = f"FROM {image}\nLABEL {self.mark}\n".encode()
        self.client.images.build(fileobj=io.BytesIO(recipe), tag=self.image, rm=True)
        # Listened to all the time, because the engine itself remembers few of its events.
        filters = {"type": "container", "label": self.mark}
        self.events = self.client.events(since=f"{time.time():.6f}", filters=filters, decode=True)
        self.heard: list[tuple[str, str, str]] = []
        self.told = 0
        threading.Thread(target=self.listen, daemon=True).start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_):
        self.events.close()
        for container in self.containers():
            container.remove(force=True)
        self.client.images.remove(self.image)
        self.client.close()

    def containers(self) -> list:
        """Those that are there, whatever they do."""
        return self.client.containers.list(all=True, filters={"label": self.mark}, ignore_removed=True)

    def listen(self):
        for event in self.events:
            attributes = event["Actor"]["Attributes"]
            detail = attributes.get("signal") or attributes.get("exitCode") or ""
            self.heard.append((event["Actor"]["ID"], attributes["name"], f"{event['Action']} {detail}".strip()))

    def history(self, container: str | None = None) -> list[str]:
        """What became of the containers since the last call, or of this one ever.

        Such as `create`, `start`, `kill 15`, `die 1`, `destroy`.
        """
        # Events come in order: when this container's are here, so are those of all before it.
        last = self.client.containers.create(self.image, name=f"{LABEL}-{uuid.uuid4().hex}")
        last.remove()
        deadline = time.monotonic() + 30
        while (last.id, last.name, "destroy") not in self.heard:
            assert time.monotonic() < deadline, "the engine tells nothing of its containers"
            time.sleep(0.02)
        begin, end = (0 if container else self.told), len(self.heard)
        if not container:
            self.told = end
        return [
            what
            for whose, name, what in self.heard[begin:end]
            if container in (None, whose) and not name.startswith(LABEL)
            if what.split()[0] in ("create", "start", "kill", "die", "destroy")
        ]
