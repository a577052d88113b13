"""Holds the service against botocore's own model of it: every operation, and every member that has a limit, one below it,
at it and one past it, in JSON and in CBOR. The model is read where botocore is installed; nothing of it is copied here.
"""

import base64
import http.client
import json
import re
import struct
import sys
import urllib.parse

import botocore.session

URL = urllib.parse.urlparse(sys.argv[1])
MODEL = botocore.session.get_session().get_service_model("kinesis")
TARGET = MODEL.metadata["targetPrefix"]
STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
# Of every service; the model names those of its operations alone.
COMMON = {"ValidationException", "SerializationException"}
# What the service has not: it says so before it looks at the members.
ABSENT = re.compile(r"(Queue|Channel)(Records(Visibility)?)?$")
# Texts that fit the model's patterns.
FITTING = {
    "StreamName": "s", "ConsumerName": "c", "ShardId": "shardId-000000000000", "StreamARN": STREAM_ARN,
    "ConsumerARN": STREAM_ARN + "/consumer/c:1", "ResourceARN": STREAM_ARN, "HashKey": "7", "SequenceNumber": "7",
    "StreamId": "a" * 20 + "-abc", "Policy": "{}",
}
connection = http.client.HTTPConnection(URL.hostname, URL.port)
counts = {"operations": 0, "limits": 0}


def cbor(value):
    """A value in CBOR, as far as requests need it."""

    def head(major, number):
        for bits, code, form in ((8, 24, "B"), (16, 25, ">H"), (32, 26, ">I"), (64, 27, ">Q")):
            if number < 24:
                return bytes([major << 5 | number])
            if number < 1 << bits:
                return bytes([major << 5 | code]) + struct.pack(form, number)

    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xc1" + head(0, int(value * 1000))
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(name) + cbor(member) for name, member in value.items())


def plain(value):
    """A value for JSON: bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [plain(member) for member in value]
    return {name: plain(member) for name, member in value.items()} if isinstance(value, dict) else value


def call(operation, request, encoding):
    """The exception that an operation answers, with its message; nothing where it succeeds."""
    body = cbor(request) if encoding == "cbor" else json.dumps(plain(request)).encode()
    connection.request("POST", "/", body, {
        "Content-Type": "application/x-amz-%s-1.1" % encoding,
        "X-Amz-Target": "%s.%s" % (TARGET, operation),
        "X-Amz-Date": "20260101T000000Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/kinesis/aws4_request, "
                         "SignedHeaders=host, Signature=0",
    })
    answer = connection.getresponse()
    if answer.status == 200 and "eventstream" in answer.headers.get("Content-Type", ""):
        # It goes on for minutes.
        connection.close()
        return None, ""
    text = answer.read()
    if answer.status == 200:
        return None, ""
    assert answer.status == 400, (operation, answer.status, text)
    kind = answer.headers["x-amzn-errortype"]
    return kind, text.decode(errors="replace")


def fitting(shape, name):
    """A value that keeps a shape's limits."""
    kind = shape.type_name
    if kind == "structure":
        # The model lets a record be without a key, for a way to distribute records that the service has not.
        names = {*shape.required_members, *(name for name in ("PartitionKey",) if name in shape.members)}
        return {member: fitting(shape.members[member], member) for member in sorted(names)}
    if kind == "list":
        return [fitting(shape.member, name)]
    if kind == "map":
        return {"key": "value"}
    if kind in ("integer", "long"):
        return max(int(shape.metadata.get("min", 0)), 1)
    if kind == "boolean":
        return False
    if kind == "timestamp":
        return 1.5e9
    if kind == "blob":
        return b"data"
    choices = getattr(shape, "enum", None)
    return choices[0] if choices else FITTING.get(shape.name, "x")


def stretched(shape, length):
    """A text of a length that fits a shape's pattern, or nothing where there is none."""
    pattern = shape.metadata.get("pattern", "")
    if not pattern or pattern == "[a-zA-Z0-9_.-]+":
        return "x" * length
    return STREAM_ARN + "x" * (length - len(STREAM_ARN)) if "stream/\\S+" in pattern and length > 60 else None


