#!/usr/bin/env python3
"""A week of the service, simulated: its clock is moved from one event to the next.

Monday 08:00 to Monday 08:00, content for it all week, and each day something goes
wrong. In the end everything that was due is there, with the right bytes, fetched no
more often than the faults explain; nothing else is; memory and descriptors are those
of the first evening.
"""

import datetime
import json
import os
import random
import shutil
import signal
import sys
import time

from harness import (agentconf, check, contents, expect, main, new_lab, replies,
                     same)
from service import Service, moment, rfc3339

HOUR, DAY = 3600, 86400
WINDOWS = ["Mon-Fri 19:00-06:00", "Sat,Sun 00:00-24:00"]


class Week:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lab = new_lab()
        self.mp = self.lab.mp()
        self.dp = [self.lab.dp_nginx(self.lab.path("dp%d" % i)) for i in (1, 2)]
        self.lab.agent_conf(
            ["http://127.0.0.1:%d" % self.mp.port], ["127.0.0.1:9"],
            {"schedule.window": WINDOWS, "transfer.stall_timeout": "2s",
             "transfer.connect_timeout": "2s", "log.level": "info",
             "report.metrics_file": self.lab.path("metrics.prom"),
             "report.events_file": self.lab.path("events.jsonl")})
        monday = datetime.datetime.now(datetime.timezone.utc).replace(
            hour=8, minute=0, second=0, microsecond=0)
        monday += datetime.timedelta(days=7 - monday.weekday())
        self.begin = int(monday.timestamp())
        self.wanted, self.number = {}, 0   # name: (content, not before, at the latest)
        self.never = set()
        self.events = []                   # (when, what to do)

    # as a Site is used by Service
    def run(self, *args, **how):
        return self.lab.run_agent(*args, **how)

    def at(self, day, hour=0):
        """Epoch seconds of the hour of the day, Monday 00:00 being (0, 0)."""
        return self.begin - 8 * HOUR + day * DAY + int(hour * HOUR)

    # -- content and policy ------------------------------------------------------

    def make(self, package=None, version=1, placed=True, located=True):
        self.number += 1
        package = package or "ABC%05X" % (0x100 + self.number)
        made = self.lab.content(package, files=self.random.randint(1, 6),
                                total=self.random.randint(1 << 12, 1 << 18),
                                under="source%d" % version, seed=self.number)
        if placed:
            self.place(made, package)
        if located:
            self.locate(package)
        return package, version, made

    def place(self, made, package):
        for i in (1, 2):
            shutil.rmtree(self.lab.path("dp%d" % i, package), ignore_errors=True)
            shutil.copytree(made.path, self.lab.path("dp%d" % i, package))

    def locate(self, package):
        self.mp.publish(package, replies.location_reply([
            replies.record("http://127.0.0.1:%d/SMS_DP_SMSPKG$/%s"
                           % (dp.port, package), locality="SUBNET")
            for dp in self.dp]))

    def policy(self, one, purpose="required", available=None, deadline=None, **how):
        package, version, made = one
        times = {}
        if available is not None:
            times["available"] = rfc3339(available)
        if deadline is not None:
            times["deadline"] = rfc3339(deadline)
        path = agentconf.write_policy(self.lab.folder, package, version, made,
                                      file="%s.%d" % (package, version),
                                      purpose=purpose, **{**times, **how})
        return path

    def want(self, one, not_before, at_the_latest):
        self.wanted["%s.%d" % one[:2]] = (one[2], not_before, at_the_latest)

    def refuse(self, one):
        self.never.add("%s.%d" % one[:2])

    def fill(self):
        """What the week is to bring, all in policy from Monday on."""
        for _ in range(12):
            available = self.begin + self.random.randint(0, 5 * DAY)
            deadline = available + self.random.randint(4 * HOUR, 36 * HOUR)
            one = self.make()
            self.policy(one, available=available, deadline=deadline)
            self.want(one, available, deadline + 6 * HOUR)
        for day in (1, 4):                       # without a deadline
            one = self.make()
            self.policy(one, available=self.at(day, 12))
            self.want(one, self.at(day, 12), self.at(day, 26))
        for _ in range(3):
            one = self.make()
            self.policy(one, purpose="available", available=self.begin)
            self.refuse(one)
        for _ in range(2):
            one = self.make()
            self.policy(one, available=self.begin + 9 * DAY,
                        deadline=self.begin + 10 * DAY)
            self.refuse(one)
        one = self.make()                        # nobody names a hash
        self.policy(one, available=self.begin, hash="", size="")
        self.refuse(one)

    # -- what came of it --------------------------------------------------------------

    def published(self):
        folder = self.lab.path("cache", "content")
        return set(os.listdir(folder)) if os.path.isdir(folder) else set()

    def locations(self):
        return [r for r in self.mp.requests() if "package_id" in r]

    def arrivals(self):
        with open(self.lab.path("events.jsonl")) as stream:
            events = [json.loads(line) for line in stream]
        return [e for e in events if e["event"] == "arrived"]

    # -- time ----------------------------------------------------------------------

    def next_event(self, service):
        """When the service means to do something, by its own words."""
        status = service.status()
        times = [status["service"]["next_poll"]]
        for job in status["jobs"]:
            if job["state"] == "waiting":
                times += [job["next_try"] or job["due"]]
        known = [moment(t) for t in times if t]
        return min(known, default=float("inf"))

    def live_until(self, service, end):
        """Let the service live until `end`, from event to event."""
        service.until_idle()
        for _ in range(2000):
            now = service.now()
            if now >= end - 1:
                return
            then = min(end, max(self.next_event(service), now + 1))
            service.jump(then - now + 1)
            service.until_idle()
        raise AssertionError("the service wakes too often")


