"""Parses tools/call messages, one per line of the given file, and prints the content of each: see go/read_calls/main.go."""

import json
import struct
import sys


def plain(value):
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return struct.pack(">d", float(value) + 0.0).hex()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def read(line):
    try:
        message = json.loads(line)
        params = message["params"]
        return [
            message["jsonrpc"],
            message["method"],
            params["name"],
            plain(params.get("arguments")),
            params.get("task"),
        ]
    except (ValueError, KeyError, OverflowError):
        return None


with open(sys.argv[1], encoding="utf-8", newline="\n") as file:
    json.dump([read(line) for line in file], sys.stdout)
