#!/usr/bin/env python3
"""The units: what systemd itself says of them, what `make install` leaves, and a service
of two users, started as systemd would."""

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import Small, TOP, agentconf, check, expect, is_alive, main, same, skip  # noqa: E402

UNITS = os.path.join(TOP, "scripts", "systemd")
LIMIT = 1.5          # exposure, of ten
KEEPER, NET = 64421, 64422


def tool(name):
    if not shutil.which(name):
        skip("%s is not installed" % name)
    return name


@contextlib.contextmanager
def units():
    """A folder with the units as installed; ExecStart is the agent under test."""
    with tempfile.TemporaryDirectory(prefix="units.") as folder:
        os.makedirs(os.path.join(folder, "prefix", "sbin"))
        shutil.copy2(agentconf.AGENT, os.path.join(folder, "prefix", "sbin", "agent"))
        for path in glob.glob(os.path.join(UNITS, "*.service")) + \
                glob.glob(os.path.join(UNITS, "*.socket")):
            with open(path) as stream:
                text = stream.read()
            with open(os.path.join(folder, os.path.basename(path)), "w") as stream:
                stream.write(text.replace("@PREFIX@", os.path.join(folder, "prefix")))
        yield folder


def ask(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "SYSTEMD_COLORS": "0",
                               "SYSTEMD_PAGER": "", "SYSTEMD_LOG_LEVEL": "warning"})
    return done.returncode, done.stdout, done.stderr


