"""What is measured of the agent alone, or of no client at all: the time to the first
byte of content, idle memory, the floor."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import time

import links
import measure
import origin
from origin import agentconf, labs, replies

ROUND_TRIP_MS = 30
# TCP, TLS 1.3 and the request, of each host that is asked one after the other:
# management point, distribution point (404), cloud service, storage.
ROUND_TRIPS = 4 * 3


class Lost(Exception):
    pass


class FirstByte:
    """From the start of the process to the first byte of content, where the
    distribution point has nothing and the cloud has it. Each of the four servers has
    30 ms of round trip in front; names are resolved without."""
    name = "first-byte"
    title = "time to the first byte: no distribution point has it, the cloud has"
    rounds = 5

    def measure(self, options):
        link = links.Proxied(rtt_ms=ROUND_TRIP_MS)
        link.start(options.ram, options.programs)
        with labs.Lab(os.path.join(options.ram, "site")) as lab:
            lab.is_ours = True
            argv = self.world(lab, link)
            times = [self.once(lab, link, argv)
                     for _ in range(options.rounds or self.rounds)]
        floor = ROUND_TRIPS * ROUND_TRIP_MS / 1000
        middle = statistics.median(times)
        return {"world": self.name, "title": self.title, "runs_s": times,
                "round_trips": ROUND_TRIPS, "round_trip_ms": ROUND_TRIP_MS,
                "floor_s": floor, "median_s": middle, "ratio": middle / floor}

    def world(self, lab, link):
        world = labs.World(lab, files={"setup.bin": 8 << 20})
        shutil.rmtree(lab.path("dp02", world.package))
        mp, dp, cloud, self.storage = (
            link.between(lab, part)
            for part in (world.mp, world.dp2, world.cloud, world.storage))
        self.log = link.logs[-1]
        world.locate("https://%s:%d/SMS_DP_SMSPKG$/%s" % (
            labs.HOSTS[2], dp, world.package),
            replies.cloud_url(labs.SERVICE, cloud, world.package))
        world.cloud.publish(world.package, world.manifest(
            url=lambda name: world.blob_url(name).replace(
                ":%d/" % world.storage.port, ":%d/" % self.storage)))
        lab.agent_conf(["https://%s:%d" % (labs.HOSTS[0], mp)], [world.dns],
                       {"cloud.suffix": ["cloudapp.net", "blob.core.windows.net"],
                        "client.token_file": lab.path("token"),
                        "log.directory": "", "log.level": "info"})
        return [agentconf.AGENT, "--download", world.package, "--config", lab.conf,
                "--json", "--progress", "none"]

    def once(self, lab, link, argv):
        for name in ("cache", "state"):
            origin.empty(lab.path(name))
        link.bytes()
        usage = measure.run(argv, 60)
        if usage.status != 0:
            raise Lost("status %d: %s" % (usage.status, usage.err[-400:]))
        marks = [e[0] for e in link.events(self.log) if e[1] == "mark"]
        if not marks:
            raise Lost("no content passed the link to the storage")
        return round(min(marks) - usage.started, 4)


class Idle:
    """Memory of the service that has fetched one content and waits, and of a program
    that is linked with the same libraries, did one request and waits. One after the
    other, so that they do not share pages with each other."""
    name = "idle"
    title = "idle memory after one download"
    wait_s = 3

    def measure(self, options):
        link = links.Plain()
        site = origin.Site(os.path.join(options.ram, "site"), {"setup.bin": 1 << 20},
                           link)
        folder = os.path.join(options.ram, "run")
        try:
            origin.empty(folder)
            site.agent_argv(folder)
            service = self.sample(
                [agentconf.AGENT, "--daemon", "--config",
                 os.path.join(folder, "agent.conf")],
                lambda _: os.path.isdir(site.published(folder)))
            stick = self.sample(
                [os.path.join(options.programs, "idle"),
                 "https://%s:%d/%s/%s/setup.bin" % (
                     labs.HOSTS[1], site.dp_port, origin.web.SHARE, origin.PACKAGE),
                 site.ca, "%s:%d:127.0.0.1" % (labs.HOSTS[1], site.dp_port)],
                lambda process: process.stdout.readline() == b"ready\n")
        finally:
            site.stop()
            shutil.rmtree(folder, ignore_errors=True)
        return {"world": self.name, "title": self.title, "service": service,
                "yardstick": stick, "ratio": service["pss_kib"] / stick["pss_kib"],
                "ratio_own": service["own_kib"] / stick["own_kib"]}

    def sample(self, argv, is_ready):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env=measure.clean_env())
        try:
            end = time.monotonic() + 60
            while not is_ready(process):
                if process.poll() is not None or time.monotonic() > end:
                    raise Lost("%s does not get ready" % os.path.basename(argv[0]))
                time.sleep(0.05)
            time.sleep(self.wait_s)
            pids = measure.tree(process.pid)
            looks = [measure.memory_kib(pid) for pid in pids]
            return {"processes": len(pids), "pss_kib": sum(x[0] for x in looks),
                    "own_kib": sum(x[1] for x in looks)}
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            process.stdout.close()


class Limit:
    """tests/bench/limit.c."""
    name = "limit"
    title = "the floor: processor seconds per GiB of what no client can do without"

    def measure(self, options):
        argv = [os.path.join(options.programs, "limit"), "--json", "--mib",
                str(options.limit_mib), "--rounds", str(options.rounds or 5),
                options.disk, options.ram]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=300)
        if done.returncode:
            raise Lost(done.stderr.strip())
        return {"world": self.name, "title": self.title, **json.loads(done.stdout)}


SPECIAL = [Limit(), Idle(), FirstByte()]
