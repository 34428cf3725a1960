#!/usr/bin/env python3
"""Bad days of the service, each a check: what goes wrong, and that it comes right again
by itself. Days that belong to a week are in test_week, signatures in test_policy,
restarts and withdrawals in test_daemon."""

import glob
import os
import shutil
import signal
import sqlite3
import sys
import time


from harness import (Mounted, NAME, PACKAGE, Small, VERSION, agentconf, check, contents,
                     expect, is_alive, main, replies, same, web)
from service import Service, moment, rfc3339

HOUR, DAY = 3600, 86400


class Day(Small):
    """A management point, a distribution point, one content that is due."""

    def __init__(self, due=True, settings=None, total=1 << 18, **how):
        super().__init__(total=total, settings={
            "transfer.stall_timeout": "3s", "transfer.connect_timeout": "3s",
            "log.level": "info", **(settings or {})}, **how)
        self.dp = self.lab.dp_nginx()
        self.locate(self.share(self.dp))
        if due:
            self.policy()

    def job(self, service):
        return service.job(NAME)

    def more(self, package, version=1, placed=True, **policy):
        """One more content with its policy."""
        made = self.lab.content(package, files=2, total=1 << 14)
        self.mp.publish(package, replies.location_reply([replies.record(
            "http://127.0.0.1:%d/SMS_DP_SMSPKG$/%s" % (self.dp.port, package))]))
        if not placed:
            shutil.rmtree(made.path)
        self.lab.policy(package, version, made, **policy)
        return made


@check
def management_point_away_for_a_day():
    """the management point is away for a day: tries grow apart, then it comes"""
    with Day() as s:
        s.mp.script("close\n")
        with Service(s, fake=True) as service:
            service.until(lambda st: st["jobs"][0]["tries"] >= 1 and
                          st["jobs"][0]["state"] == "waiting", "a first failure")
            end = service.now() + DAY
            while service.now() < end:
                job = s.job(service)
                wait = moment(job["next_try"]) - service.now()
                expect(wait < 4 * HOUR + 60, "waits too long:", wait)
                service.jump(max(wait, 0) + 1)
                service.until(lambda st: st["jobs"][0]["tries"] > job["tries"] and
                              st["jobs"][0]["state"] == "waiting", "another try")
            tries = s.job(service)["tries"]
            expect(8 <= tries <= 40, "tries in a day:", tries)
            s.mp.script("")
            service.jump(4 * HOUR)
            service.until_state(NAME, "here")
            s.expect_published()
            run = service.ask("--why", PACKAGE, "--json")
            expect(run.json["locations"], run.out)


@check
def clock_three_years_wrong():
    """the clock is three years back, then right; three years ahead, then right"""
    for wrong in (-3 * 365 * DAY, 3 * 365 * DAY):
        with Day(due=False, settings={"policy.poll_interval": "10m"}) as s:
            now = time.time()
            s.policy(available=rfc3339(now - HOUR), deadline=rfc3339(now - 60))
            s.mp.script("close\n")
            with Service(s, fake=True) as service:
                service.until(lambda st: st["jobs"][0]["tries"] >= 1 and
                              st["jobs"][0]["state"] == "waiting", "a failure")
                service.jump(wrong)
                service.until_idle()
                service.jump(-wrong)
                service.until_idle()
                job = s.job(service)
                wait = moment(job["next_try"]) - service.now()
                expect(0 <= wait <= 4 * HOUR + 60, "waits after the clock:", wait, job)
                s.mp.script("")
                service.jump(wait + 1)
                service.until_state(NAME, "here")
                s.expect_published()


@check
def disk_full_then_free():
    with Day(due=False, total=1 << 20, settings={"cache.min_free": "0"}) as s:
        with Mounted(s.path("small"), "size=256k") as disk:
            s.conf(cache__directory=s.path("small", "cache"))
            s.policy()
            with Service(s, fake=True) as service:
                job = service.until_state(NAME, "waiting")
                same(job["last"]["error"]["code"], "SPACE", job)
                disk.remount("size=8m")
                service.jump(moment(job["next_try"]) - service.now() + 1)
                service.until_state(NAME, "here")
                folder = s.path("small", "cache", "content", NAME)
                same(contents.folder_hash(folder), s.content.hash, "hash")
                same(service.stop(), 0, "exit status")


def net_of(service):
    """Network processes below the daemon."""
    found = []
    for pid in service.children():
        try:
            with open("/proc/%d/comm" % pid) as stream:
                if stream.read().strip() == "agent-net":
                    found.append(pid)
        except OSError:
            continue
    return found


@check
def net_killed_at_every_stage():
    """the network process is killed at each stage of a job; the content arrives"""
    stages = {"locate": ("on location\n", "delay_ms 700\n")}
    with Day(total=8 << 20, settings={"transfer.rate_limit": "6M"}) as s:
        for stage in ("locate", "list", "transfer"):
            with Service(s, fake=True) as service:
                s.mp.script("".join(stages.get(stage, ())))
                service.until(lambda st, stage=stage: [
                    j for j in st["jobs"] if j["progress"] and
                    j["progress"]["step"] == stage or j["state"] == "here"],
                    "stage " + stage)
                for pid in net_of(service):
                    os.kill(pid, signal.SIGKILL)
                s.mp.script("")
                end = time.monotonic() + 60
                while s.job(service)["state"] != "here":
                    expect(time.monotonic() < end, "never came", s.job(service))
                    job = s.job(service)
                    if job["state"] == "waiting" and job["next_try"]:
                        service.jump(moment(job["next_try"]) - service.now() + 1)
                    time.sleep(0.05)
                s.expect_published()
                same(service.stop(), 0, "exit status")
            s.forget()


