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
import os
import signal
import struct
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403
from harness import main                                            # noqa: E402
from service import Service, faketime_library, rfc3339              # noqa: E402

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


if __name__ == "__main__":
    sys.exit(main())
