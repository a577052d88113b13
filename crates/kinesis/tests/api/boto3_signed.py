"""Signs with the right secret, with a wrong one, and as somebody unknown."""

import sys

import boto3
from botocore.exceptions import ClientError

kinesis = boto3.client("kinesis", endpoint_url=sys.argv[1])
kinesis.create_stream(StreamName="signed", ShardCount=1)
kinesis.put_record(StreamName="signed", Data=b"x" * 100_000, PartitionKey="ü")

for code, identity in {
    "InvalidSignatureException": {"aws_secret_access_key": "wrong"},
    "UnrecognizedClientException": {"aws_access_key_id": "STRANGER", "aws_secret_access_key": "wrong"},
}.items():
    identity.setdefault("aws_access_key_id", "AKIDEXAMPLE")
    other = boto3.client("kinesis", endpoint_url=sys.argv[1], **identity)
    try:
        other.delete_stream(StreamName="signed")
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
    else:
        raise AssertionError(code)
summary = kinesis.describe_stream_summary(StreamName="signed")["StreamDescriptionSummary"]
assert summary["StreamARN"].split(":")[3] == kinesis.meta.region_name, summary
assert kinesis.list_streams()["StreamNames"] == ["signed"]
print("done")
