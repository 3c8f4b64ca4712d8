"""An SNS that keeps what is published. The notifier names the topic as `TargetArn`."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

ANSWER = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
TOPIC = "arn:aws:sns:eu-west-1:000000000000:alerts"


class Sns:
    def __init__(self):
        self.published = published = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                published.append(dict(parse_qsl(body.decode())))
                self.send_response(200)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def for_the_dag(self) -> dict[str, str]:
        """The variables that make the DAG use it."""
        return {
            "SNS_TOPIC_ARN": TOPIC,
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "AWS_ENDPOINT_URL_SNS": f"http://127.0.0.1:{self.server.server_port}",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
