"""Links between a client and the site: plain, delayed or capped by a proxy, or of a
limited rate by the kernel."""

import os
import subprocess
import time

import measure

OURS, THEIRS = "10.73.0.1", "10.73.0.2"
INTERFACE = "bench0"


class Missing(Exception):
    """This machine cannot make such a link; the text says why."""


class Plain:
    """Loopback as it is."""
    address = "127.0.0.1"
    prefix = ()

    def start(self, folder, build):
        pass

    def between(self, lab, part):
        """The port at which clients find this part."""
        return part.port

    def bytes(self):
        """What has been on the wire up to now; only differences count."""
        return measure.received_bytes("lo")

    def stop(self):
        pass


class Proxied(Plain):
    """tests/bench/slowlink.c before each server: delay, caps. Bytes are those of TLS,
    without the headers of TCP/IP."""

    def __init__(self, rtt_ms=0, each=0, total=0):
        self.argv = ["--delay", str(rtt_ms / 2), "--each", str(each), "--all",
                     str(total)]

    def start(self, folder, build):
        self.folder, self.program = folder, os.path.join(build, "slowlink")
        self.logs, self.sums = [], 0

    def between(self, lab, part):
        log = os.path.join(self.folder, "link%d.log" % len(self.logs))
        open(log, "w").close()
        proxy = lab.parts.start_ready(
            "slowlink", [self.program, "--connect", str(part), "--log", log,
                         *self.argv], log + ".stderr")
        self.logs.append(log)
        return proxy.port

    def events(self, log):
        """[(seconds, event, connection, bytes up, bytes down), ...]"""
        with open(log) as stream:
            lines = [line.split() for line in stream if line.endswith("\n")]
        return [(float(a), b, int(c), int(d), int(e)) for a, b, c, d, e in lines]

    def bytes(self):
        # a client has ended, the ends of its connections are still on their way
        end = time.monotonic() + 5
        for log in self.logs:
            while True:
                events = self.events(log)
                kinds = [e[1] for e in events]
                if kinds.count("open") == kinds.count("close") \
                        or time.monotonic() > end:
                    break
                time.sleep(0.02)
            self.sums += sum(e[3] + e[4] for e in events if e[1] == "close")
            os.truncate(log, 0)
        return self.sums


class Shaped(Plain):
    """A pair of interfaces, the client's in a network namespace of its own, and tbf on
    ours. All of it goes when the process that holds that namespace ends."""
    address = OURS

    def __init__(self, rate):
        self.rate = rate

    def start(self, folder, build):
        if "BENCH_ISOLATED" not in os.environ:
            raise Missing("no network namespace of its own (needs root)")
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c",
             "ip link set lo up; echo ready; exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        try:
            if self.holder.stdout.readline() != b"ready\n":
                raise Missing("cannot make a network namespace")
            pid = str(self.holder.pid)
            self.prefix = ("nsenter", "--net=/proc/%s/ns/net" % pid)
            self.do("ip", "link", "add", INTERFACE, "type", "veth", "peer", "name",
                    "bench1", "netns", pid)
            self.do("ip", "address", "add", OURS + "/24", "dev", INTERFACE)
            self.do("ip", "link", "set", INTERFACE, "up")
            self.do(*self.prefix, "ip", "address", "add", THEIRS + "/24", "dev",
                    "bench1")
            self.do(*self.prefix, "ip", "link", "set", "bench1", "up")
            self.do("tc", "qdisc", "add", "dev", INTERFACE, "root", "tbf", "rate",
                    self.rate, "burst", "256kb", "latency", "50ms")
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def do(*argv):
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True)
        except OSError as error:
            raise Missing(str(error)) from None
        if done.returncode:
            raise Missing("%s: %s" % (" ".join(argv), done.stderr.strip()))

    def bytes(self):
        return measure.received_bytes(INTERFACE) + measure.sent_bytes(INTERFACE)

    def stop(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
        # gone with the namespace, but not at once
        subprocess.run(["ip", "link", "delete", INTERFACE], capture_output=True)
