"""Lists the entries of a registry, with the client that buf generates in `gen` with proto/buf.gen.python.yaml. Arguments: ADDRESS TOKEN."""

import json
import sys
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent / "gen"))
from chandlery.registry.v1 import entry_pb2, entry_pb2_grpc

address, token = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    stub = entry_pb2_grpc.EntryServiceStub(channel)
    metadata = [("authorization", f"Bearer {token}")]
    answer = stub.ListEntries(entry_pb2.ListEntriesRequest(), metadata=metadata, timeout=30)
    entries = [{"name": each.name, "display_name": each.display_name, "labels": dict(each.labels)} for each in answer.entries]
    print(json.dumps(entries))