@check
def state_damaged():
    """state.db flipped, truncated, empty, of a folder: set aside; content stays"""
    with Day() as s:
        with Service(s) as service:
            service.until_state(NAME, "here")
            service.stop()
        file = s.path("state", "state.db")
        with open(file, "rb") as stream:
            good = stream.read()
        asked = len(s.mp.requests())
        cuts = [good[:n] for n in (0, 1, 100, 512, len(good) // 2, len(good) - 1)]
        flips = []
        for at in (0, 17, 24, 30, 60, 100, 101, 4096, 4097, len(good) - 10):
            if at < len(good):
                flips.append(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1:])
        for number, bytes_ in enumerate(cuts + flips + [b"\0" * 8192, b"junk" * 999]):
            for path in glob.glob(s.path("state", "state.db*")):
                os.unlink(path)
            with open(file, "wb") as stream:
                stream.write(bytes_)
            os.chmod(file, 0o600)
            with Service(s) as service:
                service.until_state(NAME, "here")
                same(service.stop(), 0, "exit status, case %d" % number)
        same(len(s.mp.requests()), asked, "requests for what is there")
        s.expect_published()


@check
def state_from_the_future():
    """state.db of a newer agent is left alone, and named; jobs are done all the same"""
    with Day() as s:
        with Service(s) as service:
            service.until_state(NAME, "here")
            service.stop()
        file = s.path("state", "state.db")
        with sqlite3.connect(file) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with open(file, "rb") as stream:
            before = stream.read()
        run = s.run("--history", "--json")
        same(run.status, 31, run.err)
        expect("newer" in run.err, run.err)
        with Service(s) as service:
            service.until_idle()
            same(service.stop(), 0, "exit status")
        with open(file, "rb") as stream:
            same(stream.read(), before, "the file of the newer agent")


@check
def ten_thousand_deployments():
    """10,000 deployments in one poll: seen, planned, in bounded memory and time"""
    with Day(due=False) as s:
        folder = s.path("policy.d")
        late = rfc3339(time.time() + 30 * DAY)
        for n in range(10000):
            with open(os.path.join(folder, "p%05d.ini" % n), "w") as stream:
                stream.write("[deployment]\nid = D%05d\nname = Number %d\n"
                             "package = P%07X\nversion = 1\npurpose = required\n"
                             "available = %s\n\n[content]\nhash = sha256:%064x\n"
                             % (n, n, n, late, n + 1))
        s.policy()
        began = time.monotonic()
        with Service(s) as service:
            service.until_state(NAME, "here", seconds=120)
            took = time.monotonic() - began
            status = service.status()
            same(len(status["jobs"]), 10001, "jobs")
            with open("/proc/%d/status" % service.pid) as stream:
                peak = int(stream.read().split("VmHWM:")[1].split()[0])
            print("   10,001 deployments: first content after %.1f s, peak of the "
                  "daemon %d KiB" % (took, peak))
            expect(peak < 96 << 10, "the daemon took", peak, "KiB")
            same(service.stop(), 0, "exit status")


@check
def one_failure_among_many():
    """what cannot be had does not hold up the others"""
    with Day(due=False) as s:
        good = ["ABC%05d" % n for n in range(6)]
        s.more("ABC0BAD1", placed=False, priority="high")
        for name in good:
            s.more(name)
        with Service(s) as service:
            for name in good:
                service.until_state(name + ".1", "here")
            service.until_state("ABC0BAD1.1", "waiting")
            run = service.ask("--history", "--json")
            failed = [t for t in run.json["transfers"] if t["result"] == "failed"]
            same({t["content"] for t in failed}, {"ABC0BAD1"})


@check
def more_required_than_the_cache_holds():
    """more is required than the cache may hold: what is there stays, the rest waits"""
    with Day(due=False, settings={"cache.size": "40k"}) as s:
        names = ["ABC%05d" % n for n in range(5)]          # 16 KiB each
        for name in names:
            s.more(name)
        with Service(s, fake=True) as service:
            def settled(status):
                states = sorted(j["state"] for j in status["jobs"])
                return states == ["here"] * 2 + ["waiting"] * 3
            service.until(settled, "two to be there")
            there = {j["content"] for j in service.status()["jobs"]
                     if j["state"] == "here"}
            for _ in range(4):                             # hours, several polls
                service.jump(4 * HOUR)
                service.until(settled, "the same two")
            same({j["content"] for j in service.status()["jobs"]
                  if j["state"] == "here"}, there, "content that stays")
            run = service.ask("--history", "--json")
            came = [t["content"] for t in run.json["transfers"]
                    if t["result"] == "verified"]
            same(sorted(came), sorted(there), "transfers")
            error = next(j for j in service.status()["jobs"]
                         if j["state"] == "waiting")["last"]["error"]
            same(error["code"], "SPACE", error)


@check
def network_is_gone_and_comes_back():
    """the distribution point stops in the middle of a transfer and comes back"""
    with Day(total=6 << 20, settings={"transfer.rate_limit": "3M",
                                      "transfer.attempts": "1"}) as s:
        with Service(s, fake=True) as service:
            service.until(lambda st: [
                j for j in st["jobs"] if j["progress"] and
                j["progress"]["bytes_done"] > 1 << 20], "a transfer")
            s.dp.stop()
            job = service.until_state(NAME, "waiting")
            expect(s.partial(), "the partial content is gone")
            s.dp = s.lab.dp_nginx()
            s.locate(s.share(s.dp))
            service.jump(moment(job["next_try"]) - service.now() + 1)
            service.until_state(NAME, "here")
            s.expect_published()
            run = service.ask("--history", "--json")
            got = [t["bytes_received"] for t in run.json["transfers"]]
            expect(sum(got) < s.content.total * 1.3, "fetched again:", got)


if __name__ == "__main__":
    sys.exit(main())
