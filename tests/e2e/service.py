"""The service in the end-to-end tests: a daemon under way, and its clock.

A Service is `agent --daemon` of a site, ready when it has told so to a socket as
systemd's. With fake=True its clock (and that of `--status`) is real time plus an
offset that the test moves: jump(seconds). The network role has an empty environment,
and so always the real time: certificates stay valid.
"""

import atexit
import contextlib
import datetime
import glob
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

import agentconf
from harness import expect, is_alive, is_sanitized, skip, wants

PATIENCE = 60      # seconds of real time for anything that must happen


def faketime_library():
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        skip("libfaketime is not installed")
    if is_sanitized():
        skip("libfaketime and the sanitizers exclude each other")
    atexit.register(sweep_faketime)
    return found[0]


def sweep_faketime():
    """What libfaketime leaves in shared memory when its process is killed."""
    for path in glob.glob("/dev/shm/*faketime_s*_*"):
        pid = path.rpartition("_")[2]
        if not os.path.exists("/proc/" + pid):
            with contextlib.suppress(OSError):
                os.unlink(path)


def moment(text):
    """RFC 3339 UTC to epoch seconds; None stays."""
    return text and datetime.datetime.fromisoformat(
        text.replace("Z", "+00:00")).timestamp()


def rfc3339(at):
    return datetime.datetime.fromtimestamp(
        int(at), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Service:
    def __init__(self, site, *args, fake=False, env=None, start=True):
        self.site, self.args, self.process = site, args, None
        self.folder = tempfile.mkdtemp(prefix="service.", dir=site.lab.folder)
        self.env = dict(env or {})
        self.offset = 0
        if fake:
            self.clock = os.path.join(self.folder, "clock")
            self._write_clock()
            self.env.update(LD_PRELOAD=faketime_library(), FAKETIME_NO_CACHE="1",
                            FAKETIME_TIMESTAMP_FILE=self.clock)
        if start:
            self.start()

    # -- life ----------------------------------------------------------------------

    def start(self):
        path = os.path.join(self.folder, "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.told = []
        self.err = open(os.path.join(self.folder, "stderr"), "ab")
        argv = [agentconf.AGENT, "--daemon", *self.args, "--config",
                self.site.lab.conf]
        clean = {k: v for k, v in os.environ.items()
                 if not k.lower().endswith("_proxy")}
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self.err, stderr=self.err,
            env={**clean, **self.env, "NOTIFY_SOCKET": path})
        self.until_told("READY=1")
        return self

    def until_told(self, word, seconds=PATIENCE):
        """Wait until the daemon has told this to systemd."""
        end = time.monotonic() + seconds
        while True:
            if any(word in line for line in self.told):
                self.told = []
                return
            left = end - time.monotonic()
            expect(left > 0, "the daemon does not say", word, self.errors())
            expect(self.process.poll() is None, "the daemon ended with",
                   self.process.poll(), self.errors())
            if select.select([self.notify], [], [], min(left, 0.2))[0]:
                self.told += self.notify.recv(4096).decode().split("\n")

    def errors(self):
        with open(os.path.join(self.folder, "stderr"), errors="replace") as stream:
            return stream.read()[-3000:]

    @property
    def pid(self):
        return self.process.pid

    def children(self):
        """All processes below the daemon."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            with contextlib.suppress(OSError):
                with open("/proc/%d/task/%d/children" % (pid, pid)) as stream:
                    more = [int(word) for word in stream.read().split()]
                found += more
                todo += more
        return found

    def stop(self, number=signal.SIGTERM, within=2.0):
        """End it; the exit status. Nothing of it may be left."""
        if self.process is None:
            return None
        below = self.children()
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(timeout=PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.notify.close()
            self.err.close()
        took = time.monotonic() - began
        self.process = None
        if number == signal.SIGTERM:
            expect(took < within, "SIGTERM took %.2f s" % took)
        end = time.monotonic() + PATIENCE
        while any(is_alive(pid) for pid in below):
            expect(time.monotonic() < end, "left behind:", below)
            time.sleep(0.01)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process = None
            self.notify.close()
            self.err.close()

    # -- the clock -------------------------------------------------------------------

    def _write_clock(self):
        with open(self.clock + ".new", "w") as stream:
            stream.write("%+d\n" % self.offset)
        os.replace(self.clock + ".new", self.clock)

    def now(self):
        return time.time() + self.offset

    def jump(self, seconds):
        """Move the clock, and wake the daemon: a timer of the kernel does not know."""
        self.offset += int(seconds)
        self._write_clock()
        if self.process is not None:
            self.status()

    # -- asking ----------------------------------------------------------------------

    def ask(self, *args, status=0):
        run = self.site.run(*args, env=self.env)
        return wants(run, status)

    def status(self, content=None):
        return self.ask("--status", *([content] if content else []), "--json").json

    def job(self, name):
        """The job of --status with that ID.VERSION; None."""
        for job in self.status()["jobs"]:
            if "%s.%s" % (job["content"], job["version"]) == name:
                return job
        return None

    def until(self, good, what="it to happen", seconds=PATIENCE):
        """Ask --status until good(status) is true; what it gave."""
        end = time.monotonic() + seconds
        while True:
            status = self.status()
            found = good(status)
            if found:
                return found
            expect(time.monotonic() < end, "waited too long for", what,
                   json.dumps(status)[:3000], self.errors()[-1500:])
            expect(self.process.poll() is None, "the daemon ended", self.errors())
            time.sleep(0.05)

    def until_state(self, name, *states, seconds=PATIENCE):
        def good(status):
            for job in status["jobs"]:
                if ("%s.%s" % (job["content"], job["version"]) == name
                        and job["state"] in states):
                    return job
            return None
        return self.until(good, "%s to be %s" % (name, "/".join(states)), seconds)

    def is_idle(self, status):
        return (not status["service"]["polling"]
                and not any(j["progress"] or j["state"] in ("running", "due now")
                            for j in status["jobs"]))

    def until_idle(self, seconds=PATIENCE):
        def good(status):
            return status if self.is_idle(status) else None
        return self.until(good, "the service to be idle", seconds)

    # -- what it costs -----------------------------------------------------------------

    def memory_kib(self):
        """What it holds itself: pages of libraries come and go with who else maps
        them."""
        with open("/proc/%d/status" % self.pid) as stream:
            for line in stream:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
        raise AssertionError("no RssAnon")

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def switches(self):
        """How often the daemon went to sleep of its own will."""
        with open("/proc/%d/status" % self.pid) as stream:
            for line in stream:
                if line.startswith("voluntary_ctxt_switches:"):
                    return int(line.split()[1])
        raise AssertionError("no count of switches")

    def at_rest(self, limit_s=10):
        """That count, once it has stood still: the last question that we asked the
        daemon is over."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            before = self.switches()
            time.sleep(0.1)
            if self.switches() == before:
                return before
        raise AssertionError("the daemon does not come to rest")
