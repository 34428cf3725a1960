#!/usr/bin/env python3
"""A public-style client against the two stand-ins.

Composes location requests by its own means (standard library only, nothing of the
agent), in both forms of the wire, reads both forms of the reply, and checks that the
stand-ins refuse or note what a real server would. Prints one line per check.
"""

import atexit
import argparse
import concurrent.futures
import email.utils
import glob
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
import warnings
import xml.etree.ElementTree as ET
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import standin_site                                                 # noqa: E402

TOKEN = "lab.token.value"
GUID = "4F0E7B1C-0000-4000-8000-123456789ABC"
ZERO = "{00000000-0000-0000-0000-000000000000}"
passed = failed = 0


def check(name, ok, why=""):
    global passed, failed
    if ok:
        passed += 1
        print("ok", name)
    else:
        failed += 1
        print("FAIL %s: %s" % (name, why))


# ---- composing a request, as public tools do ----

def location_body(package="ABC00042", version="3", azure="1", extra="", info="",
                  root='SchemaVersion="1.00" BGRVersion="1" ClientInOperation="PT0M"'
                       ' ExcludeFileList=""', kind="SMSPackage", internet="0"):
    return (
        '<ContentLocationRequest %s><Package ID="%s" Version="%s"%s/>'
        '<AssignedSite SiteCode="ABC"/><ClientLocationInfo LocationType="%s"'
        ' DistributeOnDemand="0" UseAzure="%s" AllowWUMU="0" UseInternetDP="%s"'
        ' AllowHTTP="1" AllowSMB="0" AllowMulticast="0" AllowSuperPeer="0"'
        ' DPTokenAuth="0"><ADSite Name="Default-First-Site-Name"/>'
        '<Forest Name="corp.example.net"/><Domain Name="corp.example.net"/>'
        '<IPAddresses><IPAddress SubnetAddress="10.20.30.0" Address="10.20.30.17"/>'
        '</IPAddresses>%s</ClientLocationInfo></ContentLocationRequest>'
        % (root, package, version, extra, kind, azure, internet, info))


GROUPS = (
    '<Adapters><Adapter Name="eth0" IfType="6" PhysicalAddressExists="1"'
    ' DnsSuffix="corp.example.net" Description="Virtio"/></Adapters>'
    '<BoundaryGroups BoundaryGroupListRetrieveTime="2026-01-15T10:19:02.120"'
    ' IsOnVPN="0"><BoundaryGroup GroupID="5"'
    ' GroupGUID="6D1C2B3A-0000-4000-8000-00000000AAAA" GroupFlag="0"/>'
    '<DOINCServers><DOINCServer DOINCServer="cache01.corp.example.net"/>'
    '</DOINCServers></BoundaryGroups>')


def message(body, packed=True, reply="zlib", endpoint="MP_LocationManager",
            length=None, mid=None, bom=b"\xff\xfe", nul=b"\0\0", tail=b"",
            part2=None, boundary="aAbBcCdDv1234567890VxXyYzZ", end=b"\r\n",
            schema="1.1", mode="Sync", header=None, plain_end=b"\0\0",
            disposition=b""):
    """The bytes of the HTTP body; every fault of the tests is an argument."""
    data = body.encode("utf-16-le") + nul
    hooks = '<Hooks><Hook3 Name="zlib-compress"/></Hooks>' if packed else "<Hooks/>"
    head = header or (
        '<Msg %sSchemaVersion="%s"><Body Type="ByteRange" Length="%d" Offset="0"/>'
        "<CorrelationID>%s</CorrelationID>%s<ID>%s</ID>"
        '<Payload Type="inline"/><Priority>3</Priority><Protocol>http</Protocol>'
        "<ReplyMode>%s</ReplyMode><ReplyTo>direct:node7:LS_ReplyLocations</ReplyTo>"
        "<SentTime>%s</SentTime><SourceID>GUID:%s</SourceID>"
        "<SourceHost>node7</SourceHost>"
        "<TargetAddress>mp:[http]MP_LocationManager</TargetAddress>"
        "<TargetEndpoint>%s</TargetEndpoint><TargetHost>mp01.example.net</TargetHost>"
        "<Timeout>60000</Timeout></Msg>"
        % ('ReplyCompression="%s" ' % reply if reply else "", schema,
           len(data) if length is None else length, ZERO, hooks,
           mid or "{%s}" % str(uuid.uuid4()).upper(), mode,
           time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), GUID, endpoint))
    if part2 is None:
        part2 = zlib.compress(data + tail) if packed else data + plain_end
    kind = b"application/octet-stream" if packed else b"text/plain; charset=UTF-16"
    mark = b"--" + boundary.encode()
    return (mark + b"\r\n" + disposition
            + b"content-type: text/plain; charset=UTF-16\r\n\r\n"
            + bom + head.encode("utf-16-le") + b"\r\n" + mark + b"\r\ncontent-type: "
            + kind + b"\r\n\r\n" + part2 + b"\r\n" + mark + b"--" + end)