def broken(shape, name):
    """Pairs of a value that just breaks a limit of a shape, and one that just keeps it (or nothing)."""
    meta, kind = shape.metadata, shape.type_name
    if getattr(shape, "enum", None):
        yield "NO-SUCH-" + shape.enum[0], fitting(shape, name)
    elif kind == "string":
        if meta.get("min"):
            yield "x" * (int(meta["min"]) - 1), None
        if meta.get("max"):
            most = int(meta["max"])
            yield stretched(shape, most + 1) or "x" * (most + 1), stretched(shape, most)
        if meta.get("pattern"):
            yield " ", fitting(shape, name)
    elif kind in ("integer", "long"):
        if "min" in meta:
            yield int(meta["min"]) - 1, int(meta["min"])
        if "max" in meta:
            yield int(meta["max"]) + 1, int(meta["max"])
    elif kind == "blob" and meta.get("max"):
        yield b"x" * (int(meta["max"]) + 1), None
    elif kind == "list":
        if meta.get("min"):
            yield [], fitting(shape, name)
        if meta.get("max"):
            member = fitting(shape.member, name)
            yield [member] * (int(meta["max"]) + 1), [member] * int(meta["max"])
        for bad, good in broken(shape.member, name):
            yield [bad], None if good is None else [good]
    elif kind == "map":
        if meta.get("min"):
            yield {}, fitting(shape, name)
        if meta.get("max"):
            yield {"k%d" % n: "" for n in range(int(meta["max"]) + 1)}, None
        for bad, good in broken(shape.key, name):
            yield {bad: ""}, None if good is None else {good: ""}
        for bad, good in broken(shape.value, name):
            yield {"k": bad}, None if good is None else {"k": good}
    elif kind == "structure":
        for member in shape.members:
            for bad, good in broken(shape.members[member], member):
                rest = fitting(shape, name)
                yield {**rest, member: bad}, None if good is None else {**rest, member: good}


def whole(operation):
    """A request with what an operation must have, of a stream that is not there."""
    shape = operation.input_shape
    request = fitting(shape, "") if shape else {}
    for name in ("StreamName", "StreamARN"):
        if shape and name in shape.members and "ResourceARN" not in shape.members:
            request.setdefault(name, FITTING[name])
            break
    if operation.name == "CreateStream":
        request["ShardCount"] = 1
    if operation.name in ("DescribeStreamConsumer", "DeregisterStreamConsumer"):
        request = {"StreamARN": STREAM_ARN, "ConsumerName": "c"}
    return request


for name in MODEL.operation_names:
    operation = MODEL.operation_model(name)
    allowed = {shape.name for shape in operation.error_shapes} | COMMON
    counts["operations"] += 1
    for encoding in ("json", "cbor"):
        request = whole(operation)
        kind, message = call(name, request, encoding)
        assert kind is None or kind in allowed, (name, request, kind, message)
        if ABSENT.search(name) and not name.startswith("List"):
            assert kind == "InvalidArgumentException", (name, kind, message)
            continue
        assert kind not in COMMON, (name, request, kind, message)
        shape = operation.input_shape
        for member in shape.required_members if shape else ():
            kind, message = call(name, {k: v for k, v in request.items() if k != member}, encoding)
            assert kind == "ValidationException" and "null" in message, (name, member, kind, message)
        for member in shape.members if shape else ():
            where = member[0].lower() + member[1:]
            for bad, good in broken(shape.members[member], member):
                counts["limits"] += 1
                kind, message = call(name, {**request, member: bad}, encoding)
                short = repr(bad)[:80]
                assert kind == "ValidationException", (name, member, short, kind, message[:300])
                assert where in message, (name, member, short, message[:300])
                if good is not None:
                    kind, message = call(name, {**request, member: good}, encoding)
                    assert kind not in COMMON, (name, member, repr(good)[:80], kind, message[:300])
                    assert kind is None or kind in allowed, (name, member, kind, message[:300])
for unknown in ("NoSuchOperation", "putrecord", ""):
    for encoding in ("json", "cbor"):
        assert call(unknown, {"StreamName": "s"}, encoding)[0] == "UnknownOperationException", unknown
print(json.dumps(counts))
print("done")
