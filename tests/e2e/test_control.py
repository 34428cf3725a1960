#!/usr/bin/env python3
"""Speaking with the service: its control socket and who may do what there, --status,
--why and --history with and without it, downloads that are handed over, --poll, --stop."""

import array
import contextlib
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import (NAME, PACKAGE, VERSION, Running, Small,        # noqa: E402
                     agentconf, check, expect, is_sanitized, main, same, skip,
                     terminal, wants)
from service import Service                                         # noqa: E402

PATIENCE = 30
SLOW = {"transfer.rate_limit": "1M"}


class Place(Small):
    """A site with one content, which nobody fetches before he is told to."""

    def __init__(self, purpose="available", total=1 << 16, settings=None, **policy):
        super().__init__(files=3, total=total, settings=settings)
        self.dp = self.lab.dp_nginx()
        self.locate(self.share(self.dp))
        self.lab.policy(PACKAGE, VERSION, self.content, purpose=purpose, **policy)
        self.socket = self.path("control.sock")

    def connect(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(self.socket)    # waits where many stand in line
        s.settimeout(PATIENCE)
        return s

    def raw(self, line):
        """The answer to these bytes."""
        with self.connect() as s:
            s.sendall(line)
            return heard(s)

    def ask(self, *args, status=0, **how):
        run = wants(self.run(*args, "--json", **how), status)
        expect(run.json is not None, "no JSON:", run.out[:300], run.err[:300])
        return run.json

    def as_nobody(self, *args, group=None):
        """The agent as an ordinary user; of the group that may speak with it."""
        user = pwd.getpwnam("nobody")
        return run_as(user.pw_uid, user.pw_gid if group is None else group,
                      [agentconf.AGENT, *args, "--config", self.lab.conf])


def run_as(uid, gid, argv):
    done = subprocess.run(argv, user=uid, group=gid, extra_groups=[],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, cwd="/")
    out, err = (b.decode("utf-8", "replace") for b in (done.stdout, done.stderr))
    try:
        parsed = json.loads(out)
    except ValueError:
        parsed = None
    return agentconf.Run(done.returncode, out, err, parsed)


def heard(s):
    """All until the end, as an object; None where nothing came."""
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while more := s.recv(65536):
            text += more
    return json.loads(text) if text else None


# -- what the service tells ---------------------------------------------------------------

JOB = {"content", "version", "deployment", "name", "purpose", "priority", "state",
       "reason", "available", "deadline", "due", "next_try", "gives_up", "tries", "last",
       "arrived", "path", "progress"}


def look(s, running):
    """--status, --why, --history, as JSON and as text."""
    status = s.ask("--status")
    same(status["service"]["running"], running)
    same(status["policy"]["deployments"], 1)
    job, = status["jobs"]
    expect(JOB <= set(job), JOB - set(job))
    same((job["content"], job["version"], job["state"]), (PACKAGE, VERSION, "here"))
    same(job["path"], s.published())
    same(s.ask("--status", PACKAGE)["jobs"], [job])
    why = s.ask("--why", PACKAGE)
    same((why["version"], why["delivered"]["kind"]), (VERSION, "on-prem"))
    same([(p["kind"], p["usable"]) for p in why["locations"]], [("on-prem", True)])
    expect(why["locations"][0]["reason"] and why["decided"], why)
    same([a["error"] for a in why["attempts"]], [None])
    same((why["last"]["by"], why["last"]["result"]), ("hand", "verified"))
    history = s.ask("--history")["transfers"]
    same([(t["content"], t["result"], t["bytes_total"]) for t in history],
         [(PACKAGE, "verified", s.content.total)])
    text = wants(s.run("--status"), 0).out
    expect(("no service is running" in text) != running, text)
    expect(re.search(r"^%s +here +since 20" % re.escape(NAME), text, re.M), text)
    text = wants(s.run("--why", NAME), 0).out
    expect(re.match(r"%s came from 127\.0\.0\.1(:\d+)? \(on-prem\) 20.* ago|.*now"
                    % re.escape(NAME), text), text)
    text = wants(s.run("--history"), 0).out
    expect(re.search(r"Z +%s +verified .* hand +127" % re.escape(NAME), text), text)


@check
def status_why_and_history_with_and_without_a_service():
    with Place() as s:
        with Service(s) as service:
            s.download()
            s.expect_published()
            look(s, running=True)
            same(s.ask("--status")["service"]["pid"], service.pid)
            same(service.stop(), 0)
        look(s, running=False)


@check
def a_fresh_machine_is_looked_at_without_a_trace():
    with Small(mp=False) as s:
        for name in ("state", "cache", "log", "policy.d"):
            shutil.rmtree(s.path(name))
        s.conf(policy__source=None)
        before = sorted(os.listdir(s.lab.folder))
        for words in (("--status",), ("--status", PACKAGE), ("--history",),
                      ("--why", PACKAGE)):
            run = s.run(*words)
            wants(run, 0)
            expect("Traceback" not in run.err and run.out, words, run.err)
        same(s.run("--status", "--json").json["jobs"], [])
        expect(s.run("--status", PACKAGE, "--json").json["note"], "no note")
        expect(s.run("--why", PACKAGE, "--json").json["note"], "no note")
        same(sorted(os.listdir(s.lab.folder)), before, "files")


@check
def unknown_content():
    with Place() as s:
        with Service(s):
            for what in ("--status", "--why"):
                have = s.ask(what, "XYZ00099.7")
                expect("XYZ00099.7" in have["note"], have)
                same(have["error"], None)
                expect("XYZ00099.7" in s.run(what, "XYZ00099.7").out, what)
            wants(s.run("--why", "../x"), 2)


@check
def policy_that_cannot_be_read():
    with Place() as s:
        with open(s.path("policy.d", "bad.ini"), "w") as out:
            out.write("[deployment\n")
        have = s.ask("--status", status=3)
        same(len(have["jobs"]), 1, "the good one")
        same(have["error"]["code"], "CONFIG")
        with Service(s):
            have = s.ask("--status")
            same(have["policy"]["error"]["code"], "CONFIG")
            same(len(have["jobs"]), 1)
            run = s.run("--status")
            expect("failed:" in run.out and "bad.ini" in run.out, run.out)


@check
def an_empty_socket_setting_means_none():
    with Place() as s:
        s.conf(control__socket="")
        with Service(s):
            have = s.ask("--status")
            same(have["service"]["running"], False)
            same(os.path.exists(s.socket), False)
            wants(s.run("--poll"), 31)
            s.download()


# -- garbage ---------------------------------------------------------------------------

@check
def garbage_on_the_socket():
    with Place() as s, Service(s) as service:
        service.until_idle()
        before = service.descriptors()
        for line in (b"\n", b"{}\n", b"x\n", b"[" * 4000 + b"\n", b"\0" * 100 + b"\n",
                     b"\xff" * 4095 + b"\n", b"a" * 5000, b"{\"verb\":\"burn\"}\n",
                     b"{\"verb\":\"status\"}\nmore\n", b"{\"verb\":[\"status\"]}\n",
                     b"{\"verb\":\"status\",\"content\":\"../../etc\"}\n",
                     b"GET / HTTP/1.1\r\n\r\n"):
            have = s.raw(line)
            same((have["exit"], have["error"]["code"]), (2, "USAGE"), line[:40])
        for part in (b"", b"{", b"{\"verb\":\"status\"}"):
            with s.connect() as half:     # no line end, and then nobody
                half.sendall(part)
        with s.connect() as half:
            half.sendall(b"{\"verb\"")
            same(s.ask("--status")["service"]["running"], True)
        with s.connect() as half:
            half.sendall(b"{\"verb\":\"status\"")
            half.shutdown(socket.SHUT_WR)
            same(heard(half)["exit"], 2)
        service.until_idle()
        same(service.descriptors(), before, "descriptors")


@check
def ten_thousand_connections():
    with Place() as s, Service(s) as service:
        service.until_idle()
        before, memory = service.descriptors(), None
        for n in range(10000):
            with s.connect() as one:
                if n % 3 == 0:
                    one.sendall(b"{\"verb\":\"history\"}\n")
                    expect(heard(one)["error"] is None, n)
                elif n % 3 == 1:
                    one.sendall(b"{\"ver")
            if n == 1000:
                service.until_idle()
                memory = service.memory_kib()
        service.until_idle()
        same(service.descriptors(), before, "descriptors")
        more = service.memory_kib() - memory
        expect(more < 512 or is_sanitized(), "grew by %d KiB" % more)


@check
def many_at_once():
    with Place() as s, Service(s):
        line = b"{\"verb\":\"status\"}\n"
        all_of_them = [s.connect() for _ in range(64)]
        for one in all_of_them:
            one.sendall(line)
        for one in all_of_them:
            same(heard(one)["service"]["running"], True)
            one.close()
        # More than there is room for, who say nothing: others are served all the same.
        silent = [s.connect() for _ in range(300)]
        same(s.raw(line)["service"]["running"], True)
        same(s.ask("--status")["service"]["running"], True)
        for one in silent:
            one.close()


@check
def readers_that_do_not_read():
    with Place() as s:
        for n in range(3000):
            with open(s.path("policy.d", "p%d.ini" % n), "w") as out:
                out.write("[deployment]\nid = D%d\nname = %s\npackage = ABC%05d\n"
                          "version = 1\npurpose = available\n" % (n, "x" * 150, n))
        with Service(s) as service:
            slow = [s.connect() for _ in range(40)]
            for one in slow:
                one.sendall(b"{\"verb\":\"status\"}\n")
            same(len(s.ask("--status")["jobs"]), 3001)
            kib = service.memory_kib()
            expect(kib < 200 * 1024 or is_sanitized(), kib)
            same(len(heard(slow[-1])["jobs"]), 3001, "the patient one")
            for one in slow:
                one.close()


@check
def descriptors_that_nobody_asked_for():
    with Place() as s, Service(s) as service:
        service.until_idle()
        before = service.descriptors()
        with open("/dev/null", "rb") as null:
            for count in (1, 3, 5, 100):
                fds = array.array("i", [null.fileno()] * count)
                for line in (b"{\"verb\":\"status\"}\n", b"{", b"x\n"):
                    with s.connect() as one:
                        one.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                              fds)])
        service.until_idle()
        same(service.descriptors(), before, "descriptors")