CONTENT_TYPE = 'multipart/mixed; boundary="aAbBcCdDv1234567890VxXyYzZ"'


class Answer:
    def __init__(self, response, data):
        self.status, self.reason = response.status, response.reason
        self.headers, self.data = response.headers, data

    def parts(self):
        kind = self.headers["Content-Type"]
        boundary = re.search(r'boundary="?([^";]+)', kind).group(1).encode()
        pieces = (b"\r\n" + self.data).split(b"\r\n--" + boundary)
        out = []
        for piece in pieces[1:-1]:
            head, _, data = piece[2:].partition(b"\r\n\r\n")
            out.append((head.decode().lower(), data))
        return out

    def message(self):
        data = self.parts()[0][1]
        assert data[:2] == b"\xff\xfe", "reply header has no BOM"
        return ET.fromstring(data[2:].decode("utf-16-le"))

    def text(self):
        head, data = self.parts()[1]
        if "octet-stream" in head:
            data = zlib.decompress(data)
        return data.decode("utf-16-le")

    def urls(self):
        return [u.get("Name") for u in ET.fromstring(self.text().rstrip("\0"))
                .iter("URL")]


class Server:
    """One stand-in in a folder of its own, ended by its process id."""

    def __init__(self, args, program, *options, tls=None):
        self.dir = tempfile.mkdtemp(prefix="standin.")
        self.tls, self.name = tls, program
        self.command = [os.path.join(args.bin, program), "--dir", self.dir, *options]
        self.begin()

    def begin(self):
        """Also again, on the same folder, when it was ended."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)  # also when a check ends badly
        line = self.process.stdout.readline().split()
        assert line and line[0] == "ready", "%s did not get ready" % self.name
        self.port = int(line[1])

    def write(self, name, data):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())

    def script(self, text=None):
        if text is None:
            os.unlink(os.path.join(self.dir, "script"))
        else:
            self.write("script", text)

    def log(self):
        with open(os.path.join(self.dir, self.name + ".log")) as f:
            return [json.loads(line) for line in f]

    def last(self):
        return self.log()[-1]

    def connect(self, client=None):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        context = ssl.create_default_context(cafile=self.tls)
        if client:
            context.load_cert_chain(*client)
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20,
                                                 context=context)
        # a bare chroot has no hosts file: the name is for SNI and certificate
        connection._create_connection = lambda address, *more: \
            socket.create_connection(("127.0.0.1", address[1]), *more)
        return connection

    def ask(self, method, path, body=None, headers=None, client=None):
        connection = self.connect(client)
        headers = {"User-Agent": "ConfigMgr Messaging HTTP Sender", **(headers or {})}
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        answer = Answer(response, response.read())
        connection.close()
        return answer

    def locate(self, body=None, path="/ccm_system/request", method="CCM_POST",
               token=None, client=None, kind=CONTENT_TYPE, raw=None, headers=None,
               **faults):
        headers = {"Content-Type": kind, **(headers or {})}
        if token:
            headers["Authorization"] = "Bearer " + token
        data = raw if raw is not None else message(body or location_body(), **faults)
        return self.ask(method, path, data, headers, client)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "does not end"
        self.process.stdout.close()
        shutil.rmtree(self.dir)
        return status


# ---- the management point over http ----

REPLY = """<ContentLocationReply SchemaVersion="1.00"><ContentInfo/><Sites><Site>
<MPSite SiteCode="ABC" MasterSiteCode="ABC" SiteLocality="LOCAL"/><LocationRecords>
<LocationRecord><URL Name="http://dp/SMS_DP_SMSPKG$/ABC00042" Signature=""/>
</LocationRecord><LocationRecord><URL Name="https://c/downloadrestservice.svc/x?a=1"/>
</LocationRecord></LocationRecords></Site></Sites></ContentLocationReply>"""


def clean(server, name):
    last = server.last()
    check(name + ", nothing to object to", last["violations"] == [],
          last["violations"])


def good_requests(mp):
    a = mp.locate(mid="{11111111-2222-4333-8444-555555555555}")
    check("compressed request", a.status == 200, (a.status, mp.last()))
    check("compressed reply is an octet stream", "octet-stream" in a.parts()[1][0],
          a.parts()[1][0])
    text = a.text()
    check("reply ends in one NUL and has no BOM",
          text.endswith(">\0") and text[0] == "<", repr(text[-4:]))
    check("reply names both sources", len(a.urls()) == 2, a.urls())
    msg = a.message()
    check("reply header answers our message", msg.findtext("CorrelationID")
          == "{11111111-2222-4333-8444-555555555555}"
          and msg.findtext("TargetEndpoint") == "LS_ReplyLocations",
          ET.tostring(msg))
    check("reply header counts the bytes",
          int(msg.find("Body").get("Length")) == len(text) * 2, len(text))
    clean(mp, "compressed request")
    last = mp.last()
    check("log has the request", last["package_id"] == "ABC00042"
          and last["version"] == "3" and last["use_azure"] == "1"
          and last["dp_token_auth"] == "0" and last["client_in_operation"] == "PT0M"
          and last["compressed"] is True and last["boundary_groups"] == []
          and last["msg"]["SourceID"] == "GUID:" + GUID, last)

    a = mp.locate(packed=False, reply="none", body=location_body(info=GROUPS))
    check("plain request", a.status == 200 and len(a.urls()) == 2, a.status)
    check("plain reply is text", "text/plain; charset=utf-16" in a.parts()[1][0]
          and a.text().endswith("\0"), a.parts()[1][0])
    clean(mp, "plain request")
    check("log has the boundary groups", mp.last()["boundary_groups"]
          == ["6D1C2B3A-0000-4000-8000-00000000AAAA"]
          and mp.last()["compressed"] is False, mp.last())

    a = mp.locate(reply=None)
    check("reply is compressed when nothing is said",
          "octet-stream" in a.parts()[1][0])
    a = mp.locate(tail=b"\r\n", end=b"")
    check("CRLF inside the stream, none at the end",
          a.status == 200 and mp.last()["violations"] == []
          and mp.last()["has_inner_crlf"], mp.last())
    a = mp.locate(body=location_body(package="UID:Content_" + GUID,
                                     kind="SMSUpdate"))
    check("unknown content gets an empty list", a.status == 200 and a.urls() == []
          and "<LocationRecords/>" in a.text(), a.status)
    clean(mp, "application content")
    a = mp.locate(path="/CCM_System/REQUEST")
    check("paths ignore case", a.status == 200, a.status)
    a = mp.locate(body=location_body(azure="0"))
    check("UseAzure=0 leaves the cloud out", a.urls()
          == ["http://dp/SMS_DP_SMSPKG$/ABC00042"], a.urls())
    mp.write("replies/ABC00042.4.xml", REPLY.replace("//dp/", "//four/"))
    a = mp.locate(body=location_body(version="4"))
    check("a reply for one version", "//four/" in a.urls()[0], a.urls())
    for path in sorted(glob.glob(os.path.join(os.path.dirname(
            os.path.abspath(__file__)), "samples", "*.xml"))):
        with open(path, "rb") as f:
            mp.write("replies/ABC00099.xml", f.read())
        a = mp.locate(body=location_body(package="ABC00099"))
        urls = a.urls()
        b = mp.locate(body=location_body(package="ABC00099", azure="0"))
        cloud = [u for u in urls if "downloadrestservice.svc" in u.lower()]
        check("sample " + os.path.basename(path), len(cloud) == 1
              and b.urls() == [u for u in urls if u not in cloud], urls)


def refused(mp, name, status, reason=None, **how):
    a = mp.locate(**how)
    check("refused: " + name, a.status == status
          and (reason is None or a.reason == reason) and "refused" in mp.last(),
          (a.status, a.reason, mp.last()))


def bad_requests(mp):
    refused(mp, "POST", 405, "Method Not Allowed", method="POST")
    refused(mp, "GET", 405, method="GET", raw=b"")
    refused(mp, "no multipart", 400, "Bad Request", kind="text/xml")
    refused(mp, "no boundary", 400, kind="multipart/mixed")
    refused(mp, "other boundary", 400, kind="multipart/mixed; boundary=zzz")
    refused(mp, "empty body", 400, raw=b"")
    refused(mp, "body cut short", 400, raw=message(location_body())[:-40])
    refused(mp, "no BOM", 500, "Internal Server Error", bom=b"")
    refused(mp, "UTF-8 header", 500, raw=message(location_body()).replace(
        b"\xff\xfe", b"\xef\xbb\xbf"))
    refused(mp, "malformed header", 500, header="<Msg SchemaVersion='1.1'>")
    refused(mp, "header is no Msg", 500, header="<Message/>")
    refused(mp, "Msg without Body", 500, header=
            "<Msg SchemaVersion='1.1'><ReplyMode>Sync</ReplyMode></Msg>")
    refused(mp, "asynchronous", 500, mode="Async")
    refused(mp, "no zlib stream", 500, part2=b"no zlib here")
    data = zlib.compress(location_body().encode("utf-16-le") + b"\0\0")
    refused(mp, "zlib stream cut short", 500, part2=data[:-6])
    refused(mp, "zlib checksum wrong", 500, part2=data[:-1] + b"\x00")
    refused(mp, "zlib hook with plain body", 500,
            part2=location_body().encode("utf-16-le") + b"\0\0")
    refused(mp, "zlib bomb", 500, part2=zlib.compress(bytes(64 << 20)))
    refused(mp, "malformed body", 500, body="<ContentLocationRequest>")
    refused(mp, "document type", 500,
            body="<!DOCTYPE x [<!ENTITY a 'b'>]>" + location_body())
    refused(mp, "odd number of bytes", 500, nul=b"\0\0\0")
    refused(mp, "unknown endpoint", 500, endpoint="MP_Nowhere")
    refused(mp, "other document", 500, body="<SiteInformationRequest/>")
    refused(mp, "no package", 500, body=location_body().replace("<Package", "<Pack"))
    refused(mp, "package id with a path", 500, body=location_body(package="../../x"))
    refused(mp, "unknown path", 404, path="/ccm_other/request")
    refused(mp, "token path over http", 403, "Forbidden", token=TOKEN,
            path="/ccm_system_tokenauth/request")
    refused(mp, "gateway over http", 403,
            path="/CCM_Proxy_ServerAuth/72057594037927941/ccm_system/request")
    a = mp.locate(raw=b"x" * (5 << 20))
    check("refused: 5 MiB of body", a.status == 413, a.status)
    check("still serves", mp.locate().status == 200)


def noted(mp, name, word, **how):
    a = mp.locate(**how)
    found = [v for v in mp.last()["violations"] if word in v]
    check("noted: " + name, a.status == 200 and len(found) == 1,
          (a.status, mp.last()["violations"]))


def tolerated_requests(mp):
    noted(mp, "wrong Length", "Length says 728", length=728)
    noted(mp, "no NUL", "without a NUL", nul=b"")
    noted(mp, "two NULs", "more than one NUL", nul=b"\0\0\0\0")
    noted(mp, "body with BOM", "byte order mark", body="\ufeff" + location_body())
    noted(mp, "plain body without its last 00 00", "without 00 00", packed=False,
          plain_end=b"")
    noted(mp, "form-data part headers", "extra part header",
          disposition=b'Content-Disposition: form-data; name="Msg"\r\n')
    noted(mp, "form-data", "not multipart/mixed", kind=CONTENT_TYPE.replace(
        "mixed", "form-data"))
    noted(mp, "Expect", "Expect", headers={"Expect": "100-continue"})
    noted(mp, "bytes behind the stream", "behind the zlib stream", part2=zlib.compress(
        location_body().encode("utf-16-le") + b"\0\0") + b"\r\n")
    noted(mp, "bytes behind the last boundary", "behind the last", end=b"\r\n\r\n")
    noted(mp, "text before the first part", "in front of",
          raw=b"hello\r\n" + message(location_body()))
    noted(mp, "message schema", "SchemaVersion=\"1.0\"", schema="1.0")
    noted(mp, "message id", "ID: text", mid="17")
    noted(mp, "request schema", "SchemaVersion",
          body=location_body(root='SchemaVersion="1.0"'))
    noted(mp, "DeploymentFlags", "DeploymentFlags",
          body=location_body(extra=' DeploymentFlags="4098"'))
    noted(mp, "ClientInOperation", "ClientInOperation=\"5\"", body=location_body(
        root='SchemaVersion="1.00" ClientInOperation="5"'))
    noted(mp, "unknown element", "unknown element", body=location_body(
        info="<Weather/>"))
    noted(mp, "flag that is none", "UseAzure=\"yes\"", body=location_body(azure="yes"))
    noted(mp, "location type", "LocationType", body=location_body(kind="Application"))
    noted(mp, "odd package id", "ID=\"abc\"", body=location_body(package="abc"))
    noted(mp, "token over http", "plain HTTP", token=TOKEN)


def mp_lists(mp):
    a = mp.ask("GET", "/SMS_MP/.sms_aut?MPLIST")
    check("no list of management points: 404", a.status == 404, a.status)
    mp.write("mplist.xml", "<MPList><MP Name='a' FQDN='a.example.net'/></MPList>")
    a = mp.ask("GET", "/sms_mp/.SMS_AUT?MPLIST")
    check("list of management points", a.status == 200
          and ET.fromstring(a.data).tag == "MPList", a.status)


def mp_scripts(mp):
    mp.script("status 403\nreason CMGConnector_Forbidden\n")
    a = mp.locate()
    check("script: status and reason", (a.status, a.reason)
          == (403, "CMGConnector_Forbidden"), (a.status, a.reason))
    mp.script("empty\n")
    a = mp.locate()
    check("script: empty", a.status == 200 and a.data == b"", a.data)
    mp.script("html\n")
    a = mp.locate()
    check("script: html", a.status == 200 and b"<html" in a.data
          and a.headers["Content-Type"] == "text/html", a.data)
    mp.script("plain\n")
    check("script: plain", "text/plain" in mp.locate().parts()[1][0])
    mp.script("bom\n")
    check("script: bom", mp.locate().text()[0] == "\ufeff")
    mp.write("other.xml", "<ContentLocationReply a='\u00e9'/>")
    mp.script("body other.xml\n")
    check("script: body", mp.locate().text() == "<ContentLocationReply a='\u00e9'/>\0")
    mp.script("bodyraw other.xml\n")
    check("script: bodyraw", zlib.decompress(mp.locate().parts()[1][1])[:4] == b"<Con")
    mp.write("bomb.z", zlib.compress(bytes(1 << 20)))
    mp.script("rawpart2 bomb.z\n")
    check("script: rawpart2", len(zlib.decompress(mp.locate().parts()[1][1]))
          == 1 << 20)
    mp.write("any.bin", b"any\0thing")
    mp.script("raw any.bin\ncontent_type x/y\nheader X-Lab: one two\n")
    a = mp.locate()
    check("script: raw, content_type, header", a.data == b"any\0thing"
          and a.headers["Content-Type"] == "x/y" and a.headers["X-Lab"] == "one two")
    mp.script("status 503\nretry_after 7\ntimes 2\n")
    got = [mp.locate() for _ in range(3)]
    check("script: times and retry_after", [a.status for a in got] == [503, 503, 200]
          and got[0].headers["Retry-After"] == "7", [a.status for a in got])
    mp.script("status 500\nskip 1\ntimes 1\n")
    got = [mp.locate().status for _ in range(3)]
    check("script: skip", got == [200, 500, 200], got)
    mp.script("mplist_only\n")
    check("script: mplist_only", mp.locate().status == 500
          and mp.ask("GET", "/SMS_MP/.sms_aut?MPLIST").status == 200)
    mp.script("on mplist\nstatus 500\n")
    check("script: on", mp.locate().status == 200
          and mp.ask("GET", "/SMS_MP/.sms_aut?MPLIST").status == 500)
    mp.script("redirect http://other.example.net/x\n")
    a = mp.locate()
    check("script: redirect", a.status == 302
          and a.headers["Location"] == "http://other.example.net/x", a.status)
    mp.script("delay_ms 300\n")
    start = time.monotonic()
    mp.locate()
    check("script: delay_ms", time.monotonic() - start >= 0.29)
    mp.script("cut 100\n")
    try:
        mp.locate()
        check("script: cut", False, "whole reply")
    except http.client.IncompleteRead as e:
        check("script: cut", len(e.partial) == 100, len(e.partial))
    mp.script("close\n")
    try:
        mp.locate()
        check("script: close", False, "an answer")
    except (http.client.RemoteDisconnected, ConnectionError):
        check("script: close", True)
    mp.script()
    check("without a script all is well", mp.locate().status == 200)


def keep_alive(mp):
    connection = mp.connect()
    got = []
    for body in (location_body(), location_body(package="ABC00001")):
        connection.request("CCM_POST", "/ccm_system/request", body=message(body),
                           headers={"Content-Type": CONTENT_TYPE})
        response = connection.getresponse()
        got.append((response.status, len(response.read()) > 0))
    connection.close()
    ports = {line["peer_port"] for line in mp.log()[-2:]}
    check("two requests on one connection", got == [(200, True)] * 2
          and len(ports) == 1, (got, ports))
    mp.script("delay_ms 60000\n")
    with socket.create_connection(("127.0.0.1", mp.port)) as s:
        data = message(location_body())
        s.sendall(b"CCM_POST /ccm_system/request HTTP/1.1\r\nHost: mp\r\n"
                  b"User-Agent: lab\r\nContent-Type: " + CONTENT_TYPE.encode()
                  + b"\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        time.sleep(0.3)
        start = time.monotonic()
        status = mp.end()
        check("SIGTERM ends it, a waiting reply or not", status == 0
              and time.monotonic() - start < 5, status)


# ---- over https ----

def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_ca(folder, name):
    openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=" + name,
            "-keyout", name + ".key", "-out", name + ".pem",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def make_leaf(folder, ca, name, usage, names):
    with open(os.path.join(folder, name + ".ext"), "w") as f:
        f.write("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
                "extendedKeyUsage=%s\nsubjectAltName=%s\n" % (usage, names))
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=" + name, "-keyout", name + ".key",
            "-out", name + ".csr")
    openssl(folder, "x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem",
            "-CAkey", ca + ".key", "-CAcreateserial", "-days", "30",
            "-extfile", name + ".ext", "-out", name + ".pem")
    return (os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key"))


def make_certificates(folder):
    for ca in ("lab-ca", "other-ca"):
        make_ca(folder, ca)
    return {
        "ca": os.path.join(folder, "lab-ca.pem"),
        "server": make_leaf(folder, "lab-ca", "server", "serverAuth",
                            "DNS:localhost,IP:127.0.0.1"),
        "client": make_leaf(folder, "lab-ca", "node7", "clientAuth", "DNS:node7"),
        "stranger": make_leaf(folder, "other-ca", "stranger", "clientAuth", "DNS:x"),
        "misused": make_leaf(folder, "lab-ca", "misused", "serverAuth", "DNS:y"),
    }


MUTUAL = "/CCM_Proxy_MutualAuth/72057594037927941"
SERVER = "/CCM_Proxy_ServerAuth/72057594037927941"


def https_mp(args, pki):
    mp = Server(args, "mp", "--tls", *pki["server"], "--client-ca", pki["ca"],
                "--token", TOKEN, tls=pki["ca"])
    mp.write("replies/ABC00042.xml", REPLY)
    mp.write("mplist.xml", "<MPList/>")
    words = "Client certificate required"
    refused(mp, "https without a client certificate", 403, words)
    refused(mp, "certificate of a stranger", 403, words, client=pki["stranger"])
    refused(mp, "certificate of a server", 403, words, client=pki["misused"])
    a = mp.locate(client=pki["client"])
    check("mutual TLS", a.status == 200 and len(a.urls()) == 2, a.status)
    check("log has the subject, the name and the version of TLS",
          mp.last()["client_certificate"] == "CN=node7"
          and mp.last()["sni"] == "localhost" and mp.last()["tls"] == "TLS1.3",
          mp.last())
    clean(mp, "mutual TLS")

    path = "/ccm_system_tokenauth/request"
    words = "CMGService_Invalid_Token"
    refused(mp, "no token", 401, words, path=path)
    refused(mp, "wrong token", 401, words, path=path, token="other")
    refused(mp, "token without its prefix", 401, words, path=path,
            headers={"Authorization": TOKEN})
    a = mp.locate(path=path, token=TOKEN)
    check("token", a.status == 200 and mp.last()["token"] is True, a.status)
    clean(mp, "token")
    check("reason in a header too", mp.locate(path=path).headers["X-Reason"] == words)

    far = location_body(internet="1")
    a = mp.locate(far, path=SERVER + path, token=TOKEN)
    check("gateway with a token", a.status == 200, a.status)
    clean(mp, "gateway with a token")
    a = mp.locate(far, path=MUTUAL + "/ccm_system/request", client=pki["client"])
    check("gateway with a certificate", a.status == 200, a.status)
    clean(mp, "gateway with a certificate")
    refused(mp, "gateway, token on the path for certificates", 403,
            path=MUTUAL + path, token=TOKEN)
    refused(mp, "gateway without a token", 401, words, path=SERVER + path)
    refused(mp, "gateway without an id", 404, token=TOKEN,
            path="/CCM_Proxy_ServerAuth/ccm_system_tokenauth/request")
    noted(mp, "gateway without UseInternetDP", "UseInternetDP", token=TOKEN,
          path=SERVER + path)
    bearer = {"Authorization": "Bearer " + TOKEN}
    list_path = "/SMS_MP/.sms_aut?MPLIST"
    check("list through a gateway", mp.ask(
        "GET", SERVER + list_path, headers=bearer).status == 200
          and mp.ask("GET", SERVER + list_path).status == 401)
    check("ServiceMetadata asks for nothing",
          mp.ask("GET", "/CCM_Proxy_MutualAuth/ServiceMetadata").status == 200)
    with open(os.path.join(mp.dir, "mp.log")) as f:
        check("no token in the log", TOKEN not in f.read())
    context = ssl.create_default_context(cafile=pki["ca"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with socket.create_connection(("127.0.0.1", mp.port)) as s:
            context.wrap_socket(s, server_hostname="localhost")
        check("TLS 1.1 is refused", False, "handshake")
    except (ssl.SSLError, ConnectionError):
        check("TLS 1.1 is refused", True)
    check("https mp ends", mp.end() == 0)

    mp = Server(args, "mp", "--tls", *pki["server"], "--token", TOKEN,
                "--token-header", "CCMToken", tls=pki["ca"])
    check("https without --client-ca is open", mp.locate().status == 200)
    a = mp.locate(path=path, headers={"CCMToken": TOKEN})
    check("another token header", a.status == 200, a.status)
    mp.end()


def parallel(args):
    mp = Server(args, "mp", "--address", "127.0.0.1")
    mp.script("status 503\ntimes 20\n")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda _: mp.locate().status, range(80)))
    check("80 requests, 16 at once, 20 of them scripted",
          got.count(503) == 20 and got.count(200) == 60, got)
    check("a log line for each", len(mp.log()) == 80)
    mp.end()
    try:
        mp = Server(args, "mp", "--address", "::1")
        with socket.create_connection(("::1", mp.port)) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: mp\r\n\r\n")
            check("IPv6", s.recv(100).startswith(b"HTTP/1.1 404 Not Found"))
        mp.end()
    except AssertionError:
        print("skip IPv6: not on this machine")


# ---- the cloud service ----

def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + seconds))


def query(cid="ABC00042", st=-60, et=3600, leave=None, **more):
    pairs = {"pid": "ABC00042", "cid": cid, "tid": "GUID:" + GUID,
             "iss": "CMDP.ABC.EXAMPLE.NET", "alg": "1.2.840.113549.1.1.11",
             "st": stamp(st), "et": stamp(et), **more}
    pairs.pop(leave, None)
    return "&".join("%s=%s" % (k, v) for k, v in pairs.items())


XML = "/downloadrestservice.svc/getcontentxmlsecure?"
FILE = "/downloadrestservice.svc/getcontentfile?"


def manifests(c, bearer):
    text = "<Content ContentId='ABC00042' Version='3'/>"
    c.write("manifests/ABC00042.xml", text)
    a = c.ask("GET", XML + query(), headers=bearer)
    check("manifest", a.status == 200 and a.data.decode() == text
          and a.headers["Content-Type"] == "application/xml", a.status)
    clean(c, "manifest")
    check("query is logged as sent", c.last()["query"].startswith("pid=ABC00042&cid"))
    cases = [
        ("no token", XML + query(), {}, 401),
        ("wrong token", XML + query(), {"Authorization": "Bearer x"}, 403),
        ("expired", XML + query(et=-1), bearer, 403),
        ("not yet", XML + query(st=3600, et=7200), bearer, 403),
        ("no time", XML + query(et=0).replace("et=", "et=x"), bearer, 400),
        ("unknown content", XML + query(cid="ABC00001"), bearer, 404),
        ("content id with a path", XML + query(cid="..%2Fx"), bearer, 404),
        ("unknown alg", XML + query(alg="1.2.3"), bearer, 400),
        ("unknown verb", "/downloadrestservice.svc/other?" + query(), bearer, 404),
        ("unknown path", "/other?" + query(), bearer, 404)]
    cases += [("no " + name, XML + query(leave=name), bearer, 400)
              for name in ("pid", "cid", "tid", "iss", "alg", "st", "et")]
    for name, path, headers, status in cases:
        a = c.ask("GET", path, headers=headers)
        check("cloud refuses: " + name, a.status == status, a.status)
    check("cloud refuses: PROPFIND", c.ask("PROPFIND", XML + query(),
                                           headers=bearer).status == 405)
    check("cloud path ignores case", c.ask(
        "GET", (XML + query()).replace("downloadrest", "DownloadREST"),
        headers=bearer).status == 200)


def content_files(c, bearer):
    data = hashlib.sha512(b"lab").digest() * 50000
    c.write("files/ABC00042/sub folder/to\u00f6ls#1.msi", data)
    c.write("files/ABC00042/empty", b"")
    name = urllib.parse.quote("sub folder/to\u00f6ls#1.msi", safe="")

    def get(method="GET", name=name, **headers):
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        return c.ask(method, FILE + query(name=name), headers={**bearer, **headers})

    a = get()
    tag, when = a.headers["ETag"], a.headers["Last-Modified"]
    check("file", a.status == 200 and a.data == data
          and a.headers["Accept-Ranges"] == "bytes", a.status)
    check("file has validators", re.fullmatch('"[0-9a-f-]+"', tag)
          and email.utils.parsedate_to_datetime(when), (tag, when))
    clean(c, "file")
    a = get("HEAD")
    check("HEAD", a.status == 200 and a.data == b""
          and int(a.headers["Content-Length"]) == len(data), a.headers)
    size = len(data)
    for text, first, last in (("bytes=0-99", 0, 99), ("bytes=100-", 100, size - 1),
                              ("bytes=-7", size - 7, size - 1),
                              ("bytes=5-99999999999", 5, size - 1)):
        a = get(Range=text)
        check("range " + text, a.status == 206 and a.data == data[first:last + 1]
              and a.headers["Content-Range"] == "bytes %d-%d/%d" % (first, last, size),
              (a.status, a.headers["Content-Range"]))
    a = get(Range="bytes=%d-" % size)
    check("range at the end: 416", a.status == 416
          and a.headers["Content-Range"] == "bytes */%d" % size, a.status)
    check("two ranges: all", get(Range="bytes=0-1,5-6").status == 200)
    part = dict(Range="bytes=10-")
    check("If-Range that holds", get(If_Range=tag, **part).status == 206)
    check("If-Range by date", get(If_Range=when, **part).status == 206)
    check("If-Range that does not hold", get(If_Range='"x"', **part).status == 200)
    check("If-Range weak", get(If_Range="W/" + tag, **part).status == 200)
    check("If-Match that holds", get(If_Match=tag, **part).status == 206)
    check("If-Match that does not hold", get(If_Match='"x"').status == 412)
    check("If-None-Match", get(If_None_Match=tag).status == 304)
    a = get(name="empty")
    check("empty file", a.status == 200 and a.data == b"")
    check("range of an empty file", get(name="empty", Range="bytes=0-").status == 416)
    os.symlink("/etc/hostname", os.path.join(c.dir, "files/ABC00042/link"))
    for bad in ("..%2F..%2Fscript", "%2Fetc%2Fhostname", "link", "sub%20folder", "no"):
        check("no such file: " + bad, get(name=bad).status == 404)
    check("name that does not decode", get(name="%zz").status == 400)
    get(Accept_Encoding="gzip")
    check("noted: gzip asked for", len(c.last()["violations"]) == 1)
    c.script("on file\nno_range\n")
    check("script: no_range", get(**part).status == 200)
    c.script("on file\netag \"other\"\n")
    check("script: etag", get(If_Range=tag, **part).status == 200)
    c.script("on file\ncut 1000\nskip 1\ntimes 1\n")
    check("script on file: manifest is served",
          c.ask("GET", XML + query(), headers=bearer).status == 200
          and get().status == 200)
    try:
        get()
        check("script: cut of a file", False, "whole file")
    except http.client.IncompleteRead as e:
        check("script: cut of a file", e.partial == data[:1000], len(e.partial))
    c.script("status 403\n")
    check("script: status of a file", get().status == 403)
    c.script("redirect https://elsewhere.example.net/\nstatus 307\n")
    a = get()
    check("script: redirect of a file", a.status == 307 and a.headers["Location"])
    c.script("ignore_et\n")
    check("script: ignore_et", c.ask("GET", XML + query(et=-9), headers=bearer).status
          == 200)
    c.script()
    with open(os.path.join(c.dir, "cloud.log")) as f:
        check("no token in the cloud's log", TOKEN not in f.read())


def run(args):
    pki_dir = tempfile.mkdtemp(prefix="standin-pki.")
    servers = []
    try:
        pki = make_certificates(pki_dir)
        mp = Server(args, "mp")
        servers.append(mp)
        mp.write("replies/ABC00042.xml", REPLY)
        good_requests(mp)
        bad_requests(mp)
        tolerated_requests(mp)
        mp_lists(mp)
        mp_scripts(mp)
        keep_alive(mp)
        https_mp(args, pki)
        parallel(args)
        mp = Server(args, "mp")
        servers.append(mp)
        standin_site.run(mp, check, Server.begin)
        check("mp with clients ends", mp.end() == 0)
        cloud = Server(args, "cloud", "--tls", *pki["server"], "--token", TOKEN,
                       tls=pki["ca"])
        servers.append(cloud)
        bearer = {"Authorization": "Bearer " + TOKEN}
        manifests(cloud, bearer)
        content_files(cloud, bearer)
        check("cloud ends", cloud.end() == 0)
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.end()
        shutil.rmtree(pki_dir)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default="build/lab", help="where mp and cloud are")
    run(parser.parse_args())
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
