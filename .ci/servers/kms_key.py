"""Makes a key in a server that speaks KMS on loopback and prints its id: kms_key.py PORT.

The server must not verify signatures: none is made that would hold.
"""

import json
import sys
from urllib.request import Request, urlopen

headers = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "TrentService.CreateKey",
    # Which service and region are meant is read from it.
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request, "
    "SignedHeaders=host, Signature=none",
}
with urlopen(Request(f"http://127.0.0.1:{sys.argv[1]}/", b"{}", headers)) as answer:
    print(json.load(answer)["KeyMetadata"]["KeyId"])
