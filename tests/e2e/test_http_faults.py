#!/usr/bin/env python3
"""Every fault of tests/lab/fault.py as a distribution point (P1, P2, P7, R1, R4, R5),
and what the environment may not change (P8).

Whatever a server does: either the content is published and hashlib finds it right, or
the agent names the reason, publishes nothing, and is done in time. Behind a bad
server a good one always gets its turn, and a server that is well again is never
held back by what the bad one left in the partial folder.
"""

import os
import sys
import time
import urllib.parse

import harness
import bench
from bench import SOURCE_ERRORS, Case
from harness import check, error_of, expect, replies, same

import fault                                                        # noqa: E402
import httpd                                                        # noqa: E402
import iis                                                          # noqa: E402

BIG = bench.FILES["big.bin"]


# -- every fault -----------------------------------------------------------------------

# What an honest server may do, too: the download must succeed, alone and resumed.
LEGAL = {"length-none", "chunked", "redirect-once", "range-ignored", "bare-lf", "late"}
# Of these a client may think either way, as long as what it publishes is right.
EITHER = {"range-less", "range-unknown-total", "range-weak-etag", "range-no-etag",
          "range-new-etag", "range-416", "range-412", "length-list", "length-bad",
          "length-huge", "length-max", "length-two", "length-two-reversed",
          "chunked-and-length", "chunked-extension", "chunked-trailer", "folded",
          "space-colon", "bare-cr", "interim-flood", "many-headers", "slow",
          "second-answer",
          "big-header", "endless-after", "version", "length-short", "length-zero",
          "drip-headers", "redirect", "replace", "redirect-two",
          "nul-header", "no-colon"}
