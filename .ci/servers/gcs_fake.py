"""As much of Google Cloud as logtide uses, in memory: gcs_fake.py PORT BUCKET.

After the reference of the XML API of Cloud Storage: objects with generations and `x-goog-if-generation-match`, lists of
version 2, multipart uploads. After the REST reference of Cloud KMS: `encrypt` and `decrypt` with the keys of one ring,
whose names tell how they fare: `disabled`, `forbidden`, `busy-twice` (503 twice, then well), `missing`; `lying` damages
what it gives and keeps the sum. No credentials are looked at. It listens on loopback only.
"""

import base64
import hashlib
import json
import os
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


KEY = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/([^/:]+)):(encrypt|decrypt)")
BUSY = {}  # key -> requests that it refused


class KmsRefused(Exception):
    def __init__(self, status, code):
        super().__init__(code)
        self.status, self.code = status, code


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 if crc & 1 else crc >> 1
    return str(crc ^ 0xFFFFFFFF)


def stream(key, nonce, data):
    """No cipher to trust, but one that nobody reads without the key's name, which is all that a fake needs."""
    pad = hashlib.shake_256(key.encode() + nonce).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, pad))


def kms(key, name, operation, request):
    if name == "missing":
        raise KmsRefused(404, "NOT_FOUND")
    if name == "forbidden":
        raise KmsRefused(403, "PERMISSION_DENIED")
    if name == "disabled":
        raise KmsRefused(400, "FAILED_PRECONDITION")
    with LOCK:
        BUSY[key] = BUSY.get(key, 0) + 1
        if name == "busy-twice" and BUSY[key] <= 2:
            raise KmsRefused(503, "UNAVAILABLE")
    field = "plaintext" if operation == "encrypt" else "ciphertext"
    data = base64.b64decode(request[field])
    if request.get(field + "Crc32c") != crc32c(data):
        raise KmsRefused(400, "INVALID_ARGUMENT")
    if operation == "encrypt":
        nonce = os.urandom(16)
        tag = hashlib.sha256(key.encode() + nonce + data).digest()
        result, name_of, more = nonce + tag + stream(key, nonce, data), "ciphertext", {"verifiedPlaintextCrc32c": True}
    else:
        nonce, tag = data[:16], data[16:48]
        result, name_of, more = stream(key, nonce, data[48:]), "plaintext", {}
        if hashlib.sha256(key.encode() + nonce + result).digest() != tag:
            raise KmsRefused(400, "INVALID_ARGUMENT")
    total = crc32c(result)
    if name == "lying":
        result = bytes([result[0] ^ 1]) + result[1:]
    return {name_of: base64.b64encode(result).decode(), name_of + "Crc32c": total, **more}


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
        key = KEY.fullmatch(url.path)
        if key and self.command == "POST":
            return self.do_kms(*key.groups(), body)
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

    def do_kms(self, key, name, operation, body):
        status, answer = 200, None
        try:
            answer = kms(key, name, operation, json.loads(body))
        except KmsRefused as refused:
            status = refused.status
            answer = {"error": {"code": status, "status": refused.code, "message": f"not with {key}"}}
        self.respond(status, json.dumps(answer).encode(), Content_Type="application/json")

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
