"""The works that are measured: what is fetched, by whom, how often, over what link."""

import random

from clients import (AGENT, CURL2_OPENSSL, CURL_OPENSSL, CURL_SHA256SUM)

MIB, GIB = 1 << 20, 1 << 30


def small_files(number, least=4 << 10, most=64 << 10):
    numbers = random.Random("small files")
    return {"part%02d/file%05d.bin" % (n % 50, n): numbers.randint(least, most)
            for n in range(number)}


class World:
    """One work on one medium.

    rounds   how often each client does it, when nobody says otherwise
    resume   bytes that are there already
    """

    def __init__(self, name, title, files, clients, medium="tmpfs", rounds=5,
                 resume=0, limit_s=120):
        self.name, self.title, self.files = name, title, files
        self.clients, self.medium, self.rounds = clients, medium, rounds
        self.resume, self.limit_s = resume, limit_s
        self.bytes = sum(files.values())


BIG = {"setup.bin": GIB}
SMALL = small_files(10000)

WORLDS = [
    World("1g-tmpfs", "one file of 1 GiB, tmpfs", BIG,
          [AGENT, CURL_OPENSSL, CURL_SHA256SUM]),
    World("small-tmpfs", "10,000 files of 4 to 64 KiB, tmpfs", SMALL,
          [AGENT, CURL_OPENSSL, CURL2_OPENSSL, CURL_SHA256SUM]),
]
