//! Peers written in Python, over libraries of other people.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sandbar_tests::tool;

/// Kraken's messages as protobuf's Python library knows them, without generated code.
const KRAKEN: &str = r#"
import json, sys
from concurrent import futures
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

file = descriptor_pb2.FileDescriptorProto(name="kraken.proto", package="kraken", syntax="proto3")
for name in ("KrakenRequest", "KrakenResponse"):
    message = file.message_type.add(name=name)
    for number, field in enumerate(("collector_name", "content_type", "metadata", "payload"), 1):
        kind = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES if field == "payload" else descriptor_pb2.FieldDescriptorProto.TYPE_STRING
        message.field.add(name=field, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
Request, Response = (message_factory.GetMessageClass(pool.FindMessageTypeByName("kraken." + name)) for name in ("KrakenRequest", "KrakenResponse"))
METHOD = "/kraken.KrakenService/ProcessKrakenRequest"
"#;

/// Prints a JSON array of what was answered: `[code, collector_name, content_type, metadata, payload]`.
/// Arguments: address, a certificate to trust or nothing, how many calls, collector, metadata, payload.
const COLLECTOR: &str = r#"
address, ca, count, collector, metadata, payload = sys.argv[1:]
options = [("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "localhost")] if ca else [("grpc.enable_http_proxy", 0)]
channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(open(ca, "rb").read()), options) if ca else grpc.insecure_channel(address, options)
call = channel.unary_unary(METHOD, Request.SerializeToString, Response.FromString)

def one(n):
    body = payload.replace("%n", str(n)).encode() if payload != "16 MB" else bytes(17 << 20)
    request = Request(collector_name=collector, content_type="application/json", metadata=metadata, payload=body)
    try:
        answer = call(request, timeout=20)
        return ["OK", answer.collector_name, answer.content_type, answer.metadata, answer.payload.decode()]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

with futures.ThreadPoolExecutor(8) as pool:
    print(json.dumps(list(pool.map(one, range(int(count))))))
"#;

/// Appends a line of JSON to a file for each call; answers as a handler of a broker might.
/// Arguments: port, file, what to do.
const BROKER: &str = r#"
port, path, how = sys.argv[1:]
out = open(path, "a", buffering=1)

def process(request, context):
    if how == "none":
        context.abort(grpc.StatusCode.INTERNAL, "no handler")
    key = dict(context.invocation_metadata()).get("idempotency-key")
    out.write(json.dumps([key, request.collector_name, request.content_type, request.metadata, request.payload.decode()]) + "\n")
    metadata = json.dumps({"response_type": request.collector_name})
    return Response(collector_name="python", content_type="text/plain", metadata=metadata, payload=b"seen " + request.payload)

handler = grpc.unary_unary_rpc_method_handler(process, Request.FromString, Response.SerializeToString)
server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 16 << 20), ("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("kraken.KrakenService", {"ProcessKrakenRequest": handler})])
server.add_insecure_port("127.0.0.1:" + port)
server.start()
server.wait_for_termination()
"#;

/// A collection that keeps what it is told in a file, behind MockupDB. Arguments: port, file.
const MONGODB: &str = r#"
import sys
from mockupdb import MockupDB
from bson import json_util
port, path = int(sys.argv[1]), sys.argv[2]
try:
    documents = {d["_id"]: d for d in map(json_util.loads, open(path))}
except FileNotFoundError:
    documents = {}
out = open(path, "a", buffering=1)
HELLO = {"helloOk": True, "ismaster": True, "isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 21,
         "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000, "ok": 1.0}

def keep(document):
    documents[document["_id"]] = document
    out.write(json_util.dumps(document) + "\n")

def refused(index, code, text):
    return {"ok": 1.0, "n": index, "writeErrors": [{"index": index, "code": code, "errmsg": text}]}

def insert(command):
    for index, document in enumerate(command["documents"]):
        payload = document["payload"]
        if isinstance(payload, dict) and payload.get("celsius", 0) > 1000:
            return refused(index, 121, "Document failed validation")
        if document["_id"] in documents:
            return refused(index, 11000, "E11000 duplicate key error collection: plant.readings index: _id_ dup key")
        keep(document)
    return {"ok": 1.0, "n": len(command["documents"])}

def update(command):
    for one in command["updates"]:
        assert one["upsert"] and one["q"]["_id"] == one["u"]["_id"]
        keep(one["u"])
    return {"ok": 1.0, "n": len(command["updates"]), "nModified": 0}

server = MockupDB(port=port, request_timeout=10 ** 6)
server.run()
while True:
    request = server.receives()
    command, name = request.doc, request.command_name.lower()
    answer = {"insert": insert, "update": update}.get(name, lambda _: HELLO)(command)
    try:
        request.replies(answer)
    except OSError:
        pass
"#;

#[derive(Clone, Copy)]
pub(crate) enum Program {
    Collector,
    Broker,
    MongoDb,
}

impl Program {
    fn text(self) -> String {
        match self {
            Self::Collector => format!("{KRAKEN}{COLLECTOR}"),
            Self::Broker => format!("{KRAKEN}{BROKER}"),
            Self::MongoDb => MONGODB.to_owned(),
        }
    }

    /// To be run by Python.
    pub(crate) fn command(self) -> std::process::Command {
        let mut command = std::process::Command::new(python());
        command.args(["-c", &self.text()]);
        command
    }
}

fn python() -> PathBuf {
    tool::python_peer("python")
}

/// What a Python client of the `kraken` driver was answered.
pub(crate) async fn collect(
    address: &str,
    ca: Option<&Path>,
    count: usize,
    collector: [&str; 3],
) -> Result<Vec<Vec<String>>> {
    let mut command = tokio::process::Command::from(Program::Collector.command());
    let ca = ca.map(|path| path.display().to_string()).unwrap_or_default();
    command.args([address, &ca, &count.to_string()]).args(collector);
    let said = tool::succeeds(command, 60).await?;
    serde_json::from_str(said.trim()).with_context(|| said)
}
