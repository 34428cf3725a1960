#!/usr/bin/env python3
"""Certificates and handshakes that must not be accepted, for each kind of server:
distribution point, management point, cloud service, storage (P3, P6, N2).

Wherever a certificate is refused, not one byte of HTTP may have reached the server.
"""

import os
import socket
import ssl
import subprocess
import sys
import warnings

import harness
import bench
from bench import Case
from harness import check, error_of, expect, replies, same

import fault                                                        # noqa: E402
import pki                                                          # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)      # of TLS 1.0 and 1.1

DP, MP = "dp01.example.net", "mp01.example.net"
SERVICE, ALIAS, STORE = harness.labs.SERVICE, harness.labs.ALIAS, harness.labs.STORE
DETAIL = {"expired": "TLS_TIME", "not-yet": "TLS_TIME", "wrong-name": "TLS_NAME",
          "cn-only": "TLS_NAME", "no-server-eku": "TLS_CHAIN",
          "missing-intermediate": "TLS_CHAIN", "self-signed": "TLS_CHAIN",
          "unknown-ca": "TLS_CHAIN"}


def bad(kind, name):
    """A certificate for `name` that is bad in this way."""
    if kind == "unknown-ca":
        return harness.other_ca().server(name)
    return getattr(harness.shared_ca(), kind.replace("-", "_"))(name)


def openssl_made(label, name, key, *sign):
    """A leaf of the lab's CA with a key of its own: key= words for genpkey."""
    ca = harness.shared_ca()
    base = os.path.join(ca.folder, label)
    with ca.lock:
        if not os.path.exists(base + ".chain.pem"):
            with open(base + ".ext", "w") as stream:
                stream.write("basicConstraints=critical,CA:FALSE\n"
                             "keyUsage=critical,digitalSignature\n"
                             "subjectKeyIdentifier=hash\n"
                             "authorityKeyIdentifier=keyid:always\n"
                             "extendedKeyUsage=serverAuth\n"
                             "subjectAltName=DNS:%s\n" % name)
            pki.openssl("genpkey", *key, "-out", base + ".key")
            pki.openssl("req", "-new", "-key", base + ".key", "-subj", "/CN=x",
                        "-out", base + ".csr")
            pki.openssl("x509", "-req", "-in", base + ".csr", "-extfile",
                        base + ".ext", "-CA", ca.issuer_pair.cert, "-CAkey",
                        ca.issuer_pair.key, "-set_serial", "0x5a%s" %
                        os.urandom(8).hex(), "-days", "30", *(sign or ["-sha256"]),
                        "-out", base + ".pem")
            pki._join(base + ".chain.pem", base + ".pem", ca.intermediate)
    return pki.Cert(label, base + ".pem", base + ".key", base + ".chain.pem", [name])


class TlsCase(Case):
    """A case with names; .dp(cert) is a distribution point under dp01."""

    def __init__(self, **how):
        super().__init__(**how)
        self.names(*(harness.labs.records() + [
            (DP, "AAAA", "::1"), ("deep.sub.example.net", "A", "127.0.0.1")]))

    def dp(self, cert, **how):
        return self.faulty(tls=cert, **how)

    def at(self, part, host=DP):
        self.locate("https://%s:%d/SMS_DP_SMSPKG$/%s" % (host, part.port,
                                                         harness.PACKAGE))

    def refused(self, part, *details, **how):
        run = self.go(**how)
        same(run.status, 21, "status, %s" % run.err[-900:])
        expect(error_of(run)["detail"] in details, error_of(run))
        expect(not part.server.requests, "HTTP before trust", part.server.requests)
        return run


def offline(cert, name, *more):
    """--check-chain judges by the same rules."""
    return harness.agentconf.run_agent(
        None, ["--check-chain", cert.chain, "--name", name, "--ca",
               harness.shared_ca().root, "--json", *more])


# -- each bad kind, at each kind of server ------------------------------------------------

