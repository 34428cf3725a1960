#!/usr/bin/env python3
"""Every kind of tests/lab/dnsfault.py for the name of the cloud service, several name
servers, limits, suffixes, addresses that no cloud has, IPv6 and IPv4 (N1 to N6).
"""

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time

import harness
import bench
from bench import Case
from harness import check, error_of, expect, replies, same, skip

import dnsfault                                                     # noqa: E402

NAME = "wallacefalls.contoso.com"
DNS = {"dns.timeout": "300ms", "dns.tries": "2"}
BOUND = 8

OK, LOOP, HOPS, REPLY, NODATA, NX, DANGLING, SERVER, TIMEOUT, BADNAME = (
    "OK", "DNS_LOOP", "DNS_HOPS", "DNS_REPLY", "DNS_NODATA", "DNS_NXDOMAIN",
    "DNS_DANGLING", "DNS_SERVER", "DNS_TIMEOUT", "DNS_NAME")
# What each kind may end in; several where RFCs leave the choice.
KINDS = {
    "a": (OK,), "cname": (OK,), "bare-cname": (OK,), "chain": (OK,), "self": (LOOP,),
    "loop": (LOOP,), "loop-bare": (LOOP,), "endless-chain": (HOPS,),
    "address-first": (OK,), "shuffled": (OK,), "two-cnames": (REPLY,),
    "cname-and-address": (DANGLING,), "stray-address": (NODATA, REPLY),
    "to-root": (REPLY, BADNAME), "long-target": (DANGLING, REPLY),
    "too-long-target": (REPLY,), "pointer-loop": (REPLY,), "pointer-outside": (REPLY,),
    "label-type": (REPLY,), "empty": (NODATA,), "nxdomain": (NX,),
    "dangling": (DANGLING,), "nxdomain-with-address": (NX,), "servfail": (SERVER,),
    "refused": (SERVER,), "formerr": (SERVER,), "notimp": (SERVER,),
    "badvers": (SERVER,), "lame": (SERVER, NODATA, REPLY), "flap": (NX, OK),
    "then": (OK,), "changing": (OK,), "edns-refused": (OK,), "only-a": (OK,),
    "only-cname-type": (NODATA,), "silent": (TIMEOUT,), "silent-udp": (TIMEOUT,),
    "zero": (TIMEOUT, REPLY), "short": (TIMEOUT, REPLY), "cut-record": (REPLY, TIMEOUT),
    "wrong-id": (TIMEOUT,), "wrong-question": (TIMEOUT, REPLY),
    "wrong-type": (TIMEOUT, REPLY), "no-question": (TIMEOUT, REPLY),
    "wrong-port": (TIMEOUT,), "spoofed": (OK,), "is-a-query": (TIMEOUT, REPLY),
    "late": (TIMEOUT,), "duplicate": (OK,), "case": (OK,), "count-lie": (REPLY,),
    "length-lie": (REPLY,), "short-address": (REPLY,), "long-address": (REPLY,),
    "wrong-class": (NODATA, REPLY), "ttl": (OK,), "trailing": (OK, REPLY),
    "many": (OK, REPLY), "many-cnames": (REPLY, BADNAME), "tc": (OK,), "tc-partial": (OK,),
    "tc-twice": (REPLY, SERVER, TIMEOUT), "tcp-close": (REPLY, SERVER, TIMEOUT),
    "tcp-reset": (REPLY, SERVER, TIMEOUT), "tcp-silent": (TIMEOUT,),
    "tcp-short-frame": (REPLY, SERVER, TIMEOUT), "tcp-bytes": (OK, TIMEOUT),
    "tcp-huge": (REPLY, SERVER, TIMEOUT), "tcp-zero": (REPLY, SERVER, TIMEOUT),
    "tcp-wrong-id": (REPLY, SERVER, TIMEOUT),
}
TARGET = {"target": "target.test"}
PARAMS = {"cname": TARGET, "bare-cname": TARGET, "loop-bare": {"other": "half.test"}}


