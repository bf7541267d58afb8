"""Real clients against a running gateway: what installs from the package indexes, unchanged but for
address and key. The programs in `programs/` run in an environment of their own, not in ours.
"""