PARAMS = {"raw": {"data": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
          "replace": {"body": b"something else"}, "status": {"status": 500},
          "busy": {"retry_after": 90},
          "drip-headers": {"interval": 0.2}, "tls-drip": {"interval": 0.2},
          "slow": {"rate": 400000}, "gzip-bomb": {"size": 1 << 26},
          "redirect-hops": {"hops": 50}}


def kinds_of(name):
    """fresh and resumed, as far as the fault can show itself there."""
    on = fault.FAULTS[name].on
    return {"range": ("resumed",), "fresh": ("fresh",), "connect": ("fresh",)}.get(
        on, ("fresh", "resumed"))


def judge(name, run, how):
    if name in LEGAL:
        same(run.status, 0, "%s is legal, %s: %s" % (name, how, run.err[-1200:]))
    elif name not in EITHER and not (how == "resumed" and name in (
            # the honest answer to the whole file follows: asked anew, all is well
            "range-changed", "range-304")):
        expect(run.status != 0 or how == "resumed", how, "succeeded")
    if run.status:
        expect(run.status in SOURCE_ERRORS, "status", run.status, run.err[-600:])
        expect(run.json["attempts"][-1]["error"], "an attempt without its error")


def try_fault(name):
    tls = None
    with Case() as s:
        if name.startswith("tls-"):
            tls = harness.shared_ca().server("dp01.example.net")
            s.names(("dp01.example.net", "A", "127.0.0.1"))
        rule = lambda: fault.Rule(name, **PARAMS.get(name, {}))   # noqa: E731
        bad = s.faulty(tls=tls)
        good = s.faulty()
        for how in kinds_of(name):
            s.sources(bad, tls=tls)
            if how == "resumed":
                s.forget_all()
                s.cut(bad)
            bad.server.set(rule())
            judge(name, s.go(), how)
            expect(name in [r.fault for r in bad.server.requests]
                   or fault.FAULTS[name].on == "connect", "the fault was never met")
            # the server is well again: nothing that it left may stand in the way
            if not s.published():
                bad.server.set(None)
                run = s.go()
                same(run.status, 0, "healed, %s: %s" % (how, run.err[-800:]))
            # a good one behind it
            s.forget_all()
            if how == "resumed":
                s.cut(bad)
            bad.server.set(rule())
            s.sources(bad, good, tls)
            run = s.go()
            same(run.status, 0, "a good one behind, %s: %s" % (how, run.err[-1500:]))


for _name in fault.FAULTS:
    def _try(name=_name):
        try_fault(name)
    _try.__name__ = "fault " + _name
    harness.CHECKS.append(_try)


@check
def listing_faults_too():
    """The same at PROPFIND: a bad list is a failed source, never a wrong one."""
    names = ["early-close", "length-none-early", "endless", "gzip", "gzip-bomb",
             "status", "login-page", "close", "reset", "garbage", "silence", "stall",
             "endless-headers", "redirect-loop", "redirect-scheme", "redirect-http",
             "length-more", "chunked-cut", "drip", "other-file"]
    with Case() as s:
        bad, good = s.faulty(), s.faulty()
        for name in names:
            bad.server.set(fault.Rule(name, method="PROPFIND", **PARAMS.get(name, {})))
            s.sources(bad)
            run = s.go()
            expect(run.status in SOURCE_ERRORS, name, "status", run.status)
            s.sources(bad, good)
            run = s.go()
            same(run.status, 0, "%s, a good one behind: %s" % (name, run.err[-800:]))
            s.forget_all()


@check
def nothing_is_asked_of_the_good_one_that_was_there_already():
    """Resume goes on where the first source broke off, at another source too."""
    with Case() as s:
        bad, good = s.faulty(), s.faulty()
        s.sources(bad)
        kept = s.cut(bad)
        s.sources(good)
        run = s.go()
        same(run.status, 0, run.err)
        same(run.json["bytes_resumed"] >= kept, True, "resumed")
        ranges = [r.header("Range") for r in good.server.asked("GET", "big.bin")]
        same(ranges, ["bytes=%d-" % kept], "ranges")


@check
def resume_at_each_offset():
    """0, 1, middle, size-1, size, size+1 bytes kept, with right and wrong bytes."""
    with Case() as s:
        dp = s.faulty()
        s.sources(dp)
        good = s.content.read("big.bin")
        for keep in (0, 1, BIG // 2, BIG - 1, BIG, BIG + 1):
            for wrong in (False, True):
                s.forget_all()
                folder = s.path("cache", "partial", harness.NAME)
                os.makedirs(folder, mode=0o755)
                data = (good + b"x")[:keep]
                if wrong:
                    data = bytes(255 - b for b in data)
                with open(os.path.join(folder, "big.bin"), "wb") as stream:
                    stream.write(data)
                same(s.go().status, 0, "kept %d, wrong %s" % (keep, wrong))
                s.forget_all()


@check
def etag_kinds():
    """Strong, weak, none: resume ends right, with and without a change between."""
    for etags in ("strong", "weak", "none"):
        with Case() as s:
            dp = s.faulty(etags=etags)
            s.sources(dp)
            s.cut(dp)
            dp.server.set(None)
            same(s.go().status, 0, etags)
            if etags == "strong":
                conditions = [r.header("If-Range") for r in
                              dp.server.asked("GET", "big.bin") if r.header("Range")]
                expect(conditions and conditions[-1], "no If-Range", conditions)


# -- redirects (P2) --------------------------------------------------------------------

class Canary(httpd.Server):
    """Somebody else's server: it takes note of all that comes, and says 404."""

    def respond(self, connection, request):
        answer = iis.page(404)
        connection.send(iis.head(answer) + answer.body())
        return True


SECRET = harness.TOKEN


def token_settings(s):
    path = s.path("token")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
        out.write(SECRET + "\n")
    s.settings["client.token_file"] = path


class Cloud(Case):
    """A cloud service whose manifest or whose storage redirects to a canary."""

    def __init__(self, **settings):
        super().__init__()
        ca = harness.shared_ca()
        self.token = token_settings(self)
        self.settings["cloud.suffix"] = ["cloudapp.net", "blob.core.windows.net"]
        self.settings.update(settings)
        self.mp = self.lab.mp(token=SECRET, tls=ca.server("mp01.example.net"))
        self.store = self.lab.fault(tls=ca.server("*.blob.core.windows.net"))
        self.cloud = self.lab.cloud(ca.server(harness.labs.SERVICE), token=SECRET)
        self.tls_canary = self.lab.parts.adopt("canary", Canary(
            tls=ca.server("*.blob.core.windows.net")))
        self.canary = self.lab.parts.adopt("canary", Canary())
        self.dns = [self.lab.dns_nsd(harness.labs.records() + [
            ("other.blob.core.windows.net", "A", "127.0.0.1"),
            ("meta.blob.core.windows.net", "A", "169.254.169.254"),
            ("away.example.net", "A", "127.0.0.1")], harness.labs.ZONES)]
        self.conf(["https://mp01.example.net:%d" % self.mp.port])
        self.locate(replies.cloud_url(harness.labs.SERVICE, self.cloud.port,
                                      harness.PACKAGE))
        link = "https://%s:%d/%s/" % (harness.labs.STORE, self.store.port,
                                      harness.PACKAGE)
        self.cloud.publish(harness.PACKAGE, replies.manifest(
            harness.PACKAGE, harness.VERSION, self.content,
            url=lambda n: link + urllib.parse.quote(n) + "?sig=" + SECRET + "sig"))

    def quiet(self, what):
        for part in (self.canary, self.tls_canary):
            seen = part.server.saw_header(SECRET)
            expect(not seen, what, "the canary saw", seen,
                   [r.headers for r in seen][:1])


@check
def cloud_works_before_it_is_broken():
    with Cloud() as s:
        run = s.go()
        same(run.status, 0, run.err)
        expect(not s.store.server.saw_header("Bearer"), "the token went to storage")


@check
def cloud_manifest_redirects():
    """The token never goes along; https stays; no other scheme; no bare address."""
    with Cloud() as s:
        p, q = s.canary.port, s.tls_canary.port
        for to, reached in (
                ("https://other.blob.core.windows.net:%d/m" % q, True),
                ("http://other.blob.core.windows.net:%d/m" % p, False),
                ("http://%s:%d/m" % (harness.labs.SERVICE, p), False),
                ("https://127.0.0.1:%d/m" % q, False),
                ("https://[::1]:%d/m" % q, False),
                ("https://[::ffff:169.254.169.254]/m", False),
                ("https://169.254.169.254/latest/meta-data/", False),
                ("https://meta.blob.core.windows.net:%d/m" % q, False),
                ("https://0x7f000001:%d/m" % q, False),
                ("https://2130706433:%d/m" % q, False),
                ("https://away.example.net:%d/m" % q, False),
                ("file:///etc/passwd", False), ("ftp://127.0.0.1/x", False),
                ("gopher://127.0.0.1:%d/x" % p, False), ("data:,x", False),
                ("dict://127.0.0.1:%d/x" % p, False),
                ("smb://127.0.0.1/x", False), ("javascript:alert(1)", False),
                ("//127.0.0.1:%d/m" % q, False),
                ("https://u:p@other.blob.core.windows.net:%d/m" % q, False),
                ("https://other.blob.core.windows.net:%d\\@x/" % q, False)):
            for part in (s.canary, s.tls_canary):
                part.server.requests.clear()
            s.cloud.script("redirect %s\n" % to)
            run = s.go()
            expect(run.status in SOURCE_ERRORS, to, run.status, run.err[-500:])
            s.quiet(to)
            saw = s.canary.server.requests + s.tls_canary.server.requests
            if not reached:
                expect(not saw, to, "was gone to", saw)


@check
def storage_redirects():
    """From storage the agent goes on only to hosts that policy allows, by https."""
    with Cloud() as s:
        p, q = s.canary.port, s.tls_canary.port
        for to in ("http://other.blob.core.windows.net:%d/x" % p,
                   "https://169.254.169.254/x", "https://127.0.0.1:%d/x" % q,
                   "https://away.example.net:%d/x" % q, "file:///etc/passwd"):
            s.canary.server.requests.clear()
            s.tls_canary.server.requests.clear()
            s.store.server.set(fault.Rule("redirect", to=to))
            run = s.go()
            expect(run.status in SOURCE_ERRORS, to, run.status)
            same(s.canary.server.requests + s.tls_canary.server.requests, [], to)


@check
def site_redirects():
    """A token of the CCMTOKENAUTH rung stays with its origin; https stays https."""
    with Case() as s:
        ca = harness.shared_ca()
        token_settings(s)
        s.mp = s.lab.mp(token=SECRET, tls=ca.server("mp01.example.net"))
        tls = ca.server("dp01.example.net", "dp02.example.net")
        bad = s.faulty(tls=tls, token=SECRET, vdirs={
            "": 401, "NOCERT_": 401, "CCMTOKENAUTH_": "token"})
        canary = s.lab.parts.adopt("canary", Canary())
        tls_canary = s.lab.parts.adopt("canary", Canary(tls=tls))
        s.dns = [s.lab.dns_nsd(harness.labs.records(), harness.labs.ZONES)]
        s.conf(["https://mp01.example.net:%d" % s.mp.port])
        record = replies.record(s.url(bad, tls), capabilities={"SSLState": "63"})
        s.locate(record)
        run = s.go()
        same(run.status, 0, "with the token: %s" % run.err[-2500:])
        s.forget_all()
        for method in ("GET", "PROPFIND"):
            for name, how in (
                    ("redirect-other-host", {"host": "dp02.example.net:%d"
                                             % tls_canary.port}),
                    ("redirect-other-host", {"host": "dp01.example.net:%d"
                                             % tls_canary.port}),
                    ("redirect-http", {"host": "dp01.example.net:%d" % canary.port}),
                    ("redirect-slashes", {"host": "dp02.example.net:%d"
                                          % tls_canary.port}),
                    ("redirect-backslash", {"host": "dp02.example.net:%d"
                                            % tls_canary.port})):
                bad.server.set(fault.Rule(name, method=method, path="*CCMTOKENAUTH_*",
                                          **how))
                run = s.go()
                expect(run.status in SOURCE_ERRORS, name, run.status)
                for part in (canary, tls_canary):
                    seen = part.server.saw_header(SECRET)
                    expect(not seen, name, method, "the canary saw the token", seen)
                same(canary.server.requests, [], "gone to http: " + name)


@check
def headers_that_are_never_sent():
    """No Referer, no cookie, identity alone, and no word of the machine's user."""
    with Case() as s:
        dp = s.faulty(fault.Rule("redirect-once"))
        s.sources(dp)
        same(s.go().status, 0)
        for r in dp.server.asked():
            for name in ("Referer", "Cookie", "Authorization"):
                same(r.header(name), None, name)
            same(r.header("Accept-Encoding"), "identity", "Accept-Encoding")


# -- patience, attempts, rate ------------------------------------------------------------

@check
def retry_after_is_kept_and_counts():
    """Retry-After in seconds and as a date is waited for; then all is well."""
    for value, least in ((2, 1.8), ("date", 0.0)):
        with Case(settings={"transfer.attempts": "3"}) as s:
            if value == "date":
                value = time.strftime("%a, %d %b %Y %H:%M:%S GMT",
                                      time.gmtime(time.time() + 2))
            dp = s.faulty(fault.Rule("busy", times=1, path="*big.bin*",
                                     retry_after=value))
            s.sources(dp)
            began = time.monotonic()
            run = s.go()
            same(run.status, 0, run.err)
            took = time.monotonic() - began
            expect(least <= took < 10, "took %.1f s" % took)
            same(len(run.json["attempts"]), 2, "attempts")


@check
def retry_after_beyond_patience():
    """61 s, a day, nonsense: the next source has its turn at once."""
    for value in (61, 86400, 10 ** 15, -1, "soon", ""):
        with Case() as s:
            dp, good = s.faulty(fault.Rule("busy", retry_after=value)), s.faulty()
            s.sources(dp, good)
            same(s.go(bound=10).status, 0, value)


@check
def attempts_are_counted():
    """attempts = 2: two tries of one request, a growing delay, then the next."""
    with Case(files={"big.bin": 300000}, settings={"transfer.attempts": "2"}) as s:
        dp, good = s.faulty(fault.Rule("status", status=500)), s.faulty()
        s.sources(dp, good)
        began = time.monotonic()
        run = s.go()
        same(run.status, 0, run.err)
        same(len(dp.server.asked("GET", "big.bin")), 2, "requests")
        expect(time.monotonic() - began >= 0.4, "no delay between attempts")
        same([bool(a["error"]) for a in run.json["attempts"]], [True, True, False])


@check
def rate_limit_holds():
    """1.5 MB at 512 KiB a second take three seconds, with several files at once."""
    files = {"a%d.bin" % n: 256 << 10 for n in range(6)}
    with Case(files=files, settings={"transfer.rate_limit": "512k"}) as s:
        s.sources(s.faulty())
        began = time.monotonic()
        run = s.go(bound=40)
        took = time.monotonic() - began
        same(run.status, 0, run.err)
        expect(1.8 <= took < 12, "took %.1f s instead of about 3" % took)


@check
def one_slow_source_cannot_hold_the_others():
    """1 byte just within the stall limit: the stall ends it, the next delivers."""
    with Case() as s:
        dp, good = s.faulty(fault.Rule("drip", interval=0.5, step=100)), s.faulty()
        s.sources(dp, good)
        same(s.go(bound=15).status, 0)


# -- environment (P8) -----------------------------------------------------------------

class Proxy(httpd.Server):
    """A proxy that forwards nothing and remembers who asked."""

    def respond(self, connection, request):
        answer = iis.page(407)
        connection.send(iis.head(answer) + answer.body())
        return False


def with_proxy(test):
    with Case() as s:
        proxy = s.lab.parts.adopt("proxy", Proxy())
        dp = s.faulty()
        s.sources(dp)
        test(s, proxy, "http://127.0.0.1:%d" % proxy.port)


@check
def proxy_of_the_environment_where_settings_have_none():
    def test(s, proxy, url):
        s.conf(proxy__url=None)
        run = s.go(env={"http_proxy": url})
        expect(run.status != 0 and proxy.server.requests, "http_proxy was not used")
        proxy.server.requests.clear()
        for env in ({"HTTP_PROXY": url}, {"http_proxy": url, "no_proxy": "127.0.0.1"},
                    {"http_proxy": url, "NO_PROXY": "*"}, {"https_proxy": url},
                    {"ftp_proxy": url}, {"ALL_PROXY": ""}):
            run = s.go(env=env)
            same(run.status, 0, "%s: %s" % (env, run.err[-500:]))
            same(proxy.server.requests, [], env)
            s.forget_all()
        run = s.go(env={"all_proxy": url})
        expect(proxy.server.requests, "all_proxy was not used")
    with_proxy(test)


@check
def proxy_none_means_never():
    def test(s, proxy, url):
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy",
                 "ALL_PROXY")
        run = s.go(env=dict.fromkeys(names, url))
        same(run.status, 0, run.err)
        same(proxy.server.requests, [], "asked of the proxy")
    with_proxy(test)


@check
def proxy_of_the_settings():
    def test(s, proxy, url):
        s.conf(proxy__url=url)
        run = s.go(env={"no_proxy": "*"})
        expect(run.status != 0 and proxy.server.requests, "the proxy was not used")
        proxy.server.requests.clear()
        s.conf(proxy__url=url, proxy__bypass="127.0.0.1")
        same(s.go().status, 0)
        same(proxy.server.requests, [], "bypass")
    with_proxy(test)


@check
def proxy_that_is_not_there_is_named():
    with Case() as s:
        s.sources(s.faulty())
        s.conf(proxy__url="http://127.0.0.1:1")
        run = s.go()
        expect(run.status in (10, 22) and "127.0.0.1" in error_of(run)["text"], run.err)


@check
def dot_files_and_library_variables():
    """.netrc, .curlrc, SSLKEYLOGFILE, CURL_HOME, CURL_CA_BUNDLE, SSL_CERT_FILE,
    OPENSSL_CONF, RES_OPTIONS, LD_* for the network process, HOME unset."""
    with Case() as s:
        ca = harness.shared_ca()
        home = s.path("home")
        os.mkdir(home)
        for name, text in ((".netrc", "default login canary password " + SECRET),
                           (".curlrc", "header = \"X-Canary: %s\"\n"
                            "proxy = http://127.0.0.1:1\ninsecure\n" % SECRET),
                           ("openssl.cnf", "openssl_conf = nowhere\nrubbish ["),
                           ("empty.pem", "")):
            with open(os.path.join(home, name), "w") as stream:
                stream.write(text)
            os.chmod(os.path.join(home, name), 0o600)
        keys = os.path.join(home, "keys")
        tls = ca.server("dp01.example.net")
        s.names(("dp01.example.net", "A", "127.0.0.1"))
        dp = s.faulty(tls=tls)
        s.sources(dp, tls=tls)
        inside = lambda n: os.path.join(home, n)                   # noqa: E731
        for env in ({"HOME": home, "CURL_HOME": home, "XDG_CONFIG_HOME": home},
                    {"SSLKEYLOGFILE": keys}, {"CURL_CA_BUNDLE": inside("empty.pem"),
                                              "SSL_CERT_FILE": inside("empty.pem"),
                                              "SSL_CERT_DIR": home},
                    {"OPENSSL_CONF": inside("openssl.cnf")},
                    {"RES_OPTIONS": "ndots:15", "LOCALDOMAIN": "evil.test"},
                    {"HOSTALIASES": inside(".netrc")},
                    {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
                    {"LC_ALL": "de_DE.UTF-8"}, {"TZ": "Pacific/Kiritimati"},
                    {"MALLOC_PERTURB_": "165"}, {"TMPDIR": "/nonexistent"},
                    {"NETRC": inside(".netrc"), "USER": "canary"}):
            run = s.go(env=env)
            same(run.status, 0, "%s: %s" % (env, run.err[-800:]))
            expect(not dp.server.saw_header(SECRET), env, "the canary was sent")
            expect(not os.path.exists(keys), "keys were logged")
            s.forget_all()
        done = harness.subprocess.run(
            [harness.agentconf.AGENT, "--download", harness.PACKAGE, "--json",
             "--config", s.lab.conf], env={}, stdin=harness.subprocess.DEVNULL,
            capture_output=True, timeout=60)
        same(done.returncode, 0, "no environment at all: %r" % done.stderr[-500:])


@check
def the_network_process_has_no_environment():
    """What it was started with is not handed on: no LD_PRELOAD, no proxy, no PATH."""
    with Case() as s:
        dp = s.faulty(fault.Rule("silence"))
        s.sources(dp)
        s.conf(transfer__stall_timeout="20s")
        with harness.Running(s, env={"CANARY": SECRET, "LD_BIND_NOW": "1"}) as agent:
            agent.until(lambda p: p.get("step") == "transfer"
                        or p.get("phase") == "transfer" or "bytes_done" in p)
            for child in agent.children():
                with open("/proc/%d/environ" % child, "rb") as stream:
                    have = stream.read()
                expect(SECRET.encode() not in have and b"LD_" not in have, have)
            agent.signal(15)
            same(agent.finish().status, 143, "after SIGTERM")


if __name__ == "__main__":
    sys.exit(bench.main())