for _kind in DETAIL:
    def _dp(kind=_kind):
        cert = bad(kind, DP)
        with TlsCase() as s:
            part, good = s.dp(cert), s.dp(harness.shared_ca().server(DP))
            s.at(part)
            s.refused(part, DETAIL[kind])
            s.conf(tls__profile="standard")
            s.refused(part, DETAIL[kind])
            s.locate(*[replies.record(
                "https://%s:%d/SMS_DP_SMSPKG$/%s" % (DP, p.port, harness.PACKAGE),
                locality=where) for p, where in ((part, "SUBNET"), (good, "SITE"))])
            run = s.go()
            same(run.status, 0, "a good one behind: %s" % run.err[-600:])
            same([bool(a["error"]) for a in run.json["attempts"]], [True, False])
            run = s.run("--verify-server", "%s:%d" % (DP, part.port), "--json")
            same(run.status, 21, "--verify-server")
            same(run.json["tls"]["verified"], False, "verified")
            expect(any(c["problem"] for c in run.json["tls"]["chain"])
                   or kind in ("wrong-name", "cn-only"), run.json["tls"])
        same(offline(cert, DP).status, 21, "--check-chain")
        same(offline(harness.shared_ca().server(DP), DP).status, 0, "good chain")
    _dp.__name__ = "distribution point " + _kind
    harness.CHECKS.append(_dp)

    def _mp(kind=_kind):
        with TlsCase() as s:
            mp = s.lab.mp(tls=bad(kind, MP))
            good = s.mp
            s.sources(s.faulty())
            s.conf(["https://%s:%d" % (MP, mp.port)])
            run = s.go()
            same(run.status, 10, run.err[-600:])
            asked = run.json["management_point_attempts"]
            same((asked[0]["error"]["code"], asked[0]["error"]["detail"]),
                 ("TLS", DETAIL[kind]))
            same(mp.requests(), [], "HTTP before trust")
            s.conf(["https://%s:%d" % (MP, mp.port), "http://127.0.0.1:%d" % good.port])
            same(s.go().status, 0, "the next management point")
    _mp.__name__ = "management point " + _kind
    harness.CHECKS.append(_mp)


class Cloud(TlsCase):
    def __init__(self, service=None, store=None, files="storage"):
        super().__init__()
        ca = harness.shared_ca()
        path = self.path("token")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(harness.TOKEN + "\n")
        self.settings.update({"client.token_file": path,
                              "cloud.suffix": ["cloudapp.net", "windows.net"]})
        self.mp = self.lab.mp(token=harness.TOKEN, tls=ca.server(MP))
        self.cloud = self.lab.cloud(service or ca.server(SERVICE), token=harness.TOKEN)
        self.store = self.faulty(tls=store or ca.server("*.blob.core.windows.net"))
        self.conf(["https://%s:%d" % (MP, self.mp.port)])
        self.locate(replies.cloud_url(SERVICE, self.cloud.port, harness.PACKAGE))
        link = "https://%s:%d/%s/" % (STORE, self.store.port, harness.PACKAGE)
        self.cloud.publish(harness.PACKAGE, replies.manifest(
            harness.PACKAGE, harness.VERSION, self.content, url=lambda n: link + n))


for _kind in DETAIL:
    def _cloud(kind=_kind):
        with Cloud(service=bad(kind, SERVICE)) as s:
            run = s.go()
            same(run.status, 21, run.err[-600:])
            same(error_of(run)["detail"], DETAIL[kind])
            same(s.cloud.requests(), [], "HTTP before trust")
        with Cloud(store=bad(kind, STORE)) as s:
            run = s.go()
            same(run.status, 21, run.err[-600:])
            same(error_of(run)["detail"], DETAIL[kind])
            same(s.store.server.requests, [], "HTTP before trust")
    _cloud.__name__ = "cloud and storage " + _kind
    harness.CHECKS.append(_cloud)


