"""Print the digests of the runs of many seeds: two calls must print the same."""

from __future__ import annotations

import sys

from feedhandler_testing.run import simulate
from feedhandler_testing.sampling import random_scenario


def main() -> None:
    for seed in range(int(sys.argv[1])):
        print(seed, simulate(random_scenario(seed), keep=1).digest)


if __name__ == "__main__":
    main()