# -- who may ---------------------------------------------------------------------------

GROUP = 54321


@check
def group_may_ask_and_no_more():
    if os.geteuid() != 0:
        skip("for root")
    with Place() as s:
        os.chmod(s.lab.folder, 0o711)
        s.download()
        with Service(s):
            mode = os.stat(s.socket).st_mode & 0o777
            same(mode, 0o660)
            os.chown(s.socket, -1, GROUP)
            for words in (("--status",), ("--why", PACKAGE), ("--history",)):
                run = wants(s.as_nobody(*words, "--json", group=GROUP), 0)
                expect(run.json["error"] is None, run.out)
                expect(s.as_nobody(*words, group=GROUP).out, words)
            for words in (("--poll",), ("--stop", PACKAGE)):
                run = wants(s.as_nobody(*words, "--json", group=GROUP), 2)
                same(run.out, "")
                expect("may" in run.err and "only root or the agent" in run.err, run.err)
            # A download is not handed over, and cannot be done alone.
            run = wants(s.as_nobody("--download", PACKAGE, group=GROUP), 31)
            same(s.ask("--history")["transfers"][0]["by"], "hand")
            same(len(s.ask("--history")["transfers"]), 1)
            wants(s.as_nobody("--cache", "remove", NAME, group=GROUP), 31)
            s.expect_published()


