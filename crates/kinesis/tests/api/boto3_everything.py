"""Calls every operation once, with the types that boto3 makes of the answers.

Where it says "settle" on stdout, somebody lets the service's clock run past the time that streams and consumers take to
settle, and answers with a line.
"""

import datetime
import sys

import boto3
from botocore.exceptions import ClientError

kinesis = boto3.client("kinesis", endpoint_url=sys.argv[1])


def settle():
    print("settle", flush=True)
    assert sys.stdin.readline(), "nobody answers"


def status(name):
    return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"]


for name in ("one", "two", "three"):
    kinesis.create_stream(StreamName=name, ShardCount=1, Tags={"made": "by boto3"})
kinesis.create_stream(StreamName="four", StreamModeDetails={"StreamMode": "ON_DEMAND"})
for expected in ("CREATING", "ACTIVE"):
    for name in ("one", "two", "three", "four"):
        assert status(name) == expected, name
    settle()
pages = kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 3})
assert [name for page in pages for name in page["StreamNames"]] == ["four", "one", "three", "two"]
limits = kinesis.describe_limits()
assert limits["OpenShardCount"] == 7 and limits["OnDemandStreamCount"] == 1, limits

description = kinesis.describe_stream(StreamName="one")["StreamDescription"]
arn = description["StreamARN"]
assert isinstance(description["StreamCreationTimestamp"], datetime.datetime)
shard = description["Shards"][0]["ShardId"]

put = kinesis.put_record(StreamARN=arn, Data=b"\x00\xff binary", PartitionKey="k", ExplicitHashKey="7")
moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)
for how in (
    {"ShardIteratorType": "TRIM_HORIZON"},
    {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": put["SequenceNumber"]},
    {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment},
):
    iterator = kinesis.get_shard_iterator(StreamARN=arn, ShardId=shard, **how)["ShardIterator"]
    record = kinesis.get_records(ShardIterator=iterator, Limit=10)["Records"][0]
    assert record["Data"] == b"\x00\xff binary"
    # The service's clock is ahead by what it took to settle.
    assert 0 < (record["ApproximateArrivalTimestamp"] - moment).total_seconds() < 3600

kinesis.add_tags_to_stream(StreamName="one", Tags={"colour": "red"})
tags = {tag["Key"]: tag["Value"] for tag in kinesis.list_tags_for_stream(StreamName="one")["Tags"]}
assert tags == {"colour": "red", "made": "by boto3"}, tags
kinesis.remove_tags_from_stream(StreamName="one", TagKeys=["colour"])
kinesis.tag_resource(ResourceARN=arn, Tags={"colour": "blue"})
tags = {tag["Key"]: tag["Value"] for tag in kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"]}
assert tags == {"colour": "blue", "made": "by boto3"}, tags
kinesis.untag_resource(ResourceARN=arn, TagKeys=["colour"])
for change in (
    lambda: kinesis.increase_stream_retention_period(StreamName="one", RetentionPeriodHours=48),
    lambda: kinesis.decrease_stream_retention_period(StreamName="one", RetentionPeriodHours=24),
    lambda: kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=2048),
    lambda: kinesis.enable_enhanced_monitoring(StreamName="one", ShardLevelMetrics=["ALL"]),
    lambda: kinesis.disable_enhanced_monitoring(StreamName="one", ShardLevelMetrics=["ALL"]),
    lambda: kinesis.start_stream_encryption(StreamName="one", EncryptionType="KMS", KeyId="alias/aws/kinesis"),
    lambda: kinesis.stop_stream_encryption(StreamName="one", EncryptionType="KMS", KeyId="alias/aws/kinesis"),
):
    change()
    assert status("one") == "UPDATING"
    try:
        change()
    except kinesis.exceptions.ResourceInUseException:
        settle()
    else:
        raise AssertionError("changed while it is updated")
kinesis.update_shard_count(StreamName="one", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
assert status("one") == "UPDATING"
settle()
assert status("one") == "ACTIVE"
kinesis.merge_shards(
    StreamName="one", ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
)
assert status("one") == "UPDATING"
settle()
assert status("one") == "ACTIVE"
kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
settle()
at_latest = kinesis.list_shards(StreamName="one", ShardFilter={"Type": "AT_LATEST"})["Shards"]
assert [shard["ShardId"] for shard in at_latest] == ["shardId-000000000003"], at_latest

consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="fan")["Consumer"]
assert consumer["ConsumerStatus"] == "CREATING"
for expected in ("CREATING", "ACTIVE"):
    described = kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])["ConsumerDescription"]
    assert described["ConsumerStatus"] == expected, described
    settle()
assert kinesis.list_stream_consumers(StreamARN=arn)["Consumers"][0]["ConsumerName"] == "fan"
events = kinesis.subscribe_to_shard(
    ConsumerARN=consumer["ConsumerARN"], ShardId=shard, StartingPosition={"Type": "TRIM_HORIZON"}
)["EventStream"]
seen = [event["SubscribeToShardEvent"] for event in events]
assert [record["Data"] for event in seen for record in event["Records"]] == [b"\x00\xff binary"]
assert len(seen[-1]["ChildShards"]) == 2, seen
kinesis.deregister_stream_consumer(ConsumerARN=consumer["ConsumerARN"])

for code, call in {
    "ResourceNotFoundException": lambda: kinesis.describe_stream(StreamName="none"),
    "ResourceInUseException": lambda: kinesis.create_stream(StreamName="one", ShardCount=1),
    "InvalidArgumentException": lambda: kinesis.get_records(ShardIterator="x"),
    "LimitExceededException": lambda: kinesis.create_stream(StreamName="x", ShardCount=100_000),
    "ValidationException": lambda: kinesis.put_record(StreamName="two", Data=b"x", PartitionKey="k" * 257),
}.items():
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
    else:
        raise AssertionError(code)
for name in ("one", "two", "three", "four"):
    kinesis.delete_stream(StreamName=name)
print("done")
