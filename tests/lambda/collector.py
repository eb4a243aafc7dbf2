"""An OTLP collector over HTTP: what it takes is read by OpenTelemetry's own messages, and appended to a file, one
line of JSON for each span and each point of a metric. Arguments: port (or 0), file. Prints its port."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

out = open(sys.argv[2], "a", buffering=1)


def value(it):
    return getattr(it, it.WhichOneof("value"))


def attributes(it):
    return {pair.key: value(pair.value) for pair in it.attributes}


def write(**line):
    out.write(json.dumps(line) + "\n")


def take_spans(request):
    for of_host in request.resource_spans:
        for scope in of_host.scope_spans:
            for span in scope.spans:
                assert len(span.trace_id) == 16 and len(span.span_id) == 8 and len(span.parent_span_id) in (0, 8)
                assert span.start_time_unix_nano <= span.end_time_unix_nano
                write(
                    host=attributes(of_host.resource),
                    scope=scope.scope.name,
                    trace=span.trace_id.hex(),
                    span=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    state=span.trace_state,
                    name=span.name,
                    kind=Span.SpanKind.Name(span.kind),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=attributes(span),
                    status=Status.StatusCode.Name(span.status.code),
                    message=span.status.message,
                )


def take_metrics(request):
    for of_host in request.resource_metrics:
        for scope in of_host.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    line = dict(metric=metric.name, kind=kind, unit=metric.unit, attributes=attributes(point))
                    if kind == "histogram":
                        assert point.count == sum(point.bucket_counts)
                        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
                        assert metric.histogram.aggregation_temporality == 2
                        write(value=point.sum, count=point.count, **line)
                    else:
                        if kind == "sum":
                            assert metric.sum.is_monotonic and metric.sum.aggregation_temporality == 2
                        assert point.time_unix_nano > 0
                        write(value=value(point), **line)


KNOWN = {
    "/v1/traces": (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse, take_spans),
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse, take_metrics),
}


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = 200, b""
        try:
            assert self.headers["Content-Type"] == "application/x-protobuf", self.headers["Content-Type"]
            assert self.headers["X-Tenant"] == "hall-3", self.headers["X-Tenant"]
            request, response, take = KNOWN[self.path]
            read = request.FromString(body)
            known = request.FromString(body)
            known.DiscardUnknownFields()
            assert known.ByteSize() == read.ByteSize(), "fields that OpenTelemetry does not know"
            take(read)
            answer = response().SerializeToString()
        except Exception as error:
            write(error=repr(error))
            status = 400
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Collector)
print(server.server_address[1], flush=True)
server.serve_forever()
