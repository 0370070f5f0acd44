"""Turn-taking: speech detection, end of turn, barge-in."""
