"""Posts like the reference system's emulation scripts: no retries, no status check, `.json()` on every answer.

Usage: reference_client.py URL STREAMING_URL SECONDS, where URL ends in `/topics/<id>.` and STREAMING_URL in
`/streams/streaming-<id>-`. Each event goes to both; prints the number of events posted.
"""

import datetime
import json
import random
import sys
import time

import requests

URL, STREAMING_URL, SECONDS = sys.argv[1], sys.argv[2], float(sys.argv[3])
HEADERS = {"Content-Type": "application/vnd.kafka.json.v2+json"}
STREAMING_HEADERS = {"Content-Type": "application/json"}


def send(table, row):
    post(table, row)
    put(table, row)


def put(table, row):
    # The body names the stream of pins whatever the table is: the path decides.
    payload = json.dumps({"StreamName": "streaming-pin", "Data": row, "PartitionKey": "desired-name"})
    answer = requests.request("PUT", STREAMING_URL + table + "/record", headers=STREAMING_HEADERS, data=payload)
    body = answer.json()
    assert answer.status_code == 200, (answer.status_code, body)
    assert body["ShardId"] == "shardId-000000000000" and int(body["SequenceNumber"]) > 0, body


def post(table, row):
    payload = json.dumps({"records": [{"value": row}]})
    answer = requests.request("POST", URL + table, headers=HEADERS, data=payload)
    body = answer.json()
    assert answer.status_code == 200, (answer.status_code, body)
    assert body["offsets"][0]["error_code"] is None, body


random.seed(100)
count = 0
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    ind = random.randint(0, 11000)
    at = datetime.datetime(2018, 3, 4, 5, 6, 7).strftime("%m/%d/%Y, %H:%M:%S")
    send(
        "pin",
        {
            "index": ind,
            "unique_id": "1e1f0c8b-9fcf-460b-9154-c775827206eb",
            "title": "Island Oasis \U0001f3dd",
            "description": "Description",
            "poster_name": "Total Survival",
            "follower_count": "46k",
            "tag_list": "a,b,c",
            "is_image_or_video": "image",
            "image_src": "https://example.com/a.jpg",
            "downloaded": 1,
            "save_location": "Local save in /data/beauty",
            "category": "beauty",
        },
    )
    send("geo", {"ind": ind, "timestamp": at, "latitude": -28.8852, "longitude": -164.87, "country": "Antarctica"})
    send("user", {"ind": ind, "first_name": "Andrea", "last_name": "Alexander", "age": 21, "date_joined": at})
    count += 1
print(count)
