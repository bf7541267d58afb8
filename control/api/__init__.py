"""The control API: thin handlers, a file per thing. Every change goes through write.py."""
