"""Reads a message as JSON and writes it as MessagePack, in hexadecimal, one way of writing a line."""

import json
import sys

import msgpack

message = json.load(sys.stdin)
as_float = {**message, "created_at": float(message["created_at"])}
for name, it in (("msgpack", message), ("msgpack with time.time() * 1000", as_float)):
    print(f"{name}\t{msgpack.packb(it).hex()}")
