#!/usr/bin/env python3
"""What a download takes of the link and of the machine: rate limits as the server sees
them, by source and by the hour, and what the service does in the background.

A rate is measured at the server: bytes that the client's kernel has acknowledged, so
what its buffers take in advance counts. It may never be above 105 per cent of the
limit. It must not be below 95 either, but that is asked only where the machine was not
what held it up: the sampling thread, which only sleeps, has to wake up in time.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403
from harness import main                                            # noqa: E402
import harness                                                      # noqa: E402
from service import Service, faketime_library, rfc3339              # noqa: E402

import httpd                                                        # noqa: E402
import iis                                                          # noqa: E402

SPAN = 10.0         # seconds that a rate is measured over
SETTLE = 1.0        # after the first bytes
STEP = 0.05


class Metered(iis.IisServer):
    """Knows how much of what it sent has arrived."""

    def __init__(self, *args, **how):
        self.done = 0
        self.sockets = {}
        self.count = threading.Lock()
        super().__init__(*args, **how)

    def send(self, connection, request, answer):
        connection.send(iis.head(answer))
        if request.method == "HEAD":
            return True
        for piece in answer.pieces(8192 if answer.path else 1 << 18):
            connection.send(piece)
            if answer.path:
                with self.count:
                    self.done += len(piece)
                    self.sockets[connection.serial] = connection.sock
        return True

    def arrived(self):
        """Body bytes acknowledged (and a few of TLS and heads)."""
        with self.count:
            waiting = 0
            for raw in self.sockets.values():
                with contextlib.suppress(OSError, ValueError):
                    waiting += struct.unpack("i", fcntl.ioctl(
                        raw.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
            return self.done - waiting


class Sampled:
    """Bytes that arrive, over time."""

    def __init__(self, *servers):
        self.servers, self.points, self.late = servers, [], 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.is_set():
            now = time.monotonic()
            self.points.append((now, sum(s.arrived() for s in self.servers)))
            time.sleep(STEP)
            self.late = max(self.late, time.monotonic() - now - STEP)

    def stop(self):
        self.stopping.set()
        self.thread.join()

    def until(self, good, seconds=60):
        end = time.monotonic() + seconds
        while not good(self.points):
            expect(time.monotonic() < end, "it does not come to that:",
                   self.points[-3:])
            time.sleep(STEP)

    def begun(self):
        """When the first bytes had come."""
        self.until(lambda points: points and points[-1][1] > 0)
        return next(at for at, bytes_done in self.points if bytes_done > 0)

    def rate(self, first, last):
        """Bytes a second between two moments; waits for the second."""
        self.until(lambda points: points[-1][0] >= last)
        inside = [p for p in self.points if first <= p[0] <= last]
        (t0, b0), (t1, b1) = inside[0], inside[-1]
        return (b1 - b0) / (t1 - t0)

    def judge(self, rate, limit, what=""):
        expect(rate <= limit * 1.05, what, "%d B/s at a limit of %d" % (rate, limit))
        if self.late < 0.25:
            expect(rate >= limit * 0.95, what,
                   "only %d B/s at a limit of %d" % (rate, limit))


@contextlib.contextmanager
def under_way(files, names=False, env=None, **settings):
    """(site, what is sampled, the agent) of a download that is stopped in the end."""
    with Small(files=files) as s:
        tls = None
        if names:
            s.names()
            tls = s.lab.ca.server(labs.HOSTS[2])
        part = s.lab.parts.adopt("metered", Metered(s.path("content"), tls=tls))
        s.locate(s.share(part, "https" if tls else "http",
                         "dp02.example.net" if tls else "127.0.0.1"))
        s.policy()
        s.conf(**settings)
        sampled = Sampled(part.server)
        with Running(s, env=env) as agent:
            yield s, sampled, agent
            agent.signal(signal.SIGTERM)
            agent.finish()
        sampled.stop()


def holds(limit, size=None, **how):
    files = how.pop("files", {"big.bin": size or int(limit * (SPAN + 4))})
    with under_way(files, transfer__rate_limit=str(limit), **how) as (_, sampled, agent):
        begun = sampled.begun()
        early = sampled.rate(begun, begun + SPAN)
        rate = sampled.rate(begun + SETTLE, begun + SETTLE + SPAN)
        expect(agent.process.poll() is None, "it ended early")
        sampled.judge(rate, limit, "limit %d:" % limit)
        # from the very first byte on, when buffers fill
        expect(early <= limit * 1.05 + 8192, "first seconds: %d" % early)


# -- rates ---------------------------------------------------------------------------

@check
def eight_thousand_bytes_a_second():
    """And no stall is seen in it, with a time for silence shorter than the pauses."""
    holds(8000, transfer__stall_timeout="2s")


@check
def eight_thousand_bytes_a_second_over_tls():
    holds(8000, names=True)


@check
def sixty_four_kilobytes_a_second():
    holds(64 << 10)


@check
def two_megabytes_a_second():
    holds(2 << 20)


@check
def two_megabytes_a_second_over_tls():
    holds(2 << 20, names=True)


@check
def several_files_share_one_limit():
    holds(256 << 10, files={"f%d.bin" % n: 600 << 10 for n in range(8)})


@check
def many_small_files_share_one_limit():
    holds(64 << 10, files={"f%03d.bin" % n: 8 << 10 for n in range(130)})


# -- by source and by the hour ----------------------------------------------------------

@check
def a_limit_for_the_cloud_leaves_distribution_points_alone():
    """At 8000 bytes a second it would take two minutes."""
    with Small(files={"big.bin": 1 << 20},
               settings={"transfer.rate_limit_cloud": "8000"}) as s:
        s.locate(s.share(s.lab.dp_nginx()))
        s.policy()
        run = s.download()
        expect(run.json["duration_ms"] < 60000, run.json["duration_ms"])


@check
def a_limit_for_the_cloud_holds_there():
    """400 KiB at 64 KiB a second, from cloud storage."""
    with Site(files={"big.bin": 400 << 10}) as s:
        s.without("dp01", "dp02")
        s.conf(transfer__rate_limit_cloud="64k", transfer__rate_limit_on_prem="1")
        run = s.download()
        same(run.json["source"]["kind"], "cloud")
        expect(run.json["duration_ms"] >= 5000, run.json["duration_ms"])


@check
def the_rate_changes_with_the_hour():
    """12:59:54 by the client's clock when it starts: 400 kB/s, then 100 kB/s."""
    env = {"TZ": "UTC", "LD_PRELOAD": faketime_library(),
           "FAKETIME": "@2026-11-25 12:59:54"}
    with under_way({"big.bin": 4 << 20}, env=env, transfer__rate_limit="400000",
                   transfer__rate_schedule="13:00-14:00 100000") as (_, sampled, _a):
        begun = sampled.begun()
        before = sampled.rate(begun + 1, begun + 4)
        after = sampled.rate(begun + 9, begun + 15)
        expect(before <= 400000 * 1.05, "before: %d" % before)
        expect(after <= 100000 * 1.05, "after: %d" % after)
        if sampled.late < 0.25:
            expect(before >= 400000 * 0.9, "before: %d" % before)
            expect(after >= 100000 * 0.9, "after: %d" % after)


