"""Providers: one shape, five questions. Where to send, with which headers, which body, what does
this chunk mean, what does this error mean. No file here opens a socket.
"""