class Names(Case):
    """A site whose name server is a DnsFault; --resolve and --download ask it."""

    def __init__(self, names, settings=None, **how):
        super().__init__(settings={**DNS, **(settings or {})}, **how)
        self.server = self.fault_dns(names)
        self.use(self.server)

    def fault_dns(self, names, **how):
        return self.lab.dns_fault(names, **how).server

    def use(self, *servers):
        self.dns = [str(s) for s in servers]
        self.conf()

    def resolve(self, name=NAME, *args, bound=BOUND, **how):
        began = time.monotonic()
        run = self.run("--resolve", name, "--json", *args, timeout=bound + 20, **how)
        took = time.monotonic() - began
        expect(took < bound, name, "took %.1f s" % took)
        expect(run.status >= 0 and run.json is not None, run)
        bench.sound_output(run)
        return run


def table_for(kind, params):
    names = {NAME: (kind, params), "target.test": "a"}
    if kind == "loop-bare":
        names["half.test"] = ("loop-bare", {"other": NAME})
    if kind in ("cname-and-address",):
        del names["target.test"]
    if kind == "case":
        names["target.test"] = "a"
    return names


def says(run, wanted, what):
    error = error_of(run) if run.status else {"detail": OK, "text": "x"}
    expect(error["detail"] in wanted, what, "ended in", error, "not in", wanted)
    expect(error["text"], what, "has no text")
    same(run.status, 0 if error["detail"] == OK else 20, what)


def try_kind(kind):
    params = PARAMS.get(kind, {})
    with Names(table_for(kind, params)) as s:
        run = s.resolve()
        says(run, KINDS[kind], kind)
        if run.status == 0:
            addresses = {a["address"] for a in run.json["addresses"]}
            expect("127.0.0.66" not in addresses, kind, "believed the liar")
            expect(addresses and len(addresses) <= 64, kind, addresses)
        else:
            same(run.json["addresses"], [], kind)
            expect(NAME in error_of(run)["text"].lower(), "no name in", error_of(run))
        expect(s.server.count() <= 80, kind, s.server.count(), "questions")


for _kind in KINDS:
    def _try(kind=_kind):
        try_kind(kind)
    _try.__name__ = "kind " + _kind
    harness.CHECKS.append(_try)


@check
def every_kind_of_the_laboratory_has_its_line():
    same(set(dnsfault.KINDS) - set(KINDS), {"bad-label"}, "kinds")


@check
def targets_that_are_no_host_names():
    """Each bad label ends the walk and is never raw on the terminal (N1, F5)."""
    for label in dnsfault.BAD_LABELS:
        with Names({NAME: ("bad-label", {"label": label})}) as s:
            run = s.resolve()
            says(run, (REPLY, BADNAME, DANGLING) if label in ("under", "dash", "dot")
                 else (REPLY, BADNAME), label)
            expect("\x1b" not in run.out + run.err and "\r" not in run.out, repr(run))
            run = s.run("--resolve", NAME)
            bench.sound_output(run)
            same(run.status, 20, label)


# -- limits -----------------------------------------------------------------------------

@check
def eight_aliases_pass_the_ninth_fails():
    for count, bare, status in itertools.chain(
            ((8, b, 0) for b in (False, True)), ((9, b, 20) for b in (False, True)),
            ((100, False, 20), (16, True, 20), (1, True, 0))):
        with Names({NAME: ("chain", {"count": count, "bare": bare})}) as s:
            run = s.resolve()
            same(run.status, status, "chain of %d, bare %s" % (count, bare))
            if status:
                same(error_of(run)["detail"], HOPS)
            else:
                same(len(run.json["hops"]), count, "hops")
    with Names({NAME: ("chain", {"count": 3})}) as s:
        for limit, status in ((2, 20), (3, 0)):
            same(s.resolve(NAME, "--set", "dns.max_hops=%d" % limit).status, status)