@check
def mistakes_in_a_schedule_are_named():
    with Small(settings={"transfer.rate_schedule": ["13:00-14:00 1M", "13:00 1M"]}) as s:
        run = s.run("--check-config")
        same(run.status, 3)
        expect("[transfer] rate_schedule = 13:00 1M: must be a window and a rate"
               in run.out + run.err, run.out, run.err)
        s.conf(transfer__rate_schedule=["13:00-14:00 1M cloud"],
               transfer__background="yes")
        run = s.run("--check-config")
        expect("transfer.rate_schedule = 13:00-14:00 1M cloud    ; " in run.out, run.out)
        expect("transfer.background = yes    ; " in run.out, run.out)


# -- priority ---------------------------------------------------------------------------

IDLE, OTHER = 5, 0      # scheduling policies, sched(7)
IO_IDLE = 3             # class, ioprio_set(2)
SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}


def policy_of(pid):
    with open("/proc/%d/stat" % pid) as stream:
        return int(stream.read().rpartition(")")[2].split()[38])


def io_class_of(pid):
    number = SYS_IOPRIO_GET.get(os.uname().machine)
    if number is None:
        skip("ioprio_get has another number here")
    return ctypes.CDLL(None).syscall(number, 1, pid) >> 13


def slow_service(**how):
    """A service that is at work for long, on what **how deploys."""
    s = Small(files={"big.bin": 8 << 20},
              settings={"transfer.rate_limit": "400k"})
    try:
        s.locate(s.share(s.lab.dp_nginx()))
        s.policy(**how)
        s.conf()
        return s
    except BaseException:
        s.lab.stop()
        raise


