"""The engine: runs any algorithm on any space, compiled or on the host."""
