"""What test_standin.py checks of registration, policy and state messages."""

import concurrent.futures
import hashlib
import http.client
import json
import os
import re
import tempfile
import time
import xml.etree.ElementTree as ET
import zlib

import policy
import siteclient
from siteclient import CONTENT_TYPE, Client

REGISTER, ASSIGN, RELAY = ("MP_ClientRegistration", "MP_PolicyManager",
                           "MP_RelayEndpoint")


class Site:
    """A stand-in and the checks; `check`, `clean` are those of test_standin."""

    def __init__(self, mp, check, folder):
        self.mp, self.check, self.folder = mp, check, folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def send(self, client, endpoint, body, **how):
        return self.mp.ask("CCM_POST", "/ccm_system/request",
                           client.message(endpoint, body, **how),
                           {"Content-Type": CONTENT_TYPE})

    def register(self, client, packed=True, **how):
        a = self.send(client, REGISTER, client.registration(**how), packed=packed,
                      signed=False, source="")
        if a.status == 200 and a.data:
            root = ET.fromstring(a.text().rstrip("\0"))
            client.smsid = root.get("SMSID")
        return a

    def assign(self, client, body=None, **how):
        return self.send(client, ASSIGN, body or client.assignments(), **how)

    def clean(self, name):
        last = self.mp.last()
        self.check(name + ", nothing to object to", last["violations"] == []
                   and "refused" not in last, last["violations"])

    def refused(self, name, answer, word, status=200):
        """Empty (or an error page), and the log says why."""
        last = self.mp.last()
        found = [v for v in last["violations"] if word in v]
        self.check("refused: " + name, answer.status == status
                   and (status != 200 or answer.data == b"") and len(found) == 1
                   and word in last["refused"],
                   (answer.status, answer.data[:60], last.get("refused"),
                    last["violations"]))

    def noted(self, name, answer, word):
        found = [v for v in self.mp.last()["violations"] if word in v]
        self.check("noted: " + name, answer.status == 200 and answer.data != b""
                   and len(found) == 1, (answer.status, self.mp.last()))

    def site(self, text):
        self.mp.write("site", text)

    def policies(self, client):
        """The assignments as {id: (attributes, location)}."""
        text = self.assign(client).text().rstrip("\0")
        return {p.get("PolicyID"): (p.attrib, p.find("PolicyLocation"))
                for p in ET.fromstring(text).iterfind("PolicyAssignment/Policy")}

    def get(self, location, headers=None, method="GET"):
        """Ask for the URL, with <mp> replaced."""
        url = location.text.replace("http://<mp>", "")
        return self.mp.ask(method, url, headers=headers)


def text_of(data):
    """A document as sent: UTF-16LE behind its mark."""
    assert data[:2] == b"\xff\xfe", data[:8]
    return data[2:].decode("utf-16-le")


def registrations(s):
    c = Client(s.path("one"))
    a = s.register(c)
    s.check("registration", a.status == 200 and re.fullmatch(
        "GUID:[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", c.smsid), (a.status, a.data))
    s.clean("registration")
    kept = os.path.join(s.mp.dir, "clients", c.smsid[5:] + ".der")
    with open(kept, "rb") as stream:
        s.check("the certificate is kept", stream.read() == c.der())
    first = c.smsid
    s.register(c, packed=False)
    s.check("the same certificate gets the same id, plain form", c.smsid == first)
    s.clean("registration in plain form")
    s.register(c, smsid=first)
    s.check("registering again with the id", c.smsid == first)
    d = Client(s.path("two"), encryption=siteclient.certificate(
        s.path("two-enc"), usage=siteclient.ENCRYPTION), usage=siteclient.SIGNING)
    s.register(d)
    s.check("two certificates, one a role", d.smsid and d.smsid != first, d.smsid)
    s.clean("two certificates")
    s.register(d, smsid="GUID:4F0E7B1C-0000-4000-8000-123456789ABC")
    s.check("an id that the site does not know gets a new one",
            d.smsid.startswith("GUID:") and "4F0E7B1C" not in d.smsid)
    return c, d


