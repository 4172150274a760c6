"""A client of the Observer API that shares no code with fqdnd but its .proto files.

    hubble.py PROTO_DIRECTORY TARGET CALL [REQUEST]

CALL is a method such as GetFlows, or Health; REQUEST is its request as JSON. Responses are printed
as JSON, one a line. TARGET is unix:PATH or HOST:PORT; with CA, CERTIFICATE, KEY and SERVER_NAME in
the environment, the connection is TLS. `{"limit": N}` beside the request's fields ends the client
after so many responses.
"""

import json
import os
import pathlib
import sys
import tempfile

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc


def stubs(protos):
    """Makes the modules of all .proto files, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as made:
        files = [str(path) for path in pathlib.Path(protos).rglob("*.proto")]
        well_known = pathlib.Path(protoc.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{protos}", f"-I{well_known}"]
        arguments += [f"--python_out={made}", f"--grpc_python_out={made}", *files]
        if protoc.main(arguments) != 0:
            sys.exit("the .proto files cannot be compiled")
        sys.path.insert(0, made)
        from observer import observer_pb2, observer_pb2_grpc

        return observer_pb2, observer_pb2_grpc


def connect(target):
    def file(name):
        return pathlib.Path(os.environ[name]).read_bytes()

    if "CA" not in os.environ:
        # What gRPC for Python would name a unix socket is no authority as HTTP/2 has them.
        return grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")])
    credentials = grpc.ssl_channel_credentials(
        file("CA"),
        file("KEY") if "KEY" in os.environ else None,
        file("CERTIFICATE") if "CERTIFICATE" in os.environ else None,
    )
    name = ("grpc.ssl_target_name_override", os.environ["SERVER_NAME"])
    return grpc.secure_channel(target, credentials, options=[name])


def show(message):
    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
    print(text, flush=True)


def main():
    protos, target, call, *request = sys.argv[1:]
    fields = json.loads(request[0]) if request else {}
    limit = fields.pop("limit", None)
    observer_pb2, observer_pb2_grpc = stubs(protos)
    with connect(target) as channel:
        if call == "Health":
            service = health_pb2.HealthCheckRequest(service="hubble.server.Observer")
            return show(health_pb2_grpc.HealthStub(channel).Check(service, timeout=20))
        request = json_format.ParseDict(fields, getattr(observer_pb2, f"{call}Request")())
        answer = getattr(observer_pb2_grpc.ObserverStub(channel), call)(request, timeout=60)
        if not hasattr(answer, "cancel"):
            return show(answer)
        for count, response in enumerate(answer, 1):
            show(response)
            if count == limit:
                return answer.cancel()


try:
    main()
except grpc.RpcError as error:
    sys.exit(f"{error.code().name}: {error.details()}")
