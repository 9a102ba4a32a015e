"""A plugin of buf and protoc that makes gRPC's Python clients: grpcio-tools has that generator in its protoc and ships no plugin."""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
response = plugin_pb2.CodeGeneratorResponse(supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
with tempfile.TemporaryDirectory() as folder:
    descriptors, out = Path(folder, "descriptors"), Path(folder, "out")
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    out.mkdir()
    options = f"{request.parameter}:{out}" if request.parameter else str(out)
    arguments = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={options}", *request.file_to_generate]
    if protoc.main(["protoc", *arguments]) != 0:
        response.error = "grpc_tools.protoc failed; its message is above"
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        response.file.add(name=str(file.relative_to(out)), content=file.read_text())
sys.stdout.buffer.write(response.SerializeToString())