@check
def strangers_are_told_why_not():
    if os.geteuid() != 0:
        skip("for root")
    with Place() as s:
        os.chmod(s.lab.folder, 0o711)
        os.chmod(s.path("state"), 0o700)
        s.download()
        def ask():
            for words in (("--status",), ("--why", PACKAGE), ("--history",)):
                run = wants(s.as_nobody(*words, "--json"), 31)
                same(run.json["error"]["code"], "STATE")
                expect("Permission denied" in run.err, run.err)
                expect("service" in run.err, run.err)
        with Service(s) as service:
            ask()
            wants(s.as_nobody("--poll"), 2)
            service.stop()
        ask()
        wants(s.as_nobody("--poll"), 31)


@check
def root_works_as_the_agents_own_user():
    """folders of a user of its own: root looks and downloads as that user, with a
    service and without, and leaves nothing there that is not that user's"""
    if os.geteuid() != 0:
        skip("for root")
    with Place() as s:
        os.chmod(s.lab.folder, 0o711)
        user = pwd.getpwnam("nobody")
        os.mkdir(s.path("run"))
        for name in ("state", "cache", "log", "run"):
            os.chown(s.path(name), user.pw_uid, user.pw_gid)
            os.chmod(s.path(name), 0o750)
        s.conf(control__socket=s.path("run", "control.sock"))
        def work():
            s.download()
            same(s.ask("--status")["jobs"][0]["state"], "here")
            expect(s.ask("--history")["transfers"], "no history")
            expect(s.ask("--why", PACKAGE)["delivered"], "no reason")
            same(len(s.ask("--cache", "list")["contents"]), 1)
            same(s.ask("--cache", "remove", NAME)["removed"], 1)
            s.expect_nothing()
        work()
        s.download("--to", s.path("out"))   # a folder of root's: no traces here
        same(os.lstat(s.path("out")).st_uid, 0)
        # Not a Service: what it tells systemd would not be for nobody's ears.
        daemon = s.run("--daemon", popen=True)
        try:
            while not s.ask("--status")["service"]["running"]:
                expect(daemon.poll() is None, "the daemon ended")
            with open("/proc/%d/status" % daemon.pid) as stream:
                uids = re.search(r"^Uid:\t(.*)$", stream.read(), re.M).group(1)
            same(set(uids.split()), {str(user.pw_uid)})
            work()
        finally:
            daemon.terminate()
            daemon.communicate()
        same(daemon.returncode, 0)
        for base, names, files in os.walk(s.lab.folder):
            for name in names + files:
                path = os.path.join(base, name)
                inside = os.path.relpath(path, s.lab.folder).split(os.sep)[0]
                if inside in ("state", "cache", "log", "run"):
                    same(os.lstat(path).st_uid, user.pw_uid, path)