@check
def silence_is_bounded_by_timeout_and_tries():
    with Names({NAME: "silent"}) as s:
        for tries, low, high in ((1, 0.25, 2.0), (3, 0.8, 4.0)):
            s.conf(dns__timeout="300ms", dns__tries=str(tries))
            began = time.monotonic()
            same(s.resolve().status, 20)
            took = time.monotonic() - began
            expect(low <= took < high, "%d tries took %.2f s" % (tries, took))


@check
def names_that_cannot_be_asked_for():
    with Names({}) as s:
        for name in ("", ".", "a..b", "a b.test", "-", "a" * 64 + ".test", "x\ny.test",
                     ".".join(["a" * 60] * 5), "http://[", "a/../b", "%00.test",
                     "\x1b[31m.test", "ümlaut.test", "*.test", "a_b.test:99999",
                     "host:0", "user@host.test", "1.2.3", "0x7f.1", "[::1"):
            run = s.run("--resolve", name, "--json")
            expect(run.status in (2, 20), repr(name), run.status, run.err[-300:])
            bench.sound_output(run)


@check
def literals_are_their_own_answer():
    with Names({}) as s:
        for name in ("127.0.0.1", "[::1]", "::1", "http://127.0.0.1:80/x", "localhost"):
            run = s.run("--resolve", name, "--json")
            same(run.status, 0, name + run.err)
        same(s.server.count(), 0, "questions")


# -- several servers -----------------------------------------------------------------------

@check
def the_next_server_is_asked():
    good = {NAME: ("cname", TARGET), "target.test": "a"}
    for first in ("silent", "servfail", "refused", "notimp", "formerr", "cut-record",
                  "tcp-reset", "wrong-id", "zero", "badvers"):
        with Names({NAME: first}) as s:
            other = s.fault_dns(good)
            s.use(s.server, other)
            run = s.resolve()
            same(run.status, 0, first + run.err)
            same({h["server"] for h in run.json["hops"]}, {str(other)}, first)