def at_work(service):
    """(job, network process) when a transfer is under way."""
    def good(status):
        return any(j["progress"] and j["progress"]["bytes_done"] > 100000
                   for j in status["jobs"])
    service.until(good, "a transfer")
    job = below(service.pid)[0]
    return job, below(job)[0]


def below(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as stream:
        return [int(word) for word in stream.read().split()]


@check
def the_service_works_with_idle_priority():
    with slow_service() as s, Service(s) as service:
        job, net = at_work(service)
        same((policy_of(service.pid), policy_of(job), policy_of(net)),
             (OTHER, IDLE, IDLE), "CPU: service, job, network process")
        same((io_class_of(job), io_class_of(net)), (IO_IDLE, IO_IDLE), "I/O")


@check
def past_its_deadline_it_does_not():
    with slow_service(deadline="2020-02-01T00:00:00Z") as s, Service(s) as service:
        job, net = at_work(service)
        same((policy_of(job), policy_of(net)), (OTHER, OTHER))


@check
def at_its_deadline_it_goes_on_in_the_foreground():
    with slow_service(deadline=rfc3339(time.time() + 9)) as s, Service(s) as service:
        job, _ = at_work(service)
        same(policy_of(job), IDLE)
        end = time.monotonic() + 60
        while True:
            expect(time.monotonic() < end, "it stays in the background")
            with contextlib.suppress(OSError, IndexError):
                other = below(service.pid)[0]
                if other != job and policy_of(other) == OTHER:
                    break
            time.sleep(0.1)
        service.until_state(NAME, "here")
        transfers = service.ask("--history", "--json").json["transfers"]
        expect(transfers[0]["bytes_resumed"] > 0, "begun anew:", transfers[0])


@check
def by_hand_it_does_not_but_where_settings_say_so():
    for words, want in (([], OTHER), (["--set", "transfer.background=yes"], IDLE),
                        (["--set", "transfer.background=no"], OTHER)):
        with slow_service() as s, Running(s, *words) as agent:
            agent.until_bytes(100000)
            same((policy_of(agent.pid), policy_of(agent.children()[0])),
                 (want, want), words)
            agent.signal(signal.SIGTERM)
            agent.finish()


@check
def a_server_that_limits_itself_is_no_queue():
    """It waits before it sends, which looks like one: the way itself is asked."""
    with Small(files={"a.bin": 8 << 20}) as s:
        part = s.lab.dp_nginx(rate="1m")
        s.locate(s.share(part))
        s.policy()
        run = s.download("--set", "transfer.background=yes", timeout=120)
        # 8 s at the server's rate; taken for a queue it would be several minutes
        expect(run.json["duration_ms"] < 40000, run.json["duration_ms"])


@check
def in_the_background_two_connections_are_enough():
    with Small(files={"f%02d.bin" % n: 100 << 10 for n in range(24)}) as s:
        dp = s.lab.dp_nginx()
        s.locate(s.share(dp))
        s.policy()
        s.download("--set", "transfer.background=yes")
        s.expect_published()
        used = {r["connection"] for r in gets(web.access_log(dp))}
        expect(len(used) <= 2, "connections:", len(used))


# -- beside other traffic --------------------------------------------------------------

INSIDE = {}         # name: a check that has a network of its own


def beside(function):
    """A check in a network name space of its own, where this process is let have one:
    it is run by another interpreter, which says how it ended."""
    INSIDE[function.__name__] = function

    def outside():
        if os.geteuid() != 0:
            skip("a network of its own needs root")
        for name in ("unshare", "nsenter", "ip", "tc"):
            if not shutil.which(name):
                skip("%s is not installed" % name)
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-B", os.path.abspath(__file__),
             "--agent", agentconf.AGENT, "--inside", function.__name__],
            capture_output=True, text=True, timeout=300)
        try:
            kind, why = json.loads(done.stdout.strip().split("\n")[-1])
        except ValueError:
            skip("no network name space here: " + done.stderr.strip()[-300:])
        if kind == "SKIPPED":
            skip(why)
        expect(kind == "ok", why)
    outside.__name__ = function.__name__
    outside.__doc__ = function.__doc__
    check(outside)
    return function


