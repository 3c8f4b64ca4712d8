"""The batched script that data engineers write: confluent-kafka (librdkafka, in C) and boto3.

Reads a topic from its beginning to the ends seen at the start, writes newline JSON objects of at most 50,000 records or
8 MiB, and commits once, at the end. It does not look at the values, does not survive a crash without repeating
what it had stored, and keeps what it holds without a limit.

The environment is the consumer's: KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPIC, KAFKA_GROUP_ID, S3_BUCKET, AWS_*.
Needs: pip install confluent-kafka boto3.
"""

import os

import boto3
from confluent_kafka import Consumer, KafkaError, TopicPartition

RECORDS = 50_000
BYTES = 8 << 20
AT_ONCE = 10_000


class Objects:
    """What is to be stored of one partition."""

    def __init__(self, store, partition):
        self.store, self.partition = store, partition
        self.clear()

    def clear(self):
        self.lines, self.bytes, self.first = [], 0, None

    def add(self, message):
        value = message.value()
        if self.lines and (len(self.lines) >= RECORDS or self.bytes + len(value) + 1 > BYTES):
            self.flush()
        if self.first is None:
            self.first = message.offset()
        self.lines.append(value)
        self.bytes += len(value) + 1

    def flush(self):
        if self.lines:
            self.store(f"partition={self.partition}/{self.first:020}.jsonl", b"\n".join(self.lines) + b"\n")
        self.clear()


def main():
    topic, bucket = os.environ["KAFKA_TOPIC"], os.environ["S3_BUCKET"]
    s3 = boto3.client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3"), region_name=os.environ.get("AWS_REGION"))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": os.environ["KAFKA_GROUP_ID"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in partitions}

    def store(name, body):
        s3.put_object(Bucket=bucket, Key=f"{topic}/{name}", Body=body)

    objects = {p: Objects(store, p) for p in partitions}
    left = {p for p, end in ends.items() if end > 0}
    consumer.subscribe([topic])
    while left:
        for message in consumer.consume(AT_ONCE, timeout=1.0):
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise SystemExit(str(message.error()))
            partition = message.partition()
            objects[partition].add(message)
            if message.offset() + 1 >= ends[partition]:
                left.discard(partition)
    for one in objects.values():
        one.flush()
    consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main()
