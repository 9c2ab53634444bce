"""Creates a bucket: s3_bucket.py PORT ACCESS_KEY SECRET_KEY BUCKET (on loopback, signature version 4)."""

import hashlib
import hmac
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone

port, access_key, secret_key, bucket = sys.argv[1:]
REGION, EMPTY = "us-east-1", hashlib.sha256(b"").hexdigest()


def signed(now):
    date = now.strftime("%Y%m%d")
    headers = {"host": f"127.0.0.1:{port}", "x-amz-content-sha256": EMPTY, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
    names = ";".join(headers)
    named = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"PUT\n/{bucket}\n\n{named}\n{names}\n{EMPTY}"
    scope = f"{date}/{REGION}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**headers, "authorization": credential}


for attempt in range(30):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{bucket}", method="PUT", headers=signed(datetime.now(timezone.utc))
    )
    try:
        urllib.request.urlopen(request, timeout=30)
        break
    except urllib.error.HTTPError as error:
        problem = f"{error}: {error.read().decode()}"
    except OSError as error:
        problem = str(error)
    time.sleep(0.2)
else:
    sys.exit(problem)
