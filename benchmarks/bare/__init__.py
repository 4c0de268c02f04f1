"""The ceiling: the same job without a single guarantee of ours. Events are stored and published in batches; in one stage their
three rows are inserted and updated, after the same look at preferences and at how much a user was told, with the indexes that
readers need. Nobody claims, no attempt is recorded, nothing is tried again or taken over: a crash loses or doubles what was under
way. What Tidings does not reach of it is what the promise costs.
"""

STREAM = "bare:events"
GROUP = "bare"
