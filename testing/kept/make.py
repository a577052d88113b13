#!/usr/bin/env python3
"""Make a small data folder with a given pinmill, to be kept: `make.py BINARY 0.1.tar.gz`.

Every later version opens these folders, loads more into them and audits them (crates/cli/tests/e2e/kept.rs). What is in
one: 30 posts of each of the reference's tables in both halves; and of two topics (and streams) of one dataset the key 7,
five times in the first and once, later, in the second; records that were rejected.
"""

import json
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import urllib.request


def send(method, url, body, headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def geo(country):
    return {"ind": 7, "timestamp": "2022-10-19T03:52:47", "latitude": 1.5, "longitude": -2.5, "country": country}


def post(url, name, value):
    """One record to the topic `name`, and one to the stream that has a dash for each dot."""
    topic = {"Content-Type": "application/vnd.kafka.json.v2+json"}
    send("POST", f"{url}/topics/{name}", {"records": [{"value": value}]}, topic)
    stream = {"StreamName": "of-no-meaning", "Data": value, "PartitionKey": "k"}
    send("PUT", f"{url}/streams/{name.replace('.', '-')}/record", stream, {"Content-Type": "application/json"})


def main():
    binary, target = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data", f"{folder}/data"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([binary, "run", "--posts", "30", "--seed", "7", "--to", "both", *data], **quiet)
        serve = [binary, "serve", "--listen", "127.0.0.1:0", "--batch-every", "off", *data]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
            url = server.stdout.readline().strip()
            for old in range(5):
                post(url, "a.geo", geo(f"Old {old}"))
            post(url, "b.geo", geo("New"))
            post(url, "a.geo", {"ind": "of no meaning"})
            server.send_signal(signal.SIGTERM)
        subprocess.run([binary, "clean", *data], **quiet)
        with tarfile.open(target, "w:gz", compresslevel=9) as archive:
            archive.add(f"{folder}/data", "data")


if __name__ == "__main__":
    main()
