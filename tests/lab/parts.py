"""Starting, awaiting and ending the processes of the laboratory."""

import os
import select
import signal
import socket
import subprocess
import time


class LabError(Exception):
    """A part could not be started; the text carries the end of its log."""


def free_port(addresses=("127.0.0.1",), udp=False):
    """A port that is free on every address, for TCP and, if asked, UDP.

    Servers that cannot be given port 0 get this one. Somebody else may take
    it in between, so Parts.start_on_free_port() tries again with another.
    """
    for _ in range(200):
        held, port = [], 0
        try:
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                kinds = [socket.SOCK_STREAM] + ([socket.SOCK_DGRAM] if udp else [])
                for kind in kinds:
                    held.append(socket.socket(family, kind))
                    held[-1].bind((address, port))
                    port = port or held[-1].getsockname()[1]
            return port
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
    raise LabError("no free port on " + ", ".join(addresses))


def wait_until(probe, what, process=None, log=None, seconds=20.0):
    """Call probe() until it answers True; give up when the process ended."""
    end = time.monotonic() + seconds
    why = "no answer"
    while True:
        try:
            if probe():
                return
        except OSError as error:
            why = str(error)
        if process is not None and process.poll() is not None:
            why = "ended with status %d" % process.returncode
            break
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    raise LabError("%s is not ready: %s%s" % (what, why, _tail(log)))


def connects(address, port):
    """A probe: does somebody listen there?"""
    def probe():
        with socket.create_connection((address, port), timeout=2):
            return True
    return probe


def _tail(log):
    try:
        with open(log, "rb") as stream:
            return "\n" + stream.read()[-2000:].decode("utf-8", "replace")
    except (OSError, TypeError):
        return ""


class Part:
    """One running server: its name, address, port, folder and process."""

    def __init__(self, name, process, log, folder=None, address="127.0.0.1", port=0):
        self.name = name
        self.process = process
        self.log = log
        self.folder = folder
        self.address = address
        self.port = port
        self.server = None     # set where the part is threads of this process
        self.is_tls = False

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def __str__(self):
        host = "[%s]" % self.address if ":" in self.address else self.address
        return "%s:%d" % (host, self.port)

    def stop(self, seconds=5.0):
        """End the process: asked first, then forced; never by name."""
        if self.server is not None:
            self.server.stop()
            self.server = None
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                # Servers that fork lead a session of their own: all of it goes.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout:
            process.stdout.close()

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)


class Parts:
    """All that runs; ended in the reverse order of its start."""

    def __init__(self):
        self.running = []

    def start(self, name, argv, log, probe=None, env=None, cwd=None,
              address="127.0.0.1", port=0, folder=None):
        """Start a server that listens where its configuration says."""
        with open(log, "ab") as stream:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                env=env, cwd=cwd, start_new_session=True)
        part = Part(name, process, log, folder, address, port)
        try:
            wait_until(probe or connects(address, port), name, process, log)
        except BaseException:
            part.stop()
            raise
        self.running.append(part)
        return part

    def start_on_free_port(self, begin, addresses=("127.0.0.1",), udp=False):
        """begin(port) starts a part; tried again when the port was taken."""
        for left in (2, 1, 0):
            try:
                return begin(free_port(addresses, udp))
            except LabError as error:
                if not left or "ddress already in use" not in str(error):
                    raise

    def start_ready(self, name, argv, log, address="127.0.0.1", folder=None,
                    seconds=20.0):
        """Start a server of ours, which prints `ready PORT` when it is."""
        with open(log, "ab") as stream:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=stream, start_new_session=True)
        part = Part(name, process, log, folder, address)
        try:
            line = _read_line(process.stdout, seconds)
        except BaseException:
            part.stop()
            raise
        words = line.split()
        if len(words) != 2 or words[0] != "ready" or not words[1].isdigit():
            part.stop()
            raise LabError("%s said %r instead of `ready PORT`%s"
                           % (name, line, _tail(log)))
        part.port = int(words[1])
        self.running.append(part)
        return part

    def adopt(self, name, server, folder=None):
        """A server made of threads of this process, with stop()."""
        part = Part(name, None, None, folder, server.address, server.port)
        part.server = server
        self.running.append(part)
        return part

    def stop(self, part):
        part.stop()
        if part in self.running:
            self.running.remove(part)

    def stop_all(self):
        while self.running:
            self.running.pop().stop()


def _read_line(pipe, seconds):
    """One line from a pipe, with a deadline; what came until then."""
    end, got = time.monotonic() + seconds, b""
    while not got.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            break
        byte = os.read(pipe.fileno(), 1)
        if not byte:
            break
        got += byte
    return got.decode("utf-8", "replace").strip()
