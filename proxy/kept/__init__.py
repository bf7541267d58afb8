"""Files and batches: what providers keep for their callers, each under an id of ours.

wish      what a request wants, from its bytes; pure
accounts  with which provider, by whose key; pure
names     ids that nobody else can use or make, and the mark on what lies with a provider; pure
told      a provider's answer as the client reads it; pure
answer    that answer on its way
"""
