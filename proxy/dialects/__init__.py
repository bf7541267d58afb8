"""Clients' dialects, and what is said in them. A client's dialect reads requests into a
`Conversation` and writes `Event`s as its answers; a provider's (in `proxy.providers`) writes
conversations and reads answers. So each dialect is written once, not once per pair.
"""