def tuesday(week, service):
    """The management point is away for a day."""
    week.mp.script("close\n")
    week.live_until(service, week.at(2, 8))
    week.mp.script("")


def wednesday(week, service, gone):
    """A deployment is withdrawn; the daemon is killed and comes back."""
    os.unlink(gone)
    week.live_until(service, week.at(2, 22))
    service.stop(signal.SIGKILL)
    service.start()


def thursday(week, service):
    """A new version of a package; the cache folder is deleted under the daemon."""
    newer = week.make("ABC00F00", 2)
    week.policy(newer, available=week.at(3, 0), deadline=week.at(3, 12))
    week.want(newer, week.at(3, 0), week.at(3, 18))
    week.live_until(service, week.at(3, 9))
    before = week.published()
    shutil.rmtree(week.lab.path("cache"))
    week.live_until(service, week.at(4, 0))
    lacking = {n for n in before if n in week.wanted} - week.published()
    lacking -= {"ABC00F00.1"}                    # superseded by now
    expect(not lacking, "did not come again:", lacking)
    week.wanted.pop("ABC00F00.1")


def friday(week, service, broken, lost):
    """What no source had is there now; a policy file is written in two halves."""
    week.place(broken[2], broken[0])
    week.want(broken, week.at(4, 0), week.at(5, 0))
    week.locate(lost[0])
    week.want(lost, week.at(4, 0), week.at(5, 6))
    half = week.make()
    path = week.policy(half, available=week.at(4, 10), deadline=week.at(4, 20))
    with open(path) as stream:
        whole = stream.read()
    with open(path, "w") as stream:
        stream.write(whole[:len(whole) // 2] + "[broken")
    week.live_until(service, week.at(4, 12))
    expect(service.status()["policy"]["error"], "half a policy is no error")
    with open(path, "w") as stream:
        stream.write(whole)
    week.want(half, week.at(4, 12), week.at(5, 2))
    week.live_until(service, week.at(5, 7))


def saturday(week, service):
    """A reboot, after which the state file is cut."""
    there = week.published()
    service.stop()
    with open(week.lab.path("state", "state.db"), "r+b") as stream:
        stream.truncate(5000)
    asked = len(week.locations())
    service.start()
    week.live_until(service, week.at(5, 9))
    expect(there <= week.published(), "content went with the state:",
           there - week.published())
    again = [r["package_id"] for r in week.locations()[asked:]]
    expect(not {n.rpartition(".")[0] for n in there} & set(again),
           "asked for what is there:", again)


def sunday(week, service):
    """The clock is three years wrong, then right."""
    week.live_until(service, week.at(6, 8))
    for seconds in (-3 * 365 * DAY, 3 * 365 * DAY):
        service.jump(seconds)
        service.until_idle()


def judge(week):
    """Everything that was due is there, nothing else, and it came in time."""
    there = week.published()
    missing = set(week.wanted) - there
    expect(not missing, "missing:", missing)
    expect(not there & week.never, "came unbidden:", there & week.never)
    extra = there - set(week.wanted) - {"ABC00F00.1"}
    expect(not extra, "nobody asked for", extra)
    for name, (made, _, _) in week.wanted.items():
        same(contents.folder_hash(week.lab.path("cache", "content", name)),
             made.hash, name)
    expect(not [v for r in week.mp.requests() for v in r.get("violations") or []],
           "the management point complains")
    for event in week.arrivals():
        name = "%s.%s" % (event["content"], event["version"])
        expect(name in week.wanted or name == "ABC00F00.1", "arrived:", name)
        if name not in week.wanted:
            continue
        _, not_before, at_the_latest = week.wanted[name]
        if week.at(1, 8) <= at_the_latest <= week.at(2, 13):
            # Tuesday held it up: it comes within 4 h, or at the next open window
            at_the_latest = week.at(2, 19.5)
        at = moment(event["time"])
        expect(at >= not_before - 1, name, "came early:", event["time"])
        expect(at <= at_the_latest or at > week.at(3, 9), name, "came late:",
               event["time"], "not by", rfc3339(at_the_latest))


@check
def a_week_with_faults():
    """a simulated week, each day with its fault"""
    week = Week(int(os.environ.get("WEEK_SEED", "7")))
    try:
        week.fill()
        first = week.make("ABC00F00", 1)
        week.policy(first, available=week.begin, deadline=week.at(1, 5))
        week.want(first, week.begin, week.at(1, 11))
        withdrawn = week.make()
        gone = week.policy(withdrawn, available=week.at(2, 12),
                           deadline=week.at(5, 0))
        week.refuse(withdrawn)
        broken = week.make(placed=False)         # no distribution point has it
        week.policy(broken, available=week.at(1, 0), deadline=week.at(2, 0))
        lost = week.make(located=False)          # the site does not know it
        week.policy(lost, available=week.at(1, 0), deadline=week.at(1, 20))
        service = Service(week, fake=True, env={"TZ": "UTC"}, start=False)
        service.offset = int(week.begin - time.time())
        service._write_clock()
        with service:
            service.start()
            week.live_until(service, week.at(0, 21))
            before = service.memory_kib(), service.descriptors()
            week.live_until(service, week.at(1, 8))
            tuesday(week, service)
            wednesday(week, service, gone)
            thursday(week, service)
            friday(week, service, broken, lost)
            saturday(week, service)
            sunday(week, service)
            week.live_until(service, week.at(7, 8))
            after = service.memory_kib(), service.descriptors()
            same(service.stop(), 0, "exit status")
        judge(week)
        same(after[1], before[1], "descriptors")
        expect(after[0] < before[0] + 1024, "memory grew: %d to %d KiB"
               % (before[0], after[0]))
    finally:
        week.lab.stop()


if __name__ == "__main__":
    sys.exit(main())
