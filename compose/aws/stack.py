"""Deploys Coinduit's stack on the AWS emulator, and counts what has arrived in its tables.

    stack.py deploy    the template with the function's zip, as `make deploy` does it on AWS
    stack.py rows [N]  how many rows both tables have, and the newest price; waits for N prices, a minute at most

It needs Python alone, as the emulator's image has it: the emulator checks no signature, so requests need none.
"""

import hashlib
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
STACK, CODE_BUCKET = "coinduit", "coinduit-code"
PARAMETERS = {
    "Architecture": {"aarch64": "arm64"}.get(os.uname().machine, "x86_64"),
    "BucketName": "coinduit",
    "PricesTable": "prices",
    "CoinsTable": "coins",
    # What fails shall be seen failing while one looks.
    "RetryAfter": "60",
}


def send(service, method="POST", path="/", body=b"", **headers):
    """Sends a request, and returns the body of the answer."""
    # The emulator reads from this which service is meant, and believes the rest.
    credential = f"Credential=test/20260101/us-east-1/{service}/aws4_request"
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers["Authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"
    request = urllib.request.Request(ENDPOINT + path, data=body or None, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise Refused(service, error.code, error.read().decode()) from None


class Refused(Exception):
    """The emulator's answer was an error."""

    def __init__(self, service, status, text):
        super().__init__(f"{service} answers {status}: {text}")
        self.text = text


def cloudformation(action, **parameters):
    form = urllib.parse.urlencode({"Action": action, "StackName": STACK, **parameters}).encode()
    return send("cloudformation", body=form, Content_Type="application/x-www-form-urlencoded")


def put_code():
    """Puts the function's zip into its bucket; its key changes with its content, so that a new one is deployed."""
    with open("/coinduit/bootstrap.zip", "rb") as file:
        code = file.read()
    key = hashlib.sha256(code).hexdigest()[:16] + ".zip"
    send("s3", "PUT", f"/{CODE_BUCKET}")
    send("s3", "PUT", f"/{CODE_BUCKET}/{key}", code, Content_Type="application/zip")
    return key


def template():
    with open("/coinduit/template.yaml", encoding="utf-8") as file:
        text = file.read()
    # The emulator takes a parameter for text where a number has to be.
    return text.replace("{MaximumConcurrency: !Ref MaximumConcurrency}", "{MaximumConcurrency: 10}")


def status():
    try:
        found = re.search("<StackStatus>(.*?)</StackStatus>", cloudformation("DescribeStacks"))
    except Refused:
        return None
    return found and found.group(1)


def deploy():
    parameters = PARAMETERS | {"CodeBucket": CODE_BUCKET, "CodeKey": put_code()}
    form = {"TemplateBody": template(), "Capabilities.member.1": "CAPABILITY_IAM"}
    for number, (key, value) in enumerate(parameters.items(), 1):
        form[f"Parameters.member.{number}.ParameterKey"] = key
        form[f"Parameters.member.{number}.ParameterValue"] = value
    try:
        cloudformation("UpdateStack" if status() else "CreateStack", **form)
    except Refused as refused:
        if "No updates are to be performed" not in refused.text:
            raise
    for _ in range(120):
        if (now := status()) in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            print(f"stack {STACK}: {now}")
            return
        if now is None or "FAILED" in now or "ROLLBACK" in now:
            break
        time.sleep(0.5)
    sys.exit(f"stack {STACK}: {now}\n" + cloudformation("DescribeStackEvents"))


def scan(table, **parameters):
    """All pages of a scan."""
    request = {"TableName": table, **parameters}
    while True:
        page = json.loads(
            send(
                "dynamodb",
                body=json.dumps(request).encode(),
                Content_Type="application/x-amz-json-1.0",
                X_Amz_Target="DynamoDB_20120810.Scan",
            )
        )
        yield page
        if "LastEvaluatedKey" not in page:
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def rows(at_least=0):
    end = time.monotonic() + 60
    while (found := count())["prices"] < at_least and time.monotonic() < end:
        time.sleep(0.5)
    print(json.dumps(found))
    if found["prices"] < at_least:
        sys.exit(f"{at_least} prices were expected within a minute; make logs shows what each part says")


def count():
    prices, newest = 0, None
    for page in scan("prices"):
        prices += page["Count"]
        newest = max([newest, *page["Items"]], key=lambda row: row["timestamp"]["S"] if row else "")
    coins = sum(page["Count"] for page in scan("coins", Select="COUNT"))
    summary = {"prices": prices, "coins": coins}
    if newest:
        summary["newest"] = {name: next(iter(newest[name].values())) for name in ("code", "rate", "timestamp")}
    return summary


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    {"deploy": deploy, "rows": rows}[verb](*map(int, arguments))