def inside(name, agent):
    """Within: run it and say so on the last line."""
    harness._shared["built"] = agentconf.AGENT = agent
    kind, why, _ = harness._run(INSIDE[name])
    shutil.rmtree(harness._shared.get("folder", "/nonexistent"), ignore_errors=True)
    print(json.dumps([kind, why]))


HERE_ADDRESS, THERE_ADDRESS = "10.99.0.2", "10.99.0.1"


class Link:
    """Two hosts and a bridge with a bottleneck in between: this process is on one
    side, what there() makes on the other. (A queue on the sender's own host would be
    short for another reason: its kernel sees it.)"""

    def __init__(self, rate, queue_ms):
        self.hosts = []
        self.middle, self.far = self.host(), self.host()
        self.path = "/proc/%d/ns/net" % self.far
        self.command("ip", "link", "set", "lo", "up")
        self.command("ip", "link", "add", "here", "type", "veth", "peer", "name",
                     "near", "netns", str(self.middle))
        self.at(self.middle, "ip", "link", "add", "off", "type", "veth", "peer",
                "name", "there", "netns", str(self.far))
        self.at(self.middle, "ip", "link", "add", "bridge", "type", "bridge")
        for name in ("near", "off"):
            self.at(self.middle, "ip", "link", "set", name, "master", "bridge", "up")
        self.at(self.middle, "ip", "link", "set", "bridge", "up")
        self.command("ip", "addr", "add", HERE_ADDRESS + "/24", "dev", "here")
        self.command("ip", "link", "set", "here", "up")
        self.at(self.far, "ip", "addr", "add", THERE_ADDRESS + "/24", "dev", "there")
        self.at(self.far, "ip", "link", "set", "there", "up")
        self.at(self.middle, "tc", "qdisc", "add", "dev", "near", "root", "tbf",
                "rate", "%dbit" % (rate * 8), "burst", "16kb", "latency",
                "%dms" % queue_ms)

    def host(self):
        process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        self.hosts.append(process)
        end = time.monotonic() + 20
        own = os.stat("/proc/self/ns/net").st_ino
        while os.stat("/proc/%d/ns/net" % process.pid).st_ino == own:
            expect(time.monotonic() < end, "no second network")
            time.sleep(0.02)
        return process.pid

    def command(self, *argv):
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            skip("%s: %s" % (" ".join(argv), done.stderr.strip()))

    def at(self, host, *argv):
        self.command("nsenter", "-t", str(host), "-n", *argv)

    def there(self, make):
        """What make() returns, with sockets of the other side."""
        found = []

        def run():
            libc = ctypes.CDLL(None, use_errno=True)
            with open(self.path) as ns:
                if libc.setns(ns.fileno(), 0x40000000) != 0:    # CLONE_NEWNET
                    return
            found.append(make())
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if not found:
            skip("no socket on the other side")
        return found[0]

    def server(self, make, control):
        """A server on the other side that sends by that congestion control."""
        made = self.there(make)
        try:
            made.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION,
                                     control.encode())
        except OSError as error:
            skip("no %s here: %s" % (control, error))
        return made

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.hosts:
            process.kill()
            process.wait()


