#!/usr/bin/env python3
"""Runs one command and says what it cost: measure.py --cores N --out FILE -- COMMAND…

Prints {"seconds", "cpu_seconds", "max_rss_bytes", "exit"} as JSON. The command's standard output goes to FILE. Both
sides of a comparison are run by this, on the same cores, so that neither has an advantage.
"""

import argparse
import json
import os
import subprocess
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--out", default=os.devnull)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()

    # Inherited by the child. Threads that a library starts by the number of cores see only these.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    with open(arguments.out, "wb") as out:
        start = time.monotonic()
        child = subprocess.Popen(arguments.command, stdin=subprocess.DEVNULL, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
    result = {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "exit": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
