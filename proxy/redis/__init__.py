"""Redis: connections, a method per script, and the scripts themselves in lua/."""
