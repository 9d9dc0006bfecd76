"""Inert definitions: what a topology is. Building one does no I/O beyond reading schema files; running it is for the
worker.
"""