class Flood(httpd.Server):
    """Sends as much as anybody takes."""

    def respond(self, connection, request):
        block = bytes(1 << 16)
        while True:
            connection.send(block)


class Foreground:
    """Other traffic: one connection that takes all it can get."""

    def __init__(self, port):
        self.sock = socket.create_connection((THERE_ADDRESS, port), timeout=30)
        self.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.bytes = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with contextlib.suppress(OSError):
            while more := self.sock.recv(1 << 16):
                self.bytes += len(more)

    def rate(self, seconds):
        began, before = time.monotonic(), self.bytes
        time.sleep(seconds)
        return (self.bytes - before) / (time.monotonic() - began)

    def stop(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.sock.close()


def shares(rate, queue_ms, control):
    """Of the link: (they alone, we alone, they beside us, we beside them, we again)."""
    with Link(rate, queue_ms) as link:
        flood = link.server(lambda: Flood(address=THERE_ADDRESS), control)
        theirs = Foreground(flood.port)
        time.sleep(2)
        alone = theirs.rate(4)
        theirs.stop()
        with Small(files={"big.bin": int(rate * 50)}) as s:
            dp = link.server(lambda: Metered(s.path("content"),
                                             address=THERE_ADDRESS), control)
            s.lab.parts.adopt("metered", dp)
            s.locate("http://%s:%d/SMS_DP_SMSPKG$/%s" % (THERE_ADDRESS, dp.port,
                                                         PACKAGE))
            s.policy()
            s.conf(transfer__background="yes")
            sampled = Sampled(dp)
            with Running(s) as agent:
                begun = sampled.begun()
                we_alone = sampled.rate(begun + 5, begun + 11)
                theirs = Foreground(flood.port)
                time.sleep(5)
                now = time.monotonic()
                they_beside = theirs.rate(8)
                we_beside = sampled.rate(now, now + 8)
                theirs.stop()
                now = time.monotonic()
                again = sampled.rate(now + 9, now + 13)
                agent.signal(signal.SIGTERM)
                agent.finish()
            sampled.stop()
    return alone, we_alone, they_beside, we_beside, again, sampled.late


def yields(rate, queue_ms, control="cubic"):
    """What others keep is always asked for; what we get, where the machine let us."""
    alone, we_alone, they_beside, we_beside, again, late = shares(rate, queue_ms,
                                                                  control)
    told = "they alone %d, we alone %d, beside: they %d, we %d; we again %d" % (
        alone, we_alone, they_beside, we_beside, again)
    expect(alone > rate * 0.6, "this link is not what it should be:", told)
    expect(they_beside >= alone * 0.85, told)
    expect(we_beside > 0, "it does not go on:", told)
    if late < 0.25:
        expect(we_alone >= alone * 0.8, told)
        expect(again >= alone * 0.5, told)


@beside
def in_the_background_a_slow_link_is_left_to_others():
    yields(1250000, 200)


if __name__ == "__main__":
    if "--inside" in sys.argv:
        sys.exit(inside(sys.argv[sys.argv.index("--inside") + 1],
                        sys.argv[sys.argv.index("--agent") + 1]))
    sys.exit(main())
