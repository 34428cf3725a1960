"""Azure Storage, by its emulator (npm package azurite): containers, blobs, SAS URLs.

The emulator takes the account from the first label of the host, as Azure does, so
URLs look like production: https://<account>.blob.core.windows.net:PORT/<container>/...
"""

import base64
import datetime
import fcntl
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import subprocess
import urllib.parse

VERSION = "3.35.0"
API = "2020-12-06"
ACCOUNT = "wallacefalls"
KEY = base64.b64encode(hashlib.sha512(b"laboratory storage key").digest()).decode()


def ensure_azurite(folder):
    """Install the pinned emulator once; the path of its blob server."""
    target = os.path.join(folder, "azurite")
    main = os.path.join(target, "node_modules", "azurite", "dist", "src", "blob",
                        "main.js")
    done = os.path.join(target, "installed-" + VERSION)
    if os.path.exists(done):
        return main
    os.makedirs(target, exist_ok=True)
    # two suites at once: one installs, the other waits
    with open(os.path.join(target, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(done):
            run = subprocess.run(
                ["npm", "install", "--prefix", target, "--no-audit", "--no-fund",
                 "azurite@" + VERSION], stdin=subprocess.DEVNULL,
                capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError("npm install azurite: " + run.stderr[-2000:])
            open(done, "w").close()
    return main


def start(parts, folder, main, tls, account=ACCOUNT, address="127.0.0.1",
          suffix="blob.core.windows.net", ca=None):
    """Start the emulator with HTTPS; a Storage to talk to it."""
    os.makedirs(folder, exist_ok=True)

    def begin(port):
        part = parts.start(
            "azurite", ["node", main, "--blobHost", address, "--blobPort", str(port),
                        "--location", folder, "--cert", tls.chain, "--key", tls.key,
                        "--skipApiVersionCheck", "--silent", "--disableTelemetry"],
            os.path.join(folder, "azurite.log"),
            env={**os.environ, "AZURITE_ACCOUNTS": "%s:%s" % (account, KEY)},
            address=address, port=port, folder=folder)
        part.storage = Storage("%s.%s" % (account, suffix), port, address, ca, account)
        return part

    return parts.start_on_free_port(begin, (address,))


class Storage:
    """Client side of one account, enough to fill it."""

    def __init__(self, host, port, address="127.0.0.1", ca=None, account=ACCOUNT):
        self.host, self.port, self.address = host, port, address
        self.account, self.ca = account, ca

    def url(self, container, blob):
        return "https://%s:%d/%s/%s" % (self.host, self.port, container,
                                        urllib.parse.quote(blob))

    def create_container(self, container):
        self.request("PUT", "/" + container, {"restype": "container"},
                     expect=(201, 409))

    def put(self, container, blob, body):
        self.request("PUT", "/%s/%s" % (container, urllib.parse.quote(blob)), {},
                     {"x-ms-blob-type": "BlockBlob",
                      "Content-Type": "application/octet-stream"}, body)

    def delete(self, container, blob):
        self.request("DELETE", "/%s/%s" % (container, urllib.parse.quote(blob)),
                     expect=(202,))

    def upload(self, container, content, prefix=""):
        """All files of a content.Content, as blobs of the same names."""
        self.create_container(container)
        for name in content.files:
            self.put(container, prefix + name, content.read(name))

    # -- shared access signatures --------------------------------------------

    def sas(self, container, blob, seconds=3600, permissions="r", start=None):
        """The query of a service SAS of one blob; negative seconds = expired."""
        now = datetime.datetime.now(datetime.timezone.utc)
        expiry = _iso(now + datetime.timedelta(seconds=seconds))
        begin = _iso(now - datetime.timedelta(days=1)) if start is None else start
        fields = [permissions, begin, expiry,
                  "/blob/%s/%s/%s" % (self.account, container, blob),
                  "", "", "https", API, "b", "", "", "", "", "", "", ""]
        return urllib.parse.urlencode({
            "sv": API, "sr": "b", "sp": permissions, "st": begin, "se": expiry,
            "spr": "https", "sig": _sign("\n".join(fields))})

    def sas_url(self, container, blob, seconds=3600, **how):
        return self.url(container, blob) + "?" + self.sas(container, blob, seconds,
                                                          **how)

    # -- signed REST requests ------------------------------------------------

    def request(self, method, path, query=None, headers=None, body=b"",
                expect=(200, 201)):
        query = query or {}
        headers = dict(headers or {})
        headers["x-ms-date"] = datetime.datetime.now(
            datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers["x-ms-version"] = API
        lower = {k.lower(): v for k, v in headers.items()}
        standard = ["", "", str(len(body)) if body else "", "",
                    lower.get("content-type", ""), "", "", "", "", "", ""]
        extended = "".join("%s:%s\n" % (k, lower[k]) for k in sorted(lower)
                           if k.startswith("x-ms-"))
        resource = "/" + self.account + path + "".join(
            "\n%s:%s" % (k, query[k]) for k in sorted(query))
        signature = _sign("\n".join([method] + standard) + "\n" + extended + resource)
        headers["Authorization"] = "SharedKey %s:%s" % (self.account, signature)
        headers["Content-Length"] = str(len(body))
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        status, text = self.plain(method, target, headers, body)
        if status not in expect:
            raise RuntimeError("storage: %s %s: %d %s" % (method, path, status,
                                                          text[:500]))
        return text

    def plain(self, method, target, headers=None, body=None):
        """An unsigned request to the account's host, name and chain checked."""
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection(self.host, self.port,
                                                 context=context, timeout=30)
        raw = socket.create_connection((self.address, self.port), 30)
        connection.sock = context.wrap_socket(raw, server_hostname=self.host)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _iso(time):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _sign(text):
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(),
                                     hashlib.sha256).digest()).decode()
