"""The works that are measured: what is fetched, by whom, how often, over what link.

Rounds are five where a round is short. A client of `few` takes part in that many
rounds only: it is slow, and nobody's yardstick.
"""

import random

import links
from clients import (AGENT, ARIA2, ARIA2_4, ARIA2_8, ARIA2_MANY, CURL2_OPENSSL,
                     CURL_OPENSSL, CURL_SHA256SUM, LIBREPO, WGET2, WGET2_OPENSSL)

MIB, GIB = 1 << 20, 1 << 30
PLAIN = links.Plain()


def small_files(number, least=4 << 10, most=64 << 10):
    numbers = random.Random("small files")
    return {"part%02d/file%05d.bin" % (n % 50, n): numbers.randint(least, most)
            for n in range(number)}


class World:
    """One work on one medium.

    rounds   how often each client does it, when nobody says otherwise
    few      {client: rounds}
    resume   bytes that are there already
    limit_s  after which a client is killed
    watches_peers  one more run of each peer, for its memory
    """

    def __init__(self, name, title, files, clients, medium="tmpfs", rounds=5, few=None,
                 resume=0, limit_s=120, link=None, watches_peers=False):
        self.name, self.title, self.files = name, title, files
        self.clients, self.medium, self.rounds = clients, medium, rounds
        self.few, self.resume, self.limit_s = few or {}, resume, limit_s
        self.link = link or PLAIN
        self.watches_peers = watches_peers
        self.bytes = sum(files.values())


def both(name, title, files, clients, disk=None, disk_rounds=None, watches_peers=True,
         **how):
    """The same on tmpfs and on disk, where the result must be on stable storage."""
    yield World(name + "-tmpfs", title + ", tmpfs", files, clients, "tmpfs",
                watches_peers=watches_peers, **how)
    how["rounds"] = disk_rounds or how.get("rounds", 5)
    yield World(name + "-disk", title + ", disk, synced", files, disk or clients,
                "disk", **how)


FILE_4G = {"setup.bin": 4 * GIB}
FILE_64M = {"setup.bin": 64 * MIB}

WORLDS = [
    *both("1g", "one file of 1 GiB", {"setup.bin": GIB},
          [AGENT, CURL_OPENSSL, LIBREPO, ARIA2_4, ARIA2, CURL_SHA256SUM, WGET2],
          disk=[AGENT, CURL_OPENSSL, LIBREPO, ARIA2_4],
          few={CURL_SHA256SUM: 2, WGET2: 2, ARIA2: 2}),
    *both("4g", "one file of 4 GiB", FILE_4G,
          [AGENT, CURL_OPENSSL, LIBREPO], disk=[AGENT, CURL_OPENSSL], rounds=2,
          few={LIBREPO: 1}, watches_peers=False),
    *both("resume", "3 of 4 GiB there, the rest fetched, all verified",
          FILE_4G, [AGENT, CURL_OPENSSL, ARIA2_4], rounds=2,
          resume=3 * GIB, watches_peers=False),
    *both("small", "10,000 files of 4 to 64 KiB", small_files(10000),
          [AGENT, CURL_OPENSSL, CURL2_OPENSSL, LIBREPO, WGET2_OPENSSL, CURL_SHA256SUM,
           ARIA2_MANY],
          disk=[AGENT, CURL_OPENSSL, CURL2_OPENSSL], disk_rounds=3,
          few={CURL_SHA256SUM: 2, ARIA2_MANY: 2, LIBREPO: 3, WGET2_OPENSSL: 3}),
    *both("mid", "1,000 files of 1 MiB",
          {"part%02d/file%04d.bin" % (n % 20, n): MIB for n in range(1000)},
          [AGENT, CURL_OPENSSL, LIBREPO, ARIA2_MANY],
          disk=[AGENT, CURL_OPENSSL, LIBREPO], rounds=3, disk_rounds=2),

    *[World("file-%dms" % ms, "one file of 64 MiB, round trip %d ms" % ms, FILE_64M,
            [AGENT, CURL_OPENSSL, ARIA2_4, LIBREPO], rounds=3,
            link=links.Proxied(rtt_ms=ms)) for ms in (1, 30, 150)],
    *[World("small-%dms" % ms, "%d files of 4 to 64 KiB, round trip %d ms" % (
        number, ms), small_files(number),
            [AGENT, CURL_OPENSSL, CURL2_OPENSSL, ARIA2_MANY, LIBREPO], rounds=3,
            link=links.Proxied(rtt_ms=ms))
      for ms, number in ((1, 500), (30, 500), (150, 200))],
    World("cap-150ms", "one file of 1 GiB, each connection at most 8 MB/s, round "
          "trip 150 ms", {"setup.bin": GIB}, [AGENT, ARIA2_8], rounds=2,
          link=links.Proxied(rtt_ms=150, each=8000000)),
    World("tbf-200m", "one file of 64 MiB, link of 200 Mbit/s", FILE_64M,
          [AGENT, CURL_OPENSSL, ARIA2_4, LIBREPO], rounds=2,
          link=links.Shaped("200mbit")),
    World("small-tbf-200m", "500 files of 4 to 64 KiB, link of 200 Mbit/s",
          small_files(500), [AGENT, CURL_OPENSSL, CURL2_OPENSSL, ARIA2_MANY, LIBREPO],
          rounds=3, link=links.Shaped("200mbit")),
]

# For tests/bench/selftest, and only where it is asked for.
TINY = World("tiny", "one file of 1 MiB, to see that all of this works",
             {"setup.bin": MIB}, [AGENT, CURL_OPENSSL], rounds=1, watches_peers=True)