@check
def cloud_with_good_certificates():
    with Cloud() as s:
        run = s.go()
        same(run.status, 0, run.err[-900:])


@check
def certificate_for_the_alias_target():
    """Valid, but for where the alias leads: refused; the Service FQDN's: good (N2)."""
    ca = harness.shared_ca()
    for names in ((ALIAS,), (ALIAS, "*.cloudapp.net"), ("*.cloudapp.net",)):
        cert = ca.server(*names)
        with Cloud(service=cert) as s:
            run = s.go()
            same(run.status, 21, run.err[-600:])
            same(error_of(run)["detail"], "TLS_NAME")
            same(s.cloud.requests(), [], "HTTP before trust")
            where = "%s:%d" % (SERVICE, s.cloud.port)
            run = s.run("--verify-server", where, "--json")
            same(run.status, 21, "--verify-server")
            same(run.json["tls"]["name_checked"].lower(), SERVICE.lower())
            same(run.json["canonical"], ALIAS)
            # asked for by its own name the same server is good
            run = s.run("--verify-server", "%s:%d" % (ALIAS, s.cloud.port))
            same(run.status, 0, run.err)
    with Cloud(service=ca.server(SERVICE, ALIAS)) as s:
        same(s.go().status, 0, "both names")


# -- names ----------------------------------------------------------------------------------

NAMES = [  # (SAN names, host in the URL, good?)
    (["*.example.net"], DP, True),
    (["DP01.EXAMPLE.NET"], DP, True),
    (["*.EXAMPLE.net"], DP, True),
    ([DP], "DP01.Example.Net", True),
    (["other.example.net", DP], DP, True),
    (["d*.example.net"], DP, False),
    (["*1.example.net"], DP, False),
    (["dp*01.example.net"], DP, False),
    (["dp01.*.net"], DP, False),
    (["*"], DP, False),
    (["*.*.net"], DP, False),
    (["*.net"], DP, False),
    (["**.example.net"], DP, False),
    (["*.example.net"], "deep.sub.example.net", False),
    (["*.sub.example.net"], "deep.sub.example.net", True),
    (["example.net"], DP, False),
    (["dp01.example.net.evil.test"], DP, False),
    (["evil-dp01.example.net"], DP, False),
    (["127.0.0.1"], "127.0.0.1", True),         # an iPAddress
    (["*.0.0.1"], "127.0.0.1", False),
    ([DP], "127.0.0.1", False),
    (["127.0.0.2"], "127.0.0.1", False),
    (["127.0.0.1"], DP, False),
]


@check
def names_in_certificates():
    ca = harness.shared_ca()
    with TlsCase() as s:
        for names, host, good in NAMES:
            cert = ca.server(*names, file="names")
            part = s.dp(cert)
            s.at(part, host)
            what = "%s for %s" % (names, host)
            if good:
                run = s.go()
                same(run.status, 0, what + run.err[-500:])
                s.forget_all()
            else:
                s.refused(part, "TLS_NAME", "TLS_CHAIN")
            same(offline(cert, host).status, 0 if good else 21, what + ", offline")
            part.stop()


@check
def dot_at_the_end_of_the_host():
    """`dp01.example.net.` is the same name, and the certificate's has no dot."""
    with TlsCase() as s:
        part = s.dp(harness.shared_ca().server(DP))
        s.at(part, DP + ".")
        same(s.go().status, 0)
        expect(all((r.server_name or "") == DP for r in part.server.requests),
               "SNI with a dot")


@check
def address_as_a_dns_name():
    """DNS:127.0.0.1 is no iPAddress (RFC 6125, RFC 5280)."""
    ca = harness.shared_ca()
    cert = ca.server("x.example.net", file="dns-ip", san=False,
                     extra=["subjectAltName=DNS:127.0.0.1"])
    with TlsCase() as s:
        part = s.dp(cert)
        s.at(part, "127.0.0.1")
        s.refused(part, "TLS_NAME")