def exposure(folder, unit):
    status, out, err = ask(tool("systemd-analyze"), "security", "--offline=true",
                           "--no-pager", os.path.join(folder, unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", out)
    expect(found, "no figure:", status, out[-500:], err[-500:])
    return float(found.group(1))


@check
def exposure_of_the_keeper():
    with units() as folder:
        value = exposure(folder, "cloud-dp-agent.service")
        expect(value <= LIMIT, "exposure", value)


@check
def exposure_of_the_network_process():
    with units() as folder:
        value = exposure(folder, "cloud-dp-net@.service")
        expect(value <= LIMIT, "exposure", value)


@check
def the_keeper_keeps_openat2():
    """systemd 252 answers RestrictSUIDSGID= by refusing openat2(2), which we need"""
    with open(os.path.join(UNITS, "cloud-dp-agent.service")) as stream:
        keys = {line.split("=")[0] for line in stream if not line.startswith("#")}
    expect("RestrictSUIDSGID" not in keys, "no folder could be opened")
    expect("NoNewPrivileges" in keys, "which makes up for it")


@check
def the_measure_measures():
    """without its hardening the same unit is far from the limit"""
    with units() as folder:
        path = os.path.join(folder, "cloud-dp-agent.service")
        with open(path) as stream:
            lines = [line for line in stream
                     if not re.match(r"(Protect|Private|Restrict|SystemCall|Cap)", line)]
        with open(path, "w") as stream:
            stream.writelines(lines)
        expect(exposure(folder, "cloud-dp-agent.service") > LIMIT, "not measured")


@check
def verify_finds_nothing():
    with units() as folder:
        for unit in ("cloud-dp-agent.service", "cloud-dp-net.socket",
                     "cloud-dp-net@.service"):
            status, out, err = ask(tool("systemd-analyze"), "verify", "--man=no",
                                   "--recursive-errors=no",
                                   os.path.join(folder, unit))
            ours = [line for line in (out + err).splitlines() if "cloud-dp" in line]
            same((status, ours), (0, []), unit)


@check
def verify_finds_a_mistake():
    with units() as folder:
        path = os.path.join(folder, "cloud-dp-agent.service")
        with open(path, "a") as stream:
            stream.write("[Service]\nProtectEverything=yes\n")
        _, out, err = ask(tool("systemd-analyze"), "verify", "--man=no", path)
        expect("ProtectEverything" in out + err, out, err)


@check
def sysusers_and_tmpfiles():
    """the users and folders that the units name are made"""
    with tempfile.TemporaryDirectory(prefix="root.") as root:
        os.makedirs(os.path.join(root, "etc"))
        status, _, err = ask(tool("systemd-sysusers"), "--root=" + root,
                             os.path.join(UNITS, "cloud-dp-agent.sysusers"))
        same(status, 0, "sysusers: " + err)
        with open(os.path.join(root, "etc", "passwd")) as stream:
            names = {line.split(":")[0] for line in stream}
        expect({"cloud-dp-agent", "cloud-dp-net"} <= names, names)
        if os.geteuid() != 0:
            skip("folders of other users need root")
        status, _, err = ask(tool("systemd-tmpfiles"), "--create", "--root=" + root,
                             os.path.join(UNITS, "cloud-dp-agent.tmpfiles"))
        same(status, 0, "tmpfiles: " + err)
        made = os.stat(os.path.join(root, "var/lib/cloud-dp-agent"))
        same(made.st_mode & 0o7777, 0o750, "mode")
        expect(made.st_uid != 0, "it is root's")


@check
def install_puts_everything_in_place():
    with tempfile.TemporaryDirectory(prefix="install.") as root:
        if not os.path.exists(os.path.join(TOP, "build", "agent")):
            skip("build/agent is not there")
        done = subprocess.run(["make", "-s", "-C", TOP, "-o", "all", "install",
                               "DESTDIR=" + root, "PREFIX=/opt/p"],
                              capture_output=True, text=True, timeout=120)
        same(done.returncode, 0, done.stderr)
        unit = os.path.join(root, "opt/p/lib/systemd/system/cloud-dp-agent.service")
        with open(unit) as stream:
            text = stream.read()
        expect("ExecStart=/opt/p/sbin/agent --daemon" in text, text)
        expect("@PREFIX@" not in text, "a prefix is left")
        for name in ("lib/systemd/system/cloud-dp-net.socket",
                     "lib/systemd/system/cloud-dp-net@.service",
                     "lib/sysusers.d/cloud-dp-agent.conf",
                     "lib/tmpfiles.d/cloud-dp-agent.conf",
                     "share/man/man8/cloud-dp-agent.service.8"):
            expect(os.path.exists(os.path.join(root, "opt/p", name)), name)
        # Debian 12's polkit looks only there and below /usr/share
        expect(os.path.exists(os.path.join(
            root, "etc/polkit-1/rules.d/50-cloud-dp-agent.rules")), "polkit rule")
        expect(os.path.isdir(os.path.join(root, "etc/cloud-dp-agent/hooks.d")),
               "hooks.d")


# -- two users ---------------------------------------------------------------------------

# The daemon as an ordinary user without any capability; its network processes by a
# manager that is root and starts each as another user, as cloud-dp-net.socket does.
# A mount name space of its own has the /run of both.
TWO_USERS = """
set -eu
mount -t tmpfs none /run
chmod 755 /run
systemd-socket-activate --accept --seqpacket -l /run/cloud-dp-net.socket \\
    setpriv --reuid {net} --regid {net} --clear-groups --bounding-set=-all \\
    --no-new-privs "$AGENT" --role=net </dev/null &
manager=$!
trap 'kill $manager' EXIT
until [ -S /run/cloud-dp-net.socket ]; do
    kill -0 $manager
done
chown {keeper} /run/cloud-dp-net.socket
chmod 600 /run/cloud-dp-net.socket
setpriv --reuid {keeper} --regid {keeper} --clear-groups --bounding-set=-all \\
    --no-new-privs "$@" &
wait $!
"""


def users_below(pid, pids=None):
    """{uid: [(command line, effective, permitted), ...]} of pid and all below it; their
    numbers are added to the set `pids`."""
    found, todo = {}, [pid]
    while todo:
        one = todo.pop()
        if pids is not None:
            pids.add(one)
        with contextlib.suppress(OSError):
            with open("/proc/%d/task/%d/children" % (one, one)) as stream:
                todo += [int(word) for word in stream.read().split()]
            with open("/proc/%d/cmdline" % one, "rb") as stream:
                line = stream.read().replace(b"\0", b" ").decode()
            with open("/proc/%d/status" % one) as stream:
                status = dict(line.split(":\t", 1) for line in stream)
            found.setdefault(int(status["Uid"].split()[0]), []).append(
                (line, status["CapEff"].strip(), status["CapPrm"].strip()))
    return found


@check
def two_users():
    """keeper and network process are different users, neither with a capability"""
    if os.geteuid() != 0:
        skip("other users need root")
    for name in ("setpriv", "unshare", "systemd-socket-activate"):
        tool(name)
    with Small(files={"big.bin": 8 << 20},
               settings={"transfer.rate_limit": "2M"}) as s:
        dp = s.lab.dp_nginx()
        s.locate(s.share(dp))
        s.policy()
        for name in ("cache", "state", "log"):
            os.chown(s.path(name), KEEPER, KEEPER)
        os.makedirs(s.path("run"))
        os.chown(s.path("run"), KEEPER, KEEPER)
        os.chmod(s.lab.folder, 0o755)
        s.conf(control__socket=s.path("run", "control.sock"),
               transfer__rate_limit="2M")
        folder = tempfile.mkdtemp(dir=s.lab.folder)
        os.chmod(folder, 0o755)
        script = TWO_USERS.format(keeper=KEEPER, net=NET)
        with open(os.path.join(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh",
                 agentconf.AGENT, "--daemon", "--config", s.lab.conf],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "AGENT": agentconf.AGENT},
                start_new_session=True)
        try:
            end = time.monotonic() + 60
            seen = {}
            while not s.published():
                with open(os.path.join(folder, "log"), errors="replace") as stream:
                    expect(process.poll() is None and time.monotonic() < end,
                           "it does not come", stream.read()[-2000:])
                now = users_below(process.pid)
                if any("--role=net" in line[0] for line in now.get(NET, [])):
                    seen = now
                time.sleep(0.05)
            s.expect_published()
            expect(seen, "no network process of the other user was seen")
            keepers = [line for line in seen.get(KEEPER, []) if "--daemon" in line[0]]
            expect(len(keepers) >= 2, "daemon and job of the keeper's user:", seen)
            expect(not any("--role=net" in line[0] for line in seen[KEEPER]),
                   "the keeper's user runs a network process", seen)
            for uid in (KEEPER, NET):
                for line, effective, permitted in seen[uid]:
                    same((int(effective, 16), int(permitted, 16)), (0, 0), line)
        except AssertionError as error:
            if "unshare: " in str(error):
                skip("no mount namespace here: %s" % error)
            raise
        finally:
            pids = set()
            users_below(process.pid, pids)
            with contextlib.suppress(ProcessLookupError):   # it has ended
                os.killpg(process.pid, signal.SIGTERM)
            end = time.monotonic() + 20
            while process.poll() is None or any(is_alive(pid) for pid in pids):
                if time.monotonic() > end:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise AssertionError("left behind: %s" % pids)
                time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
