"""The exported network, its card, and the script that exports it."""
