"""What the tests against hostile peers share: a site for one case, and what must be
so after every run of the agent, whatever the peer did.
"""

import glob
import hashlib
import os
import re
import shutil
import sys
import time

import harness
from harness import Small, expect, replies, same

import fault                                                        # noqa: E402

FILES = {"big.bin": 300000, "small.txt": 1000, "sub/empty.dat": 0}
QUICK = {"transfer.connect_timeout": "2s", "transfer.stall_timeout": "2s",
         "transfer.attempts": "1"}
BOUND = 20          # seconds for one run; a stall costs 2, the machine may be busy
SOURCE_ERRORS = (20, 21, 22, 23)

LOG_LINE = re.compile(
    r'<!\[LOG\[.*\]LOG\]!><time="[^"]*" date="[^"]*" component="[^"]*" '
    r'context="[^"]*" type="[0-3]" thread="\d+" file="[^"]*">\Z', re.S)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


# -- what must be so after every run -------------------------------------------------

def tree(folder, leave_out=()):
    """{relative path: what there is}; symlinks are not followed."""
    found = {}
    for base, folders, names in os.walk(folder):
        inside = os.path.relpath(base, folder)
        folders[:] = [n for n in folders
                      if os.path.normpath(os.path.join(inside, n)) not in leave_out]
        for name in folders + names:
            path = os.path.join(base, name)
            about = os.lstat(path)
            body = b""
            if not os.path.isdir(path) and not os.path.islink(path):
                with open(path, "rb") as stream:
                    body = stream.read()
            found[os.path.relpath(path, folder)] = (
                about.st_mode, hashlib.sha256(body).hexdigest())
    return found


def sound_output(run):
    """Nothing raw for the terminal, and a status that the words agree with."""
    found = CONTROL.search(run.err)
    expect(not found, "control character in stderr:", repr(run.err[-2000:]))
    if run.json is not None:
        error = run.json["error"]
        same(error["exit"] if error else 0, run.status, "exit in JSON")
        expect(not error or error["text"], "an error without a text")
    expect(run.status == 0 or run.err.strip(), "no message on stderr")


def sound_logs(folder):
    for path in glob.glob(os.path.join(folder, "*.lo*")):
        with open(path, "rb") as stream:
            text = stream.read().decode("utf-8")
        for line in text.splitlines():
            # one event is one line but for the last of a file that turned over
            expect(LOG_LINE.match(line), os.path.basename(path), "line", repr(line[:300]))
            expect(not CONTROL.search(line), "control character in", path, repr(line))


OURS = ("cache", "state", "log")


class Case(Small):
    """A site for one fault; outside of cache, state and log nothing may change."""

    def __init__(self, **how):
        settings = {**QUICK, **how.pop("settings", {})}
        how.setdefault("files", FILES)
        super().__init__(settings=settings, **how)
        self.policy()
        self.lab.path("canary")

    def faulty(self, script=None, tls=None, **how):
        return self.lab.fault(script=script, tls=tls, **how)

    def url(self, part, tls=None):
        if tls:
            return "https://dp01.example.net:%d/SMS_DP_SMSPKG$/%s" % (
                part.port, harness.PACKAGE)
        return self.share(part)

    def sources(self, bad, good=None, tls=None):
        """The bad one comes first: its locality is nearer."""
        records = [replies.record(self.url(bad, tls), locality="SUBNET")]
        if good:
            records.append(replies.record(self.url(good), locality="SITE"))
        self.locate(*records)

    def go(self, *args, bound=BOUND, **how):
        outside = tree(self.lab.folder, self.apart())
        began = time.monotonic()
        run = self.run("--download", harness.PACKAGE, "--json", *args,
                       timeout=bound + 30, **how)
        took = time.monotonic() - began
        expect(run.status >= 0 and run.json is not None, "status", run.status,
               run.out[:300], run.err[-1500:])
        expect(took < bound, "took %.1f s" % took, run.err[-800:])
        sound_output(run)
        sound_logs(self.path("log"))
        same(tree(self.lab.folder, self.apart()), outside, "outside of the cache")
        if run.status == 0:
            self.expect_published()
            same(run.json["hash"], self.content.hash, "hash")
        else:
            self.expect_nothing()
            expect(not glob.glob(self.path("cache", "listing", "*")), "a listing")
        return run

    @staticmethod
    def apart():
        # replies/ and logs of the stand-in are its own affair
        return OURS + ("mp", "mp2", "cloud", "nsd")

    def cut(self, bad, where=100000):
        """A first run that ends in the midst of big.bin; what it had is kept."""
        bad.server.set(fault.Rule("early-close", path="*big.bin*", at=where))
        run = self.go()
        same(run.status, 22, "the cut run")
        kept = os.path.getsize(os.path.join(self.partial(), "big.bin"))
        expect(0 < kept <= where, "kept", kept)
        return kept

    def forget_all(self):
        for name in ("content", "listing", "partial"):
            path = self.path("cache", name)
            for item in os.listdir(path) if os.path.isdir(path) else ():
                full = os.path.join(path, item)
                (shutil.rmtree if os.path.isdir(full) else os.unlink)(full)


def main(jobs=8):
    """harness.main() with more at a time: most of these checks wait."""
    if "--jobs" not in sys.argv:
        sys.argv += ["--jobs", str(jobs)]
    return harness.main()
