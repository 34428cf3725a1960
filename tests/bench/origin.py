"""The site that a world of the benchmark takes its content from: parts of the
laboratory, on loopback or on an address of a shaped link."""

import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "lab"))

import agentconf                                                    # noqa: E402
import content as contents                                          # noqa: E402
import lab as labs                                                  # noqa: E402
import replies                                                      # noqa: E402
import web                                                          # noqa: E402

PACKAGE, VERSION = "ABC00042", 3
# One cipher for all: what GnuTLS and OpenSSL prefer is not the same.
SETTINGS = "  ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"


class Site:
    """Management point, name server, distribution point; one package.

    folder   where its own files lie, in memory
    link     what lies between it and the clients (links.py), started
    """

    def __init__(self, folder, files, link):
        self.lab = labs.Lab(folder)
        self.lab.is_ours = True
        address = self.address = link.address
        try:
            self.content = self.lab.content(PACKAGE, files)
            tls = self.lab.ca.server(*labs.HOSTS, "127.0.0.1", address, file="site")
            self.dp = self._dp(tls)
            self.mp = self.lab.mp(tls=tls, address=address)
            self.dns = self.lab.dns_nsd(labs.records(address), labs.ZONES,
                                        address=address)
            self.dp_port = link.between(self.lab, self.dp)
            self.mp_port = link.between(self.lab, self.mp)
        except BaseException:
            self.stop()
            raise
        where = "%s:%d/%s/%s" % ("%s", self.dp_port, web.SHARE, PACKAGE)
        self.url = "https://" + where % address
        self.mp.publish(PACKAGE, replies.location_reply([labs.World._record(
            "https://" + where % labs.HOSTS[1])]))

    def _dp(self, tls):
        return self.lab.dp_nginx(tls=tls, http2=True, addresses=tuple(
            dict.fromkeys(("127.0.0.1", self.address))), settings=SETTINGS)

    @property
    def ca(self):
        return self.lab.ca.root

    def stop(self):
        self.lab.stop()

    def requests(self):
        """(requests, connections) that the distribution point saw since the last
        call."""
        lines = web.access_log(self.dp)
        os.truncate(os.path.join(self.dp.folder, "access.log"), 0)
        return len(lines), len({line["connection"] for line in lines})

    def agent_argv(self, folder):
        """A download with nothing there before, all of it inside `folder`."""
        conf = agentconf.write_conf(
            folder, ["https://%s:%d" % (labs.HOSTS[0], self.mp_port)], [self.dns],
            self.ca, {"cache.size": "64G", "cache.min_free": "0", "log.level": "info",
                      "log.directory": ""})
        agentconf.write_policy(folder, PACKAGE, VERSION, self.content)
        return [agentconf.AGENT, "--download", PACKAGE, "--config", conf, "--json",
                "--progress", "none"]

    @staticmethod
    def published(folder):
        return os.path.join(folder, "cache", "content", "%s.%d" % (PACKAGE, VERSION))


def empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)


def hash_of(folder):
    return contents.folder_hash(folder)