# -- chains, keys, profile -------------------------------------------------------------------

@check
def weak_keys_and_signatures():
    weak = {"rsa1024": (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],),
            "sha1": (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
                     "-sha1"),
            "p192": (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime192v1"],)}
    strong = {"rsa2048": (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],),
              "p384": (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],)}
    with TlsCase() as s:
        for label, (key, *sign) in {**weak, **strong}.items():
            cert = openssl_made(label, DP, key, *sign)
            same(offline(cert, DP).status, 21 if label in weak else 0, label)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.load_cert_chain(cert.chain, cert.key)
            part = s.dp(harness.shared_ca().server(DP))
            part.server.context = context
            s.at(part)
            if label in weak:
                same(s.go().status, 21, label)
                same(part.server.requests, [], label)
            else:
                same(s.go().status, 0, label)
                s.forget_all()


@check
def an_intermediate_or_leaf_as_anchor_is_none():
    """Only a root ends a chain, whatever else the CA file holds."""
    ca = harness.shared_ca()
    cert = ca.server(DP)
    for file in (ca.intermediate, cert.cert):
        with TlsCase() as s:
            part = s.dp(cert)
            s.at(part)
            s.conf(tls__ca_file=file)
            s.refused(part, "TLS_CHAIN")


@check
def ca_file_missing_empty_or_no_pem():
    with TlsCase() as s:
        part = s.dp(harness.shared_ca().server(DP))
        s.at(part)
        for name, text in (("empty.pem", ""), ("rubbish.pem", "rubbish\n" * 1000),
                           ("half.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n")):
            with open(s.path(name), "w") as stream:
                stream.write(text)
            s.conf(tls__ca_file=s.path(name))
            run = s.go()
            expect(run.status in (3, 21), name, run.status, run.err[-400:])
            same(part.server.requests, [], name)
        s.conf(tls__ca_file=s.path("nowhere.pem"))
        same(s.go().status, 3, "a CA file that is not there")


@check
def standard_profile_takes_what_strict_does_not():
    """A CA without key identifiers: an internal one; the rest is checked all the same."""
    ca = harness.shared_ca()
    base = os.path.join(ca.folder, "sloppy")
    with ca.lock:
        for words in (("root",), ("leaf",)):
            which = words[0]
            with open("%s-%s.ext" % (base, which), "w") as stream:
                stream.write("basicConstraints=CA:TRUE\n" if which == "root" else
                             "extendedKeyUsage=serverAuth\n"
                             "subjectAltName=DNS:%s\n" % DP)
            pki.openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj",
                        "/CN=sloppy " + which, "-keyout", "%s-%s.key" % (base, which),
                        "-out", "%s-%s.csr" % (base, which))
            sign = ["-signkey", base + "-root.key"] if which == "root" else [
                "-CA", base + "-root.pem", "-CAkey", base + "-root.key"]
            pki.openssl("x509", "-req", "-in", "%s-%s.csr" % (base, which), *sign,
                        "-extfile", "%s-%s.ext" % (base, which), "-set_serial", "77",
                        "-days", "3000", "-out", "%s-%s.pem" % (base, which))
    cert = pki.Cert("sloppy", base + "-leaf.pem", base + "-leaf.key",
                    base + "-leaf.pem", [DP])
    with TlsCase() as s:
        part = s.dp(cert)
        s.at(part)
        s.conf(tls__ca_file=base + "-root.pem")
        s.refused(part, "TLS_CHAIN")
        s.conf(tls__ca_file=base + "-root.pem", tls__profile="standard")
        run = s.go()
        same(run.status, 0, run.err[-600:])
        s.forget_all()
        part.server.requests.clear()
        s.at(part, "dp02.example.net")
        s.refused(part, "TLS_NAME")


# -- revocation ---------------------------------------------------------------------------

