"""Peers of this machine's kernel. What changes the machine's state goes through guard.py, which puts it back."""