# -- handing over ----------------------------------------------------------------------

@check
def a_download_is_handed_over():
    with Place() as s, Service(s) as service:
        run = s.download("--verbose")
        expect("working without" not in run.err, run.err)
        same(run.json["result"], "verified")
        expect("SMS_DP_SMSPKG$" in run.json["source"]["url"], run.json)
        same(s.published(), run.json["path"])
        with open(os.path.join(service.folder, "stderr")) as stream:
            expect('"result"' not in stream.read(), "the daemon told it")
        same(service.children(), [])
        run = wants(s.run("--download", PACKAGE), 0)
        expect(run.out.splitlines()[-1] == s.published(), run.out)
        run = wants(s.run("--download", PACKAGE, "--quiet"), 0)
        same((run.out, run.err), (s.published() + "\n", ""))
        run = wants(s.run("--download", PACKAGE, "--json", "--hash",
                          "sha256:" + "ab" * 32), 2)
        same(run.out, "")
        wants(s.run("--download", "NOPE0001"), 4)
        same(s.download("--from", "cloud", status=0).json["result"], "cached")


@check
def a_download_that_only_its_asker_can_do():
    """--set, --policy, --to, --dry-run: not for the service"""
    with Place() as s, Service(s) as service:
        service.process.send_signal(signal.SIGSTOP)   # it would not answer
        try:
            wants(s.run("--download", PACKAGE, "--set", "dns.tries=2"), 0)
            wants(s.run("--download", PACKAGE, "--policy", s.path("policy.d")), 0)
            wants(s.run("--download", PACKAGE, "--dry-run"), 0)
            wants(s.run("--download", PACKAGE, "--to", s.path("out")), 0)
        finally:
            service.process.send_signal(signal.SIGCONT)


