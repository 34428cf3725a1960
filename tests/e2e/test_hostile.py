#!/usr/bin/env python3
"""Hostile names, documents, sizes and surroundings (F1 to F8, R1 to R3, R6, R8, P4, P5).

Nothing outside of the cache changes, nothing wrong is published, the status is one of
the contract's, the words are escaped, and both processes together stay under 64 MiB.
"""

import glob
import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from xml.sax.saxutils import quoteattr

import harness
import bench
from bench import SOURCE_ERRORS, Case
from harness import (Mounted, PACKAGE, VERSION, check, error_of, expect, replies,
                     same, skip)

import fault                                                        # noqa: E402
import iis                                                          # noqa: E402

MEMORY_KIB = 64 << 10
FLAT = {"big.bin": 300000, "small.txt": 1000}     # all in one answer to PROPFIND
NAME_ERRORS = ("NAME", "LISTING", "LIMIT")

# Names that may never become a file: whatever source says them, 22 and a reason.
BAD = [
    "../../etc/passwd", "..", ".", "/etc/passwd", "//etc/passwd", "C:\\Windows\\x",
    "..\\..\\x", "a/../../b", "a/./b", "a//b", "a\nb", "a\rb", "x" * 256, "x" * 4096,
    "PKG00001.1/../..", "/dev/null", "/proc/self/mem", "/proc/self/fd/1",
    "dev/../dev/sda", "\\\\host\\share", "a/" * 2000 + "b", "a/" * 40 + "b",
    "../" * 40 + "tmp/pwn", "big.bin/inner", "./big.bin", "sub/..", "../" + PACKAGE,
]
# As bytes, percent-coded in an href: NUL, broken UTF-8, overlong dots and slashes.
BAD_BYTES = [b"a\0b", b"\x80\x81", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xae\xc0\xae/x",
             b"..\xc0\xafx", b"\0", b"big.bin\0.txt"]
# Ordinary here, or at least harmless: not published, since policy's hash has none.
ODD = [
    "~", "~root/x", "-rf", "--help", "$(id)", "`id`", "%2e%2e%2fetc", "..%2f..%2fx",
    "..;/x", "%00", "CON", "NUL", "aux.txt", "LPT1", "COM\u00b9", "a.", "a ", "a:b",
    "a:stream", "a*?<>|\"", "x" * 255, "\u00e9", "e\u0301", "\u212a", "\ufb01", "\u0130",
    "\u00df", "\ufeffx", ".partial", ".state", "lock", "x.tmp", "SMSPKG$/x", "%s%n%x",
    "\u200b", "con ", "..\u2215x", "..\uff0fx", "\uff0e\uff0e/x", "a\x1b[2Jb",
    "a\x1b]0;pwn\x07", "\u202egpj.exe", "a\u2028b", "\x7f", "file:///etc/passwd",
    "http://h/x", "]LOG]!><time=\"0\" x", "a\tb", "BIG.BIN", "\x85", "'\"><x>",
]


# -- helpers -----------------------------------------------------------------------------

class Hostile(Case):
    """Also the cache itself may hold only what belongs there, and /etc stays."""

    def go(self, *args, **how):
        etc = sorted((e.name, e.stat(follow_symlinks=False).st_mtime_ns)
                     for e in os.scandir("/etc"))
        run = super().go(*args, **how)
        same(sorted((e.name, e.stat(follow_symlinks=False).st_mtime_ns)
                    for e in os.scandir("/etc")), etc, "/etc")
        same(set(os.listdir(self.path("cache"))) - {
            "content", "listing", "lock", "partial"}, set(), "in the cache")
        for name in ("content", "lock", "partial"):
            have = set(os.listdir(self.path("cache", name)))
            same(have - {harness.NAME}, set(), "in " + name)
        return run


def resident(pid):
    """KiB in memory now, and how much of it another process may share with it."""
    try:
        with open("/proc/%d/status" % pid) as stream:
            found = dict(re.findall(r"(VmRSS|RssFile|RssShmem):\s+(\d+)", stream.read()))
    except OSError:
        return 0, 0
    return (int(found.get("VmRSS", 0)),
            int(found.get("RssFile", 0)) + int(found.get("RssShmem", 0)))


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as stream:
            return [int(w) for w in stream.read().split()]
    except OSError:
        return []


class Watch:
    """The most memory that an agent and its network process have at one moment."""

    def __init__(self):
        self.kib = 0

    def follow(self, process):
        while process.poll() is None:
            seen = [resident(pid) for pid in [process.pid] + children(process.pid)]
            seen = [one for one in seen if one[0]]
            # program, libraries and ring are there once, whoever maps them
            twice = min(shared for _, shared in seen) if len(seen) > 1 else 0
            self.kib = max(self.kib, sum(all_of for all_of, _ in seen) - twice)
            time.sleep(0.004)


class Group:
    """A memory cgroup of 64 MiB for one agent, where this machine lets us have one."""

    TOP = "/sys/fs/cgroup/memory"

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="e2e-", dir=self.TOP) if (
            os.geteuid() == 0 and os.path.isdir(self.TOP)) else None
        if self.path:
            self.write("memory.limit_in_bytes", MEMORY_KIB << 10)

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as stream:
            stream.write(str(value))

    def join(self):
        if self.path:
            self.write("cgroup.procs", os.getpid())

    def close(self):
        """How many processes the kernel ended for want of memory."""
        if not self.path:
            return 0
        with open(os.path.join(self.path, "memory.oom_control")) as stream:
            killed = int(re.search(r"oom_kill (\d+)", stream.read()).group(1))
        os.rmdir(self.path)
        return killed


