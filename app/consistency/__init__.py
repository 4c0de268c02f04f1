"""Does it add up? Holds what PostgreSQL owes against what the streams carry, and says in words what does not fit.

Things move while one looks: `compare` finds suspects, `confirm` looks at these once more, `judge` and `records` put into words
what is left.
Nothing is changed, and every step is bounded in rows and in time.
"""

from app.consistency.check import check
from app.consistency.facts import Book, Facts
from app.consistency.judge import judge

__all__ = ["Book", "Facts", "check", "judge"]
