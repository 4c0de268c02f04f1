"""`python -m tests.model`: run the model of the protocol, with all its rules or without some of them."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable

from tests.model.rules import ALL, RULES
from tests.model.world import World

EXAMPLE = "example: python -m tests.model --without calm --runs 500; python -m tests.model --seed 7 --trace"


def main() -> int:
    """Exit status 0 where nothing was found."""
    options = parse(sys.argv[1:])
    rules = ALL - set(options.without)
    if options.seed is not None:
        return one(options.seed, rules, options.trace)
    if options.each is not None:
        seeds = range(options.first, options.first + options.each)
        found = tell("all rules", seeds, ALL)
        for rule in RULES:
            tell(f"without {rule}", seeds, ALL - {rule})
        return found
    return tell("all rules" if rules == ALL else "these rules", range(options.first, options.first + options.runs), rules)


def parse(arguments: list[str]) -> argparse.Namespace:
    rules = "\n".join(f"  {name:12} {words}" for name, words in RULES.items())
    parser = argparse.ArgumentParser(
        "python -m tests.model", description=__doc__, epilog=f"rules:\n{rules}\n\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=500, help="how many seeds (500)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--without", action="append", default=[], choices=RULES, metavar="RULE", help="may be repeated")
    parser.add_argument("--each", type=int, metavar="N", help="N runs with all rules, then N without each of them")
    parser.add_argument("--seed", type=int, help="one run")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell it step by step")
    return parser.parse_args(arguments)


def one(seed: int, rules: frozenset[str], trace: bool) -> int:
    world = World(seed, rules, trace).run()
    for kind, what in world.wrong:
        print(f"{kind}: {what}")
    print(f"{world.faults} faults, healed {world.heal_s:.0f} s after the last could come, {len(world.wrong)} wrong")
    return 1 if world.wrong else 0


def tell(label: str, seeds: Iterable[int], rules: frozenset[str]) -> int:
    """One line for all seeds, and an example of each kind of fault."""
    runs, found, examples, faults, heal_s = 0, Counter[str](), dict[str, tuple[int, str]](), 0, 0.0
    for seed in seeds:
        world = World(seed, rules).run()
        runs, faults, heal_s = runs + 1, faults + world.faults, max(heal_s, world.heal_s)
        for kind, what in reversed(world.wrong):
            examples.setdefault(kind, (seed, what))
        found.update({kind for kind, _ in world.wrong})
    kinds = ", ".join(f"{kind} in {count}" for kind, count in found.most_common()) or "nothing found"
    print(f"{label:20} {runs} runs, {faults} faults, healed within {heal_s:.0f} s: {kinds}", flush=True)
    for kind, (seed, what) in examples.items():
        print(f"    {kind}, --seed {seed}: {what}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
