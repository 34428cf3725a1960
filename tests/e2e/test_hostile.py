#!/usr/bin/env python3
"""Hostile names, documents, sizes and surroundings (F1 to F8, R1 to R3, R6, R8, P4, P5).

Nothing outside of the cache changes, nothing wrong is published, the status is one of
the contract's, the words are escaped, and both processes together stay under 64 MiB.
"""

import os
import pty
import re
import resource
import shutil
import stat
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from xml.sax.saxutils import quoteattr

import harness
import bench
from bench import SOURCE_ERRORS, Case, tree
from harness import PACKAGE, VERSION, check, error_of, expect, replies, same, skip

