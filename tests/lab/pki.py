"""A test certificate authority, made with the openssl command.

Everything good in it satisfies X509_V_FLAG_X509_STRICT and RFC 5280; everything
bad is bad in exactly one way, so that a test knows what was refused.
"""

import datetime
import ipaddress
import os
import subprocess

YEAR = 365


class Cert:
    """Paths of one certificate: cert (leaf alone), chain (as served), key."""

    def __init__(self, name, cert, key, chain, names):
        self.name, self.cert, self.key = name, cert, key
        self.chain, self.names = chain, names


class Ca:
    """root -> intermediate -> leaves; `root` is the file to trust."""

    def __init__(self, folder, label="Lab"):
        self.folder = folder
        self.label = label
        self.count = 0
        os.makedirs(folder, exist_ok=True)
        self.root_pair = self._authority(label + " Root", None, pathlen=None)
        self.issuer_pair = self._authority(label + " Issuing", self.root_pair, 0)
        self.root = self.root_pair.cert
        self.intermediate = self.issuer_pair.cert
        self.crl = None

    # -- authorities ---------------------------------------------------------

    def _authority(self, name, parent, pathlen):
        limit = "" if pathlen is None else ",pathlen:%d" % pathlen
        lines = ["basicConstraints=critical,CA:TRUE" + limit,
                 "keyUsage=critical,keyCertSign,cRLSign",
                 "subjectKeyIdentifier=hash"]
        if parent:
            lines.append("authorityKeyIdentifier=keyid:always")
        return self._make(name, "/O=%s/CN=%s" % (self.label, name), lines,
                          parent, 10 * YEAR, [])

    # -- leaves --------------------------------------------------------------

    def server(self, *names, file=None, days=YEAR, san=True, eku="serverAuth",
               chain=True, self_signed=False, backdate=0, sans=None, extra=()):
        """A server certificate for DNS names and addresses.

        chain=False       leaves the intermediate out of what the server sends
        eku=None          no extended key usage at all
        days, backdate    valid from `backdate` days ago for `days` days
        sans              names of the SAN where they differ from `names`
        """
        lines = ["basicConstraints=critical,CA:FALSE",
                 "keyUsage=critical,digitalSignature",
                 "subjectKeyIdentifier=hash",
                 "authorityKeyIdentifier=keyid:always"]
        if eku:
            lines.append("extendedKeyUsage=" + eku)
        if san:
            lines.append("subjectAltName=" + _san(sans or names))
        lines += list(extra)
        common = names[0] if len(names[0]) <= 64 else names[0][-64:]
        pair = self._make(file or names[0].replace("*", "_"), "/CN=" + common, lines,
                          None if self_signed else self.issuer_pair,
                          days, names, backdate)
        if chain and not self_signed:
            _join(pair.chain, pair.cert, self.intermediate)
        return pair

    def client(self, name="client01", **how):
        return self.server(name, eku="clientAuth", file=name, **how)

    def expired(self, name):
        return self.server(name, file="expired", backdate=30, days=10)

    def not_yet(self, name):
        return self.server(name, file="not-yet", backdate=-10, days=30)

    def wrong_name(self, *_):
        return self.server("somebody.else.example", file="wrong-name")

    def cn_only(self, name):
        return self.server(name, file="cn-only", san=False)

    def no_server_eku(self, name):
        return self.server(name, file="no-server-eku", eku="clientAuth")

    def missing_intermediate(self, name):
        return self.server(name, file="missing-intermediate", chain=False)

    def wildcard(self, name="*.contoso.com"):
        return self.server(name, file="wildcard")

    def self_signed(self, name):
        return self.server(name, file="self-signed", self_signed=True)

    def revoked(self, name):
        """A certificate on the CRL; self.crl is then the file for crl_file."""
        pair = self.server(name, file="revoked")
        self.make_crl([pair])
        return pair

    def bad_kinds(self, name, other_ca=None):
        """kind -> certificate that must be refused for `name`."""
        kinds = {kind: getattr(self, kind.replace("-", "_"))(name)
                 for kind in ("expired", "not-yet", "wrong-name", "cn-only",
                              "no-server-eku", "missing-intermediate", "self-signed")}
        kinds["unknown-ca"] = (other_ca or Ca(os.path.join(
            self.folder, "unknown"), "Stranger")).server(name)
        return kinds

    # -- revocation ----------------------------------------------------------

    def make_crl(self, revoked=(), days=30):
        """CRLs of both authorities in one PEM file, for crl_file."""
        self.crl = os.path.join(self.folder, "crl.pem")
        texts = []
        for issuer, certs in ((self.issuer_pair, revoked), (self.root_pair, ())):
            texts.append(self._crl(issuer, certs, days))
        with open(self.crl, "w") as stream:
            stream.write("".join(texts))
        return self.crl

    def _crl(self, issuer, revoked, days):
        # `openssl ca` wants a small database; it lives beside the CRL.
        base = os.path.join(self.folder, "crl-" + os.path.basename(issuer.cert))
        for suffix, text in ((".db", ""), (".db.attr", ""), (".number", "1000\n")):
            with open(base + suffix, "w") as stream:
                stream.write(text)
        with open(base + ".cnf", "w") as stream:
            stream.write("[ca]\ndefault_ca=lab\n[lab]\ndatabase=%s.db\n"
                         "crlnumber=%s.number\ndefault_md=sha256\n"
                         "default_crl_days=%d\ncrl_extensions=ext\n"
                         "[ext]\nauthorityKeyIdentifier=keyid:always\n"
                         % (base, base, days))
        config = ["-config", base + ".cnf", "-cert", issuer.cert,
                  "-keyfile", issuer.key]
        for pair in revoked:
            openssl("ca", *config, "-revoke", pair.cert)
        openssl("ca", *config, "-gencrl", "-out", base + ".pem")
        with open(base + ".pem") as stream:
            return stream.read()

    # -- the one place that makes a certificate ------------------------------

    def _make(self, file, subject, lines, issuer, days, names, backdate=0):
        self.count += 1
        base = os.path.join(self.folder, file.replace(" ", "-").replace("/", "_"))
        if os.path.exists(base + ".pem"):
            base += "-%d" % self.count
        with open(base + ".ext", "w") as stream:
            stream.write("[req]\ndistinguished_name=dn\nprompt=no\n[dn]\n[ext]\n"
                         + "\n".join(lines) + "\n")
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-out", base + ".key")
        openssl("req", "-new", "-key", base + ".key", "-subj", subject,
                "-config", base + ".ext", "-out", base + ".csr")
        sign = ["-signkey", base + ".key"]
        if issuer:
            sign = ["-CA", issuer.cert, "-CAkey", issuer.key]
        serial = "0x5a" + os.urandom(15).hex()
        argv = ["x509", "-req", "-in", base + ".csr", "-extfile", base + ".ext",
                "-extensions", "ext", "-sha256", "-set_serial", serial,
                *sign, "-out", base + ".pem"]
        if backdate:
            # Only `openssl ca` can set the first day here; so that one is used.
            self._sign_dated(base, issuer, days, backdate)
        else:
            openssl(*argv, "-days", str(days))
        _join(base + ".chain.pem", base + ".pem")
        return Cert(file, base + ".pem", base + ".key", base + ".chain.pem",
                    list(names))

    def _sign_dated(self, base, issuer, days, backdate):
        begin = (datetime.datetime.now(datetime.timezone.utc)
                 - datetime.timedelta(days=backdate))
        end = begin + datetime.timedelta(days=days)
        for suffix, text in ((".db", ""), (".db.attr", "")):
            with open(base + suffix, "w") as stream:
                stream.write(text)
        with open(base + ".cnf", "w") as stream:
            stream.write("[ca]\ndefault_ca=lab\n[lab]\ndatabase=%s.db\n"
                         "new_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\n"
                         "policy=any\n[any]\ncommonName=supplied\n"
                         % (base, self.folder))
        openssl("ca", "-batch", "-notext", "-config", base + ".cnf",
                "-cert", issuer.cert, "-keyfile", issuer.key, "-in", base + ".csr",
                "-extfile", base + ".ext", "-extensions", "ext",
                "-startdate", begin.strftime("%Y%m%d%H%M%SZ"),
                "-enddate", end.strftime("%Y%m%d%H%M%SZ"), "-out", base + ".pem")


def _san(names):
    words = []
    for name in names:
        try:
            words.append("IP:%s" % ipaddress.ip_address(name))
        except ValueError:
            words.append("DNS:" + name)
    return ",".join(words)


def _join(target, *sources):
    text = ""
    for source in sources:
        with open(source) as stream:
            text += stream.read()
    with open(target, "w") as stream:
        stream.write(text)


def openssl(*argv):
    """Run openssl; its own words are the error when it fails."""
    done = subprocess.run(["openssl", *argv], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("openssl %s: %s" % (" ".join(argv), done.stderr))
    return done.stdout
