"""The command line: its parser, its refusals and its commands, one file each."""
