"""The process that hosts an engine for everybody on the machine, and how others reach it. Light to import."""