@check
def a_server_where_nobody_listens():
    with Names({NAME: "a"}) as s, socket.socket(socket.AF_INET,
                                                socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        held.close()
        s.use("127.0.0.1:%d" % port, s.server)
        same(s.resolve().status, 0)
        s.use("127.0.0.1:%d" % port)
        says(s.resolve(), (SERVER, TIMEOUT), "refused")


@check
def nxdomain_is_an_answer():
    """Who says that there is no such name is believed: no other server is asked."""
    with Names({NAME: "nxdomain"}) as s:
        other = s.fault_dns({NAME: "a"})
        s.use(s.server, other)
        says(s.resolve(), (NX,), "nxdomain")
        same(other.count(), 0, "questions to the second server")


@check
def all_of_sixteen_are_bad():
    with Names({NAME: "servfail"}) as s:
        s.use(*[s.server] * 16)
        says(s.resolve(), (SERVER,), "16 servers")
        s.use(*[s.server] * 17)
        expect(s.run("--resolve", NAME).status in (2, 3, 20), "17 servers")


# -- through --download ----------------------------------------------------------------------

class Cloud(Names):
    """One cloud source; SERVICE is what the table of names says."""

    def __init__(self, service, settings=None, more=None):
        names = {"mp01.example.net": "a", harness.labs.ALIAS: "a", NAME: service,
                 harness.labs.STORE: "a", **(more or {})}
        super().__init__(names, settings={
            "cloud.suffix": ["cloudapp.net", "blob.core.windows.net"],
            **(settings or {})})
        ca = harness.shared_ca()
        path = self.path("token")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(harness.TOKEN + "\n")
        self.settings["client.token_file"] = path
        self.mp = self.lab.mp(token=harness.TOKEN, tls=ca.server("mp01.example.net"))
        self.cloud = self.lab.cloud(ca.server(NAME), token=harness.TOKEN)
        self.store = self.faulty(tls=ca.server("*.blob.core.windows.net"))
        self.conf(["https://mp01.example.net:%d" % self.mp.port])
        self.locate(replies.cloud_url(NAME, self.cloud.port, harness.PACKAGE))
        self.publish(harness.labs.STORE)

    def conf(self, mps=None, **settings):
        if mps is None and hasattr(self, "cloud"):
            mps = ["https://mp01.example.net:%d" % self.mp.port]
        super().conf(mps, **settings)

    def publish(self, store):
        link = "https://%s:%d/%s/" % (store, self.store.port, harness.PACKAGE)
        self.cloud.publish(harness.PACKAGE, replies.manifest(
            harness.PACKAGE, harness.VERSION, self.content, url=lambda n: link + n))


ALIAS = ("cname", {"target": harness.labs.ALIAS})


@check
def cloud_by_the_alias():
    """It works; each name is asked for once in a run, however many connections."""
    with Cloud(ALIAS) as s:
        run = s.go()
        same(run.status, 0, run.err[-900:])
        for name in (NAME, harness.labs.STORE, "mp01.example.net"):
            for kind in ("A", "AAAA"):
                same(s.server.count(name, kind), 1, "%s %s" % (name, kind))
        expect(len(s.store.server.requests) > 1, "too little to prove anything")


@check
def rebinding():
    """Between answer and connection nobody asks again: what was judged is used (N4)."""
    with Cloud(("changing", {"then": ("169.254.169.254",)}), settings={
            "cloud.suffix": None}) as s:
        same(s.go().status, 0)
        same(s.server.count(NAME, "A"), 1)
    with Cloud(("changing", {"first": ("169.254.169.254",)})) as s:
        run = s.go()
        same((run.status, error_of(run)["detail"]), (20, "DNS_ADDRESS"))


@check
def kinds_at_the_cloud_service():
    for kind in ("self", "loop", "endless-chain", "two-cnames", "to-root", "empty",
                 "nxdomain", "dangling", "servfail", "silent", "wrong-id", "cut-record",
                 "tcp-close", "long-target", "pointer-loop"):
        with Cloud((kind, PARAMS.get(kind, {}))) as s:
            run = s.go(bound=12)
            same(run.status, 20, kind + run.err[-500:])
            expect(error_of(run)["detail"] in KINDS[kind] + ("DNS_SUFFIX",),
                   kind, error_of(run))
            same(s.cloud.requests(), [], kind)
    with Cloud(("cname", {"target": "gone.cloudapp.net"})) as s:
        run = s.go()
        same((run.status, error_of(run)["detail"]), (20, DANGLING))
        text = error_of(run)["text"].lower()
        expect(NAME in text and "gone.cloudapp.net" in text and "nxdomain" in text, text)


@check
def suffixes():
    """By whole labels, in any case, with and without a dot at the end."""
    for target, good in (("x.cloudapp.net", True), ("x.CloudApp.NET", True),
                         ("a.b.cloudapp.net", True), ("cloudapp.net", True),
                         ("evilcloudapp.net", False), ("cloudapp.net.evil.test", False),
                         ("x.cloudapp.net.test", False), ("target.test", False),
                         ("cloudapp.nett", False), ("net", False)):
        with Cloud(("cname", {"target": target}), more={target.lower(): "a"}) as s:
            run = s.go()
            if good:
                same(run.status, 0, target + run.err[-500:])
            else:
                same((run.status, error_of(run)["detail"]), (20, "DNS_SUFFIX"), target)
                expect(target in error_of(run)["text"], error_of(run))
                same(s.cloud.requests(), [], target)
    # by way of an allowed name, and out of it again
    with Cloud(ALIAS, more={harness.labs.ALIAS: ("cname", {"target": "evil.test"}),
                            "evil.test": "a"}) as s:
        run = s.go()
        same((run.status, error_of(run)["detail"]), (20, "DNS_SUFFIX"))
    # the hosts of a manifest are held to the same list
    with Cloud(ALIAS, more={"evil.test": "a"}) as s:
        s.publish("evil.test")
        run = s.go()
        same((run.status, error_of(run)["detail"]), (20, "DNS_SUFFIX"))
        same(s.store.server.requests, [], "storage")
    with Cloud(ALIAS, more={harness.labs.STORE: ("cname", {"target": "evil.test"}),
                            "evil.test": "a"}) as s:
        run = s.go()
        same((run.status, error_of(run)["detail"]), (20, "DNS_SUFFIX"))
        same(s.store.server.requests, [], "storage")


BAD_ADDRESSES = (
    "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.255.255.255", "0.0.0.0",
    "0.0.0.1", "255.255.255.255", "240.0.0.1", "fe80::1", "ff02::1", "::",
    "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1", "febf::1", "::169.254.169.254")
PRIVATE = ("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1",
           "fd00::1", "::ffff:10.0.0.1", "100.64.0.1")


@check
def addresses_that_no_cloud_service_has():
    """Refused alone and among good ones, before anybody is connected to (N4)."""
    for one in BAD_ADDRESSES:
        for addresses in ((one,), ("127.0.0.1", one)):
            with Cloud(("a", {"addresses": addresses})) as s:
                run = s.go()
                same((run.status, error_of(run).get("detail")), (20, "DNS_ADDRESS"),
                     addresses)
                same(s.cloud.requests(), [], addresses)


@check
def public_only():
    for one in PRIVATE:
        with Cloud(("a", {"addresses": (one,)}),
                   settings={"cloud.public_only": "yes"}) as s:
            run = s.go()
            same((run.status, error_of(run).get("detail")), (20, "DNS_ADDRESS"), one)


@check
def storage_addresses():
    for one in ("169.254.169.254", "ff02::1"):
        with Cloud(ALIAS, more={harness.labs.STORE: ("a", {"addresses": (one,)})}) as s:
            run = s.go()
            same((run.status, error_of(run).get("detail")), (20, "DNS_ADDRESS"), one)


# -- on-premises, management point ----------------------------------------------------------

@check
def distribution_point_names():
    """A name that fails is that source's error; the next source delivers."""
    for kind in ("nxdomain", "servfail", "silent", "loop", "empty", "cut-record"):
        with Names({"dp01.example.net": kind}) as s:
            dp = s.faulty()
            s.locate(replies.record("http://dp01.example.net:%d/SMS_DP_SMSPKG$/%s" % (
                dp.port, harness.PACKAGE), locality="SUBNET"))
            run = s.go()
            same(run.status, 20, kind)
            s.locate(replies.record("http://dp01.example.net:%d/SMS_DP_SMSPKG$/%s" % (
                dp.port, harness.PACKAGE), locality="SUBNET"),
                replies.record(s.share(dp), locality="SITE"))
            same(s.go().status, 0, kind)


@check
def management_point_names():
    for kind in ("nxdomain", "servfail", "silent", "loop", "dangling"):
        with Names({"mp01.example.net": kind}) as s:
            s.sources(s.faulty())
            s.conf(["https://mp01.example.net:%d" % s.mp.port])
            run = s.go()
            same(run.status, 10, kind)
            error = run.json["management_point_attempts"][0]["error"]
            same((error["code"], error["detail"] in KINDS[kind]), ("DNS", True), error)
            s.conf(["https://mp01.example.net:%d" % s.mp.port,
                    "http://127.0.0.1:%d" % s.mp.port])
            same(s.go().status, 0, kind)


def at_dp(s, part, addresses, port=None):
    s.server.names["dp01.example.net"] = ("a", {"addresses": addresses})
    s.locate("http://dp01.example.net:%d/SMS_DP_SMSPKG$/%s" % (port or part.port,
                                                               harness.PACKAGE))


@check
def happy_eyeballs():
    """Whichever family works, and soon; dead addresses cost little (RFC 8305)."""
    with Names({}) as s:
        v4 = s.faulty()
        for addresses in (("::1", "127.0.0.1"), ("127.0.0.1", "::1"),
                          ("2001:db8::1", "127.0.0.1"), ("127.0.0.9", "127.0.0.1"),
                          ("::1", "2001:db8::1", "127.0.0.9", "127.0.0.1")):
            at_dp(s, v4, addresses)
            began = time.monotonic()
            run = s.go()
            same(run.status, 0, "%s: %s" % (addresses, run.err[-500:]))
            took = time.monotonic() - began
            expect(took < 6, addresses, "took %.1f s" % took)
            s.forget_all()
        try:
            v6 = s.faulty(address="::1")
        except OSError as error:
            skip("no IPv6 here: %s" % error)
        for addresses in (("::1", "127.0.0.1"), ("::1",), ("127.0.0.1", "::1")):
            at_dp(s, v6, addresses)
            same(s.go().status, 0, addresses)
            s.forget_all()


@check
def a_family_that_is_silent():
    """No answer for AAAA, or an error: the IPv4 address is enough, within seconds."""
    with Names({"dp01.example.net": "only-a"}) as s:
        dp = s.faulty()
        s.locate("http://dp01.example.net:%d/SMS_DP_SMSPKG$/%s" % (dp.port,
                                                                   harness.PACKAGE))
        began = time.monotonic()
        same(s.go().status, 0)
        expect(time.monotonic() - began < 5, "too slow")


# -- search domains, the system's resolver ------------------------------------------------------

@check
def names_are_absolute():
    """A short name, a name that does not exist: asked as they are, once, and no more."""
    with Names({"short": "nxdomain", NAME: "nxdomain"}) as s:
        for name in ("short", NAME, "short."):
            s.resolve(name, env={"LOCALDOMAIN": "evil.test", "RES_OPTIONS": "ndots:15"})
        same({q.key for q in s.server.queries}, {"short", NAME}, "names asked for")


def with_resolv_conf(s, text, *args):
    """Run the agent where /etc/resolv.conf is another; None = there is none."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        skip("needs root and unshare, for a resolv.conf of its own")
    file = s.path("resolv.conf")
    with open(file, "wb") as stream:
        stream.write(text or b"")
    mount = ("mount --bind '%s' /etc/resolv.conf" % file if text is not None
             else "mount -t tmpfs none /etc && mkdir -p /etc/ssl/certs")
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c",
         mount + " || exit 99; exec \"$@\"", "sh", harness.agentconf.AGENT, *args,
         "--config", s.lab.conf], stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60)
    if done.returncode == 99 or done.stderr.startswith(b"unshare: "):
        skip("no mount namespace here: %r" % done.stderr[-200:])
    return harness.agentconf.Run(done.returncode, done.stdout.decode(),
                                 done.stderr.decode("utf-8", "replace"), None)


@check
def resolver_of_the_system():
    """search, domain, ndots never apply; odd files are an error or an answer (N5, N6)."""
    with Names({}) as s:
        try:
            server = s.fault_dns({NAME: "a", "short": "a"}, address="127.77.0.1",
                                 port=53)
        except OSError as error:
            skip("port 53 of 127.77.0.1 is not free: %s" % error)
        s.dns = []
        s.conf()
        good = b"nameserver 127.77.0.1\n"
        for text in (good, good + b"search evil.test\noptions ndots:5\n",
                     b"domain evil.test\n" + good, b"# x\n\n\n" + good,
                     good + b"nameserver 127.77.0.2\n" * 100,
                     good.rstrip(b"\n"), good.replace(b"\n", b"\r\n"),
                     good + b"options timeout:99999 attempts:99999 rotate\n"):
            run = with_resolv_conf(s, text, "--resolve", NAME)
            same(run.status, 0, "%r: %s" % (text[:80], run.err[-300:]))
            run = with_resolv_conf(s, text, "--resolve", "nowhere")
            same(run.status, 20, text[:80])
        asked = {q.key for q in server.queries}
        same(asked, {NAME, "nowhere"}, "names asked for")
        for text in (b"", b"\0", b"\0" + good, b"nameserver\n", b"nameserver rubbish\n",
                     b"nameserver fe80::1%nowhere\n", b"x" * 100000,
                     b"nameserver " + b"1" * 5000 + b"\n", b"nameserver ::ffff\n",
                     bytes(range(256)) * 64, None):
            run = with_resolv_conf(s, text, "--resolve", NAME)
            expect(run.status in (0, 3, 20), repr((text or b"none")[:60]), run)


if __name__ == "__main__":
    sys.exit(bench.main(12))