@check
def another_cache_is_not_the_services():
    with Place() as s, Service(s):
        other = s.path("other.conf")
        with open(s.lab.conf) as stream:
            text = stream.read()
        with open(other, "w") as out:
            out.write(text.replace("directory = %s\n" % s.path("cache"),
                                   "directory = %s\n" % s.path("cache2")))
        run = agentconf.run_agent(other, ["--download", PACKAGE, "--verbose"])
        wants(run, 0)
        expect("another cache" in run.err, run.err)
        expect(os.path.isdir(s.path("cache2", "content", NAME)), "not there")
        s.expect_nothing()
        run = agentconf.run_agent(other, ["--cache", "remove", NAME])
        wants(run, 0)
        expect(not os.path.exists(s.path("cache2", "content", NAME)), "still there")


@check
def a_handed_over_download_shows_progress():
    with Place(total=2 << 20, settings=SLOW) as s, Service(s) as service:
        with Running(s) as running:
            told = running.until_bytes(200000)
            same((told["step"], told["bytes_total"]), ("transfer", s.content.total))
            job = service.until(lambda st: [j for j in st["jobs"] if j["progress"] and
                                            j["progress"]["bytes_done"] > 0])[0]
            same((job["state"], job["progress"]["by"]), ("running", "hand"))
            same(job["progress"]["bytes_total"], s.content.total)
            text = wants(s.run("--status"), 0).out
            expect(re.search(r"running +transfer, 127.* of 2\.0 MiB", text), text)
            run = running.finish()
        wants(run, 0)
        same(run.json["result"], "verified")


@check
def a_handed_over_download_draws_its_bar():
    with Place(total=1 << 20, settings=SLOW) as s, Service(s):
        main_fd, side = terminal()
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        process = subprocess.Popen([agentconf.AGENT, "--download", PACKAGE, "--config",
                                    s.lab.conf], stdin=side, stdout=side, stderr=side,
                                   env={**env, "TERM": "xterm"})
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):
            while more := os.read(main_fd, 65536):
                shown += more
        os.close(main_fd)
        same(process.wait(), 0, shown)
        expect(b"#" in shown and b"%" in shown and b"\r\033[K" in shown, shown)
        expect(shown.rstrip().endswith(s.published().encode()), shown[-300:])


@check
def a_terminal_is_handed_over_for_writing_only():
    """or the service's user could read what root types"""
    with Place() as s, socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(s.socket)
        listener.listen()
        main_fd, side = terminal()
        process = subprocess.Popen([agentconf.AGENT, "--download", PACKAGE, "--config",
                                    s.lab.conf], stdin=side, stdout=side, stderr=side)
        os.close(side)
        answers = ({"cache": {"directory": os.path.realpath(s.path("cache"))}},
                   {"exit": 0, "error": None})
        for answer in answers:
            with listener.accept()[0] as peer:
                line, fds, _, _ = socket.recv_fds(peer, 4096, 3)
                seen = [(os.isatty(fd), fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE)
                        for fd in fds]
                for fd in fds:
                    os.close(fd)
                peer.sendall(json.dumps(answer).encode())
        same(process.wait(), 0)
        os.close(main_fd)
        same(seen[1:], [(True, os.O_WRONLY)] * 2, line)


