"""A client of a Configuration Manager site, as public tools are: no code of the agent.

Python's standard library composes, the openssl command signs and decrypts. It makes
what it sends and leaves the sending to the caller; every fault that a test wants is an
argument.
"""

import os
import subprocess
import time
import uuid
import zlib

OID = "1.2.840.113549.1.1.11"
SIGNING, ENCRYPTION = "1.3.6.1.4.1.311.101", "1.3.6.1.4.1.311.101.2"
BOTH = ENCRYPTION + "," + SIGNING
KEY_USAGE = "critical,digitalSignature,dataEncipherment"
BOUNDARY = "aAbBcCdDv1234567890VxXyYzZ"
CONTENT_TYPE = 'multipart/mixed; boundary="%s"' % BOUNDARY


def openssl(*words, data=None):
    done = subprocess.run(["openssl", *words], input=data, capture_output=True)
    if done.returncode:
        raise AssertionError("openssl %s: %s" % (" ".join(words),
                                                 done.stderr.decode()))
    return done.stdout


def now(seconds=0, form="%Y-%m-%dT%H:%M:%SZ"):
    return time.strftime(form, time.gmtime(time.time() + seconds))


def certificate(base, key=("rsa:2048",), digest="sha256", usage=BOTH,
                key_usage=KEY_USAGE, by=None):
    """Key and self-signed certificate BASE.key, BASE.pem; base again.

    by  base of another certificate, that issues this one
    """
    words = ["req", "-x509", "-newkey", *key, "-nodes", "-" + digest, "-days", "30",
             "-subj", "/CN=ConfigMgr Client", "-keyout", base + ".key", "-out",
             base + ".pem", *(["-CA", by + ".pem", "-CAkey", by + ".key"] if by
                              else [])]
    for name, value in (("keyUsage", key_usage), ("extendedKeyUsage", usage)):
        if value:
            words += ["-addext", "%s=%s" % (name, value)]
    openssl(*words)
    return base


def expired(base, like):
    """BASE.pem, BASE.key: those of `like`, of yesterday."""
    openssl("x509", "-in", like + ".pem", "-days", "-1", "-signkey", like + ".key",
            "-out", base + ".pem")
    with open(like + ".key", "rb") as old, open(base + ".key", "wb") as new:
        new.write(old.read())
    return base


