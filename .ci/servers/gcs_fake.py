"""As much of the XML interface of Google Cloud Storage as object_store uses, in memory: gcs_fake.py PORT BUCKET.

After the reference of the XML API: objects with generations and `x-goog-if-generation-match`, lists of version 2,
multipart uploads. No credentials are looked at. It listens on loopback only.
"""

import hashlib
import re
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PORT, BUCKET = int(sys.argv[1]), sys.argv[2]
PAGE = 1000
LOCK = threading.Lock()
GENERATIONS = count(1)
OBJECTS = {}  # name -> (bytes, generation)
UPLOADS = {}  # id -> {part number -> bytes}


class Refused(Exception):
    def __init__(self, status, code):
        super().__init__(code)
        self.status, self.code = status, code


def etag(data):
    return f'"{hashlib.md5(data).hexdigest()}"'


def store(name, data, condition):
    """Replaces an object if its generation is the wanted one; 0 wants that there is none."""
    with LOCK:
        generation = OBJECTS[name][1] if name in OBJECTS else 0
        if condition is not None and int(condition) != generation:
            raise Refused(412, "PreconditionFailed")
        OBJECTS[name] = (data, next(GENERATIONS))
        return OBJECTS[name][1]


def load(name):
    with LOCK:
        if name not in OBJECTS:
            raise Refused(404, "NoSuchKey")
        return OBJECTS[name]


def listing(query):
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token") or query.get("start-after", "")
    limit = min(PAGE, int(query.get("max-keys", PAGE)))
    with LOCK:
        found = sorted((name, len(data), etag(data)) for name, (data, _) in OBJECTS.items() if name.startswith(prefix))
    entries = []  # (name, xml); a common prefix counts as one
    for name, size, tag in found:
        rest = name[len(prefix):]
        if delimiter and delimiter in rest:
            name = prefix + rest[: rest.index(delimiter) + len(delimiter)]
            xml = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        else:
            xml = (
                f"<Contents><Key>{escape(name)}</Key><Size>{size}</Size><ETag>{escape(tag)}</ETag>"
                "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            )
        if name > after and (not entries or entries[-1][0] != name):
            entries.append((name, xml))
    page, more = entries[:limit], len(entries) > limit
    token = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if more else ""
    body = "".join(xml for _, xml in page)
    return f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{body}</ListBucketResult>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def respond(self, status, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", len(body))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_verb(self):
        url = urlsplit(self.path)
        bucket, _, name = unquote(url.path).lstrip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if bucket != BUCKET:
                raise Refused(404, "NoSuchBucket")
            getattr(self, f"do_{'upload' if 'uploadId' in query or 'uploads' in query else self.command.lower()}")(
                name, query, body
            )
        except Refused as refused:
            text = f"<?xml version='1.0'?><Error><Code>{refused.code}</Code><Message>no</Message></Error>"
            self.respond(refused.status, text.encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_verb

    def do_put(self, name, _query, body):
        source = self.headers.get("x-goog-copy-source")
        if source:
            body = load(unquote(source).partition("/")[2])[0]
        generation = store(name, body, self.headers.get("x-goog-if-generation-match"))
        result = b"<CopyObjectResult/>" if source else b""
        self.respond(200, result, ETag=etag(body), x_goog_generation=generation)

    def do_get(self, name, query, _body):
        if not name:
            return self.respond(200, listing(query).encode(), Content_Type="application/xml")
        data, generation = load(name)
        headers = {
            "ETag": etag(data),
            "x_goog_generation": generation,
            "Last_Modified": formatdate(1767323045, usegmt=True),
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.respond(200, data, Content_Length=len(data), **headers)
        first, last = wanted.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(len(data), int(last) + 1) if first and last else len(data)
        if start >= len(data):
            raise Refused(416, "InvalidRange")
        headers["Content_Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self.respond(206, data[start:end], Content_Length=end - start, **headers)

    do_head = do_get

    def do_delete(self, name, _query, _body):
        with LOCK:
            if OBJECTS.pop(name, None) is None:
                raise Refused(404, "NoSuchKey")
        self.respond(204)

    def do_upload(self, name, query, body):
        if "uploads" in query:
            upload = f"upload-{next(GENERATIONS)}"
            UPLOADS[upload] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.respond(200, answer.encode())
        upload = query["uploadId"]
        if upload not in UPLOADS:
            raise Refused(404, "NoSuchUpload")
        if self.command == "PUT":
            UPLOADS[upload][int(query["partNumber"])] = body
            return self.respond(200, ETag=etag(body))
        if self.command == "DELETE":
            UPLOADS.pop(upload)
            return self.respond(204)
        parts = UPLOADS[upload]
        wanted = [int(number) for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", body.decode())]
        if any(number not in parts for number in wanted):
            raise Refused(400, "InvalidPart")
        data = b"".join(parts[number] for number in wanted)
        generation = store(name, data, self.headers.get("x-goog-if-generation-match"))
        UPLOADS.pop(upload)
        answer = f"<CompleteMultipartUploadResult><ETag>{escape(etag(data))}</ETag></CompleteMultipartUploadResult>"
        return self.respond(200, answer.encode(), x_goog_generation=generation)


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
