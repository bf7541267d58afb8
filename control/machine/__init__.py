"""One machine: `up` and its processes, the embedded servers, what `doctor` examines."""
