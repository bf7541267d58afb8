"""The servers that `opscenter up` brings with it: real Valkey and PostgreSQL, started from wheels.

base holds what both share, identity how PostgreSQL is run by root, valkey and postgres one server
each. control/machine/servers.py is the face of this folder.
"""