def lean(s, *args, bound=bench.BOUND):
    """--download under watch: Run, bounded in time and memory. Memory is judged by the
    kernel; without cgroups by what both processes have at any one moment."""
    began = time.monotonic()
    group = Group() if not harness.is_sanitized() else None
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = subprocess.Popen(
        [harness.agentconf.AGENT, "--download", PACKAGE, "--json", *args, "--config",
         s.lab.conf], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=env, preexec_fn=group.join if group else None)
    watch = Watch()
    thread = threading.Thread(target=watch.follow, args=(process,))
    thread.start()
    try:
        out, err = process.communicate(timeout=bound + 30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        thread.join()
    took = time.monotonic() - began
    text = out.decode("utf-8")
    run = harness.agentconf.Run(process.returncode, text,
                                err.decode("utf-8", "replace"),
                                json.loads(text) if text else None)
    expect(run.status >= 0, "ended by a signal", run.status)
    bench.sound_output(run)
    bench.sound_logs(s.path("log"))
    expect(took < bound, "took %.1f s" % took)
    if group:
        killed = group.close()
        same(killed, 0, "ended by the kernel for want of memory, %s, %s" % (
            watch.kib, err[-300:]))
        if not group.path:
            expect(watch.kib < MEMORY_KIB, "memory", watch.kib)
    if run.status:
        s.expect_nothing()
        expect(run.status != 1, "an internal error:", error_of(run))
    return run


def href(s, name):
    """How a listing would name it: as it is, but for what XML cannot hold."""
    base = "/SMS_DP_SMSPKG$/%s/" % PACKAGE
    raw = name if isinstance(name, bytes) else name.encode()
    return base + urllib.parse.quote_from_bytes(raw, safe="/\\:")


def listing(s, dp, *hrefs, sizes=None):
    """Let PROPFIND list the true files and these hrefs."""
    base = "/SMS_DP_SMSPKG$/%s/" % PACKAGE
    entries = [(base, None)] + [
        (base + urllib.parse.quote(f), (sizes or s.content.sizes)[f])
        for f in s.content.files]
    entries += [(h, 1) for h in hrefs]
    dp.server.set([fault.Rule("replace", method="PROPFIND", status=207,
                              body=iis.multistatus(entries),
                              headers=[("Content-Type", "text/xml")]),
                   fault.Rule("replace", path="*pwn*", body=b"x")])


# -- names --------------------------------------------------------------------------------

def check_bad(run, name):
    same(run.status, 22, "%r: %s" % (name[:60], run.err[-500:]))
    expect(error_of(run)["detail"] in NAME_ERRORS + ("ABSENT", "HTTP"), repr(name[:60]),
           error_of(run))


@check
def names_from_a_listing():
    """As one percent-coded name, whose slashes are part of it, and as a path."""
    with Hostile(files=FLAT) as s:
        dp = s.faulty()
        s.sources(dp)
        for name in BAD + BAD_BYTES:
            raw = name if isinstance(name, bytes) else name.encode()
            for safe in ("/\\:", ""):
                listing(s, dp, "/SMS_DP_SMSPKG$/%s/%s" % (
                    PACKAGE, urllib.parse.quote_from_bytes(raw, safe=safe)))
                run = s.go()
                # `a/./b` in a URL is `a/b` (RFC 3986): a file more, wrong by hash
                expect(run.status in SOURCE_ERRORS or run.status == 0, name[:60])
                if safe == "" and name not in (".", "./big.bin", "a/./b", "sub/.."):
                    expect(run.status, repr(name[:60]), "was accepted", run.json)
                s.forget_all()


@check
def odd_names_from_a_listing():
    """No status but a source's, no raw byte on the terminal, no second log line."""
    with Hostile(files=FLAT) as s:
        dp = s.faulty()
        s.sources(dp)
        for name in ODD:
            listing(s, dp, href(s, name))
            run = s.go()
            # a path that is no child of the folder asked for is no entry
            expect(run.status in SOURCE_ERRORS or "/" in name, repr(name[:60]),
                   run.status)
            s.forget_all()
        for path in glob.glob(s.path("log", "*")):
            with open(path, encoding="utf-8") as stream:
                for line in stream:
                    same(line.count("]LOG]!>"), 1, "ends of a record in " + repr(line))


@check
def hrefs_that_lead_elsewhere():
    """Other hosts, other shares, other schemes, and URLs that are none."""
    with Hostile(files=FLAT) as s:
        dp = s.faulty()
        s.sources(dp)
        inside = "/SMS_DP_SMSPKG$/%s/" % PACKAGE
        for one in ("http://elsewhere.example.net" + inside + "pwn", "//h" + inside + "x",
                    "file:///etc/passwd", "/etc/passwd", "/SMS_DP_SMSPKG$/ABC00043/x",
                    "/SMS_DP_SMSPKG$/%sX/x" % PACKAGE, inside + "../ABC00043/x",
                    "http://user:pass@127.0.0.1:%d%sx" % (dp.port, inside),
                    inside + "%", inside + "%zz", inside + "%2", "", "x", "../x",
                    inside + "a?b", inside + "a#b", inside + "%2e%2e/x",
                    inside + "..%5c..%5cpwn", inside + "%252e%252e%252fpwn",
                    "javascript:alert(1)", "http://[::1", "\\\\h\\s",
                    inside + "x" * 70000, "http://127.0.0.1:99999" + inside + "x"):
            listing(s, dp, one)
            run = s.go()
            expect(run.status in SOURCE_ERRORS or run.status == 0, repr(one[:80]),
                   run.status, run.err[-300:])
            s.forget_all()


@check
def two_names_that_are_one():
    """Twice the same, twins in ASCII case, a file that is a folder too (F3)."""
    with Hostile(files=FLAT) as s:
        dp = s.faulty()
        s.sources(dp)
        for one in ("BIG.BIN", "Big.bin", "big.bin", "small.TXT"):
            listing(s, dp, href(s, one))
            run = s.go()
            same(run.status, 22, one + run.err[-300:])
    with Cloud() as s:
        for one in ("BIG.BIN", "big.bin", "SUB/empty.dat", "sub/empty.DAT", "sub", "SUB",
                    "big.bin/x", "BIG.bin/x", "sub\\empty.dat"):
            s.put(s.manifest(file_element(one, s.link + "pwn")))
            run = s.go()
            same(run.status, 22, one + run.err[-300:])


class Cloud(Hostile):
    def __init__(self):
        super().__init__()
        ca = harness.shared_ca()
        path = self.path("token")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(harness.TOKEN + "\n")
        self.settings.update({"client.token_file": path, "cloud.suffix": [
            "cloudapp.net", "blob.core.windows.net"]})
        self.mp = self.lab.mp(token=harness.TOKEN, tls=ca.server("mp01.example.net"))
        self.cloud = self.lab.cloud(ca.server(harness.labs.SERVICE),
                                    token=harness.TOKEN)
        self.store = self.faulty(tls=ca.server("*.blob.core.windows.net"))
        self.dns = [self.lab.dns_nsd(harness.labs.records(), harness.labs.ZONES)]
        self.conf(["https://mp01.example.net:%d" % self.mp.port])
        self.locate(replies.cloud_url(harness.labs.SERVICE, self.cloud.port, PACKAGE))
        self.link = "https://%s:%d/%s/" % (harness.labs.STORE, self.store.port, PACKAGE)
        self.cloud.publish(PACKAGE, self.manifest())      # put() stands for it

    def put(self, text):
        """These bytes are the manifest from now on."""
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        with open(os.path.join(self.cloud.folder, "hostile"), "wb") as stream:
            stream.write(raw)
        self.cloud.script("on manifest\nraw hostile\ncontent_type text/xml\n")

    def manifest(self, *more, head=None, true=True):
        """The true manifest with more FileContent elements, as text."""
        lines = []
        for f in self.content.files if true else ():
            lines.append("<FileContent Name=%s Hash=\"%s\" HashAlgorithm=\"SHA256\" "
                         "Size=\"%d\" Url=%s/>" % (
                             quoteattr(f), self.content.digests[f],
                             self.content.sizes[f], quoteattr(self.link + f)))
        return "%s%s%s</Content>" % (
            head or "<Content ContentId=\"%s\" Version=\"%d\">" % (PACKAGE, VERSION),
            "".join(lines), "".join(more))


def file_element(name, link, size="1", hash="0" * 64, algorithm="SHA256"):
    """FileContent; characters that XML has only as references are written so."""
    text = "".join("&#%d;" % ord(c) if ord(c) < 32 or c in "<>&\"'" or ord(c) > 126
                   else c for c in name)
    return ("<FileContent Name=\"%s\" Hash=\"%s\" HashAlgorithm=\"%s\" Size=\"%s\" "
            "Url=%s/>" % (text, hash, algorithm, size, quoteattr(link)))


@check
def names_from_a_manifest():
    with Cloud() as s:
        for name in BAD + [n.replace("/", "\\") for n in BAD if "/" in n] + [""]:
            s.put(s.manifest(file_element(name, s.link + "pwn")))
            run = s.go()
            if name == "C:\\Windows\\x":      # a folder of the name "C:", beneath
                expect(run.status in SOURCE_ERRORS, name, run.status)
            else:
                check_bad(run, name)
        for raw in BAD_BYTES:
            text = s.manifest("<FileContent Name=\"@@\" Size=\"1\" Url=\"%spwn\"/>"
                              % s.link)
            s.put(text.encode().replace(b"@@", raw))
            same(s.go().status, 22, raw)


@check
def odd_names_from_a_manifest():
    with Cloud() as s:
        s.store.server.set(fault.Rule("replace", path="*pwn*", body=b"x"))
        for name in ODD:
            s.put(s.manifest(file_element(name, s.link + "pwn")))
            run = s.go()
            expect(run.status in SOURCE_ERRORS, repr(name[:60]), run.status)


@check
def true_manifest_as_a_control():
    with Cloud() as s:
        s.put(s.manifest())
        same(s.go().status, 0)


@check
def manifests_that_lie():
    """Of another content, of other sizes and hashes, with links that lead away."""
    good = lambda s, **how: s.manifest(true=False, *[              # noqa: E731
        file_element(f, how.get("link", s.link) + f, how.get("size", s.content.sizes[f]),
                     how.get("hash", s.content.digests[f]),
                     how.get("algorithm", "SHA256")) for f in s.content.files],
        head=how.get("head"))
    with Cloud() as s:
        s.put(good(s))
        same(s.go().status, 0, "the form is right")
        s.forget_all()
        table = [dict(head="<Content ContentId=\"ABC00043\" Version=\"3\">"),
                 dict(head="<Content ContentId=\"%s\" Version=\"4\">" % PACKAGE),
                 dict(head="<Content ContentId=\"../../x\" Version=\"3\">"),
                 dict(head="<Content ContentId=\"%s\" Version=\"-3\">" % PACKAGE),
                 dict(head="<Contents>")]
        table += [dict(size=n) for n in (
            "-1", "1e9", "0x10", "99999999999999999999", " 5", "+5", "", "1.5",
            str(2 ** 63 - 1), str(2 ** 63), str(2 ** 64), str(2 ** 31), "0")]
        table += [dict(hash=h) for h in ("", "0" * 63, "0" * 64, "0" * 65, "zz" * 32,
                                         "../../x", "%s%n")]
        table += [dict(link=u) for u in (
            "file:///etc/", "http://%s/" % harness.labs.STORE, "ftp://127.0.0.1/",
            "https://u:p@%s/" % harness.labs.STORE, "https://169.254.169.254/",
            "https://127.0.0.1:%d/%s/" % (s.store.port, PACKAGE), "//evil.test/",
            "https://evil.test/", "https:///", "\\\\h\\s\\", "data:,", "x" * 9000,
            "https://%s:99999/" % harness.labs.STORE, "https://a b/", "https://a%00b/",
            "https://%s.evil.test/" % harness.labs.STORE)]
        for how in table:
            s.put(good(s, **how))
            run = s.go()
            expect(run.status in SOURCE_ERRORS or (run.status == 0 and how in (
                # no size, no hash: less is known, policy's hash still decides
                dict(size=""), dict(hash=""))), how, run.status, run.err[-400:])
            s.forget_all()


# -- what the management point says ------------------------------------------------------------

def bad_reply(url, *more):
    """A location reply with this URL, however wrong, and more records behind it."""
    text = replies.location_reply([replies.record("http://placeholder/",
                                                  locality="SUBNET"), *more])
    return text.replace("\"http://placeholder/\"", quoteattr(url))


@check
def urls_of_a_location_reply():
    """Each is refused by name, and whoever stands behind it still delivers."""
    with Hostile() as s:
        good = s.faulty()
        canary = s.faulty()
        p = canary.port
        share = "/SMS_DP_SMSPKG$/" + PACKAGE
        for url in ("file:///etc/passwd", "ftp://127.0.0.1" + share, "gopher://x/1",
                    "http://root:secret@127.0.0.1:%d%s" % (p, share), "", " ", "x",
                    "http://", "http:///" + share, "http://127.0.0.1:99999" + share,
                    "http://127.0.0.1:0" + share, "http://a b/" + share,
                    "http://a%00b" + share, "http://[::1" + share,
                    "http://h\r\nX-Injected: 1/" + share, "http://" + "a" * 300 + share,
                    "http://127.0.0.1:%d/%s" % (p, "x" * 20000), "javascript:1",
                    "\\\\server\\share", "http://..%2f" + share,
                    "http://127.0.0.1:%d/../../etc/passwd" % p, "http://-rf" + share,
                    "http://\u202egpj.exe" + share, "http://a\x1b[2J" + share,
                    "http://127.0.0.1:%d/%%0d%%0aX:y" % p, "HTTP://[fe80::1%25lo]/" + share,
                    "https://127.0.0.1:%d%s" % (p, share), "http://1.2.3.4.5" + share):
            url = url.replace("\x1b", "")      # XML 1.0 cannot hold it
            s.mp.publish(PACKAGE, bad_reply(url))
            run = s.go()
            expect(run.status in (10, 11) + SOURCE_ERRORS, repr(url[:60]), run.status,
                   run.err[-300:])
            expect(not canary.server.saw_header("secret"), "secret was sent")
            expect(not canary.server.saw_header("X-Injected"), "a header was added")
            s.mp.publish(PACKAGE, bad_reply(url, replies.record(s.share(good),
                                                                locality="SITE")))
            run = s.go()
            expect(run.status == 0 or run.status == 10, repr(url[:60]), run.status,
                   run.err[-500:])
            s.forget_all()


X = "<?xml version=\"1.0\"?>\n"


def documents():
    """Attacks on whoever parses XML; the same for reply, listing and manifest."""
    lol = X + "<!DOCTYPE l [<!ENTITY a \"lol\">" + "".join(
        "<!ENTITY %s \"%s\">" % (chr(98 + i), ("&%s;" % chr(97 + i)) * 10)
        for i in range(9)) + "]><l>&j;</l>"
    yield "lol", lol
    yield "quadratic", (X + "<!DOCTYPE q [<!ENTITY a \"" + "A" * 100000 + "\">]><q>"
                        + "&a;" * 10000 + "</q>")
    for u in ("file:///etc/passwd", "http://127.0.0.1:1/x", "expect://id"):
        yield "xxe " + u, (X + "<!DOCTYPE r [<!ENTITY x SYSTEM \"%s\">]><r>&x;</r>" % u)
    yield "parameter", (X + "<!DOCTYPE r [<!ENTITY % p SYSTEM \"http://127.0.0.1:1/e\">"
                        "%p;]><r/>")
    yield "external dtd", X + "<!DOCTYPE r SYSTEM \"http://127.0.0.1:1/e.dtd\"><r/>"
    yield "empty doctype", X + "<!DOCTYPE ContentLocationReply><ContentLocationReply/>"
    yield "deep", X + "<a>" * 500000
    yield "attributes", X + "<a " + " ".join("a%d=\"1\"" % i for i in range(300000)) + "/>"
    yield "token", X + "<a b=\"" + "x" * (8 << 20) + "\"/>"
    yield "text", X + "<a>" + "x" * (8 << 20) + "</a>"
    yield "comment", "<a><!--" + "-" * (8 << 20)
    yield "elements", X + "<a>" + "<b/>" * 800000 + "</a>"
    yield "nul", X + "<a>\0</a>"
    yield "utf-7", "<?xml version=\"1.0\" encoding=\"UTF-7\"?>+ADw-a+AD4-"
    yield "other encoding", "<?xml version=\"1.0\" encoding=\"x-evil\"?><a/>"
    yield "two roots", "<a/><b/>"
    yield "same attribute twice", "<a URL=\"x\" URL=\"y\"/>"
    yield "prefix", "<x:a/>"
    yield "namespaces", "<a " + " ".join("xmlns:n%d=\"u%d\"" % (i, i)
                                         for i in range(20000)) + "/>"
    yield "instruction", "<?" + "p" * (1 << 20) + " x?><a/>"
    yield "nothing", ""
    yield "space", " " * (1 << 20)
    yield "no XML", "hello"
    yield "html", "<!doctype html><html><body>Sign in</body></html>"
    yield "locations", (
        X + "<ContentLocationReply><Sites><Site><LocationRecords>" + "".join(
            "<LocationRecord><URL Name=\"https://dp%d.test/p\"/></LocationRecord>" % i
            for i in range(60000)) + "</LocationRecords></Site></Sites>"
        "</ContentLocationReply>")
    yield "responses", (
        X + "<a:multistatus xmlns:a=\"DAV:\">" + "".join(
            "<a:response><a:href>/SMS_DP_SMSPKG$/%s/f%d</a:href><a:propstat><a:status>"
            "HTTP/1.1 200 OK</a:status><a:prop/></a:propstat></a:response>"
            % (PACKAGE, i) for i in range(60000)) + "</a:multistatus>")
    yield "files", ("<Content ContentId=\"%s\" Version=\"3\">" % PACKAGE + "".join(
        "<FileContent Name=\"f%d\"/>" % i for i in range(200000)) + "</Content>")


DOCUMENTS = list(documents())


@check
def documents_as_a_reply():
    with Hostile() as s:
        s.sources(s.faulty())
        for name, text in DOCUMENTS:
            for coding in ("utf-16-le", "utf-8"):
                with open(os.path.join(s.mp.folder, "hostile"), "wb") as stream:
                    stream.write(text.encode(coding))
                for form in ("plain", "zlib"):
                    if coding == "utf-8" and form == "zlib":
                        continue
                    s.mp.script("bodyraw hostile\n%s\n" % form)
                    run = lean(s, bound=15)
                    expect(run.status in (10, 11, 20), name, coding, form, run.status,
                           run.err[-300:])


@check
def documents_as_a_listing():
    with Hostile() as s:
        dp = s.faulty()
        s.sources(dp)
        for name, text in DOCUMENTS:
            for coding in ("utf-8", "utf-16"):
                dp.server.set([fault.Rule("replace", method="PROPFIND", status=207,
                                          body=text.encode(coding),
                                          headers=[("Content-Type", "text/xml")]),
                               fault.Rule("status", status=404)])
                run = lean(s, bound=15)
                expect(run.status in SOURCE_ERRORS, name, run.status, run.err[-300:])
                s.forget_all()


@check
def documents_as_a_manifest():
    with Cloud() as s:
        for name, text in DOCUMENTS:
            s.put(text)
            run = lean(s, bound=15)
            expect(run.status in SOURCE_ERRORS, name, run.status, run.err[-300:])


def bomb(mebibytes, bits=15):
    deflate, out, zeros = zlib.compressobj(9, zlib.DEFLATED, bits), [], bytes(1 << 20)
    for _ in range(mebibytes):
        out.append(deflate.compress(zeros))
    return b"".join(out) + deflate.flush()


@check
def compressed_replies():
    """Bombs, cuts, flips, junk: refused by name, small and soon (R2)."""
    with Hostile() as s:
        s.sources(s.faulty())
        reply = replies.location_reply([replies.record("http://127.0.0.1:1/x")])
        true = zlib.compress(reply.encode("utf-16-le") + b"\0\0")
        big = bomb(512)
        raw = zlib.compressobj(9, zlib.DEFLATED, -15)
        preset = zlib.compressobj(9, 8, 15, 9, 0, b"<ContentLocationReply/>")
        cases = {"bomb": big, "bomb in a bomb": zlib.compress(big, 9),
                 "gzip bomb": bomb(64, 31), "raw bomb": bomb(64, -15),
                 "small bomb": zlib.compress(bytes(1 << 20)),
                 "text bomb": zlib.compress(("<a>" * (3 << 20)).encode("utf-16-le")),
                 "junk behind": true + b"junk" * 1000, "two streams": true + true,
                 "bad sum": true[:-1] + bytes([true[-1] ^ 1]), "empty": b"",
                 "raw": raw.compress(b"x") + raw.flush(),
                 "preset": preset.compress(b"<a/>") + preset.flush(),
                 "bytes": bytes(range(256)) * 64}
        step = max(1, len(true) // 12)
        cases.update({"cut %d" % n: true[:n] for n in range(0, len(true), step)})
        for n in range(0, len(true), step):
            x = bytearray(true)
            x[n] ^= 1 << (n % 8)
            cases["flip %d" % n] = bytes(x)
        for name, body in cases.items():
            with open(os.path.join(s.mp.folder, "hostile"), "wb") as stream:
                stream.write(body)
            s.mp.script("zlib\nrawpart2 hostile\n")
            run = lean(s, bound=10)
            if name in ("junk behind", "two streams"):
                expect(run.status in (10, 22), name, run.status)
            else:
                same(run.status, 10, name + run.err[-400:])
            expect(run.json["management_point_attempts"][0]["error"]
                   if run.status == 10 else True, "no error of its own")


B = b"--aAbBcCdDv1234567890VxXyYzZ"
MULTIPART = {
    "none": b"no boundary here", "open": B + b"\r\nContent-Type: text/xml\r\n\r\n<a/>",
    "lf": B + b"\nContent-Type: text/xml\n\n<a/>\n" + B + b"--",
    "preamble": b"junk\r\n" + B + b"\r\n\r\nx\r\n" + B + b"--\r\nepilogue",
    "empty part": B + b"\r\n\r\n\r\n" + B + b"--", "no headers": B + b"\r\n" + B + b"--",
    "prefix": B + b"x\r\n\r\nA\r\n" + B + b"--", "close first": B + b"--\r\n" + B
    + b"\r\n\r\nz\r\n" + B + b"--",
    "many lines": B + b"\r\n" + b"X: y\r\n" * 200000 + b"\r\nz\r\n" + B + b"--",
    "long line": B + b"\r\nX: " + b"y" * (8 << 20) + b"\r\n\r\nz\r\n" + B + b"--",
    "many parts": (B + b"\r\n\r\n\r\n") * 200000 + B + b"--",
    "nul": B + b"\r\nContent-Type: te\0xt\r\n\r\nz\r\n" + B + b"--",
    "nested": B + b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nz\r\n"
    b"--b--\r\n" + B + b"--",
    "length": B + b"\r\nContent-Length: 99999999999999999999\r\n\r\nz\r\n" + B + b"--",
    "big": bytes(20 << 20),
}


@check
def multiparts_and_pages():
    """No multipart, an odd one, another page, a status: 10 and its own error (P5)."""
    with Hostile() as s:
        s.sources(s.faulty())
        for name, body in MULTIPART.items():
            with open(os.path.join(s.mp.folder, "hostile"), "wb") as stream:
                stream.write(body)
            s.mp.script("raw hostile\n")
            run = lean(s, bound=10)
            same(run.status, 10, name + run.err[-300:])
        for script in ("html", "empty", "empty\ncontent_type -", "close", "cut 10",
                       "cut 700", "content_type text/html", "status 200\nempty",
                       "content_type multipart/mixed", "status 401", "status 403",
                       "status 404", "status 407", "status 500", "status 204",
                       "status 302\nredirect http://127.0.0.1:1/",
                       "redirect file:///etc/passwd", "status 599",
                       "content_type multipart/mixed; boundary=" + "x" * 5000,
                       "status 500\nreason \x1b[2J\x07%s%n<script>",
                       "header X-A: " + "y" * 90000):
            s.mp.script(script + "\n")
            run = lean(s, bound=10)
            if not script.startswith("header") and "content_type text" not in script:
                same(run.status, 10, script[:60] + run.err[-300:])
            text = error_of(run).get("text", "")
            expect(run.status == 0 or text, script)
            s.forget_all()


@check
def a_management_point_without_end():
    """Bodies, headers, chunks, silence for a location request (R1, R5)."""
    with Hostile() as s:
        bad = s.faulty()
        for name in ("endless", "endless-chunked", "endless-headers", "endless-header",
                     "interim-endless", "silence", "stall", "drip", "drip-headers",
                     "gzip-bomb", "http09", "garbage", "redirect-loop", "close",
                     "reset", "chunked-negative", "length-max", "length-two"):
            bad.server.set(fault.Rule(name, method="*"))
            s.conf(["http://127.0.0.1:%d" % bad.port])
            run = lean(s, bound=25)
            same(run.status, 10, name + run.err[-300:])


# -- ids, settings, policy ------------------------------------------------------------------

IDS = ["", ".", "..", "../../etc", "/etc/passwd", "a/b", "a\\b", "ABC00042/..",
       "ABC00042.3/../..", "C:\\x", "x" * 300, "a\nb", "\x1b[2J", "%2e%2e", "~root",
       "$(id)", "ABC00042.-1", "ABC00042.99999999999999999999", "ABC00042.0x3",
       "ABC00042.3.3", "ABC00042.", ".3", "\u202egpj", "{}", "Content_", "CON\0".rstrip(
           "\0"), "ABC00042 ", " ABC00042", "ABC 00042", "%s%n", "*", "-", "--",
       "Content_../../x", "Content_" + "0" * 36, "\xff"]


@check
def content_ids():
    with Case() as s:
        s.sources(s.faulty())
        inside = set(os.listdir(s.lab.folder))
        for one in IDS:
            for verb in (["--download", one, "--json"], ["--locate", one],
                         ["--diagnose", one], ["--cache", "remove", one]):
                run = s.run(*verb)
                expect(run.status in (2, 3, 4, 10, 11, 31) or (
                    run.status == 0 and verb[0] in ("--locate", "--cache")),
                    verb, run.status, run.out[-200:], run.err[-300:])
                bench.sound_output(run)
                same(set(os.listdir(s.lab.folder)) - inside - {"control.sock"}, set(),
                     verb)
        for name in ("content", "partial", "listing", "lock"):
            same(set(glob.glob(s.path("cache", name, "*"))), set(), "in " + name)
        for hash in ("sha256:", "sha256:" + "0" * 63, "sha256:" + "0" * 65, "md5:" +
                     "0" * 32, "0" * 64, "sha1:" + "0" * 40, "sha256:" + "g" * 64,
                     "sha256:" + "0" * 64 + " ", "SHA-256:" + "0" * 64, "\x1b[2J"):
            run = s.run("--download", "ABC00099", "--hash", hash, "--json")
            expect(run.status in (2, 3), hash, run.status)


@check
def values_of_policy_and_settings():
    """A hostile or a clumsy value is an error with file and line; nothing is done."""
    with Case() as s:
        dp = s.faulty()
        s.sources(dp)
        policy = s.path("policy.d", PACKAGE + ".ini")
        with open(policy, encoding="utf-8") as stream:
            good = stream.read()
        true = {"package": PACKAGE, "version": str(VERSION), "hash": s.content.hash,
                "size": str(s.content.total)}
        for key, values in {
                "package": IDS[:16], "version": ("-1", "x", "99999999999999999999", "3 3"),
                "hash": ("x", "sha256:", "sha256:" + "0" * 63, "md5:" + "0" * 32, "0" * 64),
                "size": ("-1", "1e9", "0x10", "99999999999999999999", "x" * 5000)}.items():
            for value in values:
                if not value or "\n" in value:
                    continue
                text = good.replace("%s = %s" % (key, true[key]),
                                    "%s = %s" % (key, value))
                with open(policy, "wb") as stream:
                    stream.write(text.encode("utf-8", "surrogateescape"))
                run = s.run("--check-config")
                same(run.status, 3, "%s = %s" % (key, value[:40]))
                expect(re.search(r"%s\.ini:\d+" % PACKAGE, run.err), run.err[-300:])
                bench.sound_output(run)
                run = s.run("--download", PACKAGE, "--json")
                expect(run.status in (3, 4), key, value[:40], run.status)
        files = ("../../../etc/passwd", "/etc/passwd", "..", "a/b", "x\\y", "/dev/zero",
                 "/proc/self/mem", "nowhere.sha256", ".")
        for value in files:
            with open(policy, "w", encoding="utf-8") as stream:
                stream.write(good.replace("\n\n[sources]", "\nfiles = %s\n\n[sources]"
                                          % value))
            run = s.run("--check-config", timeout=10)
            same(run.status, 3, "files = " + value)
        for raw in (b"\xef\xbb\xbf" + good.encode(), good.encode("utf-16"),
                    good.encode() + b"k = " + b"x" * 300000, b"[a\nb=c\n",
                    good.encode() + b"\0", bytes(range(256)) * 16, b"[" + b"s" * 5000,
                    good.encode() + b"".join(b"k%d = v\n" % n for n in range(100000)),
                    good.encode().replace(b"\n", b"\r"), b"b=c\n" + good.encode()):
            with open(policy, "wb") as stream:
                stream.write(raw)
            run = s.run("--download", PACKAGE, "--json", timeout=20)
            expect(run.status in (0, 3, 4), raw[:40], run.status, run.err[-200:])
            bench.sound_output(run)
        with open(policy, "w", encoding="utf-8") as stream:
            stream.write(good)
        for words in ("transfer.attempts=0", "transfer.attempts=-1", "cache.size=1e9",
                      "transfer.stall_timeout=9x",
                      "site.management_point=file:///etc/passwd", "a.b=c", "x", "=",
                      "dns.server=../../x", "site.code=\x1b[2J", "log.level=%s%n",
                      "site.management_point=http://u:p@h/", "cloud.suffix=a/b"):
            run = s.run("--download", PACKAGE, "--set", words)
            same(run.status, 2, "--set " + words)
            bench.sound_output(run)


@check
def terminal_sees_no_escape():
    """On a real terminal too: names, reasons and hosts of strangers stay text (F5)."""
    with Hostile() as s:
        dp = s.faulty()
        s.sources(dp)
        evil = "a\x1b[2J\x1b]0;pwn\x07\u202e\x9b31m\x85b"
        scripts = ([fault.Rule("reason", method="PROPFIND")], [fault.Rule("reason")],
                   [fault.Rule("replace", method="PROPFIND", status=404, body=b"x",
                               headers=[("X", "y")])], None)
        for script in scripts:
            dp.server.set(script)
            if script is None:
                listing(s, dp, href(s, evil), href(s, "../" + evil))
            for verb in (["--download", PACKAGE, "--progress", "none"],
                         ["--download", PACKAGE, "--verbose", "--progress", "none"],
                         ["--diagnose", PACKAGE], ["--locate", PACKAGE, "--verbose"]):
                shown, _ = harness.on_terminal(s.lab, verb, "1")
                shown = shown.replace(b"\r\n", b"\n")
                found = re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae",
                                  shown)
                expect(not found, verb, "raw on the terminal:", shown[-600:])


# -- planted things (F2, F6) -------------------------------------------------------------------

def plant_symlink(path, canary):
    os.symlink(canary, path)


def plant_hardlink(path, canary):
    os.link(canary, path)


def plant_fifo(path, canary):
    os.mkfifo(path)


def plant_folder(path, canary):
    os.makedirs(os.path.join(path, "deep"))


def plant_dangling(path, canary):
    os.symlink(canary + ".new", path)


def plant_device(path, canary):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def plant_loop(path, canary):
    os.symlink(path, path)


PLANTS = [plant_symlink, plant_hardlink, plant_fifo, plant_folder, plant_dangling,
          plant_device, plant_loop]


@check
def planted_in_the_partial_folder():
    """Whatever lies under the name of a file: the canary stays, the download succeeds
    or says why, and what is published are regular files of ours."""
    with Hostile() as s:
        dp = s.faulty()
        s.sources(dp)
        canary = s.path("canary")
        with open(canary, "wb") as stream:
            stream.write(s.content.read("big.bin"))       # the right bytes, even
        s.go()
        s.forget_all()
        for plant in PLANTS:
            for name in ("big.bin", "sub", "sub/empty.dat"):
                if plant is plant_device and os.geteuid() != 0:
                    continue
                folder = s.path("cache", "partial", harness.NAME)
                os.makedirs(os.path.dirname(os.path.join(folder, name)), mode=0o755)
                plant(os.path.join(folder, name), canary)
                what = "%s at %s" % (plant.__name__, name)
                run = s.go(bound=10)
                expect(run.status in (0, 31), what, run.status, run.err[-400:])
                if run.status == 0:
                    for base, folders, files in os.walk(s.published()):
                        for one in folders + files:
                            about = os.lstat(os.path.join(base, one))
                            expect(stat.S_ISDIR(about.st_mode) or (
                                stat.S_ISREG(about.st_mode) and about.st_nlink == 1),
                                what, one, about)
                same(os.stat(canary).st_nlink, 1, what + ": links of the canary")
                with open(canary, "rb") as stream:
                    same(stream.read() == s.content.read("big.bin"), True, what)
                expect(not os.path.lexists(canary + ".new"), what, "was written through")
                s.forget_all()
                shutil.rmtree(folder, ignore_errors=True)


@check
def planted_instead_of_folders():
    """cache, partial, content, the content's own folder: links lead nowhere."""
    with Case() as s:
        dp = s.faulty()
        s.sources(dp)
        same(s.go().status, 0)
        s.forget_all()
        away = s.path("away")
        os.mkdir(away)
        for name in ("partial/" + harness.NAME, "content/" + harness.NAME, "partial",
                     "content", "listing", "lock"):
            path = s.path("cache", *name.split("/"))
            if os.path.isdir(path):
                os.rename(path, path + ".kept")
            os.symlink(away, path)
            run = s.run("--download", PACKAGE, "--json")
            same(os.listdir(away), [], name + " led away")
            expect(run.status in (0, 31), name, run.status, run.err[-400:])
            if os.path.islink(path):
                os.unlink(path)
            if os.path.isdir(path + ".kept"):
                shutil.rmtree(path, ignore_errors=True)
                os.rename(path + ".kept", path)
            s.forget_all()
        os.chmod(s.path("cache"), 0o777)
        same(s.run("--download", PACKAGE).status, 31, "a cache that all may write to")
        os.chmod(s.path("cache"), 0o755)
        if os.geteuid() == 0:
            os.chown(s.path("cache"), 1234, 1234)
            same(s.run("--download", PACKAGE).status, 31, "somebody else's cache")
            os.chown(s.path("cache"), 0, 0)
        same(s.run("--download", PACKAGE).status, 0, "and then")


@check
def planted_while_it_runs():
    """A racer turns a folder of the partial into a link and back, all the time."""
    files = {"d%d/f%d.bin" % (n % 3, n): 20000 for n in range(60)}
    with Hostile(files=files) as s:
        dp = s.faulty()
        s.sources(dp)
        away = s.path("away")
        os.mkdir(away)
        stop = threading.Event()
        folder = s.path("cache", "partial", harness.NAME)

        def race():
            while not stop.is_set():
                for n in range(3):
                    path = os.path.join(folder, "d%d" % n)
                    try:
                        os.rename(path, path + ".x")
                        os.symlink(away, path)
                        os.unlink(path)
                        os.rename(path + ".x", path)
                    except OSError:
                        pass
        thread = threading.Thread(target=race)
        thread.start()
        try:
            for _ in range(12):
                run = s.run("--download", PACKAGE, "--json")
                expect(run.status in (0, 22, 31), run.status, run.err[-300:])
                same(os.listdir(away), [], "was written to through the link")
                if run.status == 0:
                    s.expect_published()
                for name in ("content", "listing", "partial"):
                    for item in os.listdir(s.path("cache", name)):
                        path = s.path("cache", name, item)
                        if os.path.isdir(path):
                            shutil.rmtree(path, ignore_errors=True)
                        else:
                            os.unlink(path)
        finally:
            stop.set()
            thread.join()


# -- sizes ----------------------------------------------------------------------------------

@check
def sizes_that_lie():
    """A listing's sizes are wrong: the source fails; the next one is not held back,
    also where policy names no size (R1)."""
    for with_size in (True, False):
        with Hostile(files=FLAT) as s:
            if not with_size:
                s.policy(size="")
            bad, good = s.faulty(), s.faulty()
            for size in (0, 1, 299999, 300001, 2 ** 31, 2 ** 32 + 5, 2 ** 40,
                         2 ** 62, 2 ** 63 - 1, 2 ** 63, 2 ** 64 - 1, 2 ** 64, "-1", "1e9",
                         "0x10", "9" * 40, ""):
                sizes = dict(s.content.sizes)
                sizes["big.bin"] = size
                listing(s, bad, sizes=sizes)
                bad.server.rules = bad.server.rules[:1]
                s.sources(bad)
                run = s.go()
                what = "size %s, policy %s" % (size, with_size)
                expect(run.status in SOURCE_ERRORS + (30,) or (
                    run.status == 0 and not isinstance(size, int)), what, run.status,
                    run.err[-300:])
                s.sources(bad, good)
                run = s.go()
                same(run.status, 0, what + ", a good one behind: " + run.err[-500:])
                s.forget_all()


@check
def too_many_files():
    """A listing of 50,000 files where policy's size allows none of them."""
    with Hostile() as s:
        bad, good = s.faulty(), s.faulty()
        base = "/SMS_DP_SMSPKG$/%s/" % PACKAGE
        entries = [(base, None)] + [(base + "f%05d" % n, 1000) for n in range(50000)]
        bad.server.set(fault.Rule("replace", method="PROPFIND", status=207,
                                  body=iis.multistatus(entries)))
        s.sources(bad)
        run = lean(s)
        expect(run.status in SOURCE_ERRORS, run.status, run.err[-300:])
        s.sources(bad, good)
        same(s.go().status, 0)


def sub_answer(folder, prefix, count):
    base = "/SMS_DP_SMSPKG$/%s/%s/%s" % (PACKAGE, folder, prefix)
    return ("<a:multistatus xmlns:a=\"DAV:\">" + "".join(
        "<a:response><a:href>%s%d</a:href><a:propstat><a:prop><a:getcontentlength>1"
        "</a:getcontentlength></a:prop><a:status>HTTP/1.1 200 OK</a:status>"
        "</a:propstat></a:response>" % (base, n) for n in range(count))
        + "</a:multistatus>").encode()


@check
def the_largest_lists_there_may_be():
    """Just within each limit and beyond it: number of files, of bytes in names, of
    bytes in one answer; policy names no size that would end it earlier."""
    with Cloud() as s:
        s.policy(size="")
        head = "<Content ContentId=\"%s\" Version=\"%d\">" % (PACKAGE, VERSION)
        for what, count, form in (
                ("small", 65500, "<FileContent Name=\"%x/%x\" Url=\"https://a/\"/>"),
                ("small", 190000, "<FileContent Name=\"%x/%x\" Url=\"https://a/\"/>"),
                ("folders", 65500, "<FileContent Name=\"d%%d/f%%d\" Url=\"%s\"/>" % s.link),
                ("long", 40000, "<FileContent Name=\"" + "n" * 190
                 + "%d/%d\" Url=\"https://a/\"/>")):
            s.put(head + "".join(form % (n, n) for n in range(count)) + "</Content>")
            run = lean(s)
            expect(run.status in SOURCE_ERRORS, what, run.status, run.err[-300:])
    with Hostile(files=FLAT) as s:
        s.policy(size="")
        dp = s.faulty()
        s.sources(dp)
        base = "/SMS_DP_SMSPKG$/%s/" % PACKAGE
        for prefix, count, folders in (("n" * 200, 19000, 2), ("n" * 200, 20000, 4),
                                       ("n" * 60, 21000, 3), ("n" * 60, 25000, 16),
                                       ("", 12400, 5), ("", 12400, 16)):
            root = iis.multistatus([(base, None)] + [
                (base + "d%d/" % n, None) for n in range(folders)])
            dp.server.set([fault.Rule(
                "replace", method="PROPFIND", path="*/d%d/" % n, status=207,
                body=sub_answer("d%d" % n, prefix, count)) for n in range(folders)]
                + [fault.Rule("replace", method="PROPFIND", status=207, body=root)])
            run = lean(s)
            expect(run.status in SOURCE_ERRORS, folders, run.status, run.err[-300:])
            s.forget_all()


@check
def bodies_without_end_stay_small():
    with Hostile() as s:
        dp = s.faulty()
        s.sources(dp)
        for name in ("endless", "endless-chunked", "endless-after", "endless-headers",
                     "length-max", "gzip-bomb", "many-headers", "interim-endless"):
            dp.server.set(fault.Rule(name))
            run = lean(s)
            expect(run.status in SOURCE_ERRORS + (0,), name, run.status)
            s.forget_all()
        # no size in the listing, none in policy, none in the answer: the cache's limit
        s.policy(size="")
        s.conf(cache__size="2M")
        dp.server.lengths = False
        dp.server.set(fault.Rule("endless"))
        run = lean(s)
        expect(run.status in SOURCE_ERRORS + (30,), run.status, run.err[-300:])
        kept = sum(os.path.getsize(p) for p in
                   glob.glob(s.path("cache", "partial", "*", "*")))
        expect(kept <= 3 << 20, "kept", kept)


@check
def many_and_large_files_stay_small():
    """An honest download of 2,000 files and of 200 MB, both processes under 64 MiB."""
    for files in ({"f/%04d.bin" % n: 100 for n in range(2000)},
                  {"large%d.bin" % n: 50 << 20 for n in range(4)}):
        with Hostile(files=files) as s:
            s.sources(s.faulty())
            same(lean(s, bound=60).status, 0)


# -- surroundings ---------------------------------------------------------------------------

@check
def disk_full():
    """Named by 30 before or while it is written; with room again it goes on (R6)."""
    with Case(settings={"cache.min_free": "0"}) as s:
        dp = s.faulty()
        s.sources(dp)
        for lengths in (True, False):
            dp.server.lengths = lengths
            s.policy(size=None if lengths else "")
            with Mounted(s.path("small"), "size=256k") as disk:
                s.conf(cache__directory=s.path("small", "cache"))
                run = s.run("--download", PACKAGE, "--json")
                same(run.status, 30, "lengths %s: %s" % (lengths, run.err[-500:]))
                bench.sound_output(run)
                same(glob.glob(s.path("small", "cache", "content", "*")), [])
                run = s.run("--cache", "list", "--json")
                same(run.status, 0, run.err)
                same(s.run("--cache", "verify").status, 0, "verify")
                disk.remount("size=4m")
                run = s.run("--download", PACKAGE, "--json")
                same(run.status, 0, "with room: %s" % run.err[-500:])
                same(harness.contents.folder_hash(run.json["path"]), s.content.hash)


@check
def inodes_used_up():
    with Case(settings={"cache.min_free": "0"},
              files={"d%d/f%02d" % (n, n): 10 for n in range(40)}) as s:
        s.sources(s.faulty())
        with Mounted(s.path("small"), "size=8m,nr_inodes=24") as disk:
            s.conf(cache__directory=s.path("small", "cache"))
            run = s.run("--download", PACKAGE, "--json")
            same(run.status, 30, run.err[-500:])
            disk.remount("size=8m,nr_inodes=4000")
            run = s.run("--download", PACKAGE, "--json")
            same(run.status, 0, run.err[-500:])


@check
def state_and_log_on_a_full_disk():
    """The log is a warning, never an error; without state a content can be had or the
    reason is 30 or 31."""
    with Case() as s:
        s.sources(s.faulty())
        for key in ("log", "state"):
            with Mounted(s.path("small"), "size=64k"):
                with open(s.path("small", "fill"), "wb") as stream:
                    try:
                        stream.write(bytes(1 << 20))
                    except OSError:
                        pass
                s.conf(**{key + "__directory": s.path("small", key)})
                run = s.run("--download", PACKAGE, "--json")
                expect(run.status == 0 or (key == "state" and run.status in (30, 31)),
                       key, run.status, run.err[-400:])
                bench.sound_output(run)
                s.forget_all()


def limited(s, *words, limits=(), umask=None):
    """--download under resource limits."""
    def prepare():
        for what, value in limits:
            resource.setrlimit(what, (value, value))
        if umask is not None:
            os.umask(umask)
    done = subprocess.run([harness.agentconf.AGENT, "--download", PACKAGE, "--json",
                           "--config", s.lab.conf, *words], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, preexec_fn=prepare)
    text = done.stdout.decode()
    run = harness.agentconf.Run(done.returncode, text,
                                done.stderr.decode("utf-8", "replace"),
                                json.loads(text) if text else None)
    expect(run.status >= 0, "ended by a signal", run.status)
    return run


@check
def few_descriptors():
    """RLIMIT_NOFILE: it works, or it says that it does not (R8)."""
    with Case(files={"f%d.bin" % n: 30000 for n in range(20)}) as s:
        s.sources(s.faulty())
        worked = []
        for limit in (3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 256):
            run = limited(s, limits=[(resource.RLIMIT_NOFILE, limit)])
            expect(run.status == 0 or run.err.strip() or run.json, limit, "no word")
            if run.status == 0:
                worked.append(limit)
                s.expect_published()
            else:
                s.expect_nothing()
            s.forget_all()
        expect(64 in worked and 256 in worked, "worked with", worked)
        same(limited(s).status, 0, "after all that")


@check
def file_size_limit():
    """RLIMIT_FSIZE is an error of writing, not a death by SIGXFSZ."""
    with Case(files={"big.bin": 12 << 20}) as s:     # more than the ring of the two
        s.sources(s.faulty())
        run = limited(s, limits=[(resource.RLIMIT_FSIZE, 8 << 20)])
        expect(run.status in (30, 31), run.status, run.err[-400:])
        s.expect_nothing()
        same(limited(s).status, 0, "without the limit")


@check
def modes_whatever_the_umask():
    """0644 and 0755 in the cache; nothing that others may write to anywhere (F8)."""
    for umask in (0, 0o022, 0o077, 0o777):
        with Case() as s:
            for name in ("cache", "state", "log"):
                os.rmdir(s.path(name))
            s.sources(s.faulty())
            run = limited(s, umask=umask)
            same(run.status, 0, "umask %o: %s" % (umask, run.err[-500:]))
            for base, folders, files in os.walk(s.published()):
                same(stat.S_IMODE(os.stat(base).st_mode), 0o755, base)
                for name in files:
                    mode = stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode)
                    same(mode, 0o644, "umask %o, %s" % (umask, name))
            for top in ("cache", "state", "log"):
                for base, folders, files in os.walk(s.path(top)):
                    for name in folders + files:
                        mode = stat.S_IMODE(os.lstat(os.path.join(base, name)).st_mode)
                        expect(not mode & 0o022, "umask %o" % umask, name, oct(mode))
            same(stat.S_IMODE(os.stat(s.path("state", "state.db")).st_mode), 0o600)
            same(limited(s, umask=umask).json["result"], "cached", "again")


@check
def standard_descriptors_closed():
    """0, 1 and 2 closed: no file of ours gets their numbers and their output (K6)."""
    with Case() as s:
        s.sources(s.faulty())
        for which in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
            def close(which=which):
                for fd in which:
                    os.close(fd)
            process = subprocess.Popen(
                [harness.agentconf.AGENT, "--download", PACKAGE, "--config",
                 s.lab.conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, preexec_fn=close)
            expect(process.wait(60) >= 0, which, "a signal")
            if process.returncode == 0:
                s.expect_published()
            for path in glob.glob(s.path("log", "*")):
                with open(path, "rb") as stream:
                    expect(b"agent: " not in stream.read()[:50], "output in " + path)
            s.forget_all()


if __name__ == "__main__":
    sys.exit(bench.main(6))
