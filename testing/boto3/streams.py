"""A first program against Kinesis: puts 10,000 records, splits a shard half-way, reads every shard to its end.

    python3 streams.py http://127.0.0.1:4567

Nothing about it is particular to one service but the endpoint. Credentials and region are looked for where boto3 always
looks; a service that verifies no signatures takes any. One line of JSON with counts goes to stdout. What is not as it
should be goes to stderr, and the exit code is then 1.
"""

import hashlib
import json
import os
import sys
import time

import boto3

COUNT, BATCH = 10_000, 500
# As many keys as records in a batch, so that each key is in a batch once: a record that failed can be put again without
# being overtaken by a later one of its key.
KEYS = BATCH
STREAM = "first-%d" % os.getpid()
MOST_ATTEMPTS = 10


def check(holds, what):
    if not holds:
        sys.exit("streams.py: " + what)


def record(n):
    """Record n: a key, and bytes that are no text."""
    noise = hashlib.sha256(b"%d" % n).digest() * (n % 20)
    return {"PartitionKey": "key-%d" % (n % KEYS), "Data": b"%d:" % n + noise}


def put(kinesis, numbers):
    """Puts records in batches, again where some of them failed. Returns how many had to be put again."""
    again = 0
    for start in range(numbers.start, numbers.stop, BATCH):
        records = [record(n) for n in range(start, min(start + BATCH, numbers.stop))]
        for attempt in range(MOST_ATTEMPTS):
            # A shard that had its share of a second takes more in the next one.
            time.sleep(0.2 * attempt)
            answer = kinesis.put_records(StreamName=STREAM, Records=records)
            check(len(answer["Records"]) == len(records), "an answer for each record is expected")
            failed = [put for put, told in zip(records, answer["Records"]) if "ErrorCode" in told]
            check(len(failed) == answer["FailedRecordCount"], "FailedRecordCount is wrong: %s" % answer)
            records = failed
            if not records:
                break
            again += len(records)
        check(not records, "%d records failed %d times" % (len(records), MOST_ATTEMPTS))
    return again


def split_first_shard(kinesis):
    shard = kinesis.list_shards(StreamName=STREAM)["Shards"][0]
    keys = shard["HashKeyRange"]
    middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
    return shard["ShardId"]


class Reader:
    """What was read so far, over all shards."""

    def __init__(self):
        self.seen = set()
        self.newest = {}

    def take(self, answered):
        data, key = answered["Data"], answered["PartitionKey"]
        n = int(data.split(b":")[0])
        check({"PartitionKey": key, "Data": data} == record(n), "record %d came back changed" % n)
        check(n not in self.seen, "record %d came back twice" % n)
        newest = self.newest.get(key, -1)
        check(n > newest, "record %d came after record %d of its key" % (n, newest))
        self.seen.add(n)
        self.newest[key] = n


def read_to_end(kinesis, shard, reader):
    """Reads a shard from its beginning. Returns its children where it is closed, else None."""
    iterator = kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    iterator, previous, answer = iterator["ShardIterator"], 0, {}
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator)
        for answered in answer["Records"]:
            number = int(answered["SequenceNumber"])
            check(number > previous, "sequence numbers of %s do not ascend" % shard)
            previous = number
            reader.take(answered)
        iterator = answer.get("NextShardIterator")
        if iterator and not answer["Records"] and answer["MillisBehindLatest"] == 0:
            return None
    return [child["ShardId"] for child in answer.get("ChildShards", [])]


def walk(kinesis):
    active = kinesis.get_waiter("stream_exists")
    active.wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
    first_shards = [shard["ShardId"] for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]]

    again = put(kinesis, range(0, COUNT // 2))
    parent = split_first_shard(kinesis)
    # A stream whose shards change takes records all the while.
    again += put(kinesis, range(COUNT // 2, COUNT))
    active.wait(StreamName=STREAM, WaiterConfig={"Delay": 1})

    reader, to_read, closed = Reader(), list(first_shards), []
    for shard in to_read:
        children = read_to_end(kinesis, shard, reader)
        if children is not None:
            closed.append(shard)
            # Behind what is still to be read, and so after their parent.
            to_read.extend(child for child in children if child not in to_read)
    listed = {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]}
    check(set(to_read) == set(listed), "ChildShards and ListShards name different shards")
    check(closed == [parent], "closed are %s, split was %s" % (closed, parent))
    children = [shard for shard in listed.values() if shard.get("ParentShardId") == parent]
    check(len(children) == 2, "the shard that was split has %d children" % len(children))
    check(reader.seen == set(range(COUNT)), "%d of %d records came back" % (len(reader.seen), COUNT))
    return {
        "put": COUNT,
        "put_again": again,
        "read": len(reader.seen),
        "keys": len(reader.newest),
        "shards": len(listed),
        "closed_shards": len(closed),
    }


def main():
    check(len(sys.argv) == 2, "the URL of a Kinesis endpoint is wanted")
    kinesis = boto3.client("kinesis", endpoint_url=sys.argv[1])
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    try:
        counts = walk(kinesis)
    finally:
        kinesis.delete_stream(StreamName=STREAM)
    kinesis.get_waiter("stream_not_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
    print(json.dumps(counts))


main()
