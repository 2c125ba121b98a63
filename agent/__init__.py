"""The review itself: target → units → analyses → verdicts → report."""
