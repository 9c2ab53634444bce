"""Creates a container: azure_container.py ENDPOINT KEY CONTAINER (the endpoint ends with the account's name)."""

import base64
import hashlib
import hmac
import sys
import urllib.request
from email.utils import formatdate
from urllib.parse import urlsplit

endpoint, key, container = sys.argv[1:]
url = f"{endpoint}/{container}?restype=container"
account = endpoint.rsplit("/", 1)[1]
headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
# Authorization by shared key: the verb, eleven standard headers (none of them is sent), ours, and the resource.
named = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
resource = f"/{account}{urlsplit(url).path}\nrestype:container"
to_sign = "PUT\n" + "\n" * 11 + named + resource
signature = hmac.new(base64.b64decode(key), to_sign.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(signature).decode()}"
request = urllib.request.Request(url, method="PUT", headers=headers)
try:
    urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    sys.exit(f"{error}: {error.read().decode()}")
