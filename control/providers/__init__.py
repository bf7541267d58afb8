"""Providers: table (which there are and by which they differ), keys (what one looks like), trial
(the cheap call that tells whether one works), environment (keys that variables hold).
"""