@check
def revocation():
    """A CA of its own, since CRLs are of a CA: leaf, chain, missing, out of date."""
    with TlsCase() as s:
        ca = pki.Ca(s.path("revoking"), "Revoking")
        good, revoked = ca.server(DP, file="good"), ca.revoked(DP)
        crl = {"both": ca.crl}
        for name, issuer, certs, days in (
                ("issuer", ca.issuer_pair, [revoked], 30),
                ("root", ca.root_pair, (), 30),
                ("root-revokes", ca.root_pair, [ca.issuer_pair], 30)):
            crl[name] = s.path(name + ".crl")
            with open(crl[name], "w") as stream:
                stream.write(ca._crl(issuer, certs, days))
        crl["chain-revoked"] = s.path("chain-revoked.crl")
        pki._join(crl["chain-revoked"], crl["issuer"], crl["root-revokes"])
        crl["stranger"] = s.path("stranger.crl")
        other = harness.other_ca()
        with other.lock, open(crl["stranger"], "w") as stream:
            stream.write(other._crl(other.issuer_pair, (), 30))
        table = (  # certificate, revocation, CRLs, detail
            (good, "off", None, None), (good, "leaf", "both", None),
            (good, "chain", "both", None), (good, "leaf", "issuer", None),
            (revoked, "off", "both", None),
            (revoked, "leaf", "both", "TLS_REVOKED"),
            (revoked, "chain", "both", "TLS_REVOKED"),
            (revoked, "leaf", "issuer", "TLS_REVOKED"),
            (good, "chain", "issuer", "TLS_REVOCATION"),
            (good, "leaf", "root", "TLS_REVOCATION"),
            (good, "leaf", "stranger", "TLS_REVOCATION"),
            (good, "leaf", "chain-revoked", None),
            (good, "chain", "chain-revoked", "TLS_REVOKED"))
        for cert, revocation, file, detail in table:
            what = "%s %s %s" % (cert.name, revocation, file)
            part = s.dp(cert)
            s.at(part)
            s.conf(tls__ca_file=ca.root, tls__revocation=revocation,
                   tls__crl_file=crl[file] if file else None)
            if detail:
                run = s.go()
                same((run.status, error_of(run)["detail"]), (21, detail), what)
                same(part.server.requests, [], what)
            else:
                run = s.go()
                same(run.status, 0, what + run.err[-500:])
                s.forget_all()
            part.stop()
        part = s.dp(good)
        s.at(part)
        for file in (None, s.path("nowhere.crl"), ca.root):
            s.conf(tls__ca_file=ca.root, tls__revocation="leaf", tls__crl_file=file)
            run = s.go()
            expect(run.status in (3, 21), "CRL file", file, run.status, run.err[-300:])
            same(part.server.requests, [], file)


@check
def revocation_list_out_of_date():
    with TlsCase() as s:
        ca = pki.Ca(s.path("revoking"), "Revoking")
        good = ca.server(DP)
        old = s.path("old.crl")
        base = os.path.join(ca.folder, "crl-" + os.path.basename(ca.issuer_pair.cert))
        ca.make_crl()
        pki.openssl("ca", "-config", base + ".cnf", "-cert", ca.issuer_pair.cert,
                    "-keyfile", ca.issuer_pair.key, "-gencrl", "-crl_lastupdate",
                    "20200101000000Z", "-crl_nextupdate", "20200201000000Z",
                    "-out", old)
        part = s.dp(good)
        s.at(part)
        s.conf(tls__ca_file=ca.root, tls__revocation="leaf", tls__crl_file=old)
        s.refused(part, "TLS_REVOCATION")


# -- protocol -----------------------------------------------------------------------------

def context_of(cert, low, high, ciphers="ALL:@SECLEVEL=0"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers)
    context.load_cert_chain(cert.chain, cert.key)
    context.minimum_version, context.maximum_version = low, high
    return context