def bad_registrations(s, c):
    def refused(name, word, client=c, **how):
        a = s.send(client, REGISTER, client.registration(**how), signed=False,
                   source="")
        s.refused("registration, " + name, a, word)

    refused("signature of other text", "not of this",
            over=lambda data: data.replace("node7", "node8"))
    refused("signature with NUL", "not of this", value=c.sign_text)
    refused("signature with BOM", "not of this",
            value=lambda data: c.sign(("\ufeff" + data).encode("utf-16-le")))
    refused("signature of UTF-8", "not of this",
            value=lambda data: c.sign(data.encode()))
    refused("octets not reversed", "not reversed",
            value=lambda data: c.sign(data.encode("utf-16-le"), reverse=False))
    refused("SHA-1", "not of this",
            value=lambda data: c.sign(data.encode("utf-16-le"), digest="sha1"))
    refused("PSS", "not of this", value=lambda data: c.sign(
        data.encode("utf-16-le"), padding=("rsa_padding_mode:pss",)))
    refused("short signature", "256 octets",
            value=lambda data: c.sign_text(data, "")[2:])
    refused("certificate in base64", "not in hex", signing="MIIC==")
    refused("bytes behind the certificate", "no DER", signing=c.der().hex() + "00")
    refused("certificate cut short", "no DER", signing=c.der().hex()[:-2])
    for name, word, how in (
            ("1024 bits", "2048 bits", {"key": ("rsa:1024",)}),
            ("key of elliptic curves", "2048 bits",
             {"key": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")}),
            ("certificate with SHA-1", "SHA-256", {"digest": "sha1"}),
            ("no key usage", "key usage lacks", {"key_usage": None}),
            ("key usage for signatures only", "key usage lacks",
             {"key_usage": "digitalSignature"}),
            ("no extended usage", "extended key usage", {"usage": None}),
            ("usage of TLS", "extended key usage", {"usage": "clientAuth"})):
        odd = Client(s.path("odd-" + re.sub(r"\W", "-", name)), **how)
        refused(name, word, odd)
    refused("certificate of another issuer", "signed by itself", Client(
        s.path("odd-issued"), by=s.path("two")))
    refused("one certificate only for encryption", "signing certificate", Client(
        s.path("two-enc")))
    refused("encryption certificate for signing", "encryption certificate",
            Client(c.base, encryption=s.path("two")))
    stranger = Client(s.path("stranger"))
    refused("id of another client", "another certificate", stranger, smsid=c.smsid)

    def noted(name, word, change):
        a = s.send(c, REGISTER, c.registration(change=change), signed=False, source="")
        s.noted("registration, " + name, a, word)

    old = Client(siteclient.expired(s.path("odd-expired"), c.base))
    s.noted("registration, certificate of yesterday", s.send(
        old, REGISTER, old.registration(), signed=False, source=""), "not valid")
    noted("RequestType", "RequestType", lambda t: t.replace('"Registration"', '"New"'))
    noted("TimeStamp", "TimeStamp", lambda t: re.sub(r'Z"><Agent', '"><Agent', t))
    noted("HashAlgorithm", "HashAlgorithm", lambda t: t.replace("1.1.11", "1.1.5", 1))
    noted("AgentVersion", "AgentVersion", lambda t: t.replace("5.00.", "4.00."))
    noted("KeyType", "KeyType", lambda t: t.replace('KeyType="1"', 'KeyType="2"', 1))
    noted("Encoding", "Encoding", lambda t: t.replace("HexBinary", "Base64", 1))
    noted("unknown attribute", "Colour", lambda t: t.replace(
        "SMSID=", 'Colour="blue" SMSID='))
    noted("no FQ Name", "no FQ Name", lambda t: re.sub(
        '<Property Name="FQ Name"[^>]*>', "", t))
    a = s.send(c, REGISTER, "<Other/>", signed=False, source="")
    s.check("refused: registration, another document", a.status == 500, a.status)


def signed_requests(s, c, d):
    a = s.assign(c)
    root = ET.fromstring(a.text().rstrip("\0")) if a.data else None
    s.check("assignments, none", root is not None and root.tag == "ReplyAssignments"
            and root.find("PolicyAssignment") is None, a.data[:80])
    s.clean("signed request")
    s.check("log has the signer", s.mp.last()["signed_by"] == c.smsid)
    s.assign(c, packed=False)
    s.clean("signed request in plain form")
    s.assign(c, minimal=True)
    s.clean("signed request, smallest set of properties")
    s.assign(d)
    s.clean("signed request with two certificates")

    def refused(name, word, client=c, **how):
        s.refused("signed request, " + name, s.assign(client, **how), word)

    def prop(name, value):
        return {"properties": {name: value}}

    refused("no signature", "not signed", signed=False)
    stranger = Client(s.path("stranger"))
    stranger.smsid = "GUID:4F0E7B1C-0000-4000-8000-123456789ABC"
    refused("unknown client", "unknown client", stranger)
    refused("no SourceID", "unknown client", source="")
    stranger.smsid = c.smsid
    refused("key of another", "PublicKey", stranger)
    refused("key of another, not shown", "PayloadSignature", stranger, minimal=True)
    text = c.assignments()
    refused("other level of zlib", "PayloadSignature", change=lambda part2:
            zlib.compress(zlib.decompress(part2), 1))
    refused("plain form changed", "PayloadSignature", packed=False,
            change=lambda part2: part2.replace(b"A\0B\0C\0", b"A\0B\0D\0"))
    wide = text.encode("utf-16-le") + b"\0\0"
    refused("signature of the text, not of what is sent", "PayloadSignature",
            body=text, **prop("PayloadSignature", c.sign(wide)))
    refused("signature without the last zeros of the plain form", "PayloadSignature",
            body=text, packed=False, **prop("PayloadSignature", c.sign(wide)))
    packed = zlib.compress(wide)
    refused("octets not reversed", "not reversed", body=text, **prop(
        "PayloadSignature", c.sign(packed, reverse=False)))
    refused("lower case", "upper-case hex", body=text, **prop(
        "PayloadSignature", c.sign(packed).lower()))
    refused("no PayloadSignature", "no PayloadSignature", **prop(
        "PayloadSignature", None))
    refused("id signed without NUL", "ClientIDSignature", **prop(
        "ClientIDSignature", c.sign_text(c.smsid, "")))
    refused("id signed in lower case", "ClientIDSignature", **prop(
        "ClientIDSignature", c.sign_text(c.smsid.lower().replace("guid", "GUID"))))
    refused("id of another signed", "ClientIDSignature", **prop(
        "ClientIDSignature", c.sign_text(d.smsid)))
    refused("HashAlgorithm", "HashAlgorithm", **prop("HashAlgorithm", "1.2.3"))
    refused("no HashAlgorithm", "HashAlgorithm", **prop("HashAlgorithm", None))
    refused("no AuthSenderMachine", "AuthSenderMachine", **prop(
        "AuthSenderMachine", None))
    refused("no ClientCapabilities", "ClientCapabilities", **prop(
        "ClientCapabilities", None))
    refused("PublicKey in lower case", "PublicKey", **prop(
        "PublicKey", c.public_key().lower()))
    s.noted("unknown property", s.assign(c, **prop("Colour", "blue")), "Colour")

    def noted(name, word, old, new):
        s.noted("assignments, " + name, s.assign(c, c.assignments(
            change=lambda t: t.replace(old, new))), word)

    noted("RequestType", "RequestType", '"Always"', '"Never"')
    noted("ACK", "ACK", '"false"', '"true"')
    noted("SchemaVersion", "SchemaVersion", '"1.00"', '"1.0"')
    noted("PolicySource", "PolicySource", "SMS:ABC", "ABC")
    noted("no SID", "no element SID", "<SID/>", "")
    noted("no cookie", "no element ServerCookie", "<ServerCookie/>", "")
    noted("no Resource", "no element Resource", '<Resource ResourceType="Machine"/>',
          "")
    s.noted("assignments, ClientID of another", s.assign(c, c.assignments(d.smsid)),
            "ClientID is")
    a = s.assign(c, "<Other/>")
    s.check("refused: assignments, another document", a.status == 500, a.status)


def documents(s, c, d):
    plain = policy.deploy(s.mp.dir, "ABC00042", 3, name="Contoso & Söhne <VPN>",
                          hash="AB" * 32, size=4711)
    found = s.policies(c)
    about, location = found[plain]
    s.check("assignment", about == {
        "PolicyID": plain, "PolicyVersion": "1.00", "PolicyType": "Machine",
        "PolicyCategory": "SoftwareDistribution", "PolicyFlags": "0"}, about)
    s.check("location has the literal <mp>, in CDATA", location.text
            == "http://<mp>/SMS_MP/.sms_pol?%s.1_00" % plain
            and "<![CDATA[http://<mp>/SMS_MP" in s.assign(c).text(), location.text)
    a = s.get(location)
    root = ET.fromstring(text_of(a.data))
    values = {p.get("name"): p.findtext("value").strip()
              for p in root.iterfind(".//instance[@class='CCM_SoftwareDistribution']"
                                     "/property")}
    s.check("document in the clear", a.status == 200
            and values["PKG_PackageID"] == "ABC00042"
            and values["PKG_SourceVersion"] == "3"
            and values["PKG_Name"] == "Contoso & Söhne <VPN>"
            and values["ADV_MandatoryAssignments"] == "TRUE"
            and values["PKG_version"] == "4.2", values)
    s.clean("document in the clear, without a token")
    s.check("PolicyHash is that of the document", location.get("PolicyHash")
            == "SHA256:" + hashlib.sha256(a.data).hexdigest().upper())
    s.site("url hash\n")
    location = s.policies(c)[plain][1]
    s.check("location by hash", ".SHA256:" in location.text
            and s.get(location).data == a.data, location.text)
    s.site("no_mark\n")
    s.check("document without a mark",
            s.get(s.policies(c)[plain][1]).data == a.data[2:])
    s.site("")
    base = "/SMS_MP/.sms_pol?"
    for name, query in (("version", plain + ".2_00"), ("no version", plain),
                        ("unknown", "ABC.1_00"), ("path", "../site.1_00"),
                        ("hash", plain + ".SHA256:" + "0" * 64)):
        b = s.mp.ask("GET", base + query)
        s.check("no such policy: " + name, b.status == 404, b.status)
    s.check("path of policies ignores case", s.mp.ask(
        "GET", "/sms_mp/.SMS_POL?%s.1_00" % plain).status == 200)
    s.check("braces may be escaped", s.mp.ask(
        "GET", base + plain.replace("-", "%2D") + ".1_00").status == 200)
    s.check("policy by POST: 405", s.mp.ask("POST", base + plain).status == 405)
    policy.deploy(s.mp.dir, "ABC00042", 4, policy_version="2.00")
    s.check("a newer version takes its place", list(s.policies(c)) == [plain]
            and s.policies(c)[plain][0]["PolicyVersion"] == "2.00")
    policy.withdraw(s.mp.dir, plain)
    s.check("a deployment is withdrawn", s.policies(c) == {})
    tokens(s, c, d)
    secrets(s, c, d)


def tokens(s, c, d):
    name = policy.deploy(s.mp.dir, "ABC00043", 1, flags=policy.REQUIRESAUTH)
    location = s.policies(c)[name][1]
    a = s.get(location, c.token())
    s.check("policy with a token", a.status == 200 and "ABC00043" in text_of(a.data),
            a.status)
    s.clean("policy with a token")
    s.check("log has who asked", s.mp.last()["signed_by"] == c.smsid)

    def refused(what, word, headers):
        s.refused("policy, " + what, s.get(location, headers), word, 403)

    good = c.token()
    refused("no token", "no ClientToken", None)
    refused("no signature", "only one of", {"ClientToken": good["ClientToken"]})
    refused("no NUL in what is signed", "ClientTokenSignature", c.token(nul=""))
    refused("signature of another token", "ClientTokenSignature",
            {**good, "ClientTokenSignature": c.sign_text("x")})
    refused("token of another client", "ClientTokenSignature", c.token(smsid=d.smsid))
    refused("signed by another client", "ClientTokenSignature", d.token(smsid=c.smsid))
    refused("unknown client", "unknown client", c.token(
        smsid="GUID:4F0E7B1C-0000-4000-8000-123456789ABC"))
    refused("token of an hour ago", "time of ClientToken", c.token(
        siteclient.now(-3600)))
    refused("token of tomorrow", "time of ClientToken", c.token(
        siteclient.now(86400)))
    refused("old form of the token", "ClientToken is", c.token(form="%s;%s"))
    refused("other kind of token", "ClientToken is", c.token(form="%s;%s;1"))
    refused("time without Z", "ClientToken is", c.token(
        siteclient.now(form="%Y-%m-%dT%H:%M:%S")))
    refused("id in lower case", "ClientToken is", c.token(
        smsid=c.smsid.lower().replace("guid", "GUID")))
    s.site("minutes 120\n")
    s.check("the site says how old a token may be", s.get(location, c.token(
        siteclient.now(-3600))).status == 200)
    s.site("")
    policy.withdraw(s.mp.dir, name)


def secrets(s, c, d):
    name = policy.deploy(s.mp.dir, "ABC00044", 1, flags=policy.SECRET)
    location = s.policies(c)[name][1]
    s.refused("secret policy, no token", s.get(location), "no ClientToken", 403)
    for padding, pad_name in (("pkcs1", "rsaEncryption"), ("oaep", "rsaesOaep")):
        for cipher, cipher_name in (("3des", "des-ede3-cbc"), ("aes", "aes-256-cbc")):
            s.site("envelope %s-%s\n" % (padding, cipher))
            a = s.get(location, c.token())
            shown = siteclient.openssl("cms", "-cmsout", "-print", "-inform", "DER",
                                       data=a.data).decode()
            s.check("envelope %s %s" % (padding, cipher), cipher_name in shown
                    and pad_name in shown and "ABC00044" in text_of(c.open(a.data)),
                    shown[:400])
            s.check("envelope is sealed", b"A\0B\0C\0" not in a.data)
    s.clean("secret policy")
    location = s.policies(d)[name][1]
    a = s.get(location, d.token())
    s.check("sealed for the encryption certificate",
            "ABC00044" in text_of(d.open(a.data)))
    try:
        c.open(a.data)
        s.check("sealed for one client only", False, "another one opened it")
    except AssertionError:
        s.check("sealed for one client only", True)
    s.site("clear\n")
    s.check("secret policy in the clear", "ABC00044" in text_of(
        s.get(location, c.token()).data))
    s.site("approval no\n")
    s.check("no secret policy for who is not approved", s.policies(c) == {}
            and s.get(location, c.token()).status == 403)
    s.site("")
    policy.withdraw(s.mp.dir, name)
    compressed(s, c)


def compressed(s, c):
    flags = policy.COMPRESSED
    name = policy.deploy(s.mp.dir, "ABC00045", 1, flags=flags)
    location = s.policies(c)[name][1]
    root = ET.fromstring(text_of(s.get(location).data))
    s.check("compressed policy", root.tag == "PolicyXML"
            and root.get("Compression") == "zlib" and "ABC00045" in text_of(
                zlib.decompress(bytes.fromhex(root.text))), root.attrib)
    s.site("compressed text\n")
    s.check("compressed policy, hex alone", "ABC00045" in text_of(zlib.decompress(
        bytes.fromhex(text_of(s.get(location).data)))))
    policy.deploy(s.mp.dir, "ABC00045", 1, flags=flags | policy.SECRET)
    s.check("compressed and secret", "ABC00045" in text_of(zlib.decompress(
        bytes.fromhex(text_of(c.open(s.get(location, c.token()).data))))))
    s.site("")
    policy.withdraw(s.mp.dir, name)
    for i in range(3):
        policy.deploy(s.mp.dir, "ABC%05d" % (2 - i), 1)
    s.check("assignments are in order", list(s.policies(c)) == sorted(s.policies(c))
            and len(s.policies(c)) == 3)
    for i in range(3):
        policy.withdraw(s.mp.dir, "ABC2%04d-ABC%05d-6F6BCC28" % (i, i))


def settling(s):
    c = Client(s.path("late"))
    s.register(c)
    s.site("settle 2\n")
    got = [len(s.assign(c).data) > 0 for _ in range(3)]
    s.check("a new client is not known at once", got == [False, False, True], got)
    s.check("which is not the client's fault", all(
        line["violations"] == [] for line in s.mp.log()[-3:]))
    s.site("")


def reports(s, c, d):
    def kept():
        path = os.path.join(s.mp.dir, "state_messages.jsonl")
        if not os.path.exists(path):
            return []
        with open(path) as stream:
            return [json.loads(line) for line in stream]

    a = s.send(c, RELAY, c.report(details="\u00fc <b>"))
    s.check("state message", a.status == 200 and a.data == b"", (a.status, a.data))
    s.clean("state message")
    last = kept()[-1]
    s.check("state message is kept", last["client"] == c.smsid
            and last["signed_by"] == c.smsid and last["topic"] == "ABC00042.3"
            and last["topic_type"] == "7202" and last["state"] == "3"
            and last["details"] == "\u00fc <b>" and last["parameters"] == ["1"]
            and last["criticality"] == "0" and last["time"] > 1e9, last)
    s.send(c, RELAY, c.report(), signed=False, packed=False)
    s.clean("state message without a signature, plain form")
    s.check("log tells the unsigned", kept()[-1]["signed_by"] is None
            and s.mp.last()["signed_by"] is None)
    count = len(kept())
    a = s.send(c, RELAY, c.report(), change=lambda part2: zlib.compress(
        zlib.decompress(part2), 1))
    s.refused("state message, wrong signature", a, "PayloadSignature")
    a = s.send(c, RELAY, "<Other/>")
    s.check("refused: another document for the relay", a.status == 500, a.status)
    s.check("what is refused is not kept", len(kept()) == count)

    def noted(name, word, old, new):
        s.send(c, RELAY, c.report(change=lambda t: t.replace(old, new, 1)))
        found = [v for v in s.mp.last()["violations"] if word in v]
        s.check("noted: report, " + name, len(found) == 1, s.mp.last()["violations"])

    noted("no MessageTime", "no attribute MessageTime", "MessageTime=", "Time=")
    noted("time of another form", "MessageTime=", "+000\" Serial", "Z\" Serial")
    noted("no State", "no element State",
          '<State ID="3" Criticality="0"/>', "")
    noted("topic without type", "no attribute Type", ' Type="7202"', "")
    noted("state that is no number", "State: ID", '<State ID="3"', '<State ID="x"')
    noted("wrong Count", "Count is not 1", 'Count="1"', 'Count="2"')
    noted("no NetBIOSName", "no element NetBIOSName",
          "<NetBIOSName>node7</NetBIOSName>", "")
    noted("StateDetails without Type", "no attribute Type", '<StateDetails Type="1"',
          "<StateDetails")
    noted("client of another", "ClientID is", c.smsid, d.smsid)


def scripts(s, c):
    name = policy.deploy(s.mp.dir, "ABC00046", 1)
    location = s.policies(c)[name][1]
    for kind, ask in (
            ("registration", lambda: s.register(c)), ("assignments", lambda:
                                                      s.assign(c)),
            ("policy", lambda: s.get(location)),
            ("relay", lambda: s.send(c, RELAY, c.report()))):
        s.mp.script("on %s\nstatus 503\nretry_after 7\ntimes 1\n" % kind)
        got = [ask() for _ in range(2)]
        s.check("script on " + kind, [a.status for a in got] == [503, 200]
                and got[0].headers["Retry-After"] == "7", [a.status for a in got])
        s.mp.script("on any\nclose\n")
        try:
            ask()
            s.check("script on any: " + kind, False, "an answer")
        except (http.client.RemoteDisconnected, ConnectionError):
            s.check("script on any: " + kind, True)
    s.mp.script("status 500\n")
    s.check("a script of old leaves policy alone", s.assign(c).status == 200)
    s.mp.script("on assignments registration\nempty\n")
    s.check("script: empty", s.assign(c).data == b"" == s.register(c).data)
    s.mp.write("other.xml", "<Policy/>")
    s.mp.script("on policy\nbody other.xml\n")
    s.check("script: body of a policy", text_of(s.get(location).data) == "<Policy/>")
    s.mp.script("on policy\ncut 100\n")
    try:
        s.get(location)
        s.check("script: cut of a policy", False, "whole")
    except http.client.IncompleteRead as error:
        s.check("script: cut of a policy", len(error.partial) == 100)
    s.mp.script()
    policy.withdraw(s.mp.dir, name)


def restart(s, c, begin):
    """Another process on the same folder knows the clients of the first."""
    os.kill(s.mp.process.pid, 9)
    s.mp.process.wait()
    s.mp.process.stdout.close()
    begin(s.mp)
    s.assign(c)
    s.clean("a client is known after a restart")


def crowd(s, c, clients=200, each=5):
    """Many at once on connections that stay open, as a fleet that polls."""
    body = c.message(ASSIGN, c.assignments())
    policy.deploy(s.mp.dir, "ABC00047", 1)
    before = len(s.mp.log())

    def poll(_):
        connection, got = s.mp.connect(), []
        for _ in range(each):
            connection.request("CCM_POST", "/ccm_system/request", body=body, headers={
                "Content-Type": CONTENT_TYPE, "User-Agent": "lab"})
            answer = connection.getresponse()
            got.append(answer.status == 200 and len(answer.read()) > 0)
        connection.close()
        return all(got)

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        got = list(pool.map(poll, range(clients)))
    seconds = time.monotonic() - start
    lines = s.mp.log()[before:]
    s.check("%d clients at once, %d requests each" % (clients, each), all(got)
            and len(lines) == clients * each
            and all(line["violations"] == [] for line in lines),
            (got.count(False), len(lines)))
    s.check("each line has its time in milliseconds", all(
        re.fullmatch(r"\d+\.\d{3}", line) for line in times(s.mp)))
    print("   %d signed requests in %.2f s" % (clients * each, seconds))


def times(mp):
    with open(os.path.join(mp.dir, "mp.log")) as stream:
        return [re.match(r'\{"time":([0-9.]+),', line).group(1) for line in stream]


def run(mp, check, begin):
    """begin(mp): start it again on its folder."""
    with tempfile.TemporaryDirectory(prefix="standin-site.") as folder:
        s = Site(mp, check, folder)
        c, d = registrations(s)
        bad_registrations(s, c)
        signed_requests(s, c, d)
        documents(s, c, d)
        settling(s)
        reports(s, c, d)
        scripts(s, c)
        restart(s, c, begin)
        crowd(s, c)
