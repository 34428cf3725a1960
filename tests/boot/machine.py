"""A whole machine for the tests: Debian below a folder, booted by systemd-nspawn.

Base.make() bootstraps a minimal system once and keeps it; Machine boots a copy. It
shares the network of this host, so that the laboratory on loopback is in reach. All
mounts are made in a mount name space that ends with its processes, all processes in
a process name space that ends with the first of them, and that one ends with us.
"""

import contextlib
import ctypes
import fcntl
import glob
import os
import platform
import re
import shutil
import signal
import subprocess
import time

PATIENCE = 60       # seconds for anything that must happen
PACKAGES = ("systemd", "systemd-sysv", "dbus", "polkitd", "libpam-systemd")
# Mounts that nobody else sees, and processes that end with the first of them.
UNSHARE = ("unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc",
           "--fork", "--kill-child")
# What no check looks at: half of the base.
IDLE = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info",
        "var/cache/apt", "var/lib/apt/lists")


class CannotBoot(Exception):
    """No machine can be had here; the text says why."""


def why_not(agent):
    """What is missing for any of this; None where all is there."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("systemd-nspawn", "debootstrap", "dpkg-query", "unshare",
                    "nsenter", "setpriv"):
        if not shutil.which(program):
            return "%s is not installed" % program
    if "libasan" in _say("ldd", agent):
        return "sanitizers do not fit into the sandbox of the service"
    return None


def until(good, what, seconds=PATIENCE, more=lambda: ""):
    """Ask good() until it gives something; that."""
    end = time.monotonic() + seconds
    while True:
        found = good()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError("waited too long for %s %s" % (what, more()))
        time.sleep(0.05)


def _say(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, "LC_ALL": "C"})
    return done.stdout if done.returncode == 0 else ""


# -- a base system, made once ------------------------------------------------------

def _suite():
    """The Debian of this host: its libraries are those the agent was linked with."""
    with contextlib.suppress(OSError):
        about = platform.freedesktop_os_release()
        if about.get("ID") == "debian" and about.get("VERSION_CODENAME"):
            return about["VERSION_CODENAME"]
    return "bookworm"


def _mirror(suite):
    """Where apt has this suite from; None: debootstrap's own default."""
    for line in _say("apt-get", "indextargets", "--format",
                     "$(RELEASE) $(COMPONENT) $(REPO_URI)",
                     "Identifier: Packages").splitlines():
        words = line.split()
        if words[:2] == [suite, "main"] and words[2].startswith("http"):
            return words[2]
    return None


def _proxy():
    """apt's proxy for debootstrap, which does not know apt's settings."""
    found = {}
    for scheme in ("http", "https"):
        words = _say("apt-config", "shell", "P", "Acquire::%s::Proxy/f" % scheme)
        match = re.match(r"P='(.+)'", words)
        if match:
            found[scheme + "_proxy"] = match.group(1)
    return found


def _libraries(program):
    """Packages of the libraries that a program is linked with."""
    packages = set()
    for path in re.findall(r"=> (/\S+)", _say("ldd", program)):
        real = os.path.realpath(path)
        # Where /lib is a link, dpkg may know the file by its old name.
        for name in (real, real.removeprefix("/usr"), path):
            owner = _say("dpkg-query", "-S", name).split(":")[0]
            if owner:
                packages.add(owner)
                break
        else:
            raise CannotBoot("no package has %s, which the agent needs" % path)
    return sorted(packages)


