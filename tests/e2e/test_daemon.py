#!/usr/bin/env python3
"""The daemon's life: start, signals, files that change, children that die, what it
costs to wait. Each check has a site and a service of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import (NAME, PACKAGE, Running, Small, check, expect, is_alive, main, same,
                     wants, web)
from service import Service

BIG = {"big.bin": 8 << 20}


class Home(Small):
    """A management point and a distribution point; policy comes with the check."""

    def __init__(self, files=None, total=1 << 18, rate=None, **settings):
        super().__init__(files=files, total=total,
                         settings={k.replace("__", "."): v
                                   for k, v in settings.items()})
        self.dp = self.lab.dp_nginx(rate=rate)
        self.locate(self.share(self.dp))

def slow_home(**settings):
    """Content that takes four seconds."""
    return Home(files=BIG, transfer__rate_limit="2M", **settings)


def in_transfer(service, least=1 << 20):
    """Wait for a transfer under way; its job."""
    def good(status):
        for job in status["jobs"]:
            progress = job["progress"]
            if progress and progress["bytes_done"] >= least:
                return job
        return None
    return service.until(good, "a transfer")


def kept(s):
    """Bytes in the partial folder."""
    path = s.partial()
    expect(path, "nothing is kept")
    return sum(os.path.getsize(os.path.join(base, name))
               for base, _, names in os.walk(path) for name in names)


def arrives_resumed(s, service):
    """It goes on after the minute that follows an interruption."""
    service.jump(61)
    service.until_state(NAME, "here")
    s.expect_published()
    transfers = service.ask("--history", "--json").json["transfers"]
    expect(transfers[0]["bytes_resumed"] >= 1 << 19, "begun anew:", transfers[0])


def log_of(s, name="ContentTransferManager"):
    with contextlib.suppress(OSError), open(s.path("log", name + ".log")) as stream:
        return stream.read()
    return ""


def ask(s, **request):
    """One request on the control socket; the answer."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(s.path("control.sock"))
        peer.sendall(json.dumps(request).encode() + b"\n")
        text = b""
        while more := peer.recv(65536):
            text += more
    return json.loads(text)


# -- policy that changes ------------------------------------------------------------

@check
def a_file_in_the_folder_is_seen_at_once():
    with Home(policy__poll_interval="30d") as s, Service(s) as service:
        same(service.status()["jobs"], [], "jobs")
        s.policy()
        service.until_state(NAME, "here")
        s.expect_published()
        same(service.stop(), 0, "exit status")


@check
def nobody_asks():
    """what is due at start is fetched without anybody to wake the daemon"""
    with Home(policy__poll_interval="30d") as s:
        s.policy()
        with Service(s):
            end = time.monotonic() + 60
            while not s.published():
                expect(time.monotonic() < end, "it never came")
                time.sleep(0.02)
        s.expect_published()


@check
def the_folder_comes_later():
    with Home(policy__poll_interval="30d") as s:
        shutil.rmtree(s.path("policy.d"))
        with Service(s) as service:
            s.policy()
            service.until_state(NAME, "here")


@check
def a_single_file():
    with Home() as s:
        path = s.policy()
        moved = s.path("one.ini")
        with Service(s, "--policy", moved) as service:
            same(service.status()["jobs"], [], "jobs")
            os.rename(path, moved)
            service.until_state(NAME, "here")