@check
def old_protocols_and_weak_ciphers():
    V = ssl.TLSVersion
    cert = harness.shared_ca().server(DP)
    rsa = openssl_made("rsa-suite", DP, ["-algorithm", "RSA", "-pkeyopt",
                                         "rsa_keygen_bits:2048"])
    table = (("TLS 1.0", V.TLSv1, V.TLSv1, "ALL:@SECLEVEL=0", None, False, cert),
             ("TLS 1.1", V.TLSv1_1, V.TLSv1_1, "ALL:@SECLEVEL=0", None, False, cert),
             ("TLS 1.0 to 1.1", V.TLSv1, V.TLSv1_1, "ALL:@SECLEVEL=0", None, False,
              cert),
             ("TLS 1.2", V.TLSv1_2, V.TLSv1_2, "DEFAULT", None, True, cert),
             ("TLS 1.3", V.TLSv1_3, V.TLSv1_3, "DEFAULT", None, True, cert),
             ("TLS 1.2, 1.3 wanted", V.TLSv1_2, V.TLSv1_2, "DEFAULT", "1.3", False,
              cert),
             ("TLS 1.3, 1.3 wanted", V.TLSv1_3, V.TLSv1_3, "DEFAULT", "1.3", True,
              cert),
             ("anonymous", V.TLSv1_2, V.TLSv1_2, "aNULL:@SECLEVEL=0", None, False,
              cert),
             ("no encryption", V.TLSv1_2, V.TLSv1_2, "eNULL:@SECLEVEL=0", None, False,
              rsa))
    with TlsCase() as s:
        for what, low, high, ciphers, minimum, good, own in table:
            part = s.dp(cert)
            part.server.context = context_of(own, low, high, ciphers)
            s.at(part)
            s.conf(tls__minimum=minimum)
            run = s.go()
            same(run.status, 0 if good else 21, what + ": " + run.err[-400:])
            if good:
                s.forget_all()
            else:
                same(error_of(run)["detail"], "TLS_HANDSHAKE", what)
                same(part.server.requests, [], what)


@check
def the_old_server_is_one():
    """The oracle: openssl does get a session with TLS 1.1 from such a server."""
    V = ssl.TLSVersion
    with TlsCase() as s:
        part = s.dp(harness.shared_ca().server(DP))
        part.server.context = context_of(harness.shared_ca().server(DP), V.TLSv1_1,
                                         V.TLSv1_1)
        done = subprocess.run(
            ["openssl", "s_client", "-connect", str(part), "-tls1_1", "-cipher",
             "ALL:@SECLEVEL=0"], input=b"", capture_output=True, timeout=20)
        expect(b"Protocol  : TLSv1.1" in done.stdout, done.stdout[-500:])


@check
def handshakes_of_the_management_point():
    """Stall, close, garbage, alert, clear text: named, bounded, the next one is asked."""
    with TlsCase() as s:
        s.sources(s.faulty())
        good = "http://127.0.0.1:%d" % s.mp.port
        for name in ("tls-stall", "tls-close", "tls-garbage", "tls-alert", "tls-plain",
                     "connect-close", "connect-reset", "connect-stall", "tls-drip"):
            part = s.dp(harness.shared_ca().server(MP), script=fault.Rule(name))
            s.conf(["https://%s:%d" % (MP, part.port)])
            run = s.go()
            same(run.status, 10, name)
            error = run.json["management_point_attempts"][0]["error"]
            expect(error["code"] in ("TLS", "TRANSFER") and error["text"], name, error)
            s.conf(["https://%s:%d" % (MP, part.port), good])
            same(s.go().status, 0, name + ", the next management point")
            s.forget_all()
            part.stop()


@check
def nobody_listens():
    with TlsCase() as s:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            s.locate("https://%s:%d/SMS_DP_SMSPKG$/%s" % (DP, port, harness.PACKAGE))
            run = s.go()
            same((run.status, error_of(run)["detail"]), (22, "CONNECT"))


