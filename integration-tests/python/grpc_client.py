"""Calls a tool over gRPC with a client generated from the protos. Arguments: PROTO_FOLDER ADDRESS TOKEN PARENT TOOL ARGUMENTS."""

import json
import sys
import tempfile
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc
from importlib import import_module
from importlib.resources import files


def generate(protos: Path, out: Path) -> None:
    sources = [str(path.relative_to(protos)) for path in sorted((protos / "chandlery").rglob("*.proto"))]
    well_known = str(files("grpc_tools") / "_proto")
    status = protoc.main(["protoc", f"-I{protos}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", *sources])
    if status != 0:
        sys.exit("protoc rejects the protos")


def main(protos: str, address: str, token: str, parent: str, tool: str, arguments: str) -> None:
    with tempfile.TemporaryDirectory() as out:
        generate(Path(protos), Path(out))
        sys.path.insert(0, out)
        messages = import_module("chandlery.gateway.v1.tool_pb2")
        services = import_module("chandlery.gateway.v1.tool_pb2_grpc")
        metadata = [("authorization", f"Bearer {token}")]
        with grpc.insecure_channel(address) as channel:
            stub = services.ToolServiceStub(channel)
            tools = stub.ListTools(messages.ListToolsRequest(parent=parent), metadata=metadata, timeout=30).tools
            answer = {"tools": [each.exposed_name for each in tools]}
            try:
                request = messages.CallToolRequest(parent=parent, exposed_name=tool, arguments_json=arguments)
                reply = stub.CallTool(request, metadata=metadata, timeout=30)
                answer |= {"result": json.loads(reply.result_json), "is_error": reply.is_error}
            except grpc.RpcError as error:
                answer["code"] = error.code().name
                for detail in rpc_status.from_call(error).details:
                    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.Help):
                        if detail.Is(kind.DESCRIPTOR):
                            message = kind()
                            detail.Unpack(message)
                            if kind is error_details_pb2.ErrorInfo:
                                answer |= {"reason": message.reason, "domain": message.domain}
                            else:
                                answer["links"] = [link.url for link in message.links]
            print(json.dumps(answer))


main(*sys.argv[1:])
