"""Creates a stream, puts 10,000 records in batches, splits a shard, reads all shards to their ends, deletes the stream.

Nothing about it is particular to this service but the endpoint.
"""

import sys

import boto3

kinesis = boto3.client("kinesis", endpoint_url=sys.argv[1])
STREAM, COUNT, BATCH = "walk", 10_000, 500

kinesis.create_stream(StreamName=STREAM, ShardCount=2)
kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})


def put(first, last):
    for start in range(first, last, BATCH):
        records = [
            {"Data": b"record %d" % n, "PartitionKey": "key-%d" % (n % 100)}
            for n in range(start, start + BATCH)
        ]
        answer = kinesis.put_records(StreamName=STREAM, Records=records)
        assert answer["FailedRecordCount"] == 0, answer
        assert len(answer["Records"]) == BATCH


put(0, COUNT // 2)
parent = kinesis.list_shards(StreamName=STREAM)["Shards"][0]
keys = parent["HashKeyRange"]
middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
kinesis.split_shard(StreamName=STREAM, ShardToSplit=parent["ShardId"], NewStartingHashKey=str(middle))
kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
put(COUNT // 2, COUNT)

read, order = set(), {}
shards = kinesis.list_shards(StreamName=STREAM)["Shards"]
assert len(shards) == 4, shards
closed = 0
for shard in shards:
    iterator = kinesis.get_shard_iterator(
        StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    previous = 0
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator)
        for record in answer["Records"]:
            number = int(record["SequenceNumber"])
            assert number > previous
            previous = number
            n = int(record["Data"].split()[1])
            assert record["PartitionKey"] == "key-%d" % (n % 100)
            assert n > order.get(record["PartitionKey"], -1), "each key keeps its order across the split"
            order[record["PartitionKey"]] = n
            assert n not in read
            read.add(n)
        iterator = answer.get("NextShardIterator")
        if not answer["Records"] and iterator and answer["MillisBehindLatest"] == 0:
            break
    if not iterator:
        closed += 1
        assert shard is shards[0] and len(answer["ChildShards"]) == 2, answer
assert read == set(range(COUNT)), len(read)
assert closed == 1

kinesis.delete_stream(StreamName=STREAM)
kinesis.get_waiter("stream_not_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
assert kinesis.list_streams()["StreamNames"] == []
print("done")
