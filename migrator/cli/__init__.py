"""The command line: options in, text or JSON out, exit codes.

Commands import what they use, so that `--help` stays fast.
"""