class Client:
    """Key, certificate, and the id that the site gave."""

    def __init__(self, base, encryption=None, host="node7", **how):
        self.base = base if os.path.exists(base + ".pem") else certificate(base, **how)
        self.encryption = encryption or self.base
        self.host, self.smsid = host, ""

    def der(self, base=None):
        return openssl("x509", "-in", (base or self.base) + ".pem", "-outform", "DER")

    # -- the primitives --------------------------------------------------------

    def sign(self, data, reverse=True, digest="sha256", padding=()):
        made = openssl("dgst", "-" + digest, "-sign", self.base + ".key",
                       *(w for p in padding for w in ("-sigopt", p)), data=data)
        return (made[::-1] if reverse else made).hex().upper()

    def sign_text(self, text, nul="\0"):
        return self.sign((text + nul).encode("utf-16-le"))

    def public_key(self):
        line = openssl("rsa", "-in", self.base + ".key", "-noout", "-modulus")
        modulus = bytes.fromhex(line.decode().strip().split("=")[1])
        return ("0602000000A400005253413100080000" "01000100"
                + modulus[::-1].hex().upper())

    def open(self, sealed):
        """The openssl command decrypts CMS, both paddings, both ciphers."""
        return openssl("cms", "-decrypt", "-inform", "DER", "-binary", "-inkey",
                       self.encryption + ".key", "-recip", self.encryption + ".pem",
                       data=sealed)

    # -- documents ---------------------------------------------------------------

    def registration(self, smsid="", stamp=None, change=lambda data: data, value=None,
                     signing=None, encryption=None, over=None):
        """change: of the text of Data, signed; over: of the text after it is signed"""
        def hex_of(given, base):
            return given if given is not None else self.der(base).hex().upper()
        data = (
            '<Data HashAlgorithm="%s" SMSID="%s" RequestType="Registration" '
            'TimeStamp="%s"><AgentInformation AgentIdentity="CCMSetup.exe" '
            'AgentVersion="5.00.9040.1000" AgentType="0"/><Certificates>'
            '<Encryption Encoding="HexBinary" KeyType="1">%s</Encryption>'
            '<Signing Encoding="HexBinary" KeyType="1">%s</Signing></Certificates>'
            '<DiscoveryProperties><Property Name="Netbios Name" Value="%s"/>'
            '<Property Name="FQ Name" Value="%s.example.net"/>'
            '<Property Name="Locale ID" Value="1033"/>'
            '<Property Name="InternetFlag" Value="0"/></DiscoveryProperties></Data>'
            % (OID, smsid, stamp or now(), hex_of(encryption, self.encryption),
               hex_of(signing, self.base), self.host, self.host))
        data = change(data)
        value = value(data) if value else self.sign_text(data, "")
        return ("<ClientRegistrationRequest>%s<Signature><SignatureValue>%s"
                "</SignatureValue></Signature></ClientRegistrationRequest>"
                % (over(data) if over else data, value))

    def assignments(self, smsid=None, change=lambda text: text):
        return change(
            '<RequestAssignments SchemaVersion="1.00" ACK="false" RequestType="Always">'
            "<Identification><Machine><ClientID>%s</ClientID><FQDN>%s.example.net"
            "</FQDN><NetBIOSName>%s</NetBIOSName><SID/></Machine><User/>"
            "</Identification><PolicySource>SMS:ABC</PolicySource>"
            '<Resource ResourceType="Machine"/><ServerCookie/></RequestAssignments>'
            % (smsid or self.smsid, self.host, self.host))

    def report(self, topic="ABC00042.3", state="3", details="arrived",
               parameters=("1",), change=lambda text: text):
        params = "".join("<Param>%s</Param>" % p for p in parameters)
        return change(
            "<Report><ReportHeader><Identification><Machine><ClientInstalled>1"
            "</ClientInstalled><ClientType>1</ClientType><ClientID>%s</ClientID>"
            "<ClientVersion>5.00.9040.1000</ClientVersion><NetBIOSName>%s</NetBIOSName>"
            "<CodePage>437</CodePage><SystemDefaultLCID>1033</SystemDefaultLCID>"
            "<Priority>5</Priority></Machine></Identification><ReportDetails>"
            "<ReportContent>State Message Data</ReportContent><ReportType>Full"
            "</ReportType><Date>%s</Date><Version>1.0</Version><Format>1.0</Format>"
            "</ReportDetails></ReportHeader><ReportBody>"
            '<StateMessage MessageTime="%s" SerialNumber="1"><Topic ID="%s" '
            'Type="7202" IDType="0" User="" UserSID=""/><State ID="%s" Criticality="0"'
            '/><StateDetails Type="1"><![CDATA[%s]]></StateDetails>'
            '<UserParameters Flags="0" Count="%d">%s</UserParameters></StateMessage>'
            "</ReportBody></Report>"
            % (self.smsid, self.host, *[now(0, "%Y%m%d%H%M%S.000000+000")] * 2, topic,
               state, details, len(parameters), params))

    # -- messages ------------------------------------------------------------------

    def hook(self, part2, properties=None):
        """properties: others in place of these, None leaves one out."""
        values = {"AuthSenderMachine": self.host, "PublicKey": self.public_key(),
                  "ClientIDSignature": self.sign_text(self.smsid or "GUID:"),
                  "PayloadSignature": self.sign(part2),
                  "ClientCapabilities": "NonSSL", "HashAlgorithm": OID,
                  **(properties or {})}
        return '<Hook2 Name="clientauth">%s</Hook2>' % "".join(
            '<Property Name="%s">%s</Property>' % one for one in values.items()
            if one[1] is not None)

    def message(self, endpoint, body, packed=True, signed=True, properties=None,
                source=None, change=lambda part2: part2, minimal=False):
        """The HTTP body. change: of part 2, after it is signed."""
        data = body.encode("utf-16-le") + b"\0\0"
        part2 = zlib.compress(data) if packed else data + b"\0\0"
        if minimal:
            properties = {"PublicKey": None, "ClientIDSignature": None,
                          "ClientCapabilities": None, "ClientCapability": "NonSSL"}
        hooks = ((self.hook(part2, properties) if signed else "")
                 + ('<Hook3 Name="zlib-compress"/>' if packed else ""))
        source = self.smsid if source is None else source
        head = (
            '<Msg ReplyCompression="%s" SchemaVersion="1.1"><Body Type="ByteRange" '
            'Length="%d" Offset="0"/><CorrelationID>'
            "{00000000-0000-0000-0000-000000000000}</CorrelationID><Hooks>%s</Hooks>"
            '<ID>{%s}</ID><Payload Type="inline"/><Priority>0</Priority>'
            "<Protocol>http</Protocol><ReplyMode>Sync</ReplyMode>"
            "<ReplyTo>direct:%s:SccmMessaging</ReplyTo><SentTime>%s</SentTime>%s"
            "<SourceHost>%s</SourceHost><TargetAddress>mp:%s</TargetAddress>"
            "<TargetEndpoint>%s</TargetEndpoint><TargetHost>mp01.example.net"
            "</TargetHost><Timeout>60000</Timeout></Msg>"
            % ("zlib" if packed else "none", len(data), hooks,
               str(uuid.uuid4()).upper(), self.host, now(),
               "<SourceID>%s</SourceID>" % source if source else "", self.host,
               endpoint, endpoint))
        mark = b"--" + BOUNDARY.encode()
        kind = b"application/octet-stream" if packed else b"text/plain; charset=UTF-16"
        return (mark + b"\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n\xff\xfe"
                + head.encode("utf-16-le") + b"\r\n" + mark + b"\r\ncontent-type: "
                + kind + b"\r\n\r\n" + change(part2) + b"\r\n" + mark + b"--")

    def token(self, stamp=None, form="%s;%s;2", nul="\0", smsid=None):
        """The two headers of a GET."""
        text = form % (smsid or self.smsid, stamp or now())
        return {"ClientToken": text, "ClientTokenSignature": self.sign_text(text, nul)}