@check
def client_certificates():
    """Wanted and not there: its own error. There: used, for the site alone."""
    ca = harness.shared_ca()
    mine = ca.client("client01")
    with TlsCase() as s:
        part = s.dp(ca.server(DP), client_ca=ca.root, required=True)
        s.at(part)
        run = s.go()
        same((run.status, error_of(run)["detail"]), (21, "TLS_CLIENT"), run.err[-500:])
        s.conf(client__certificate=mine.chain, client__key=mine.key)
        run = s.go()
        same(run.status, 0, run.err[-600:])
        s.forget_all()
        # one of another CA: the server says no
        other = harness.other_ca().client("client01")
        s.conf(client__certificate=other.chain, client__key=other.key)
        # (its alert may get lost behind the end of the connection: 22)
        expect(s.go().status in (21, 22), "another CA's")
        # key and certificate that are not of one another
        s.conf(client__certificate=mine.chain, client__key=other.key)
        run = s.go()
        expect(run.status in (3, 21), "mixed pair", run.status, run.err[-300:])


# -- another certificate within a transfer ----------------------------------------------------

@fault.fault("swap")
def _(c, a, r, context=None, at=100000):
    """Half a body, then the end; the next connection meets another certificate."""
    c.server.context = context
    with c.server.lock:
        others = [o for o in c.server.open.values() if o is not c]
    for other in others:      # what was judged already may not serve again
        other.sock.shutdown(socket.SHUT_RDWR)
    return fault.raw(c, a, [str(a.length)], a.body()[:at])


@check
def wrong_certificate_after_reconnect():
    """Each connection is judged anew, in the midst of a file too (P6)."""
    ca = harness.shared_ca()
    for kind in ("wrong-name", "expired", "unknown-ca"):
        with TlsCase(files={"big.bin": 300000},
                     settings={"transfer.attempts": "3"}) as s:
            part = s.dp(ca.server(DP))
            other = bad(kind, DP)
            rule = fault.Rule("swap", path="*big.bin*", times=1,
                              context=context_of(other, ssl.TLSVersion.TLSv1_2,
                                                 ssl.TLSVersion.TLSv1_3, "DEFAULT"))
            part.server.set(rule)
            s.at(part)
            run = s.go()
            same(run.status, 21, kind + run.err[-600:])
            same(error_of(run)["detail"], DETAIL[kind])
            gets = part.server.asked("GET", "big.bin")
            same(len(gets), 1, "big.bin was asked for of the wrong server")
            # the right one again: what was kept is taken up
            part.server.context = context_of(ca.server(DP), ssl.TLSVersion.TLSv1_2,
                                             ssl.TLSVersion.TLSv1_3, "DEFAULT")
            run = s.go()
            same(run.status, 0, run.err)
            expect(run.json["bytes_resumed"] > 0, "nothing was resumed")


@check
def sni_and_host_are_the_location_s():
    with Cloud() as s:
        same(s.go().status, 0)
        # the alias's target is never said to anybody
        for r in s.store.server.requests:
            same((r.server_name, r.header("Host")),
                 (STORE, "%s:%d" % (STORE, s.store.port)))


@check
def http_and_https_of_one_host_share_nothing():
    """P3: a location by http does not ride on the connection by https, nor back."""
    with TlsCase() as s:
        ca = harness.shared_ca()
        secure, plain = s.dp(ca.server(DP)), s.faulty()
        s.locate(*[replies.record("%s://%s:%d/SMS_DP_SMSPKG$/%s" % (
            scheme, DP, part.port, harness.PACKAGE), locality=where)
            for scheme, part, where in (("https", secure, "SUBNET"),
                                        ("http", plain, "SITE"))])
        secure.server.set(fault.Rule("status", status=404))
        same(s.go().status, 0)
        expect(all(r.is_tls for r in secure.server.requests), "https")
        expect(not any(r.is_tls for r in plain.server.requests), "http")


if __name__ == "__main__":
    sys.exit(bench.main())