@check
def a_signal_stops_the_services_job():
    """SIGINT and SIGTERM at the asker: 130, 143 within a second; then it goes on"""
    with Place(total=3 << 20, settings=SLOW) as s, Service(s) as service:
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with Running(s) as running:
                running.until_bytes(300000)
                running.signal(number)
                run = running.finish()
                same(run.status, status, run.err)
                expect(running.took < 1.0, "took", running.took)
            same(run.json["error"]["code"], "INTERRUPTED", run.out)
            service.until_idle()
            expect(s.partial(), "nothing is kept")
        resumed = s.download().json
        expect(resumed["bytes_resumed"] > 0, resumed)
        s.expect_published()


@check
def an_asker_that_is_killed_stops_the_job():
    with Place(total=3 << 20, settings=SLOW) as s, Service(s) as service:
        with Running(s) as running:
            running.until_bytes(300000)
            running.signal(signal.SIGKILL)
            running.process.wait()
        service.until(lambda st: not any(j["progress"] for j in st["jobs"]))
        s.expect_nothing()


@check
def a_service_that_ends_takes_its_jobs_along():
    with Place(total=3 << 20, settings=SLOW) as s, Service(s) as service:
        with Running(s) as running:
            running.until_bytes(300000)
            same(service.stop(), 0)
            run = running.finish()
        expect(run.status in (31, 143), run.status, run.err)
        expect(run.json and run.json["result"] == "failed", run.out)
        s.download()
        s.expect_published()


@check
def nobody_listens_any_more():
    """a socket file that a killed service left behind: alone, and without a word"""
    with Place() as s:
        service = Service(s)
        service.stop(signal.SIGKILL)
        expect(os.path.exists(s.socket), "no leftover")
        run = s.download()
        expect("service" not in run.err, run.err)
        with Service(s):
            same(s.ask("--status")["service"]["running"], True)


# -- orders ----------------------------------------------------------------------------

@check
def poll_stop_and_remove():
    with Place(purpose="required", deadline="2020-01-02T00:00:00Z", total=3 << 20,
               settings=SLOW) as s, Service(s) as service:
        service.until(lambda st: [j for j in st["jobs"] if j["progress"]
                                  and j["progress"]["bytes_done"] > 300000])
        expect("stopped" in wants(s.run("--stop", PACKAGE), 0).out, "no word")
        service.until(lambda st: not any(j["progress"] for j in st["jobs"]))
        expect(s.partial(), "nothing is kept")
        job = service.job(NAME)
        same(job["state"], "waiting", job)
        wants(s.run("--stop", PACKAGE), 2)
        last = s.ask("--status")["policy"]["last_poll"]
        s.lab.policy("XYZ00001", 1, None, purpose="available")
        same(s.ask("--poll"), {"action": "poll", "error": None})
        have = s.ask("--status")
        expect(have["policy"]["last_poll"] >= last, have["policy"])
        same(have["policy"]["deployments"], 2)
        s.download()
        s.expect_published()
        run = s.ask("--cache", "remove", PACKAGE)
        same((run["removed"], run["error"]), (1, None))
        s.expect_nothing()
        wants(s.run("--cache", "remove", "NOPE0001"), 2)


@check
def orders_without_a_service():
    with Place() as s:
        for words in (("--poll",), ("--stop", PACKAGE)):
            have = s.ask(*words, status=31)
            same(have["error"]["detail"], "SERVICE")
            expect("no service" in s.run(*words).err, words)


@check
def a_second_service():
    with Place() as s, Service(s):
        run = wants(agentconf.run_agent(s.lab.conf, ["--daemon"]), 40)
        expect("process" in run.err, run.err)
        wants(s.run("--once"), 40)
        same(s.ask("--status")["service"]["running"], True)


if __name__ == "__main__":
    sys.exit(main())