def make_base(folder, agent):
    """Bootstrap into `folder`, unless it holds the same already; seconds it took."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with open(folder + ".lock", "w") as lock:      # one at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make_base(folder, agent)


def _make_base(folder, agent):
    suite = _suite()
    packages = list(PACKAGES) + _libraries(agent)
    recipe = "%s %s\n" % (suite, ",".join(packages))
    stamp = os.path.join(folder, ".made-of")
    with contextlib.suppress(OSError):
        with open(stamp) as stream:
            if stream.read() == recipe:
                return 0.0
    began = time.monotonic()
    fresh = folder + ".new"
    for old in (folder, fresh):
        remove_tree(old)
    mirror = _mirror(suite)
    argv = ["setpriv", "--pdeathsig", "KILL", *UNSHARE, "debootstrap",
            "--variant=minbase", "--include=" + ",".join(packages), suite, fresh]
    argv += [mirror] if mirror else []
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=900, env={
                                  **_proxy(), **os.environ, "LC_ALL": "C",
                                  "DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode:
            raise CannotBoot("debootstrap: " + " / ".join(
                (done.stdout + done.stderr).strip().splitlines()[-3:]))
    except BaseException:
        remove_tree(fresh)
        raise
    for name in IDLE:
        remove_tree(os.path.join(fresh, name))
    with open(os.path.join(fresh, ".made-of"), "w") as stream:
        stream.write(recipe)
    os.rename(fresh, folder)
    return time.monotonic() - began


def remove_tree(path):
    """All below a path, but nothing that is mounted there."""
    if os.path.lexists(path):
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=True)


# -- the machine -------------------------------------------------------------------

def _can_watch():
    """May root have 24 more inotify descriptors? Else systemd ends without a word."""
    libc, had = ctypes.CDLL(None), []
    while len(had) < 24 and (fd := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
        had.append(fd)
    for fd in had:
        os.close(fd)
    return len(had) == 24


def _hierarchies():
    """Folders of the control groups that the machine's systemd needs of its own. A
    host that runs systemd gives them out itself, by machined."""
    if os.path.isdir("/run/systemd/system"):
        return []
    names = [p for p in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
             if os.path.exists(p + "/cgroup.procs")]
    return names or [p for p in ("/sys/fs/cgroup",)
                     if os.path.exists(p + "/cgroup.procs")]


def _children(pid):
    with contextlib.suppress(OSError):
        with open("/proc/{0}/task/{0}/children".format(pid)) as stream:
            return [int(word) for word in stream.read().split()]
    return []


class Machine:
    """One machine: root is its tree, leader its first process as seen from here."""

    def __init__(self, root, log):
        self.root, self.log = root, log
        self.name = "cloud-dp-boot-%d" % os.getpid()
        self.process, self.leader, self.groups = None, 0, []

    def path(self, *names):
        return os.path.join(self.root, *[n.lstrip("/") for n in names])

    # -- life ----------------------------------------------------------------------

    def boot(self):
        if not _can_watch():
            raise CannotBoot("fs.inotify.max_user_instances: other processes of root "
                             "have all of them, and systemd needs some")
        self.groups = [os.path.join(h, self.name) for h in _hierarchies()]
        for group in self.groups:
            os.mkdir(group)
        enter = "".join("echo $$ >%s/cgroup.procs; " % g for g in self.groups)
        argv = ["systemd-nspawn", "--quiet", "--boot", "--directory=" + self.root,
                "--machine=" + self.name, "--console=pipe", "--link-journal=no",
                "--resolv-conf=off", "--timezone=off"]
        if self.groups:
            argv += ["--register=no", "--keep-unit"]
        # The process name space around nspawn ends with us, however we end.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",
                 "sh", "-ec", enter + 'exec "$@"', "sh", *UNSHARE, *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"]}, start_new_session=True)
        try:
            self.leader = until(self._find_leader, "the machine")
            self.state = until(self._booted, "systemd of the machine")
        except AssertionError as error:
            raise CannotBoot("%s: %s" % (error, self.said())) from None
        return self

    def _find_leader(self):
        """The grandchild that is process 1 in a name space two below ours."""
        self._is_running()
        nspawn = _children(self.process.pid)
        for pid in [p for child in nspawn for p in _children(child)]:
            with contextlib.suppress(OSError):
                with open("/proc/%d/status" % pid) as stream:
                    ids = re.search(r"^NSpid:(.+)$", stream.read(), re.M)
                words = ids.group(1).split() if ids else []
                if len(words) == 3 and words[-1] == "1":
                    return pid
        return 0

    def _booted(self):
        self._is_running()
        word = self.run("systemctl", "is-system-running", "--wait").out.strip()
        return word if word in ("running", "degraded") else None

    def _is_running(self):
        if self.process.poll() is not None:
            raise AssertionError("systemd-nspawn ended with %d"
                                 % self.process.returncode)

    def said(self):
        with open(self.log, errors="replace") as stream:
            lines = [re.sub(r"\x1b\[[0-9;]*m", "", line.strip()) for line in stream]
        return " / ".join([line for line in lines if line][-3:])

    def cut_power(self):
        """All of it ends at once, with no chance to tidy."""
        if self.process is None:
            return
        process, self.process = self.process, None
        for pid in (self.leader, 0 if self.leader else process.pid):
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.leader = 0
        for group in self.groups:
            folders = sorted((base for base, _, _ in os.walk(group)), reverse=True)
            for folder in folders:
                until(lambda: _rmdir(folder), "nobody to be in " + folder)

    # -- inside --------------------------------------------------------------------

    def _enter(self, argv, user):
        words = ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc",
                 "--net", "--pid", "--cgroup", "--root", "--wd", "--"]
        return words + (["runuser", "-u", user, "--"] if user else []) + list(argv)

    def run(self, *argv, user=None, status=None, timeout=PATIENCE):
        """Run a program in the machine, as root or another user; Done."""
        try:
            done = subprocess.run(
                self._enter(argv, user), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=timeout, env={"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:"
                                      "/sbin:/bin", "LC_ALL": "C",
                                      "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""})
        except subprocess.TimeoutExpired:
            raise AssertionError("%s does not end" % " ".join(argv)) from None
        result = Done(done.returncode, done.stdout.decode("utf-8", "replace"),
                      done.stderr.decode("utf-8", "replace"))
        if status is not None and result.status != status:
            raise AssertionError("%s: status %d, wanted %d\n  %s\n  %s" % (
                " ".join(argv), result.status, status, result.out[-1500:],
                result.err[-1500:]))
        return result

    def show(self, unit, *names):
        """Properties of a unit: a list of texts, one for each name."""
        out = self.run("systemctl", "show", unit, *["-p" + n for n in names],
                       status=0).out
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return [values.get(name, "") for name in names]

    def processes(self, unit):
        """Processes of a unit (a part of its name): what /proc/N/status says, each."""
        space, found = os.readlink("/proc/%d/ns/pid" % self.leader), []
        for folder in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder + "/ns/pid") != space:
                    continue
                with open(folder + "/cgroup") as stream:
                    if unit not in stream.read():
                        continue
                with open(folder + "/status") as stream:
                    about = dict(line.rstrip("\n").split(":\t", 1) for line in stream)
                with open(folder + "/cmdline", "rb") as stream:
                    about["line"] = stream.read().replace(b"\0", b" ").decode().strip()
                found.append(about)
        return found

    def uid(self, user):
        with open(self.path("etc/passwd")) as stream:
            for line in stream:
                if line.startswith(user + ":"):
                    return int(line.split(":")[2])
        return None

    def write(self, path, text, mode=0o644):
        """A file of the machine, whole at once."""
        target = self.path(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        fresh = os.path.join(os.path.dirname(target), "." + os.path.basename(target))
        with open(fresh, "w") as stream:
            stream.write(text)
        os.chmod(fresh, mode)
        os.replace(fresh, target)


class Done:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


def _rmdir(folder):
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