@check
def half_written_then_whole():
    """a policy file that is half written withdraws nothing, and stops no transfer"""
    with slow_home(policy__poll_interval="30d") as s, Service(s) as service:
        path = s.policy()
        in_transfer(service)
        with open(path) as stream:
            text = stream.read()
        with open(path, "w") as stream:
            stream.write(text[:len(text) // 3])
        service.until(lambda _: "agent" in log_of(s, "PolicyAgent") and
                      "ini" in log_of(s, "PolicyAgent"), "the problem in the log")
        job = service.job(NAME)
        expect(job["progress"], "the transfer was stopped:", job)
        with open(path, "w") as stream:
            stream.write(text)
        service.until_state(NAME, "here")
        s.expect_published()
        same(len([r for r in web.access_log(s.dp) if r["status"] == 206]), 0,
             "ranges: it was begun anew")
        expect("stopped" not in log_of(s), log_of(s))


@check
def withdrawn_during_its_transfer():
    with slow_home() as s, Service(s, fake=True) as service:
        path = s.policy()
        in_transfer(service)
        os.unlink(path)
        service.until(lambda st: not any(j["progress"] for j in st["jobs"]),
                      "the transfer to stop")
        expect("withdrawn" in log_of(s), log_of(s))
        s.expect_nothing()
        expect(kept(s) > 0, "nothing is kept")
        s.policy()
        service.until_state(NAME, "waiting", "running")
        arrives_resumed(s, service)


@check
def other_hash_during_its_transfer():
    with slow_home() as s, Service(s) as service:
        s.policy()
        in_transfer(service)
        s.policy(hash="sha256:" + "0" * 64, file=PACKAGE)
        service.until(lambda _: "another hash" in log_of(s), "it to be stopped")
        s.expect_nothing()


# -- signals ------------------------------------------------------------------------

@check
def sigterm_in_mid_transfer():
    """ended within two seconds, all processes; what came is kept; it goes on"""
    with slow_home() as s:
        s.policy()
        with Service(s, fake=True) as service:
            in_transfer(service)
            same(service.stop(), 0, "exit status")
            expect(kept(s) >= 1 << 19, "kept:", kept(s))
            s.expect_nothing()
            expect(not os.path.exists(s.path("control.sock")), "the socket is left")
            service.start()
            arrives_resumed(s, service)


@check
def sigint_ends_it_too():
    with Home() as s, Service(s) as service:
        same(service.stop(signal.SIGINT), 0, "exit status")


def hook(s, text):
    os.makedirs(s.path("hooks.d"), mode=0o755, exist_ok=True)
    with open(s.path("hooks.d", "10-test"), "w") as stream:
        stream.write("#!/bin/sh\n" + text)
    os.chmod(s.path("hooks.d", "10-test"), 0o755)


@check
def sigterm_with_a_hook_that_hangs():
    with Home() as s:
        s.conf(hooks__on_content=s.path("hooks.d"))
        hook(s, "trap '' TERM\necho $$ >%s\nwhile :; do sleep 60; done\n" %
             s.path("hook.pid"))
        s.policy()
        with Service(s) as service:
            service.until(lambda _: os.path.exists(s.path("hook.pid")) and
                          os.path.getsize(s.path("hook.pid")), "the hook to run")
            with open(s.path("hook.pid")) as stream:
                pid = int(stream.read())
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            same(service.process.wait(timeout=20), 0, "exit status")
            took = time.monotonic() - began
            expect(took < 2, "SIGTERM took %.2f s" % took)
            # what ignores SIGTERM is the service manager's: the whole unit ends
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        s.expect_published()


@check
def sighup_reads_settings_again():
    with Home(policy__poll_interval="30d") as s, Service(s) as service:
        os.makedirs(s.path("elsewhere"))
        s.conf(policy__source=s.path("elsewhere"), policy__poll_interval="30d",
               control__socket=s.path("other.sock"))
        service.process.send_signal(signal.SIGHUP)
        service.until_told("RELOADING=1")
        service.until_told("READY=1")
        expect(not os.path.exists(s.path("control.sock")), "the old socket is left")
        path = s.policy()
        os.rename(path, s.path("elsewhere", "a.ini"))
        service.until_state(NAME, "here")
        same(service.stop(), 0, "exit status")


@check
def sighup_with_bad_settings_changes_nothing():
    with slow_home() as s, Service(s) as service:
        s.policy()
        in_transfer(service)
        good = open(s.lab.conf).read()
        with open(s.lab.conf, "a") as stream:
            stream.write("[cloud]\nnonsense = 1\n")
        service.process.send_signal(signal.SIGHUP)
        service.until_told("RELOADING=1")
        service.until_told("READY=1")
        expect("nonsense" in log_of(s, "agent"), log_of(s, "agent")[-2000:])
        with open(s.lab.conf, "w") as stream:
            stream.write(good)
        service.until_state(NAME, "here")
        same(service.stop(), 0, "exit status")


# -- others, and accidents -------------------------------------------------------------

@check
def two_daemons():
    with Home() as s, Service(s) as service:
        run = wants(s.run("--daemon", timeout=30), 40)
        expect(str(service.pid) in run.err, run.err)
        expect(is_alive(service.pid), "the first one ended")
        service.status()


@check
def the_daemon_is_killed():
    """SIGKILL in mid-transfer: its children end; the next one goes on"""
    with slow_home() as s:
        s.policy()
        with Service(s, fake=True) as service:
            in_transfer(service)
            expect(len(service.children()) >= 2, "children:", service.children())
            same(service.stop(signal.SIGKILL), -9, "exit status")
            service.start()         # lock and socket are free
            arrives_resumed(s, service)


@check
def the_child_is_killed():
    """a job whose process is killed waits, and comes; the daemon goes on"""
    with slow_home() as s:
        s.policy()
        with Service(s, fake=True) as service:
            in_transfer(service)
            with open("/proc/%d/task/%d/children" % (service.pid, service.pid)) as f:
                child = int(f.read().split()[0])
            os.kill(child, signal.SIGKILL)
            service.until_state(NAME, "waiting")
            job = service.job(NAME)
            expect("SIGKILL" in log_of(s), log_of(s)[-1000:])
            same(job["tries"], 1, "tries")
            service.jump(200)
            service.until_state(NAME, "here")
            s.expect_published()


@check
def the_cache_is_deleted_while_it_runs():
    with Home(policy__poll_interval="60m") as s, Service(s) as service:
        s.policy()
        service.until_state(NAME, "here")
        shutil.rmtree(s.path("cache"))
        same(ask(s, verb="poll"), {"exit": 0, "error": None}, "poll")
        service.until_state(NAME, "here")
        service.until(lambda _: s.published(), "the content to come again")
        s.expect_published()


@check
def the_cache_is_deleted_in_mid_transfer():
    with slow_home() as s, Service(s, fake=True) as service:
        s.policy()
        in_transfer(service)
        shutil.rmtree(s.path("cache"))
        end = time.monotonic() + 60
        while not s.published():
            expect(time.monotonic() < end, "it never came", service.status())
            service.jump(600)
            service.until(lambda st: st["jobs"][0]["state"] != "due now" and
                          not st["jobs"][0]["progress"], "the try to end")
        s.expect_published()


# -- orders ------------------------------------------------------------------------------

@check
def stop_by_hand():
    with slow_home() as s, Service(s) as service:
        s.policy()
        in_transfer(service)
        same(ask(s, verb="stop", content=NAME), {"exit": 0, "error": None}, "stop")
        job = service.job(NAME)
        same(job["state"], "waiting", "state")
        expect(kept(s) > 0, "nothing is kept")
        answer = ask(s, verb="stop", content=NAME)
        same(answer["exit"], 2, "nothing to stop")


@check
def remove_by_hand():
    """remove stops the job, and what policy wants comes again"""
    with slow_home() as s, Service(s) as service:
        s.policy()
        in_transfer(service)
        same(ask(s, verb="remove", content=NAME)["exit"], 0, "remove")
        service.until(lambda st: st["jobs"][0]["state"] in ("waiting", "running"),
                      "it to be planned anew")
        same(ask(s, verb="remove", content="ABC99999.1")["exit"], 2, "not there")


@check
def handed_over_with_progress():
    """--download as the service's user: its progress and result are shown"""
    with slow_home() as s, Service(s) as service:
        s.policy(purpose="available")
        service.until_state(NAME, "on request")
        with Running(s) as running:
            running.until_bytes(1 << 20)
            below = service.children()
            expect(below, "the service does nothing")
            run = wants(running.finish(), 0)
        same(run.json["result"], "verified", "result")
        s.expect_published()
        service.until_state(NAME, "here")
        transfers = service.ask("--history", "--json").json["transfers"]
        same(transfers[0]["by"], "hand", "by")


@check
def handed_over_while_it_is_scheduled():
    """a download by hand takes over what the service has under way"""
    with slow_home() as s, Service(s) as service:
        s.policy()
        in_transfer(service)
        run = s.download()
        expect(run.json["bytes_resumed"] > 0, run.json)
        s.expect_published()
        service.until_state(NAME, "here")


@check
def whoever_asked_goes_away():
    with slow_home() as s, Service(s) as service:
        s.policy(purpose="available")
        service.until_state(NAME, "on request")
        with Running(s) as running:
            running.until_bytes(1 << 20)
            running.signal(signal.SIGINT)
            wants(running.finish(), 130)
            expect(running.took < 3, "took %.1f s" % running.took)
        service.until(lambda _: not service.children(), "the job to end")
        expect(kept(s) > 0, "nothing is kept")


# -- what it costs --------------------------------------------------------------------------

@check
def waiting_costs_nothing():
    """no wake-up in three idle seconds, and the watchdog is told of the long sleep"""
    with Home() as s:
        s.policy()
        with Service(s, env={"WATCHDOG_USEC": "3000000"}) as service:
            service.until_state(NAME, "here")
            service.until(lambda _: not service.children(), "all work to end")
            told = b""
            with contextlib.suppress(BlockingIOError):
                while True:
                    told += service.notify.recv(4096, socket.MSG_DONTWAIT) + b"\n"
            expect(b"WATCHDOG=1" in told, told)
            usec = [int(line[14:]) for line in told.split(b"\n")
                    if line.startswith(b"WATCHDOG_USEC=")]
            expect(usec and max(usec) > 3e9, "no long sleep was told:", told)
            before = service.at_rest()
            time.sleep(3)           # real time is what is measured
            same(service.switches(), before, "wake-ups")
            with contextlib.suppress(BlockingIOError):
                more = service.notify.recv(4096, socket.MSG_DONTWAIT)
                raise AssertionError("it was told in its sleep: %r" % more)


@check
def nothing_is_left_open():
    """descriptors after twenty polls and jobs are those of before; no zombie"""
    with Home() as s, Service(s) as service:
        path = s.policy()
        service.until_state(NAME, "here")
        service.until(lambda _: not service.children(), "all work to end")
        before = service.descriptors()
        for _ in range(20):
            s.forget()
            os.utime(path)
            same(ask(s, verb="poll")["exit"], 0, "poll")
            service.until(lambda _: s.published() and not service.children(),
                          "the content to come again")
        service.until(lambda _: service.descriptors() <= before,
                      "the descriptors of before, %d" % before)


def descriptors(pid):
    """What a process has open; nothing of one that has ended."""
    found = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                found.add(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
    return found


@check
def children_keep_nothing_of_the_daemon():
    """no child has its socket, lock, or timers, nor what came with half a request"""
    with slow_home() as s, Service(s) as service, \
            socket.socket(socket.AF_UNIX) as half:
        near, far = os.pipe()
        half.connect(s.path("control.sock"))
        socket.send_fds(half, [b"{"], [far])
        handed = os.readlink("/proc/self/fd/%d" % far)
        os.close(far)
        service.until(lambda _: handed in descriptors(service.pid), "the pipe")
        s.policy()
        in_transfer(service)
        for pid in service.children():
            expect(handed not in descriptors(pid), "a stranger's pipe in", pid)
        os.close(near)
        daemon = descriptors(service.pid)
        ours = {name for name in daemon
                if name.startswith(("socket:", "anon_inode:[timerfd]")) or
                name.endswith("service.lock") or "inotify" in name}
        expect(len(ours) >= 3, daemon)
        for pid in service.children():
            same(descriptors(pid) & ours, set(), "of the daemon in %d" % pid)


if __name__ == "__main__":
    sys.exit(main())
